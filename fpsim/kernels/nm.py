"""N:M sparsity: which N of every M elements stay, and as what.

A block is M consecutive elements. All sums are float64; float64 data are scaled by block where
sums would overflow or lose digits. The fraction u of a block's random word has 50 bits, so that
(u + t) * tau, rounded, stays below (t + 1) * tau, and elements that are kept surely are.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

from fpsim.kernels.lanes import BLOCK, bits_of, float_of
from fpsim.kernels.words import HALF, fill_halves, word_at

_UNIT = 2.0**-50
_SPARE = np.uint64(14)  # bits of a word that u does not use
SECOND = np.uint64(1 << 48)  # how far a block's second word lies from its first


def rounded_up(value, x):
    """`value`, not negative, in the dtype of array x, rounded up; infinity past the range."""
    raise NotImplementedError  # jitted code only


@njit(forceinline=True)
def _up32(value):
    near = np.float32(value)
    return float_of(np.uint32(bits_of(near) + np.uint32(np.float64(near) < value)))


@overload(rounded_up)
def _rounded_up_overload(value, x):
    if x.dtype == types.float32:
        return lambda value, x: _up32(value)
    return lambda value, x: value


def block_scale(largest, x):
    """A power of two that keeps the sums of a block in range; 1 for float32."""
    raise NotImplementedError  # jitted code only


@njit(forceinline=True)
def _scale64(largest):
    return 2.0**-20 if largest > 2.0**1000 else (2.0**200 if largest < 2.0**-800 else 1.0)


@overload(block_scale)
def _block_scale_overload(largest, x):
    if x.dtype == types.float32:
        return lambda largest, x: 1.0
    return lambda largest, x: _scale64(largest)


@njit(forceinline=True)
def _unscaled(tau, scale, x):
    """(tau in the dtype of x, rounded up; the same times scale)."""
    value = rounded_up(tau / scale, x)
    back = np.float64(value) * scale
    # A float64 below the normal range may have lost digits.
    raised = float_of(np.uint64(bits_of(np.float64(value)) + np.uint64(back < tau)))
    return raised, raised * scale


@njit(forceinline=True)
def _fractions(us, upper, lower, first, key):
    """Fill `us` with the fractions u of the blocks from index `first` on."""
    block, lead = first // np.uint64(4), np.int64(first % np.uint64(4))
    fill_halves(upper, block, np.uint64(0), key)
    fill_halves(lower, block, np.uint64(1), key)
    for i in range(us.size):
        word = (np.uint64(upper[lead + i]) << HALF) | np.uint64(lower[lead + i])
        us[i] = np.float64(np.int64(word >> _SPARE)) * _UNIT


@njit(forceinline=True)
def _signed(value, x):
    return -value if x < 0 else value


def nm_1_2(x, out, key, offset):
    """1:2: the sum of both magnitudes, in one of their places; returns (nonfinite?, overflows)."""
    us = np.empty(BLOCK)
    upper, lower = np.empty(BLOCK + 4, np.uint32), np.empty(BLOCK + 4, np.uint32)
    bad, overflows = 0, 0
    blocks = x.size // 2
    for first in range(0, blocks, BLOCK):
        count = min(BLOCK, blocks - first)
        _fractions(us[:count], upper, lower, offset + np.uint64(first), key)
        part, written = x[2 * first :], out[2 * first :]
        for i in range(count):
            a, b = abs(np.float64(part[2 * i])), abs(np.float64(part[2 * i + 1]))
            largest = max(a, b)
            finite = a < math.inf and b < math.inf
            bad += np.int64(not finite)
            scale = block_scale(largest, x)
            a, b = a * scale, b * scale
            total = a + b
            value, tau = _unscaled(total, scale, x)
            point = us[i] * tau
            keeps_a = point < a
            keeps_b = a <= point < total
            overflows += np.int64(finite and value == math.inf)
            written[2 * i] = _signed(value, part[2 * i]) if keeps_a else 0.0
            written[2 * i + 1] = _signed(value, part[2 * i + 1]) if keeps_b else 0.0
    return bad, overflows


def nm_2_4(x, out, key, offset):
    """2:4 of minimum variance; returns (nonfinite?, overflows).

    An element that is larger than the rest together stays, and one of the others is drawn with
    tau the rest's sum; else two are, with tau half the sum.
    """
    us = np.empty(BLOCK)
    upper, lower = np.empty(BLOCK + 4, np.uint32), np.empty(BLOCK + 4, np.uint32)
    bad, overflows = 0, 0
    blocks = x.size // 4
    for first in range(0, blocks, BLOCK):
        count = min(BLOCK, blocks - first)
        _fractions(us[:count], upper, lower, offset + np.uint64(first), key)
        part, written = x[4 * first :], out[4 * first :]
        scaled = 0
        for i in range(count):
            xa, xb, xc, xd = part[4 * i], part[4 * i + 1], part[4 * i + 2], part[4 * i + 3]
            a, b = abs(np.float64(xa)), abs(np.float64(xb))
            c, d = abs(np.float64(xc)), abs(np.float64(xd))
            largest = max(max(a, b), max(c, d))
            finite = a < math.inf and b < math.inf and c < math.inf and d < math.inf
            bad += np.int64(not finite)
            scale = block_scale(largest, x)
            scaled += np.int64(scale != 1.0)
            largest *= scale
            a, b, c, d = a * scale, b * scale, c * scale, d * scale
            # Of the rest explicitly: subtracting the largest from the sum would cancel. Where
            # the largest is not unique, it is not larger than the rest.
            ra = 0.0 if a == largest else a
            rb = 0.0 if b == largest else b
            rc = 0.0 if c == largest else c
            rd = 0.0 if d == largest else d
            twins = (a == largest) + (b == largest) + (c == largest) + (d == largest) > 1
            rest = ((ra + rb) + rc) + rd
            sure = largest > rest and not twins
            ra, rb = (ra if sure else a), (rb if sure else b)
            rc, rd = (rc if sure else c), (rd if sure else d)
            ca = ra
            cb = ca + rb
            cc = cb + rc
            cd = cc + rd
            value, tau = _unscaled(cd if sure else 0.5 * cd, scale, x)
            p = us[i] * tau
            q = math.inf if sure else p + tau
            overflows += np.int64(finite and value == math.inf)
            ka = p < ca
            kb = (ca <= p < cb) or (ca <= q < cb)
            kc = (cb <= p < cc) or (cb <= q < cc)
            kd = (cc <= p < cd) or (cc <= q < cd)
            stays = xa if sure and a == largest else 0.0
            written[4 * i] = _signed(value, xa) if ka else stays
            stays = xb if sure and b == largest else 0.0
            written[4 * i + 1] = _signed(value, xb) if kb else stays
            stays = xc if sure and c == largest else 0.0
            written[4 * i + 2] = _signed(value, xc) if kc else stays
            stays = xd if sure and d == largest else 0.0
            written[4 * i + 3] = _signed(value, xd) if kd else stays
        if scaled:  # the smaller of two elements may have gone under
            for i in range(count):
                nonzeros = 0
                for j in range(4 * i, 4 * i + 4):
                    nonzeros += np.int64(part[j] != 0)
                if nonzeros <= 2:
                    for j in range(4 * i, 4 * i + 4):
                        written[j] = part[j] if part[j] != 0 else 0.0
    return bad, overflows


@njit
def _magnitudes(x, magnitudes):
    """Fill in the scaled magnitudes of a block: (scale, nonzeros, finite?)."""
    largest, nonzeros, finite = 0.0, 0, True
    for i in range(x.size):
        a = abs(np.float64(x[i]))
        finite = finite and a < math.inf
        nonzeros += np.int64(a != 0.0)
        largest = max(largest, a)
        magnitudes[i] = a
    scale = block_scale(largest, x)
    for i in range(x.size):
        magnitudes[i] *= scale
    return scale, nonzeros, finite


@njit
def _sort(values):
    """Sort in place; blocks are mostly so small that insertion is fastest."""
    if values.size > 32:
        values.sort()
        return
    for i in range(1, values.size):
        value, j = values[i], i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


def nm_any(x, out, n, m, key, offset):
    """N:M of minimum variance for any N and M; returns (nonfinite?, overflows)."""
    magnitudes, ascending, sums = np.empty(m), np.empty(m), np.empty(m + 1)
    bad, overflows = 0, 0
    for block in range(x.size // m):
        part, written = x[block * m : (block + 1) * m], out[block * m : (block + 1) * m]
        scale, nonzeros, finite = _magnitudes(part, magnitudes)
        if not finite:
            bad += 1
            continue
        if nonzeros <= n:
            for i in range(m):
                written[i] = part[i] if part[i] != 0 else 0.0  # a positive zero
            continue
        for i in range(m):
            ascending[i] = magnitudes[i]
        _sort(ascending)
        sums[0] = 0.0
        for i in range(m):
            sums[i + 1] = sums[i] + ascending[i]
        k = 0  # how many stay surely
        while k < n - 1 and ascending[m - 1 - k] * (n - k) > sums[m - k]:
            k += 1
        bound = ascending[m - 1 - k]
        value, tau = _unscaled(sums[m - k] / (n - k), scale, x)
        overflows += np.int64(value == math.inf)
        u = np.float64(np.int64(word_at(offset + np.uint64(block), key) >> _SPARE)) * _UNIT
        total, drawn = 0.0, 0
        for i in range(m):
            written[i] = 0.0
            if magnitudes[i] > bound:
                written[i] = part[i]
                continue
            total += magnitudes[i]
            if drawn < n - k and (u + drawn) * tau < total:
                written[i] = _signed(value, part[i])
                drawn += 1
    return bad, overflows


def nm_top(x, out, n, m, key, offset):
    """The N largest magnitudes stay as they are, the first of equals; returns (nonfinite?, 0)."""
    magnitudes, ascending = np.empty(m), np.empty(m)
    bad = 0
    for block in range(x.size // m):
        part, written = x[block * m : (block + 1) * m], out[block * m : (block + 1) * m]
        finite = True
        for i in range(m):
            magnitudes[i] = abs(np.float64(part[i]))
            finite = finite and magnitudes[i] < math.inf
        if not finite:
            bad += 1
            continue
        for i in range(m):
            ascending[i] = magnitudes[i]
        _sort(ascending)
        bound = ascending[m - n]
        ties = n
        for i in range(m):
            ties -= np.int64(magnitudes[i] > bound)
        for i in range(m):
            tie = magnitudes[i] == bound and ties > 0
            ties -= np.int64(tie)
            written[i] = part[i] if (tie or magnitudes[i] > bound) and part[i] != 0 else 0.0
    return bad, 0


def nm_approximate(x, out, n, m, key, offset):
    """Two of four drawn one after the other, by magnitude; returns (nonfinite?, overflows)."""
    a = np.empty(4)
    bad, overflows = 0, 0
    for block in range(x.size // 4):
        part, written = x[block * 4 : (block + 1) * 4], out[block * 4 : (block + 1) * 4]
        scale, nonzeros, finite = _magnitudes(part, a)
        if not finite:
            bad += 1
            continue
        if nonzeros <= 2:
            for i in range(4):
                written[i] = part[i] if part[i] != 0 else 0.0
            continue
        index = offset + np.uint64(block)
        u = np.float64(np.int64(word_at(index, key) >> _SPARE)) * _UNIT
        v = np.float64(np.int64(word_at(index + SECOND, key) >> _SPARE)) * _UNIT
        total = a[0] + a[1] + a[2] + a[3]
        first, second = -1, -1
        reached = 0.0
        for i in range(4):
            reached += a[i]
            if first < 0 and u * total < reached:
                first = i
        rest = 0.0
        for i in range(4):
            rest += 0.0 if i == first else a[i]
        reached = 0.0
        for i in range(4):
            reached += 0.0 if i == first else a[i]
            if second < 0 and i != first and v * rest < reached:
                second = i
        for i in range(4):
            written[i] = 0.0
            if i in (first, second):
                # P(kept) = t_i + t_i * sum of t_j / (1 - t_j) over the others, t = a / total.
                odds = 1.0
                for j in range(4):
                    if j != i:
                        others = 0.0
                        for o in range(4):
                            others += 0.0 if o == j else a[o]
                        odds += a[j] / others
                written[i] = _signed(total / odds / scale, part[i])
                overflows += np.int64(abs(np.float64(written[i])) == math.inf)
    return bad, overflows
