"""round, encode, decode, pack, unpack: arrays in and out of a format.

Imports format, catalog, rounding, inputs, projection, stream, threads, dask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.arguments import integer, shown
from fpsim.catalog import parse
from fpsim.inputs import (
    BUFFER,
    F32,
    F64,
    checked_output,
    chunks,
    code_array,
    foreign_dtypes,
    holds,
    is_dask,
    random_words,
    real_array,
    refuse_nans,
    same_memory,
)
from fpsim.projection import decoder, parse_projection, project
from fpsim.rounding import Overflow, Rounding, Stochastic
from fpsim.stream import Stream
from fpsim.threads import over_chunks


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
    tininess: str = "after",
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
        Gets the `Flag` bits that every element raises; `count_flags` counts them.
    tininess : {'after', 'before'}
        When a result is seen to be tiny, and underflows if it is inexact: after it is rounded
        with no end to the exponents, or before.

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
    return _cast(x, fmt, rounding, overflow, rng, random_bits, out, flags, tininess, codes=False)


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
    tininess: str = "after",
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
    return _cast(x, fmt, rounding, overflow, rng, random_bits, out, flags, tininess, codes=True)


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
    target = (F32 if holds(F32, fmt) else F64) if dtype is None else _float_dtype(dtype)
    if not holds(target, fmt):
        raise ValueError(
            f"dtype={target} cannot hold every value of {fmt} (up to {fmt.max}, in steps of "
            f"2**{fmt.quantum_exponent}); leave dtype out, or give float64"
        )
    if is_dask(codes):
        from fpsim.dask import map_chunks

        return map_chunks(decode, codes, fmt=fmt, dtype=target)
    source = code_array("codes", codes, fmt)
    out = np.empty(source.shape, target)
    native = source.dtype.newbyteorder("=")
    kernel, arguments, element = decoder(fmt, native, target)
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
    source = code_array("codes", codes, fmt).ravel()
    if source.size and int(source.max()) >> fmt.bits:
        raise ValueError(
            f"codes={int(source.max())} is out of range; {fmt} has codes 0 to {(1 << fmt.bits) - 1}"
        )
    wide = source.dtype.newbyteorder("<")
    if fmt.bits == 8 * source.dtype.itemsize:
        return source.astype(wide).view(np.uint8)
    packed = np.empty(-(-source.size * fmt.bits // 8), np.uint8)
    for start in range(0, source.size, BUFFER):  # a multiple of 8 codes fills whole bytes
        chunk = source[start : start + BUFFER].astype(wide)
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
    for start in range(0, count, BUFFER):
        stop = min(start + BUFFER, count)
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
    tininess: str,
    *,
    codes: bool,
) -> Any:
    projection = parse_projection(fmt, rounding, overflow, tininess, codes)
    fmt, rounding = projection.fmt, projection.rounding
    if is_dask(x):
        from fpsim.dask import map_chunks, refuse

        refuse(random_bits=random_bits, out=out, flags=flags)
        return map_chunks(
            encode if codes else round,
            x,
            Stream.of(rng) if isinstance(rounding, Stochastic) else None,
            fmt=fmt,
            rounding=rounding,
            overflow=overflow,
        )
    source, own = real_array("x", x)
    result = fmt.code_dtype if codes else own
    if not codes and not holds(own, fmt):
        raise ValueError(
            f"x has dtype {own}, which cannot hold every value of {fmt} (up to {fmt.max}, in steps "
            f"of 2**{fmt.quantum_exponent}); convert x to float64 first, or use fpsim.encode"
        )
    lanes = F64 if own == F64 or not holds(F32, fmt) else F32
    if isinstance(rounding, Stochastic) and rounding.bits and projection.random_bits > 32:
        lanes = F64  # narrower ones do not see enough of the discarded bits
    given = random_words(rounding, rng, random_bits, source.shape)
    target = checked_output("out", out, source.shape, result)
    if flags is not None:
        checked_output("flags", flags, source.shape, np.dtype(np.uint8))
        if out is not None and np.may_share_memory(flags, out):
            raise ValueError("flags share memory with out; give an array of their own")
        if np.may_share_memory(flags, source):
            source = source.copy()
    if fmt.nan_code is None and (out is not None or flags is not None):
        refuse_nans(source, fmt)  # before anything of the caller's is written to
    if target is None:
        # Random bits follow C order; without them any order will do, and the source's is fastest.
        order: Any = "C" if isinstance(rounding, Stochastic) else "K"
        target = np.empty_like(source, dtype=result, order=order, subok=False)
    axes = None
    if given is flags is None and not isinstance(rounding, Stochastic):
        axes = _memory_order(source, target)
    if axes is not None:
        source, target = source.transpose(axes), target.transpose(axes)
    if np.may_share_memory(source, target) and not same_memory(source, target):
        source = source.copy()

    nans = project([source], lanes, target, projection, rng=rng, given=given, flags=flags)
    if nans and fmt.nan_code is None:
        refuse_nans(np.asarray(x), fmt)
    if out is not None:
        return out
    return (target if axes is None else target.transpose(np.argsort(axes)))[()]


def _memory_order(x: NDArray[Any], y: NDArray[Any]) -> tuple[int, ...] | None:
    """Axes that make both C-contiguous; None where both are, or none would."""
    if x.flags.c_contiguous and y.flags.c_contiguous:
        return None
    axes = tuple(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))
    both = x.transpose(axes).flags.c_contiguous and y.transpose(axes).flags.c_contiguous
    return axes if both else None


def _float_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        target = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype={shown(dtype)} is no dtype; give float32 or float64") from None
    if (target.kind == "f" and target.itemsize <= 8) or target.name in foreign_dtypes():
        native: np.dtype[Any] = target.newbyteorder("=")
        return native
    raise TypeError(f"dtype={target} is no floating-point dtype; give float32 or float64")
