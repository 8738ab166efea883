"""Dither: stochastic rounding to the multiples of a step.

With ``word / 2**64 < frac(|x| / step)`` for "up" the multiple is the ceiling of ``|x| / step -
word / 2**64``. The vectorised loop computes that in the data's own dtype, and looks again, exactly,
where the argument comes so near to an integer that its roundings could matter.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from fpsim.kernels.chance import goes_up_at, reciprocal
from fpsim.kernels.lanes import (
    AHEAD,
    BLOCK,
    TILE,
    ask_for_tile,
    bits_of,
    dtype_of,
    float_like,
    float_of,
    left,
    like,
    right,
)
from fpsim.kernels.words import halves_for, upper_halves


@njit(forceinline=True)
def _multiple(magnitude, drawn, power, rate, p):
    """(multiple, does that leave doubt?) of a magnitude, given by its bits."""
    quotient = float_of(magnitude) * power * rate
    ahead = quotient - float_like(drawn, magnitude) * float_like(2.0**-32, magnitude)
    slack = quotient * (p[3] if quotient >= p[4] else p[1]) + p[2]
    # Also where the quotient left the range, which makes the distance no number.
    return np.ceil(ahead), not abs(ahead - np.rint(ahead)) > slack


@njit(forceinline=True)
def _shortened(value, drop):
    """A positive float without its last `drop` bits, rounded to nearest even."""
    bits = bits_of(value)
    c = dtype_of(bits)
    if drop == c.zero:
        return value
    half = left(c.one, like(drop - c.one, c.one))
    odd = like(right(bits, drop) & c.one, c.one)
    return float_of(left(right(like(bits + half - c.one + odd, c.one), drop), drop))


@njit
def _exact_value(magnitude, step, drop, drawn, index, key):
    """One of the two multiples next to a finite magnitude, both rounded to the result's dtype.

    Differences of floats of the data's dtype, all exact: the rest of a division; what it leaves
    of the step, as a multiple of the step's last place; and, the two being within a factor of 2,
    those between the magnitude and its neighbours.
    """
    rest = np.fmod(np.float64(magnitude), np.float64(step))
    if magnitude < step:
        low, high = float_like(0.0, bits_of(step)), step
    else:
        rest_here = float_like(rest, bits_of(step))
        low = _shortened(magnitude - rest_here, drop)
        high = _shortened(magnitude + (step - rest_here), drop)
    excess = np.float64(magnitude) - np.float64(low)
    gap = np.float64(high) - np.float64(low)
    return high if goes_up_at(excess, gap, drawn, index, key) else low


@njit
def _exact_multiple(magnitude, step, drawn, index, key):
    """One of the two multiples next to a finite magnitude, of up to 31 bits."""
    rest = np.fmod(np.float64(magnitude), np.float64(step))
    whole = np.rint((np.float64(magnitude) - rest) / np.float64(step))
    return whole + np.float64(goes_up_at(rest, np.float64(step), drawn, index, key))


def element(value, out):
    """A float as an element of `out`: of its own dtype, or an integer."""
    raise NotImplementedError  # jitted code only


@overload(element, jit_options={"forceinline": True})
def _element_overload(value, out):
    if out.dtype == types.int32:
        return lambda value, out: np.int32(value)
    return lambda value, out: value


@njit(forceinline=True)
def _dither(x, out, p, drop, key, offset, codes):
    step = p[0]
    c = dtype_of(bits_of(step))
    power, rate = reciprocal(step)
    nothing = float_like(0.0, c.one)
    cut = like(drop, c.one)
    halves = halves_for(x.size)
    zeros = np.int64(0)
    for first in range(0, x.size, BLOCK):
        part, written = x[first : first + BLOCK], out[first : first + BLOCK]
        index = offset + np.uint64(first)
        words = upper_halves(halves, index, part.size, key)
        for start in range(0, part.size, TILE):
            ask_for_tile(part, start + AHEAD)
            tile, results = part[start : start + TILE], written[start : start + TILE]
            drawn = words[start : start + tile.size]
            doubts, count = c.zero, c.zero
            for i in range(tile.size):
                magnitude = like(bits_of(tile[i]) & c.magnitude_mask, c.one)
                multiple, doubt = _multiple(magnitude, drawn[i], power, rate, p)
                doubts = like(doubts | like(doubt, c.one), c.one)
                count = like(count + like(multiple == nothing, c.one), c.one)
                size = multiple if codes else multiple * step
                results[i] = element((-size if tile[i] < 0 else size) + nothing, results)
            zeros += np.int64(count)
            if doubts:
                for i in range(tile.size):
                    magnitude = like(bits_of(tile[i]) & c.magnitude_mask, c.one)
                    multiple, doubt = _multiple(magnitude, drawn[i], power, rate, p)
                    if doubt and magnitude < c.dtype_infinity:
                        place = index + np.uint64(start + i)
                        size = float_of(magnitude)
                        sign = float_like(-1.0 if tile[i] < 0 else 1.0, c.one)
                        if codes:
                            sure = _exact_multiple(size, step, drawn[i], place, key)
                            results[i] = element(sign * sure, results)
                        else:
                            sure = _exact_value(size, step, cut, drawn[i], place, key)
                            results[i] = element(sign * sure + nothing, results)
                        zeros += np.int64(results[i] == 0) - np.int64(multiple == nothing)
    return zeros


def dither_values(x, out, p, drop, key, offset):
    """Round to multiples of a step at random; returns how many results are zero.

    `p`, in x's dtype, holds the step; by how much ``|x| / step - word / 2**64`` may be off,
    relative to the quotient and absolute; the relative one where multiples may be no numbers of
    the result's dtype; and from which quotient on that is. `drop` is how many of x's significand
    bits that dtype lacks. Element i uses word ``offset + i`` of the stream. What is not finite is
    for the caller to see to.
    """
    return _dither(x, out, p, drop, key, offset, False)


def dither_codes(x, out, p, drop, key, offset):
    """Like `dither_values`: the multiples as integers, which must fit."""
    return _dither(x, out, p, drop, key, offset, True)
