"""Test vectors: operands, result and flags of an operation, as files that benches read.

Imports arguments, catalog, format, rounding, cast, arithmetic, accumulate, draws,
operands, rendering.

The vector format
-----------------
``<operation>_<rounding>_<overflow>.txt``, casts with their source in between
(``cast_binary32_ties_to_even_nan.txt``, ``mul_toward_zero_infinity.txt``,
``add_stochastic_a8_nan.txt``, ``dot4_ties_to_even_nan.txt``), is TestFloat's text: a test is a
line, its fields are hexadecimal numbers in upper case with one space in between and no prefix,
padded with zeros to ``ceil(bits / 4)`` digits:

- the operands, as codes: ``x`` (cast), ``x y`` (add, mul), ``x y z`` (fma: x·y + z),
  ``a0 … b0 … c`` (dot, c of the accumulator's format);
- where rounding is stochastic, the random integer R, of as many bits as the mode has (of 64 where
  every discarded bit counts; dot has one for each rounding: ``random0 …``);
- the result, as a code (of the accumulator's format in dot);
- the flags, 5 bits and so two digits, `fpsim.Flag`'s (SoftFloat's) numbers: 1 inexact, 2 underflow,
  4 overflow, 8 divide by zero, 16 invalid. dot has none.

``.mem`` is the same for ``$readmemh``: a comment, then a word a test, the line's digits with
underscores for spaces. Every field so takes whole digits: the last field of f digits is in bits
``4*f-1`` to 0, and so on upwards; `Field.low` says where. ``.csv`` has a heading and numbers with
the prefix ``0x``.

A NaN result is `Format.nan_code`. Tests whose result is a NaN that the format lacks are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import arithmetic
from fpsim.accumulate import dot
from fpsim.accumulator import Accumulator, Order
from fpsim.arguments import choice, integer, shown
from fpsim.cast import decode, encode
from fpsim.catalog import parse
from fpsim.format import Format, NaNs
from fpsim.hardware import operands
from fpsim.hardware.draws import Draw
from fpsim.hardware.rendering import identifier
from fpsim.rounding import (
    MAX_RANDOM_BITS,
    Overflow,
    Rounding,
    Stochastic,
    parse_overflow,
    parse_rounding,
    parse_tininess,
)

EXHAUSTIVE = 1 << 18  # inputs up to which all of them are tests, where no count is given
DEFAULT_COUNT = 1 << 16
MAX_COUNT = 1 << 40
MAX_TERMS = 1 << 10
CHUNK = 1 << 16  # tests made at a time
FLAG_BITS = 5

Columns = dict[str, NDArray[Any]]


class Operation(StrEnum):
    """What a test is of."""

    cast = "cast"  # from one format into another
    add = "add"
    mul = "mul"
    fma = "fma"  # x·y + z, rounded once
    dot = "dot"  # a·b + c, as an accumulator sums


_OPERANDS = {
    Operation.cast: ("x",),
    Operation.add: ("x", "y"),
    Operation.mul: ("x", "y"),
    Operation.fma: ("x", "y", "z"),
}
_FUNCTIONS: dict[Operation, Callable[..., Any]] = {
    Operation.add: arithmetic.add,
    Operation.mul: arithmetic.multiply,
    Operation.fma: arithmetic.fma,
}


@dataclass(frozen=True)
class Field:
    """A number of a test."""

    name: str
    bits: int
    low: int  # place of its lowest bit in a word of a .mem file
    fmt: Format | None  # whose code it is; None: the random integer, the flags

    @property
    def digits(self) -> int:
        """Hexadecimal digits that it takes."""
        return -(-self.bits // 4)


@dataclass(frozen=True)
class Vectors:
    """Tests of one operation, made as they are read: iteration gives chunks of columns.

    A chunk is a dict of the fields' names and arrays in the smallest unsigned dtypes that hold
    them. `vectors` makes it.
    """

    fmt: Format
    operation: Operation
    source: Format | None  # of a cast
    rounding: Rounding | Stochastic
    overflow: Overflow
    tininess: str
    accumulator: Accumulator | None  # of dot
    terms: int
    tests: int  # how many; fewer come out where some results are a NaN that the format lacks
    exhaustive: bool  # whether that is every input
    seed: int

    @property
    def name(self) -> str:
        """What its files are called."""
        name = str(self.operation)
        if self.source is not None:
            name += f"_{identifier(str(self.source))}"
        if self.accumulator is not None:
            name += str(self.terms)
        mode = str(self.rounding)
        if isinstance(self.rounding, Stochastic):
            bits, variant = self.rounding.bits, self.rounding.variant.lower()
            mode = "stochastic" if bits is None else f"stochastic_{variant}{bits}"
        return f"{name}_{mode}_{self.overflow}"

    @property
    def formats(self) -> list[Format]:
        """Those of the operands."""
        if self.accumulator is not None:
            return [self.fmt] * (2 * self.terms) + [self.accumulator.fmt]
        return [self.source or self.fmt] * len(_OPERANDS[self.operation])

    @property
    def result(self) -> Format:
        """That of the result."""
        return self.fmt if self.accumulator is None else self.accumulator.fmt

    @property
    def random_bits(self) -> int:
        """Bits of a random integer; 0 where rounding is not stochastic."""
        return (self.rounding.bits or 64) if isinstance(self.rounding, Stochastic) else 0

    @property
    def roundings(self) -> int:
        """How often a test rounds, and at random needs an integer."""
        if self.accumulator is None or self.accumulator.order is Order.exact:
            return 1
        return self.terms

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The numbers of a test, in their order."""
        names = list(_OPERANDS.get(self.operation, ()))
        if self.accumulator is not None:
            names = [f"{side}{k}" for side in "ab" for k in range(self.terms)] + ["c"]
        rows: list[tuple[str, int, Format | None]] = [
            (name, fmt.bits, fmt) for name, fmt in zip(names, self.formats, strict=True)
        ]
        if self.random_bits:
            for k in range(self.roundings):
                name = "random" if self.accumulator is None else f"random{k}"
                rows.append((name, self.random_bits, None))
        rows.append(("result", self.result.bits, self.result))
        if self.accumulator is None:
            rows.append(("flags", FLAG_BITS, None))
        fields: list[Field] = []
        low = 0
        for name, bits, fmt in reversed(rows):
            fields.append(Field(name, bits, low, fmt))
            low += 4 * fields[-1].digits
        return tuple(reversed(fields))

    @property
    def word_bits(self) -> int:
        """Bits of a word in a .mem file."""
        return self.fields[0].low + 4 * self.fields[0].digits

    # Making them ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Columns]:
        names = [field.name for field in self.fields]
        draw = Draw(self.seed, 1 << 62)  # far from where operands come from
        for inputs in self._inputs():
            inputs = self._with_result(inputs)
            n = inputs[0].size
            if not n:
                continue
            codes = inputs[: len(self.formats)]
            if self.accumulator is not None:
                yield dict(zip(names, self._dots(codes, draw), strict=True))
                continue
            random = inputs[len(codes) :]
            if self.random_bits and not random:
                random = [self._integers(codes, draw)]
            result, flags = self.results(codes, self.rounding, self.overflow, *random)
            yield dict(zip(names, [*codes, *random, result, flags], strict=True))

    def _inputs(self) -> Iterator[list[NDArray[Any]]]:
        """Operands, and where they are all there are the random integers too."""
        widths = [fmt.bits for fmt in self.formats]
        space = 1 << min(sum(widths), 64)
        dtypes = [fmt.code_dtype for fmt in self.formats]
        if self.exhaustive and self.random_bits:
            widths.append(self.random_bits)
            dtypes.append(np.min_scalar_type((1 << self.random_bits) - 1))
            space <<= self.random_bits
        chunks: Iterator[list[NDArray[np.uint64]]]
        if space <= self.tests:
            chunks = (
                operands.every(widths, start, min(start + CHUNK, space))
                for _ in range(self.tests // space)
                for start in range(0, space, CHUNK)
            )
        else:
            draw = Draw(self.seed, random_bits=self.random_bits)
            chunks = operands.chosen(
                self.operation, self.formats, self.result, self.tests, draw, CHUNK
            )
        for chunk in chunks:
            yield [codes.astype(t) for codes, t in zip(chunk, dtypes, strict=True)]

    def _with_result(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Without the tests whose result would be a NaN that the format lacks."""
        if self.result.nan_code is not None:
            return inputs
        codes = inputs[: len(self.formats)]
        values = [decode(c, fmt, np.float64) for c, fmt in zip(codes, self.formats, strict=True)]
        there = np.ones(codes[0].size, bool)
        for value in values:
            there &= np.isfinite(value) if self.accumulator is not None else ~np.isnan(value)
        infinite = [np.isinf(value) for value in values]
        sign = np.sign(values[0])
        if self.operation in (Operation.mul, Operation.fma):
            for one, other in ((0, 1), (1, 0)):
                there &= ~(infinite[one] & (values[other] == 0))
            infinite[0] |= infinite[1]
            sign = sign * np.sign(values[1])
        if self.operation in (Operation.add, Operation.fma):
            there &= ~(infinite[0] & infinite[-1] & (sign == -np.sign(values[-1])))
        return [column[there] for column in inputs]

    def results(
        self,
        codes: list[NDArray[Any]],
        rounding: Rounding | Stochastic,
        overflow: Overflow | str,
        random: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """(codes of the results, flags) of an operation other than dot, in any mode."""
        flags = np.empty(codes[0].size, np.uint8)
        # A cast may have to compute in float64: in float32 a signalling NaN is quiet by then.
        dtype = np.float64 if self.operation is Operation.cast else None
        values = [_signalling(c, fmt, dtype) for c, fmt in zip(codes, self.formats, strict=True)]
        options: dict[str, Any] = {
            "rounding": rounding,
            "overflow": overflow,
            "random_bits": random,
            "flags": flags,
            "tininess": self.tininess,
        }
        if self.operation is Operation.cast:
            return encode(values[0], self.fmt, **options), flags
        exact = _FUNCTIONS[self.operation](*values, self.fmt, **options)
        return encode(exact, self.fmt), flags

    def _integers(self, codes: list[NDArray[Any]], draw: Draw) -> NDArray[Any]:
        """Random integers: on either side of where the decision falls, the ends, and drawn."""
        n, bits = codes[0].size, self.random_bits
        most = np.uint64((1 << bits) - 1)
        random = draw.words(n) >> np.uint64(64 - bits)
        kind = draw.between(0, 7 if bits <= MAX_RANDOM_BITS else 15, n)
        random[kind == 0] = 0
        random[kind == 1] = most
        sides = np.flatnonzero((kind == 2) | (kind == 3))
        some = [column[sides] for column in codes]
        down, _ = self.results(some, Rounding.toward_zero, self.overflow)
        stays = np.zeros(sides.size, np.uint64)  # the largest R that still rounds toward zero
        for k in reversed(range(bits)):
            further = stays | np.uint64(1 << k)
            result, _ = self.results(some, self.rounding, self.overflow, further)
            stays = np.where(result == down, further, stays)
        goes = np.where(stays < most, stays + np.uint64(1), most)
        random[sides] = np.where(kind[sides] == 2, stays, goes)
        integers: NDArray[Any] = random.astype(np.min_scalar_type(int(most)))
        return integers

    def _dots(self, codes: list[NDArray[Any]], draw: Draw) -> list[NDArray[Any]]:
        """All columns of sums that the accumulator takes."""
        assert self.accumulator is not None
        n, terms = codes[0].size, self.terms
        values = [decode(c, fmt) for c, fmt in zip(codes, self.formats, strict=True)]
        a, b = (np.stack(values[side : side + terms], axis=1) for side in (0, terms))
        stream = draw.reserve(n * self.roundings if self.random_bits else 0)
        random: list[NDArray[Any]] = []
        if self.random_bits:
            # As `dot` takes them: for each rounding of all sums as many words as there are sums.
            words = stream.words(n * self.roundings) >> np.uint64(64 - self.random_bits)
            dtype = np.min_scalar_type((1 << self.random_bits) - 1)
            random = list(words.reshape(self.roundings, n).astype(dtype))
        rng = stream if self.random_bits else None
        sums = dot(a, b, self.accumulator, values[-1], rng=rng)
        return [*codes, *random, encode(sums, self.result)]


def _signalling(codes: NDArray[Any], fmt: Format, dtype: Any) -> NDArray[Any]:
    """Values of codes; NaN whose leading mantissa bit is clear, where IEEE 754 has it, signal."""
    values: NDArray[Any] = decode(codes, fmt, dtype)
    if fmt.nans is NaNs.ieee and fmt.mantissa_bits > 1:
        quiet = codes & codes.dtype.type(1 << (fmt.mantissa_bits - 1))
        signals = np.isnan(values) & (quiet == 0)
        if values.dtype == np.float32:
            values.view(np.uint32)[signals] = 0x7F800001
        else:
            values.view(np.uint64)[signals] = 0x7FF0000000000001
    return values


def vectors(
    fmt: Any,
    op: Operation | str,
    *,
    source: Any = None,
    rounding: Rounding | Stochastic | str | None = None,
    overflow: Overflow | str | None = None,
    tininess: str = "after",
    accumulator: Accumulator | None = None,
    terms: int | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Vectors:
    """Tests of an operation: every input where these are few, else the ones that find faults.

    Parameters
    ----------
    fmt : Format, str or dtype
        The format of operands and result (of dot: of the factors).
    op : {'cast', 'add', 'mul', 'fma', 'dot'}
    source : Format, str or dtype, optional
        What a cast is from; binary32 by default.
    rounding : Rounding, Stochastic or str, optional
        Ties to even by default; dot has its accumulator's.
    overflow : Overflow or str, optional
        ``'nan'`` by default; dot has its accumulator's.
    tininess : {'after', 'before'}
        When a result is seen to be tiny; see `fpsim.round`.
    accumulator : Accumulator, optional
        How dot sums; it must be given there.
    terms : int, optional
        Products in a dot: by default the accumulator's block, or 4.
    count : int, optional
        The most tests. Where all inputs are no more, they are the tests; where all operands are
        no more but random integers come to them, every operand comes with some of these. None:
        all inputs up to 2**18, else 2**16 tests.
    seed : int
        Of the draws, 0 to 2**64 - 1.

    Returns
    -------
    Vectors
        Iterating gives chunks of columns; `vector_files.write` and `Coverage` take it too.

    Examples
    --------
    >>> from fpsim.hardware.vectors import vectors
    >>> products = vectors("float4_e2m1fn", "mul", overflow="saturate")
    >>> products.name, products.tests, products.exhaustive
    ('mul_ties_to_even_saturate', 256, True)
    >>> for chunk in products:  # 0.5 × 6
    ...     print([int(column[1 * 16 + 7]) for column in chunk.values()])
    [1, 7, 5, 0]
    """
    fmt = parse(fmt)
    fmt.require_binary64()
    operation = choice("op", op, Operation)
    parse_tininess(tininess)
    seed = integer("seed", seed, 0, (1 << 64) - 1)
    if count is not None:
        remedy = f"give the number of tests, 1 to 2**{MAX_COUNT.bit_length() - 1}"
        count = integer("count", count, 1, MAX_COUNT, remedy)
    if operation is Operation.dot:
        accumulator, terms = _checked_dot(fmt, accumulator, terms, rounding, overflow)
        mode, rule = accumulator.rounding, accumulator.overflow
    else:
        for name, value in (("accumulator", accumulator), ("terms", terms)):
            if value is not None:
                raise ValueError(
                    f"{name}={shown(value)} was given, but op={str(operation)!r} sums nothing; "
                    "leave it out, or give op='dot'"
                )
        mode = parse_rounding("ties_to_even" if rounding is None else rounding)
        rule = parse_overflow("nan" if overflow is None else overflow)
    if operation is Operation.cast:
        source = parse("binary32" if source is None else source)
        source.require_binary64()
    elif source is not None:
        raise ValueError(
            f"source={shown(source)} was given, but op={str(operation)!r} has operands of fmt; "
            "leave it out, or give op='cast'"
        )
    plan = Vectors(
        fmt, operation, source, mode, rule, tininess, accumulator, terms or 0, 0, False, seed
    )
    space = 1 << sum(f.bits for f in plan.formats)
    limit = EXHAUSTIVE if count is None else count
    at_random = accumulator is not None and plan.random_bits  # dot takes its integers as they come
    if space << plan.random_bits <= limit and not at_random:
        return replace(plan, tests=space << plan.random_bits, exhaustive=True)
    most = DEFAULT_COUNT if count is None else count
    if space <= limit:
        return replace(plan, tests=max(most // space, 1) * space)
    return replace(plan, tests=most)


def _checked_dot(
    fmt: Format, accumulator: Any, terms: Any, rounding: Any, overflow: Any
) -> tuple[Accumulator, int]:
    if not isinstance(accumulator, Accumulator):
        raise TypeError(
            f"accumulator={shown(accumulator)} is no fpsim.Accumulator; op='dot' needs one, which "
            "says how the products are summed"
        )
    for name, value in (("rounding", rounding), ("overflow", overflow)):
        if value is not None:
            raise ValueError(
                f"{name}={shown(value)} was given, but op='dot' rounds as its accumulator does; "
                f"leave it out, or give fpsim.Accumulator({name}=…)"
            )
    if not fmt.signed or not fmt.zero:
        raise ValueError(
            f"fmt={fmt} has no {'sign' if fmt.zero else 'zero'}, which op='dot' needs; give a "
            "signed format with zero"
        )
    total = accumulator.fmt
    if total.infinities and total.nan_code is None:
        raise ValueError(
            f"accumulator has the format {total}, with infinity and no NaN, so that some sums have "
            "no result; give one with NaN, or one with neither"
        )
    if accumulator.operands is not None and not accumulator.operands.contains(fmt):
        raise ValueError(
            f"fmt={fmt} has values that the accumulator's operands={accumulator.operands} lacks; "
            "give that format"
        )
    plain = accumulator.order is Order.sequential and accumulator.product is None
    simple = accumulator.order is Order.exact or (plain and accumulator.alignment_bits is None)
    if isinstance(accumulator.rounding, Stochastic) and not simple:
        raise ValueError(
            "op='dot' at random takes an accumulator that rounds once a product (order="
            "'sequential', no product=, no alignment_bits) or once in all (order='exact'); give "
            "one of these"
        )
    remedy = f"give the number of products, 1 to {MAX_TERMS}"
    given = min(accumulator.block or 4, MAX_TERMS) if terms is None else terms
    return accumulator, integer("terms", given, 1, MAX_TERMS, remedy)
