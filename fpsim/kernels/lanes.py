"""Lanes: floats as unsigned integers of their width, and what a vectorised loop needs of them.

A vectorised loop is branch-free and keeps every operand in the width of the data (one wider
operand would halve its speed), which is what `like`, `left` and `right` are for.
"""

from __future__ import annotations

from collections import namedtuple
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
_Loop = namedtuple("_Loop", Dtype._fields + Lane._fields)  # type: ignore[misc]  # what `lane_of` gives


# Keeping the width ---------------------------------------------------------------------------
#
# Numba widens uint32 arithmetic to uint64. These bring a value back to the width of another and
# shift within that width: the mask on the distance lets LLVM prove that it is in range.


def like(value: Any, other: Any) -> Any:
    return type(other)(value)


@overload(like)
def like_overload(value, other):
    if other == types.uint32:
        return lambda value, other: np.uint32(value)
    return lambda value, other: np.uint64(value)


def left(value: Any, distance: Any) -> Any:
    return type(value)(value << distance)


@overload(left)
def left_overload(value, distance):
    if value == types.uint32:
        return lambda value, distance: np.uint32(value << (distance & np.uint32(31)))
    return lambda value, distance: np.uint64(value << (distance & np.uint64(63)))


def right(value: Any, distance: Any) -> Any:
    return type(value)(value >> distance)


@overload(right)
def right_overload(value, distance):
    if value == types.uint32:
        return lambda value, distance: np.uint32(value >> (distance & np.uint32(31)))
    return lambda value, distance: np.uint64(value >> (distance & np.uint64(63)))


def float_of(bits: Any) -> Any:
    return bits.view(np.float32 if bits.dtype == np.uint32 else np.float64)


@overload(float_of)
def _float_overload(bits):
    if bits == types.uint32:
        return lambda bits: np.uint32(bits).view(np.float32)
    return lambda bits: np.uint64(bits).view(np.float64)


def bits_of(value: Any) -> Any:
    return value.view(np.uint32 if value.dtype == np.float32 else np.uint64)


@overload(bits_of)
def _bits_overload(value):
    if value == types.float32:
        return lambda value: np.float32(value).view(np.uint32)
    return lambda value: np.float64(value).view(np.uint64)


def dtype_of(bits: Any) -> Any:
    """The constants of the float dtype with bits of this width."""
    raise NotImplementedError  # jitted code only


@overload(dtype_of)
def dtype_of_overload(bits):
    zero, one, top, significand_bits, magnitude_mask, infinity = _DTYPES[bits]
    return lambda bits: Dtype(zero, one, top, significand_bits, magnitude_mask, infinity)


def lane_of(p: Any) -> Any:
    """A lane's array by the names of `Lane`, with the constants of its dtype."""
    raise NotImplementedError  # jitted code only


@overload(lane_of)
def _lane_overload(p):
    zero, one, top, significand_bits, magnitude_mask, infinity = _DTYPES[p.dtype]
    return lambda p: _Loop(
        zero, one, top, significand_bits, magnitude_mask, infinity,
        p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12], p[13],
        p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23],
    )  # fmt: skip


def float_like(value: Any, other: Any) -> Any:
    return np.float32(value) if other.dtype == np.uint32 else np.float64(value)


@overload(float_like)
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
def ask_for_tile(x, start):
    """Ask memory for a tile ahead of its turn.

    The processor looks a few hundred instructions ahead, which is less than memory is away.
    """
    for ahead in range(start, start + TILE, LINE // x.itemsize):
        _prefetch(x, ahead)
