"""Chances decided exactly: whether a random word, as a fraction of 2**64, lies below a ratio.

With word / 2**64 < excess / gap for "yes", P(yes) is the ratio rounded up to a multiple of 2**-64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fpsim.kernels.exact import bit_length, parts_of
from fpsim.kernels.lanes import bits_of, dtype_of, float_like, float_of, left, like, right
from fpsim.kernels.words import HALF, word_at

_LOW_HALF = np.uint64(0xFFFFFFFF)


@njit
def _parts(x):
    """(significand of 53 bits, exponent of its last place) of a positive float64."""
    significand, exponent = parts_of(bits_of(x), np.int64(52), np.int64(1023))
    short = np.int64(53) - bit_length(significand)  # below the normal range
    return significand << np.uint64(short), exponent - short


@njit
def goes_up(excess, gap, word):
    """Whether ``word * gap < 2**64 * excess``, for float64 0 <= excess <= gap.

    With integer significands and d the difference of their exponents that is
    ``word * G < 2**64 * X / 2**d``: the left side an integer of up to 117 bits, in two limbs.
    """
    if excess == 0.0:
        return False
    x, x_exponent = _parts(excess)
    g, g_exponent = _parts(gap)
    # Schoolbook product of word and g by halves.
    low = (word & _LOW_HALF) * (g & _LOW_HALF)
    middle = (word >> HALF) * (g & _LOW_HALF) + (low >> HALF)
    other = (word & _LOW_HALF) * (g >> HALF) + (middle & _LOW_HALF)
    high = (word >> HALF) * (g >> HALF) + (middle >> HALF) + (other >> HALF)
    low = (other << HALF) | (low & _LOW_HALF)
    d = g_exponent - x_exponent
    if d >= 128:
        return high == 0 and low == 0
    if d == 0:
        return high < x
    if d < 64:
        whole, rest = x >> np.uint64(d), x << np.uint64(64 - d)
        lost = False
    elif d == 64:
        whole, rest, lost = np.uint64(0), x, False
    else:
        whole, rest = np.uint64(0), x >> np.uint64(d - 64)
        lost = (rest << np.uint64(d - 64)) != x
    if high != whole:
        return high < whole
    return low < rest or (lost and low == rest)


@njit(forceinline=True)
def reciprocal(value):
    """(a power of two, 1 over its product with a positive value), in the value's dtype.

    By both in turn, no number up to 2**64 values leaves the range above, wherever the value lies
    (``1 / value`` would), and what underflows was below 2**-64 of the value.
    """
    bits = bits_of(value)
    c = dtype_of(bits)
    last = like(right(c.dtype_infinity, c.significand_bits) - c.one, c.one)  # finite exponent field
    field = right(bits, c.significand_bits)
    mirrored = max(like(last - field, c.one), c.one)
    power = float_of(left(mirrored, c.significand_bits))
    return power, float_like(1.0, c.one) / (value * power)


@njit
def goes_up_at(excess, gap, half, index, key):
    """`goes_up` by the word of element `index`, of which `half` is the upper half.

    The lower half is made only where it decides, which is once in 2**32 elements.
    """
    ahead = excess / gap * 2.0**32 - np.float64(half)
    if ahead > 1.01 or ahead < -0.01:
        return ahead > 0.0
    return goes_up(excess, gap, word_at(index, key))
