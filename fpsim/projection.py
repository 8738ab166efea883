"""From arguments to kernels: formats, modes and rules as numbers, and casts on all threads.

Imports format, rounding, kernels, stream, threads, inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import kernels
from fpsim.catalog import parse
from fpsim.format import Format, NaNs
from fpsim.inputs import F32, F64, chunks, holds
from fpsim.kernels import casts, exact, operate
from fpsim.kernels.lanes import Lane
from fpsim.rounding import (
    Flag,
    Overflow,
    Rounding,
    Stochastic,
    parse_overflow,
    parse_rounding,
    parse_tininess,
)
from fpsim.stream import Stream
from fpsim.threads import over_chunks

_TABLE_BITS = 16  # formats of up to this many bits are decoded by a table
_UINT: dict[np.dtype[Any], np.dtype[Any]] = {F32: np.dtype(np.uint32), F64: np.dtype(np.uint64)}
_U8: np.dtype[Any] = np.dtype(np.uint8)
_NO_WORDS = np.zeros(0, np.uint64)
_NO_FLAGS = np.zeros(0, np.uint8)
_PIECE = 1 << 16  # results of an operation that stay in the cache until they are cast
_F64_PRECISION = 53
_F32_PRECISION = 24
_F32_QUANTUM = -149  # exponent of float32's smallest subnormal

_MODES = {
    Rounding.ties_to_even: exact.TIES_TO_EVEN,
    Rounding.ties_to_away: exact.TIES_TO_AWAY,
    Rounding.ties_to_zero: exact.TIES_TO_ZERO,
    Rounding.toward_zero: exact.TOWARD_ZERO,
    Rounding.toward_positive: exact.TOWARD_POSITIVE,
    Rounding.toward_negative: exact.TOWARD_NEGATIVE,
    Rounding.away_from_zero: exact.AWAY_FROM_ZERO,
    Rounding.to_odd: exact.TO_ODD,
}
# How many of the discarded bits a stochastic decision looks at, beyond N: variant C's tie needs
# the next one and whether any follows.
LOOKAHEAD = {"A": 0, "B": 1, "C": 2}


@dataclass(frozen=True)
class Projection:
    """What becomes of an exact result: all that the kernels need to know, and hashable."""

    fmt: Format
    rounding: Rounding | Stochastic
    overflow: Overflow
    tiny_before: bool  # whether tininess is detected before rounding
    codes: bool  # whether codes are wanted, not values

    @property
    def random_bits(self) -> int:
        """How many bits below the last place of the format a random word is compared with."""
        if not isinstance(self.rounding, Stochastic):
            return 0
        return (self.rounding.bits or 64) + LOOKAHEAD[self.rounding.variant]

    @property
    def odd_bits(self) -> int:
        """How many bits below the last place a float rounded to odd needs, the odd one included.

        In a mode: that of the half, and the odd one. At random: N, the odd one, and for variants
        B and C the one between, which is their half.
        """
        if not isinstance(self.rounding, Stochastic):
            return 2
        return (self.rounding.bits or 64) + (1 if self.rounding.variant == "A" else 2)


def parse_projection(
    fmt: Any, rounding: Any, overflow: Any, tininess: Any, codes: bool = False
) -> Projection:
    """A projection from the arguments that casts and operations take."""
    parsed = parse(fmt)
    parsed.require_binary64()
    return Projection(
        parsed,
        parse_rounding(rounding),
        parse_overflow(overflow),
        parse_tininess(tininess),
        codes,
    )


def float32_suffices(projection: Projection) -> bool:
    """Whether float32 rounded to odd has enough bits for the decision.

    Below the normal range it has as many more as the format, less one: whether a result is tiny
    is seen at full precision one binade below.
    """
    fmt = projection.fmt
    return (
        holds(F32, fmt)
        and fmt.precision + projection.odd_bits <= _F32_PRECISION
        and fmt.quantum_exponent - projection.odd_bits - 1 >= _F32_QUANTUM
        and fmt.emin - fmt.precision - projection.odd_bits >= _F32_QUANTUM
    )


@dataclass(frozen=True)
class Operation:
    """An operation of the kernels."""

    number: int  # of `operate`'s
    kernel: Callable[..., Any]
    operands: int


def project(
    sources: list[NDArray[Any]],
    lanes: np.dtype[Any],
    target: NDArray[Any],
    projection: Projection,
    *,
    rng: Any,
    given: NDArray[np.uint64] | None,
    flags: NDArray[np.uint8] | None,
    operation: Operation | None = None,
    narrow: bool = False,
) -> list[tuple[int, int]]:
    """Cast a source, or the results of an operation, into `target`.

    Sources, target, `given` and `flags` are of one shape. `lanes` is the dtype that is computed
    in; with an operation, it gives as many bits as its results need, or float64; `narrow` says that
    float32 holds the operands of one all the same. Returns (index of
    the first, how many) for parts of the array in which NaN met a format without NaN.
    """
    uint = _UINT[lanes]
    # What a kernel writes: codes as they are, values as bits of the lanes' dtype.
    read = F32 if narrow else lanes
    value = F32 if narrow and target.dtype == F32 else lanes
    element = projection.fmt.code_dtype if projection.codes else value
    written = element if projection.codes else _UINT[value]
    c = constants_of(projection, lanes)
    cast = _Cast(c, uint, written, flags is not None)
    stream = Stream.of(rng, target.shape) if c.random and given is None else Stream(0)
    key = np.uint64(stream.seed)
    operands = [(source, read) for source in sources]
    operands.append((target, element))
    if flags is not None:
        operands.append((flags, flags.dtype))
    if given is not None:
        operands.append((given, given.dtype))
    # A kernel may write over its input; a second look at the input needs a copy then.
    overwrites = any(np.may_share_memory(source, target) for source in sources)
    keep = overwrites and (cast.looks_twice or operation is not None)
    steps = None if operation is None else _Operate(operation, projection, c, read, lanes, written)
    nans: list[tuple[int, int]] = []

    def work(start: int, stop: int) -> None:
        buffer = np.empty(0 if steps is None else _PIECE, uint)
        pieces = chunks(operands, start, stop, read=len(sources), stretch=stream.stretch)
        for arrays, index in pieces:
            length = max(arrays[0].size, 1) if steps is None else _PIECE
            for first in range(0, arrays[0].size, length):
                piece = [array[first : first + length] for array in arrays]
                inputs, results = piece[: len(sources)], piece[len(sources)].view(written)
                raised = _NO_FLAGS if flags is None else piece[len(sources) + 1]
                words = _NO_WORDS if given is None else piece[-1]
                draw = words, key, stream.word_of(index + first)
                if steps is None:
                    bits = inputs[0].view(uint)
                    if keep:
                        bits = bits.copy()
                    found = cast(bits, results, raised, draw)
                else:
                    bits = buffer[: results.size]
                    again = steps(inputs, bits)
                    if keep:
                        inputs = [array.copy() for array in inputs]
                    found = cast(bits, results, raised, draw, settle=False)
                if found and projection.fmt.nan_code is None:
                    nan = np.isnan(bits.view(lanes))
                    nans.append((index + first + int(np.argmax(nan)), int(np.count_nonzero(nan))))
                if steps is not None:
                    steps.finish(inputs, bits, results, raised, draw, again)
                    cast.settle(bits, results)

    over_chunks(target.size, work)
    return nans


class _Cast:
    """The kernels of a cast, in their order."""

    def __init__(
        self, c: Constants, uint: np.dtype[Any], written: np.dtype[Any], flags: bool
    ) -> None:
        by_mode = casts.encode_by_mode if c.codes else casts.round_by_mode
        at_random = casts.encode_at_random if c.codes else casts.round_at_random
        self.c = c
        self.run = kernels.compiled(at_random if c.random else by_mode, uint, written)
        self.redo = partial(kernels.compiled, casts.redo, uint, written)  # rarely needed
        self.outside = kernels.compiled(casts.settle_outside, uint, written) if c.outside else None
        self.flag = kernels.compiled(casts.cast_flags, uint, _U8) if flags else None
        self.looks_twice = c.slow_below or c.near or c.outside

    def __call__(
        self,
        bits: NDArray[Any],
        results: NDArray[Any],
        flags: NDArray[np.uint8],
        draw: tuple[Any, ...],
        settle: bool = True,
    ) -> bool:
        """Cast contiguous bits; returns whether there is NaN among them."""
        c = self.c
        if self.flag is not None:
            self.flag(bits, flags, c.lane, c.scalar, *draw)
        doubts = 0
        if c.random:
            found, doubts = self.run(bits, results, c.lane, c.variant, *draw)
        else:
            found = self.run(bits, results, c.lane)
        everything = c.near and doubts != 0
        if everything or c.slow_below:
            self.redo()(bits, results, c.lane, c.scalar, *draw, everything)
        if settle:
            self.settle(bits, results)
        return bool(found)

    def settle(self, bits: NDArray[Any], results: NDArray[Any]) -> None:
        """Put in what stands for values that the format has no sign or no zero for."""
        if self.outside is not None:
            self.outside(bits, results, self.c.lane, self.c.scalar)


class _Operate:
    """The kernels of an operation, before and after its results are cast."""

    def __init__(
        self,
        operation: Operation,
        projection: Projection,
        c: Constants,
        read: np.dtype[Any],
        lanes: np.dtype[Any],
        written: np.dtype[Any],
    ) -> None:
        self.c = c
        self.number = operation.number
        self.run = kernels.compiled(operation.kernel, read, lanes)
        self.exactly = partial(kernels.compiled, operate.operate_exactly, read, lanes, written)
        self.flag = partial(kernels.compiled, operate.operation_flags, read, lanes, _U8)
        # Where float64 rounded to odd has too few bits for the decision, exact results are due.
        self.everything = (
            lanes == F64 and projection.fmt.precision + projection.odd_bits > _F64_PRECISION
        )
        uint = _UINT[lanes]
        negative = projection.rounding is Rounding.toward_negative
        self.minus_zero = uint.type((1 << (8 * uint.itemsize - 1)) if negative else 0)

    def __call__(self, inputs: list[NDArray[Any]], bits: NDArray[Any]) -> bool:
        """Write results, rounded to odd, as bits; returns whether some need a second look."""
        return bool(self.run(*_three(inputs), bits, self.minus_zero))

    def finish(
        self,
        inputs: list[NDArray[Any]],
        bits: NDArray[Any],
        results: NDArray[Any],
        flags: NDArray[np.uint8],
        draw: tuple[Any, ...],
        again: bool,
    ) -> None:
        """Do exactly what the cast of `bits` cannot get right, and raise the operation's flags."""
        x, y, z = _three(inputs)
        if flags.size:
            self.flag()(self.number, x, y, z, bits, flags)
        if again or self.everything:
            lane, scalar = self.c.lane, self.c.scalar
            self.exactly()(
                self.number, x, y, z, bits, results, flags, lane, scalar, *draw, self.everything
            )


def _three(inputs: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What the operations' kernels take, whatever they look at."""
    return inputs[0], inputs[1 % len(inputs)], inputs[-1]


@dataclass(frozen=True)
class Constants:
    """What the kernels are told, and which of them are needed."""

    lane: NDArray[Any]  # Lane
    scalar: NDArray[np.int64]  # exact.Scalar
    variant: int
    codes: bool
    random: bool
    outside: bool  # there are values that the format has no sign or no zero for
    slow_below: bool  # the vectorised loop cannot serve values below the normal range
    near: bool  # nor settle every random word


@lru_cache(maxsize=1024)
def constants_of(projection: Projection, lanes: np.dtype[Any]) -> Constants:
    """A projection as the kernels' numbers."""
    fmt, rounding, overflow = projection.fmt, projection.rounding, projection.overflow
    codes = projection.codes
    uint: np.dtype[Any] = _UINT[lanes]
    width = 8 * uint.itemsize
    ones = (1 << width) - 1
    significand_bits, bias = (23, 127) if width == 32 else (52, 1023)

    def result(code: int | None) -> int:
        """A code of the format, as what the kernel writes."""
        if code is None:
            return 0
        if codes:
            return code
        return _value_bits(fmt, code, significand_bits, bias)

    # Where the normal range starts in the dtype's own exponent field. Formats that reach below
    # the dtype's normal range, and those so high that the trick for subnormals overflows, leave
    # what is below it to the exact scalar path; so do formats without a zero.
    emin_field = fmt.emin + bias
    step = fmt.quantum_exponent if fmt.subnormals else fmt.emin
    below_field = step + significand_bits + bias
    slow_below = emin_field < 1 or below_field > 2 * bias or not fmt.zero

    shift = significand_bits - fmt.mantissa_bits
    lowest = max(emin_field, 1)
    # With fewer than two discarded bits, none is left to remember what went before them.
    forgets = shift < 2 and not (lowest == 1 and fmt.subnormals)
    # A flipped parity would be that of code 0, too.
    parity = ((emin_field - fmt.zero) & 1) << shift if fmt.mantissa_bits == 0 else 0
    random = isinstance(rounding, Stochastic)
    slow_below |= not random and (forgets or parity != 0)
    bits = 64
    variant = "A"
    if isinstance(rounding, Stochastic):
        bits = rounding.bits or 64
        variant = rounding.variant
    unused = max(width - bits, 0)  # bits of a word that are not R
    leading = ones >> unused << unused
    increment, increment_negative, increment_odd = _increments(rounding, shift)
    sign = 0 if not fmt.signed else 1 << (fmt.bits - 1)
    sign_mask = sign if codes else (1 << (width - 1) if fmt.signed else 0)
    over_positive, over_negative = (_over_code(fmt, rounding, overflow, n) for n in (False, True))
    infinite, infinity_flags = _infinity_code(fmt, overflow)
    outside = 0 if overflow.saturates or fmt.nan_code is None else fmt.nan_code

    def with_sign(code: int) -> int:
        return code if code == fmt.nan_code else code | sign

    lane = Lane(
        min_normal=lowest << significand_bits,
        shift=shift,
        excess=(lowest + (0 if fmt.subnormals else fmt.mantissa_bits)) << significand_bits,
        increment=increment,
        increment_negative=increment_negative,
        increment_odd=increment_odd,
        odd=1 << shift,
        parity=parity,
        random_mask=leading,
        random_tail=1 << (unused - 1) if variant == "B" and unused else 0,
        random_bits=min(bits, width),
        code_offset=((emin_field - fmt.zero) << fmt.mantissa_bits) & ones,
        below_code_shift=0 if fmt.subnormals else fmt.mantissa_bits,
        # Where it is not used, 1: arithmetic on subnormals is slow.
        below_float=(bias if slow_below else below_field) << significand_bits,
        largest=result(fmt.max_code),
        over=result(over_positive),
        over_flip=result(over_positive) ^ result(with_sign(over_negative)),
        sign_mask=sign_mask,
        zero_sign_mask=sign_mask if fmt.has_negative_zero or not fmt.zero else 0,
        sign_shift=width - fmt.bits if fmt.signed else 0,
        infinity=result(infinite),
        infinity_flip=result(infinite) ^ result(with_sign(infinite) if fmt.signed else outside),
        nan=result(fmt.nan_code),
        outside=result(outside),
    )
    scalar = exact.Scalar(
        emin=fmt.emin,
        mantissa_bits=fmt.mantissa_bits,
        subnormals=int(fmt.subnormals),
        zero=int(fmt.zero),
        signed=int(fmt.signed),
        max_code=fmt.max_code,
        mode=exact.STOCHASTIC if random else _MODES[Rounding(rounding)],  # type: ignore[arg-type]
        random_bits=bits,
        variant="ABC".index(variant),
        codes=int(codes),
        tiny_before=int(projection.tiny_before),
        infinity_flags=int(infinity_flags),
    )
    arrays = np.array(lane, dtype=uint), np.array(scalar, dtype=np.int64)
    for array in arrays:
        array.flags.writeable = False
    near = random and bits + LOOKAHEAD[variant] > width - 1
    outside = not (fmt.signed and fmt.zero)
    return Constants(*arrays, "ABC".index(variant), codes, random, outside, slow_below, near)


def _increments(rounding: Rounding | Stochastic, shift: int) -> tuple[int, int, int]:
    """What to add before `shift` bits are cut off, and how sign and an odd code flip its bits."""
    ones = (1 << shift) - 1
    half = (ones + 1) >> 1
    table = {
        Rounding.ties_to_even: (ones >> 1, 0, (ones >> 1) ^ half),
        Rounding.ties_to_away: (half, 0, 0),
        Rounding.ties_to_zero: (ones >> 1, 0, 0),
        Rounding.toward_zero: (0, 0, 0),
        Rounding.toward_positive: (ones, ones, 0),
        Rounding.toward_negative: (0, ones, 0),
        Rounding.away_from_zero: (ones, 0, 0),
        Rounding.to_odd: (ones, 0, ones),
    }
    return (0, 0, 0) if isinstance(rounding, Stochastic) else table[rounding]


def _value_bits(fmt: Format, code: int, significand_bits: int, bias: int) -> int:
    """Bits of a code's value in a binary dtype that holds it."""
    dtype = np.float32 if bias == 127 else np.float64
    negative, magnitude = divmod(code, 1 << fmt.magnitude_bits)
    if code == fmt.nan_code:
        value = math.nan
    elif magnitude == fmt.infinity_code:
        value = math.inf
    elif magnitude == fmt.max_code:
        value = float(fmt.max)
    else:  # the lowest code: zero, or the smallest value of a format without zero
        value = 0.0 if fmt.zero else float(fmt.smallest)
    bits = np.array(-value if negative else value, dtype)
    return int(bits.view(np.uint32 if bias == 127 else np.uint64))


def _over_code(
    fmt: Format, rounding: Rounding | Stochastic, overflow: Overflow, negative: bool
) -> int:
    """Magnitude code (or the NaN) of finite values past the range."""
    inward = {
        Rounding.toward_zero,
        Rounding.toward_positive if negative else Rounding.toward_negative,
    }
    if fmt.max_code & 1:
        inward.add(Rounding.to_odd)
    stays = not isinstance(rounding, Stochastic) and rounding in inward
    if stays or overflow.saturates:
        return fmt.max_code
    if fmt.infinity_code is not None:
        return fmt.infinity_code
    if overflow is Overflow.nan and fmt.nan_code is not None:
        return fmt.nan_code
    return fmt.max_code


def _infinity_code(fmt: Format, overflow: Overflow) -> tuple[int, Flag]:
    """Magnitude code (or the NaN) of infinite values, and the flags that they raise."""
    if fmt.infinity_code is not None and overflow is not Overflow.saturate_infinities:
        return fmt.infinity_code, Flag(0)
    if overflow is Overflow.nan and fmt.nan_code is not None:
        return fmt.nan_code, Flag.invalid
    return fmt.max_code, Flag.overflow | Flag.inexact


def decoder(
    fmt: Format, source: np.dtype[Any], target: np.dtype[Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], np.dtype[Any]]:
    """(kernel, its further arguments, dtype that it writes)."""
    if fmt.bits <= _TABLE_BITS and source.itemsize <= 2:
        element = F64 if target == F64 else F32
        table = _table(fmt, element, source)
        return kernels.compiled(casts.decode_table, source, element), (table,), element
    projection = Projection(fmt, Rounding.ties_to_even, Overflow.nan, False, True)
    scalar = constants_of(projection, F64).scalar
    none = (1 << 64) - 1
    infinity = none if fmt.infinity_code is None else fmt.infinity_code
    top = 1 << fmt.magnitude_bits
    nan_low, nan_high = none, 0
    if fmt.nans is NaNs.ieee:
        nan_low, nan_high = infinity + 1, top - 1
    elif fmt.nans is NaNs.all_ones:
        nan_low = nan_high = top - 1
    arguments = (
        np.uint64(fmt.magnitude_bits),
        np.uint64(infinity),
        np.uint64(nan_low),
        np.uint64(nan_high),
        -0.0 if fmt.has_negative_zero else math.nan,
        -0.0 if fmt.has_negative_zero else 0.0,
    )
    return kernels.compiled(casts.decode_wide, source, F64), (scalar, *arguments), F64


@lru_cache(maxsize=64)
def _table(fmt: Format, element: np.dtype[Any], source: np.dtype[Any]) -> NDArray[Any]:
    """Values by code, as long as the source's dtype can index."""
    table = np.full(1 << 8 * source.itemsize, np.nan, element)
    values = fmt.values()[: table.size]  # a narrow dtype may not reach every code
    table[: values.size] = values
    table.flags.writeable = False
    return table
