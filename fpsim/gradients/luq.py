"""LUQ: logarithmic unbiased quantisation of gradients to 2 to 5 bits, and what it costs.

Imports arguments, inputs, cast, format, stream, threads, kernels, analysis,
nonfinite, dask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from fpsim import kernels
from fpsim.analysis.error import tail_moment, two_points
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.pruning import checked_source, empirical_sparsity
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import boolean, choice, integer, positive, real
from fpsim.cast import decode
from fpsim.cast import round as round_to
from fpsim.format import Format
from fpsim.gradients.nonfinite import NonFinite, extremes, rule_for_codes, settle
from fpsim.inputs import F32, F64, chunks, is_dask, real_array, signed_format
from fpsim.kernels import luq as loops
from fpsim.stream import Stream
from fpsim.threads import over_chunks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

STRIDE = 1 << 48  # words between the draws of one element
_MOST_SAMPLES = 1 << 15


class Levels(StrEnum):
    """How many magnitudes there are, for E exponent bits."""

    bit_true = "bit_true"  # 2**E - 1, which with zero and the sign fill E + 1 bits
    paper = "paper"  # 2**E, as the paper's code has: one too many for E + 1 bits


@dataclass(frozen=True)
class Luq:
    """What `luq` made of an array.

    Attributes
    ----------
    values : array or None
        The quantised values in x's dtype (None from `luq_encode`: see `decode`).
    codes : array or None
        Codes of `format` (from `luq_encode`).
    format : Format or None
        ``[1, E, 0]`` with the lowest magnitude 1: values are ``alpha`` times its values. None
        for ``levels='paper'``, which fits no such format, and for more than one sample.
    alpha : float
        The lowest magnitude level; 0 where all of x is zero.
    maximum : float
        The largest finite magnitude in x, for `HindsightMax.update`.
    clipped : int
        Finite elements past the highest level, which were taken to it.
    nonfinite : int
        NaN and infinities in x.
    """

    values: Any
    codes: Any
    format: Format | None
    alpha: float
    maximum: float
    clipped: int
    nonfinite: int

    def decode(self, dtype: Any = np.float64) -> Any:
        """The values of `codes`."""
        if self.codes is None:
            raise ValueError("codes=None: there is nothing to decode; use fpsim.luq_encode")
        return decode(self.codes, self.format, dtype) * np.dtype(dtype).type(self.alpha)


@dataclass(frozen=True)
class HindsightMax:
    """The maximum to quantise the next gradient with, from those before it.

    ``m_t = (1 - eta) max|x_(t-1)| + eta m_(t-1)`` (Chmiel et al., arXiv 2112.10769, eq. 18).

    Parameters
    ----------
    eta : float
        0 (the last maximum alone) up to, not including, 1.
    maximum : float or None
        The estimate so far; None before the first gradient, whose maximum is then taken whole.

    Examples
    --------
    >>> import fpsim
    >>> hindsight = fpsim.HindsightMax(eta=0.5).update([1.0, -4.0]).update([2.0, 1.0])
    >>> hindsight.maximum
    3.0
    """

    eta: float = 0.1
    maximum: float | None = None

    def __post_init__(self) -> None:
        real("eta", self.eta, "from 0 to below 1", lambda e: 0 <= e < 1)
        if self.maximum is not None:
            real("maximum", self.maximum, "finite and at least 0", lambda m: 0 <= m < math.inf)

    def update(self, x: ArrayLike) -> HindsightMax:
        """The estimate once x has been seen; its NaN and infinities are left out."""
        seen, _ = extremes(x, NonFinite.skip)
        if self.maximum is None:
            return HindsightMax(self.eta, seen)
        return HindsightMax(self.eta, (1 - self.eta) * seen + self.eta * self.maximum)


def luq_format(exponent_bits: int = 3) -> Format:
    """The format of LUQ's codes: ``[1, E, 0]`` with zero and magnitudes 1, 2, … 2**(2**E - 2).

    Rounding ``x / alpha`` to it to nearest, saturating, is the biased baseline.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.round([0.4, 3.1, -70.0], fpsim.luq_format(3), overflow="saturate")
    array([  0.,   4., -64.])
    """
    bits = _exponent_bits(exponent_bits)
    return Format(bits, 0, bias=1, nans="none", infinities=False)


def luq(
    x: ArrayLike,
    exponent_bits: int = 3,
    samples: int = 1,
    rng: Any = None,
    *,
    maximum: float | None = None,
    levels: Levels | str = "bit_true",
    power_of_two: bool = False,
    nonfinite: NonFinite | str = "raise",
    full: bool = False,
) -> Any:
    """Quantise to 0 and powers of two times alpha, without bias (LUQ).

    With L magnitudes and ``alpha = max|x| / 2**(L - 1)``, a magnitude between the levels l and 2l
    becomes 2l with probability ``(|x| - l) / l``, else l; one below alpha becomes alpha with
    probability ``|x| / alpha``, else 0 (Chmiel et al., arXiv 2112.10769, eqs. 10 to 16). The
    maximum is a level and stays exact.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape, as `fpsim.round` takes them.
    exponent_bits : int
        E, 1 to 4: formats of 2 to 5 bits with the sign.
    samples : int
        How many independent draws to average (SMP): the variance divides by it.
    rng : int, Generator, Stream or None
        Draw s of element i uses word ``offset + i + s * 2**48`` of the `Stream`.
    maximum : float, optional
        Instead of max|x|, such as `HindsightMax.maximum`. Magnitudes above go to the highest
        level, which is a bias; they are counted in the full result. It is rounded up to a
        number such that alpha is one of x's dtype.
    levels : {'bit_true', 'paper'}
        ``2**E - 1`` magnitudes, or the ``2**E`` of the paper's code, which with zero and sign
        make 17 codes for E = 3 and do not fit 4 bits.
    power_of_two : bool
        Round alpha up to a power of two. The maximum then need not be a level.
    nonfinite : {'raise', 'propagate', 'skip'}
        See `NonFinite`.
    full : bool
        Return a `Luq`, which has the counts, and not its values alone.

    Returns
    -------
    array of x's shape and dtype (float64 for integers and lists), or Luq
        Zeros are positive. Where alpha is below the dtype's normal range it is rounded up to
        a number of the dtype, and the maximum need not be exact. Averages over samples are
        rounded to the dtype, at most twice.

    Notes
    -----
    P(up) is the true probability rounded up to a multiple of 2**-64. A pure lognormal has
    so heavy a top that with the maximum as its highest level most of it becomes zero: of 10**6
    elements with 3 exponent bits about 44 % at sigma 1 and 99 % at sigma 2.5 (see
    `expected_luq`). Real gradients have lighter tops.

    Raises
    ------
    ValueError
        For NaN or infinity under ``nonfinite='raise'``, and levels past the range of x's dtype.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.luq([0.3, -0.9, 5.0, 64.0], rng=1)
    array([ 0., -1.,  4., 64.])
    """
    bits = _exponent_bits(exponent_bits)
    samples = integer("samples", samples, 1, _MOST_SAMPLES)
    rule = choice("nonfinite", nonfinite, NonFinite)
    full = boolean("full", full)
    if is_dask(x):
        from fpsim.dask import map_chunks, refuse, tried

        refuse(full=full)
        options: dict[str, Any] = {
            "exponent_bits": bits,
            "samples": samples,
            "levels": levels,
            "power_of_two": power_of_two,
            "nonfinite": rule,
        }
        stream = Stream.of(rng)
        tried(luq, x, stream, maximum=maximum, **options)
        if maximum is None:
            maximum = extremes(x, rule)[0] or None  # of zeros alone, each chunk finds as much
        return map_chunks(luq, x, stream, maximum=maximum, **options)
    result = _luq(x, bits, samples, rng, maximum, levels, power_of_two, rule, codes=False)
    return result if full else result.values


def luq_encode(
    x: ArrayLike,
    exponent_bits: int = 3,
    rng: Any = None,
    *,
    maximum: float | None = None,
    power_of_two: bool = False,
    nonfinite: NonFinite | str = "raise",
) -> Luq:
    """Quantise as `luq` does with one sample, to codes.

    Code 0 is zero and k is ``alpha * 2**(k - 1)``, plus ``2**E`` for the sign. The parameters
    are those of `luq`; ``nonfinite='propagate'`` is not possible, for there is no code for it.

    Returns
    -------
    Luq
        With `codes`, `format`, `alpha` and the counts.

    Examples
    --------
    >>> import fpsim
    >>> result = fpsim.luq_encode([0.3, -0.9, 5.0, 64.0], rng=1)
    >>> result.codes, result.alpha, result.decode()
    (array([0, 9, 3, 7], dtype=uint8), 1.0, array([ 0., -1.,  4., 64.]))
    """
    bits = _exponent_bits(exponent_bits)
    rule = rule_for_codes(nonfinite)
    return _luq(x, bits, 1, rng, maximum, Levels.bit_true, power_of_two, rule, codes=True)


def _exponent_bits(value: Any) -> int:
    remedy = "give 1 to 4 exponent bits, for 2 to 5 bits with the sign"
    return integer("exponent_bits", value, 1, 4, remedy)


def _level_count(exponent_bits: int, levels: Levels | str) -> int:
    return (1 << exponent_bits) - (choice("levels", levels, Levels) is Levels.bit_true)


def _luq(
    x: ArrayLike,
    bits: int,
    samples: int,
    rng: Any,
    maximum: float | None,
    levels: Levels | str,
    power_of_two: bool,
    rule: NonFinite,
    *,
    codes: bool,
) -> Luq:
    count = _level_count(bits, levels)
    power_of_two = boolean("power_of_two", power_of_two)
    if maximum is not None:
        maximum = positive("maximum", maximum)
    array, own = real_array("x", x)
    lanes = F64 if own == F64 else F32
    stream = Stream.of(rng, array.shape)
    largest, nonfinite = extremes(array, rule)
    limit = largest if maximum is None else maximum
    alpha = _alpha(limit, count, own, power_of_two, "x" if maximum is None else "maximum")
    fmt = luq_format(bits) if count < 1 << bits and samples == 1 else None
    out = np.empty(array.shape, np.uint8 if codes else own)
    clipped: list[int] = []
    scale = 1.0
    if lanes == F64 and alpha:  # so that neither levels nor gaps leave the normal range
        scale = 2.0 ** -max(-1000, min(1000, math.frexp(alpha)[1]))
    written = np.dtype(np.uint8) if codes else lanes
    numbers: tuple[Any, ...] = (alpha, count, scale)
    numbers += (np.uint64(1 << bits),) if codes else (samples, np.uint64(STRIDE))
    kernel = kernels.compiled(loops.luq_codes if codes else loops.luq_values, lanes, written)

    def work(start: int, stop: int) -> None:
        operands = [(array, lanes), (out, written)]
        for (values, results), first in chunks(operands, start, stop, stretch=stream.stretch):
            index = stream.word_of(first)
            clipped.append(kernel(values, results, *numbers, np.uint64(stream.seed), index))
            if nonfinite:
                settle(values, results, rule)

    if alpha:
        over_chunks(array.size, work)
    elif nonfinite and rule is NonFinite.propagate:
        out[...] = np.where(np.isfinite(array), array.dtype.type(0), array)
    else:
        out[...] = 0
    return Luq(
        values=None if codes else out[()],
        codes=out[()] if codes else None,
        format=fmt,
        alpha=alpha,
        maximum=largest,
        clipped=int(sum(clipped)),
        nonfinite=nonfinite,
    )


def _alpha(limit: float, count: int, own: np.dtype[Any], power_of_two: bool, source: str) -> float:
    """The lowest level, rounded up to a number of the dtype; all levels are then numbers of it."""
    fmt = signed_format("x", own)
    if limit == 0:
        return 0.0
    alpha = math.ldexp(limit, 1 - count)
    if math.ldexp(alpha, count - 1) < limit:  # binary64's own subnormals
        alpha = math.nextafter(alpha, math.inf)
    if power_of_two:
        fraction, exponent = math.frexp(alpha)
        alpha = math.ldexp(0.5 if fraction == 0.5 else 1.0, exponent)
    alpha = float(round_to(alpha, fmt, rounding="toward_positive", overflow="saturate"))
    top = alpha * 2.0 ** (count - 1)
    if not limit <= top <= float(fmt.max):
        raise ValueError(
            f"{source} has the magnitude {limit:.6g}: {count} levels up to it leave the range of "
            f"x's dtype {own} (up to {float(fmt.max):.6g}, in steps of 2**{fmt.quantum_exponent}); "
            "scale x, or convert it to a wider dtype first"
        )
    return alpha


# What to expect -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LuqExpectation:
    """What LUQ does to given magnitudes, on average over its draws.

    Attributes
    ----------
    nmse : float
        Mean squared error over the mean of x**2.
    sparsity : float
        Share of zeros (of one draw), those that were there before included.
    clipped : float
        Share of the elements past the highest level.
    bias : float
        Mean of the quantised magnitudes over that of the magnitudes, less 1: 0 unless clipped.
    alpha : float
    """

    nmse: float
    sparsity: float
    clipped: float
    bias: float
    alpha: float


def expected_luq(
    source: Lognormal | Sketch,
    exponent_bits: int = 3,
    samples: int = 1,
    *,
    maximum: float | None = None,
    levels: Levels | str = "bit_true",
    power_of_two: bool = False,
) -> LuqExpectation:
    """Error, zeros and clipping of `luq` under a fit, or for the data of a sketch.

    A magnitude x has the variance ``x (alpha - x)`` below alpha and ``(x - l)(2l - x)`` from l to
    2l (arXiv 2112.10769); above the highest level c it has the error ``c - x``. For a lognormal
    their means are sums of partial moments (derived); with a sketch they are exact up to the
    cells that a level cuts, where the elements count as at their mean plus and minus their
    standard deviation.

    Parameters
    ----------
    source : Lognormal or Sketch
    exponent_bits, samples, maximum, levels, power_of_two
        As for `luq`; a `Lognormal` needs `maximum`, for it has none of its own.

    Returns
    -------
    LuqExpectation

    Examples
    --------
    >>> import fpsim
    >>> expected = fpsim.expected_luq(fpsim.Lognormal(0.0, 1.0), maximum=20.0)
    >>> round(expected.nmse, 3), round(expected.sparsity, 3)
    (0.098, 0.042)
    """
    bits = _exponent_bits(exponent_bits)
    samples = integer("samples", samples, 1, _MOST_SAMPLES)
    count = _level_count(bits, levels)
    power_of_two = boolean("power_of_two", power_of_two)
    source = checked_source("source", source)
    if maximum is not None:
        maximum = positive("maximum", maximum)
    elif isinstance(source, Sketch):
        maximum = source.largest
    else:
        raise ValueError("maximum=None with a Lognormal, which has none; give the magnitude")
    alpha = _alpha(maximum, count, np.dtype(np.float64), power_of_two, "maximum")
    if isinstance(source, Sketch):
        return _sketch_expectation(source, alpha, count, samples)
    return _lognormal_expectation(source, alpha, count, samples)


def _variance(x: Any, alpha: float, count: int) -> tuple[Any, Any]:
    """(variance of one draw, error of its mean) of magnitudes, which may be an array."""
    top = alpha * 2.0 ** (count - 1)
    ratio = np.minimum(x, top) / alpha
    low = np.where(ratio < 1, 0.0, np.exp2(np.floor(np.log2(np.maximum(ratio, 1.0)))))
    high = np.where(ratio < 1, 1.0, 2 * low)
    return (ratio - low) * (high - ratio) * alpha**2, np.minimum(x, top) - x


def _lognormal_expectation(
    fit: Lognormal, alpha: float, count: int, samples: int
) -> LuqExpectation:
    top = alpha * 2.0 ** (count - 1)
    log_top = math.log(alpha) + (count - 1) * math.log(2.0)
    there = 1 - fit.zero_fraction
    sparsity = float(fit.sparsity(alpha))
    sigma = fit.sigma
    if sigma == 0:
        x = math.exp(fit.mu)
        variance, shift = _variance(x, alpha, count)
        nmse = float((variance / samples + shift**2) / x**2)
        return LuqExpectation(nmse, sparsity, there * (x > top), float(shift / x), alpha)
    z = (math.log(alpha) + np.arange(count) * math.log(2.0) - fit.mu) / sigma - 2 * sigma
    # Under the density weighted with x**2: E[(q/X)**r; X > q] at every level q.
    zero, one, two = (tail_moment(z, r * sigma) for r in range(3))
    inside = 3 * (one[:-1] - one[1:] / 2) - 2 * (two[:-1] - two[1:] / 4) - (zero[:-1] - zero[1:])
    clip = zero[-1] - 2 * one[-1] + two[-1]
    variance = float(fit.pruning_nmse(alpha)) + float(inside.sum())
    z_top = (log_top - fit.mu) / sigma
    bias = -float(tail_moment(z_top - sigma, 0.0) - tail_moment(z_top - sigma, sigma))
    clipped = there * float(scipy.special.ndtr(-z_top))
    return LuqExpectation(variance / samples + float(clip), sparsity, clipped, bias, alpha)


def _sketch_expectation(sketch: Sketch, alpha: float, count: int, samples: int) -> LuqExpectation:
    points, weights, reference = two_points(sketch)
    step = math.ldexp(alpha, -reference)
    top = step * 2.0 ** (count - 1)
    variance, shift = _variance(points, step, count)
    spread, squares = np.sum(weights * variance), np.sum(weights * shift**2)
    past = float(np.sum(weights * (points > top)))
    elements = sketch.nonzero + sketch.zeros
    return LuqExpectation(
        nmse=float((spread / samples + squares) / np.sum(weights * points**2)),
        sparsity=float(empirical_sparsity(sketch, alpha)),
        clipped=past / elements,
        bias=float(np.sum(weights * shift) / np.sum(weights * points)),
        alpha=alpha,
    )
