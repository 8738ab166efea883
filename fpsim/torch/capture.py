"""capture: samples of a network's neural gradients, for fpsim recommend.

Imports arguments, stream, torch.gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fpsim.arguments import integer
from fpsim.gradients.nonfinite import NonFinite
from fpsim.stream import Stream
from fpsim.torch.gradients import NeuralGradients

_PIECE = 1 << 18  # elements that are given random words at a time


def capture(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Callable[[Any, Any], torch.Tensor],
    layers: str | Iterable[str] | None = None,
    *,
    size: int = 100_000,
    seed: int = 0,
    nonfinite: NonFinite | str = "raise",
    path: str | PathLike[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """Draw a sample of the neural gradients of every layer over some batches.

    The network is left as it was: no weight moves, no ``.grad`` is touched, and running statistics
    are put back.

    Parameters
    ----------
    model : torch.nn.Module
        In the mode, training or evaluation, that it is to be seen in.
    batches : iterable
        Of pairs (inputs, targets), such as a DataLoader; a batch that is a mapping is given to the
        model by its names.
    loss : callable
        ``loss(outputs, targets)``, such as ``torch.nn.functional.cross_entropy``; for a batch that
        is a mapping ``loss(outputs, batch)``.
    layers : str, or iterable of str, optional
        As for `NeuralGradients`.
    size : int
        How many elements of each layer to draw, without replacement and every element of every
        batch being as likely as any other. Where there are no more, all are there.
    seed : int
        Of the draw.
    nonfinite : {'raise', 'propagate', 'skip'}
        NaN and infinities are an error, or count as zeros.
    path : path-like, optional
        An .npz file to write, for ``fpsim recommend`` on the command line.

    Returns
    -------
    dict of str to array of one dimension
        By the layer's name, in the order in which the elements came; what `fpsim.recommend` takes.

    Examples
    --------
    >>> import torch, fpsim, fpsim.torch
    >>> from torch.nn.functional import mse_loss
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    >>> batches = [(torch.randn(64, 8), torch.zeros(64, 1)) for _ in range(3)]
    >>> gradients = fpsim.torch.capture(model, batches, mse_loss, size=1000)
    >>> {name: sample.size for name, sample in gradients.items()}
    {'0': 1000, '2': 192}
    >>> best = fpsim.recommend(gradients, bits=6).format
    """
    size = integer("size", size, 1, 1 << 40, "give how many elements of each layer to draw")
    if path is not None and Path(path).suffix != ".npz":
        raise ValueError(f"path={str(path)!r} does not end in .npz, which the file will be")
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError(
            "model has no parameter that requires a gradient; unfreeze what is to learn"
        )
    count = 0
    with NeuralGradients(
        model, _Sample(size), layers, seed=seed, every=0, nonfinite=nonfinite
    ) as gradients:
        try:
            for batch in batches:
                with torch.enable_grad():
                    if isinstance(batch, Mapping):
                        value = loss(model(**batch), batch)
                    else:
                        inputs, targets = batch
                        value = loss(model(inputs), targets)
                    torch.autograd.grad(value, weights, allow_unused=True)
                count += 1
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
    if not count:
        raise ValueError("batches is empty; give at least one")
    samples = {name: gradients.transform(name).values for name in gradients.layers}
    missing = [name for name, sample in samples.items() if not sample.size]
    if missing:
        raise ValueError(
            f"no gradient reached the layers {', '.join(missing)}: the loss does not depend on "
            "them, or nothing before them is to learn; leave them out of layers"
        )
    if path is not None:
        np.savez_compressed(path, allow_pickle=False, **samples)
    return samples


class _Sample:
    """A transform that changes nothing and keeps a sample: the elements with the smallest words."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.words = np.zeros(0, np.uint64)
        self.kept: NDArray[Any] | None = None
        self.limit = np.uint64((1 << 64) - 1)

    @property
    def values(self) -> NDArray[Any]:
        return np.zeros(0, np.float32) if self.kept is None else self.kept

    def __call__(self, x: NDArray[Any], rng: Stream) -> NDArray[Any]:
        flat = x.reshape(-1)
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            words = Stream(rng.seed, start).words(piece.size)
            near = words <= self.limit
            self._keep(words[near], piece[near])
        return x

    def _keep(self, words: NDArray[np.uint64], values: NDArray[Any]) -> None:
        if self.kept is None:
            self.kept = values[:0]
        self.words = np.concatenate([self.words, words])
        self.kept = np.concatenate([self.kept, values])
        if self.words.size > self.size:
            nearest = np.sort(np.argpartition(self.words, self.size)[: self.size])  # in order
            self.words, self.kept = self.words[nearest], self.kept[nearest]
            self.limit = self.words.max()
