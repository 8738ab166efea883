"""What dither does to given data: under a distribution, or to the data of a sketch.

Imports arguments, analysis.error, analysis.lognormal, analysis.pruning, analysis.sketch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from fpsim.analysis import error
from fpsim.analysis.error import tail_moment
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.pruning import checked_source, exponential, log_mean_square
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import integer, positive, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_PANEL = 0.25  # widest panel of a quadrature, in standard deviations
_END = 12.0  # standard deviations beyond which nothing counts
_MOST_BITS = 1100  # more than any float has


@dataclass(frozen=True)
class DitherExpectation:
    """What dither does to given data, on average over its draws.

    Attributes
    ----------
    step : float
    sparsity : float
        Share of zeros, those that were there before included.
    variance : float
        Mean squared error of an element, zeros included: at most a quarter of the step squared.
    nmse : float
        The same over the mean of x**2.
    bits : float
        Mean length of the nonzero multiples in bits, without sign.
    worst_bits : int or None
        With sign, that of the largest multiple that can come; None for a distribution, which has
        no largest.
    """

    step: float
    sparsity: float
    variance: float
    nmse: float
    bits: float
    worst_bits: int | None
    _shares: Callable[[float], float] = field(repr=False, compare=False)

    def share_from(self, multiple: int) -> float:
        """Share of the elements that become this multiple of the step or more, of either sign."""
        remedy = "give a positive integer"
        return self._shares(float(integer("multiple", multiple, 1, 1 << 1000, remedy)))


def expected_dither(
    source: Lognormal | Sketch | str, step: float | None = None, *, scale: float | None = None
) -> DitherExpectation:
    """Zeros, bits and error of `dither` under a distribution, or for the data of a sketch.

    With ``Y = |x| / step`` and f its fraction, the mean squared error is ``E[f (1 - f)]`` steps
    squared, 1/6 where the density is smooth, and ``P(|k| >= j) = E[min(max(Y - j + 1, 0), 1)]``
    (derived; for zeros ``E[(1 - Y)+]``, as for stochastic pruning with the step as threshold).

    Parameters
    ----------
    source : Lognormal, Sketch, 'normal' or 'laplace'
        The names stand for distributions with mean 0 and standard deviation 1.
    step : float, optional
    scale : float, optional
        Instead of a step: this many standard deviations, zeros included. A `Lognormal` and a
        `Sketch` describe magnitudes: their signs are taken to be even.

    Returns
    -------
    DitherExpectation

    Examples
    --------
    >>> import fpsim
    >>> expected = fpsim.expected_dither(fpsim.Lognormal(0.0, 2.0), scale=1.2)
    >>> print(f"{expected.sparsity:.3f} {expected.bits:.2f}")
    0.921 1.21
    """
    given, relative = step_or_scale(step, scale)
    log_step = math.log(given)
    if isinstance(source, str) and source in _NAMED:
        return _expectation(log_step, _NAMED[source](given), None)
    if isinstance(source, str):
        raise ValueError(
            f"source={shown(source)} is not known; give a Lognormal, a Sketch, 'normal' or "
            "'laplace'"
        )
    source = checked_source("source", source)
    if relative:
        log_step += log_mean_square(source) / 2
    if isinstance(source, Lognormal):
        return _expectation(log_step, _of_lognormal(source, log_step), None)
    law = _of_sketch(source, log_step)
    top = math.ceil(math.exp(math.log(source.largest) - log_step))
    return _expectation(log_step, law, 1 + top.bit_length())


def step_or_scale(step: Any, scale: Any) -> tuple[float, bool]:
    """(the one that is given, checked; whether that is the scale)."""
    if (step is None) == (scale is None):
        raise ValueError(
            f"step={shown(step)} and scale={shown(scale)}: give one of them; a step is absolute, "
            "a scale times the standard deviation"
        )
    if scale is None:
        return positive("step", step), False
    return positive("scale", scale), True


@dataclass(frozen=True)
class _Law:
    """What there is to know of ``Y = |x| / step`` over the nonzero elements."""

    spread: float  # E[f (1 - f)]
    log_square: float  # ln E[Y**2]
    shares: Callable[[float], float]  # P(|k| >= j)
    pruned: float  # P(k = 0)
    zeros: float = 0.0  # share of the elements that are zero


def _expectation(log_step: float, law: _Law, worst: int | None) -> DitherExpectation:
    there = 1 - law.zeros
    nonzero = law.shares(1.0)
    bits = 0.0
    for b in range(_MOST_BITS):
        share = law.shares(2.0**b) if b < 1000 else 0.0
        bits += share / nonzero if nonzero else 0.0
        if share <= 1e-17 * nonzero:
            break
    return DitherExpectation(
        step=exponential(log_step),
        sparsity=law.zeros + there * law.pruned,
        variance=there * law.spread * exponential(2 * log_step),
        nmse=math.exp(math.log(law.spread) - law.log_square) if law.spread else 0.0,
        bits=bits,
        worst_bits=worst,
        _shares=lambda j: there * law.shares(j),
    )


# Distributions ------------------------------------------------------------------------------------


def _normal(step: float) -> _Law:
    """|x| of a standard normal: a periodic function's mean is a sum over its Fourier series."""
    r = step
    density = -math.expm1(-r * r / 2) * math.sqrt(2 / math.pi) / r
    if r > 50:
        spread = math.sqrt(2 / math.pi) / r - 1 / r**2
    else:
        n = np.arange(1, 8 + int(7 * r))
        spread = 1 / 6 - float(np.sum(np.exp(-2 * (math.pi * n / r) ** 2) / (math.pi * n) ** 2))

    def shares(j: float) -> float:
        if j == 1:
            return density + math.erfc(r / math.sqrt(2))
        return _integral(lambda y: scipy.special.erfc(r * y / math.sqrt(2)), j - 1, r)

    pruned = math.erf(r / math.sqrt(2)) - density
    return _Law(spread, -2 * math.log(r), shares, pruned)


def _laplace(step: float) -> _Law:
    """|x| of a Laplace distribution is exponential: so is the fraction, but for an end."""
    rate = math.sqrt(2) * step

    def shares(j: float) -> float:
        return -math.exp(-rate * (j - 1)) * math.expm1(-rate) / rate

    if rate < 0.1:
        pruned = rate / 2 - rate**2 / 6 + rate**3 / 24 - rate**4 / 120
        pruned += rate**5 / 720 - rate**6 / 5040 + rate**7 / 40320
        spread = 1 / 6 - rate**2 / 360 + rate**4 / 15120 - rate**6 / 604800
    else:
        pruned = 1 - shares(1)
        spread = (rate / math.tanh(rate / 2) - 2) / rate**2
    return _Law(spread, -2 * math.log(step), shares, pruned)


_NAMED: dict[str, Callable[[float], _Law]] = {"normal": _normal, "laplace": _laplace}


def _integral(function: Callable[[Floats], Any], start: float, steepness: float) -> float:
    """Over [start, start + 1], of a function that changes little within 1 / steepness."""
    panels = min(math.ceil(steepness / _PANEL), 1 << 12)
    edges = np.arange(panels)[:, None] / panels
    nodes = start + edges + (_NODES + 1) / 2 / panels
    return float(np.sum(function(nodes) * _WEIGHTS) / 2 / panels)


def _of_lognormal(fit: Lognormal, log_step: float) -> _Law:
    """Of ln Y, normal with mean mu - ln(step)."""
    mu, sigma = fit.mu - log_step, fit.sigma
    unit = Lognormal(mu, sigma)
    log_square = 2 * mu + 2 * sigma**2
    pruned = float(unit.sparsity(1.0))
    if sigma == 0:
        y = math.exp(mu)
        spread = (y - math.floor(y)) * (math.floor(y) + 1 - y)
        return _Law(spread, log_square, lambda j: min(max(y - j + 1, 0.0), 1.0), pruned)

    def excess(j: float) -> float:  # E[(Y - j)+]
        z = (math.log(j) - mu) / sigma
        return j * float(tail_moment(z, -sigma) - tail_moment(z, 0.0))

    def shares(j: float) -> float:
        if j == 1:
            z = -mu / sigma
            return float(tail_moment(-z, sigma) + tail_moment(z, 0.0))
        if j * sigma < 0.5:
            return excess(j - 1) - excess(j)
        log_above = lambda y: scipy.special.ndtr((mu - np.log(y)) / sigma)  # noqa: E731
        return _integral(log_above, j - 1, 1 / ((j - 1) * sigma))

    return _Law(_lognormal_spread(mu, sigma), log_square, shares, pruned, fit.zero_fraction)


def _lognormal_spread(mu: float, sigma: float) -> float:
    """E[f (1 - f)]: the first cell in closed form, others by quadrature, the rest as smooth.

    Over a cell from j to j + 1 far out, a density p has ``(P(cell) - p''/60) / 6``, and the sum
    of p'' is -p' at their start (derived).
    """
    z_one = -mu / sigma
    spread = float(tail_moment(-z_one, sigma) - tail_moment(-z_one, 2 * sigma))
    smooth = max(64, math.ceil(40 / sigma))
    first = max(1, math.floor(math.exp(min(mu - _END * sigma, 700.0))))
    last = math.ceil(math.exp(min(mu + _END * sigma, 700.0)))
    if last > smooth:
        last = max(smooth, first)
        z = (math.log(last) - mu) / sigma
        slope = -math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (1 + z / sigma)
        slope /= sigma * last * last
        spread += float(scipy.special.ndtr(-z)) / 6 + slope / 360
    if last <= first:
        return spread
    j = np.arange(first, last)
    low = np.maximum((np.log(j) - mu) / sigma, -_END)
    high = np.minimum((np.log(j + 1) - mu) / sigma, _END)
    panels = np.maximum(np.ceil((high - low) / _PANEL), 1).astype(np.int64)
    cell = np.repeat(np.arange(j.size), panels)
    place = np.arange(cell.size) - np.repeat(np.cumsum(panels) - panels, panels)
    width = (high - low)[cell] / panels[cell]
    z_nodes = (low[cell] + place * width)[:, None] + (_NODES + 1) / 2 * width[:, None]
    fraction = np.exp(mu + sigma * z_nodes) - j[cell][:, None]
    density = np.exp(-z_nodes * z_nodes / 2) / math.sqrt(2 * math.pi)
    parts = fraction * (1 - fraction) * density * _WEIGHTS
    return spread + float(np.sum(np.sum(parts, axis=1) * np.maximum(width, 0.0)) / 2)


# The data of a sketch -----------------------------------------------------------------------------


def _of_sketch(sketch: Sketch, log_step: float) -> _Law:
    """Cells that no multiple cuts exactly; others as spread evenly with their mean and variance."""
    points, weights, reference = error.two_points(sketch)
    y = points * math.exp(reference * error.LN2 - log_step)
    weights = weights / sketch.nonzero
    low, high = y[: y.size // 2], y[y.size // 2 :]
    middle, half = (low + high) / 2, (high - low) / 2 * math.sqrt(3)
    start, stop = middle - half, middle + half
    cut = (half > 0) & (np.floor(start) != np.floor(stop))
    exact = (_bump(low) + _bump(high)) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        even = (_bump_integral(stop) - _bump_integral(start)) / (stop - start)
    spread = float(np.sum(2 * weights[: low.size] * np.where(cut, even, exact)))
    elements = sketch.zeros + sketch.nonzero

    def shares(j: float) -> float:
        return float(np.sum(weights * np.clip(y - (j - 1), 0.0, 1.0)))

    return _Law(
        spread=spread,
        log_square=math.log(float(np.sum(weights * y * y))),
        shares=shares,
        pruned=float(np.sum(weights * np.maximum(1 - y, 0.0))),
        zeros=sketch.zeros / elements,
    )


def _bump(y: Floats) -> Floats:
    fraction = y - np.floor(y)
    return np.asarray(fraction * (1 - fraction))


def _bump_integral(y: Floats) -> Floats:
    """From 0 to y, of the fraction times its complement."""
    fraction = y - np.floor(y)
    return np.asarray(np.floor(y) / 6 + fraction**2 * (3 - 2 * fraction) / 6)
