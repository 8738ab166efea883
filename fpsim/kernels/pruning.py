"""Stochastic pruning: magnitudes below a threshold become the threshold or zero, at random.

Done in the data's own dtype, in which a share of the threshold comes out within 2**-23 of itself:
enough to decide all but one element in a million, which gets a second look that is exact.
"""

from __future__ import annotations

import numpy as np
from numba import njit

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
    like,
)
from fpsim.kernels.words import halves_for, upper_halves


@njit(forceinline=True)
def _ahead(magnitude, drawn, power, rate):
    """(how far |x| / threshold lies ahead of the word, does that leave doubt?), over 2**-32.

    The share carries two roundings and the word one, 2**-24 each; the rest of the word is one.
    """
    share = float_of(magnitude) * power * rate
    ahead = share - float_like(drawn, magnitude)
    slack = share * float_like(2.0**-22, magnitude) + float_like(1.0, magnitude)
    return ahead, abs(ahead) <= slack


def prune_at_random(x, out, threshold, key, offset):
    """Prune; returns (the largest magnitude, as bits; how many results are zero).

    Element i stays off zero where its word, ``offset + i`` of the stream, over 2**64 is below
    |x| / threshold. What is not finite stays.
    """
    limit = bits_of(threshold)
    c = dtype_of(limit)
    power, rate = reciprocal(threshold)
    rate *= float_like(2.0**32, limit)
    halves = halves_for(x.size)
    largest, zeros = c.zero, np.int64(0)
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
                bits = bits_of(tile[i])
                magnitude = like(bits & c.magnitude_mask, c.one)
                ahead, doubt = _ahead(magnitude, drawn[i], power, rate)
                below = magnitude < limit
                doubts = like(doubts | like(doubt and below, c.one), c.one)
                raised = like(limit | (bits ^ magnitude), c.one)
                pruned = raised if ahead > 0 else c.zero
                result = like(pruned if below else bits, c.one)
                count = like(count + like(result == c.zero, c.one), c.one)
                largest = max(largest, magnitude)
                results[i] = float_of(result)
            zeros += np.int64(count)
            if doubts:
                for i in range(tile.size):
                    magnitude = like(bits_of(tile[i]) & c.magnitude_mask, c.one)
                    _, doubt = _ahead(magnitude, drawn[i], power, rate)
                    if doubt and magnitude < limit:
                        place = index + np.uint64(start + i)
                        size, gap = np.float64(float_of(magnitude)), np.float64(threshold)
                        up = goes_up_at(size, gap, drawn[i], place, key)
                        zeros += np.int64(results[i] != 0) - np.int64(up)
                        raised = -threshold if tile[i] < 0 else threshold
                        results[i] = raised if up else float_of(c.zero)
    return np.uint64(largest), zeros
