"""Which modules of a network are meant, and the tensors that they give. Imports arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from fpsim.arguments import shown

USUAL = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def chosen_layers(model: nn.Module, layers: str | Iterable[str] | None) -> list[str]:
    """Names of the modules that patterns match; of convolutions and linear layers for None."""
    modules = dict(model.named_modules())
    usual = [name for name, module in modules.items() if isinstance(module, USUAL)]
    if layers is None:
        if not usual:
            raise ValueError(
                "model has no convolution and no linear layer; give layers=, patterns of the names "
                f"of its modules: {_listed(modules)}"
            )
        return usual
    patterns = [layers] if isinstance(layers, str) else list(layers)
    matched: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"layers={shown(pattern)} is no str; give patterns of names")
        names = {name for name in modules if fnmatchcase(name, pattern)}
        # The whole model is matched by "*" too, but has no place in a list of its layers.
        names = names if pattern == "" else names - {""}
        if not names:
            raise ValueError(
                f"layers={pattern!r} matches no module of the model; its convolutions and linear "
                f"layers are {_listed(usual)}, and its modules {_listed(modules)}"
            )
        matched |= names
    if not matched:
        raise ValueError("layers is empty; give a pattern, or None for the usual layers")
    return [name for name in modules if name in matched]


def _listed(names: Iterable[str]) -> str:
    every = [name for name in names if name]
    return ", ".join(every[:40]) + (f" and {len(every) - 40} more" if len(every) > 40 else "")


def tensors_in(output: Any) -> Iterator[torch.Tensor]:
    """The tensors in what a module returns."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_in(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors_in(value)
