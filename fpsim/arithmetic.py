"""add, subtract, multiply, divide, sqrt, fma, faa: exact results, rounded once.

Imports format, rounding, inputs, projection, kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim.inputs import (
    F32,
    F64,
    checked_output,
    chunks,
    holds,
    random_words,
    real_array,
    same_memory,
)
from fpsim.kernels import operate
from fpsim.projection import Operation, Projection, float32_suffices, parse_projection, project
from fpsim.rounding import Flag, Overflow, Rounding, Stochastic
from fpsim.threads import over_chunks

_ADD = Operation(operate.ADD, operate.add, 2)
_SUBTRACT = Operation(operate.SUBTRACT, operate.subtract, 2)
_MULTIPLY = Operation(operate.MULTIPLY, operate.multiply, 2)
_DIVIDE = Operation(operate.DIVIDE, operate.divide, 2)
_SQRT = Operation(operate.SQRT, operate.sqrt, 1)
_FMA = Operation(operate.FMA, operate.fma, 3)
_FAA = Operation(operate.FAA, operate.faa, 3)


def add(
    x: ArrayLike,
    y: ArrayLike,
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
    """Add exactly, and round once into a format.

    Parameters
    ----------
    x, y : array_like
        Real numbers that float64 holds, in whatever formats they are; they broadcast.
    fmt : Format, str or dtype
        The format of the result, as `Format.parse` takes it.
    rounding : Rounding, Stochastic or str
    overflow : Overflow or str
        What becomes of results past the range.
    rng : int, numpy.random.Generator, Stream or None
        Where `Stochastic` takes its random bits from; see `Stream`.
    random_bits : array_like of int, optional
        The random bits themselves, 0 to 2**N - 1, broadcast to the result's shape.
    out : array, optional
        Where to write the result: its shape and dtype. May be one of the operands.
    flags : uint8 array of the result's shape, optional
        Gets the `Flag` bits that every element raises; `count_flags` counts them.
    tininess : {'after', 'before'}
        When a result is seen to be tiny, and underflows if it is inexact: after it is rounded
        with no end to the exponents, or before.

    Returns
    -------
    array
        Values of the format: in float32 where all operands have 32 bits or fewer and float32
        holds the format, else in float64. A scalar where all operands are.

    Raises
    ------
    ValueError
        Where operands do not broadcast, and where a result is NaN but the format has none.

    Notes
    -----
    Zeros, infinities and NaN are as IEEE 754-2019 has them (6.1 to 6.3, 7.2 to 7.6): a sum that
    cancels is +0, or −0 when rounding toward_negative; a format without −0 gives its one zero.

    Examples
    --------
    Rounding twice, to binary32 and then to a format, can be wrong. The sum is just above the middle
    of two of the format's values; float32 takes it to the middle, and the tie goes down:

    >>> import fpsim
    >>> import numpy as np
    >>> x, y = np.float32(1.0625), np.float32(2.0**-30)
    >>> fpsim.add(x, y, "float8_e4m3fn"), fpsim.round(x + y, "float8_e4m3fn")
    (np.float32(1.125), np.float32(1.0))
    """
    return _operate(
        _ADD, {"x": x, "y": y}, fmt, rounding, overflow, rng, random_bits, out, flags, tininess
    )


def subtract(
    x: ArrayLike,
    y: ArrayLike,
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
    """Subtract exactly, and round once into a format; parameters as of `add`.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.subtract(1.0, [0.25, 0.03], "e4m3")
    array([0.75, 1.  ])
    """
    return _operate(
        _SUBTRACT, {"x": x, "y": y}, fmt, rounding, overflow, rng, random_bits, out, flags, tininess
    )


def multiply(
    x: ArrayLike,
    y: ArrayLike,
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
    """Multiply exactly, and round once into a format; parameters as of `add`.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.multiply([1.125, 448.0], [1.125, 2.0], "float8_e4m3fn")
    array([1.25,  nan])
    """
    return _operate(
        _MULTIPLY, {"x": x, "y": y}, fmt, rounding, overflow, rng, random_bits, out, flags, tininess
    )


def divide(
    x: ArrayLike,
    y: ArrayLike,
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
    """Divide exactly, and round once into a format; parameters as of `add`.

    A finite number over zero is an exact infinity (`Flag.divide_by_zero`), which a format without
    infinity takes as `overflow` says; 0 / 0 and ∞ / ∞ are NaN.

    Examples
    --------
    >>> import fpsim
    >>> import numpy as np
    >>> flags = np.zeros(3, np.uint8)
    >>> fpsim.divide([1.0, 1.0, 0.0], [3.0, 0.0, 0.0], "float8_e5m2", flags=flags)
    array([0.3125,    inf,    nan])
    >>> [str(fpsim.Flag(int(flag)).name) for flag in flags]
    ['inexact', 'divide_by_zero', 'invalid']
    """
    return _operate(
        _DIVIDE, {"x": x, "y": y}, fmt, rounding, overflow, rng, random_bits, out, flags, tininess
    )


def sqrt(
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
    """Take the square root exactly, and round once into a format; parameters as of `add`.

    The root of −0 is −0; that of what is below it is NaN.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.sqrt([2.0, 2.25], "float8_e4m3fn", rounding="toward_zero")
    array([1.375, 1.5  ])
    """
    return _operate(
        _SQRT, {"x": x}, fmt, rounding, overflow, rng, random_bits, out, flags, tininess
    )


def fma(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
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
    """Fused multiply-add, ``x * y + z`` rounded once into a format; parameters as of `add`.

    Infinity times zero is NaN and raises `Flag.invalid`, also where z is NaN.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.fma(1.125, 1.125, -1.25, "float8_e4m3fn")
    np.float64(0.015625)
    """
    operands = {"x": x, "y": y, "z": z}
    return _operate(_FMA, operands, fmt, rounding, overflow, rng, random_bits, out, flags, tininess)


def faa(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
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
    """Fused sum of three, ``x + y + z`` rounded once into a format; parameters as of `add`.

    P3109's FAA. IEEE 754 has no such operation; zeros are as in its sums: three of one sign give
    that sign, and a sum that cancels is +0, or −0 when rounding toward_negative.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.faa(256.0, 1.0, -256.0, "float8_e4m3fn")
    np.float64(1.0)
    """
    operands = {"x": x, "y": y, "z": z}
    return _operate(_FAA, operands, fmt, rounding, overflow, rng, random_bits, out, flags, tininess)


def _operate(
    operation: Operation,
    operands: dict[str, ArrayLike],
    fmt: Any,
    rounding: Any,
    overflow: Any,
    rng: Any,
    random_bits: ArrayLike | None,
    out: NDArray[Any] | None,
    flags: NDArray[np.uint8] | None,
    tininess: str,
) -> Any:
    projection = parse_projection(fmt, rounding, overflow, tininess)
    sources, narrow, weak = operands_of(operands)
    shape = sources[0].shape
    result = F32 if narrow and not weak and holds(F32, projection.fmt) else F64
    given = random_words(projection.rounding, rng, random_bits, shape)
    target = checked_output("out", out, shape, result)
    if flags is not None:
        checked_output("flags", flags, shape, np.dtype(np.uint8))
        for name, array in (("out", out), *operands.items()):
            if isinstance(array, np.ndarray) and np.may_share_memory(flags, array):
                raise ValueError(f"flags share memory with {name}; give an array of their own")
    raised = flags
    if projection.fmt.nan_code is None or target is None:
        target = np.empty(shape, result)  # nothing of the caller's is written to before an error
        raised = None if flags is None else np.empty(shape, np.uint8)
    perform(operation, sources, narrow, target, projection, rng, given, raised)
    if flags is not None and raised is not None and raised is not flags:
        flags[...] = raised
    if out is None:
        return target[()]
    if target is not out:
        out[...] = target
    return out


def operands_of(operands: dict[str, ArrayLike]) -> tuple[list[NDArray[Any]], bool, bool]:
    """Operands broadcast to one shape; does float32 hold them all; are all of them plain numbers?

    A plain Python number beside arrays does not widen the result: it counts as float32 if it is.
    """
    arrays, narrow, weak = [], True, True
    for name, x in operands.items():
        array, dtype = real_array(name, x)
        plain = isinstance(x, (int, float)) and not isinstance(x, np.generic)
        weak = weak and plain
        if not (plain and _is_float32(float(x))):  # type: ignore[arg-type]
            narrow = narrow and dtype.itemsize <= 4
        arrays.append(array)
    try:
        return list(np.broadcast_arrays(*arrays)), narrow, weak
    except ValueError:
        shapes = ", ".join(
            f"{name} {array.shape}" for name, array in zip(operands, arrays, strict=True)
        )
        raise ValueError(
            f"operands have shapes that do not broadcast: {shapes}; give shapes that agree, or are "
            "1, from the last axis on"
        ) from None


def _is_float32(x: float) -> bool:
    with np.errstate(over="ignore"):
        return x != x or float(np.float32(x)) == x


def perform(
    operation: Operation,
    sources: list[NDArray[Any]],
    narrow: bool,
    target: NDArray[Any],
    projection: Projection,
    rng: Any,
    given: NDArray[np.uint64] | None,
    flags: NDArray[np.uint8] | None,
) -> None:
    """Operate on arrays of one shape into `target`; ValueError for NaN that the format lacks."""
    lanes = F32 if narrow and float32_suffices(projection) else F64
    sources = [
        source.copy()
        if np.may_share_memory(source, target) and not same_memory(source, target)
        else source
        for source in sources
    ]
    nans = project(
        sources,
        lanes,
        target,
        projection,
        rng=rng,
        given=given,
        flags=flags,
        operation=operation,
        narrow=narrow,
    )
    if flags is not None and not narrow:
        _flag_signalling(sources, flags)
    if nans and projection.fmt.nan_code is None:
        index = tuple(int(i) for i in np.unravel_index(min(nans)[0], target.shape))
        raise ValueError(
            f"{sum(count for _, count in nans)} results are NaN, the first at index {index}, but "
            f"{projection.fmt} has no NaN; choose a format with NaN, or operands whose results are "
            "numbers"
        )


def _flag_signalling(sources: list[NDArray[Any]], flags: NDArray[np.uint8]) -> None:
    """Flag signalling NaN of float32 operands, which became quiet on their way to float64."""
    for source in sources:
        if source.dtype.newbyteorder("=") != F32:
            continue

        def work(start: int, stop: int, source: NDArray[Any] = source) -> None:
            for (values, raised), _ in chunks(
                [(source, F32), (flags, flags.dtype)], start, stop, read=1
            ):
                magnitude = values.view(np.uint32) & np.uint32(0x7FFFFFFF)
                signalling = (magnitude > 0x7F800000) & (magnitude < 0x7FC00000)
                raised[signalling] |= np.uint8(Flag.invalid)

        over_chunks(flags.size, work)
