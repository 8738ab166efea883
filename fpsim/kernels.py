"""Every jitted function: numbers in, numbers out. Imports nothing of fpsim.

One file on purpose: Numba's cache watches the file that a kernel stands in, and would not see
an edit to a helper elsewhere.

Kernels take one-dimensional contiguous arrays and settle nothing themselves: shapes, dtypes,
errors and threads are the caller's. Each is compiled for one signature per dtype, on first use,
by `compiled`. Formats and modes reach them as numbers in two small arrays: the fields of `Lane`
in the unsigned dtype of the data's bits, for the vectorised loop, and the fields of `Scalar` in
int64, for the exact scalar path that serves the rare cases and the flags.

The vectorised loop is branch-free and keeps every operand in the width of the data (one wider
operand would halve its speed), which is what `_like`, `_left` and `_right` are for.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

BLOCK = 4096  # elements that one stage of work leaves in the L1 cache for the next
TILE = 128  # elements rounded between two requests to memory
AHEAD = 8 * TILE  # elements from those in work to those that memory is asked for
LINE = 64  # bytes of a cache line


class Lane(NamedTuple):
    """Constants of the vectorised loop. W is the width of the data's dtype."""

    min_normal: Any  # the format's smallest normal value, as bits of the dtype
    shift: Any  # bits discarded in the normal range
    excess: Any  # below it, more: this less the bits of the binade's power of two (see `_align`)
    increment: Any  # what rounding in a mode adds before it cuts …
    increment_negative: Any  # … with these bits flipped where the value is negative
    increment_odd: Any  # … and these where the lower neighbour's code is odd
    odd: Any  # the last bit that is kept, which says whether a code is odd …
    parity: Any  # … unless this flips it (formats of precision 1)
    random_mask: Any  # the leading bits of a random word that are R …
    random_tail: Any  # … and what follows R (variant B's half)
    random_bits: Any  # N, at most W
    code_offset: Any  # from rounded normal significand to code: subtract this
    below_code_shift: Any  # from rounded subnormal to code: shift left by this
    below_float: Any  # bits of the power of two whose ulp is the subnormal step
    largest: Any  # the largest finite magnitude, as a result
    over: Any  # result past the range …
    over_flip: Any  # … with these bits flipped where the value is negative
    sign_mask: Any  # the sign bit of a result (0: unsigned) …
    zero_sign_mask: Any  # … and of a zero
    sign_shift: Any  # from the dtype's sign bit to a code's: shift right by this
    infinity: Any  # result for infinity …
    infinity_flip: Any  # … with these bits flipped for the negative one
    nan: Any  # result for NaN
    outside: Any  # result below an unsigned format, and for a zero that the format lacks


class Dtype(NamedTuple):
    """Constants of a float dtype, known when a kernel is compiled for it."""

    zero: Any
    one: Any
    top: Any  # the place of the sign bit
    significand_bits: Any  # stored
    magnitude_mask: Any  # all bits but the sign
    dtype_infinity: Any  # its bits


_DTYPES = {
    types.uint32: Dtype(*map(np.uint32, (0, 1, 31, 23, (1 << 31) - 1, 0xFF << 23))),
    types.uint64: Dtype(*map(np.uint64, (0, 1, 63, 52, (1 << 63) - 1, 0x7FF << 52))),
}
_Loop = namedtuple("_Loop", Dtype._fields + Lane._fields)  # type: ignore[misc]  # what `_lane` gives


class Scalar(NamedTuple):
    """Constants of the exact scalar path. Flags are 0 or 1."""

    emin: Any
    mantissa_bits: Any
    subnormals: Any
    zero: Any
    signed: Any
    max_code: Any
    mode: Any  # one of the numbers below
    random_bits: Any  # N; 64 for "every discarded bit"
    variant: Any  # one of the numbers below
    codes: Any  # results are codes, not values
    tiny_before: Any  # tininess is detected before rounding
    infinity_flags: Any  # flags of an infinite value


# Rounding modes of the scalar path.
TIES_TO_EVEN = 0
TIES_TO_AWAY = 1
TIES_TO_ZERO = 2
TOWARD_ZERO = 3
TOWARD_POSITIVE = 4
TOWARD_NEGATIVE = 5
AWAY_FROM_ZERO = 6
TO_ODD = 7
STOCHASTIC = 8

# Variants of stochastic rounding.
VARIANT_A = 0
VARIANT_B = 1
VARIANT_C = 2

INEXACT = 1
UNDERFLOW = 2
OVERFLOW = 4
INVALID = 16


# Keeping the width ---------------------------------------------------------------------------
#
# Numba widens uint32 arithmetic to uint64. These bring a value back to the width of another and
# shift within that width: the mask on the distance lets LLVM prove that it is in range.


def _like(value: Any, other: Any) -> Any:
    return type(other)(value)


@overload(_like)
def _like_overload(value, other):
    if other == types.uint32:
        return lambda value, other: np.uint32(value)
    return lambda value, other: np.uint64(value)


def _left(value: Any, distance: Any) -> Any:
    return type(value)(value << distance)


@overload(_left)
def _left_overload(value, distance):
    if value == types.uint32:
        return lambda value, distance: np.uint32(value << (distance & np.uint32(31)))
    return lambda value, distance: np.uint64(value << (distance & np.uint64(63)))


def _right(value: Any, distance: Any) -> Any:
    return type(value)(value >> distance)


@overload(_right)
def _right_overload(value, distance):
    if value == types.uint32:
        return lambda value, distance: np.uint32(value >> (distance & np.uint32(31)))
    return lambda value, distance: np.uint64(value >> (distance & np.uint64(63)))


def _float(bits: Any) -> Any:
    return bits.view(np.float32 if bits.dtype == np.uint32 else np.float64)


@overload(_float)
def _float_overload(bits):
    if bits == types.uint32:
        return lambda bits: np.uint32(bits).view(np.float32)
    return lambda bits: np.uint64(bits).view(np.float64)


def _bits(value: Any) -> Any:
    return value.view(np.uint32 if value.dtype == np.float32 else np.uint64)


@overload(_bits)
def _bits_overload(value):
    if value == types.float32:
        return lambda value: np.float32(value).view(np.uint32)
    return lambda value: np.float64(value).view(np.uint64)


def _lane(p: Any) -> Any:
    """A lane's array by the names of `Lane`, with the constants of its dtype."""
    raise NotImplementedError  # jitted code only


@overload(_lane)
def _lane_overload(p):
    zero, one, top, significand_bits, magnitude_mask, infinity = _DTYPES[p.dtype]
    return lambda p: _Loop(
        zero, one, top, significand_bits, magnitude_mask, infinity,
        p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12], p[13],
        p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23],
    )  # fmt: skip


@njit(forceinline=True)
def _scalar(p):
    return Scalar(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11])


# Random words --------------------------------------------------------------------------------
#
# Philox4x32-7 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011):
# a bijection of a 128-bit counter under a 64-bit key, here in 64-bit lanes that hold 32-bit words.
# Element i of a stream owns the 64-bit word whose upper half is word i % 4 of the block with
# counter (i // 4, half = 0) and whose lower half is that of (i // 4, half = 1).

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@njit(forceinline=True)
def _philox_round(a, b, c, d, key0, key1):
    product0 = a * np.uint64(0xD2511F53)
    product1 = c * np.uint64(0xCD9E8D57)
    return (
        (product1 >> _HALF) ^ b ^ key0,
        product1 & _LOW,
        (product0 >> _HALF) ^ d ^ key1,
        product0 & _LOW,
    )


@njit(forceinline=True)
def _philox(block, half, key):
    """The four 32-bit words of a block."""
    key0, key1 = key & _LOW, key >> _HALF
    step0, step1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
    a, b, c, d = block & _LOW, block >> _HALF, half, np.uint64(0)
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
def _fill_halves(halves, block, half, key):
    """Write the words of the blocks from `block` on; `halves` holds a multiple of four."""
    for j in range(halves.size // 4):
        # Words are counted modulo 2**64, blocks of four modulo 2**62.
        a, b, c, d = _philox((block + np.uint64(j)) & np.uint64((1 << 62) - 1), half, key)
        halves[4 * j] = a
        halves[4 * j + 1] = b
        halves[4 * j + 2] = c
        halves[4 * j + 3] = d


def random_words(words, key, offset):
    """Fill uint64 `words` with those of the stream's elements from `offset` on."""
    upper = np.empty(BLOCK, np.uint32)
    lower = np.empty(BLOCK, np.uint32)
    lead = np.int64(offset % np.uint64(4))
    start = -lead
    block = offset // np.uint64(4)
    while start < words.size:
        _fill_halves(upper, block, np.uint64(0), key)
        _fill_halves(lower, block, np.uint64(1), key)
        for i in range(max(start, 0), min(start + BLOCK, words.size)):
            words[i] = (np.uint64(upper[i - start]) << _HALF) | np.uint64(lower[i - start])
        start += BLOCK
        block += np.uint64(BLOCK // 4)


@njit
def _word(index, key):
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
    return (high << _HALF) | low


# Exact scalar path ---------------------------------------------------------------------------


@njit
def _bit_length(x):
    length = np.int64(0)
    for step in (32, 16, 8, 4, 2, 1):
        if x >> np.uint64(step):
            x >>= np.uint64(step)
            length += step
    return length + np.int64(x)


@njit
def _parts(magnitude, significand_bits, exponent_bias):
    """(significand, exponent of its last place) of a finite float's magnitude bits."""
    field = np.int64(magnitude >> np.uint64(significand_bits))
    leading = np.uint64(1) << np.uint64(significand_bits)
    significand = magnitude & (leading - np.uint64(1))
    if field == 0:
        return significand, np.int64(1) - exponent_bias - significand_bits
    return significand | leading, field - exponent_bias - significand_bits


@njit
def _up_at_random(rest, distance, c, word):
    """Stochastic rounding's decision on a fraction rest / 2**distance (see `Stochastic`)."""
    one = np.uint64(1)
    lost = False
    if distance <= 64:
        fraction = rest << np.uint64(64 - distance)
    elif distance < 128:
        fraction = rest >> np.uint64(distance - 64)
        lost = (fraction << np.uint64(distance - 64)) != rest
    else:
        fraction = np.uint64(0)
        lost = True
    tail = np.uint64(64 - c.random_bits)
    if c.random_bits < 64:
        word = (word >> tail) << tail
        if c.variant == VARIANT_B:
            word |= one << (tail - one)
        elif c.variant == VARIANT_C:
            if lost:
                fraction |= one
            odd = (fraction >> tail) & one
            rounded = fraction + (one << (tail - one)) - one + odd
            if rounded < fraction:
                return True  # rounded up to 1
            fraction = (rounded >> tail) << tail
    return fraction > ~word


@njit
def _round_places(significand, distance, lower_index_offset, negative, c, word):
    """Round significand / 2**distance to an integer: (integer, was it inexact)."""
    if distance <= 0:
        return significand << np.uint64(-distance), False
    one = np.uint64(1)
    if distance > 63:  # the significand has at most 53 bits: the fraction is below 1/2
        below, rest, against_half = np.uint64(0), significand, -1
    else:
        below = significand >> np.uint64(distance)
        rest = significand & ((one << np.uint64(distance)) - one)
        half = one << np.uint64(distance - 1)
        against_half = 0 if rest == half else (1 if rest > half else -1)
    if rest == 0:
        return below, False
    odd = ((below + lower_index_offset) & one) == one
    mode = c.mode
    if mode == TIES_TO_EVEN:
        up = against_half > 0 or (against_half == 0 and odd)
    elif mode == TIES_TO_AWAY:
        up = against_half >= 0
    elif mode == TIES_TO_ZERO:
        up = against_half > 0
    elif mode == TOWARD_ZERO:
        up = False
    elif mode == TOWARD_POSITIVE:
        up = not negative
    elif mode == TOWARD_NEGATIVE:
        up = negative
    elif mode == AWAY_FROM_ZERO:
        up = True
    elif mode == TO_ODD:
        up = not odd
    else:
        up = _up_at_random(rest, distance, c, word)
    return below + np.uint64(up), True


@njit
def _round_exact(significand, exponent, negative, c, word):
    """Round significand * 2**exponent > 0: (place in the order of codes, inexact, tiny).

    Places go on past the largest finite value as if there were no end to the exponents.
    """
    leading = np.uint64(1) << np.uint64(c.mantissa_bits)
    e = _bit_length(significand) - 1 + exponent
    if e >= c.emin:
        # Places of this binade start at `offset`, when the leading bit is counted too.
        offset = (np.uint64(e - c.emin + c.zero) << np.uint64(c.mantissa_bits)) - leading
        places, inexact = _round_places(
            significand, e - c.mantissa_bits - exponent, offset, negative, c, word
        )
        return places + offset, inexact, False
    tiny = True
    if e == c.emin - 1 and c.tiny_before == 0:
        # Tiny unless rounding at full precision, with no end to the exponents, gets to 2**emin.
        places, _ = _round_places(
            significand,
            e - c.mantissa_bits - exponent,
            leading if c.zero else np.uint64(0),
            negative,
            c,
            word,
        )
        tiny = places < leading + leading
    if c.zero == 0:
        return np.uint64(0), True, tiny
    step = c.emin - c.mantissa_bits if c.subnormals else c.emin
    places, inexact = _round_places(significand, step - exponent, np.uint64(0), negative, c, word)
    if not c.subnormals:
        places <<= np.uint64(c.mantissa_bits)
    return places, inexact, tiny


@njit
def _value(place, c):
    """The value at a place in the order of codes."""
    one = np.uint64(1)
    field = np.int64(place >> np.uint64(c.mantissa_bits))
    mantissa = place & ((one << np.uint64(c.mantissa_bits)) - one)
    if field == 0 and c.zero:
        return math.ldexp(float(mantissa), c.emin - c.mantissa_bits)
    leading = one << np.uint64(c.mantissa_bits)
    return math.ldexp(float(leading | mantissa), c.emin + field - c.zero - c.mantissa_bits)


# Casts ---------------------------------------------------------------------------------------


@njit(forceinline=True)
def _all_if(bit, c):
    """All ones where the bit is 1, else 0."""
    return _like(c.zero - bit, c.one)


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
    leading = _left(c.one, c.significand_bits)
    binade = max(_like(magnitude & c.dtype_infinity, c.one), leading)
    significand = _like(magnitude - binade + leading, c.one)
    excess = _right(_like(c.excess - binade, c.one), c.significand_bits)
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
    aligned = _right(significand, excess)
    lost = _like(_left(aligned, excess) != significand, c.one)
    base = _like(aligned | lost, c.one) if below else magnitude
    increment = c.increment ^ (_all_if(negative, c) & c.increment_negative)
    increment ^= c.increment_odd if (base & c.odd) ^ c.parity != c.zero else c.zero
    return _like(base + increment, c.one), below


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
    distance = _like(c.shift + (excess if below else c.zero), c.one)
    distance = min(distance, _like(c.top + c.top, c.one))
    beyond = _like(max(distance, c.top) - c.top, c.one)
    shifted = _right(base, beyond)
    distance = min(distance, c.top)
    increment = _right(
        _right(_like((word & c.random_mask) | c.random_tail, c.one), c.one),
        _like(c.top - distance, c.one),
    )
    if variant_c:
        lost = base != _left(shifted, beyond)
        shifted = _like(shifted | _like(lost, c.one), c.one)
        cut = _like(max(distance, c.random_bits) - c.random_bits, c.one)
        discarded = _like(_left(c.one, cut) - c.one, c.one)
        odd = _like(_right(shifted, cut) & discarded & c.one, c.one)
        shifted = _like(shifted + _right(discarded, c.one) + odd, c.one)
    total = _like(shifted + increment, c.one)
    return _right(total, distance), below, total == c.magnitude_mask


@njit(forceinline=True)
def _value_result(places, below, magnitude, bits, c):
    """From the bits that are kept to the bits of a float with its sign."""
    normal = _left(places, c.shift)
    # The float at `below_float` plus `places` units in its last place, minus the float itself.
    subnormal = _bits(_float(_like(c.below_float + places, c.one)) - _float(c.below_float))
    return _finish(subnormal if below else normal, magnitude, bits, bits, c)


@njit(forceinline=True)
def _code_result(places, below, magnitude, bits, c):
    """From the bits that are kept to a code."""
    normal = _like(places - c.code_offset, c.one)
    code = _left(places, c.below_code_shift) if below else normal
    return _finish(code, magnitude, bits, _right(bits, c.sign_shift), c)


@njit(forceinline=True)
def _finish(result, magnitude, bits, sign, c):
    """Put in the sign, and what stands for values past the range, infinities and NaN.

    Those of the dtype are past any format's range, whatever the rounding made of them.
    """
    negative = _right(bits, c.top)
    past = c.over ^ (_all_if(negative, c) & c.over_flip)
    infinity = c.infinity ^ (_all_if(negative, c) & c.infinity_flip)
    past = infinity if magnitude >= c.dtype_infinity else past
    past = c.nan if magnitude > c.dtype_infinity else past
    mask = c.sign_mask if result != c.zero else c.zero_sign_mask
    return past if result > c.largest else _like(result | (sign & mask), c.one)


@njit(forceinline=True)
def _slow(bits, c, s, word):
    """The result of a finite nonzero value by the exact scalar path."""
    magnitude = _like(bits & c.magnitude_mask, c.one)
    negative = bits > c.magnitude_mask
    bias = np.int64(c.dtype_infinity >> c.significand_bits) >> 1
    significand, exponent = _parts(np.uint64(magnitude), np.int64(c.significand_bits), bias)
    place, _, _ = _round_exact(significand, exponent, negative, s, word)
    if place > np.uint64(s.max_code):
        return _like(c.over ^ (c.over_flip if negative else c.zero), c.one)
    if s.codes:
        sign = _right(bits, c.sign_shift)
        return _finish(_like(place, c.one), magnitude, bits, sign, c)
    return _finish(_bits(_float_like(_value(place, s), c.one)), magnitude, bits, bits, c)


def _float_like(value: Any, other: Any) -> Any:
    return np.float32(value) if other.dtype == np.uint32 else np.float64(value)


@overload(_float_like)
def _float_like_overload(value, other):
    if other == types.uint32:
        return lambda value, other: np.float32(value)
    return lambda value, other: np.float64(value)


@intrinsic
def _prefetch(typing_context, array, index):
    """Ask for the cache line of an element, which may lie past the end."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(function, [address, number(0), number(3), number(1)])  # read, keep, data
        return context.get_dummy_value()

    return types.void(array, index), generate


@njit(forceinline=True)
def _ask_for_tile(x, start):
    """Ask memory for a tile ahead of its turn.

    The processor looks a few hundred instructions ahead, which is less than memory is away.
    """
    for ahead in range(start, start + TILE, LINE // x.itemsize):
        _prefetch(x, ahead)


@njit(forceinline=True)
def _cast(x, out, lane, codes):
    c = _lane(lane)
    buffer = np.empty(TILE, x.dtype)
    largest = c.zero
    for start in range(0, x.size, TILE):
        _ask_for_tile(x, start + AHEAD)
        source, results = x[start : start + TILE], out[start : start + TILE]
        tile = buffer[: source.size]  # a copy, for `out` may be `x`
        for i in range(source.size):
            tile[i] = source[i]
        for i in range(tile.size):
            bits = tile[i]
            magnitude = _like(bits & c.magnitude_mask, c.one)
            total, below = _by_mode(magnitude, _right(bits, c.top), c)
            places = _right(total, c.shift)
            if codes:
                results[i] = _code_result(places, below, magnitude, bits, c)
            else:
                results[i] = _value_result(places, below, magnitude, bits, c)
            largest = max(largest, magnitude)
    return np.int64(largest > c.dtype_infinity)


def round_by_mode(x, out, lane):
    """Round bits of floats to bits of values; returns whether there is NaN."""
    return _cast(x, out, lane, False)


def encode_by_mode(x, out, lane):
    """Round bits of floats to codes; returns whether there is NaN."""
    return _cast(x, out, lane, True)


def _drawn(buffer: Any, halves: Any, index: Any, key: Any) -> Any:
    """Leading bits of the stream's words from element `index` on, `buffer.size` of them."""
    raise NotImplementedError  # jitted code only: what the width leaves to do differs


@njit(forceinline=True)
def _halves_drawn(buffer, halves, index, key):
    _fill_halves(halves, index // np.uint64(4), np.uint64(0), key)
    lead = np.int64(index % np.uint64(4))
    return halves[lead : lead + buffer.size]


@njit(forceinline=True)
def _words_drawn(buffer, halves, index, key):
    block, lead = index // np.uint64(4), np.int64(index % np.uint64(4))
    _fill_halves(halves, block, np.uint64(0), key)
    upper = halves[lead : lead + buffer.size]
    for i in range(buffer.size):
        buffer[i] = np.uint64(upper[i]) << _HALF
    _fill_halves(halves, block, np.uint64(1), key)
    for i in range(buffer.size):
        buffer[i] |= np.uint64(upper[i])
    return buffer


@overload(_drawn)
def _drawn_overload(buffer, halves, index, key):
    if buffer.dtype == types.uint32:
        return lambda buffer, halves, index, key: _halves_drawn(buffer, halves, index, key)
    return lambda buffer, halves, index, key: _words_drawn(buffer, halves, index, key)


@njit(forceinline=True)
def _round_tile(tile, results, words, c, codes, variant_c):
    """The vectorised loop at random: (the largest magnitude, must some be redone?)."""
    largest, doubtful = c.zero, c.zero
    for i in range(tile.size):
        bits = tile[i]
        magnitude = _like(bits & c.magnitude_mask, c.one)
        places, below, doubt = _at_random(magnitude, words[i], c, variant_c)
        if codes:
            results[i] = _code_result(places, below, magnitude, bits, c)
        else:
            results[i] = _value_result(places, below, magnitude, bits, c)
        largest = max(largest, magnitude)
        doubtful = _like(doubtful | _like(doubt, c.one), c.one)
    return largest, doubtful


@njit(forceinline=True)
def _cast_at_random(x, out, lane, variant, given, key, offset, codes):
    c = _lane(lane)
    spare = np.uint64(63) - np.uint64(c.top)
    buffer = np.empty(TILE, x.dtype)
    drawn = np.empty(BLOCK, x.dtype)
    halves = np.empty(BLOCK + 4, np.uint32)
    largest, doubts = c.zero, c.zero
    for first in range(0, x.size, BLOCK):
        part, written = x[first : first + BLOCK], out[first : first + BLOCK]
        words = drawn[: part.size]
        if given.size:
            part_given = given[first : first + BLOCK]
            for i in range(words.size):
                words[i] = _like(part_given[i] >> spare, c.one)
        else:
            words = _drawn(words, halves, offset + np.uint64(first), key)
        for start in range(0, part.size, TILE):
            _ask_for_tile(part, start + AHEAD)
            source, results = part[start : start + TILE], written[start : start + TILE]
            tile, tile_words = buffer[: source.size], words[start : start + TILE]
            for i in range(source.size):
                tile[i] = source[i]
            if variant == VARIANT_C:
                highest, doubtful = _round_tile(tile, results, tile_words, c, codes, True)
            else:
                highest, doubtful = _round_tile(tile, results, tile_words, c, codes, False)
            largest = max(largest, highest)
            doubts = _like(doubts | doubtful, c.one)
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
    c, s = _lane(lane), _scalar(scalar)
    for i in range(x.size):
        magnitude = _like(x[i] & c.magnitude_mask, c.one)
        below = magnitude < c.min_normal
        if c.zero < magnitude < c.dtype_infinity and (everything or below):
            word = np.uint64(0)
            if s.mode == STOCHASTIC:
                word = given[i] if given.size else _word(offset + np.uint64(i), key)
            out[i] = _slow(x[i], c, s, word)


def settle_outside(x, out, lane, scalar):
    """Replace results of values below an unsigned format, and of zeros that a format lacks."""
    c, s = _lane(lane), _scalar(scalar)
    for i in range(x.size):
        magnitude = _like(x[i] & c.magnitude_mask, c.one)
        below_zero = s.signed == 0 and x[i] > c.magnitude_mask and magnitude <= c.dtype_infinity
        beyond = out[i] != 0 if s.zero else True
        outside = (below_zero and beyond) or (s.zero == 0 and magnitude == c.zero)
        out[i] = c.outside if outside else out[i]


def cast_flags(x, flags, lane, scalar, given, key, offset):
    """Write the exception flags that the casts of `x` raise."""
    c, s = _lane(lane), _scalar(scalar)
    bias = np.int64(c.dtype_infinity >> c.significand_bits) >> 1
    quiet = _left(c.one, _like(c.significand_bits - c.one, c.one))
    for i in range(x.size):
        magnitude = _like(x[i] & c.magnitude_mask, c.one)
        negative = x[i] > c.magnitude_mask
        flag = 0
        if magnitude > c.dtype_infinity:
            flag = 0 if magnitude & quiet else INVALID
        elif magnitude == c.dtype_infinity:
            flag = INVALID if negative and not s.signed else s.infinity_flags
        elif magnitude == c.zero:
            flag = 0 if s.zero else INVALID
        elif negative and not s.signed and not s.zero:
            flag = INVALID
        else:
            word = np.uint64(0)
            if s.mode == STOCHASTIC:
                word = given[i] if given.size else _word(offset + np.uint64(i), key)
            significand, exponent = _parts(np.uint64(magnitude), np.int64(c.significand_bits), bias)
            place, inexact, tiny = _round_exact(significand, exponent, negative, s, word)
            if negative and not s.signed and place != np.uint64(0):
                flag = INVALID
            elif place > np.uint64(s.max_code):
                flag = OVERFLOW | INEXACT
            elif inexact:
                flag = INEXACT | UNDERFLOW if tiny else INEXACT
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
    s = _scalar(scalar)
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
            value = _value(magnitude, s)
        if negative and value == 0.0:
            out[i] = flushed if magnitude else minus_zero
        else:
            out[i] = -value if negative else value
    return seen


# Sketch --------------------------------------------------------------------------------------


@njit
def _sketch_one(magnitude, table, lowest):
    """Add one finite nonzero float64, by its bits, to its cell of a table (see `sketch64`)."""
    if magnitude >> np.uint64(52) == 0:  # a subnormal: bring the leading bit to its place
        shift = np.uint64(53 - _bit_length(magnitude))
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
            _ask_for_tile(part, tile_start + AHEAD)
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


# Compilation ---------------------------------------------------------------------------------


def _array(dtype: Any, dimensions: int = 1, written: bool = True) -> Any:
    return types.Array(dtype, dimensions, "C", readonly=not written)


_ELEMENTS = {
    np.dtype(name): getattr(types, name)
    for name in ("uint8", "uint16", "uint32", "uint64", "float32", "float64")
}
_CONSTANTS = (_array(types.int64, written=False),)
_STREAM = (_array(types.uint64, written=False), types.uint64, types.uint64)
_TABLE = (_array(types.uint64, 2), types.int64, _array(types.uint64))


def _cast_signature(x: Any, out: Any) -> Any:
    return types.int64(_array(x, written=False), _array(out), _array(x, written=False))


def _random_cast_signature(x: Any, out: Any) -> Any:
    return types.UniTuple(types.int64, 2)(*_cast_signature(x, out).args, types.int64, *_STREAM)


# The signature of each kernel, given the types of the elements that it reads and writes.
_SIGNATURES: dict[Callable[..., Any], Callable[[Any, Any], Any]] = {
    round_by_mode: _cast_signature,
    encode_by_mode: _cast_signature,
    round_at_random: _random_cast_signature,
    encode_at_random: _random_cast_signature,
    redo: lambda x, out: types.void(
        *_cast_signature(x, out).args, *_CONSTANTS, *_STREAM, types.boolean
    ),
    settle_outside: lambda x, out: types.void(*_cast_signature(x, out).args, *_CONSTANTS),
    cast_flags: lambda x, out: types.void(*_cast_signature(x, out).args, *_CONSTANTS, *_STREAM),
    decode_table: lambda x, out: types.uint64(
        _array(x, written=False), _array(out), _array(out, written=False)
    ),
    decode_wide: lambda x, out: types.uint64(
        _array(x, written=False),
        _array(out),
        *_CONSTANTS,
        *(types.uint64,) * 4,
        *(types.float64,) * 2,
    ),
    random_words: lambda x, out: types.void(_array(out), types.uint64, types.uint64),
    sketch32: lambda x, out: types.void(_array(x, written=False), _array(types.uint64, 2), *_TABLE),
    sketch64: lambda x, out: types.void(_array(x, written=False), *_TABLE),
    scaled: lambda x, out: types.void(_array(x, written=False), _array(out), types.float64),
    error_sums: lambda x, out: types.void(
        *(_array(x, written=False),) * 3, types.float64, types.int64, _array(out)
    ),
}


@cache
def compiled(
    kernel: Callable[..., Any], source: np.dtype[Any], target: np.dtype[Any]
) -> Callable[..., Any]:
    """The kernel for these dtypes of input and output, compiled or loaded from the cache.

    The signature is given beforehand, so that read-only and writable input share one compilation.
    """
    signature = _SIGNATURES[kernel](_ELEMENTS[source], _ELEMENTS[target])
    compiled_kernel: Callable[..., Any] = njit(signature, cache=True, nogil=True)(kernel)
    return compiled_kernel
