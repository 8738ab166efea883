"""codes, values, arrays: what a format holds. Imports arguments, catalog, format, spec, array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import SearchStrategy

from fpsim import spec
from fpsim.arguments import boolean, integer, shown
from fpsim.array import FloatArray
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.strategies.calls import one_flag, one_format, shown_as_called
from fpsim.strategies.parameters import in_binary64

_T = TypeVar("_T")
_SIMPLE = range(17)  # the values that others shrink toward
_LONGEST = 1 << 30  # side of an array
_FINITE = 6  # times as often as infinities, and as NaN

# Magnitudes, which are codes without their sign -------------------------------------------------


def first_magnitude(fmt: Format) -> int:
    """The smallest nonzero one."""
    if not fmt.zero:
        return 0
    return 1 if fmt.subnormals else 1 << fmt.mantissa_bits


def next_magnitude(magnitude: int, fmt: Format) -> int:
    """The next larger one, were there no end to the exponents."""
    return max(magnitude + 1, first_magnitude(fmt))


@lru_cache(maxsize=1024)
def magnitudes(fmt: Format, low: int, high: int, first: int) -> SearchStrategy[int]:
    """Magnitudes of values from low to high, of which nonzero ones start at first.

    Small integers come first, then all; those at the edge of something come more often.
    """

    def settled(code: int) -> int:
        return min(max(code if code == 0 and fmt.zero else max(code, first), low), high)

    def beside_power(which: int) -> int:
        exponent, beside = divmod(which, 3)
        return settled((exponent << fmt.mantissa_bits) + (0, 1, -1)[beside])

    simple = [code for code in _small_integers(fmt) if code == settled(code)]
    normal = int(fmt.zero) << fmt.mantissa_bits
    one = fmt.bias << fmt.mantissa_bits
    edges = {low, low + 1, high - 1, high, first, first + 1}
    edges |= {middle + beside for middle in (normal, one) for beside in (-1, 0, 1)}
    lowest, highest = low >> fmt.mantissa_bits, high >> fmt.mantissa_bits
    several = [
        st.sampled_from(simple or [low]),
        st.integers(low, high).map(settled),
        st.sampled_from(sorted({settled(code) for code in edges})),
        st.integers(3 * lowest, 3 * highest + 2).map(beside_power),
    ]
    if first < normal and fmt.mantissa_bits:
        several.append(st.integers(0, fmt.mantissa_bits - 1).map(lambda bit: settled(1 << bit)))
    return st.one_of(several)


def _small_integers(fmt: Format) -> list[int]:
    codes = (spec.project(n, fmt, overflow="saturate")[0] for n in _SIMPLE)
    return [code for n, code in zip(_SIMPLE, codes, strict=True) if spec.decode(code, fmt) == n]


def _between(fmt: Format, low: spec.Real, high: spec.Real, first: int) -> tuple[int, int] | None:
    """The smallest and the largest magnitude whose values are from low to high, if any are."""
    start, stop = 0, fmt.max_code
    if low > fmt.max:
        return None
    if low > 0:
        start, above = spec.neighbours(Fraction(low), fmt)
        start = max(start if spec.value_at(start, fmt) >= low else above, first)
    if high < fmt.max:
        if high < 0 or (high == 0 and not fmt.zero):
            return None
        stop = spec.neighbours(Fraction(high), fmt)[0] if high else 0
        if spec.value_at(stop, fmt) > high:
            return None
    if fmt.zero and stop < first:
        stop = 0
    return (start, stop) if start <= stop else None


# Codes and values -------------------------------------------------------------------------------


@st.composite
def _either_sign(
    draw: st.DrawFn, positive: SearchStrategy[int] | None, negative: SearchStrategy[int] | None
) -> int:
    """An example of one of them, of which there is at least one."""
    several = [strategy for strategy in (positive, negative) if strategy is not None]
    return draw(draw(st.sampled_from(several)))


def _specials(
    fmt: Format, allow_nan: bool | None, allow_infinity: bool | None
) -> tuple[list[int], SearchStrategy[int] | None]:
    """The codes of infinities, the positive one first, and those of NaN."""
    if one_flag("allow_nan", allow_nan) and fmt.nan_code is None:
        raise ValueError(f"allow_nan=True, but {fmt} has no NaN; leave it out")
    if one_flag("allow_infinity", allow_infinity) and not fmt.infinities:
        raise ValueError(f"allow_infinity=True, but {fmt} has no infinity; leave it out")
    sign = 1 << fmt.magnitude_bits
    infinities: list[int] = []
    if fmt.infinity_code is not None and allow_infinity is not False:
        infinities = [fmt.infinity_code, fmt.infinity_code | sign][: 1 + fmt.signed]
    if fmt.nan_code is None or allow_nan is False:
        return infinities, None
    nans = st.just(fmt.nan_code)
    if fmt.nans != "negative_zero":
        nans |= st.integers(fmt.max_code + fmt.infinities + 1, sign - 1)
        if fmt.signed:
            nans = st.builds(int.__or__, st.sampled_from((0, sign)), nans)
    return infinities, nans


def _with_specials(
    finite: SearchStrategy[int] | None, infinities: list[int], nans: SearchStrategy[int] | None
) -> SearchStrategy[int]:
    several = [] if finite is None else [finite] * _FINITE
    several += [longer(st.sampled_from(infinities))] if infinities else []
    several += [] if nans is None else [longer(nans)]
    return st.one_of(several)


def longer(strategy: SearchStrategy[_T], numbers: int = 1) -> SearchStrategy[_T]:
    """The same, by more draws than numbers take: to Hypothesis, fewer draws are simpler."""
    return st.tuples(strategy, *[st.booleans()] * (4 * numbers)).map(itemgetter(0))


@shown_as_called
def codes(
    fmt: Any, *, allow_nan: bool | None = None, allow_infinity: bool | None = None
) -> SearchStrategy[int]:
    """Codes of a format, as Python integers.

    Parameters
    ----------
    fmt : Format, str or dtype
    allow_nan, allow_infinity : bool, optional
        Whether codes of NaN, and of infinities, are drawn. None: where the format has them.

    Notes
    -----
    Every code can be drawn. Those of the smallest and the largest numbers, of powers of two and
    their neighbours, of subnormals and of specials come more often than by chance. Examples shrink
    toward numbers without a sign, and toward small codes.

    Examples
    --------
    >>> from hypothesis import find
    >>> import fpsim
    >>> from fpsim.strategies import codes
    >>> find(codes("float8_e4m3fn"), lambda code: fpsim.decode(code, "float8_e4m3fn") > 1)
    57
    """
    chosen = one_format("fmt", fmt)
    infinities, nans = _specials(chosen, allow_nan, allow_infinity)
    sign = 1 << chosen.magnitude_bits
    often = magnitudes(chosen, 0, chosen.max_code, first_magnitude(chosen))
    positive = st.integers(0, chosen.max_code) | often
    negative = None
    if chosen.signed:
        # The sign alone may be the code of NaN.
        lowest = int(chosen.nans == "negative_zero")
        negative = st.one_of(
            st.integers(lowest, chosen.max_code), often.map(lambda code: max(code, lowest))
        ).map(sign.__or__)
    return _with_specials(_either_sign(positive, negative), infinities, nans)


@shown_as_called
def values(
    fmt: Any,
    *,
    min_value: Any = None,
    max_value: Any = None,
    allow_nan: bool | None = None,
    allow_infinity: bool | None = None,
    allow_subnormal: bool = True,
) -> SearchStrategy[float | Fraction]:
    """Values of a format, in Python's floats.

    Parameters
    ----------
    fmt : Format, str or dtype
    min_value, max_value : float, int or Fraction, optional
        The least and the largest value; they need not be values of the format. As for
        `hypothesis.strategies.floats`, a `min_value` of 0.0 leaves −0.0 out.
    allow_nan, allow_infinity : bool, optional
        None: where the format has them; infinities where the bounds let them, and NaN where there
        is no bound.
    allow_subnormal : bool

    Returns
    -------
    strategy of float
        Of Fraction, but for −0.0, infinities and NaN, where the values of the format leave
        binary64.

    Notes
    -----
    The smallest and the largest values, powers of two and their neighbours, subnormals and
    specials come more often than by chance. Examples shrink toward positive ones, toward 0, 1, 2, …
    16 in this order, and then toward those of small codes.

    Examples
    --------
    >>> from hypothesis import find
    >>> from fpsim.strategies import values
    >>> find(values("float8_e4m3fn"), lambda x: x > 1)
    2.0
    >>> find(values("float8_e4m3fn", max_value=-100), lambda x: True)
    -104.0
    """
    chosen = one_format("fmt", fmt)
    low, high = _bound("min_value", min_value, -math.inf), _bound("max_value", max_value, math.inf)
    if low > high:
        raise ValueError(
            f"min_value={shown(min_value)} is above max_value={shown(max_value)}; swap them"
        )
    infinities, nans = _specials(chosen, allow_nan, allow_infinity)
    infinities = [code for code in infinities if low <= spec.decode(code, chosen) <= high]
    if allow_nan is None and (low, high) != (-math.inf, math.inf):
        nans = None
    first = first_magnitude(chosen)
    if not boolean("allow_subnormal", allow_subnormal) and chosen.zero:
        first = 1 << chosen.mantissa_bits
    # Of the zeros among the bounds, only −0.0 is a float.
    plus_zero = low <= 0 and (high > 0 or isinstance(high, Fraction))
    minus_zero = high >= 0 and (low < 0 or isinstance(low, float)) and chosen.has_negative_zero
    positive = _on_one_side(chosen, low, high, first, plus_zero)
    negative = _on_one_side(chosen, -high, -low, first, minus_zero) if chosen.signed else None
    if negative is not None:
        negative = negative.map((1 << chosen.magnitude_bits).__or__)
    finite = None if positive is negative is None else _either_sign(positive, negative)
    if finite is None and not infinities and nans is None:
        raise ValueError(
            f"no value of {chosen} lies from {shown(min_value)} to {shown(max_value)}; its finite "
            f"magnitudes are from {chosen.smallest} to {chosen.max}"
        )
    return _with_specials(finite, infinities, nans).map(partial(number, chosen))


def _bound(name: str, value: Any, default: float) -> spec.Real:
    if value is None:
        return default
    try:
        bound = spec.exact(value)
    except TypeError:
        raise TypeError(f"{name}={shown(value)} is not a real number; give one, or None") from None
    if bound != bound:
        raise ValueError(f"{name}=nan bounds nothing; give a number, or None")
    return bound


def _on_one_side(
    fmt: Format, low: spec.Real, high: spec.Real, first: int, zero: bool
) -> SearchStrategy[int] | None:
    """Magnitudes whose values are from low to high; 0 among them if `zero`."""
    span = _between(fmt, low, high, first)
    if span is None:
        return None
    start, stop = span
    start = start if zero or not fmt.zero else max(start, first)
    return magnitudes(fmt, start, stop, first) if start <= stop else None


def number(fmt: Format, code: int) -> float | Fraction:
    """The value of a code, as a float where binary64 holds the format."""
    value = spec.decode(code, fmt)
    return float(value) if in_binary64(fmt) else value


# Arrays -----------------------------------------------------------------------------------------


@shown_as_called
def arrays(
    fmt: Any,
    shape: int | Sequence[int] | SearchStrategy[Any],
    *,
    dtype: Any = None,
    elements: SearchStrategy[Any] | None = None,
    fill: SearchStrategy[Any] | None = None,
    unique: bool = False,
) -> SearchStrategy[Any]:
    """Arrays of numbers of a format.

    Parameters
    ----------
    fmt : Format, str, dtype or strategy of Format
    shape : int, tuple of int or strategy of them
    dtype : NumPy dtype, optional
        None: a `fpsim.FloatArray`. float16, float32 or float64, which has to hold every value: an
        array of values.
    elements : strategy, optional
        Of codes for a `fpsim.FloatArray`, by default `codes`; of values for an array of a dtype, by
        default `values`.
    fill : strategy, optional
        What the rest of an array is filled with after some elements are drawn, as of
        `hypothesis.extra.numpy.arrays`; by default code 0.
        ``hypothesis.strategies.nothing()`` draws every element by itself.
    unique : bool
        Whether all elements are to differ.

    Examples
    --------
    >>> from hypothesis import find
    >>> from fpsim.strategies import arrays
    >>> find(arrays("float4_e2m1fn", 3), lambda x: (x.codes == 3).any())
    array([1.5, 0. , 0. ], fmt='float4_e2m1fn')
    """
    boolean("unique", unique)
    target = None if dtype is None else _float_dtype(dtype)
    for name, strategy in (("elements", elements), ("fill", fill)):
        if strategy is not None and not isinstance(strategy, SearchStrategy):
            raise TypeError(f"{name}={shown(strategy)} is not a strategy; give one, or None")
    if not isinstance(shape, SearchStrategy):
        sides = shape if isinstance(shape, Sequence) else [shape]
        shape = tuple(integer("shape", side, 0, _LONGEST) for side in sides)

    def of(fmt: Format) -> SearchStrategy[Any]:
        if target is not None and not parse(target).contains(fmt):
            raise ValueError(
                f"dtype={target} cannot hold every value of {fmt}; leave dtype out, or give float64"
            )
        some: SearchStrategy[Any] = codes(fmt) if target is None else values(fmt)
        rest = fill
        if elements is None and fill is None and not unique:
            rest = st.just(0 if target is None else number(fmt, 0))
        made = hnp.arrays(
            fmt.code_dtype if target is None else target,
            shape,
            elements=some if elements is None else elements,
            fill=rest,
            unique=unique,
        )
        return st.builds(FloatArray, made, st.just(fmt)) if target is None else made

    if isinstance(fmt, SearchStrategy):
        return fmt.flatmap(of)
    return of(one_format("fmt", fmt))


def _float_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        target: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype={shown(dtype)} is no dtype; give float32 or float64") from None
    if target.kind != "f" or target.itemsize > 8:
        raise TypeError(f"dtype={target} is not float16, float32 or float64; give one of them")
    return target
