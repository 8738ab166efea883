"""Dot products, summed in a stated order and rounded at every step.

Sums of many outputs go on side by side, in tiles, one term at a time. Products are exact in the
dtype that is computed in, and no sum leaves its range: the caller has seen to that. A step adds
exactly, rounds to odd (`operate`), and rounds that once into the accumulator's format.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fpsim.kernels.casts import random_drawn, result_of, value_at_random, value_by_mode
from fpsim.kernels.exact import (
    STOCHASTIC,
    TIES_TO_EVEN,
    TOWARD_NEGATIVE,
    bit_length,
    parts_of,
    round_exact,
    scalar_of,
)
from fpsim.kernels.lanes import TILE, bits_of, float_of, lane_of
from fpsim.kernels.operate import add_product, difference, odd_sum
from fpsim.kernels.words import word_at

# Orders in which terms are added.
SEQUENTIAL = 0
PAIRWISE = 1
KAHAN = 2

# How a sum so far meets a block of aligned terms.
JOINS = 0
AFTER = 1
TWO_STAGE = 2

NOT_FINITE = 1 << 20  # an exponent that says so


@njit
def _flush(bits, flush_below, c):
    """What is smaller in magnitude becomes a zero of its sign."""
    return bits if (bits & c.magnitude_mask) >= flush_below else bits & ~c.magnitude_mask


@njit
def _round(tile, lane, flush_below, random, drawn, halves, index, key):
    """Round bits in place; `random` is -1 for a mode, else the variant."""
    c = lane_of(lane)
    if random < 0:
        for i in range(tile.size):
            tile[i] = value_by_mode(tile[i], c)
    else:
        words = random_drawn(drawn[: tile.size], halves, index, key)
        if random == 2:
            for i in range(tile.size):
                tile[i] = value_at_random(tile[i], words[i], c, True)
        else:
            for i in range(tile.size):
                tile[i] = value_at_random(tile[i], words[i], c, False)
    if flush_below:
        for i in range(tile.size):
            tile[i] = _flush(tile[i], flush_below, c)


@njit
def _add(x, y, out, minus_zero):
    """Bits of sums, rounded to odd."""
    for i in range(out.size):
        out[i] = odd_sum(float_of(x[i]), float_of(y[i]), minus_zero)


@njit
def _subtract(x, y, out, minus_zero):
    for i in range(out.size):
        out[i] = odd_sum(float_of(x[i]), -float_of(y[i]), minus_zero)


@njit
def _multiply(x, y, out):
    for j in range(out.size):
        out[j] = bits_of(x[j] * y[j])


@njit
def _scale(x, y, out):
    for j in range(out.size):
        out[j] = bits_of(x * y[j])


@njit
def _copy(x, out):
    for i in range(out.size):
        out[i] = x[i]


def accumulate(
    x, y, state, order, terms, last, lane, product_lane, random, draw, minus_zero, flush_below
):
    """Add products of `x` and `y` to the sums in `state`; returns how often each was rounded.

    `y` has shape (depth, columns); `x` (rows, depth), each element of which multiplies a row of
    `y`, or that of `y` with one row of sums. `state` holds bits: levels × rows × columns. Level 0
    has the sums; Kahan's corrections are in level 1; pairwise, level l has the sum of 2**l terms
    where bit l of `terms`, how many came before, is set, and after the `last` the sum in level 0.
    `product_lane` is empty where products are not rounded. `draw` is (key, word of the first
    output, words from one row of outputs to the next, outputs in all, how often each was rounded
    before): a rounding takes the word (roundings before) * outputs + (word of the output).
    Results below `flush_below`, (of sums, of products), become zeros.
    """
    flush, flush_product = flush_below
    rows, columns = state.shape[1], state.shape[2]
    depth = y.shape[0]
    each = x.shape[0] == depth and x.shape[1] == columns and rows == 1
    key, first, stride, outputs, before = draw
    # Results never go where operands are: the loops would not be vectorised.
    tiles = np.empty((5, TILE), state.dtype)
    halves = np.empty(TILE + 4, np.uint32)
    one = np.uint64(1)
    rounded = before
    for i in range(rows):
        for start in range(0, columns, TILE):
            sums = state[0, i, start : start + TILE]
            size = sums.size
            term, more, other = tiles[0, :size], tiles[1, :size], tiles[2, :size]
            total, drawn = tiles[3, :size], tiles[4, :size]
            place = first + np.uint64(i) * stride + np.uint64(start)
            rounded, index = before, place + before * outputs
            count = terms
            _copy(sums, total)
            for k in range(depth):
                factor = y[k, start : start + TILE]
                if each:
                    _multiply(x[k, start : start + TILE], factor, term)
                else:
                    _scale(x[i, k], factor, term)
                if product_lane.size:
                    _round(term, product_lane, flush_product, random, drawn, halves, index, key)
                    rounded += one
                    index += outputs
                if order == SEQUENTIAL:
                    _add(total, term, more, minus_zero)
                    _round(more, lane, flush, random, drawn, halves, index, key)
                    rounded += one
                    index += outputs
                    total, more = more, total
                elif order == KAHAN:
                    correction = state[1, i, start : start + TILE]
                    _subtract(term, correction, more, minus_zero)
                    _round(more, lane, flush, random, drawn, halves, index, key)
                    rounded += one
                    index += outputs
                    _add(total, more, other, minus_zero)
                    _round(other, lane, flush, random, drawn, halves, index, key)
                    rounded += one
                    index += outputs
                    _subtract(other, total, term, minus_zero)
                    _round(term, lane, flush, random, drawn, halves, index, key)
                    rounded += one
                    index += outputs
                    _subtract(term, more, correction, minus_zero)
                    _round(correction, lane, flush, random, drawn, halves, index, key)
                    rounded += one
                    index += outputs
                    total, other = other, total
                else:
                    if not product_lane.size:
                        _round(term, lane, flush, random, drawn, halves, index, key)
                        rounded += one
                        index += outputs
                    level = 0
                    while (count >> level) & 1:
                        _add(state[level, i, start : start + TILE], term, more, minus_zero)
                        _round(more, lane, flush, random, drawn, halves, index, key)
                        rounded += one
                        index += outputs
                        level += 1
                        term, more = more, term
                    _copy(term, state[level, i, start : start + TILE])
                    count += 1
            if order == PAIRWISE:
                if not last or count == 0:
                    continue
                level = 0
                while not (count >> level) & 1:
                    level += 1
                _copy(state[level, i, start : start + TILE], total)
                level += 1
                while count >> level:
                    if (count >> level) & 1:
                        _add(state[level, i, start : start + TILE], total, more, minus_zero)
                        _round(more, lane, flush, random, drawn, halves, index, key)
                        rounded += one
                        index += outputs
                        total, more = more, total
                    level += 1
            _copy(total, sums)
    return rounded - before


def add_sums(x, y, lane, random, draw, minus_zero, flush_below):
    """Add the sums `y` to `x`, both of shape (rows, columns) in bits, rounding once."""
    columns = x.shape[1]
    key, first, stride, outputs, before = draw
    tiles = np.empty((2, TILE), x.dtype)
    halves = np.empty(TILE + 4, np.uint32)
    for i in range(x.shape[0]):
        for start in range(0, columns, TILE):
            sums = x[i, start : start + TILE]
            total, drawn = tiles[0, : sums.size], tiles[1, : sums.size]
            place = first + np.uint64(i) * stride + np.uint64(start) + before * outputs
            _add(sums, y[i, start : start + TILE], total, minus_zero)
            _round(total, lane, flush_below, random, drawn, halves, place, key)
            _copy(total, sums)


def accumulate_exactly(x, y, limbs, specials):
    """Add products of rows of x and y (columns × depth) to fixed-point sums; x may be one row.

    `limbs` has shape (columns, 2, LIMBS): positive and negative terms. What is not finite is
    added up in `specials`, as floats are.
    """
    for j in range(y.shape[0]):
        row = x[j] if x.shape[0] > 1 else x[0]
        for k in range(row.size):
            a, b = row[k], y[j, k]
            if abs(a) < np.inf and abs(b) < np.inf:
                add_product(limbs[j, 0], limbs[j, 1], a, b)
            else:
                specials[j] += a * b


def round_sums(limbs, specials, out, lane, scalar, draw, minus_zero, flush_below):
    """Round fixed-point sums, with what was not finite, to bits of values; clears the limbs."""
    c, s = lane_of(lane), scalar_of(scalar)
    key, first = draw[0], draw[1] + draw[4] * draw[3]
    for j in range(out.size):
        high, low, exponent, minus = difference(limbs[j, 0], limbs[j, 1])
        special = bits_of(specials[j])
        if (special & c.magnitude_mask) >= c.dtype_infinity:
            out[j] = value_by_mode(special, c)
        elif high == 0:
            out[j] = minus_zero
        else:
            word = word_at(first + np.uint64(j), key) if s.mode == STOCHASTIC else c.zero
            place, _, _ = round_exact(high, low, exponent, minus, s, word)
            out[j] = _flush(result_of(place, minus, c, s), flush_below, c)


def significance(x, found):
    """Widen `found` by float64 bits: (precision, lowest and highest exponent), finite and not 0.

    Precision counts bits from the leading one to the last that is set; the lowest exponent is
    that of the last bit.
    """
    for i in range(x.size):
        magnitude = x[i] & np.uint64((1 << 63) - 1)
        if magnitude == 0 or magnitude >= np.uint64(0x7FF << 52):
            continue
        significand, exponent = parts_of(magnitude, np.int64(52), np.int64(1023))
        lowest = significand & (~significand + np.uint64(1))
        trailing = bit_length(lowest) - 1
        leading = bit_length(significand) - 1
        found[0] = max(found[0], leading - trailing + 1)
        found[1] = min(found[1], exponent + trailing)
        found[2] = max(found[2], exponent + leading)


@njit
def _align(significand, shift, rule):
    """significand * 2**shift as an integer; what is below 1 is rounded by a rule."""
    if shift >= 0:
        return significand << min(shift, np.int64(62))
    distance = min(-shift, np.int64(62))
    if rule == TOWARD_NEGATIVE:
        return significand >> distance
    size = -significand if significand < 0 else significand
    kept = size >> distance
    if rule == TIES_TO_EVEN:
        rest = size - (kept << distance)
        half = np.int64(1) << (distance - 1)
        if rest > half or (rest == half and kept & 1):
            kept += 1
    return -kept if significand < 0 else kept


@njit
def _parts(bits, c):
    """(signed significand, its exponent) of finite float64 bits."""
    significand, exponent = parts_of(bits & c.magnitude_mask, np.int64(52), np.int64(1023))
    size = np.int64(significand)
    return -size if bits > c.magnitude_mask else size, exponent


@njit
def _rounded(total, unit, lane, scalar, flush_below, word):
    """Bits of total * 2**unit, rounded into a format; of +0 where it is zero."""
    c, s = lane_of(lane), scalar_of(scalar)
    if total == 0:
        return c.zero
    minus = total < 0
    size = np.uint64(-total if minus else total)
    place, _, _ = round_exact(c.zero, size, unit, minus, s, word)
    return _flush(result_of(place, minus, c, s), flush_below, c)


@njit
def _placed(bits, lane, scalar, word):
    """Float64 bits rounded into a format."""
    c, s = lane_of(lane), scalar_of(scalar)
    magnitude = bits & c.magnitude_mask
    if magnitude == 0 or magnitude >= c.dtype_infinity:
        return value_by_mode(bits, c)
    significand, exponent = parts_of(magnitude, np.int64(52), np.int64(1023))
    minus = bits > c.magnitude_mask
    place, _, _ = round_exact(c.zero, significand, exponent, minus, s, word)
    return result_of(place, minus, c, s)


@njit
def _cut(x, unit, to):
    """x * 2**unit in units of 2**to, cut toward negative."""
    return _align(x, unit - to, TOWARD_NEGATIVE)


def add_aligned(
    x,
    x_exponents,
    x_values,
    y,
    y_exponents,
    y_values,
    sums,
    shape,
    lane,
    scalar,
    block_lane,
    block_scalar,
    flush_below,
    draw,
    minus_zero,
):
    """Add products block by block, aligned to the largest exponent, to the bits of `sums`.

    Significands x (rows × depth; or, for one row of sums, columns × depth) and y (columns × depth)
    are integers in units of their last place, exponents those of their leading place; zeros have an
    exponent far below all others.
    `shape` is (terms in a block, fraction bits kept when aligning, those of a block's sum when it
    is aligned with the sum so far, in how many interleaved parts a block is aligned first, how the
    sum so far meets a block, how what is shifted out is rounded, fraction bits of a product, and
    the exponents of the smallest and of the largest normal sum).
    """
    block, fraction, carry_fraction, parts, carry, rule, product_fraction, lowest, highest = shape
    c, s = lane_of(lane), scalar_of(scalar)
    key, first, stride, outputs, rounded = draw
    depth = x.shape[1]
    each = sums.shape[0] == 1 and x.shape[0] == y.shape[0]
    roundings = 2 if carry == AFTER else 1
    tops = np.empty(2, np.int64)
    partial = np.empty(2, np.int64)
    for output in range(sums.size):
        i, j = divmod(output, sums.shape[1])
        r = j if each else i
        index = first + np.uint64(i) * stride + np.uint64(j) + rounded * outputs
        for start in range(0, depth, block):
            stop = min(start + block, depth)
            bits = sums[i, j]
            # 1. What is not finite, products past the range of sums in two stages included.
            special = (bits & c.magnitude_mask) >= c.dtype_infinity
            total = float_of(bits)
            tops[:] = -NOT_FINITE
            for k in range(start, stop):
                top = x_exponents[r, k] + y_exponents[j, k]
                value = x_values[r, k] * y_values[j, k]
                if top > NOT_FINITE // 2:
                    special = True
                elif carry == TWO_STAGE:
                    if top + bit_length(np.uint64(abs(x[r, k] * y[j, k]))) - 1 > (
                        highest + product_fraction
                    ):
                        special = True
                        value *= np.inf
                    top = max(top, lowest) if value == 0 else top
                total += value
                part = (k - start) % parts
                tops[part] = max(tops[part], top)
            if special:
                sums[i, j] = value_by_mode(bits_of(total), c)
                index += np.uint64(roundings) * outputs
                continue
            # 2. The exponent to align to.
            mine, exponent = _parts(bits, c)
            leading = lowest
            if mine:
                leading = max(exponent + bit_length(np.uint64(abs(mine))) - 1, lowest)
            if carry == JOINS:
                tops[0] = max(tops[0], leading)
            elif carry == AFTER:
                tops[0] = max(tops[0], lowest)
            # 3. Products, in units of the last place that is kept.
            partial[:] = 0
            for k in range(start, stop):
                term = x[r, k] * y[j, k]
                if term:
                    part = (k - start) % parts
                    last = x_exponents[r, k] + y_exponents[j, k] - product_fraction
                    partial[part] += _align(term, last - (tops[part] - fraction), rule)
            # 4. With the sum so far.
            word = c.zero
            if s.mode == STOCHASTIC:
                word = word_at(index, key)
            unit = tops[0] - fraction
            if carry == JOINS:
                partial[0] += _align(mine, exponent - unit, rule)
                sums[i, j] = _rounded(partial[0], unit, lane, scalar, flush_below[0], word)
            elif carry == AFTER:
                more = _rounded(partial[0], unit, block_lane, block_scalar, flush_below[1], word)
                word = word_at(index + outputs, key) if s.mode == STOCHASTIC else c.zero
                tail = odd_sum(float_of(bits), float_of(more), minus_zero)
                sums[i, j] = _flush(_placed(tail, lane, scalar, word), flush_below[0], c)
            else:
                top = max(tops[0], tops[1])
                total_cut = np.int64(0)
                for part in range(parts):
                    total_cut += _cut(partial[part], tops[part] - fraction, top - fraction)
                both = max(top, leading)
                total_cut = _cut(total_cut, top - fraction, both - carry_fraction)
                if parts == 1 or leading >= both - fraction - 1:
                    kept = _cut(mine, exponent, both - fraction)
                    total_cut += kept << (carry_fraction - fraction)
                sums[i, j] = _rounded(
                    total_cut, both - carry_fraction, lane, scalar, flush_below[0], word
                )
            index += np.uint64(roundings) * outputs
