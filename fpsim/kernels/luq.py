"""Logarithmic unbiased quantisation: magnitudes to powers of two times a step, at random.

Everything is done in float64, whatever the data's dtype. A magnitude between two neighbours low and
low + gap goes up where the element's random word w, as a fraction w / 2**64, is below
p = (magnitude - low) / gap, which is decided exactly: P(up) is p rounded up to 64 bits.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fpsim.kernels.lanes import AHEAD, BLOCK, TILE, ask_for_tile, bits_of, float_of, like
from fpsim.kernels.words import HALF, fill_halves, word_at

_EXPONENT = np.uint64(0x7FF << 52)
_MANTISSA = np.uint64((1 << 52) - 1)
_ONE = np.uint64(0x3FF << 52)
_LEADING = np.uint64(1 << 52)
_LOW_HALF = np.uint64(0xFFFFFFFF)


@njit(forceinline=True)
def _cell(magnitude, alpha):
    """(lower neighbour, gap to the upper one, gap / alpha) of a magnitude; below alpha: 0, alpha.

    The level with the magnitude's own exponent field and alpha's mantissa is the lower neighbour,
    unless it lies above the magnitude: then its half is.
    """
    bits, alpha_bits = bits_of(magnitude), bits_of(alpha)
    level = (bits & _EXPONENT) | (alpha_bits & _MANTISSA)
    level = level - _LEADING if level > bits else level
    under = bits < alpha_bits
    level = alpha_bits if under else level
    gap = float_of(level)
    multiple = float_of(np.uint64(level - alpha_bits + _ONE))
    return 0.0 if under else gap, gap, multiple


@njit
def _parts(x):
    """(integer significand, exponent) of a positive normal float64."""
    bits = bits_of(x)
    return (bits & _MANTISSA) | _LEADING, np.int64(bits >> np.uint64(52))


@njit
def _goes_up(excess, gap, word):
    """Whether ``word * gap < 2**64 * excess``, for 0 <= excess <= gap, both multiples of ulps.

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
def _add_draw(x, sums, halves, first, key, alpha, top, scale):
    """Add one draw of every element, as a multiple of alpha, to `sums`; count what is past top.

    The upper half of the word decides unless the boundary falls into its unit, which happens once
    in 2**32 elements: then the whole word does. The float64 arithmetic is off by less than
    2**-20 units, and 1/100 unit of margin is left for it.
    """
    lead = np.int64(first % np.uint64(4))
    fill_halves(halves, first // np.uint64(4), np.uint64(0), key)
    clipped = 0
    for start in range(0, x.size, TILE):
        ask_for_tile(x, start + AHEAD)
        tile, out = x[start : start + TILE], sums[start : start + TILE]
        words = halves[lead + start : lead + start + tile.size]
        doubts = 0
        for i in range(tile.size):
            magnitude = abs(np.float64(tile[i])) * scale
            clipped += np.int64(top < magnitude < math.inf)
            magnitude = magnitude if magnitude < top else top
            low, gap, multiple = _cell(magnitude, alpha)
            unit = gap * 2.0**-32
            ahead = (magnitude - low) - np.float64(words[i]) * unit
            doubts += np.int64(abs(ahead - 0.5 * unit) <= 0.51 * unit)
            out[i] += (multiple if ahead > 0.0 else 0.0) + (0.0 if low == 0.0 else multiple)
        if doubts:
            for i in range(tile.size):
                magnitude = abs(np.float64(tile[i])) * scale
                magnitude = magnitude if magnitude < top else top
                low, gap, multiple = _cell(magnitude, alpha)
                unit = gap * 2.0**-32
                ahead = (magnitude - low) - np.float64(words[i]) * unit
                if abs(ahead - 0.5 * unit) <= 0.51 * unit:
                    word = word_at(first + np.uint64(start + i), key)
                    up = _goes_up(magnitude - low, gap, word)
                    out[i] += multiple * (np.float64(up) - np.float64(ahead > 0.0))
    return clipped


def luq_values(x, out, alpha, levels, scale, samples, stride, key, offset):
    """Write the mean of `samples` draws of every element; returns how many were past the top.

    `alpha` and `scale` are such that ``alpha * scale`` is a normal float64 and no level times
    scale overflows; draw s uses the stream's words from ``offset + s * stride`` on.
    """
    sums = np.empty(BLOCK)
    halves = np.empty(BLOCK + 4, np.uint32)
    scaled = alpha * scale
    top = scaled * 2.0 ** (levels - 1)
    clipped = 0
    for first in range(0, x.size, BLOCK):
        part, written = x[first : first + BLOCK], out[first : first + BLOCK]
        total = sums[: part.size]
        for i in range(part.size):
            total[i] = 0.0
        for s in range(samples):
            index = offset + np.uint64(first) + np.uint64(s) * stride
            past = _add_draw(part, total, halves, index, key, scaled, top, scale)
            clipped += past if s == 0 else 0
        if samples == 1:
            for i in range(part.size):
                value = alpha * total[i]
                written[i] = (-value if part[i] < 0 else value) + 0.0  # no negative zero
        else:
            for i in range(part.size):
                value = alpha * (total[i] / samples)
                written[i] = (-value if part[i] < 0 else value) + 0.0  # no negative zero
    return clipped


def luq_codes(x, out, alpha, levels, scale, sign, key, offset):
    """Like `luq_values` with one draw: codes, 0 for zero and k for alpha * 2**(k-1)."""
    sums = np.empty(BLOCK)
    halves = np.empty(BLOCK + 4, np.uint32)
    scaled = alpha * scale
    top = scaled * 2.0 ** (levels - 1)
    clipped = 0
    for first in range(0, x.size, BLOCK):
        part, written = x[first : first + BLOCK], out[first : first + BLOCK]
        total = sums[: part.size]
        for i in range(part.size):
            total[i] = 0.0
        index = offset + np.uint64(first)
        clipped += _add_draw(part, total, halves, index, key, scaled, top, scale)
        for i in range(part.size):
            field = bits_of(total[i]) >> np.uint64(52)
            code = field - np.uint64(1022) + (sign if part[i] < 0 else np.uint64(0))
            written[i] = np.uint8(0 if total[i] == 0.0 else code)
    return clipped


def largest_magnitude(bits, mask):
    """The largest magnitude of floats given as bits, as bits: NaN above infinity above others."""
    largest = like(np.uint64(0), mask)
    for start in range(0, bits.size, TILE):
        ask_for_tile(bits, start + AHEAD)
        tile = bits[start : start + TILE]
        for i in range(tile.size):
            largest = max(largest, like(tile[i] & mask, mask))
    return np.uint64(largest)
