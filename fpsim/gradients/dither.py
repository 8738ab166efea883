"""Dithered backprop: gradients rounded at random to multiples of a step.

Imports arguments, inputs, cast, format, stream, threads, kernels, analysis.dither,
nonfinite, dask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim import kernels
from fpsim.analysis.dither import step_or_scale
from fpsim.arguments import boolean, choice, integer
from fpsim.cast import round as round_to
from fpsim.format import Format
from fpsim.gradients.nonfinite import NonFinite, extremes, rule_for_codes, settle
from fpsim.inputs import F32, F64, chunks, is_dask, real_array, signed_format
from fpsim.kernels import dither as loops
from fpsim.kernels.statistics import integer_moments
from fpsim.stream import Stream
from fpsim.threads import over_chunks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_I32 = np.dtype(np.int32)
_I64 = np.dtype(np.int64)
_UNITS = 31  # bits to which elements are taken for the standard deviation, below the largest


@dataclass(frozen=True)
class Dithered:
    """What `dither` made of an array.

    Attributes
    ----------
    values : array or None
        The multiples of the step in x's dtype (None from `dither_encode`: see `decode`).
    codes : array or None
        The multiples as integers (from `dither_encode`).
    step : float
        A number of x's dtype; 0 where the standard deviation was, and x stays as it is.
    sparsity : float
        Share of zeros in the result; NaN for an empty array. NaN and infinities that propagate
        are left out.
    nonfinite : int
        NaN and infinities in x.
    """

    values: Any
    codes: Any
    step: float
    sparsity: float
    nonfinite: int

    def decode(self, dtype: Any = np.float64) -> Any:
        """The values of `codes`: each times the step, rounded to the dtype."""
        if self.codes is None:
            raise ValueError("codes=None: there is nothing to decode; use fpsim.dither_encode")
        return np.multiply(self.codes, self.step, dtype=np.float64).astype(dtype)[()]


def dither(
    x: ArrayLike,
    step: float | None = None,
    rng: Any = None,
    *,
    scale: float | None = None,
    nonfinite: NonFinite | str = "raise",
    full: bool = False,
) -> Any:
    """Round to one of the two neighbouring multiples of a step, without bias.

    Between the multiples l and h, x becomes h with probability ``(x - l) / (h - l)``, else l:
    non-subtractive dither, which is stochastic rounding to a grid. The variance is
    ``(x - l)(h - x)``, at most a quarter of the step squared (Wiedemann et al., *Dithered
    backprop*, arXiv 2004.04729).

    Parameters
    ----------
    x : array_like
        Real numbers of any shape, as `fpsim.round` takes them.
    step : float, optional
        Positive. It is rounded to a number of x's dtype.
    rng : int, Generator, Stream or None
        Element i uses word ``offset + i`` of the `Stream`.
    scale : float, optional
        Instead of a step: it is this many standard deviations of x, zeros included (with elements
        taken to 31 bits below the largest). Where all of x is one number they are 0, and x stays
        as it is.
    nonfinite : {'raise', 'propagate', 'skip'}
        See `NonFinite`.
    full : bool
        Return a `Dithered`, which has the step and counts, and not its values alone.

    Returns
    -------
    array of x's shape and dtype (float64 for integers and lists), or Dithered
        Zeros are positive.

    Notes
    -----
    A multiple that is no number of x's dtype is rounded to one, and the probability is that of
    the rounded neighbours: the mean is x to 2**-64 of their distance, whatever the step. Where
    the numbers of the dtype lie further apart than the step, that leaves x as it is, or next to
    it. With a step of few significant bits, such as a power of two, multiples are exact.

    Raises
    ------
    ValueError
        For NaN or infinity under ``nonfinite='raise'``, and where the multiple above the largest
        magnitude leaves the range of x's dtype.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.dither([0.3, -0.9, 5.1, 0.2], 0.5, rng=1)
    array([ 0. , -1. ,  5. ,  0.5])
    >>> result = fpsim.dither([3.0, -1.0, 0.0, 2.0], scale=0.5, rng=1, full=True)
    >>> round(result.step, 6), result.values / result.step
    (0.790569, array([ 3., -1.,  0.,  3.]))
    """
    rule = choice("nonfinite", nonfinite, NonFinite)
    full = boolean("full", full)
    given, relative = step_or_scale(step, scale)
    if is_dask(x):
        from fpsim.dask import map_chunks, refuse, tried

        refuse(full=full)
        stream = Stream.of(rng)
        tried(dither, x, stream, step=step, scale=scale, nonfinite=rule)
        if relative:
            given *= _deviation(x, *extremes(x, rule), rule)
        return map_chunks(_dither_by, x, stream, step=given, rule=rule)
    result = _dither(x, given, relative, rng, rule, None)
    return result if full else result.values


def dither_encode(
    x: ArrayLike,
    step: float | None = None,
    rng: Any = None,
    *,
    scale: float | None = None,
    bits: int = 8,
    nonfinite: NonFinite | str = "raise",
) -> Dithered:
    """Round as `dither` does, to integers: multiples of the step.

    The probability of the upper one is ``frac(|x| / step)``, so that the mean of the integers,
    times the step, is x. They are those of `dither`, where multiples are numbers of x's dtype.

    Parameters
    ----------
    x, step, rng, scale
        As for `dither`.
    bits : int
        2 to 32: how many, with the sign, the integers are to fit. They come in the smallest
        signed dtype that has them.
    nonfinite : {'raise', 'skip'}
        See `NonFinite`.

    Returns
    -------
    Dithered
        With `codes`, `step` and the counts.

    Raises
    ------
    ValueError
        Also where the multiple above the largest magnitude does not fit, whether it is drawn or
        not.

    Examples
    --------
    >>> import fpsim
    >>> result = fpsim.dither_encode([0.3, -0.9, 5.1, 0.2], 0.5, rng=1)
    >>> result.codes, result.decode()
    (array([ 0, -2, 10,  1], dtype=int8), array([ 0. , -1. ,  5. ,  0.5]))
    """
    remedy = "give how many bits the integers have with their sign, 2 to 32"
    bits = integer("bits", bits, 2, 32, remedy)
    rule = rule_for_codes(nonfinite)
    return _dither(x, *step_or_scale(step, scale), rng, rule, bits)


def _dither_by(x: ArrayLike, step: float, rule: NonFinite, rng: Any) -> Any:
    """By a step that may be 0."""
    return _dither(x, step, False, rng, rule, None).values


def _dither(
    x: ArrayLike,
    given: float,
    relative: bool,
    rng: Any,
    rule: NonFinite,
    bits: int | None,
) -> Dithered:
    array, own = real_array("x", x)
    fmt = signed_format("x", own)
    stream = Stream.of(rng, array.shape)
    largest, bad = extremes(array, rule)
    name = f"scale={given!r}: step" if relative else "step"
    if relative:
        given *= _deviation(array, largest, bad, rule)
    step = _rounded(given, own, name)
    if largest:
        _check_range(largest, step, own, name, bits)
    dtype = own
    if bits is not None:
        dtype = np.dtype(np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32)
    out = np.empty(array.shape, dtype)
    zeros = _run(array, out, step, fmt, rule if bad else None, stream)
    counted = array.size - (bad if rule is NonFinite.propagate else 0)
    return Dithered(
        values=out[()] if bits is None else None,
        codes=None if bits is None else out[()],
        step=step,
        sparsity=zeros / counted if counted else math.nan,
        nonfinite=bad,
    )


def _deviation(x: Any, largest: float, bad: int, rule: NonFinite) -> float:
    """The standard deviation (ddof 0) of an array with these extremes.

    Elements are taken as integers of `_UNITS` bits, so that the sums are exact and the same for
    any order, chunks and threads.
    """
    if not largest:
        return 0.0
    exponent = math.frexp(largest)[1]
    count = int(x.size) - (bad if rule is NonFinite.propagate else 0)
    total, low, high = _moments(x, exponent)
    variance = count * ((high << 32) + low) - total**2  # times count squared
    return float(
        Fraction(math.isqrt(variance << 128), count << 64) * Fraction(2) ** (exponent - _UNITS)
    )


def _moments(x: Any, exponent: int) -> tuple[int, ...]:
    """The sums of `integer_moments`, in units of ``2**(exponent - _UNITS)``."""
    if is_dask(x):
        from fpsim.dask import reduce_chunks

        return tuple(reduce_chunks(_moments, x, _sums, exponent=exponent))
    array, own = real_array("x", x)
    lanes = F64 if own == F64 else F32
    unit = 2.0 ** ((_UNITS - exponent) // 2)
    more = 2.0 ** (_UNITS - exponent - (_UNITS - exponent) // 2)
    kernel = kernels.compiled(integer_moments, lanes, _I64)
    parts: list[NDArray[Any]] = []

    def work(start: int, stop: int) -> None:
        for (values,), _ in chunks([(array, lanes)], start, stop):
            parts.append(np.zeros(3, np.int64))
            kernel(values, unit, more, parts[-1])

    over_chunks(array.size, work)
    return tuple(sum(int(part[k]) for part in parts) for k in range(3))


def _sums(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _rounded(step: float, own: np.dtype[Any], name: str) -> float:
    """The step as a number of the dtype, and not 0 unless it was."""
    fmt = signed_format("x", own)
    if step > float(fmt.max):
        raise ValueError(
            f"{name}={step:.6g} is past {float(fmt.max):.6g}, the largest number of x's dtype "
            f"{own}; give a smaller one, or convert x to a wider dtype first"
        )
    return max(float(round_to(step, fmt)), float(fmt.smallest)) if step else 0.0


def _check_range(
    largest: float, step: float, own: np.dtype[Any], name: str, bits: int | None
) -> None:
    """Raise ValueError where a multiple next to the largest magnitude has no place."""
    fmt = signed_format("x", own)
    if not step:
        if bits is None:
            return
        raise ValueError(
            f"{name}=0, for all elements of x are equal, and no multiple of it is x; give step=…"
        )
    multiple = math.ceil(Fraction(largest) / Fraction(step))
    if bits is not None and multiple >> (bits - 1):
        raise ValueError(
            f"{name}={step:.6g}: x has the magnitude {largest:.6g}, whose upper multiple "
            f"{multiple} does not fit {bits} bits with sign; give bits={multiple.bit_length() + 1} "
            "or more (32 at most), or a larger step"
        )
    if multiple * Fraction(step) >= Fraction(fmt.max) + Fraction(fmt.ulp(float(fmt.max))) / 2:
        raise ValueError(
            f"{name}={step:.6g}: x has the magnitude {largest:.6g}, whose upper multiple leaves "
            f"the range of x's dtype {own} (up to {float(fmt.max):.6g}); scale x, or convert it to "
            "a wider dtype first"
        )


def _run(
    array: NDArray[Any],
    out: NDArray[Any],
    step: float,
    fmt: Format,
    rule: NonFinite | None,
    stream: Stream,
) -> int:
    """Fill `out`; returns how many results are zero. There is a rule where x is not all finite."""
    lanes = F64 if fmt.precision > 24 else F32
    codes = out.dtype.kind == "i"
    written = _I32 if codes else lanes
    if not step:
        np.add(array, 0, out=out, casting="unsafe")  # no negative zero
        if rule:
            settle(array, out, rule)
        return int(out.size - np.count_nonzero(out))
    kernel = kernels.compiled(loops.dither_codes if codes else loops.dither_values, lanes, written)
    # What three roundings make of |x| / step, and what is left of the word: see the kernel.
    slack, floor = (2.0**-22, 2.0**-23) if lanes == F32 else (2.0**-51, 2.0**-31)
    # Neighbours that are rounded by half an ulp each move the probability by up to three.
    wide = slack if codes else slack + 2.0 ** (3 - fmt.precision)
    odd = Fraction(step).numerator
    odd >>= (odd & -odd).bit_length() - 1
    exact = 2.0 ** (fmt.precision - odd.bit_length())  # multiples up to here are numbers
    numbers = np.array([step, slack, floor, wide, exact], lanes)
    drop = np.uint64((24 if lanes == F32 else 53) - fmt.precision)
    key = np.uint64(stream.seed)
    found: list[int] = []

    def work(start: int, stop: int) -> None:
        operands = [(array, lanes), (out, written)]
        for (values, results), first in chunks(operands, start, stop, stretch=stream.stretch):
            index = stream.word_of(first)
            zeros = int(kernel(values, results, numbers, drop, key, index))
            if rule:
                settle(values, results, rule)
                zeros = int(results.size - np.count_nonzero(results))
            found.append(zeros)

    over_chunks(array.size, work)
    return sum(found)
