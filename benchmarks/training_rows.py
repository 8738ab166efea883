"""The rows of the table that training.py makes: methods that neural gradients pass through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import fpsim


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    group: str
    name: str
    says: str
    transform: Any = None  # called as fpsim.torch.NeuralGradients calls it
    target: float | None = None  # a sparsity that is divided among the layers


class Prune:
    """Stochastic pruning to a share of zeros that can be set while it is at work."""

    def __init__(self, sparsity: float) -> None:
        self.sparsity = sparsity

    def __call__(self, x: Any, rng: Any) -> Any:
        """Prune a gradient."""
        return fpsim.prune(x, sparsity=self.sparsity, rng=rng)


def to_multiples(x: Any, rng: Any, scale: float) -> Any:
    """The biased twin of dither: the nearest multiple of the same step."""
    step = x.dtype.type(scale) * x.std()
    return np.rint(x / step) * step if step else x


def to_nearest_level(x: Any, rng: Any, exponent_bits: int) -> Any:
    """The biased twin of LUQ: the nearest of its levels."""
    fmt = fpsim.luq_format(exponent_bits)
    alpha = np.abs(x).max() / x.dtype.type(fmt.max)
    return fpsim.round(x / alpha, fmt, overflow="saturate") * alpha if alpha else x


def shown(fmt: str) -> str:
    """A format as the papers write it."""
    parsed = fpsim.Format.parse(fmt)
    return f"1-{parsed.exponent_bits}-{parsed.mantissa_bits}"


def rows() -> list[Row]:
    """All lines of the table, in its order."""
    return [
        Row("baseline", "float32", "float32"),
        *formats(),
        *pruning(),
        *others(),
        *metrics(),
    ]


SPLITS = ["e5m2f", "e4m3f", "e4m1f", "e4m0f", "e3m0f"]
BAD_SPLITS = ["e2m5f", "e2m3f", "e2m2f", "e1m2f"]
SCALES = {"nmse": "NMSE", "cosine": "cosine", "maximum": "the maximum"}


def formats() -> list[Row]:
    """Formats with a fitted scale, without one, and with a split that does not fit."""
    found = []
    for fmt in SPLITS:
        says = f"{shown(fmt)}, lognormal scale"
        found.append(Row("formats", fmt, says, fpsim.ScaledRounding(fmt, basis="fit")))
    for fmt in SPLITS:
        says = f"{shown(fmt)}, no scale"
        found.append(Row("formats", f"{fmt}-unscaled", says, fpsim.ScaledRounding(fmt, 1.0)))
    for fmt in BAD_SPLITS:
        says = f"{shown(fmt)} (bad split), lognormal scale"
        found.append(Row("formats", fmt, says, fpsim.ScaledRounding(fmt, basis="fit")))
    return found


def pruning() -> list[Row]:
    """Stochastic pruning, and its biased twin."""
    found = []
    for percent in (70, 80, 85, 90, 95):
        says = f"stochastic pruning, {percent} % in every layer"
        found.append(Row("pruning", f"prune-{percent}", says, Prune(percent / 100)))
    for percent in (70, 80, 85, 90, 95):
        share = percent / 100
        says = f"stochastic pruning, {percent} % divided among the layers"
        found.append(Row("pruning", f"prune-{percent}-divided", says, Prune(share), share))
    cut = partial(fpsim.prune, sparsity=0.85, method="deterministic")
    found.append(Row("pruning", "cut-85", "deterministic threshold, 85 %", cut))
    return found


DITHER = 2.5  # standard deviations in a step: about 92 % zeros on this network


def others() -> list[Row]:
    """Dither, LUQ, N:M sparsity, and combinations."""
    luq, blocks = fpsim.luq, fpsim.nm_sparsify
    to_2_4 = partial(blocks, n=2, m=4, axis=1)  # of four consecutive channels
    to_1_2 = partial(blocks, n=1, m=2, axis=1)
    luq4 = partial(luq, exponent_bits=3)
    found = [
        ("dither", "dither", f"dithered backprop, step {DITHER} std",
         partial(fpsim.dither, scale=DITHER)),
        ("dither", "multiples", "nearest multiple of that step",
         partial(to_multiples, scale=DITHER)),
        ("luq", "luq4", "LUQ, 4 bits", luq4),
        ("luq", "luq4-2", "LUQ, 4 bits, 2 samples", partial(luq4, samples=2)),
        ("luq", "luq4-4", "LUQ, 4 bits, 4 samples", partial(luq4, samples=4)),
        ("luq", "luq3", "LUQ, 3 bits", partial(luq, exponent_bits=2)),
        ("luq", "luq2", "LUQ, 2 bits", partial(luq, exponent_bits=1)),
        ("luq", "luq2-16", "LUQ, 2 bits, 16 samples", partial(luq, exponent_bits=1, samples=16)),
        ("luq", "nearest4", "nearest of LUQ's 4-bit levels",
         partial(to_nearest_level, exponent_bits=3)),
        ("luq", "nearest3", "nearest of LUQ's 3-bit levels",
         partial(to_nearest_level, exponent_bits=2)),
        ("luq", "nearest2", "nearest of LUQ's 2-bit levels",
         partial(to_nearest_level, exponent_bits=1)),
        ("n:m", "mvue-1-2", "unbiased 1:2", to_1_2),
        ("n:m", "mvue-2-4", "unbiased 2:4", to_2_4),
        ("n:m", "top-1-2", "largest 1 of 2", partial(to_1_2, method="top")),
        ("n:m", "top-2-4", "largest 2 of 4", partial(to_2_4, method="top")),
        ("combined", "prune-85-e4m1f", "stochastic pruning, 85 %, then 1-4-1, scale by NMSE",
         fpsim.Chain(Prune(0.85), fpsim.ScaledRounding("e4m1f", "nmse"))),
        ("combined", "luq4-2-4", "unbiased 2:4, then LUQ, 4 bits", fpsim.Chain(to_2_4, luq4)),
    ]  # fmt: skip
    return [Row(*line) for line in found]


def metrics() -> list[Row]:
    """What decides on the scale; by the relative error they stand under formats."""
    chosen = [(fmt, scale) for fmt in SPLITS for scale in ("nmse", "maximum")]
    chosen += [(fmt, "cosine") for fmt in ("e4m1f", "e4m0f")]
    chosen += [(fmt, "nmse") for fmt in BAD_SPLITS]
    found = []
    for fmt, scale in chosen:
        bad = " (bad split)" if fmt in BAD_SPLITS else ""
        says = f"{shown(fmt)}{bad}, scale by {SCALES[scale]}"
        transform = fpsim.ScaledRounding(fmt, scale)
        found.append(Row("scale", f"{fmt}-{scale}", says, transform))
    return found
