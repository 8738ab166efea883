"""The exact scalar path: one value at a time, in integers, for the rare cases and the flags."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit


class Scalar(NamedTuple):
    """Constants of the exact scalar path. Flags are 0 or 1."""

    emin: Any
    mantissa_bits: Any
    subnormals: Any
    zero: Any
    signed: Any
    max_code: Any
    mode: Any  # one of the numbers below
    random_bits: Any  # N; 64 for "every discarded bit"
    variant: Any  # one of the numbers below
    codes: Any  # results are codes, not values
    tiny_before: Any  # tininess is detected before rounding
    infinity_flags: Any  # flags of an infinite value


# Rounding modes of the scalar path.
TIES_TO_EVEN = 0
TIES_TO_AWAY = 1
TIES_TO_ZERO = 2
TOWARD_ZERO = 3
TOWARD_POSITIVE = 4
TOWARD_NEGATIVE = 5
AWAY_FROM_ZERO = 6
TO_ODD = 7
STOCHASTIC = 8

# Variants of stochastic rounding.
VARIANT_A = 0
VARIANT_B = 1
VARIANT_C = 2

INEXACT = 1
UNDERFLOW = 2
OVERFLOW = 4
INVALID = 16


@njit(forceinline=True)
def scalar_of(p):
    return Scalar(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11])


@njit
def bit_length(x):
    length = np.int64(0)
    for step in (32, 16, 8, 4, 2, 1):
        if x >> np.uint64(step):
            x >>= np.uint64(step)
            length += step
    return length + np.int64(x)


@njit
def normalised(high, low):
    """(high, low, places): the 128-bit integer, not 0, shifted left to have its top bit set."""
    if high == 0:
        places = np.uint64(64 - bit_length(low))
        return low << places, np.uint64(0), np.int64(64) + np.int64(places)
    places = np.uint64(64 - bit_length(high))
    if places == 0:
        return high, low, np.int64(0)
    spilled = low >> (np.uint64(64) - places)
    return (high << places) | spilled, low << places, np.int64(places)


@njit
def parts_of(magnitude, significand_bits, exponent_bias):
    """(significand, exponent of its last place) of a finite float's magnitude bits."""
    field = np.int64(magnitude >> np.uint64(significand_bits))
    leading = np.uint64(1) << np.uint64(significand_bits)
    significand = magnitude & (leading - np.uint64(1))
    if field == 0:
        return significand, np.int64(1) - exponent_bias - significand_bits
    return significand | leading, field - exponent_bias - significand_bits


@njit
def _split(high, low, distance):
    """(kept, fraction, lost) of a 128-bit integer / 2**distance, 64 < distance.

    `fraction` holds the first 64 discarded bits, `lost` whether any beyond them is set.
    """
    zero = np.uint64(0)
    if distance >= 192:
        return zero, zero, True
    if distance > 128:
        shift = np.uint64(distance - 128)
        fraction = high >> shift
        return zero, fraction, (fraction << shift) != high or low != zero
    if distance == 128:
        return zero, high, low != zero
    shift = np.uint64(distance - 64)
    rest = np.uint64(64) - shift
    return high >> shift, (high << rest) | (low >> shift), (low << rest) != zero


@njit
def _up_at_random(fraction, lost, c, word):
    """Stochastic rounding's decision on a fraction of 64 bits (see `Stochastic`)."""
    one = np.uint64(1)
    tail = np.uint64(64 - c.random_bits)
    if c.random_bits < 64:
        word = (word >> tail) << tail
        if c.variant == VARIANT_B:
            word |= one << (tail - one)
        elif c.variant == VARIANT_C:
            if lost:
                fraction |= one
            odd = (fraction >> tail) & one
            rounded = fraction + (one << (tail - one)) - one + odd
            if rounded < fraction:
                return True  # rounded up to 1
            fraction = (rounded >> tail) << tail
    return fraction > ~word


@njit
def _round_places(high, low, distance, lower_index_offset, negative, c, word):
    """Round a 128-bit integer / 2**distance to an integer: (integer, was it inexact)."""
    half = np.uint64(1 << 63)
    below, fraction, lost = _split(high, low, distance)
    if fraction == 0 and not lost:
        return below, False
    odd = ((below + lower_index_offset) & np.uint64(1)) != 0
    tie = fraction == half and not lost
    mode = c.mode
    if mode == TIES_TO_EVEN:
        up = fraction >= half and (odd or not tie)
    elif mode == TIES_TO_AWAY:
        up = fraction >= half
    elif mode == TIES_TO_ZERO:
        up = fraction >= half and not tie
    elif mode == TOWARD_ZERO:
        up = False
    elif mode == TOWARD_POSITIVE:
        up = not negative
    elif mode == TOWARD_NEGATIVE:
        up = negative
    elif mode == AWAY_FROM_ZERO:
        up = True
    elif mode == TO_ODD:
        up = not odd
    else:
        up = _up_at_random(fraction, lost, c, word)
    return below + np.uint64(up), True


@njit
def round_exact(high, low, exponent, negative, c, word):
    """Round (high * 2**64 + low) * 2**exponent, not 0: (place among the codes, inexact, tiny).

    Places go on past the largest finite value as if there were no end to the exponents. Bits
    beyond 128 may stand as a last bit that is set: formats keep 53, random words look at 64 more.
    """
    high, low, shifted = normalised(high, low)
    exponent -= shifted
    leading = np.uint64(1) << np.uint64(c.mantissa_bits)
    e = exponent + 127
    full = np.int64(127) - c.mantissa_bits  # discarded where every bit of the format counts
    if e >= c.emin:
        # Places of this binade start at `offset`, when the leading bit is counted too.
        offset = (np.uint64(e - c.emin + c.zero) << np.uint64(c.mantissa_bits)) - leading
        places, inexact = _round_places(high, low, full, offset, negative, c, word)
        return places + offset, inexact, False
    tiny = True
    if e == c.emin - 1 and c.tiny_before == 0:
        # Tiny unless rounding at full precision, with no end to the exponents, gets to 2**emin.
        offset = leading if c.zero else np.uint64(0)
        places, _ = _round_places(high, low, full, offset, negative, c, word)
        tiny = places < leading + leading
    if c.zero == 0:
        return np.uint64(0), True, tiny
    step = c.emin - c.mantissa_bits if c.subnormals else c.emin
    places, inexact = _round_places(high, low, step - exponent, np.uint64(0), negative, c, word)
    if not c.subnormals:
        places <<= np.uint64(c.mantissa_bits)
    return places, inexact, tiny


@njit
def value_at(place, c):
    """The value at a place in the order of codes."""
    one = np.uint64(1)
    field = np.int64(place >> np.uint64(c.mantissa_bits))
    mantissa = place & ((one << np.uint64(c.mantissa_bits)) - one)
    if field == 0 and c.zero:
        return math.ldexp(float(mantissa), c.emin - c.mantissa_bits)
    leading = one << np.uint64(c.mantissa_bits)
    return math.ldexp(float(leading | mantissa), c.emin + field - c.zero - c.mantissa_bits)
