"""NeuralGradients: methods that a network's gradients pass through, and what they do to them.

Imports arguments, analysis, gradients, stream, torch.layers, torch.tensors.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.analysis.error import ErrorSummary
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.measure import summary_between
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import choice, integer, shown
from fpsim.gradients.nonfinite import NonFinite, extremes
from fpsim.stream import Stream
from fpsim.torch.layers import chosen_layers, tensors_in
from fpsim.torch.tensors import as_array, as_tensor, straight_through

Transform = Callable[..., Any]

_MOST = 1 << 62


@dataclass(frozen=True)
class GradientRecord:
    """What a neural gradient looked like, and what the transform made of it.

    Attributes
    ----------
    layer : str
    step : int
        How many gradients the layer had seen before.
    size : int
    nonfinite : int
        NaN and infinities that went in. They count as zeros in what follows.
    largest : float
        The largest magnitude that went in.
    fit : Lognormal or None
        Of what went in: `mu`, `sigma`, `ks`, the `alternatives` and the share of zeros. None where
        there was nothing but zeros.
    sparsity : float
        Share of zeros that came out.
    error : ErrorSummary or None
        What came out against what went in. Its `underflow` is the share of the nonzero elements
        that became zero, its `overflow` that above the largest magnitude that came out.
    """

    layer: str
    step: int
    size: int
    nonfinite: int
    largest: float
    fit: Lognormal | None
    sparsity: float
    error: ErrorSummary | None


class NeuralGradients:
    """Pass the neural gradients of a network through a method, and record their figures.

    The neural gradient of a layer is that of the loss with respect to the layer's output. What
    the method makes of it takes its place: in the layer's own weight gradient, and in all that is
    propagated further back.

    Parameters
    ----------
    model : torch.nn.Module
    transform : callable, mapping of patterns to callables, or None
        Called as ``transform(x, rng=stream)`` with the gradient as a NumPy array, to return one
        of the same shape: such as ``functools.partial(fpsim.luq, exponent_bits=3)``,
        `fpsim.ScaledRounding` or `fpsim.Chain`. Every layer gets a deep copy of its own. Of a
        mapping the first pattern that matches counts. None: record only.
    layers : str, or iterable of str, optional
        Patterns of names as in ``model.named_modules()``, with ``*`` and ``?``; by default all
        convolutions and linear layers. Not with a mapping.
    seed : int
        The random bits of a layer's n-th gradient are those of the `Stream`
        ``Stream(seed).derive(name, n)``: the same seed gives the same run.
    every : int
        A layer's 1st gradient and every so many after it are recorded; 0: none.
    nonfinite : {'raise', 'propagate', 'skip'}
        What becomes of NaN and infinities: an error; they stay as they are; they become zero. The
        rest passes through the transform with zeros in their place.

    Attributes
    ----------
    records : list of GradientRecord

    Examples
    --------
    >>> import torch, fpsim, fpsim.torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> with fpsim.torch.NeuralGradients(model, fpsim.ScaledRounding("e4m1f")) as gradients:
    ...     model(torch.ones(4, 8)).square().mean().backward()
    >>> [(record.layer, record.size) for record in gradients.records]
    [('2', 4), ('0', 32)]
    """

    def __init__(
        self,
        model: nn.Module,
        transform: Transform | Mapping[str, Transform] | None = None,
        layers: str | Iterable[str] | None = None,
        *,
        seed: int = 0,
        every: int = 50,
        nonfinite: NonFinite | str = "raise",
    ) -> None:
        self.stream = Stream(seed)
        self.every = integer("every", every, 0, _MOST, "give after how many gradients to record")
        self.nonfinite = choice("nonfinite", nonfinite, NonFinite)
        self.records: list[GradientRecord] = []
        self._lock = threading.Lock()
        self._layers = {
            name: _Layer(copy.deepcopy(chosen))
            for name, chosen in _routed(model, transform, layers).items()
        }
        modules = dict(model.named_modules())
        self._handles = [
            modules[name].register_forward_hook(partial(self._watch, name)) for name in self._layers
        ]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose gradients pass through."""
        return tuple(self._layers)

    def transform(self, layer: str) -> Any:
        """The layer's own copy of the transform."""
        return self._layers[layer].transform

    def remove(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> NeuralGradients:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs so that a run goes on as if it had not stopped."""
        return {
            name: {"count": layer.count, "transform": copy.deepcopy(layer.transform)}
            for name, layer in self._layers.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave for the same layers."""
        if set(state) != set(self._layers):
            raise ValueError(
                f"state is of the layers {', '.join(state)}, but those here are "
                f"{', '.join(self._layers)}; give the state of the same model and layers"
            )
        for name, layer in self._layers.items():
            layer.count = state[name]["count"]
            layer.transform = copy.deepcopy(state[name]["transform"])

    def __getstate__(self) -> dict[str, Any]:  # of a model that is copied or saved with its hooks
        return {k: v for k, v in vars(self).items() if k not in ("_lock", "_handles")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock(), _handles=[])

    def _watch(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        # A hook on the tensor: full backward hooks of modules warn where the inputs need no
        # gradient, and fail where an output is changed in place.
        for tensor in tensors_in(output):
            if tensor.requires_grad:
                tensor.register_hook(partial(self._replace, name))

    def _replace(self, name: str, gradient: torch.Tensor) -> torch.Tensor | None:
        layer = self._layers[name]
        with self._lock:
            step, layer.count = layer.count, layer.count + 1
            record = self.every and step % self.every == 0
            if layer.transform is None and not record:
                return None
            # In C order: the same random bits whatever the order in memory.
            x = as_array(gradient.contiguous())
            x.flags.writeable = False  # it may be autograd's own memory
            clean, bad = self._cleaned(x, name, step)
            result = clean
            if layer.transform is not None:
                stream = self.stream.derive(name, step)
                result = same_kind(layer.transform(clean, rng=stream), x, layer.transform)
            if record:
                self.records.append(_recorded(name, step, clean, result, bad))
        if layer.transform is None:
            return None
        if bad and self.nonfinite is NonFinite.propagate:
            result = np.where(np.isfinite(x), result, x)
        changed = as_tensor(result, gradient)
        if not gradient.is_contiguous():
            changed = torch.empty_like(gradient).copy_(changed)
        # Where the backward pass itself is differentiated, it is as if nothing had been done.
        return straight_through(gradient, changed) if gradient.requires_grad else changed

    def _cleaned(self, x: NDArray[Any], name: str, step: int) -> tuple[NDArray[Any], int]:
        """(the gradient with zeros for NaN and infinities, how many there were)."""
        finite = np.isfinite(x)
        bad = x.size - int(np.count_nonzero(finite))
        if not bad:
            return x, 0
        if self.nonfinite is NonFinite.raise_:
            index = np.unravel_index(int(np.argmin(finite)), x.shape)
            raise ValueError(
                f"the gradient of layer {name!r} has {bad} NaN or infinite elements at its step "
                f"{step}, the first at index {tuple(map(int, index))}; lower the learning rate or "
                "clip, or give nonfinite='skip' (they become zero) or 'propagate'"
            )
        return np.where(finite, x, x.dtype.type(0)), bad


@dataclass
class _Layer:
    """What belongs to one layer."""

    transform: Any
    count: int = 0  # gradients seen


def _routed(
    model: nn.Module, transform: Any, layers: str | Iterable[str] | None
) -> dict[str, Transform | None]:
    """The transform of every chosen layer."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={shown(model)} is no torch.nn.Module; give the network")
    if isinstance(transform, Mapping):
        if layers is not None:
            raise ValueError(
                "transform is a mapping, whose patterns choose the layers; leave out layers"
            )
        routes = dict(transform)
    else:
        names = chosen_layers(model, layers)
        routes = dict.fromkeys(names, transform)
    for pattern, route in routes.items():
        if route is not None and not callable(route):
            raise TypeError(
                f"transform={shown(route)} for {pattern!r} cannot be called; give a function of "
                "(x, rng=…), such as functools.partial(fpsim.luq, exponent_bits=3)"
            )
    if not isinstance(transform, Mapping):
        return routes
    found: dict[str, Transform | None] = {}
    for pattern, route in routes.items():
        for name in chosen_layers(model, pattern):
            found.setdefault(name, route)
    return {name: found[name] for name, _ in model.named_modules() if name in found}


def same_kind(result: Any, x: NDArray[Any], transform: Any) -> NDArray[Any]:
    """What a transform made of x, in C order and x's dtype."""
    array = np.asarray(result)
    if array.shape != x.shape:
        raise ValueError(
            f"transform={shown(transform)} made shape {array.shape} of a gradient of shape "
            f"{x.shape}; give one that keeps the shape"
        )
    array = np.ascontiguousarray(array, x.dtype).reshape(x.shape)
    return array if array.flags.writeable else array.copy()


def _recorded(
    layer: str, step: int, x: NDArray[Any], q: NDArray[Any], nonfinite: int
) -> GradientRecord:
    sketch = Sketch.of(x)
    some = sketch.nonzero > 0
    return GradientRecord(
        layer=layer,
        step=step,
        size=x.size,
        nonfinite=nonfinite,
        largest=sketch.largest,
        fit=Lognormal.fit(sketch) if some else None,
        sparsity=1 - float(np.count_nonzero(q)) / x.size,
        error=summary_between(x, q, past=extremes(q, NonFinite.skip)[0]) if some else None,
    )
