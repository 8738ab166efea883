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
def parts_of(magnitude, significand_bits, exponent_bias):
    """(significand, exponent of its last place) of a finite float's magnitude bits."""
    field = np.int64(magnitude >> np.uint64(significand_bits))
    leading = np.uint64(1) << np.uint64(significand_bits)
    significand = magnitude & (leading - np.uint64(1))
    if field == 0:
        return significand, np.int64(1) - exponent_bias - significand_bits
    return significand | leading, field - exponent_bias - significand_bits


@njit
def _up_at_random(rest, distance, c, word):
    """Stochastic rounding's decision on a fraction rest / 2**distance (see `Stochastic`)."""
    one = np.uint64(1)
    lost = False
    if distance <= 64:
        fraction = rest << np.uint64(64 - distance)
    elif distance < 128:
        fraction = rest >> np.uint64(distance - 64)
        lost = (fraction << np.uint64(distance - 64)) != rest
    else:
        fraction = np.uint64(0)
        lost = True
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
def _round_places(significand, distance, lower_index_offset, negative, c, word):
    """Round significand / 2**distance to an integer: (integer, was it inexact)."""
    if distance <= 0:
        return significand << np.uint64(-distance), False
    one = np.uint64(1)
    if distance > 63:  # the significand has at most 53 bits: the fraction is below 1/2
        below, rest, against_half = np.uint64(0), significand, -1
    else:
        below = significand >> np.uint64(distance)
        rest = significand & ((one << np.uint64(distance)) - one)
        half = one << np.uint64(distance - 1)
        against_half = 0 if rest == half else (1 if rest > half else -1)
    if rest == 0:
        return below, False
    odd = ((below + lower_index_offset) & one) == one
    mode = c.mode
    if mode == TIES_TO_EVEN:
        up = against_half > 0 or (against_half == 0 and odd)
    elif mode == TIES_TO_AWAY:
        up = against_half >= 0
    elif mode == TIES_TO_ZERO:
        up = against_half > 0
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
        up = _up_at_random(rest, distance, c, word)
    return below + np.uint64(up), True


@njit
def round_exact(significand, exponent, negative, c, word):
    """Round significand * 2**exponent > 0: (place in the order of codes, inexact, tiny).

    Places go on past the largest finite value as if there were no end to the exponents.
    """
    leading = np.uint64(1) << np.uint64(c.mantissa_bits)
    e = bit_length(significand) - 1 + exponent
    if e >= c.emin:
        # Places of this binade start at `offset`, when the leading bit is counted too.
        offset = (np.uint64(e - c.emin + c.zero) << np.uint64(c.mantissa_bits)) - leading
        places, inexact = _round_places(
            significand, e - c.mantissa_bits - exponent, offset, negative, c, word
        )
        return places + offset, inexact, False
    tiny = True
    if e == c.emin - 1 and c.tiny_before == 0:
        # Tiny unless rounding at full precision, with no end to the exponents, gets to 2**emin.
        places, _ = _round_places(
            significand,
            e - c.mantissa_bits - exponent,
            leading if c.zero else np.uint64(0),
            negative,
            c,
            word,
        )
        tiny = places < leading + leading
    if c.zero == 0:
        return np.uint64(0), True, tiny
    step = c.emin - c.mantissa_bits if c.subnormals else c.emin
    places, inexact = _round_places(significand, step - exponent, np.uint64(0), negative, c, word)
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
