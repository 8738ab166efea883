"""Casts: bits of floats to bits of values of a format, or to codes, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from fpsim.kernels.exact import (
    INEXACT,
    INVALID,
    OVERFLOW,
    STOCHASTIC,
    UNDERFLOW,
    VARIANT_C,
    parts_of,
    round_exact,
    scalar_of,
    value_at,
)
from fpsim.kernels.lanes import (
    AHEAD,
    BLOCK,
    TILE,
    ask_for_tile,
    bits_of,
    float_like,
    float_of,
    lane_of,
    left,
    like,
    right,
)
from fpsim.kernels.words import HALF, fill_halves, halves_for, upper_halves, word_at


@njit(forceinline=True)
def _all_if(bit, c):
    """All ones where the bit is 1, else 0."""
    return like(c.zero - bit, c.one)


@njit(forceinline=True)
def _align(magnitude, c):
    """(below the format's normal range?, significand, how many more bits go there).

    At or above the smallest normal value the dtype's bits serve as they are: the low `shift` bits
    go, and a carry runs into the exponent field, which is right. Below it the significand, its
    leading bit made explicit, takes their place, and one bit more goes for every binade below.

    1. The binade's power of two is the exponent field by itself. The dtype's own subnormals have
       no leading bit and lie in the same binade as exponent field 1.
    2. Without the power of two's bits, and with the leading bit, that is the significand.
    3. The difference of two exponent fields is the number of bits; it wraps around, and is not
       used, above the smallest normal value.
    """
    leading = left(c.one, c.significand_bits)
    binade = max(like(magnitude & c.dtype_infinity, c.one), leading)
    significand = like(magnitude - binade + leading, c.one)
    excess = right(like(c.excess - binade, c.one), c.significand_bits)
    return magnitude < c.min_normal, significand, excess


@njit(forceinline=True)
def _by_mode(magnitude, negative, c):
    """Round in a deterministic mode: (kept bits above `shift` others, below normal?).

    1. What goes in excess is cut off at once. Any bit lost is kept in mind by setting the last
       one that is left to discard, which is below the half and so decides nothing else.
    2. An increment goes in before the cut, so that its carry decides. Nearest: half less one, and
       one more to take a tie up. Away from zero: ones in all discarded places. Toward zero: none.
    3. Even and odd are said of the code. That is the last kept bit, but for precision 1, where
       it is the last bit of the exponent, whose parity the biases may flip.
    """
    below, significand, excess = _align(magnitude, c)
    excess = min(excess, c.top)
    aligned = right(significand, excess)
    lost = like(left(aligned, excess) != significand, c.one)
    base = like(aligned | lost, c.one) if below else magnitude
    increment = c.increment ^ (_all_if(negative, c) & c.increment_negative)
    increment ^= c.increment_odd if (base & c.odd) ^ c.parity != c.zero else c.zero
    return like(base + increment, c.one), below


@njit(forceinline=True)
def _at_random(magnitude, word, c, variant_c):
    """Round stochastically by a random word: (kept bits, below normal?, may they be wrong?).

    1. R, the leading N bits of the word, goes in right below the last place that is kept; what
       it has beyond the discarded bits falls off, and what it lacks is zero: the carry is that
       of floor(ν·2^N) + R >= 2^N. Variant B has 2·R + 1 of N + 1 bits instead.
    2. Variant C rounds the discarded bits to N first. The bits below, left as they are, are
       worth less than R's last and cannot carry.
    3. More than W - 1 discarded bits are shifted down to W - 1 first. The bits that this loses
       matter where the sum is all ones: then an exact second look is due. From 2·(W - 1) bits on,
       more distance changes nothing.
    """
    below, significand, excess = _align(magnitude, c)
    base = significand if below else magnitude
    distance = like(c.shift + (excess if below else c.zero), c.one)
    distance = min(distance, like(c.top + c.top, c.one))
    beyond = like(max(distance, c.top) - c.top, c.one)
    shifted = right(base, beyond)
    distance = min(distance, c.top)
    increment = right(
        right(like((word & c.random_mask) | c.random_tail, c.one), c.one),
        like(c.top - distance, c.one),
    )
    if variant_c:
        lost = base != left(shifted, beyond)
        shifted = like(shifted | like(lost, c.one), c.one)
        cut = like(max(distance, c.random_bits) - c.random_bits, c.one)
        discarded = like(left(c.one, cut) - c.one, c.one)
        odd = like(right(shifted, cut) & discarded & c.one, c.one)
        shifted = like(shifted + right(discarded, c.one) + odd, c.one)
    total = like(shifted + increment, c.one)
    return right(total, distance), below, total == c.magnitude_mask


@njit(forceinline=True)
def _value_result(places, below, magnitude, bits, c):
    """From the bits that are kept to the bits of a float with its sign."""
    normal = left(places, c.shift)
    # The float at `below_float` plus `places` units in its last place, minus the float itself.
    subnormal = bits_of(float_of(like(c.below_float + places, c.one)) - float_of(c.below_float))
    return _finish(subnormal if below else normal, magnitude, bits, bits, c)


@njit(forceinline=True)
def _code_result(places, below, magnitude, bits, c):
    """From the bits that are kept to a code."""
    normal = like(places - c.code_offset, c.one)
    code = left(places, c.below_code_shift) if below else normal
    return _finish(code, magnitude, bits, right(bits, c.sign_shift), c)


@njit(forceinline=True)
def _finish(result, magnitude, bits, sign, c):
    """Put in the sign, and what stands for values past the range, infinities and NaN.

    Those of the dtype are past any format's range, whatever the rounding made of them.
    """
    negative = right(bits, c.top)
    past = c.over ^ (_all_if(negative, c) & c.over_flip)
    infinity = c.infinity ^ (_all_if(negative, c) & c.infinity_flip)
    past = infinity if magnitude >= c.dtype_infinity else past
    past = c.nan if magnitude > c.dtype_infinity else past
    mask = c.sign_mask if result != c.zero else c.zero_sign_mask
    return past if result > c.largest else like(result | (sign & mask), c.one)


def stored(result: Any, out: Any, codes: Any, c: Any) -> Any:
    """A result as an element of `out`: values of float64 lanes may go to float32."""
    raise NotImplementedError  # jitted code only: conversion or none, as the widths are


@overload(stored, jit_options={"forceinline": True})
def _stored_overload(result, out, codes, c):
    # The lane's width: that of an expression is what Numba makes of it.
    if c.types[0] == types.uint64 and out.dtype == types.uint32:
        return lambda result, out, codes, c: (
            np.uint32(result) if codes else bits_of(np.float32(float_of(like(result, c.one))))
        )
    return lambda result, out, codes, c: like(result, c.one)


@njit(forceinline=True)
def result_of(place, negative, c, s):
    """What stands for the value at a place among the codes, or past them."""
    sign = left(c.one, c.top) if negative else c.zero
    if place > np.uint64(s.max_code):
        return like(c.over ^ (c.over_flip if negative else c.zero), c.one)
    if s.codes:
        return _finish(like(place, c.one), c.zero, sign, right(sign, c.sign_shift), c)
    return _finish(bits_of(float_like(value_at(place, s), c.one)), c.zero, sign, sign, c)


@njit(forceinline=True)
def flags_of(place, inexact, tiny, negative, s):
    """The flags that a finite nonzero value raises which is rounded to a place among the codes."""
    if negative and not s.signed and (not s.zero or place != np.uint64(0)):
        return INVALID
    if place > np.uint64(s.max_code):
        return OVERFLOW | INEXACT
    if inexact:
        return INEXACT | UNDERFLOW if tiny else INEXACT
    return 0


@njit(forceinline=True)
def _cast(x, out, lane, codes):
    c = lane_of(lane)
    buffer = np.empty(TILE, x.dtype)
    largest = c.zero
    for start in range(0, x.size, TILE):
        ask_for_tile(x, start + AHEAD)
        source, results = x[start : start + TILE], out[start : start + TILE]
        tile = buffer[: source.size]  # a copy, for `out` may be `x`
        for i in range(source.size):
            tile[i] = source[i]
        for i in range(tile.size):
            bits = tile[i]
            magnitude = like(bits & c.magnitude_mask, c.one)
            total, below = _by_mode(magnitude, right(bits, c.top), c)
            places = right(total, c.shift)
            if codes:
                results[i] = _code_result(places, below, magnitude, bits, c)
            else:
                value = _value_result(places, below, magnitude, bits, c)
                results[i] = stored(value, results, False, c)
            largest = max(largest, magnitude)
    return np.int64(largest > c.dtype_infinity)


@njit(forceinline=True)
def value_by_mode(bits, c):
    """Bits of the value that a float rounds to."""
    magnitude = like(bits & c.magnitude_mask, c.one)
    total, below = _by_mode(magnitude, right(bits, c.top), c)
    return _value_result(right(total, c.shift), below, magnitude, bits, c)


@njit(forceinline=True)
def value_at_random(bits, word, c, variant_c):
    """Bits of the value that a float rounds to by a random word, where that settles it."""
    magnitude = like(bits & c.magnitude_mask, c.one)
    places, below, _ = _at_random(magnitude, word, c, variant_c)
    return _value_result(places, below, magnitude, bits, c)


def round_by_mode(x, out, lane):
    """Round bits of floats to bits of values; returns whether there is NaN."""
    return _cast(x, out, lane, False)


def encode_by_mode(x, out, lane):
    """Round bits of floats to codes; returns whether there is NaN."""
    return _cast(x, out, lane, True)


def random_drawn(buffer: Any, halves: Any, index: Any, key: Any) -> Any:
    """Leading bits of the stream's words from element `index` on, `buffer.size` of them."""
    raise NotImplementedError  # jitted code only: what the width leaves to do differs


@njit(forceinline=True)
def _words_drawn(buffer, halves, index, key):
    upper = upper_halves(halves, index, buffer.size, key)
    for i in range(buffer.size):
        buffer[i] = np.uint64(upper[i]) << HALF
    fill_halves(halves, index // np.uint64(4), np.uint64(1), key)
    for i in range(buffer.size):
        buffer[i] |= np.uint64(upper[i])
    return buffer


@overload(random_drawn)
def random_drawn_overload(buffer, halves, index, key):
    if buffer.dtype == types.uint32:
        return lambda buffer, halves, index, key: upper_halves(halves, index, buffer.size, key)
    return lambda buffer, halves, index, key: _words_drawn(buffer, halves, index, key)


@njit(forceinline=True)
def _round_tile(tile, results, words, c, codes, variant_c):
    """The vectorised loop at random: (the largest magnitude, must some be redone?)."""
    largest, doubtful = c.zero, c.zero
    for i in range(tile.size):
        bits = tile[i]
        magnitude = like(bits & c.magnitude_mask, c.one)
        places, below, doubt = _at_random(magnitude, words[i], c, variant_c)
        if codes:
            results[i] = _code_result(places, below, magnitude, bits, c)
        else:
            value = _value_result(places, below, magnitude, bits, c)
            results[i] = stored(value, results, False, c)
        largest = max(largest, magnitude)
        doubtful = like(doubtful | like(doubt, c.one), c.one)
    return largest, doubtful


@njit(forceinline=True)
def _cast_at_random(x, out, lane, variant, given, key, offset, codes):
    c = lane_of(lane)
    spare = np.uint64(63) - np.uint64(c.top)
    buffer = np.empty(TILE, x.dtype)
    drawn = np.empty(BLOCK, x.dtype)
    halves = halves_for(x.size)
    largest, doubts = c.zero, c.zero
    for first in range(0, x.size, BLOCK):
        part, written = x[first : first + BLOCK], out[first : first + BLOCK]
        words = drawn[: part.size]
        if given.size:
            part_given = given[first : first + BLOCK]
            for i in range(words.size):
                words[i] = like(part_given[i] >> spare, c.one)
        else:
            words = random_drawn(words, halves, offset + np.uint64(first), key)
        for start in range(0, part.size, TILE):
            ask_for_tile(part, start + AHEAD)
            source, results = part[start : start + TILE], written[start : start + TILE]
            tile, tile_words = buffer[: source.size], words[start : start + TILE]
            for i in range(source.size):
                tile[i] = source[i]
            if variant == VARIANT_C:
                highest, doubtful = _round_tile(tile, results, tile_words, c, codes, True)
            else:
                highest, doubtful = _round_tile(tile, results, tile_words, c, codes, False)
            largest = max(largest, highest)
            doubts = like(doubts | doubtful, c.one)
    return np.int64(largest > c.dtype_infinity), np.int64(doubts)


def round_at_random(x, out, lane, variant, given, key, offset):
    """Like `round_by_mode`, by the words `given`, or by the stream of `key` from `offset` on.

    Returns whether there is NaN, and nonzero where `redo` is due with a rule that looks at more
    of the discarded bits than a lane holds.
    """
    return _cast_at_random(x, out, lane, variant, given, key, offset, False)


def encode_at_random(x, out, lane, variant, given, key, offset):
    """Like `encode_by_mode`, at random; see `round_at_random`."""
    return _cast_at_random(x, out, lane, variant, given, key, offset, True)


def redo(x, out, lane, scalar, given, key, offset, everything):
    """Do again by the exact path what the vectorised loop cannot: values below the normal range.

    With `everything`, all finite values.
    """
    c, s = lane_of(lane), scalar_of(scalar)
    bias = np.int64(c.dtype_infinity >> c.significand_bits) >> 1
    for i in range(x.size):
        magnitude = like(x[i] & c.magnitude_mask, c.one)
        below = magnitude < c.min_normal
        if c.zero < magnitude < c.dtype_infinity and (everything or below):
            word = np.uint64(0)
            if s.mode == STOCHASTIC:
                word = given[i] if given.size else word_at(offset + np.uint64(i), key)
            significand, exponent = parts_of(
                np.uint64(magnitude), np.int64(c.significand_bits), bias
            )
            negative = x[i] > c.magnitude_mask
            place, _, _ = round_exact(np.uint64(0), significand, exponent, negative, s, word)
            out[i] = stored(result_of(place, negative, c, s), out, s.codes, c)


def settle_outside(x, out, lane, scalar):
    """Replace results of values below an unsigned format, and of zeros that a format lacks."""
    c, s = lane_of(lane), scalar_of(scalar)
    for i in range(x.size):
        magnitude = like(x[i] & c.magnitude_mask, c.one)
        below_zero = s.signed == 0 and x[i] > c.magnitude_mask and magnitude <= c.dtype_infinity
        beyond = out[i] != 0 if s.zero else True
        outside = (below_zero and beyond) or (s.zero == 0 and magnitude == c.zero)
        out[i] = stored(c.outside, out, s.codes, c) if outside else out[i]


def cast_flags(x, flags, lane, scalar, given, key, offset):
    """Write the exception flags that the casts of `x` raise."""
    c, s = lane_of(lane), scalar_of(scalar)
    bias = np.int64(c.dtype_infinity >> c.significand_bits) >> 1
    quiet = left(c.one, like(c.significand_bits - c.one, c.one))
    for i in range(x.size):
        magnitude = like(x[i] & c.magnitude_mask, c.one)
        negative = x[i] > c.magnitude_mask
        flag = 0
        if magnitude > c.dtype_infinity:
            flag = 0 if magnitude & quiet else INVALID
        elif magnitude == c.dtype_infinity:
            flag = INVALID if negative and not s.signed else s.infinity_flags
        elif magnitude == c.zero:
            flag = 0 if s.zero else INVALID
        else:
            word = np.uint64(0)
            if s.mode == STOCHASTIC:
                word = given[i] if given.size else word_at(offset + np.uint64(i), key)
            significand, exponent = parts_of(
                np.uint64(magnitude), np.int64(c.significand_bits), bias
            )
            place, inexact, tiny = round_exact(
                np.uint64(0), significand, exponent, negative, s, word
            )
            flag = flags_of(place, inexact, tiny, negative, s)
        flags[i] = flag


def decode_table(codes, out, table):
    """Look codes up; returns the bitwise or of all codes, which shows any that is too wide."""
    seen = np.uint64(0)
    for i in range(codes.size):
        code = codes[i]
        seen |= np.uint64(code)
        out[i] = table[code]
    return seen


def decode_wide(codes, out, scalar, sign_place, infinity, nan_low, nan_high, minus_zero, flushed):
    """Compute the values of codes too many to tabulate; returns the bitwise or of all codes.

    Magnitudes are the bits below `sign_place`; `infinity` is one, NaN are `nan_low` to `nan_high`.
    The code of −0 means `minus_zero`, a negative subnormal that is read as zero `flushed`.
    """
    s = scalar_of(scalar)
    seen = np.uint64(0)
    one = np.uint64(1)
    mantissa_mask = (one << np.uint64(s.mantissa_bits)) - one
    spare = np.uint64(52 - s.mantissa_bits)
    magnitude_mask = (one << sign_place) - one
    for i in range(codes.size):
        code = np.uint64(codes[i])
        seen |= code
        magnitude = code & magnitude_mask
        negative = s.signed and (code >> sign_place) & one
        field = np.int64(magnitude >> np.uint64(s.mantissa_bits))
        exponent = s.emin + field - s.zero
        if nan_low <= magnitude <= nan_high:
            value = np.nan
        elif magnitude == infinity:
            value = np.inf
        elif field == 0 and s.zero and not s.subnormals:
            value = 0.0
        elif (field or not s.zero) and -1022 <= exponent <= 1023:
            bits = (magnitude & mantissa_mask) << spare
            value = np.uint64(bits | (np.uint64(exponent + 1023) << np.uint64(52))).view(np.float64)
        else:
            value = value_at(magnitude, s)
        if negative and value == 0.0:
            out[i] = flushed if magnitude else minus_zero
        else:
            out[i] = -value if negative else value
    return seen
