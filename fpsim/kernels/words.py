"""Random words: Philox4x32-7, a counter-based generator.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011): a bijection of a
128-bit counter under a 64-bit key, here in 64-bit lanes that hold 32-bit words. Element i of a
stream owns the 64-bit word whose upper half is word i % 4 of the block with counter (i // 4,
half = 0) and whose lower half is that of (i // 4, half = 1).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fpsim.kernels.lanes import BLOCK

_LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


@njit(forceinline=True)
def _philox_round(a, b, c, d, key0, key1):
    product0 = a * np.uint64(0xD2511F53)
    product1 = c * np.uint64(0xCD9E8D57)
    return (
        (product1 >> HALF) ^ b ^ key0,
        product1 & _LOW,
        (product0 >> HALF) ^ d ^ key1,
        product0 & _LOW,
    )


@njit(forceinline=True)
def _philox(block, half, key):
    """The four 32-bit words of a block."""
    key0, key1 = key & _LOW, key >> HALF
    step0, step1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
    a, b, c, d = block & _LOW, block >> HALF, half, np.uint64(0)
    # Seven rounds, written out: a loop here would keep the caller's loop from vectorising.
    a, b, c, d = _philox_round(a, b, c, d, key0, key1)
    key0, key1 = (key0 + step0) & _LOW, (key1 + step1) & _LOW
    a, b, c, d = _philox_round(a, b, c, d, key0, key1)
    key0, key1 = (key0 + step0) & _LOW, (key1 + step1) & _LOW
    a, b, c, d = _philox_round(a, b, c, d, key0, key1)
    key0, key1 = (key0 + step0) & _LOW, (key1 + step1) & _LOW
    a, b, c, d = _philox_round(a, b, c, d, key0, key1)
    key0, key1 = (key0 + step0) & _LOW, (key1 + step1) & _LOW
    a, b, c, d = _philox_round(a, b, c, d, key0, key1)
    key0, key1 = (key0 + step0) & _LOW, (key1 + step1) & _LOW
    a, b, c, d = _philox_round(a, b, c, d, key0, key1)
    key0, key1 = (key0 + step0) & _LOW, (key1 + step1) & _LOW
    return _philox_round(a, b, c, d, key0, key1)


@njit(forceinline=True)
def fill_halves(halves, block, half, key):
    """Write the words of the blocks from `block` on; `halves` holds a multiple of four."""
    for j in range(halves.size // 4):
        # Words are counted modulo 2**64, blocks of four modulo 2**62.
        a, b, c, d = _philox((block + np.uint64(j)) & np.uint64((1 << 62) - 1), half, key)
        halves[4 * j] = a
        halves[4 * j + 1] = b
        halves[4 * j + 2] = c
        halves[4 * j + 3] = d


@njit(forceinline=True)
def halves_for(size):
    """A buffer for the halves of `size` words, or of a block where they are done by blocks."""
    return np.empty((min(size, BLOCK) + 7) // 4 * 4, np.uint32)


@njit(forceinline=True)
def upper_halves(halves, index, size, key):
    """The upper halves of `size` words from element `index` on, in a buffer by `halves_for`."""
    fill_halves(halves, index // np.uint64(4), np.uint64(0), key)
    lead = np.int64(index % np.uint64(4))
    return halves[lead : lead + size]


def random_words(words, key, offset):
    """Fill uint64 `words` with those of the stream's elements from `offset` on."""
    upper = np.empty(BLOCK, np.uint32)
    lower = np.empty(BLOCK, np.uint32)
    lead = np.int64(offset % np.uint64(4))
    start = -lead
    block = offset // np.uint64(4)
    while start < words.size:
        fill_halves(upper, block, np.uint64(0), key)
        fill_halves(lower, block, np.uint64(1), key)
        for i in range(max(start, 0), min(start + BLOCK, words.size)):
            words[i] = (np.uint64(upper[i - start]) << HALF) | np.uint64(lower[i - start])
        start += BLOCK
        block += np.uint64(BLOCK // 4)


@njit
def word_at(index, key):
    """The 64-bit word of one element of a stream."""
    block, place = index // np.uint64(4), index % np.uint64(4)
    upper = _philox(block, np.uint64(0), key)
    lower = _philox(block, np.uint64(1), key)
    high, low = upper[0], lower[0]
    if place == 1:
        high, low = upper[1], lower[1]
    elif place == 2:
        high, low = upper[2], lower[2]
    elif place == 3:
        high, low = upper[3], lower[3]
    return (high << HALF) | low
