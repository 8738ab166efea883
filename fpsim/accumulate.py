"""dot, matmul: dot products summed as an accumulator says, bit for bit.

Imports arguments, catalog, format, rounding, inputs, projection, cast, arithmetic, accumulator,
stream, threads, kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim import arithmetic, kernels
from fpsim.accumulator import Accumulator, Carry, Order
from fpsim.arguments import shown
from fpsim.cast import round
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.inputs import F32, F64, chunks, real_array
from fpsim.kernels import accumulate as steps
from fpsim.kernels import exact
from fpsim.kernels.operate import LIMBS
from fpsim.projection import Projection, constants_of, float32_suffices
from fpsim.rounding import Rounding, Stochastic
from fpsim.stream import Stream
from fpsim.threads import over_chunks

_UINT: dict[np.dtype[Any], np.dtype[Any]] = {F32: np.dtype(np.uint32), F64: np.dtype(np.uint64)}
_ROWS = 16  # rows of outputs that share a panel of the second operand
_COLUMNS = 1024
_DEPTH = 256  # terms converted at a time
_CHECKED = 1 << 14  # operands looked at at a time
_F64_PRECISION = 53
_F64_EMAX = 1020
_ALIGNED_BITS = 50  # of a product and what it is shifted by; blocks add 12 more
_NO_EXPONENT = -(1 << 16)  # of zeros: below all others
# Operands of terms start to stop: (rows × terms, or terms × columns) and (terms × columns).
_Panel = Callable[[int, int], tuple[NDArray[Any], NDArray[Any]]]
_KERNEL_ORDERS = {
    Order.sequential: steps.SEQUENTIAL,
    Order.pairwise: steps.PAIRWISE,
    Order.kahan: steps.KAHAN,
}
_KERNEL_ALIGNMENTS = {
    Rounding.toward_zero: exact.TOWARD_ZERO,
    Rounding.toward_negative: exact.TOWARD_NEGATIVE,
    Rounding.ties_to_even: exact.TIES_TO_EVEN,
}
_KERNEL_CARRIES = {
    Carry.joins: steps.JOINS,
    Carry.after: steps.AFTER,
    Carry.two_stage: steps.TWO_STAGE,
}


def dot(
    a: ArrayLike,
    b: ArrayLike,
    accumulator: Accumulator,
    c: ArrayLike | None = None,
    *,
    rng: Any = None,
) -> Any:
    """Dot products over the last axis.

    Parameters
    ----------
    a, b : array_like, (..., depth)
        Real numbers that float64 holds; the leading axes broadcast.
    accumulator : Accumulator
    c : array_like, optional
        What the sums start from (or end with: see `Order`), rounded to the accumulator's format;
        broadcasts to the leading axes.
    rng : int, numpy.random.Generator, Stream or None
        Where stochastic rounding takes its random bits from; see `Stream`.

    Returns
    -------
    array of the leading axes
        In float32 where a, b and c have 32 bits or fewer and it holds the format, else in float64.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.dot([1.0, 2.0, 3.0], [0.5, 0.25, 1.0], fpsim.Accumulator("float8_e4m3fn"), c=96.0)
    np.float64(96.0)
    """
    x, x_dtype = real_array("a", a)
    y, y_dtype = real_array("b", b)
    if not (x.ndim and y.ndim and x.shape[-1] == y.shape[-1]):
        raise ValueError(
            f"a {x.shape} and b {y.shape} do not agree in their last axis, over which products are "
            "summed; give arrays of at least one axis that do"
        )
    try:
        x, y = np.broadcast_arrays(x, y)
    except ValueError:
        raise ValueError(
            f"the leading axes of a {x.shape} and b {y.shape} do not broadcast; give shapes that "
            "agree, or are 1"
        ) from None
    shape, depth = x.shape[:-1], x.shape[-1]
    task = _Task(accumulator, x, y, (x_dtype, y_dtype), c, shape, rng)
    x, y = (v.reshape(task.out.size, depth) for v in (x, y))

    def work(start: int, stop: int) -> None:
        def panel(first: int, last: int) -> tuple[NDArray[Any], NDArray[Any]]:
            part = slice(start, stop), slice(first, last)
            return (
                np.ascontiguousarray(x[part].T, task.lanes),
                np.ascontiguousarray(y[part].T, task.lanes),
            )

        out = task.out.reshape(1, task.out.size)[:, start:stop]
        task.run(panel, depth, out, start, stop - start)

    over_chunks(len(x), work, chunk=_COLUMNS)
    return task.result()


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    accumulator: Accumulator,
    c: ArrayLike | None = None,
    *,
    rng: Any = None,
) -> Any:
    """Matrix products, element by element a `dot`.

    Parameters
    ----------
    a : array_like, (..., rows, depth)
    b : array_like, (..., depth, columns)
        Real numbers that float64 holds; the leading axes broadcast.
    accumulator : Accumulator
    c : array_like, optional
        Broadcasts to (..., rows, columns); see `dot`.
    rng : int, numpy.random.Generator, Stream or None

    Returns
    -------
    array, (..., rows, columns)
        As of `dot`.

    Examples
    --------
    >>> import fpsim
    >>> import numpy as np
    >>> a = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> fpsim.matmul(a, a, fpsim.Accumulator("float4_e2m1fn", overflow="saturate"))
    array([[6., 6.],
           [6., 6.]])
    """
    x, x_dtype = real_array("a", a)
    y, y_dtype = real_array("b", b)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-2]:
        raise ValueError(
            f"a {x.shape} and b {y.shape} are no matrices that multiply: give a of shape "
            "(…, rows, depth) and b of shape (…, depth, columns)"
        )
    try:
        lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        raise ValueError(
            f"the leading axes of a {x.shape} and b {y.shape} do not broadcast; give shapes that "
            "agree, or are 1"
        ) from None
    rows, depth, columns = *x.shape[-2:], y.shape[-1]
    task = _Task(accumulator, x, y, (x_dtype, y_dtype), c, (*lead, rows, columns), rng)
    lefts = np.broadcast_to(x, (*lead, rows, depth))
    rights = np.broadcast_to(y, (*lead, depth, columns))
    stacks = [(lefts[i], rights[i]) for i in np.ndindex(*lead)]
    across = -(-columns // _COLUMNS)
    down = -(-rows // _ROWS)
    out = task.out.reshape(len(stacks), rows, columns)

    def work(start: int, stop: int) -> None:
        for item in range(start, stop):
            stack, place = divmod(item, down * across)
            i, j = (place // across) * _ROWS, (place % across) * _COLUMNS
            left, right = stacks[stack]
            left, right = left[i : i + _ROWS], right[:, j : j + _COLUMNS]

            def panel(
                first: int,
                last: int,
                left: NDArray[Any] = left,
                right: NDArray[Any] = right,
            ) -> tuple[NDArray[Any], NDArray[Any]]:
                return (
                    np.ascontiguousarray(left[:, first:last], task.lanes),
                    np.ascontiguousarray(right[first:last], task.lanes),
                )

            part = out[stack, i : i + _ROWS, j : j + _COLUMNS]
            task.run(panel, depth, part, (stack * rows + i) * columns + j, columns)

    over_chunks(len(stacks) * down * across, work, chunk=1)
    return task.result()


class _Task:
    """Sums of one shape: in which dtype they are computed, and the kernels at work on a part."""

    def __init__(
        self,
        accumulator: Accumulator,
        x: NDArray[Any],
        y: NDArray[Any],
        dtypes: tuple[np.dtype[Any], np.dtype[Any]],
        c: ArrayLike | None,
        shape: tuple[int, ...],
        rng: Any,
    ) -> None:
        if not isinstance(accumulator, Accumulator):
            raise TypeError(
                f"accumulator is of type {type(accumulator).__name__}; give a fpsim.Accumulator"
            )
        self.accumulator = accumulator
        sums, inner = accumulator.fmt, accumulator.block_fmt or accumulator.fmt
        product = accumulator.product
        self.projections = [self._projection(fmt) for fmt in (sums, inner, product or inner)]
        start, start_dtype = (np.zeros(()), F32) if c is None else real_array("c", c)
        try:
            start = np.broadcast_to(start, shape)
        except ValueError:
            raise ValueError(
                f"c has shape {start.shape}, which does not broadcast to the result's {shape}"
            ) from None
        narrow = all(dtype.itemsize <= 4 for dtype in (*dtypes, start_dtype))
        self.result_dtype = F32 if narrow and parse(F32).contains(sums) else F64
        ranges = _Range.of(x), _Range.of(y)
        products = ranges[0].times(ranges[1])
        self.lanes = F64
        self.fast = False
        aligned = accumulator.alignment_bits is not None
        if accumulator.operands is not None:
            for name, array in (("a", x), ("b", y)):
                _check_format(name, array, accumulator.operands)
        if aligned:
            self._check_alignment(ranges)
        if not (aligned or accumulator.order is Order.exact):
            for lanes in (F32, F64) if narrow else (F64,):
                if products.fits(lanes) and all(_fits(p, lanes) for p in self.projections):
                    self.lanes, self.fast = lanes, True
                    break
        self.out = np.empty(shape, self.lanes)
        self.out[...] = round(start.astype(F64), sums, overflow=accumulator.overflow)
        self.flushes = accumulator.flush_subnormals
        if self.flushes:
            self.out[np.abs(self.out) < float(sums.min_normal)] = 0
        flushed = [
            float(p.fmt.min_normal) if self.flushes else 0.0 for p in self.projections
        ]  # results below these become zeros
        self.flush_below = np.array(flushed, self.lanes).view(_UINT[self.lanes])
        self.random = isinstance(accumulator.rounding, Stochastic)
        self.stream = Stream.of(rng) if self.random else Stream(0)
        self.constants = [constants_of(p, self.lanes) for p in self.projections]
        uint = _UINT[self.lanes]
        negative = accumulator.rounding is Rounding.toward_negative
        self.minus_zero = uint.type((1 << (8 * uint.itemsize - 1)) if negative else 0)
        self.kernels: dict[Callable[..., Any], Callable[..., Any]] = {
            kernel: kernels.compiled(kernel, self.lanes, uint)
            for kernel in (steps.accumulate, steps.add_sums)
            if self.fast
        }
        for kernel, needed in (
            (steps.accumulate_exactly, accumulator.order is Order.exact),
            (steps.round_sums, accumulator.order is Order.exact),
            (steps.add_aligned, aligned),
        ):
            if needed:
                self.kernels[kernel] = kernels.compiled(kernel, F64, _UINT[F64])

    def _check_alignment(self, ranges: tuple[_Range, _Range]) -> None:
        """Aligned products fit in 64 bits, and so do the steps in float64 that follow."""
        accumulator = self.accumulator
        fmt = accumulator.operands
        if fmt is None:
            self.fractions = tuple(max(r.precision, 1) - 1 for r in ranges)
        else:
            self.fractions = (fmt.mantissa_bits, fmt.mantissa_bits)
        kept = accumulator.carry_bits or accumulator.alignment_bits or 0
        bits = max(sum(self.fractions), kept) + 2
        if bits > _ALIGNED_BITS:
            raise ValueError(
                f"alignment_bits={accumulator.alignment_bits} and products of "
                f"{sum(self.fractions) + 2} bits: terms of {bits} bits are more than the "
                f"{_ALIGNED_BITS} that can be aligned; give operands of fewer bits"
            )
        if accumulator.carry is Carry.after and not _fits(self.projections[0], F64):
            raise ValueError(
                f"fmt={accumulator.fmt} with carry='after' takes sums that float64 does not hold; "
                "give a format of fewer bits"
            )

    def _run_aligned(
        self, panel: _Panel, depth: int, out: NDArray[Any], first: int, stride: int
    ) -> None:
        """Blocks of aligned terms, as multi-term units add them."""
        accumulator = self.accumulator
        block = accumulator.block or 1
        shape = (
            block,
            accumulator.alignment_bits,
            accumulator.carry_bits or 0,
            accumulator.interleaved,
            _KERNEL_CARRIES[accumulator.carry],
            _KERNEL_ALIGNMENTS[accumulator.alignment],
            sum(self.fractions),
            accumulator.fmt.emin,
            accumulator.fmt.emax,
        )
        roundings = 2 if accumulator.carry is Carry.after else 1
        sums = np.ascontiguousarray(out, np.float64).view(np.uint64)
        length = block * max(_DEPTH // block, 1)
        for k, start in enumerate(range(0, depth, length)):
            x, y = panel(start, min(start + length, depth))
            rounded = k * (length // block) * roundings
            each = x.shape == y.shape and out.shape[0] == 1
            self.kernels[steps.add_aligned](
                *self._decomposed(x.T if each else x, self.fractions[0]),
                *self._decomposed(y.T, self.fractions[1]),
                sums,
                shape,
                self.constants[0].lane,
                self.constants[0].scalar,
                self.constants[1].lane,
                self.constants[1].scalar,
                self.flush_below,
                self._draw(first, stride, rounded),
                self.minus_zero,
            )
        out[...] = sums.view(np.float64)

    def _decomposed(
        self, x: NDArray[Any], fraction: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(significands in units of their last place, exponents of the leading one, values)."""
        values = np.ascontiguousarray(x, np.float64)
        finite = np.isfinite(values)
        exponents = np.frexp(np.where(finite, values, 1.0))[1].astype(np.int64) - 1
        if self.accumulator.operands is not None:
            exponents = np.maximum(exponents, self.accumulator.operands.emin)
        significands = np.ldexp(np.where(finite, values, 0.0), fraction - exponents)
        exponents = np.where(values == 0, _NO_EXPONENT, exponents)
        exponents = np.where(finite, exponents, steps.NOT_FINITE)
        return significands.astype(np.int64), exponents, values

    def _projection(self, fmt: Format) -> Projection:
        accumulator = self.accumulator
        return Projection(fmt, accumulator.rounding, accumulator.overflow, False, False)

    def result(self) -> Any:
        """The sums, in the dtype that results have."""
        return self.out.astype(self.result_dtype, copy=False)[()]

    def run(self, panel: _Panel, depth: int, out: NDArray[Any], first: int, stride: int) -> None:
        """Add up all terms of a part of the outputs.

        ``panel(start, stop)`` gives operands of those terms, `first` the place of the first output
        among all, and `stride` how many places there are from one row to the next.
        """
        if self.flushes and self.accumulator.operands is not None:
            panel = _flushed(panel, float(self.accumulator.operands.min_normal))
        if self.accumulator.alignment_bits is not None:
            self._run_aligned(panel, depth, out, first, stride)
            return
        if self.accumulator.order is Order.exact:
            self._run_exactly(panel, depth, out, first, stride)
            return
        one = self._fast_sum if self.fast else self._slow_sum
        if self.accumulator.order is not Order.blocked:
            one(panel, range(depth), self.accumulator.order, 0, out, first, stride, 0)
            return
        block = self.accumulator.block or depth
        rounded = 0
        for start in range(0, depth, block):
            terms = range(start, min(start + block, depth))
            part = np.zeros(out.shape, self.lanes)
            order = self.accumulator.block_order
            rounded += one(panel, terms, order, 1, part, first, stride, rounded)
            self._add(out, part, first, stride, rounded)
            rounded += 1

    def _draw(self, first: int, stride: int, rounded: int) -> tuple[np.uint64, ...]:
        """What `steps.accumulate` calls so."""
        place = (self.stream.offset + first) % (1 << 64)
        numbers = (self.stream.seed, place, stride, self.out.size, rounded)
        return tuple(np.uint64(number) for number in numbers)

    def _fast_sum(
        self,
        panel: _Panel,
        terms: range,
        order: Order,
        which: int,
        out: NDArray[Any],
        first: int,
        stride: int,
        rounded: int,
    ) -> int:
        """Add terms to sums; returns how often each was rounded."""
        uint = _UINT[self.lanes]
        levels = {Order.kahan: 2, Order.pairwise: len(terms).bit_length()}.get(order, 1)
        state = np.zeros((max(levels, 1), *out.shape), uint)
        state[0] = np.ascontiguousarray(out).view(uint)
        if order is Order.pairwise:
            state[0] = 0
        none: NDArray[Any] = np.zeros(0, uint)
        product = self.constants[2].lane if self.accumulator.product is not None else none
        before = rounded
        for start in range(terms.start, terms.stop, _DEPTH):
            stop = min(start + _DEPTH, terms.stop)
            rounded += self.kernels[steps.accumulate](
                *panel(start, stop),
                state,
                _KERNEL_ORDERS[order],
                start - terms.start,
                stop == terms.stop,
                self.constants[which].lane,
                product,
                self.constants[which].variant if self.random else -1,
                self._draw(first, stride, rounded),
                self.minus_zero,
                (self.flush_below[which], self.flush_below[2]),
            )
        sums: NDArray[Any] = state[0].view(self.lanes)
        if order is Order.pairwise and which == 0:
            if len(terms):
                self._add(out, sums, first, stride, rounded)
                rounded += 1
        else:
            out[...] = sums
        return rounded - before

    def _add(
        self,
        out: NDArray[Any],
        part: NDArray[Any],
        first: int,
        stride: int,
        rounded: int,
    ) -> None:
        """Add sums to sums, rounding once."""
        if not self.fast:
            words = self._words(out.shape, first, stride, rounded)
            out[...] = self._operate("add", 0, words, out, part)
            return
        uint = _UINT[self.lanes]
        sums = np.ascontiguousarray(out).view(uint)
        self.kernels[steps.add_sums](
            sums,
            np.ascontiguousarray(part).view(uint),
            self.constants[0].lane,
            self.constants[0].variant if self.random else -1,
            self._draw(first, stride, rounded),
            self.minus_zero,
            self.flush_below[0],
        )
        out[...] = sums.view(self.lanes)

    # Where the kernels' arithmetic does not reach: one operation on whole arrays after the other.

    def _words(
        self, shape: tuple[int, ...], first: int, stride: int, rounded: int
    ) -> NDArray[np.uint64] | None:
        """Random integers for one rounding of a part of the outputs."""
        if not isinstance(self.accumulator.rounding, Stochastic):
            return None
        start = self.stream.offset + first + rounded * self.out.size
        rows = [
            Stream(self.stream.seed, (start + row * stride) % (1 << 64)).words(shape[1])
            for row in range(shape[0])
        ]
        return np.array(rows, np.uint64) >> np.uint64(64 - (self.accumulator.rounding.bits or 64))

    def _operate(self, name: str, which: int, words: Any, *operands: Any) -> NDArray[np.float64]:
        projection = self.projections[which]
        result: NDArray[np.float64] = np.asarray(
            getattr(arithmetic, name)(
                *operands,
                projection.fmt,
                rounding=projection.rounding,
                overflow=projection.overflow,
                random_bits=words,
            ),
            np.float64,
        )
        if self.flushes:
            small = np.abs(result) < float(projection.fmt.min_normal)
            result = np.where(small, np.copysign(0.0, result), result)
        return result

    def _slow_sum(
        self,
        panel: _Panel,
        terms: range,
        order: Order,
        which: int,
        out: NDArray[Any],
        first: int,
        stride: int,
        rounded: int,
    ) -> int:
        """What `_fast_sum` does, in the same order and with the same words."""
        before = rounded

        def step(name: str, which: int, *operands: Any) -> NDArray[np.float64]:
            nonlocal rounded
            words = self._words(out.shape, first, stride, rounded)
            rounded += 1
            return self._operate(name, which, words, *operands)

        correction = np.zeros(out.shape)
        partial: list[tuple[int, NDArray[np.float64]]] = []  # (terms, their sum), fewer and fewer
        for k in terms:
            x, y = panel(k, k + 1)
            if x.shape != (1, out.shape[1]) or out.shape[0] > 1:
                x = np.broadcast_to(x, (out.shape[0], 1))
            x, y = (np.array(np.broadcast_to(v, out.shape), np.float64) for v in (x, y))
            factors: tuple[Any, ...] = (x, y)
            if self.accumulator.product is not None:
                factors = (step("multiply", 2, x, y), np.ones(()))
            if order is Order.sequential:
                out[...] = step("fma", which, *factors, out)
            elif order is Order.kahan:
                term = step("fma", which, *factors, -correction)
                total = step("add", which, out, term)
                lost = step("subtract", which, total, out)
                correction = step("subtract", which, lost, term)
                out[...] = total
            else:
                term = factors[0]
                if self.accumulator.product is None:
                    term = step("multiply", which, x, y)
                size = 1
                while partial and partial[-1][0] == size:
                    term = step("add", which, partial.pop()[1], term)
                    size *= 2
                partial.append((size, term))
        if partial:
            total = partial.pop()[1]
            while partial:
                total = step("add", which, partial.pop()[1], total)
            out[...] = total if which else step("add", which, out, total)
        return rounded - before

    def _run_exactly(
        self, panel: _Panel, depth: int, out: NDArray[Any], first: int, stride: int
    ) -> None:
        """Sums without error, rounded once."""
        columns = out.shape[1]
        scalar = self.constants[0].scalar
        ones = np.ones((1, 1))
        add = self.kernels[steps.accumulate_exactly]
        block = self.accumulator.block or max(depth, 1)
        for i in range(out.shape[0]):
            limbs = np.zeros((columns, 2, LIMBS), np.uint64)
            for k, begin in enumerate(range(0, max(depth, 1), block)):
                specials = np.zeros(columns)
                add(ones, np.array(out[i], np.float64).reshape(-1, 1), limbs, specials)
                end = min(begin + block, depth)
                for start in range(begin, end, _DEPTH):
                    x, y = panel(start, min(start + _DEPTH, end))
                    each = x.shape == y.shape and out.shape[0] == 1
                    row = x.T if each else x[i : i + 1]
                    add(np.ascontiguousarray(row), np.ascontiguousarray(y.T), limbs, specials)
                sums = np.empty(columns, np.uint64)
                self.kernels[steps.round_sums](
                    limbs,
                    specials,
                    sums,
                    self.constants[0].lane,
                    scalar,
                    self._draw(first + i * stride, stride, k),
                    self.minus_zero,
                    self.flush_below[0],
                )
                out[i] = sums.view(np.float64)


def _flushed(panel: _Panel, least: float) -> _Panel:
    """Operands with what is smaller as +0."""

    def flushed(first: int, last: int) -> tuple[NDArray[Any], NDArray[Any]]:
        x, y = (np.where(np.abs(v) < least, v.dtype.type(0), v) for v in panel(first, last))
        return x, y

    return flushed


def _check_format(name: str, array: NDArray[Any], fmt: Format) -> None:
    """Raise ValueError where elements are not values of a format."""
    found: list[tuple[int, int]] = []  # (index of the first, how many) by part

    def work(start: int, stop: int) -> None:
        for (values,), index in chunks([(array, F64)], start, stop):
            for first in range(0, values.size, _CHECKED):
                part = values[first : first + _CHECKED]
                nan = np.isnan(part)
                numbers = np.where(nan, 0.0, part)
                off = (round(numbers, fmt) != numbers) | (nan & (fmt.nan_code is None))
                if off.any():
                    found.append((index + first + int(np.argmax(off)), int(off.sum())))

    over_chunks(array.size, work)
    if found:
        index = tuple(int(i) for i in np.unravel_index(min(found)[0], array.shape))
        raise ValueError(
            f"{name} has {sum(count for _, count in found)} elements that are not {fmt}, the first "
            f"{shown(float(array[index]))} at index {index}; round them first: "
            f"fpsim.round({name}, {str(fmt)!r})"
        )


def _fits(projection: Projection, lanes: np.dtype[Any]) -> bool:
    """Whether a dtype, rounded to odd, has the bits that a projection looks at."""
    if lanes == F32 and not float32_suffices(projection):
        return False
    fmt, constants = projection.fmt, constants_of(projection, lanes)
    within = fmt.precision + projection.odd_bits <= _F64_PRECISION and fmt.emax < _F64_EMAX
    return within and not (constants.slow_below or constants.near)


@dataclass(frozen=True)
class _Range:
    """What bits the nonzero finite values of an array, or their products, take."""

    precision: int  # from the leading one to the last that is set
    lowest: int  # exponent of the last bit of all
    highest: int  # and of the leading one

    @classmethod
    def of(cls, x: NDArray[Any]) -> _Range:
        found = np.array([0, 1 << 20, -(1 << 20)], np.int64)
        kernel = kernels.compiled(steps.significance, _UINT[F64], np.dtype(np.int64))
        lock = threading.Lock()

        def work(start: int, stop: int) -> None:
            mine = np.array([0, 1 << 20, -(1 << 20)], np.int64)
            for (values,), _ in chunks([(x, F64)], start, stop):
                kernel(values.view(np.uint64), mine)
            with lock:
                found[0] = max(found[0], mine[0])
                found[1] = min(found[1], mine[1])
                found[2] = max(found[2], mine[2])

        over_chunks(x.size, work)
        return cls(*(int(n) for n in found))

    def times(self, other: _Range) -> _Range:
        return _Range(
            self.precision + other.precision,
            self.lowest + other.lowest,
            self.highest + other.highest + 1,
        )

    def fits(self, lanes: np.dtype[Any]) -> bool:
        """Whether a dtype holds them exactly, with room to add to them."""
        if self.precision == 0:
            return True
        if lanes == F32:
            return self.precision <= 24 and self.lowest >= -149 and self.highest < 127
        return (
            self.precision <= _F64_PRECISION and self.lowest >= -1074 and self.highest < _F64_EMAX
        )
