"""Arrays that callers give, checked and made ready for the kernels.

Imports arguments, catalog, format, rounding, stream, threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.arguments import array as as_array
from fpsim.arguments import shown
from fpsim.catalog import formats, parse
from fpsim.format import Format
from fpsim.rounding import Rounding, Stochastic
from fpsim.stream import stretches
from fpsim.threads import over_chunks

F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)
BUFFER = 1 << 14  # elements converted at a time where an array cannot be handed to a kernel as is
_EXACT_INTEGER = 1 << 53


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
        return array, F64
    if array.dtype.name in foreign_dtypes():
        return array, array.dtype
    raise TypeError(f"{name} has dtype {array.dtype}; {remedy}")


def is_dask(x: Any) -> bool:
    """Whether `x` is one of dask's collections, told without importing it."""
    return any(base.__module__.partition(".")[0] == "dask" for base in type(x).__mro__)


@lru_cache(maxsize=1)
def foreign_dtypes() -> frozenset[str]:
    """Names of the dtypes that ml_dtypes adds to NumPy and that float32 holds."""
    names = ("bfloat16", "float8_", "float6_", "float4_")
    return frozenset(name for name in formats() if name.startswith(names))


@lru_cache(maxsize=4096)
def holds(dtype: np.dtype[Any], fmt: Format) -> bool:
    return parse(dtype.newbyteorder("=")).contains(fmt)


def signed_format(name: str, dtype: np.dtype[Any]) -> Format:
    """The format of a float dtype; TypeError for one that cannot hold zero and both signs."""
    fmt = parse(dtype.newbyteorder("="))
    if not (fmt.signed and fmt.zero):
        raise TypeError(
            f"{name} has dtype {dtype}, without sign or zero; convert {name} to float32 first"
        )
    return fmt


def checked_output(
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


def random_words(
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


def same_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether elements at the same index are the same memory."""
    return (
        a.dtype == b.dtype
        and a.strides == b.strides
        and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    )


def refuse_nans(x: NDArray[Any], fmt: Format) -> None:
    """Raise ValueError where `x` has NaN."""
    found: list[tuple[int, int]] = []  # (index of the first, how many) by chunk
    lanes = x.dtype if x.dtype in (F32, F64) else F64

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


def code_array(name: str, codes: ArrayLike, fmt: Format) -> NDArray[Any]:
    """Codes in an unsigned dtype."""
    allowed = f"give integers 0 to {(1 << fmt.bits) - 1}"
    array = as_array(name, codes, allowed)
    if array.size == 0 and array.dtype == F64:
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


def chunks(
    operands: list[tuple[NDArray[Any], np.dtype[Any]]],
    start: int,
    stop: int,
    *,
    read: int = 1,
    buffer: int = BUFFER,
    stretch: int | None = None,
) -> Any:
    """Yield (one-dimensional contiguous arrays in the wanted dtypes, index of the first element).

    The operands have one shape; elements are counted in C order. The first `read` operands are
    read, the rest are written to unless they are read-only. Arrays that can be handed out as they
    are, are; others pass through buffers of `buffer` elements. With a `stretch`, as streams have
    it, they end at its multiples.
    """
    for arrays, index in _pieces(operands, start, stop, read, buffer):
        if stretch is None:
            yield arrays, index
            continue
        for first, last in stretches(index, index + arrays[0].size, stretch):
            yield [array[first - index : last - index] for array in arrays], first


def _pieces(
    operands: list[tuple[NDArray[Any], np.dtype[Any]]],
    start: int,
    stop: int,
    read: int,
    buffer: int,
) -> Any:
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
            [
                "writeonly" if k >= read and array.flags.writeable else "readonly",
                "contig",
                "aligned",
                "nbo",
            ]
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
