"""Error of any format on lognormal or sketched magnitudes: exact sums, closed form, best scale.

Throughout, ``q`` is the nearest value of the format to a magnitude ``x`` (already scaled) and
``delta = 1 - q / x``. Everything reported is a mean of ``|delta|``, ``delta`` or ``delta**2``
under the density of x weighted with a power of x; for a lognormal that weight only moves the
mean of ln x, so one engine serves every metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from fpsim.analysis.sketch import CELL_BITS, Sketch
from fpsim.arguments import choice, positive
from fpsim.format import Format
from fpsim.rounding import Overflow, parse_overflow

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fpsim.analysis.lognormal import Lognormal

    Floats = NDArray[Any]

LN2 = math.log(2.0)


class Metric(StrEnum):
    """What is reported of the error of q against x, over the nonzero elements."""

    relative = "relative"  # mean of |q - x| / x
    nmse = "nmse"  # mean of (q - x)^2 over mean of x^2
    sqnr = "sqnr"  # -10 log10(nmse), in dB
    cosine = "cosine"  # cosine similarity of q and x: 1 is perfect
    bias = "bias"  # mean of q over mean of x, less 1: negative where magnitudes shrink

    def loss(self, value: float) -> float:
        """`value` of this metric as a number that is smaller where the format is better.

        Examples
        --------
        >>> from fpsim.analysis.error import Metric
        >>> Metric.sqnr.loss(30.0) < Metric.sqnr.loss(20.0)
        True
        """
        if math.isnan(value):
            return math.inf
        if self is Metric.sqnr:
            return -value
        if self is Metric.cosine:
            return 1.0 - value
        return abs(value)


# The power of x that weights the mean behind each metric.
_WEIGHT = {
    Metric.relative: 0,
    Metric.bias: 1,
    Metric.nmse: 2,
    Metric.sqnr: 2,
    Metric.cosine: 2,
}


@dataclass(frozen=True)
class ErrorSummary:
    """Every metric of one format on one source; see `Metric`.

    Attributes
    ----------
    relative, nmse, cosine, bias : float
    underflow : float
        Share of the nonzero elements that round to zero.
    overflow : float
        Share that lies past the largest finite value once rounded.
    """

    relative: float
    nmse: float
    cosine: float
    bias: float
    underflow: float
    overflow: float

    @property
    def sqnr(self) -> float:
        """Signal to quantisation noise in dB: ``-10 log10(nmse)``."""
        return float(_decibels(np.float64(self.nmse)))

    def value(self, metric: Metric | str) -> float:
        """The value of one metric."""
        return float(getattr(self, parse_metric(metric).value))


def parse_metric(metric: Metric | str) -> Metric:
    """A `Metric` from its name."""
    return choice("metric", metric, Metric)


# Primitives ---------------------------------------------------------------------------------


def mills_ratio(y: ArrayLike) -> Any:
    """Upper tail of the standard normal over its density, ``(1 - Phi(y)) / phi(y)``.

    Computed as ``sqrt(pi/2) erfcx(y / sqrt(2))``, which neither underflows nor cancels.

    Examples
    --------
    >>> from fpsim.analysis.error import mills_ratio
    >>> round(float(mills_ratio(0.0)) ** 2, 4)  # pi / 2
    1.5708
    """
    return math.sqrt(math.pi / 2) * scipy.special.erfcx(np.asarray(y) / math.sqrt(2.0))


def tail_moment(z: ArrayLike, tilt: ArrayLike) -> Any:
    """``E[exp(-tilt (Z - z)); Z > z]`` of a standard normal Z: the partial moment behind it all.

    With ``ln X`` normal of standard deviation sigma and z the standard score of x, it is
    ``E[(X/x)**-r; X > x]`` for ``tilt = r sigma``; by symmetry ``E[(X/x)**r; X < x]`` is
    ``tail_moment(-z, r sigma)``. Completing the square gives ``phi(z) R(z + tilt)`` with R the
    Mills ratio, used where its argument is positive, and ``exp(tilt z + tilt**2 / 2)
    Phi(-z - tilt)``, used elsewhere: no factor leaves the range unless the result does.

    Examples
    --------
    >>> from fpsim.analysis.error import tail_moment
    >>> float(tail_moment(0.0, 0.0))
    0.5
    """
    z, tilt = np.asarray(z, dtype=np.float64), np.asarray(tilt, dtype=np.float64)
    y = z + tilt
    with np.errstate(over="ignore", invalid="ignore"):  # in the branch that is not taken
        density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        above = density * mills_ratio(np.maximum(y, 0.0))
        below = np.exp(np.where(tilt == 0, 0.0, tilt * (z + 0.5 * tilt))) * scipy.special.ndtr(-y)
    return np.where(y > 0, above, below)[()]


# In-range constants and closed form -----------------------------------------------------------


def in_range_constant(mantissa_bits: int) -> float:
    """Mean relative error of rounding to nearest a log-uniform significand, C_M.

    Over the cells between neighbouring significands a and b with midpoint c this is
    ``log2 prod c**2 / (a b)`` (derived), close to ``1 / (8 ln2 2**M)``.

    Examples
    --------
    >>> from fpsim.analysis.error import in_range_constant
    >>> round(in_range_constant(0), 6), round(in_range_constant(3), 6)
    (0.169925, 0.022517)
    """
    k, lower = _significands(mantissa_bits)
    if lower is None:
        return (1 / (8 * k) - 7 / (768 * k**3)) / LN2
    return float(np.sum(np.log1p(0.25 / (lower * (lower + 1)))) / LN2)


def in_range_squared_constant(mantissa_bits: int) -> float:
    """Normalised squared error of rounding to nearest a log-uniform significand, D_M.

    ``D_M = 1 - (psi(2K + 1/2) - psi(K + 1/2)) / ln2`` with ``K = 2**M`` and the digamma psi
    (derived), close to ``4**-M / (32 ln2)``. Without under- and overflow it is also the share
    by which rounding to nearest shrinks magnitudes: the bias is ``-D_M`` and the cosine
    ``sqrt(1 - D_M)``.

    Examples
    --------
    >>> from fpsim.analysis.error import in_range_squared_constant
    >>> round(in_range_squared_constant(0), 6)
    0.038203
    """
    k, lower = _significands(mantissa_bits)
    if lower is None:
        return (1 / (32 * k**2) - 7 / (1024 * k**4)) / LN2
    # ln(b/a) - 1/c = 2 (atanh u - u) with u = 1 / (a + b): the series has no cancellation.
    u = 1 / (2 * lower + 1)
    return float(sum(np.sum(2 * u ** (2 * j + 1) / (2 * j + 1)) for j in range(1, 20)) / LN2)


def in_range_stochastic_constant(mantissa_bits: int) -> float:
    """Mean squared relative error of stochastic rounding of a log-uniform significand, V_M.

    ``V_M = sum (b/a - a/b) / (2 ln2) - 1`` over neighbouring significands a and b (derived),
    close to ``4**-M / (16 ln2)``.

    Examples
    --------
    >>> from fpsim.analysis.error import in_range_stochastic_constant
    >>> round(in_range_stochastic_constant(0), 6)
    0.082021
    """
    k, lower = _significands(mantissa_bits)
    if lower is None:
        return (1 / (16 * k**2) - 1 / (128 * k**4)) / LN2
    u = 1 / (2 * lower + 1)
    terms = (2 * u ** (2 * j + 1) * (2 * j / (2 * j + 1)) for j in range(1, 20))
    return float(sum(np.sum(term) for term in terms) / LN2)


def _significands(mantissa_bits: int) -> tuple[float, Floats | None]:
    """K = 2**M, and the integers K to 2K - 1 where they are few enough to be summed over."""
    if isinstance(mantissa_bits, bool) or not isinstance(mantissa_bits, (int, np.integer)):
        raise TypeError(f"mantissa_bits={mantissa_bits!r} is not an integer; give 0 or more")
    if mantissa_bits < 0:
        raise ValueError(f"mantissa_bits={mantissa_bits} is negative; give 0 or more")
    k = 2.0 ** int(mantissa_bits)
    return k, (np.arange(k, 2 * k) if mantissa_bits <= 10 else None)


def closed_form_error(
    sigma_log2: ArrayLike,
    exponent_bits: int,
    mantissa_bits: int,
    offset: ArrayLike = 0.0,
    constant: str = "simple",
) -> Any:
    """Mean relative error of an idealised format on lognormal data, in closed form.

    The format has levels from ``2**-Emax`` to ``2**Emax`` with ``Emax = 2**(exponent_bits-1)``,
    flushes what lies below and saturates above. With ``d = (Emax - c) / s``,
    ``l = (-Emax - c) / s``, ``L = s ln2`` and R the Mills ratio, the error is
    ``C (Phi(d) - Phi(l)) + Phi(l) + Phi(-d) - phi(d) R(d + L)``: rounding, underflow and
    overflow. The model is that of Chmiel et al., "Neural gradients are near-lognormal"
    (arXiv 2006.08173); this form is derived. At ``c = 0`` it equals the form with error
    functions and a factor ``2**Emax``, which overflows where this one does not.

    Parameters
    ----------
    sigma_log2 : array_like
        s, the standard deviation of log2 of the data, positive.
    exponent_bits, mantissa_bits : int
    offset : array_like
        c, the mean of log2 of the scaled data.
    constant : {'simple', 'exact'}
        In-range error C: ``1 / (8 ln2 2**M)``, or `in_range_constant`.

    Returns
    -------
    float64 scalar or array

    Examples
    --------
    >>> from fpsim.analysis.error import closed_form_error
    >>> round(float(closed_form_error(2.0, 3, 2, offset=0.487, constant="exact")), 4)
    0.0695
    """
    s, c = np.asarray(sigma_log2, dtype=np.float64), np.asarray(offset, dtype=np.float64)
    if not (np.isfinite(s) & (s > 0)).all():
        raise ValueError(
            f"sigma_log2={sigma_log2!r} must be finite and positive; for a point mass use "
            "expected_error(Lognormal(mu, 0), fmt)"
        )
    if isinstance(exponent_bits, bool) or not isinstance(exponent_bits, (int, np.integer)):
        raise TypeError(f"exponent_bits={exponent_bits!r} is not an integer; give 1 or more")
    if exponent_bits < 1:
        raise ValueError(f"exponent_bits={exponent_bits} is out of range; give 1 or more")
    if constant not in ("simple", "exact"):
        raise ValueError(f"constant={constant!r} is not one of 'simple', 'exact'")
    in_range = in_range_constant(mantissa_bits)
    if constant == "simple":
        in_range = 2.0**-mantissa_bits / (8 * LN2)
    emax = 2.0 ** (exponent_bits - 1)
    d, low = (emax - c) / s, (-emax - c) / s
    ndtr = scipy.special.ndtr
    # Phi(d) - Phi(l), from the side on which both are small.
    inside = np.where(low > 0, ndtr(-low) - ndtr(-d), ndtr(d) - ndtr(low))
    return (in_range * inside + ndtr(low) + ndtr(-d) - tail_moment(d, s * LN2))[()]


# Lognormal data: exact sums -------------------------------------------------------------------

_WINDOW = 16.0  # beyond this many sigma lies less than 1e-57 of the data
_PANEL = 0.25  # longest panel of the quadrature, in units of min(sigma, 1)
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(6)


@dataclass(frozen=True)
class _Pieces:
    """Intervals ``x = exp(anchor) (1 + t)``, ``start < t < stop``, of one kind of error each.

    With ``spacing`` 0, all of the interval rounds to its anchor. Otherwise it is a block that
    runs from level to level, so finely spaced that the error is uniform there; `spacing` is
    that of the levels over the anchor.
    """

    anchor: Floats
    start: Floats
    stop: Floats
    spacing: Floats


def _significand(code: int, fmt: Format) -> tuple[int, int]:
    """A positive magnitude code's value as (integer significand, exponent of its unit)."""
    exponent, mantissa = divmod(code, 1 << fmt.mantissa_bits)
    if exponent == 0 and fmt.zero:
        return mantissa, fmt.quantum_exponent
    return (1 << fmt.mantissa_bits) + mantissa, exponent - fmt.bias - fmt.mantissa_bits


def log_value(code: int, fmt: Format) -> float:
    """Natural logarithm of a positive magnitude code's value."""
    significand, exponent = _significand(code, fmt)
    return math.log(significand) + exponent * LN2


def _smallest_code(fmt: Format) -> int:
    """Code of the smallest positive value."""
    if not fmt.zero:
        return 0
    return 1 if fmt.subnormals else 1 << fmt.mantissa_bits


def _log_limit(fmt: Format) -> float:
    """Natural logarithm of the midpoint between `max` and what would follow it."""
    significand, exponent = _significand(fmt.max_code, fmt)
    return math.log(significand + 0.5) + exponent * LN2


def _code_below(log2_x: float, fmt: Format) -> int:
    """The largest magnitude code whose value is at most 2**log2_x, but for rounding."""
    exponent = math.floor(log2_x)
    if exponent < fmt.emin:
        return int(2.0 ** (log2_x - fmt.quantum_exponent)) if fmt.subnormals else 0
    mantissa = int(2.0 ** (log2_x - exponent + fmt.mantissa_bits))
    return ((exponent - fmt.emin + fmt.zero - 1) << fmt.mantissa_bits) + mantissa


def _pieces(low: float, high: float, sigma: float, fmt: Format) -> _Pieces:
    """The pieces of the rounding error between exp(low) and exp(high)."""
    # Levels more than min(sigma, 1) / 64 apart (over x) are taken one by one, others in blocks.
    block_bits = math.ceil(math.log2(64 / min(sigma, 1.0)))
    first, last = _smallest_code(fmt), fmt.max_code
    if block_bits <= fmt.mantissa_bits:
        last = min(1 << block_bits, last) if fmt.subnormals else first
    near = max(first, min(last, _code_below(low / LN2, fmt) - 1))
    far = min(last, max(near, _code_below(high / LN2, fmt) + 2))

    exponent, mantissa = divmod(near, 1 << fmt.mantissa_bits)
    step, mantissa_ = np.divmod(mantissa + np.arange(far - near + 1), 1 << fmt.mantissa_bits)
    exponents = exponent + step
    below = (exponents == 0) & fmt.zero
    significand = mantissa_ + np.where(below, 0.0, 2.0**fmt.mantissa_bits)
    unit = np.where(below, fmt.emin, exponents - fmt.bias) - fmt.mantissa_bits
    level = np.log(significand) + unit * LN2
    # Half the distance to the neighbours, over the level.
    above = 0.5 / significand
    binade_starts = (mantissa_ == 0) & (exponents > fmt.zero)
    beneath = np.where(binade_starts, above / 2, above)
    if near == first:
        beneath[0] = 0.5  # to half of the smallest value
    if far == fmt.max_code:
        above[-1] = 1.0  # past the range, as far as twice the largest
    elif far == last:
        above[-1] = 0.0  # a block begins here
    zero = np.zeros_like(level)
    parts = [(level, -beneath, zero, zero), (level, zero, above, zero)]

    if last < fmt.max_code:
        significand_, unit_ = _significand(last, fmt)
        start = max(unit_ + significand_.bit_length() - 1, math.floor(low / LN2))
        e = np.arange(start, min(fmt.emax, math.ceil(high / LN2)) + 1, dtype=np.float64)
        spacing = 2.0 ** -np.minimum(fmt.mantissa_bits, e - fmt.quantum_exponent)
        top_significand, _ = _significand(fmt.max_code, fmt)
        top = math.ldexp(top_significand, 1 - top_significand.bit_length()) - 1
        stop = np.where(e == fmt.emax, top, 1.0)
        parts.append((e * LN2, np.zeros_like(e), stop, spacing))
        one = np.ones(1)
        parts.append((log_value(fmt.max_code, fmt) * one, 0 * one, one, 0 * one))
    return _Pieces(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _moments(mu: Floats, sigma: float, fmt: Format) -> Floats:
    """Means of |delta|, delta, delta**2, q/x and (q/x)**2: shape (5, len(mu)).

    The last two, ``1 - delta`` and its square, are for where little is left of x. `mu`, of the
    scaled data, is in ascending order.

    Each interval that rounds to one level is integrated by Gauss's rule on panels short enough
    that it is exact to rounding error; differences of closed forms would cancel where levels are
    close. Below the smallest and above twice the largest level nothing cancels and the integral
    is in closed form. Blocks take the mean error of uniform rounding and the terms of
    `_block_ends`, which leaves 1e-11 of the result.
    """
    if sigma == 0:
        return _point_moments(mu, fmt)
    if len(mu) > 1 and mu[-1] - mu[0] > 2 * _WINDOW * sigma:
        halves = np.array_split(mu, 2)
        return np.concatenate([_moments(half, sigma, fmt) for half in halves], axis=1)
    low, high = mu[0] - _WINDOW * sigma, mu[-1] + _WINDOW * sigma
    moments = np.zeros((5, len(mu)))
    pieces = _pieces(low, high, sigma, fmt)

    with np.errstate(over="ignore"):
        start = np.maximum(pieces.start, np.expm1(low - pieces.anchor))
        stop = np.minimum(pieces.stop, np.expm1(high - pieces.anchor))
    inside = stop > start
    start, stop = start[inside], stop[inside]
    anchor, spacing = pieces.anchor[inside], pieces.spacing[inside]
    if len(start):
        longest = _PANEL * min(sigma, 1.0)
        panels = np.ceil((np.log1p(stop) - np.log1p(start)) / longest).astype(np.int64)
        index = np.repeat(np.arange(len(panels)), panels)
        part = np.arange(len(index)) - np.repeat(np.cumsum(panels) - panels, panels)
        width = ((stop - start) / panels)[index]
        t = (start[index] + width * part)[:, None] + width[:, None] * (0.5 + 0.5 * _NODES)
        ln_x = (anchor[index][:, None] + np.log1p(t)).ravel()
        weight = 0.5 * width[:, None] * _NODE_WEIGHTS / ((1 + t) * sigma)
        delta, kept = t / (1 + t), 1 / (1 + t)
        functions = [np.abs(delta), delta, delta**2, kept, kept**2]
        if spacing.any():
            ratio = spacing[index][:, None] * kept
            block = [ratio / 4, 0.0, ratio**2 / 12, 1.0, 1 + ratio**2 / 12]
            pairs = zip(block, functions, strict=True)
            functions = [np.where(ratio > 0, uniform, exact) for uniform, exact in pairs]
        columns = np.stack([(weight * f).ravel() for f in functions], axis=1)
        moments += (_density((ln_x - mu[:, None]) / sigma) @ columns).T
        moments += _block_ends(mu, sigma, pieces)

    # Below: flushed to zero (delta = 1), or up to a smallest value that is more than twice x.
    smallest = log_value(_smallest_code(fmt), fmt)
    z = (smallest - LN2 - mu) / sigma
    if fmt.zero:
        moments[:3] += scipy.special.ndtr(z)
    else:
        with np.errstate(over="ignore"):
            n0, n1, n2 = (2.0**r * tail_moment(-z, -r * sigma) for r in range(3))
            n1, n2 = np.minimum(n1, 1e300), np.where(n1 > 1e300, np.inf, n2)  # no inf - inf
        moments += np.stack([n1 - n0, n0 - n1, n2 - 2 * n1 + n0, n1, n2])
    # Above twice the largest value.
    z = (log_value(fmt.max_code, fmt) + LN2 - mu) / sigma
    n0, n1, n2 = (0.5**r * tail_moment(z, r * sigma) for r in range(3))
    moments += np.stack([n0 - n1, n0 - n1, n0 - 2 * n1 + n2, n1, n2])
    return moments


def _density(z: Floats) -> Floats:
    """The standard normal density."""
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _block_ends(mu: Floats, sigma: float, pieces: _Pieces) -> Floats:
    """What a block's mean errors leave out: terms in the density's slopes at the block's ends.

    For levels w apart from a to b and a smooth g with derivatives g1 to g4, integrating the
    Fourier series of the error by parts gives (derived)
    ``int |e| g = w/4 int g - w**3/192 [g1] + w**5/7680 [g3]``,
    ``int e g = -w**2/24 [g] + 7 w**4/5760 [g2] - 31 w**6/967680 [g4]`` and
    ``int e**2 g = w**2/12 int g - 7 w**4/2880 [g1] + 31 w**6/483840 [g3]``, brackets being
    differences between b and a. Here g is the density of x over x; over its square for e**2.
    """
    blocks = pieces.spacing > 0
    anchor, spacing = pieces.anchor[blocks], pieces.spacing[blocks]
    absolute, first, second = np.zeros((3, len(mu)))
    for sign, t in ((-1.0, pieces.start[blocks]), (1.0, pieces.stop[blocks])):
        w = spacing / (1 + t)  # over x
        z = (anchor + np.log1p(t) - mu[:, None]) / sigma
        density = sign * _density(z) / sigma
        g1, g2, g3, g4 = _slopes(z, sigma, 2)
        absolute += (density * (w**5 * g3 / 7680 - w**3 * g1 / 192)).sum(axis=1)
        terms = 7 * w**4 * g2 / 5760 - w**2 / 24 - 31 * w**6 * g4 / 967680
        first += (density * terms).sum(axis=1)
        g1, _, g3, _ = _slopes(z, sigma, 3)
        terms = 31 * w**6 * g3 / 483840 - 7 * w**4 * g1 / 2880
        second += (density * terms).sum(axis=1)
    return np.stack([absolute, first, second, -first, second - 2 * first])


def _slopes(z: Floats, sigma: float, power: int) -> tuple[Any, ...]:
    """Derivatives 1 to 4 of ``phi(z) x**-power`` in x, times ``x**(power + order) / phi(z)``."""
    a, v = power + z / sigma, sigma**-2
    second = a * (a + 1) - v
    third = (2 * a + 1) * v - (a + 2) * second
    fourth = -(a + 3) * third - v * (second + (a + 2) * (2 * a + 1) - 2 * v)
    return -a, second, third, fourth


def _point_moments(mu: Floats, fmt: Format) -> Floats:
    """`_moments` of point masses at exp(mu)."""
    exponent = np.floor(mu / LN2)
    x = np.exp(mu - exponent * LN2)
    kept = _nearest(x, exponent.astype(np.int64), fmt) / x
    delta = 1 - kept
    return np.stack([np.abs(delta), delta, delta**2, kept, kept**2])


def _values(metric: Metric, moments: Floats) -> Any:
    """The metric, from `_moments` with its weight."""
    absolute, first, second, kept, kept_square = moments
    if metric is Metric.relative:
        return absolute
    if metric is Metric.bias:
        return -first
    if metric is Metric.nmse:
        return second
    if metric is Metric.sqnr:
        return _decibels(second)
    return _cosine(first, second, kept, kept_square)


def _decibels(nmse: Any) -> Any:
    with np.errstate(divide="ignore"):
        return -10 * np.log10(nmse) + 0.0


def _cosine(first: Any, second: Any, kept: Any, kept_square: Any) -> Any:
    """Cosine of q and x from `_moments` weighted with x**2; 0 where all is flushed."""
    square = np.maximum(kept_square, np.finfo(np.float64).tiny)
    # Near 1, 1 - cos**2 from the errors themselves: no cancellation.
    near = np.sqrt(np.clip(1 - (second - first**2) / square, 0.0, 1.0))
    return np.where(second < 0.1, near, np.minimum(kept / np.sqrt(square), 1.0))[()]


def _share_below(log_threshold: float, mu: float, sigma: float) -> float:
    """Share of the data below a threshold in ln x."""
    if sigma == 0:
        return float(mu <= log_threshold)
    return float(scipy.special.ndtr((log_threshold - mu) / sigma))


def _lognormal_summary(mu: float, sigma: float, fmt: Format) -> ErrorSummary:
    """`mu` is that of the scaled data."""
    moments = _moments(mu + np.arange(3) * sigma**2, sigma, fmt)
    zero = log_value(_smallest_code(fmt), fmt) - LN2
    return ErrorSummary(
        relative=float(_values(Metric.relative, moments[:, 0])),
        nmse=float(_values(Metric.nmse, moments[:, 2])),
        cosine=float(_values(Metric.cosine, moments[:, 2])),
        bias=float(_values(Metric.bias, moments[:, 1])),
        underflow=_share_below(zero, mu, sigma) if fmt.zero else 0.0,
        overflow=_share_below(-_log_limit(fmt), -mu, sigma),  # by symmetry
    )


# Sketched data: exact sums --------------------------------------------------------------------

_MANY_PIECES = 12  # half-steps between levels in one cell above which the error is uniform
_CELL_NODES, _CELL_WEIGHTS = np.polynomial.legendre.leggauss(3)


@dataclass(frozen=True)
class _Cells:
    """What error sums need of a sketch; significands in [1, 2), times ``2**exponent``."""

    exponent: NDArray[np.int64]
    lower: Floats
    mean: Floats
    variance: Floats
    is_point: NDArray[np.bool_]
    slope: Floats  # of `_cell_density`
    bend: Floats
    weights: Floats  # shares of the elements

    @classmethod
    def of(cls, sketch: Sketch) -> _Cells:
        if sketch.nonzero == 0:
            raise ValueError(
                "sketch has no finite nonzero element, so there is no error to speak of; "
                "sketch data with at least one"
            )
        mean, variance = sketch.means, sketch.variances
        lower = 1 + (sketch.keys & ((1 << CELL_BITS) - 1)) * 2.0**-CELL_BITS
        xi = (mean - lower) * 2.0 ** (CELL_BITS + 1) - 1
        square = xi**2 + variance * 4.0 ** (CELL_BITS + 1)
        return cls(
            exponent=sketch.exponents,
            lower=lower,
            mean=mean,
            variance=variance,
            is_point=point_cells(sketch, variance),
            slope=1.5 * xi,
            bend=2.5 * (1.5 * square - 0.5),
            weights=sketch.counts / sketch.nonzero,
        )


def point_cells(sketch: Sketch, variance: Floats | None = None) -> Any:
    """Cells of a sketch whose elements are all equal, but for the sketch's own resolution."""
    variance = sketch.variances if variance is None else variance
    return variance < 2.0**-64  # a quarter of the sketch's unit, squared


def two_points(sketch: Sketch) -> tuple[Floats, Floats, int]:
    """(magnitudes over 2**k, how many elements each stands for, k), two a cell.

    They are the mean of the cell's elements less and plus their standard deviation, over which any
    function that is quadratic there has the mean that it has over the elements. The largest lie
    in [1, 2).
    """
    reference = int(sketch.exponents[-1])
    variance = sketch.variances
    deviation = np.where(point_cells(sketch, variance), 0.0, np.sqrt(variance))
    ends = np.concatenate([sketch.means - deviation, sketch.means + deviation])
    points = np.ldexp(ends, np.tile(sketch.exponents - reference, 2))
    return points, np.tile(sketch.counts / 2, 2), reference


def _nearest(significand: Floats, exponent: Any, fmt: Format) -> Any:
    """The saturating nearest value to ``significand * 2**exponent > 0``, over ``2**exponent``."""
    top = exponent + np.frexp(significand)[1] - 1
    unit = np.maximum(top, fmt.emin) - fmt.mantissa_bits - exponent
    steps = np.ldexp(significand, -unit)
    rounded = np.rint(steps)
    if fmt.mantissa_bits == 0:  # then the exponent decides which code is even
        rounded = np.where((steps == 1.5) & ((top - fmt.emin + fmt.zero) % 2 == 0), 1.0, rounded)
    level = np.ldexp(rounded, unit)
    if not fmt.subnormals:
        smallest = np.minimum(_over(1, fmt.emin, exponent), 2.0**500)  # its square is finite
        up = significand > smallest / 2 if fmt.zero else True
        level = np.where(top < fmt.emin, np.where(up, smallest, 0.0), level)
    return np.minimum(level, _over(*_significand(fmt.max_code, fmt), exponent))


def _over(significand: float, unit: int, exponent: Any) -> Any:
    """``significand * 2**unit`` over ``2**exponent``; infinite where that leaves binary64."""
    with np.errstate(over="ignore"):
        return np.ldexp(float(significand), unit - exponent)


def _unit(significand: Floats, exponent: NDArray[np.int64], fmt: Format) -> Any:
    """Exponent, over ``2**exponent``, of the distance between levels here (or a divisor of it)."""
    top = exponent + np.frexp(significand)[1] - 1
    unit = np.maximum(top, fmt.emin) - fmt.mantissa_bits
    if not fmt.subnormals:
        unit = np.where(top < fmt.emin, fmt.emin, unit)
    return unit - exponent


def _cell_density(xi: Floats, slope: Floats, bend: Floats) -> Any:
    """Density at ``-1 < xi < 1`` of a cell: the quadratic with the cell's mean and variance.

    Where it dips below zero that does no harm: sums are linear in it, so they stay unbiased.
    """
    return 0.5 + slope * xi + bend * (1.5 * xi * xi - 0.5)


def _cut_errors(cells: Floats, exponent: NDArray[np.int64], fmt: Format) -> Floats:
    """Means of |e|/x, e, e*e, x*q and q*q, e = x - q, over cells, counting start < x < stop alone.

    The rows of `cells` are low, high, slope, bend, start and stop. Exact for the `_cell_density`,
    piece by piece between levels and boundaries; where a cell holds many of them, with the mean
    error of uniform rounding.
    """
    low, high, slope, bend, start, stop = cells
    saturated = start >= _over(*_significand(fmt.max_code, fmt), exponent)
    half = np.ldexp(1.0, _unit(start, exponent, fmt) - 1)
    first = np.floor(start / half)
    pieces = np.where(saturated, 1, np.ceil(stop / half) - first)
    means = np.zeros((5, len(low)))
    for many in (False, True):
        rows = np.flatnonzero((pieces > _MANY_PIECES) == many)
        if len(rows) == 0:
            continue
        count = 1 if many else int(pieces[rows].max())
        edges = (first[rows, None] + np.arange(count + 1)) * half[rows, None]
        edges = np.clip(edges, start[rows, None], stop[rows, None])
        edges[:, 0], edges[:, -1] = start[rows], stop[rows]
        width = np.diff(edges)[..., None]
        x = edges[:, :-1, None] + width * (0.5 + 0.5 * _CELL_NODES)
        low_, high_, slope_, bend_ = (v[rows, None, None] for v in (low, high, slope, bend))
        density = _cell_density((2 * x - low_ - high_) / (high_ - low_), slope_, bend_)
        weight = width * _CELL_WEIGHTS * density / (high_ - low_)
        if many:
            step = 2 * half[rows, None, None]
            square = step**2 / 12
            errors = (step / (4 * x), 0.0, square, x * x - square, x * x - square)
        else:
            q = _nearest(x, exponent[rows, None, None], fmt)
            e = x - q
            errors = (np.abs(e) / x, e, e * e, x * q, q * q)
        means[:, rows] = [(weight * f).sum(axis=(1, 2)) for f in errors]
    return means


def _cells_summary(cells: _Cells, fmt: Format, scale: float) -> ErrorSummary:
    factor, shift = math.frexp(scale)
    factor, shift = 2 * factor, shift - 1
    exponent = cells.exponent + shift
    mean, variance = cells.mean * factor, cells.variance * factor**2
    low, high = cells.lower * factor, (cells.lower + 2.0**-CELL_BITS) * factor
    maximum, maximum_unit = _significand(fmt.max_code, fmt)
    top = _over(maximum, maximum_unit, exponent)

    # As if all of the cell rounded to one level ...
    q = _nearest(mean, exponent, fmt)
    e = mean - q
    relative = np.abs(e - q * variance / mean**2) / mean
    errors = np.stack([relative, e, e**2 + variance, mean * q, q * q])
    # ... which is so unless a level or a boundary between two lies inside.
    unit = _unit(low, exponent, fmt)
    steps = np.ceil(np.ldexp(high, 1 - unit)) - np.floor(np.ldexp(low, 1 - unit))
    cut = np.flatnonzero((steps > 1) & (low < top) & ~cells.is_point)
    if len(cut):
        # In two parts where the range ends inside.
        a, b = low[cut], high[cut]
        end = np.clip(top[cut], a, b)
        errors[:, cut] = 0.0
        for start, stop in ((a, end), (end, b)):
            part = np.flatnonzero(stop > start)
            parts = np.stack([a, b, cells.slope[cut], cells.bend[cut], start, stop])[:, part]
            errors[:, cut[part]] += _cut_errors(parts, exponent[cut[part]], fmt)

    def is_below(significand: int, unit: int, ties: bool) -> Floats:
        """Share of each cell below a threshold."""
        threshold = _over(significand, unit, exponent)
        share = np.where(high <= threshold, 1.0, 0.0)
        at_point = mean <= threshold if ties else mean < threshold
        share = np.where(cells.is_point, at_point, share)
        for i in np.flatnonzero((low < threshold) & (threshold < high) & ~cells.is_point):
            xi = (2 * threshold[i] - low[i] - high[i]) / (high[i] - low[i])
            b, c = cells.slope[i], cells.bend[i]
            share[i] = 0.5 * (xi + 1) + 0.5 * b * (xi**2 - 1) + 0.5 * c * (xi**3 - xi)
        return np.clip(share, 0.0, 1.0)

    # Weights of x and of x squared.
    reference = exponent - exponent[-1]
    linear = cells.weights * np.ldexp(1.0, reference)
    square = cells.weights * np.ldexp(1.0, 2 * reference)
    nmse, kept, kept_square = errors[2:] @ square / (square @ (mean**2 + variance))
    smallest, smallest_unit = _significand(_smallest_code(fmt), fmt)
    # A tie rounds to the even code: 0, not the smallest value; past the range if `max` is odd.
    flushed = is_below(smallest, smallest_unit - 1, ties=True)
    in_range = is_below(2 * maximum + 1, maximum_unit - 1, ties=fmt.max_code % 2 == 0)
    return ErrorSummary(
        relative=float(cells.weights @ errors[0]),
        nmse=float(nmse),
        cosine=float(_cosine(1 - kept, nmse, kept, kept_square)),
        bias=float(-(errors[1] @ linear) / (mean @ linear)),
        underflow=float(cells.weights @ flushed) if fmt.zero else 0.0,
        overflow=float(cells.weights @ (1 - in_range)),
    )


# Either source --------------------------------------------------------------------------------


def error_summary(
    source: Lognormal | Sketch,
    fmt: Any,
    scale: float = 1.0,
    overflow: Overflow | str = "saturate",
) -> ErrorSummary:
    """Every metric of rounding ``x * scale`` to nearest and dividing by `scale` again.

    Zeros in the data change none of the metrics and are left out; signs do not matter either.
    For a `Lognormal` the sum runs over all levels of the format. For a `Sketch` it runs over
    the cells of the data and is exact where no level and no boundary between levels lies inside
    a cell: for scales that are powers of two and up to 6 mantissa bits. A cell that is cut
    counts as spread smoothly, with its own mean and variance.

    Parameters
    ----------
    source : Lognormal or Sketch
    fmt : Format, name or dtype
    scale : float
        Multiplies x before rounding.
    overflow : Overflow or name
        Unless it saturates, a format that answers infinity or NaN past its range has infinite
        errors (and a cosine of NaN) as soon as any element overflows; under a `Lognormal` of
        positive sigma some share always does, down to where it leaves binary64.

    Returns
    -------
    ErrorSummary

    Examples
    --------
    >>> from fpsim import Lognormal
    >>> from fpsim.analysis.error import error_summary
    >>> summary = error_summary(Lognormal(0.0, 2.0), "float8_e4m3fn")
    >>> f"{summary.relative:.4f} {summary.underflow:.4f} {summary.overflow:.4f}"
    '0.0242 0.0003 0.0011'
    """
    fmt, scale = Format.parse(fmt), positive("scale", scale)
    if isinstance(source, Sketch):
        summary = _cells_summary(_Cells.of(source), fmt, scale)
        overflows = _rounds_past(source.largest * scale, fmt)
    else:
        summary = _lognormal_summary(source.mu + math.log(scale), source.sigma, fmt)
        overflows = summary.overflow > 0
    if overflows and _overflow_is_fatal(fmt, overflow):
        infinite = {"relative": math.inf, "nmse": math.inf, "cosine": math.nan, "bias": math.inf}
        return replace(summary, **infinite)
    return summary


def expected_error(
    lognormal: Lognormal,
    fmt: Any,
    scale: float = 1.0,
    metric: Metric | str = "relative",
    overflow: Overflow | str = "saturate",
) -> float:
    """One metric of `error_summary`, for lognormal magnitudes.

    Parameters
    ----------
    lognormal : Lognormal
    fmt : Format, name or dtype
    scale : float
    metric : Metric or name
    overflow : Overflow or name

    Examples
    --------
    >>> from fpsim import Lognormal
    >>> from fpsim.analysis.error import expected_error
    >>> round(expected_error(Lognormal(0.0, 1.0), "binary16", metric="sqnr"), 1)
    73.7
    """
    metric = parse_metric(metric)
    fmt, scale = Format.parse(fmt), positive("scale", scale)
    if _overflow_is_fatal(fmt, overflow):
        return error_summary(lognormal, fmt, scale, overflow).value(metric)
    mu = lognormal.mu + math.log(scale) + _WEIGHT[metric] * lognormal.sigma**2
    return float(_values(metric, _moments(np.array([mu]), lognormal.sigma, fmt))[0])


def sketch_error(
    sketch: Sketch,
    fmt: Any,
    scale: float = 1.0,
    metric: Metric | str = "relative",
    overflow: Overflow | str = "saturate",
) -> float:
    """One metric of `error_summary`, for the data's own sketch.

    Parameters
    ----------
    sketch : Sketch
    fmt : Format, name or dtype
    scale : float
    metric : Metric or name
    overflow : Overflow or name

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.analysis.error import sketch_error
    >>> sketch_error(fpsim.Sketch.of([1.0, 1.25, -3.0]), "float4_e2m1fn")  # 1.25 is off by 0.25
    0.06666666666666667
    """
    metric = parse_metric(metric)
    return error_summary(sketch, fmt, scale, overflow).value(metric)


def _overflow_is_fatal(fmt: Format, overflow: Overflow | str) -> bool:
    """Whether a value past the range becomes infinity or NaN."""
    overflow = parse_overflow(overflow)
    if overflow.saturates:
        return False
    return fmt.infinity_code is not None or (overflow is Overflow.nan and fmt.nan_code is not None)


def _rounds_past(x: float, fmt: Format) -> bool:
    """Whether x, rounded to nearest, lies past the largest finite value."""
    significand, unit = _significand(fmt.max_code, fmt)
    if math.isinf(x):
        return True
    steps = Fraction(x) / Fraction(2) ** unit - significand
    return steps > Fraction(1, 2) or (steps == Fraction(1, 2) and fmt.max_code % 2 == 1)


# Best scale -----------------------------------------------------------------------------------

_MISS = 0.01  # allowed chance that any element overflows where that is fatal


def best_scale(
    source: Lognormal | Sketch,
    fmt: Any,
    metric: Metric | str = "relative",
    kind: str = "power_of_two",
    overflow: Overflow | str = "saturate",
) -> tuple[float, float]:
    """The factor on x that makes a metric best, and the metric there.

    Mean relative error centres the bulk of the data in the format's range; NMSE, SQNR and
    cosine are about the largest elements and take a far smaller scale: under a lognormal, with
    s the standard deviation of log2 of the data, that which is best for the squared relative
    error over ``2**(2 s**2 ln2)`` (derived; the weight x**2 moves the mean by that much).

    Parameters
    ----------
    source : Lognormal or Sketch
    fmt : Format, name or dtype
    metric : Metric or name
    kind : {'power_of_two', 'continuous'}
        Powers of two are searched one by one; for any real factor, a grid and then Brent's
        method around the best of it. Of scales that are equally good to 1e-9, the power of two
        nearest to 1 is taken.
    overflow : Overflow or name
        Where a value past the range becomes infinity or NaN, the scale is held so low that no
        element of a `Sketch`, and with probability 0.99 none of a `Lognormal`'s `count` elements
        (one if it is 0), gets there; the metric is that of such data.

    Returns
    -------
    scale, value : float

    Examples
    --------
    >>> from fpsim import Lognormal
    >>> from fpsim.analysis.error import best_scale
    >>> scale, sqnr = best_scale(Lognormal(0.0, 2.0), "float8_e4m3fn", "sqnr")
    >>> scale, round(sqnr, 1)
    (0.00048828125, 28.5)
    """
    metric, fmt = parse_metric(metric), Format.parse(fmt)
    searched = Metric.nmse if metric is Metric.sqnr else metric
    if kind not in ("power_of_two", "continuous"):
        raise ValueError(f"kind={kind!r} is not one of 'power_of_two', 'continuous'")
    fatal = _overflow_is_fatal(fmt, overflow)
    if isinstance(source, Sketch):
        search = _sketch_search(source, fmt, searched, fatal)
    else:
        search = _lognormal_search(source, fmt, searched, fatal)
    exponent, value = _best_power_of_two(search)
    if kind == "continuous":
        exponent, value = _best_continuous(search, exponent, value)
    return 2.0**exponent, float(_decibels(value)) if metric is Metric.sqnr else value


@dataclass(frozen=True)
class _Search:
    """A metric as a function of log2 of the scale, ascending, and where its best may lie."""

    metric: Metric
    evaluate: Callable[[Floats], Floats]
    low: float
    high: float
    step: float  # of a grid that sees every dip
    anchor: float  # a point of that grid: there, centred data lie on a power of two

    def losses(self, values: Floats) -> Floats:
        return np.array([self.metric.loss(value) for value in values])


def _lognormal_search(source: Lognormal, fmt: Format, metric: Metric, fatal: bool) -> _Search:
    mu, sigma = source.mu, source.sigma
    shift = _WEIGHT[metric] * sigma**2
    low = log_value(_smallest_code(fmt), fmt) - LN2 - mu - shift
    high = log_value(fmt.max_code, fmt) + LN2 - mu - shift
    if fatal:
        quantile = -float(scipy.special.ndtri(_MISS / max(source.count, 1)))
        high = min(high, _log_limit(fmt) - mu - sigma * quantile)
    step = 2.0 ** math.floor(math.log2(min(max(sigma / LN2 / 4, 1 / 16), 1 / 2)))

    def evaluate(exponents: Floats) -> Any:
        return _values(metric, _moments(mu + shift + exponents * LN2, sigma, fmt))

    return _Search(metric, evaluate, *_bounds(low / LN2, high / LN2), step, -mu / LN2)


def _sketch_search(source: Sketch, fmt: Format, metric: Metric, fatal: bool) -> _Search:
    cells = _Cells.of(source)
    # Largest to the top of the range and smallest to the bottom of the normal range: outside
    # of these two, in either order, nothing is left to gain.
    top = (log_value(fmt.max_code, fmt) - math.log(source.largest)) / LN2
    bottom = fmt.emin - math.log(source.smallest) / LN2
    low, high = min(top, bottom) - 1, max(top, bottom) + 1
    if fatal:
        high = min(high, (_log_limit(fmt) - math.log(source.largest)) / LN2 - 1e-12)

    def evaluate(exponents: Floats) -> Floats:
        values = [_cells_summary(cells, fmt, 2.0**k).value(metric) for k in exponents]
        return np.array(values)

    return _Search(metric, evaluate, *_bounds(low, high), 0.5, 0.0)


def _bounds(low: float, high: float) -> tuple[float, float]:
    """At least one power of two wide, and within binary64."""
    high = min(max(high, -1020.0), 1020.0)
    return max(min(low, high - 1), -1021.0), high


def _best_power_of_two(search: _Search) -> tuple[float, float]:
    low, high = math.ceil(search.low), math.floor(search.high)
    while True:
        # Wide ranges, where the metric varies slowly, in ever finer steps around the best.
        stride = math.ceil((high - low + 1) / 128)
        exponents = np.arange(-(-low // stride), high // stride + 1) * float(stride)
        values = search.evaluate(exponents)
        losses = search.losses(values)
        # Errors that are rounding noise of an exact representation are equal, too.
        least = losses.min() + 1e-9 * abs(losses.min()) + 1e-15
        ties = np.flatnonzero(losses <= least)
        best = int(ties[np.argmin(np.abs(exponents[ties]))])
        if stride == 1:
            unscaled = search.evaluate(np.zeros(1))
            if search.high >= 0 and search.losses(unscaled)[0] <= least:
                return 0.0, float(unscaled[0])
            return float(exponents[best]), float(values[best])
        low, high = (
            max(low, int(exponents[best]) - stride),
            min(high, int(exponents[best]) + stride),
        )


def _best_continuous(search: _Search, exponent: float, value: float) -> tuple[float, float]:
    """The best near the best power of two, which is `exponent` with this value."""
    first = math.ceil((max(search.low, exponent - 16) - search.anchor) / search.step)
    last = math.floor((min(search.high, exponent + 16) - search.anchor) / search.step)
    grid = search.anchor + search.step * np.arange(first, last + 1)
    middle = grid[np.argmin(search.losses(search.evaluate(grid)))]

    def loss(at: float) -> float:
        return float(search.losses(search.evaluate(np.array([at])))[0])

    bounds = max(middle - search.step, search.low), min(middle + search.step, search.high)
    options = {"xatol": 1e-6}
    found = scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options=options)
    best = found.x if found.fun < loss(middle) else middle
    if search.metric.loss(value) <= loss(best) * (1 + 1e-9):
        return exponent, value
    return float(best), float(search.evaluate(np.array([best]))[0])
