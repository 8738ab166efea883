"""FloatArray: codes and a format, with NumPy's operators.

Imports accumulate, arithmetic, cast, catalog, format, inputs, reprs, rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim import arithmetic, reprs
from fpsim.accumulate import dot, matmul
from fpsim.accumulator import Accumulator, Order
from fpsim.arguments import shown
from fpsim.cast import decode, encode
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.inputs import code_array, foreign_dtypes
from fpsim.rounding import Overflow, Rounding, Stochastic, parse_overflow, parse_rounding
from fpsim.stream import Stream


@dataclass
class _Result:
    """What operators do with exact results."""

    fmt: Format | None
    rounding: Rounding | Stochastic
    overflow: Overflow
    stream: Stream | None  # goes on from one operation to the next

    def options(self, size: int) -> dict[str, Any]:
        """Arguments of an operation with so many results."""
        options: dict[str, Any] = {"rounding": self.rounding, "overflow": self.overflow}
        if isinstance(self.rounding, Stochastic):
            stream = self.stream or Stream.of(None)
            options["rng"] = stream
            self.stream = Stream(stream.seed, (stream.offset + size) % (1 << 64))
        return options


_result: ContextVar[_Result | None] = ContextVar("fpsim.result", default=None)


@contextmanager
def result(
    fmt: Any = None,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "nan",
    rng: Any = None,
) -> Iterator[None]:
    """Say for a ``with`` block how operators of `FloatArray` round, and into which format.

    It holds in this thread, or asynchronous task, alone.

    Parameters
    ----------
    fmt : Format, str or dtype, optional
        The format of results. None: that of the operands, which then have to agree.
    rounding : Rounding, Stochastic or str
    overflow : Overflow or str
    rng : int, numpy.random.Generator, Stream or None
        Where stochastic rounding takes its random bits from; every operation goes on in the stream.

    Examples
    --------
    >>> import fpsim
    >>> x, y = fpsim.array([1.0], "float8_e4m3fn"), fpsim.array([0.3], "float8_e5m2")
    >>> with fpsim.result("binary16", rounding="toward_zero"):
    ...     x / y
    array([3.19921875], fmt='binary16')
    """
    mode = parse_rounding(rounding)
    stream = Stream.of(rng) if isinstance(mode, Stochastic) else None
    chosen = _Result(None if fmt is None else parse(fmt), mode, parse_overflow(overflow), stream)
    token = _result.set(chosen)
    try:
        yield
    finally:
        _result.reset(token)


def array(
    x: ArrayLike,
    fmt: Any = None,
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "nan",
    rng: Any = None,
) -> FloatArray:
    """Round numbers into a format, and keep them as its codes.

    Parameters
    ----------
    x : array_like
        Real numbers, or a `FloatArray`.
    fmt : Format, str or dtype, optional
        None: x's own, which it has as a `FloatArray` or by its NumPy or ml_dtypes dtype; codes
        are shared then, not copied.
    rounding, overflow, rng
        As of `encode`.

    Examples
    --------
    >>> import fpsim
    >>> x = fpsim.array([1.0, 0.3, -22.0], "float8_e4m3fn")
    >>> x
    array([  1.    ,   0.3125, -22.    ], fmt='float8_e4m3fn')
    >>> x.codes
    array([ 56,  42, 219], dtype=uint8)
    >>> x * x + 1.0
    array([2.   , 1.125,   nan], fmt='float8_e4m3fn')
    """
    own = _own_format(x)
    if fmt is None and own is None:
        raise TypeError(
            f"x is of type {type(x).__name__}, which has no floating-point format; give fmt="
        )
    wanted = own if fmt is None else parse(fmt)
    assert wanted is not None
    if own == wanted:
        if isinstance(x, FloatArray):
            return FloatArray(x.codes, wanted)
        return FloatArray(np.asarray(x).view(wanted.code_dtype), wanted)
    values = x.values if isinstance(x, FloatArray) else x
    codes = encode(values, wanted, rounding=rounding, overflow=overflow, rng=rng)
    return FloatArray(codes, wanted)


def _own_format(x: Any) -> Format | None:
    """The format that an array is in by its type, if its elements can be seen as codes."""
    if isinstance(x, FloatArray):
        return x.fmt
    if not isinstance(x, (np.ndarray, np.generic)):
        return None
    dtype = x.dtype
    if (dtype.kind == "f" and dtype.itemsize <= 8) or dtype.name in foreign_dtypes():
        return parse(dtype.newbyteorder("=")) if dtype.isnative else None
    return None


class FloatArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of codes of a format, which computes as numbers of that format do.

    Operators and NumPy's functions (``+ - * / @``, ``np.sqrt``, comparisons, ``np.sum``, …) round
    once, to nearest even unless `result` says otherwise. Plain numbers and NumPy arrays count as
    exact operands; two formats need `result`, or one of the functions (`add`, …), to say in which
    format the result is to be.

    Parameters
    ----------
    codes : array_like of unsigned int
        Kept as they are where they have the format's dtype for codes.
    fmt : Format, str or dtype

    Examples
    --------
    >>> import fpsim
    >>> import numpy as np
    >>> x = fpsim.FloatArray([0, 1, 126], "float8_e4m3fn")
    >>> x.values
    array([0.000000e+00, 1.953125e-03, 4.480000e+02], dtype=float32)
    >>> np.sqrt(x)[1:]
    array([ 0.04296875, 22.        ], fmt='float8_e4m3fn')
    """

    __slots__ = ("codes", "fmt")
    __array_priority__ = 1000

    codes: NDArray[Any]
    fmt: Format

    def __init__(self, codes: ArrayLike, fmt: Any) -> None:
        self.fmt = parse(fmt)
        self.codes = code_array("codes", codes, self.fmt)
        if self.codes.dtype != self.fmt.code_dtype:
            self.codes = self.codes.astype(self.fmt.code_dtype)
        if self.codes.size and int(self.codes.max()) >> self.fmt.bits:
            raise ValueError(
                f"codes={int(self.codes.max())} is out of range; {self.fmt} has codes 0 to "
                f"{(1 << self.fmt.bits) - 1}"
            )

    @property
    def values(self) -> NDArray[Any]:
        """The numbers, in float32 if it holds the format, else in float64."""
        return np.asarray(decode(self.codes, self.fmt))

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the codes; so are the other properties of this kind."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return self.codes.ndim

    @property
    def size(self) -> int:
        """How many elements there are."""
        return self.codes.size

    @property
    def T(self) -> FloatArray:  # NumPy's name
        """The array with its axes reversed."""
        return FloatArray(self.codes.T, self.fmt)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> FloatArray:
        return FloatArray(self.codes[index], self.fmt)

    def __setitem__(self, index: Any, x: Any) -> None:
        self.codes[index] = self._codes_of(x)

    def __iter__(self) -> Iterator[FloatArray]:
        return (FloatArray(codes, self.fmt) for codes in self.codes)

    def __float__(self) -> float:
        return float(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("values of a FloatArray are not in memory; take .codes, or a copy")
        values = self.values
        return values if dtype is None else values.astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return FloatArray, (self.codes, self.fmt)

    def __repr__(self) -> str:
        # Code, where there are not too many elements: of `array`, with as many digits as it takes.
        values = self._printed(separator=", ", prefix="array(", floatmode="unique")
        return f"array({values}, fmt={_as_code(self.fmt)})"

    def _repr_html_(self) -> str:
        rows = [
            ("format", reprs.escape(self.fmt)),
            ("shape", reprs.escape(self.shape)),
            ("values", f"<pre>{self._printed()}</pre>"),
            ("codes", f"<pre>{np.array2string(self.codes)}</pre>"),
        ]
        return f"<div><strong>array</strong>{reprs.layout(self.fmt)}{reprs.pairs(rows)}</div>"

    def _printed(self, **options: Any) -> str:
        """The values as NumPy prints them; of a large array, only those that are shown decoded."""
        size = np.get_printoptions()["threshold"]
        if self.size <= size:
            return np.array2string(self.values.astype(np.float64), **options)
        edge = np.get_printoptions()["edgeitems"]
        # One more than is shown, so that NumPy leaves out something, too.
        ends = [np.r_[: min(edge + 1, n), max(n - edge, edge + 1) : n] for n in self.shape]
        values = FloatArray(self.codes[np.ix_(*ends)], self.fmt).values.astype(np.float64)
        return np.array2string(values, threshold=0, **options)

    def _codes_of(self, x: Any) -> NDArray[Any]:
        """Codes of numbers to put in: exactly, or it is an error."""
        other = x if isinstance(x, FloatArray) else array(x, self.fmt, **_options(0))
        if other.fmt != self.fmt:
            raise _mixed([self.fmt, other.fmt])
        return other.codes

    def reshape(self, *shape: Any) -> FloatArray:
        """The same elements in another shape, as of NumPy."""
        return FloatArray(self.codes.reshape(*shape), self.fmt)

    def ravel(self) -> FloatArray:
        """The same elements on one axis."""
        return FloatArray(self.codes.ravel(), self.fmt)

    def transpose(self, *axes: int) -> FloatArray:
        """The same elements with axes in another order, as of NumPy."""
        return FloatArray(self.codes.transpose(*axes), self.fmt)

    def copy(self) -> FloatArray:
        """An array with codes of its own."""
        return FloatArray(self.codes.copy(), self.fmt)

    def astype(self, fmt: Any) -> FloatArray:
        """The elements rounded into another format, as `result` says."""
        return array(self, fmt, **_options(self.size))

    def view(self, dtype: Any) -> NDArray[Any]:
        """The codes as an array of an ml_dtypes or NumPy dtype of the same format, not copied."""
        if parse(dtype) != self.fmt:
            raise ValueError(
                f"dtype={shown(str(dtype))} is {parse(dtype)}, but the array is {self.fmt}; give a "
                "dtype of that format, or take .values"
            )
        return self.codes.view(dtype)

    def sum(self, axis: int | None = None, order: Order | str = "sequential") -> FloatArray:
        """Add up elements, rounding every step into the format.

        Parameters
        ----------
        axis : int, optional
            None: over all, in C order.
        order : Order or str
            ``'sequential'``, ``'pairwise'``, ``'kahan'`` or ``'exact'``.

        Examples
        --------
        >>> import fpsim
        >>> x = fpsim.array([1.0] * 40, "float8_e4m3fn")
        >>> x.sum(), x.sum(order="pairwise")
        (array(16., fmt='float8_e4m3fn'), array(40., fmt='float8_e4m3fn'))
        """
        values = self.values
        moved = values.ravel() if axis is None else np.moveaxis(values, axis, -1)
        chosen, fmt = _current(), _result_format([self])
        accumulator = Accumulator(fmt, chosen.rounding, order=order, overflow=chosen.overflow)  # type: ignore[arg-type]
        options = chosen.options(moved.size)
        sums = dot(moved, np.ones((), moved.dtype)[None].repeat(moved.shape[-1]), accumulator,
                   rng=options.get("rng"))  # fmt: skip
        return FloatArray(encode(sums, fmt), fmt)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        if method == "reduce" and ufunc is np.add and isinstance(inputs[0], FloatArray):
            axis = options.pop("axis", 0)
            if not any(value not in (None, False) for value in options.values()):
                return inputs[0].sum(axis)
        if method != "__call__" or options or name not in _UFUNCS:
            return NotImplemented
        return _UFUNCS[name](*inputs)

    def __array_function__(
        self, function: Any, types: Any, arguments: Any, options: dict[str, Any]
    ) -> Any:
        if function in (np.concatenate, np.stack):
            arrays = [a if isinstance(a, FloatArray) else array(a) for a in arguments[0]]
            formats = [a.fmt for a in arrays]
            if len(set(formats)) > 1:
                raise _mixed(formats)
            codes = function([a.codes for a in arrays], *arguments[1:], **options)
            return FloatArray(codes, formats[0])
        if function is np.sum and not set(options) - {"axis"}:
            return arguments[0].sum(*arguments[1:], **options)
        if function in (np.reshape, np.ravel, np.transpose, np.copy):
            return getattr(self, function.__name__)(*arguments[1:], **options)
        return NotImplemented


# Operators --------------------------------------------------------------------------------------


def _current() -> _Result:
    return _result.get() or _Result(None, Rounding.ties_to_even, Overflow.nan, None)


def _options(size: int) -> dict[str, Any]:
    return _current().options(size)


def _as_code(fmt: Format) -> str:
    """What `parse` takes for the format, or how to make it where it has a name of the user's."""
    with suppress(ValueError):
        if parse(str(fmt)) == fmt:
            return repr(str(fmt))
    return repr(fmt)


def _mixed(formats: list[Format]) -> TypeError:
    names = " and ".join(dict.fromkeys(str(fmt) for fmt in formats))
    return TypeError(
        f"operands are in {names}; say in which format the result is to be: "
        "with fpsim.result(fmt, rounding): …, or fpsim.add(x, y, fmt) and its like"
    )


def _result_format(operands: list[Any]) -> Format:
    chosen = _current().fmt
    if chosen is not None:
        return chosen
    formats = [x.fmt for x in operands if isinstance(x, FloatArray)]
    if len(set(formats)) > 1:
        raise _mixed(formats)
    return formats[0]


def _exact(x: Any) -> Any:
    return x.values if isinstance(x, FloatArray) else x


def _operator(name: str) -> Any:
    function = getattr(arithmetic, name)

    def operate(*operands: Any) -> FloatArray:
        fmt = _result_format(list(operands))
        values = [_exact(x) for x in operands]
        size = int(np.prod(np.broadcast_shapes(*(np.shape(v) for v in values)), dtype=np.int64))
        rounded = function(*values, fmt, **_options(size))
        return FloatArray(encode(rounded, fmt), fmt)

    return operate


def _matmul(x: Any, y: Any) -> FloatArray:
    fmt = _result_format([x, y])
    chosen = _current()
    accumulator = Accumulator(fmt, chosen.rounding, overflow=chosen.overflow)
    a, b = np.asarray(_exact(x)), np.asarray(_exact(y))
    options = chosen.options(a.size * b.shape[-1] if b.ndim > 1 else a.size)
    if a.ndim == 1 or b.ndim == 1:
        sums = dot(a if b.ndim == 1 else np.swapaxes(b, -1, -2),
                   b if b.ndim == 1 else a, accumulator, rng=options.get("rng"))  # fmt: skip
    else:
        sums = matmul(a, b, accumulator, rng=options.get("rng"))
    return FloatArray(encode(sums, fmt), fmt)


def _on_values(name: str) -> Any:
    """Functions whose results are no numbers of a format."""
    return lambda *operands: getattr(np, name)(*(_exact(x) for x in operands))


def _unrounded(name: str) -> Any:
    """Functions whose results are operands, or differ from them in sign."""

    def operate(*operands: Any) -> FloatArray:
        fmt = _result_format(list(operands))
        values = getattr(np, name)(*(_exact(x) for x in operands))
        return array(values, fmt, **_options(np.size(values)))

    return operate


_UFUNCS: dict[str, Any] = {
    **{name: _operator(name) for name in ("add", "subtract", "multiply", "divide", "sqrt")},
    "matmul": _matmul,
    **{
        name: _on_values(name)
        for name in (
            "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
            "isnan", "isinf", "isfinite", "signbit",
        )
    },
    **{
        name: _unrounded(name)
        for name in ("negative", "positive", "absolute", "maximum", "minimum", "fmax", "fmin")
    },
}  # fmt: skip
