"""Every jitted function: numbers in, numbers out. Imports nothing else of fpsim.

Kernels take one-dimensional contiguous arrays and settle nothing themselves: shapes, dtypes,
errors and threads are the caller's. Each is compiled for one signature per dtype, on first use,
by `compiled`. Formats and modes reach them as numbers in two small arrays: the fields of `Lane`
in the unsigned dtype of the data's bits, for the vectorised loops, and the fields of `Scalar` in
int64, for the exact scalar path.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types

from fpsim.kernels import (
    accumulate,
    casts,
    dither,
    luq,
    nm,
    operate,
    pruning,
    registers,
    statistics,
    words,
)


def _read(dtype: Any) -> Any:
    return types.Array(dtype, 1, "C", readonly=True)


def _written(dtype: Any, dimensions: int = 1) -> Any:
    return types.Array(dtype, dimensions, "C")


_ELEMENTS = {
    np.dtype(name): getattr(types, name)
    for name in ("uint8", "uint16", "uint32", "uint64", "int32", "int64", "float32", "float64")
}
_F64, _I64, _U64 = types.float64, types.int64, types.uint64
_SCALAR = _read(_I64)
_STREAM = (_read(_U64), _U64, _U64)  # words given, key, offset
_TABLE = (_written(_U64, 2), _I64, _written(_U64))


def _cast(x: Any, out: Any) -> tuple[Any, ...]:
    return _read(x), _written(out), _read(x)


def _random_cast(x: Any, out: Any) -> Any:
    return types.UniTuple(_I64, 2)(*_cast(x, out), _I64, *_STREAM)


def _bits(x: Any) -> Any:
    return types.uint32 if x == types.float32 else _U64


def _operation(x: Any, lanes: Any) -> Any:
    return types.boolean(*(_read(x),) * 3, _written(_bits(lanes)), _bits(lanes))


# The signature of each kernel, given the types of the elements that it reads and writes (between
# them, for operations, of the floats that it computes in).
_SIGNATURES: dict[Callable[..., Any], Callable[..., Any]] = {
    casts.round_by_mode: lambda x, out: _I64(*_cast(x, out)),
    casts.encode_by_mode: lambda x, out: _I64(*_cast(x, out)),
    casts.round_at_random: _random_cast,
    casts.encode_at_random: _random_cast,
    casts.redo: lambda x, out: types.void(*_cast(x, out), _SCALAR, *_STREAM, types.boolean),
    casts.settle_outside: lambda x, out: types.void(*_cast(x, out), _SCALAR),
    casts.cast_flags: lambda x, out: types.void(*_cast(x, out), _SCALAR, *_STREAM),
    casts.decode_table: lambda x, out: _U64(_read(x), _written(out), _read(out)),
    casts.decode_wide: lambda x, out: _U64(
        _read(x), _written(out), _SCALAR, _U64, _U64, _U64, _U64, _F64, _F64
    ),
    **dict.fromkeys(
        (
            operate.add,
            operate.subtract,
            operate.multiply,
            operate.divide,
            operate.sqrt,
            operate.fma,
            operate.faa,
        ),
        _operation,
    ),
    operate.operate_exactly: lambda x, lanes, out: types.void(
        _I64,
        *(_read(x),) * 3,
        _written(_bits(lanes)),
        _written(out),
        _written(types.uint8),
        _read(_bits(lanes)),
        _SCALAR,
        *_STREAM,
        types.boolean,
    ),
    operate.operation_flags: lambda x, lanes, out: types.void(
        _I64, *(_read(x),) * 3, _read(_bits(lanes)), _written(out)
    ),
    accumulate.accumulate: lambda x, out: _U64(
        types.Array(x, 2, "C", readonly=True),
        types.Array(x, 2, "C", readonly=True),
        _written(out, 3),
        _I64,
        _I64,
        types.boolean,
        _read(out),
        _read(out),
        _I64,
        types.UniTuple(_U64, 5),
        out,
        types.UniTuple(out, 2),
    ),
    accumulate.add_sums: lambda x, out: types.void(
        _written(out, 2), _written(out, 2), _read(out), _I64, types.UniTuple(_U64, 5), out, out
    ),
    accumulate.accumulate_exactly: lambda x, out: types.void(
        types.Array(_F64, 2, "C", readonly=True),
        types.Array(_F64, 2, "C", readonly=True),
        _written(_U64, 3),
        _written(_F64),
    ),
    accumulate.round_sums: lambda x, out: types.void(
        _written(_U64, 3),
        _written(_F64),
        _written(_U64),
        _read(_U64),
        _SCALAR,
        types.UniTuple(_U64, 5),
        _U64,
        _U64,
    ),
    accumulate.add_aligned: lambda x, out: types.void(
        *(types.Array(_I64, 2, "C"), types.Array(_I64, 2, "C"), types.Array(_F64, 2, "C")) * 2,
        _written(_U64, 2),
        types.UniTuple(_I64, 9),
        *(_read(_U64), _SCALAR) * 2,
        _read(_U64),
        types.UniTuple(_U64, 5),
        _U64,
    ),
    accumulate.significance: lambda x, out: types.void(_read(_U64), _written(_I64)),
    words.random_words: lambda x, out: types.void(_written(out), _U64, _U64),
    luq.luq_values: lambda x, out: _I64(
        _read(x), _written(out), _F64, _I64, _F64, _I64, _U64, _U64, _U64
    ),
    luq.luq_codes: lambda x, out: _I64(_read(x), _written(out), _F64, _I64, _F64, _U64, _U64, _U64),
    **dict.fromkeys(
        (nm.nm_1_2, nm.nm_2_4),
        lambda x, out: types.UniTuple(_I64, 2)(_read(x), _written(out), _U64, _U64),
    ),
    **dict.fromkeys(
        (nm.nm_any, nm.nm_top, nm.nm_approximate),
        lambda x, out: types.UniTuple(_I64, 2)(_read(x), _written(out), _I64, _I64, _U64, _U64),
    ),
    **dict.fromkeys(
        (dither.dither_values, dither.dither_codes),
        lambda x, out: _I64(_read(x), _written(out), _read(x), _U64, _U64, _U64),
    ),
    pruning.prune_at_random: lambda x, out: types.Tuple((_U64, _I64))(
        _read(x), _written(out), x, _U64, _U64
    ),
    statistics.largest_magnitude: lambda x, out: _U64(_read(x), x),
    registers.shift_register: lambda x, out: _U64(
        _written(out), _U64, _U64, types.boolean, _U64, _I64
    ),
    registers.cycle_length: lambda x, out: _I64(_U64, _U64, types.boolean, _U64, _I64),
    registers.xoshiro: lambda x, out: types.void(_written(out), _written(_U64), types.boolean),
    statistics.sketch32: lambda x, out: types.void(_read(x), _written(_U64, 2), *_TABLE),
    statistics.sketch64: lambda x, out: types.void(_read(x), *_TABLE),
    statistics.integer_moments: lambda x, out: types.void(_read(x), _F64, _F64, _written(out)),
    statistics.scaled: lambda x, out: types.void(_read(x), _written(out), _F64),
    statistics.error_sums: lambda x, out: types.void(
        _read(x), _read(x), _read(x), _F64, _I64, _written(out)
    ),
}


@cache
def _sources() -> str:
    """A digest of everything that kernels are made of."""
    digest = sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def compiled(kernel: Callable[..., Any], *dtypes: np.dtype[Any]) -> Callable[..., Any]:
    """The kernel for these dtypes (see `_SIGNATURES`), compiled or loaded from the cache.

    The signature is given beforehand, so that read-only and writable input share one compilation.
    """
    signature = _SIGNATURES[kernel](*(_ELEMENTS[dtype] for dtype in dtypes))
    # Numba's cache goes by the name, and by the age of the file that a kernel stands in; it
    # would not see an edit to a helper elsewhere.
    kernel.__qualname__ = f"{kernel.__name__}_{_sources()}"
    compiled_kernel: Callable[..., Any] = njit(
        signature,
        cache=True,
        nogil=True,
        error_model="numpy",  # divisions by zero are results
    )(kernel)
    return compiled_kernel
