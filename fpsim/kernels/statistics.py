"""Statistics of arrays: extremes, cells of a sketch, sums of errors."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fpsim.kernels.exact import bit_length
from fpsim.kernels.lanes import AHEAD, TILE, ask_for_tile, like

# Extremes ------------------------------------------------------------------------------------


def largest_magnitude(bits, mask):
    """The largest magnitude of floats given as bits, as bits: NaN above infinity above others."""
    largest = like(np.uint64(0), mask)
    for start in range(0, bits.size, TILE):
        ask_for_tile(bits, start + AHEAD)
        tile = bits[start : start + TILE]
        for i in range(tile.size):
            largest = max(largest, like(tile[i] & mask, mask))
    return np.uint64(largest)


# Sketch --------------------------------------------------------------------------------------


@njit
def _sketch_one(magnitude, table, lowest):
    """Add one finite nonzero float64, by its bits, to its cell of a table (see `sketch64`)."""
    if magnitude >> np.uint64(52) == 0:  # a subnormal: bring the leading bit to its place
        shift = np.uint64(53 - bit_length(magnitude))
        exponent = np.int64(-1022) - np.int64(shift)
        mantissa = (magnitude << shift) & np.uint64((1 << 52) - 1)
    else:
        exponent = np.int64(magnitude >> np.uint64(52)) - 1023
        mantissa = magnitude & np.uint64((1 << 52) - 1)
    cell = (exponent - lowest) * 128 + np.int64(mantissa >> np.uint64(45))
    # To the nearest of 2**24 units of the cell (2**31 of the binade); exact for 32 bits or fewer.
    offset = ((mantissa & np.uint64((1 << 45) - 1)) + np.uint64(1 << 20)) >> np.uint64(21)
    square = offset * offset
    table[cell, 0] += np.uint64(1)
    table[cell, 1] += offset
    table[cell, 2] += square & np.uint64(0xFFFFFFFF)
    table[cell, 3] += square >> np.uint64(32)


@njit
def _extend(totals, value):
    """Let the range of magnitudes in `totals` take in a positive value."""
    bits = np.float64(value).view(np.uint64)
    totals[3] = min(totals[3], bits)
    totals[4] = max(totals[4], bits)


def sketch64(x, table, lowest, totals):
    """Add float64 bits to a table of cells from exponent `lowest` on.

    A row holds: count, sum of offsets, and of the low and high halves of their squares.
    `totals` gets zeros, infinities, NaNs, and the smallest and largest magnitude bits.
    """
    infinity = np.uint64(0x7FF << 52)
    for i in range(x.size):
        magnitude = x[i] & np.uint64((1 << 63) - 1)
        if magnitude == 0:
            totals[0] += np.uint64(1)
        elif magnitude >= infinity:
            totals[1 if magnitude == infinity else 2] += np.uint64(1)
        else:
            _sketch_one(magnitude, table, lowest)
            _extend(totals, np.uint64(magnitude).view(np.float64))


@njit
def _sketch_tile(x, table, lowest, totals):
    """Add a tile of float32 bits to a table, whatever they are."""
    for i in range(x.size):
        magnitude = np.uint32(x[i] & np.uint32(0x7FFFFFFF))
        if magnitude == 0:
            totals[0] += np.uint64(1)
        elif magnitude >= np.uint32(0x7F800000):
            totals[1 if magnitude == np.uint32(0x7F800000) else 2] += np.uint64(1)
        else:
            value = np.float64(magnitude.view(np.float32))
            _sketch_one(value.view(np.uint64), table, lowest)
            _extend(totals, value)


def sketch32(x, packed, table, lowest, totals):
    """Add float32 bits to a table, as `sketch64` does, at a fraction of the cost.

    `packed` is scratch of shape (2**15, 2): by the upper half of the bits, (count << 40) + sum of
    the lower halves, and the sum of their squares. One addition counts and sums. Zero goes to
    cell 0 without a branch; tiles with subnormals or non-finite values, which are rare, are gone
    through one by one.
    """
    low_half, magnitude_mask = np.uint32(0xFFFF), np.uint32(0x7FFFFFFF)
    tiny, infinity = np.uint32(0x007FFFFF), np.uint32(0x7F800000)
    for start in range(0, x.size, 1 << 23):  # below 2**24, so that no sum can overflow
        part = x[start : start + (1 << 23)]
        packed[:] = np.uint64(0)
        smallest, largest = magnitude_mask, np.uint32(0)
        for tile_start in range(0, part.size, TILE):
            ask_for_tile(part, tile_start + AHEAD)
            tile = part[tile_start : tile_start + TILE]
            low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
            for i in range(tile.size):
                magnitude = np.uint32(tile[i] & magnitude_mask)
                low = min(low, np.uint32(magnitude - np.uint32(1)))  # zero becomes the largest
                high = max(high, magnitude)
            if low < tiny or high >= infinity:
                _sketch_tile(tile, table, lowest, totals)
                continue
            smallest, largest = min(smallest, low), max(largest, high)
            for i in range(tile.size):
                magnitude = np.uint32(tile[i] & magnitude_mask)
                lower = np.uint64(magnitude & low_half)
                cell = np.uint64(magnitude >> np.uint32(16))
                packed[cell, 0] += (np.uint64(1) << np.uint64(40)) + lower
                packed[cell, 1] += lower * lower
        totals[0] += packed[0, 0] >> np.uint64(40)
        if largest != 0:
            _extend(totals, np.float64(np.uint32(smallest + np.uint32(1)).view(np.float32)))
            _extend(totals, np.float64(np.uint32(largest).view(np.float32)))
        # A normal float32's upper half is (exponent + 127) * 128 + leading bits of its mantissa.
        first = (np.int64(-127) - lowest) * 128
        for cell in range(128, 255 * 128):
            both = packed[cell, 0]
            if both:
                # A lower half is 16 bits of an offset in units 256 times smaller.
                table[first + cell, 0] += both >> np.uint64(40)
                offsets = both & np.uint64((1 << 40) - 1)
                table[first + cell, 1] += offsets << np.uint64(8)
                squares = packed[cell, 1]
                table[first + cell, 2] += (squares & np.uint64(0xFFFF)) << np.uint64(16)
                table[first + cell, 3] += squares >> np.uint64(16)


# Measurement ---------------------------------------------------------------------------------


def scaled(x, y, scale):
    """Write ``x * scale`` to `y`, and 0 where x is not finite (see `error_sums`)."""
    for i in range(x.size):
        y[i] = x[i] * scale if math.isfinite(x[i]) else 0.0


def error_sums(x, y, q, past, exponent, sums):
    """Add up the errors of q against y, over the elements whose x is nonzero and finite.

    Magnitudes are counted in units of ``2**exponent``, so that no square leaves the range.
    `sums` gets: count, |q - y| / |y|, y, q - y, y², (q - y)², q·y, q² (of magnitudes), how many
    q are zero, how many y lie above `past`.
    """
    # In two factors, neither of which leaves the range.
    half = -exponent // 2
    unit, more = math.ldexp(1.0, half), math.ldexp(1.0, -exponent - half)
    for i in range(x.size):
        if math.isfinite(x[i]) and x[i] != 0:
            magnitude = abs(y[i]) * unit * more
            rounded = (q[i] if y[i] > 0 else -q[i]) * unit * more
            error = rounded - magnitude
            sums[0] += 1
            # A product that underflowed leaves y at zero: the element is lost.
            sums[1] += abs(q[i] - y[i]) / abs(y[i]) if y[i] != 0 else 1.0
            sums[2] += magnitude
            sums[3] += error
            sums[4] += magnitude * magnitude
            sums[5] += error * error
            sums[6] += rounded * magnitude
            sums[7] += rounded * rounded
            sums[8] += q[i] == 0
            sums[9] += abs(y[i]) > past


def integer_moments(x, unit, more, totals):
    """Add up elements times both factors as integers, and their squares.

    The products are of at most 2**31 in magnitude; they are rounded, and what is not finite
    counts as zero. `totals` gets the sum, as a signed number, and the sums of the low and of the
    high halves of the squares. Integers have the same sum in any order.
    """
    total, low, high = np.int64(0), np.int64(0), np.int64(0)
    for i in range(x.size):
        value = np.float64(x[i]) * unit * more
        value = np.int64(np.rint(value if abs(value) <= 2.0**31 else 0.0))
        square = value * value
        total += value
        low += square & np.int64(0xFFFFFFFF)
        high += square >> np.int64(32)
    totals[0] += total
    totals[1] += low
    totals[2] += high
