"""Logarithmic unbiased quantisation: magnitudes to powers of two times a step, at random.

Everything is done in float64, whatever the data's dtype. A magnitude between two neighbours low and
low + gap goes up where the element's random word w, as a fraction w / 2**64, is below
p = (magnitude - low) / gap, which is decided exactly: P(up) is p rounded up to 64 bits.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fpsim.kernels.chance import goes_up
from fpsim.kernels.lanes import AHEAD, BLOCK, TILE, ask_for_tile, bits_of, float_of
from fpsim.kernels.words import halves_for, upper_halves, word_at

_EXPONENT = np.uint64(0x7FF << 52)
_MANTISSA = np.uint64((1 << 52) - 1)
_ONE = np.uint64(0x3FF << 52)
_LEADING = np.uint64(1 << 52)


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


@njit(forceinline=True)
def _add_draw(x, sums, halves, first, key, alpha, top, scale):
    """Add one draw of every element, as a multiple of alpha, to `sums`; count what is past top.

    The upper half of the word decides unless the boundary falls into its unit, which happens once
    in 2**32 elements: then the whole word does. The float64 arithmetic is off by less than
    2**-20 units, and 1/100 unit of margin is left for it.
    """
    drawn = upper_halves(halves, first, x.size, key)
    clipped = 0
    for start in range(0, x.size, TILE):
        ask_for_tile(x, start + AHEAD)
        tile, out = x[start : start + TILE], sums[start : start + TILE]
        words = drawn[start : start + tile.size]
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
                    up = goes_up(magnitude - low, gap, word)
                    out[i] += multiple * (np.float64(up) - np.float64(ahead > 0.0))
    return clipped


def luq_values(x, out, alpha, levels, scale, samples, stride, key, offset):
    """Write the mean of `samples` draws of every element; returns how many were past the top.

    `alpha` and `scale` are such that ``alpha * scale`` is a normal float64 and no level times
    scale overflows; draw s uses the stream's words from ``offset + s * stride`` on.
    """
    sums = np.empty(BLOCK)
    halves = halves_for(x.size)
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
    halves = halves_for(x.size)
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
