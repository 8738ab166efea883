"""From arguments to kernels: formats, modes and rules as numbers, and casts on all threads.

Imports format, rounding, kernels, stream, threads, inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import kernels
from fpsim.format import Format, NaNs
from fpsim.inputs import F32, F64, chunks
from fpsim.kernels import casts, exact
from fpsim.kernels.lanes import Lane
from fpsim.rounding import Flag, Overflow, Rounding, Stochastic
from fpsim.stream import Stream
from fpsim.threads import over_chunks

_TABLE_BITS = 16  # formats of up to this many bits are decoded by a table
_UINT: dict[np.dtype[Any], np.dtype[Any]] = {F32: np.dtype(np.uint32), F64: np.dtype(np.uint64)}
_NO_WORDS = np.zeros(0, np.uint64)

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


def project(
    source: NDArray[Any],
    lanes: np.dtype[Any],
    target: NDArray[Any],
    fmt: Format,
    rounding: Rounding | Stochastic,
    overflow: Overflow,
    rng: Any,
    given: NDArray[np.uint64] | None,
    flags: NDArray[np.uint8] | None,
    codes: bool,
) -> int:
    """Cast `source` into `target` on all threads; returns how many elements are NaN."""
    uint = _UINT[lanes]
    # What a kernel writes: codes as they are, values as bits of the lanes' dtype.
    element = fmt.code_dtype if codes else lanes
    written = element if codes else uint
    c = constants_of(fmt, rounding, overflow, lanes, codes)

    def compiled(kernel: Callable[..., Any]) -> Callable[..., Any]:
        return kernels.compiled(kernel, uint, written)

    random = isinstance(rounding, Stochastic)
    by_mode = casts.encode_by_mode if codes else casts.round_by_mode
    at_random = casts.encode_at_random if codes else casts.round_at_random
    run = compiled(at_random if random else by_mode)
    settle = compiled(casts.settle_outside) if not (fmt.signed and fmt.zero) else None
    flagging = None
    if flags is not None:
        flagging = kernels.compiled(casts.cast_flags, uint, np.dtype(np.uint8))
    stream = Stream.of(rng) if random and given is None else Stream(0)
    key = np.uint64(stream.seed)
    operands = [(source, lanes), (target, element)]
    if flags is not None:
        operands.append((flags, flags.dtype))
    if given is not None:
        operands.append((given, given.dtype))
    # A kernel may write over its input; a second look at the input needs a copy then.
    second_look = c.slow_below or c.near or settle is not None
    keep = second_look and np.may_share_memory(source, target)
    nans: list[int] = []

    def work(start: int, stop: int) -> None:
        for arrays, index in chunks(operands, start, stop):
            bits, results = arrays[0].view(uint), arrays[1].view(written)
            words = arrays[-1] if given is not None else _NO_WORDS
            draw = (words, key, np.uint64((stream.offset + index) % (1 << 64)))
            if flagging is not None:
                flagging(bits, arrays[2], c.lane, c.scalar, *draw)
            if keep:
                bits = bits.copy()
            doubts = 0
            if random:
                found, doubts = run(bits, results, c.lane, c.variant, *draw)
            else:
                found = run(bits, results, c.lane)
            everything = c.near and doubts != 0
            if everything or c.slow_below:
                redo = compiled(casts.redo)
                redo(bits, results, c.lane, c.scalar, *draw, everything)
            if settle is not None:
                settle(bits, results, c.lane, c.scalar)
            if found:
                nans.append(found)

    over_chunks(source.size, work)
    return sum(nans)


@dataclass(frozen=True)
class Constants:
    """What the kernels are told, and which of them are needed."""

    lane: NDArray[Any]  # Lane
    scalar: NDArray[np.int64]  # exact.Scalar
    variant: int
    slow_below: bool  # the vectorised loop cannot serve values below the normal range
    near: bool  # nor settle every random word


@lru_cache(maxsize=1024)
def constants_of(
    fmt: Format,
    rounding: Rounding | Stochastic,
    overflow: Overflow,
    lanes: np.dtype[Any],
    codes: bool,
) -> Constants:
    """A format, a mode and an overflow rule as the kernels' numbers."""
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
        tiny_before=0,
        infinity_flags=int(infinity_flags),
    )
    arrays = np.array(lane, dtype=uint), np.array(scalar, dtype=np.int64)
    for array in arrays:
        array.flags.writeable = False
    near = random and bits + LOOKAHEAD[variant] > width - 1
    return Constants(*arrays, "ABC".index(variant), slow_below, near)


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
    scalar = constants_of(fmt, Rounding.ties_to_even, Overflow.nan, F64, True).scalar
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
