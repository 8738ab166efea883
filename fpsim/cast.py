"""round, encode, decode, pack, unpack: arrays in and out of a format.

Imports format, catalog, rounding, kernels, threads, stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim import kernels
from fpsim.arguments import array as as_array
from fpsim.arguments import integer, shown
from fpsim.catalog import formats, parse
from fpsim.format import Format, NaNs
from fpsim.kernels import casts, exact
from fpsim.kernels.lanes import Lane
from fpsim.rounding import (
    Flag,
    Overflow,
    Rounding,
    Stochastic,
    parse_overflow,
    parse_rounding,
)
from fpsim.stream import Stream
from fpsim.threads import over_chunks

_BUFFER = 1 << 14  # elements converted at a time where an array cannot be handed to a kernel as is
_TABLE_BITS = 16  # formats of up to this many bits are decoded by a table
_EXACT_INTEGER = 1 << 53

_F32: np.dtype[Any] = np.dtype(np.float32)
_F64: np.dtype[Any] = np.dtype(np.float64)
_UINT: dict[np.dtype[Any], np.dtype[Any]] = {_F32: np.dtype(np.uint32), _F64: np.dtype(np.uint64)}
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
_LOOKAHEAD = {"A": 0, "B": 1, "C": 2}


def round(
    x: ArrayLike,
    fmt: Any,
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "nan",
    rng: Any = None,
    random_bits: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    flags: NDArray[np.uint8] | None = None,
) -> Any:
    """Round every element once to a value of a format.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape: float16, float32, float64, an ml_dtypes type, integers up to
        2**53 in magnitude, lists, scalars.
    fmt : Format, str or dtype
        The format, as `Format.parse` takes it.
    rounding : Rounding, Stochastic or str
    overflow : Overflow or str
        What becomes of values past the range; the default ``'nan'`` is what OCP FP8 does.
    rng : int, numpy.random.Generator, Stream or None
        Where `Stochastic` takes its random bits from; see `Stream`.
    random_bits : array_like of int, optional
        The random bits themselves, 0 to 2**N - 1, broadcast to x's shape (N = 64 for
        ``Stochastic()``).
    out : array, optional
        Where to write the result: x's shape and the result's dtype. May be x itself.
    flags : uint8 array of x's shape, optional
        Gets the `Flag` bits that every element raises.

    Returns
    -------
    array of x's shape
        In x's own float dtype (float64 for integers and lists); a scalar for a scalar.

    Raises
    ------
    ValueError
        Where that dtype cannot hold every value of the format (encode it instead), and where x
        has NaN and the format none.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.round([0.3, 500.0, -1.06], "float8_e4m3fn")
    array([ 0.3125,     nan, -1.    ])
    >>> fpsim.round(500.0, "float8_e4m3fn", overflow="saturate")
    np.float64(448.0)
    """
    return _cast(x, fmt, rounding, overflow, rng, random_bits, out, flags, codes=False)


def encode(
    x: ArrayLike,
    fmt: Any,
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "nan",
    rng: Any = None,
    random_bits: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    flags: NDArray[np.uint8] | None = None,
) -> Any:
    """Round every element once to a format and give the codes.

    Parameters are those of `round`.

    Returns
    -------
    array of x's shape
        Codes in the smallest unsigned dtype that holds them (`Format.code_dtype`).

    Examples
    --------
    >>> import fpsim
    >>> fpsim.encode([1.0, -2.0, 448.0], "float8_e4m3fn")
    array([ 56, 192, 126], dtype=uint8)
    """
    return _cast(x, fmt, rounding, overflow, rng, random_bits, out, flags, codes=True)


def decode(codes: ArrayLike, fmt: Any, dtype: Any = None) -> Any:
    """The values of codes.

    Parameters
    ----------
    codes : array_like of int
        0 to ``2**bits - 1``, any shape.
    fmt : Format, str or dtype
    dtype : dtype, optional
        Float dtype of the result; by default float32 where it holds every value of the format,
        else float64.

    Returns
    -------
    array of codes' shape

    Examples
    --------
    >>> import fpsim
    >>> fpsim.decode([56, 192, 126], "float8_e4m3fn")
    array([  1.,  -2., 448.], dtype=float32)
    """
    fmt = parse(fmt)
    fmt.require_binary64()
    target = (_F32 if _holds(_F32, fmt) else _F64) if dtype is None else _float_dtype(dtype)
    if not _holds(target, fmt):
        raise ValueError(
            f"dtype={target} cannot hold every value of {fmt} (up to {fmt.max}, in steps of "
            f"2**{fmt.quantum_exponent}); leave dtype out, or give float64"
        )
    source = _code_array("codes", codes, fmt)
    out = np.empty(source.shape, target)
    native = source.dtype.newbyteorder("=")
    kernel, arguments, element = _decoder(fmt, native, target)
    seen = []

    def work(start: int, stop: int) -> None:
        for (chunk, values), _ in chunks([(source, native), (out, element)], start, stop):
            seen.append(int(kernel(chunk, values, *arguments)))

    over_chunks(source.size, work)
    if any(code >> fmt.bits for code in seen):
        raise ValueError(
            f"codes={int(source.max())} is out of range; {fmt} has codes 0 to {(1 << fmt.bits) - 1}"
        )
    return out[()]


def pack(codes: ArrayLike, fmt: Any) -> NDArray[np.uint8]:
    """Pack codes densely into bytes, in little-endian bit order.

    Code i takes the bits from ``i * bits`` on; bit k is bit ``k % 8`` of byte ``k // 8``, and the
    last byte is filled up with zeros. Arrays are packed in C order.

    Parameters
    ----------
    codes : array_like of int
    fmt : Format, str or dtype

    Returns
    -------
    uint8 array of shape ``(ceil(codes.size * bits / 8),)``

    Examples
    --------
    >>> import fpsim
    >>> fpsim.pack([1, 2, 15], "float4_e2m1fn")
    array([33, 15], dtype=uint8)
    """
    fmt = parse(fmt)
    source = _code_array("codes", codes, fmt).ravel()
    if source.size and int(source.max()) >> fmt.bits:
        raise ValueError(
            f"codes={int(source.max())} is out of range; {fmt} has codes 0 to {(1 << fmt.bits) - 1}"
        )
    wide = source.dtype.newbyteorder("<")
    if fmt.bits == 8 * source.dtype.itemsize:
        return source.astype(wide).view(np.uint8)
    packed = np.empty(-(-source.size * fmt.bits // 8), np.uint8)
    for start in range(0, source.size, _BUFFER):  # a multiple of 8 codes fills whole bytes
        chunk = source[start : start + _BUFFER].astype(wide)
        bits = np.unpackbits(
            chunk.view(np.uint8).reshape(chunk.size, -1), axis=1, bitorder="little"
        )
        first = start * fmt.bits // 8
        filled = np.packbits(bits[:, : fmt.bits].ravel(), bitorder="little")
        packed[first : first + filled.size] = filled
    return packed


def unpack(buffer: Any, fmt: Any, count: int) -> NDArray[Any]:
    """Unpack what `pack` packed.

    Parameters
    ----------
    buffer : bytes-like or uint8 array
        At least ``ceil(count * bits / 8)`` bytes.
    fmt : Format, str or dtype
    count : int
        How many codes.

    Returns
    -------
    array of shape ``(count,)`` in `Format.code_dtype`

    Examples
    --------
    >>> import fpsim
    >>> fpsim.unpack(bytes([33, 15]), "float4_e2m1fn", 3)
    array([ 1,  2, 15], dtype=uint8)
    """
    fmt = parse(fmt)
    if isinstance(buffer, np.ndarray):
        if buffer.dtype != np.uint8:
            raise TypeError(f"buffer has dtype {buffer.dtype}; give bytes or a uint8 array")
        packed = buffer.ravel()
    else:
        try:
            packed = np.frombuffer(buffer, np.uint8)
        except (TypeError, BufferError):
            raise TypeError(
                f"buffer is of type {type(buffer).__name__}, not contiguous bytes; give bytes or a "
                "uint8 array"
            ) from None
    most = packed.size * 8 // fmt.bits
    remedy = f"{packed.size} bytes hold up to {most} codes of {fmt.bits} bits"
    count = integer("count", count, 0, most, remedy)
    needed = -(-count * fmt.bits // 8)
    dtype = fmt.code_dtype
    wide = dtype.newbyteorder("<")
    if fmt.bits == 8 * dtype.itemsize:
        return np.array(packed[:needed].view(wide), dtype)
    codes: NDArray[Any] = np.empty(count, dtype)
    for start in range(0, count, _BUFFER):
        stop = min(start + _BUFFER, count)
        chunk = packed[start * fmt.bits // 8 : -(-stop * fmt.bits // 8)]
        bits = np.unpackbits(chunk, bitorder="little", count=(stop - start) * fmt.bits)
        padded = np.zeros((stop - start, 8 * dtype.itemsize), np.uint8)
        padded[:, : fmt.bits] = bits.reshape(-1, fmt.bits)
        codes[start:stop] = np.packbits(padded, axis=1, bitorder="little").view(wide).ravel()
    return codes


# Settling the arguments ----------------------------------------------------------------------


def _cast(
    x: ArrayLike,
    fmt: Any,
    rounding: Any,
    overflow: Any,
    rng: Any,
    random_bits: ArrayLike | None,
    out: NDArray[Any] | None,
    flags: NDArray[np.uint8] | None,
    *,
    codes: bool,
) -> Any:
    fmt, rounding, overflow = parse(fmt), parse_rounding(rounding), parse_overflow(overflow)
    fmt.require_binary64()
    source, own = real_array("x", x)
    result = fmt.code_dtype if codes else own
    if not codes and not _holds(own, fmt):
        raise ValueError(
            f"x has dtype {own}, which cannot hold every value of {fmt} (up to {fmt.max}, in steps "
            f"of 2**{fmt.quantum_exponent}); convert x to float64 first, or use fpsim.encode"
        )
    lanes = _F64 if own == _F64 or not _holds(_F32, fmt) else _F32
    if (
        isinstance(rounding, Stochastic)
        and (rounding.bits or 0) + _LOOKAHEAD[rounding.variant] > 32
    ):
        lanes = _F64  # narrower ones do not see enough of the discarded bits
    given = _random_words(rounding, rng, random_bits, source.shape)
    target = _checked("out", out, source.shape, result)
    if flags is not None:
        _checked("flags", flags, source.shape, np.dtype(np.uint8))
        if out is not None and np.may_share_memory(flags, out):
            raise ValueError("flags share memory with out; give an array of their own")
        if np.may_share_memory(flags, source):
            source = source.copy()
    if fmt.nan_code is None and (out is not None or flags is not None):
        _refuse_nans(source, fmt)  # before anything of the caller's is written to
    if target is None:
        # Random bits follow C order; without them any order will do, and the source's is fastest.
        order: Any = "C" if isinstance(rounding, Stochastic) else "K"
        target = np.empty_like(source, dtype=result, order=order, subok=False)
    transposed = (
        source.flags.f_contiguous
        and target.flags.f_contiguous
        and given is flags is None
        and not isinstance(rounding, Stochastic)
    )
    if transposed:
        source, target = source.T, target.T  # in the order of memory
    if np.may_share_memory(source, target) and not _same_memory(source, target):
        source = source.copy()

    nans = _run(source, lanes, target, fmt, rounding, overflow, rng, given, flags, codes)
    if nans and fmt.nan_code is None:
        _refuse_nans(np.asarray(x), fmt)
    if out is not None:
        return out
    return (target.T if transposed else target)[()]


def _float_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        target = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype={shown(dtype)} is no dtype; give float32 or float64") from None
    if (target.kind == "f" and target.itemsize <= 8) or target.name in _foreign_dtypes():
        native: np.dtype[Any] = target.newbyteorder("=")
        return native
    raise TypeError(f"dtype={target} is no floating-point dtype; give float32 or float64")


def real_array(name: str, x: ArrayLike) -> tuple[NDArray[Any], np.dtype[Any]]:
    """`x` as an array, and the float dtype that results of rounding it have.

    Raises ValueError or TypeError for what is not real numbers that binary64 holds.
    """
    remedy = "give real numbers: a float or integer array, an ml_dtypes array, a list or a scalar"
    array = as_array(name, x, remedy)
    if array.dtype.kind == "O" and array.ndim == 0 and isinstance(x, int):
        raise ValueError(
            f"{name} has the integer {shown(x)}, past 2**53, where float64 no longer holds every "
            "integer; convert to float64 yourself if its rounding is what you want"
        )
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        return array, array.dtype.newbyteorder("=")
    if array.dtype.kind in "iub":
        if array.dtype.itemsize == 8 and array.size:
            low, high = int(array.min()), int(array.max())
            if max(-low, high) > _EXACT_INTEGER:
                worst = low if -low > high else high
                raise ValueError(
                    f"{name} has the integer {worst}, past 2**53, where float64 no longer holds "
                    "every integer; convert to float64 yourself if its rounding is what you want"
                )
        return array, _F64
    if array.dtype.name in _foreign_dtypes():
        return array, array.dtype
    raise TypeError(f"{name} has dtype {array.dtype}; {remedy}")


@lru_cache(maxsize=1)
def _foreign_dtypes() -> frozenset[str]:
    """Names of the dtypes that ml_dtypes adds to NumPy and that float32 holds."""
    names = ("bfloat16", "float8_", "float6_", "float4_")
    return frozenset(name for name in formats() if name.startswith(names))


@lru_cache(maxsize=4096)
def _holds(dtype: np.dtype[Any], fmt: Format) -> bool:
    return parse(dtype.newbyteorder("=")).contains(fmt)


def _checked(
    name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    if array is None:
        return None
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is of type {type(array).__name__}; give a NumPy array of {dtype}")
    if array.dtype != dtype:
        raise TypeError(f"{name} has dtype {array.dtype}; give a NumPy array of {dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; give one of x's shape {shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only; give an array that can be written to")
    return array


def _random_words(
    rounding: Rounding | Stochastic, rng: Any, random_bits: ArrayLike | None, shape: tuple[int, ...]
) -> NDArray[np.uint64] | None:
    """The caller's random bits as the leading bits of 64-bit words, broadcast to `shape`."""
    if random_bits is None:
        return None
    if not isinstance(rounding, Stochastic):
        raise ValueError(
            f"random_bits were given, but rounding={str(rounding)!r} uses none; "
            "leave them out, or use rounding=fpsim.Stochastic(…)"
        )
    if rng is not None:
        raise ValueError("random_bits and rng were both given; give one of them")
    bits = 64 if rounding.bits is None else rounding.bits
    allowed = f"give integers 0 to 2**{bits}-1"
    words = as_array("random_bits", random_bits, allowed)
    if words.dtype.kind not in "iu" and words.size:
        raise TypeError(f"random_bits have dtype {words.dtype}; {allowed}")
    if words.size:
        low, high = int(words.min()), int(words.max())
        if low < 0 or high >> bits:
            raise ValueError(
                f"random_bits={low if low < 0 else high} is out of range; "
                f"allowed is 0 to 2**{bits}-1"
            )
    try:
        return np.broadcast_to(words.astype(np.uint64) << np.uint64(64 - bits), shape)
    except ValueError:
        raise ValueError(
            f"random_bits have shape {words.shape}, which does not broadcast to x's {shape}"
        ) from None


def _same_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether elements at the same index are the same memory."""
    return (
        a.dtype == b.dtype
        and a.strides == b.strides
        and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    )


def _refuse_nans(x: NDArray[Any], fmt: Format) -> None:
    """Raise ValueError where `x` has NaN."""
    found: list[tuple[int, int]] = []  # (index of the first, how many) by chunk
    lanes = x.dtype if x.dtype in (_F32, _F64) else _F64

    def work(start: int, stop: int) -> None:
        for (chunk,), index in chunks([(x, lanes)], start, stop):
            with np.errstate(invalid="ignore"):  # of signalling NaN
                if not np.isnan(chunk.max()):  # one fast pass, which NaN gets through
                    continue
            nan = np.isnan(chunk)
            found.append((index + int(np.argmax(nan)), int(np.count_nonzero(nan))))

    over_chunks(x.size, work)
    if found:
        count = sum(n for _, n in found)
        index = tuple(int(i) for i in np.unravel_index(min(found)[0], x.shape))
        raise ValueError(
            f"x has {count} NaN, the first at index {index}, but {fmt} has no NaN; replace them "
            "first (numpy.nan_to_num), or choose a format with NaN"
        )


def _code_array(name: str, codes: ArrayLike, fmt: Format) -> NDArray[Any]:
    """Codes in an unsigned dtype."""
    allowed = f"give integers 0 to {(1 << fmt.bits) - 1}"
    array = as_array(name, codes, allowed)
    if array.size == 0 and array.dtype == _F64:
        array = array.astype(fmt.code_dtype)  # an empty list
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} have dtype {array.dtype}; {allowed}")
    if array.dtype.kind == "i":
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if low < 0 or high >> fmt.bits:
            raise ValueError(
                f"{name}={low if low < 0 else high} is out of range; {fmt} has codes 0 to "
                f"{(1 << fmt.bits) - 1}"
            )
        array = array.astype(fmt.code_dtype)
    return array


# Running the kernels -------------------------------------------------------------------------


def _run(
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
    c = _constants(fmt, rounding, overflow, lanes, codes)

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


def chunks(
    operands: list[tuple[NDArray[Any], np.dtype[Any]]],
    start: int,
    stop: int,
    buffer: int = _BUFFER,
) -> Any:
    """Yield (one-dimensional contiguous arrays in the wanted dtypes, index of the first element).

    The operands have one shape; elements are counted in C order. The first operand is read, the
    rest are written to unless they are read-only. Arrays that can be handed out as they are, are;
    others pass through buffers of `buffer` elements.
    """
    if all(
        array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
        for array, dtype in operands
    ):
        yield [array.reshape(-1)[start:stop] for array, _ in operands], start
        return
    iterator: Any = np.nditer(  # type: ignore[call-overload, unused-ignore]  # "contig" is not in the stubs
        [array for array, _ in operands],
        flags=["external_loop", "buffered", "ranged", "zerosize_ok", "delay_bufalloc"],
        op_flags=[
            ["writeonly" if k and array.flags.writeable else "readonly", "contig", "aligned", "nbo"]
            for k, (array, _) in enumerate(operands)
        ],
        op_dtypes=[dtype for _, dtype in operands],
        order="C",
        casting="unsafe",
        buffersize=buffer,
    )
    with iterator:
        iterator.iterrange = (start, stop)
        iterator.reset()
        while not iterator.finished:
            yield (
                list(iterator.value if len(operands) > 1 else (iterator.value,)),
                iterator.iterindex,
            )
            iterator.iternext()


@dataclass(frozen=True)
class _Constants:
    """What the kernels are told, and which of them are needed."""

    lane: NDArray[Any]  # Lane
    scalar: NDArray[np.int64]  # exact.Scalar
    variant: int
    slow_below: bool  # the vectorised loop cannot serve values below the normal range
    near: bool  # nor settle every random word


@lru_cache(maxsize=1024)
def _constants(
    fmt: Format,
    rounding: Rounding | Stochastic,
    overflow: Overflow,
    lanes: np.dtype[Any],
    codes: bool,
) -> _Constants:
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
    near = random and bits + _LOOKAHEAD[variant] > width - 1
    return _Constants(*arrays, "ABC".index(variant), slow_below, near)


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


def _decoder(
    fmt: Format, source: np.dtype[Any], target: np.dtype[Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], np.dtype[Any]]:
    """(kernel, its further arguments, dtype that it writes)."""
    if fmt.bits <= _TABLE_BITS and source.itemsize <= 2:
        element = _F64 if target == _F64 else _F32
        table = _table(fmt, element, source)
        return kernels.compiled(casts.decode_table, source, element), (table,), element
    scalar = _constants(fmt, Rounding.ties_to_even, Overflow.nan, _F64, True).scalar
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
    return kernels.compiled(casts.decode_wide, source, _F64), (scalar, *arguments), _F64


@lru_cache(maxsize=64)
def _table(fmt: Format, element: np.dtype[Any], source: np.dtype[Any]) -> NDArray[Any]:
    """Values by code, as long as the source's dtype can index."""
    table = np.full(1 << 8 * source.itemsize, np.nan, element)
    values = fmt.values()[: table.size]  # a narrow dtype may not reach every code
    table[: values.size] = values
    table.flags.writeable = False
    return table
