"""Picture of sums: how the error of accumulators grows with the length of a dot product.

Imports accumulate, arguments, inputs, plot.style, reprs, rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from fpsim.accumulate import dot
from fpsim.accumulator import Accumulator, Order
from fpsim.arguments import array, shown
from fpsim.catalog import parse
from fpsim.inputs import real_array
from fpsim.plot import style
from fpsim.reprs import power_of_two
from fpsim.rounding import Overflow, Rounding

_Floats = NDArray[np.float64]

_NEAREST = (Rounding.ties_to_even, Rounding.ties_to_away, Rounding.ties_to_zero)


def accumulation(
    a: ArrayLike,
    b: ArrayLike,
    accumulators: Any,
    ax: Axes | None = None,
    *,
    lengths: Sequence[int] | None = None,
    rng: Any = 0,
) -> Axes:
    """The error of dot products against their length, by accumulator, beside the usual bounds.

    Drawn is ``|s - exact| / sum(|a b|)`` for the sums s of the first n products, over all rows of
    a and b: the root of the mean square as a line, the largest as a faint one. ``exact`` is the
    sum without error, rounded once to binary64. Dotted lines are, for every format with unit
    roundoff u, the bound ``gamma_n = n u / (1 - n u)``, which holds in any order (Higham:
    Accuracy and stability of numerical algorithms, 2nd ed., section 3.1), and ``sqrt(n) u``, the
    rule of thumb for errors that are independent (section 2.8). Directed rounding has twice the
    u, and a unit that aligns terms may exceed both: they know nothing of what it cuts off.

    Parameters
    ----------
    a, b : array_like, (..., depth)
        Factors, which broadcast as for `fpsim.dot`. They enter as they are: round them to the
        format of the operands first.
    accumulators : Accumulator, format, sequence of them, or mapping of names to them
        A format stands for a sequential sum in it.
    ax : matplotlib Axes, optional
        None: one of its own.
    lengths : sequence of int, optional
        Powers of two up to depth by default.
    rng
        Of stochastic rounding; see `fpsim.dot`.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import fpsim, numpy as np
    >>> from fpsim import plot
    >>> a, b = fpsim.round(np.random.default_rng(0).normal(size=(2, 32, 256)), "float8_e4m3fn")
    >>> ax = plot.accumulation(a, b, ["bfloat16", "binary16"])
    >>> ax.get_xlabel()
    'products in the sum, n'
    """
    named = _named(accumulators)
    x, y = (real_array(name, v)[0].astype(np.float64) for name, v in (("a", a), ("b", b)))
    if not (x.ndim and y.ndim and x.shape[-1] == y.shape[-1] and x.shape[-1]):
        raise ValueError(
            f"a {x.shape} and b {y.shape} do not agree in their last axis, over which products are "
            "summed; give arrays of at least one axis that do, and of one product at least"
        )
    sizes = _lengths(lengths, x.shape[-1])
    exact = Accumulator("binary64", order="exact")  # type: ignore[arg-type]  # parsed at birth
    references = [np.asarray(dot(x[..., :n], y[..., :n], exact)) for n in sizes]
    magnitude = np.cumsum(np.abs(x * y), axis=-1)
    ax = style.axes(ax, height=5.0)
    roundoffs = set()
    for (name, accumulator), line in zip(named.items(), style.styles(), strict=False):
        errors = []
        for n, reference in zip(sizes, references, strict=True):
            s = np.asarray(dot(x[..., :n], y[..., :n], accumulator, rng=rng), np.float64)
            with np.errstate(invalid="ignore"):
                errors.append(np.abs(s - reference) / magnitude[..., n - 1])
        error = np.array(errors).reshape(len(sizes), -1)
        rms = np.sqrt(np.mean(error**2, axis=1))
        ax.plot(sizes, _positive(rms), linewidth=1.8, marker="o", markersize=3,
                label=style.plain(name), **line)  # fmt: skip
        ax.plot(sizes, _positive(error.max(axis=1)), linewidth=1, alpha=0.4, color=line["color"],
                label=f"_largest of {name}")  # fmt: skip
        nearest = accumulator.rounding in _NEAREST
        roundoffs.add(accumulator.fmt.unit_roundoff if nearest else accumulator.fmt.eps)
    _draw_bounds(ax, sizes, roundoffs)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    for which in ("x", "y"):
        style.powers_of_two_on_log_axis(ax, which)
    title = f"Error of dot products, {magnitude[..., 0].size:,} of each length"
    style.titled(ax, title, "products in the sum, n", "|s − exact| / Σ|ab|, root mean square")
    style.key(ax, loc="upper left", bbox_to_anchor=(-0.02, -0.14), ncols=2)
    return ax


def _named(accumulators: Any) -> dict[str, Accumulator]:
    if isinstance(accumulators, Mapping):
        return {str(name): _accumulator(a) for name, a in accumulators.items()}
    single = isinstance(accumulators, (str, Accumulator)) or not isinstance(accumulators, Iterable)
    every = [_accumulator(a) for a in ([accumulators] if single else accumulators)]
    if not every:
        raise ValueError(f"accumulators={shown(accumulators)} names none; give at least one")
    return {describe(a): a for a in every}


def _accumulator(a: Any) -> Accumulator:
    if isinstance(a, Accumulator):
        return a
    return Accumulator(parse(a), overflow=Overflow.nan)


def describe(accumulator: Accumulator) -> str:
    """What tells an accumulator from others, in a few words.

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.plot.sums import describe
    >>> describe(fpsim.Accumulator("binary16", order="blocked", block=64))
    'binary16, blocks of 64'
    """
    words = [str(accumulator.fmt)]
    if accumulator.alignment_bits is not None:
        words.append(f"{accumulator.block} terms aligned to {accumulator.alignment_bits} bits")
    elif accumulator.order is Order.blocked:
        words.append(f"blocks of {accumulator.block}")
        if accumulator.block_fmt is not None:
            words.append(f"in {accumulator.block_fmt}")
    elif accumulator.order is not Order.sequential:
        words.append(str(accumulator.order))
    if accumulator.product is not None:
        words.append(f"products in {accumulator.product}")
    if accumulator.rounding is not Rounding.ties_to_even:
        words.append(
            str(accumulator.rounding).replace("_", " ")
            if isinstance(accumulator.rounding, Rounding)
            else "stochastic"
        )
    return ", ".join(words)


def _lengths(lengths: Any, depth: int) -> NDArray[np.int64]:
    if lengths is None:
        powers = 2 ** np.arange(depth.bit_length(), dtype=np.int64)
        return np.unique(np.append(powers, depth))
    allowed = f"give integers from 1 to {depth}, the products that there are, in ascending order"
    sizes = array("lengths", lengths, allowed)
    if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "iu":
        raise ValueError(f"lengths={shown(lengths)} is no such sequence; {allowed}")
    if sizes.min() < 1 or sizes.max() > depth or (np.diff(sizes.astype(np.int64)) <= 0).any():
        raise ValueError(f"lengths={shown(lengths)} is out of range; {allowed}")
    return sizes.astype(np.int64)


def _positive(error: _Floats) -> _Floats:
    """Errors for a logarithmic axis: none where there is no error, or no number."""
    return np.where(np.isfinite(error) & (error > 0), error, np.nan)


def _draw_bounds(ax: Axes, sizes: NDArray[np.int64], roundoffs: set[float]) -> None:
    n = sizes.astype(np.float64)
    for u in sorted(roundoffs):
        with np.errstate(divide="ignore"):
            gamma = np.where(n * u < 1, n * u / (1 - n * u), np.nan)
        label = f"u = {power_of_two(style.log2(u))}"
        bounds = ((gamma, ":", "the bound γₙ = nu/(1 − nu)"), (np.sqrt(n) * u, "--", "√n u"))
        for bound, dash, name in bounds:
            ax.plot(n, bound, dash, color=style.GREY, linewidth=1.2, zorder=1, label=name)
        ax.annotate(label, (n[-1], bounds[1][0][-1]), xytext=(4, 0), textcoords="offset points",
                    va="center", color=style.GREY, fontsize="small",
                    annotation_clip=False)  # fmt: skip
