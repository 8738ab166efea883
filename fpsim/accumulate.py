"""Accumulator, dot, matmul: dot products summed in a stated order, rounded where it says.

Imports arguments, reprs, catalog, format, rounding, inputs, projection, arithmetic, stream,
threads, kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim import arithmetic, kernels, reprs
from fpsim.arguments import choice, integer, shown
from fpsim.cast import round
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.inputs import F32, F64, chunks, real_array
from fpsim.kernels import accumulate as steps
from fpsim.kernels import exact
from fpsim.kernels.operate import LIMBS
from fpsim.projection import Projection, constants_of, float32_suffices, parse_projection
from fpsim.rounding import Overflow, Rounding, Stochastic
from fpsim.stream import Stream
from fpsim.threads import over_chunks

_UINT: dict[np.dtype[Any], np.dtype[Any]] = {F32: np.dtype(np.uint32), F64: np.dtype(np.uint64)}
_ROWS = 16  # rows of outputs that share a panel of the second operand
_COLUMNS = 1024
_DEPTH = 256  # terms converted at a time
_CHECKED = 1 << 14  # operands looked at at a time
_F64_PRECISION = 53
_F64_EMAX = 1020
_MOST_ALIGNMENT_BITS = 40
_ALIGNED_BITS = 50  # of a product and what it is shifted by; blocks add 12 more
_MOST_ALIGNED = 4096  # terms in a block: their sum and its carries fit in 64 bits
_ALIGNMENT_RULES = {
    Rounding.toward_zero: exact.TOWARD_ZERO,
    Rounding.toward_negative: exact.TOWARD_NEGATIVE,
    Rounding.ties_to_even: exact.TIES_TO_EVEN,
}
_NO_EXPONENT = -(1 << 16)  # of zeros: below all others
# Operands of terms start to stop: (rows × terms, or terms × columns) and (terms × columns).
_Panel = Callable[[int, int], tuple[NDArray[Any], NDArray[Any]]]


class Order(StrEnum):
    """In which order the terms of a dot product are added."""

    sequential = "sequential"  # one after the other onto c
    pairwise = "pairwise"  # neighbours, then their sums, and so on; c last
    blocked = "blocked"  # blocks by themselves, and their sums one after the other onto c
    kahan = "kahan"  # one after the other, with a correction for what the last step lost
    exact = "exact"  # without error, rounded once (Kulisch)


_KERNEL_ORDERS = {
    Order.sequential: steps.SEQUENTIAL,
    Order.pairwise: steps.PAIRWISE,
    Order.kahan: steps.KAHAN,
}


@dataclass(frozen=True)
class Accumulator:
    """How a dot product is summed.

    Parameters
    ----------
    fmt : Format, str or dtype
        The format of the sum, and of c.
    rounding : Rounding, Stochastic or str
        How every step rounds.
    product : Format, str or dtype, optional
        The format to which products are rounded before they are added. None: they enter the
        sum exactly, as in a fused multiply-add (pairwise sums round them to `fmt`, for there they
        are the first partial sums).
    order : Order or str
        ``'sequential'``, ``'pairwise'``, ``'blocked'``, ``'kahan'`` or ``'exact'``.
    block : int, optional
        Terms in a block; for ``order='blocked'``, and where terms are aligned.
    block_fmt : Format, str or dtype, optional
        The format in which a block is summed; `fmt` by default.
    block_order : Order or str
        In which order a block is summed, from +0 on.
    overflow : Overflow or str
        What becomes of products and sums past the range.
    alignment_bits : int, optional
        For a multi-term unit as matrix units have it, which adds the products of a block and the
        sum so far at once: all are aligned to the largest of their exponents (those of products
        are the sums of their factors' exponents), cut to this many bits of fraction, added
        exactly, and rounded to `fmt` once. Blocks follow each other.
    alignment : {'toward_zero', 'toward_negative', 'ties_to_even'}
        How terms are cut.
    operands : Format, str or dtype, optional
        The format that a and b have to be in, where terms are aligned: its subnormals have the
        exponent of its smallest normal values. None: every operand counts as normal.

    Examples
    --------
    A sum of many small terms stalls in a narrow accumulator, and less so in blocks (Wang et al.:
    Training deep neural networks with 8-bit floating point numbers, NeurIPS 2018):

    >>> import fpsim
    >>> import numpy as np
    >>> a, b = np.ones(4096, np.float32), np.full(4096, 0.125, np.float32)
    >>> plain = fpsim.Accumulator("e6m9")
    >>> blocks = fpsim.Accumulator("e6m9", order="blocked", block=64)
    >>> float(fpsim.dot(a, b, plain)), float(fpsim.dot(a, b, blocks))
    (128.0, 512.0)
    """

    fmt: Format
    rounding: Rounding | Stochastic = Rounding.ties_to_even
    product: Format | None = None
    order: Order = Order.sequential
    block: int | None = None
    block_fmt: Format | None = None
    block_order: Order = Order.sequential
    overflow: Overflow = Overflow.nan
    alignment_bits: int | None = None
    alignment: Rounding = Rounding.toward_zero
    operands: Format | None = None

    def __post_init__(self) -> None:
        # A frozen dataclass is set up through object's own __setattr__.
        def settle(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        projection = parse_projection(self.fmt, self.rounding, self.overflow, "after")
        settle("fmt", projection.fmt)
        settle("rounding", projection.rounding)
        settle("overflow", projection.overflow)
        settle("order", choice("order", self.order, Order))
        settle("block_order", choice("block_order", self.block_order, Order))
        settle("alignment", choice("alignment", self.alignment, Rounding))
        for name in ("product", "block_fmt", "operands"):
            value = getattr(self, name)
            settle(name, None if value is None else parse(value))
        for name in ("fmt", "product", "block_fmt"):
            fmt = getattr(self, name)
            if fmt is not None and not (fmt.signed and fmt.zero):
                raise ValueError(
                    f"{name}={fmt} has no {'zero' if fmt.signed else 'sign'}, which sums need; "
                    "give a signed format with zero"
                )
        if self.alignment_bits is not None:
            self._check_alignment(settle)
        elif self.operands is not None or self.alignment is not Rounding.toward_zero:
            raise ValueError(
                "operands and alignment say how terms are aligned, but alignment_bits=None aligns "
                "nothing; give alignment_bits, or leave them out"
            )
        elif (self.order is Order.blocked) != (self.block is not None):
            raise ValueError(
                f"order={str(self.order)!r} and block={shown(self.block)} do not go together: "
                "order='blocked' needs block=, the terms in a block, and no other order takes it"
            )
        if self.block is not None:
            remedy = "give how many terms a block has, 1 or more"
            settle("block", integer("block", self.block, 1, 1 << 40, remedy))
            if self.block_order not in _KERNEL_ORDERS:
                raise ValueError(
                    f"block_order={str(self.block_order)!r} is not one of 'sequential', "
                    "'pairwise', 'kahan'"
                )
        if self.block_fmt is not None and self.order is not Order.blocked:
            raise ValueError(
                f"block_fmt={self.block_fmt} was given, but order={str(self.order)!r} has no "
                "blocks; leave it out, or give order='blocked' and block="
            )
        if self.order is Order.exact and self.product is not None:
            raise ValueError(
                f"product={self.product} was given, but order='exact' rounds nothing before the "
                "end; leave it out, or choose another order"
            )

    @classmethod
    def preset(cls, unit: str, operands: Any) -> Accumulator:
        """How a real matrix unit sums, by processor and format of the operands.

        `fpsim.units.units` lists them, with the source of the parameters and whether they were
        checked against outputs of the processor.

        Parameters
        ----------
        unit : str
            Such as ``'nvidia-h100'``.
        operands : Format, str or dtype

        Examples
        --------
        >>> import fpsim
        >>> h100 = fpsim.Accumulator.preset("nvidia-h100", "float8_e4m3fn")
        >>> h100.block, h100.alignment_bits, str(h100.fmt)
        (32, 13, 'e8m13')
        >>> float(fpsim.dot([16.0, 2.0**-8], [16.0, 2.0**-6], h100))  # 2**-14 falls off
        256.0
        """
        from fpsim.units import unit as found  # which imports this module

        return found(unit, operands).accumulator

    def _repr_html_(self) -> str:
        return reprs.accumulator(self)

    def _check_alignment(self, settle: Callable[[str, Any], None]) -> None:
        remedy = f"give how many bits of fraction aligned terms keep, 0 to {_MOST_ALIGNMENT_BITS}"
        bits = integer("alignment_bits", self.alignment_bits, 0, _MOST_ALIGNMENT_BITS, remedy)
        settle("alignment_bits", bits)
        if self.order is not Order.sequential or self.block is None or self.block > _MOST_ALIGNED:
            raise ValueError(
                f"alignment_bits={bits} with order={str(self.order)!r} and block="
                f"{shown(self.block)}: units that align terms take block=, 1 to {_MOST_ALIGNED} "
                "terms, and blocks one after the other (order='sequential')"
            )
        if self.product is not None:
            raise ValueError(
                f"product={self.product} was given, but aligned products are exact; leave it out"
            )
        if self.alignment not in _ALIGNMENT_RULES:
            allowed = ", ".join(repr(str(rule)) for rule in _ALIGNMENT_RULES)
            raise ValueError(f"alignment={str(self.alignment)!r} is not one of {allowed}")


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
        if aligned:
            self._check_operands((x, y), ranges)
        if not (aligned or accumulator.order is Order.exact):
            for lanes in (F32, F64) if narrow else (F64,):
                if products.fits(lanes) and all(_fits(p, lanes) for p in self.projections):
                    self.lanes, self.fast = lanes, True
                    break
        self.out = np.empty(shape, self.lanes)
        self.out[...] = round(start.astype(F64), sums, overflow=accumulator.overflow)
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

    def _check_operands(
        self, arrays: tuple[NDArray[Any], NDArray[Any]], ranges: tuple[_Range, _Range]
    ) -> None:
        """Operands are in their format, and aligned products fit in 64 bits."""
        fmt = self.accumulator.operands
        if fmt is None:
            self.fractions = tuple(max(r.precision, 1) - 1 for r in ranges)
        else:
            self.fractions = (fmt.mantissa_bits, fmt.mantissa_bits)
            for name, array in zip("ab", arrays, strict=True):
                _check_format(name, array, fmt)
        bits = sum(self.fractions) + 2 + (self.accumulator.alignment_bits or 0)
        if bits > _ALIGNED_BITS:
            raise ValueError(
                f"alignment_bits={self.accumulator.alignment_bits} and products of "
                f"{sum(self.fractions) + 2} bits take {bits} bits; at most {_ALIGNED_BITS} can be "
                "aligned: give narrower operands or fewer alignment_bits"
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
            sum(self.fractions),
            accumulator.fmt.emin,
            _ALIGNMENT_RULES[accumulator.alignment],
        )
        sums = np.ascontiguousarray(out, np.float64).view(np.uint64)
        length = block * max(_DEPTH // block, 1)
        for k, start in enumerate(range(0, depth, length)):
            x, y = panel(start, min(start + length, depth))
            rounded = k * (length // block)
            each = x.shape == y.shape and out.shape[0] == 1
            self.kernels[steps.add_aligned](
                *self._decomposed(x.T if each else x, self.fractions[0]),
                *self._decomposed(y.T, self.fractions[1]),
                sums,
                shape,
                self.constants[0].lane,
                self.constants[0].scalar,
                self._draw(first, stride, rounded),
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
            )
        sums: NDArray[Any] = state[0].view(self.lanes)
        if order is Order.pairwise:
            if len(terms):
                self._add(out, sums, first, stride, rounded, which)
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
        which: int = 0,
    ) -> None:
        """Add sums to sums, rounding once."""
        if not self.fast:
            words = self._words(out.shape, first, stride, rounded)
            out[...] = self._operate("add", which, words, out, part)
            return
        uint = _UINT[self.lanes]
        sums = np.ascontiguousarray(out).view(uint)
        self.kernels[steps.add_sums](
            sums,
            np.ascontiguousarray(part).view(uint),
            self.constants[which].lane,
            self.constants[which].variant if self.random else -1,
            self._draw(first, stride, rounded),
            self.minus_zero,
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
            out[...] = step("add", which, out, total)
        return rounded - before

    def _run_exactly(
        self, panel: _Panel, depth: int, out: NDArray[Any], first: int, stride: int
    ) -> None:
        """Sums without error, rounded once."""
        columns = out.shape[1]
        scalar = self.constants[0].scalar
        ones = np.ones((1, 1))
        for i in range(out.shape[0]):
            limbs = np.zeros((columns, 2, LIMBS), np.uint64)
            specials = np.zeros(columns)
            add = self.kernels[steps.accumulate_exactly]
            add(ones, np.array(out[i], np.float64).reshape(-1, 1), limbs, specials)
            for start in range(0, depth, _DEPTH):
                x, y = panel(start, min(start + _DEPTH, depth))
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
                self._draw(first + i * stride, stride, 0),
                self.minus_zero,
            )
            out[i] = sums.view(np.float64)


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
