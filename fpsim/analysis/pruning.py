"""What pruning does to given data: under a lognormal fit, or to the data of a sketch.

Imports arguments, analysis.error, analysis.lognormal, analysis.sketch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from fpsim.analysis import error
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.sketch import CELL_BITS, Sketch
from fpsim.arguments import real, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]


def checked_source(name: str, source: Any) -> Lognormal | Sketch:
    """A fit, or a sketch with an element to speak of; TypeError or ValueError else."""
    if not isinstance(source, (Lognormal, Sketch)):
        raise TypeError(
            f"{name} is of type {type(source).__name__}; give a Lognormal or a Sketch of the data"
        )
    if isinstance(source, Sketch) and not source.nonzero:
        raise ValueError(f"{name} has no finite nonzero element; sketch data with at least one")
    return source


@dataclass(frozen=True)
class PruningExpectation:
    """What stochastic pruning does to given magnitudes, on average over its draws.

    Attributes
    ----------
    threshold : float
    sparsity : float
        Share of zeros, those that were there before included.
    variance : float
        Mean squared error of an element, zeros included.
    nmse : float
        The same over the mean of x**2.
    cosine : float
        Cosine similarity of the data and the result, ``(1 + nmse)**-1/2``; the population's for
        a `Lognormal`.
    truncated_cosine : float or None
        The same without what lies beyond `truncated_at`, where that was given.
    """

    threshold: float
    sparsity: float
    variance: float
    nmse: float
    cosine: float
    truncated_cosine: float | None = None


def expected_pruning(
    source: Lognormal | Sketch,
    threshold: float | None = None,
    sparsity: float | None = None,
    *,
    cosine: float | None = None,
    truncated_at: float | None = None,
) -> PruningExpectation:
    """Zeros and error of `prune` under a fit, or for the data of a sketch.

    Below the threshold alpha, an element has variance ``|x| (alpha - |x|)`` and becomes zero with
    probability ``1 - |x| / alpha`` (Chmiel et al., arXiv 2006.08173). For a lognormal see
    `Lognormal.sparsity`, `Lognormal.pruning_nmse` and `Lognormal.pruning_cosine`; with a sketch
    the means are exact up to the cell that holds the threshold.

    Parameters
    ----------
    source : Lognormal or Sketch
    threshold, sparsity, cosine : float
        One of them: the threshold itself, or the one that gives this share of zeros, from 0 to
        below 1 with those already there; or this cosine (truncated, if that is asked for).
    truncated_at : float, optional
        With a `Lognormal`: standard deviations of the logarithm beyond which data hold nothing,
        about 2.7 for real gradients.

    Returns
    -------
    PruningExpectation

    Examples
    --------
    >>> import fpsim
    >>> fit = fpsim.Lognormal(0.0, 2.0)
    >>> expected = fpsim.expected_pruning(fit, sparsity=0.85, truncated_at=2.7)
    >>> print(f"{expected.threshold:.2f} {expected.cosine:.3f} {expected.truncated_cosine:.3f}")
    26.69 0.993 0.932
    """
    source = checked_source("source", source)
    if truncated_at is not None and isinstance(source, Sketch):
        raise ValueError(
            f"truncated_at={shown(truncated_at)} with a Sketch, which holds no more than its data "
            "do; leave it out, or give a Lognormal"
        )
    limit = _threshold(source, threshold, sparsity, cosine, truncated_at)
    nmse = pruning_nmse(source, limit)
    truncated = None
    if truncated_at is not None:
        truncated = (1 + pruning_nmse(source, limit, truncated_at)) ** -0.5
    return PruningExpectation(
        threshold=limit,
        sparsity=pruned_share(source, limit),
        variance=exponential(math.log(nmse) + log_mean_square(source)) if nmse else 0.0,
        nmse=nmse,
        cosine=(1 + nmse) ** -0.5,
        truncated_cosine=truncated,
    )


def one_target(**given: Any) -> tuple[str, float]:
    """The one target that is given, by its name, and checked."""
    present = [name for name, value in given.items() if value is not None]
    if len(present) != 1:
        shown_values = ", ".join(f"{name}={shown(value)}" for name, value in given.items())
        raise ValueError(f"{shown_values}: give one of them")
    (name,) = present
    allowed, ok = _TARGETS[name]
    return name, real(name, given[name], allowed, ok)


_TARGETS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "threshold": (
        "finite and at least 0; it is compared with |x|",
        lambda t: 0 <= t < math.inf,
    ),
    "sparsity": (
        "from 0 to below 1: the share of zeros, those already there included",
        lambda s: 0 <= s < 1,
    ),
    "cosine": ("above 0 and up to 1", lambda c: 0 < c <= 1),
}


def _threshold(
    source: Lognormal | Sketch, threshold: Any, sparsity: Any, cosine: Any, truncated_at: Any
) -> float:
    name, value = one_target(threshold=threshold, sparsity=sparsity, cosine=cosine)
    if name == "threshold":
        return value
    if name == "sparsity":
        return threshold_for_share(source, value)
    return threshold_for_nmse(source, nmse_of_cosine(value), truncated_at)


# Either source ------------------------------------------------------------------------------------


def pruned_share(source: Lognormal | Sketch, threshold: float) -> float:
    """Share of zeros after stochastic pruning."""
    if isinstance(source, Sketch):
        return empirical_sparsity(source, threshold)
    return float(source.sparsity(threshold))


def threshold_for_share(source: Lognormal | Sketch, sparsity: float) -> float:
    """The threshold whose `pruned_share` is this."""
    if isinstance(source, Sketch):
        return empirical_pruning_threshold(source, sparsity)
    return source.pruning_threshold(sparsity)


def pruning_nmse(
    source: Lognormal | Sketch, threshold: float, truncated_at: float | None = None
) -> float:
    """Mean squared error of stochastic pruning over the mean of x**2."""
    if isinstance(source, Lognormal):
        return float(source.pruning_nmse(threshold, truncated_at))
    points, weights, reference = error.two_points(source)
    alpha = math.ldexp(threshold, -reference)
    variance = np.sum(weights * points * np.maximum(alpha - points, 0.0))
    return float(variance / np.sum(weights * points**2))


def threshold_for_nmse(
    source: Lognormal | Sketch, nmse: float, truncated_at: float | None = None
) -> float:
    """The threshold whose `pruning_nmse` is this.

    Of a sketch it comes from ``V = alpha sum(x) - sum(x**2)`` over what lies below alpha.
    """
    if isinstance(source, Lognormal):
        return source.nmse_threshold(nmse, truncated_at)
    if nmse == 0:
        return 0.0
    points, weights, reference = error.two_points(source)
    order = np.argsort(points)
    points, weights = points[order], weights[order]
    sums, squares = np.cumsum(weights * points), np.cumsum(weights * points**2)
    wanted = nmse * float(squares[-1])
    # The points below alpha are those at which V is still below.
    last = int(np.searchsorted(points[1:] * sums[:-1] - squares[:-1], wanted))
    with np.errstate(over="ignore"):
        return float(np.ldexp((wanted + squares[last]) / sums[last], reference))


def nmse_of_cosine(cosine: float) -> float:
    """``1 / cosine**2 - 1``, without cancellation."""
    return (1 - cosine) * (1 + cosine) / cosine**2


def exponential(value: float) -> float:
    """exp, infinite where it leaves the range."""
    with np.errstate(over="ignore"):
        return float(np.exp(value))


def log_mean_square(source: Lognormal | Sketch, truncated_at: float | None = None) -> float:
    """ln of the mean of x**2, zeros included."""
    if isinstance(source, Sketch):
        reference = int(source.exponents[-1])
        total = float(source.power_sums(2, reference).sum())
        return math.log(total / (source.zeros + source.nonzero)) + 2 * reference * error.LN2
    share = math.log1p(-source.zero_fraction) if source.zero_fraction < 1 else -math.inf
    square = share + 2 * source.mu + 2 * source.sigma**2
    if truncated_at is not None:
        square += float(scipy.special.log_ndtr(truncated_at - 2 * source.sigma))
        square -= float(scipy.special.log_ndtr(truncated_at))
    return square


# The data of a sketch -----------------------------------------------------------------------------


def empirical_sparsity(sketch: Sketch, threshold: float) -> float:
    """Share of zeros that stochastic pruning leaves, from the data's own sketch.

    The sum of ``(1 - |x|/alpha)+`` over the finite elements, exact but for the one cell that
    holds the threshold: within it the elements count as spread by a power law with their mean.

    Parameters
    ----------
    sketch : Sketch
    threshold : float
        alpha, at least 0.

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.analysis.pruning import empirical_sparsity
    >>> empirical_sparsity(fpsim.Sketch.of([0.0, 1.0, -2.0, 8.0]), 4.0)
    0.5625
    """
    threshold = real(
        "threshold", threshold, "at least 0; it is compared with |x|", lambda t: t >= 0
    )
    elements = _finite_elements(sketch)
    if threshold == 0 or sketch.nonzero == 0:
        return sketch.zeros / elements
    cells = _PruningCells.of(sketch)
    alpha = float(np.ldexp(threshold, -cells.reference))
    whole = int(np.searchsorted(cells.upper, alpha, side="right"))
    pruned = float(cells.counts[:whole].sum() - cells.sums[:whole].sum() / alpha)
    if whole < len(cells.counts) and alpha > cells.lower[whole]:
        pruned += cells.pruned_within(whole, alpha)
    return (sketch.zeros + pruned) / elements


def empirical_pruning_threshold(sketch: Sketch, sparsity: float) -> float:
    """The threshold whose `empirical_sparsity` is this; no distribution is assumed.

    Where the k smallest magnitudes lie below alpha, sum to C, and n of them are to be pruned on
    average, ``alpha = C / (k - n)`` (derived). Only if that falls inside an occupied cell is it
    found by Brent's method within that cell.

    Parameters
    ----------
    sketch : Sketch
    sparsity : float
        Total share of zeros among the finite elements, 0 to 1 (0 where zeros alone suffice;
        infinity for 1).

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.analysis.pruning import empirical_pruning_threshold
    >>> empirical_pruning_threshold(fpsim.Sketch.of([0.0, 1.0, -2.0, 8.0]), 0.5625)
    4.0
    """
    sparsity = real("sparsity", sparsity, "from 0 to 1", lambda s: 0 <= s <= 1)
    pruned = sparsity * _finite_elements(sketch) - sketch.zeros
    if pruned <= 0:
        return 0.0
    if pruned >= sketch.nonzero:
        return math.inf
    cells = _PruningCells.of(sketch)
    counts = np.concatenate([[0.0], np.cumsum(cells.counts)])
    sums = np.concatenate([[0.0], np.cumsum(cells.sums)])
    # The first cell at whose upper edge enough is pruned holds the threshold, or the gap below.
    # Cells so far below the largest that their edges underflow prune nothing.
    kept = np.divide(sums[1:], cells.upper, out=counts[1:].copy(), where=cells.upper > 0)
    cell = int(np.searchsorted(counts[1:] - kept, pruned))
    alpha = float(sums[cell] / (counts[cell] - pruned)) if counts[cell] > pruned else math.inf
    if cell < len(cells.counts) and alpha > cells.lower[cell]:

        def excess(alpha: float) -> float:
            below = float(counts[cell] - sums[cell] / alpha)
            return below + cells.pruned_within(cell, alpha) - pruned

        low, high = float(cells.lower[cell]), float(cells.upper[cell])
        if excess(low) < 0:
            alpha = scipy.optimize.brentq(excess, low, high, xtol=1e-15 * low, rtol=1e-15)
        else:
            alpha = low
    with np.errstate(over="ignore"):
        return float(np.ldexp(alpha, cells.reference))


def empirical_share_below(sketch: Sketch, threshold: float) -> float:
    """Share of the finite elements below a threshold, which deterministic pruning makes zero.

    Within a cell they count as spread evenly; of equal elements, all are below or none.

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.analysis.pruning import empirical_share_below
    >>> empirical_share_below(fpsim.Sketch.of([0.0, 1.0, -2.0, 8.0]), 2.0)
    0.5
    """
    elements = _finite_elements(sketch)
    fraction, exponent = math.frexp(threshold)
    significand = np.ldexp(fraction, np.clip(exponent - sketch.exponents, -1, 2))
    part = sketch.keys & ((1 << CELL_BITS) - 1)
    inside = np.clip((significand - 1) * 2.0**CELL_BITS - part, 0.0, 1.0)
    inside = np.where(error.point_cells(sketch), sketch.means < significand, inside)
    return (sketch.zeros + float(np.sum(sketch.counts * inside))) / elements


def empirical_quantile(sketch: Sketch, share: float) -> float:
    """The least threshold with this `empirical_share_below` (or more, among equal elements).

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.analysis.pruning import empirical_quantile
    >>> empirical_quantile(fpsim.Sketch.of([0.0, 1.0, -2.0, 8.0]), 0.5)
    1.0000000000000002
    """
    wanted = share * _finite_elements(sketch) - sketch.zeros
    if wanted <= 0:
        return 0.0
    after = np.cumsum(sketch.counts)
    cell = min(int(np.searchsorted(after, wanted)), len(after) - 1)
    exponent = int(sketch.exponents[cell])
    if error.point_cells(sketch)[cell]:
        return math.nextafter(math.ldexp(sketch.means[cell], exponent), math.inf)
    inside = 1 - (float(after[cell]) - wanted) / float(sketch.counts[cell])
    part = int(sketch.keys[cell]) & ((1 << CELL_BITS) - 1)
    return math.ldexp(1 + (part + inside) * 2.0**-CELL_BITS, exponent)


def _finite_elements(sketch: Sketch) -> int:
    elements = sketch.zeros + sketch.nonzero
    if elements == 0:
        raise ValueError("sketch has no finite element to prune; sketch data with at least one")
    return elements


@dataclass(frozen=True)
class _PruningCells:
    """Cells of a sketch with magnitudes over ``2**reference``, which keeps them in range."""

    reference: int
    lower: Floats
    upper: Floats
    counts: Floats
    sums: Floats
    is_point: NDArray[np.bool_]

    @classmethod
    def of(cls, sketch: Sketch) -> _PruningCells:
        reference = int(sketch.exponents[-1])
        part = (1 << CELL_BITS) + (sketch.keys & ((1 << CELL_BITS) - 1))
        unit = np.ldexp(2.0**-CELL_BITS, sketch.exponents - reference)
        return cls(
            reference,
            lower=part * unit,
            upper=(part + 1) * unit,
            counts=sketch.counts.astype(np.float64),
            sums=sketch.power_sums(1, reference),
            is_point=error.point_cells(sketch),
        )

    def pruned_within(self, cell: int, alpha: float) -> float:
        """Sum of ``(1 - x/alpha)+`` over a cell that holds alpha.

        The sum of ``(alpha - x)+`` is convex in alpha, from 0 with slope 0 at the lower edge to
        ``count (upper - mean)`` with slope `count` at the upper one: a power of alpha - lower.
        """
        count, lower, upper = self.counts[cell], self.lower[cell], self.upper[cell]
        mean = self.sums[cell] / count
        if self.is_point[cell]:
            return float(count * max(1 - mean / alpha, 0.0))
        power = (upper - lower) / (upper - mean)
        return float(count * (upper - mean) * ((alpha - lower) / (upper - lower)) ** power / alpha)
