"""codes, values, arrays: what a format holds. Imports arguments, catalog, format, spec, array."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import SearchStrategy

from fpsim import spec
from fpsim.arguments import boolean, integer, shown
from fpsim.array import FloatArray
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.strategies.calls import one_flag, one_format, pick, shown_as_called
from fpsim.strategies.kinds import in_binary64

_SIMPLE = range(17)  # the values that others shrink toward
_LONGEST = 1 << 30  # side of an array

# Magnitudes, which are codes without their sign -------------------------------------------------


def first_magnitude(fmt: Format) -> int:
    """The smallest nonzero one."""
    if not fmt.zero:
        return 0
    return 1 if fmt.subnormals else 1 << fmt.mantissa_bits


def next_magnitude(magnitude: int, fmt: Format) -> int:
    """The next larger one, were there no end to the exponents."""
    return max(magnitude + 1, first_magnitude(fmt))


@dataclass(frozen=True)
class Codes:
    """Codes by number, from the simplest on."""

    count: int
    at: Callable[[int], int]
    weight: int = 1  # how often, beside others


@st.composite
def one_of_codes(draw: st.DrawFn, several: Sequence[Codes]) -> int:
    """A code: two draws for every one, so that Hypothesis tells simple ones by these alone."""
    some = pick(draw, [some for some in several for _ in range(some.weight)])
    return some.at(draw(st.integers(0, max(some.count - 1, 1))) % some.count)


def _listed(codes: Sequence[int], weight: int = 1) -> Codes:
    return Codes(len(codes), codes.__getitem__, weight)


@lru_cache(maxsize=1024)
def magnitudes(fmt: Format, low: int, high: int, first: int) -> tuple[Codes, ...]:
    """Magnitudes of values from low to high, of which nonzero ones start at first.

    Small integers come first, then all; those at the edge of something come more often.
    """

    def settled(code: int) -> int:
        return min(max(code if code == 0 and fmt.zero else max(code, first), low), high)

    def beside_power(which: int) -> int:
        exponent, beside = divmod(which, 3)
        return settled((exponent + lowest << fmt.mantissa_bits) + (0, 1, -1)[beside])

    simple = [code for code in _small_integers(fmt) if code == settled(code)]
    normal = int(fmt.zero) << fmt.mantissa_bits
    one = fmt.bias << fmt.mantissa_bits
    edges = {low, low + 1, high - 1, high, first, first + 1}
    edges |= {middle + beside for middle in (normal, one) for beside in (-1, 0, 1)}
    lowest, highest = low >> fmt.mantissa_bits, high >> fmt.mantissa_bits
    several = [
        _listed(simple or [low], weight=2),
        Codes(high - low + 1, lambda which: settled(low + which), weight=3),
        _listed(sorted({settled(code) for code in edges}), weight=2),
        Codes(3 * (highest - lowest + 1), beside_power),
    ]
    if first < normal and fmt.mantissa_bits:
        several.append(Codes(fmt.mantissa_bits, lambda bit: settled(1 << bit)))
    return tuple(several)


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
def _signed(
    draw: st.DrawFn, fmt: Format, positive: Sequence[Codes], negative: Sequence[Codes]
) -> int:
    """A code from one of two lists, of which one may be empty; those of the second get a sign."""
    sides = [(0, positive), (1 << fmt.magnitude_bits, negative)]
    sign, several = pick(draw, [side for side in sides if side[1]])
    return sign | draw(one_of_codes(several))


def _specials(
    fmt: Format, allow_nan: bool | None, allow_infinity: bool | None
) -> tuple[list[Codes], list[Codes]]:
    """The code of infinity, without a sign, and those of NaN, if there are any."""
    if one_flag("allow_nan", allow_nan) and fmt.nan_code is None:
        raise ValueError(f"allow_nan=True, but {fmt} has no NaN; leave it out")
    if one_flag("allow_infinity", allow_infinity) and not fmt.infinities:
        raise ValueError(f"allow_infinity=True, but {fmt} has no infinity; leave it out")
    infinities, nans = [], []
    if fmt.infinity_code is not None and allow_infinity is not False:
        infinities = [_listed([fmt.infinity_code])]
    if fmt.nan_code is not None and allow_nan is not False:
        written, first = fmt.nan_code, fmt.max_code + fmt.infinities + 1
        nans = [_listed([written])]
        if fmt.nans != "negative_zero":
            others = (1 << fmt.magnitude_bits) - first
            nans = [Codes(1 + others, lambda which: first + which - 1 if which else written)]
    return infinities, nans


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
    often = magnitudes(chosen, 0, chosen.max_code, first_magnitude(chosen))
    positive = [Codes(chosen.max_code + 1, int, weight=3), *often, *infinities, *nans]
    negative: list[Codes] = []
    if chosen.signed and chosen.nans == "negative_zero":  # whose code is the sign alone
        often = magnitudes(chosen, 1, chosen.max_code, max(first_magnitude(chosen), 1))
        negative = [Codes(chosen.max_code, lambda which: which + 1, 3), *often, *infinities]
    elif chosen.signed:
        negative = positive
    return _signed(chosen, positive, negative)


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
    if allow_nan is None and (low, high) != (-math.inf, math.inf):
        nans = []
    first = first_magnitude(chosen)
    if not boolean("allow_subnormal", allow_subnormal) and chosen.zero:
        first = 1 << chosen.mantissa_bits
    # Of the zeros among the bounds, only −0.0 is a float.
    plus_zero = low <= 0 and (high > 0 or isinstance(high, Fraction))
    minus_zero = high >= 0 and (low < 0 or isinstance(low, float)) and chosen.has_negative_zero
    positive = _on_one_side(chosen, low, high, first, plus_zero, infinities)
    negative: list[Codes] = []
    if chosen.signed:
        negative = _on_one_side(chosen, -high, -low, first, minus_zero, infinities)
    if allow_infinity and math.inf not in (high, -low if chosen.signed else 0):
        raise ValueError("allow_infinity=True, but min_value and max_value leave none; widen them")
    if not positive + negative + nans:
        raise ValueError(
            f"no value of {chosen} lies from {shown(min_value)} to {shown(max_value)}; its finite "
            f"magnitudes are from {chosen.smallest} to {chosen.max}"
        )
    if nans:
        positive.append(_listed([chosen.nan_code or 0]))
    return _signed(chosen, positive, negative).map(partial(number, chosen))


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
    fmt: Format,
    low: spec.Real,
    high: spec.Real,
    first: int,
    zero: bool,
    infinities: list[Codes],
) -> list[Codes]:
    """Magnitudes whose values are from low to high; 0 among them if `zero`."""
    found: list[Codes] = []
    if (span := _between(fmt, low, high, first)) is not None:
        start, stop = span
        start = start if zero or not fmt.zero else max(start, first)
        found += magnitudes(fmt, start, stop, first) if start <= stop else ()
    return found + (infinities if high == math.inf else [])


def number(fmt: Format, code: int) -> float | Fraction:
    """The value of a code, as a float where binary64 holds the format."""
    value = spec.decode(code, fmt)
    return float(value) if in_binary64(fmt) else value


def extremes(
    fmt: Format, allow_nan: bool | None, allow_infinity: bool | None
) -> SearchStrategy[float | Fraction]:
    """Zeros, the smallest and the largest magnitude, and specials."""
    infinities, nans = _specials(fmt, allow_nan, allow_infinity)
    ends = [_listed([first_magnitude(fmt), fmt.max_code]), *infinities]
    negative = [*ends, _listed([0])] if fmt.has_negative_zero else ends
    positive = [_listed([0]), *ends, *nans]
    return _signed(fmt, positive, negative if fmt.signed else []).map(partial(number, fmt))


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
