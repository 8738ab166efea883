"""The executable specification: exact rational arithmetic, readable, slow; the definition of right.

Imports format and rounding. Nothing here is used to compute; the kernels are judged by it.

A real number is a `fractions.Fraction`. What rationals lack are the floats ``-0.0``, ``inf``,
``-inf`` and ``nan``. Every operation computes its exact result and ends in `project`.
"""

from __future__ import annotations

import builtins
import math
import operator
from fractions import Fraction
from typing import Any

from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.rounding import (
    Flag,
    Overflow,
    Rounding,
    Stochastic,
    parse_overflow,
    parse_rounding,
)

Real = Fraction | float


def exact(x: Any) -> Real:
    """`x` (int, float, Fraction, NumPy scalar) as a Fraction, or as one of the special floats.

    Raises TypeError for what is no real number.
    """
    if isinstance(x, Fraction):
        return x
    try:
        return Fraction(operator.index(x))
    except TypeError:
        pass
    if not hasattr(x, "__float__"):
        raise TypeError(f"x={x!r} is no real number; give an int, a float or a Fraction")
    value = float(x)
    if math.isnan(value) or math.isinf(value) or (x == 0 and math.copysign(1, value) < 0):
        return value
    # A wider number than a float says itself what it is.
    return Fraction(*x.as_integer_ratio()) if hasattr(x, "as_integer_ratio") else Fraction(value)


def decode(code: int, fmt: Any) -> Real:
    """The exact value of a code: a Fraction, ``-0.0``, ``inf``, ``-inf`` or ``nan``.

    Works for every format, also where the values leave binary64.

    Examples
    --------
    >>> from fpsim import spec
    >>> spec.decode(0x7E, "float8_e4m3fn"), spec.decode(0x80, "float8_e4m3fn")
    (Fraction(448, 1), -0.0)
    """
    fmt, code = parse(fmt), operator.index(code)
    if not 0 <= code < 1 << fmt.bits:
        raise ValueError(f"code={code} is out of range; {fmt} has codes 0 to {(1 << fmt.bits) - 1}")
    negative, magnitude = divmod(code, 1 << fmt.magnitude_bits)
    if fmt.nans == "negative_zero" and code == 1 << fmt.magnitude_bits:
        return math.nan
    if fmt.nans == "all_ones" and magnitude == (1 << fmt.magnitude_bits) - 1:
        return math.nan
    if fmt.nans == "ieee" and magnitude >> fmt.mantissa_bits == (1 << fmt.exponent_bits) - 1:
        if magnitude & ((1 << fmt.mantissa_bits) - 1):
            return math.nan
        return -math.inf if negative else math.inf
    if fmt.infinities and fmt.nans != "ieee":
        highest = (1 << fmt.magnitude_bits) - 1
        if magnitude == highest - (1 if fmt.nans == "all_ones" else 0):
            return -math.inf if negative else math.inf
    value = value_at(magnitude, fmt)
    if negative and value == 0:  # a code of −0, or one of a subnormal that is read as zero
        return -0.0 if fmt.has_negative_zero else value
    return -value if negative else value


def value_at(index: int, fmt: Format) -> Fraction:
    """The magnitude at place `index` in the order of codes, were there no end to the exponents."""
    exponent, mantissa = divmod(index, 1 << fmt.mantissa_bits)
    fraction = Fraction(mantissa, 1 << fmt.mantissa_bits)
    if exponent == 0 and fmt.zero:
        return fraction * Fraction(2) ** (1 - fmt.bias) if fmt.subnormals else Fraction(0)
    return (1 + fraction) * Fraction(2) ** (exponent - fmt.bias)


def floor_log2(x: Fraction) -> int:
    """The exponent e with ``2**e <= x < 2**(e+1)``."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def neighbours(x: Fraction, fmt: Format) -> tuple[int, int]:
    """Places of the nearest magnitudes at or below, and above, ``x > 0`` (no end to the exponents).

    Without a zero there may be none below: then both are the first.
    """
    lowest_normal = (1 << fmt.mantissa_bits) if fmt.zero else 0
    if x < Fraction(2) ** fmt.emin:
        if not fmt.zero:
            return 0, 0
        if not fmt.subnormals:
            return 0, lowest_normal
        below = math.floor(x / Fraction(2) ** fmt.quantum_exponent)
        return below, below + 1
    e = floor_log2(x)
    steps = math.floor((x / Fraction(2) ** e - 1) * (1 << fmt.mantissa_bits))
    below = lowest_normal + ((e - fmt.emin) << fmt.mantissa_bits) + steps
    return below, below + 1


def goes_up(
    fraction: Fraction,
    negative: bool,
    below_is_odd: bool,
    rounding: Rounding | Stochastic,
    random_bits: int,
) -> bool:
    """Whether a magnitude that lies `fraction` (0 < fraction < 1) up a gap takes the upper end."""
    half = Fraction(1, 2)
    if isinstance(rounding, Stochastic):
        n = 64 if rounding.bits is None else rounding.bits
        whole = 1 << n
        if rounding.variant == "A":
            return math.floor(fraction * whole) + random_bits >= whole
        if rounding.variant == "B":
            return math.floor(fraction * 2 * whole) + 2 * random_bits + 1 >= 2 * whole
        # Python rounds a Fraction's ties to even.
        return builtins.round(fraction * whole) + random_bits >= whole
    match rounding:
        case Rounding.ties_to_even:
            return fraction > half or (fraction == half and below_is_odd)
        case Rounding.ties_to_away:
            return fraction >= half
        case Rounding.ties_to_zero:
            return fraction > half
        case Rounding.toward_zero:
            return False
        case Rounding.toward_positive:
            return not negative
        case Rounding.toward_negative:
            return negative
        case Rounding.away_from_zero:
            return True
        case Rounding.to_odd:
            return not below_is_odd


def project(
    x: Any,
    fmt: Any,
    rounding: Any = "ties_to_even",
    overflow: Any = "nan",
    random_bits: int = 0,
    tininess: str = "after",
) -> tuple[int, Flag]:
    """Round a real number once into a format.

    Parameters
    ----------
    x : int, float or Fraction
        A value that carries a sign: ``-0.0``, ``inf`` and ``nan`` included.
    fmt : Format, name or dtype
    rounding : Rounding, Stochastic or name
    overflow : Overflow or name
    random_bits : int
        R of `Stochastic`.
    tininess : {'after', 'before'}
        When underflow looks at the result.

    Returns
    -------
    code : int
    flags : Flag

    Raises
    ------
    ValueError
        For NaN where the format has none.

    Examples
    --------
    >>> from fpsim import spec
    >>> code, flags = spec.project(-400.00000000000006, "float8_e4m3fn")
    >>> spec.decode(code, "float8_e4m3fn"), flags
    (Fraction(-416, 1), <Flag.inexact: 1>)
    """
    fmt, rounding, overflow = parse(fmt), parse_rounding(rounding), parse_overflow(overflow)
    if tininess not in ("after", "before"):
        raise ValueError(f"tininess={tininess!r} is not one of 'after', 'before'")
    random_bits = _validated_random_bits(random_bits, rounding)
    x = exact(x)
    if isinstance(x, float) and math.isnan(x):
        return _nan(fmt), Flag(0)
    negative = x < 0 or (isinstance(x, float) and math.copysign(1, x) < 0)
    sign = 1 << fmt.magnitude_bits if negative and fmt.signed else 0

    if isinstance(x, float) and math.isinf(x):
        if negative and not fmt.signed:
            return _outside(fmt, overflow), Flag.invalid
        if fmt.infinity_code is not None and overflow is not Overflow.saturate_infinities:
            return fmt.infinity_code | sign, Flag(0)
        if overflow is Overflow.nan and fmt.nan_code is not None:
            return fmt.nan_code, Flag.invalid
        return fmt.max_code | sign, Flag.overflow | Flag.inexact

    magnitude = abs(Fraction(x))
    if magnitude == 0:
        if not fmt.zero:
            return _outside(fmt, overflow), Flag.invalid
        return (sign if fmt.has_negative_zero else 0), Flag(0)
    if not fmt.zero and negative and not fmt.signed:
        return _outside(fmt, overflow), Flag.invalid

    index = _round_magnitude(magnitude, negative, fmt, rounding, random_bits)
    inexact = value_at(index, fmt) != magnitude
    flags = Flag.inexact if inexact else Flag(0)
    if negative and not fmt.signed:
        if value_at(index, fmt) != 0:
            return _outside(fmt, overflow), Flag.invalid
        return 0, flags | _underflow(magnitude, negative, fmt, rounding, random_bits, tininess)
    if index > fmt.max_code:
        code = _past_range(fmt, negative, rounding, overflow)
        code = code if code == fmt.nan_code else code | sign
        return code, Flag.overflow | Flag.inexact
    if inexact:
        flags |= _underflow(magnitude, negative, fmt, rounding, random_bits, tininess)
    if value_at(index, fmt) == 0 and not fmt.has_negative_zero:
        sign = 0
    return index | sign, flags


def round(
    x: Any,
    fmt: Any,
    rounding: Any = "ties_to_even",
    overflow: Any = "nan",
    random_bits: int = 0,
) -> Real:
    """The exact value of `project`'s code.

    Examples
    --------
    >>> from fpsim import spec
    >>> spec.round(0.3, "float4_e2m1fn")
    Fraction(1, 2)
    """
    fmt = parse(fmt)
    return decode(project(x, fmt, rounding, overflow, random_bits)[0], fmt)


def _round_magnitude(
    magnitude: Fraction,
    negative: bool,
    fmt: Format,
    rounding: Rounding | Stochastic,
    random_bits: int,
) -> int:
    below, above = neighbours(magnitude, fmt)
    low, high = value_at(below, fmt), value_at(above, fmt)
    if low == magnitude or below == above:
        return below
    fraction = (magnitude - low) / (high - low)
    up = goes_up(fraction, negative, below % 2 == 1, rounding, random_bits)
    return above if up else below


def _underflow(
    magnitude: Fraction,
    negative: bool,
    fmt: Format,
    rounding: Rounding | Stochastic,
    random_bits: int,
    tininess: str,
) -> Flag:
    """Underflow of an inexact result: tiny before rounding, or once rounded to full precision."""
    smallest_normal = Fraction(2) ** fmt.emin
    if tininess == "before":
        return Flag.underflow if magnitude < smallest_normal else Flag(0)
    if magnitude >= smallest_normal:
        return Flag(0)
    # The same precision with no end to the exponents: as if emin lay just below the value.
    e = floor_log2(magnitude)
    step = Fraction(2) ** (e - fmt.mantissa_bits)
    steps = math.floor(magnitude / step)
    fraction = magnitude / step - steps
    # The order of codes continues downwards, so parity does too: binades of 2**mantissa_bits.
    place = steps + ((e - fmt.emin - (not fmt.zero)) << fmt.mantissa_bits)
    if fraction and goes_up(fraction, negative, place % 2 == 1, rounding, random_bits):
        steps += 1
    return Flag.underflow if steps * step < smallest_normal else Flag(0)


def _validated_random_bits(random_bits: Any, rounding: Rounding | Stochastic) -> int:
    bits = operator.index(random_bits)
    if isinstance(rounding, Stochastic):
        n = 64 if rounding.bits is None else rounding.bits
        if not 0 <= bits < 1 << n:
            raise ValueError(f"random_bits={bits} is out of range; allowed is 0 to 2**{n}-1")
    return bits


def _past_range(
    fmt: Format, negative: bool, rounding: Rounding | Stochastic, overflow: Overflow
) -> int:
    """The magnitude code (or NaN's code) of a finite value past the range."""
    points_back = (
        rounding is Rounding.toward_zero
        or (rounding is Rounding.toward_positive and negative)
        or (rounding is Rounding.toward_negative and not negative)
        or (rounding is Rounding.to_odd and fmt.max_code % 2 == 1)
    )
    if overflow.saturates or points_back:
        return fmt.max_code
    if fmt.infinity_code is not None:
        return fmt.infinity_code
    if overflow is Overflow.nan and fmt.nan_code is not None:
        return fmt.nan_code
    return fmt.max_code


def _outside(fmt: Format, overflow: Overflow) -> int:
    """The code of a value below an unsigned format, or of a zero that the format lacks."""
    if not overflow.saturates and fmt.nan_code is not None:
        return fmt.nan_code
    return 0


def _nan(fmt: Format) -> int:
    if fmt.nan_code is None:
        raise ValueError(f"x=nan, but {fmt} has no NaN; replace it first, or choose another format")
    return fmt.nan_code
