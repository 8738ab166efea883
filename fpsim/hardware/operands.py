"""Operands of test vectors: where units go wrong, and draws. Imports format, draws.

Operands are codes in uint64, a column an operand. `every` lists all of them; `chosen` mixes
special values, boundary exponents × boundary significands, every subnormal, results at and
beside the middle between two values, sums that cancel, and draws. Nothing here says what a result
is: the float64 arithmetic here only places operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np

from fpsim.format import Format
from fpsim.hardware.draws import (
    Codes,
    Draw,
    Integers,
    Values,
    boundary_codes,
    exponents_of,
    gaps,
    near,
    scaled,
    special_codes,
    targets,
    values_of,
)

_STRIDE_LIMIT = 1 << 31  # the most of which a sample is taken without repetition


@dataclass(frozen=True)
class _Kind:
    """Tests made alike: ``make(first, n)`` gives the operands of n of them."""

    make: Callable[[int, int], list[Codes]]
    share: float  # of all tests; the last kind takes what is left
    size: int | None = None  # how many there are; None: they are drawn


def every(widths: list[int], start: int, stop: int) -> list[Codes]:
    """Integers of these widths in bits, from all combinations' number start to stop.

    The last column changes fastest.
    """
    numbers = np.arange(start, stop, dtype=np.uint64)
    columns: list[Codes] = []
    for bits in reversed(widths):
        columns.append(numbers & np.uint64((1 << bits) - 1))
        numbers = numbers >> np.uint64(bits)
    return columns[::-1]


def chosen(
    operation: str, formats: list[Format], result: Format, count: int, seed: int, chunk: int
) -> Iterator[list[Codes]]:
    """Operands, in these formats, for `count` tests of an operation, in chunks."""
    draw = Draw(seed)
    if operation == "cast":
        kinds = _casts(formats[0], result, count, draw)
    elif operation == "dot":
        kinds = _dots(formats, draw)
    else:
        kinds = _operations(operation, formats[0], len(formats), count, draw)
    left = count
    for kind in kinds:
        rows = left if kind is kinds[-1] else int(count * kind.share)
        rows = rows if kind.size is None else min(rows, kind.size)
        for first in range(0, rows, chunk):
            yield kind.make(first, min(chunk, rows - first))
        left -= rows


# Kinds of all operations ------------------------------------------------------------------------


def _sample(size: int, rows: int, first: int, n: int, draw: Draw) -> Integers:
    """Which of `size` things the tests from `first` on take, of `rows` in all."""
    indices = np.arange(first, first + n, dtype=np.int64)
    if size <= rows:
        return indices
    if size > _STRIDE_LIMIT:
        return draw.between(0, size - 1, n)
    stride = int(size * 0.618) | 1
    while gcd(stride, size) != 1:
        stride += 2
    return indices * stride % size


def _product(pools: list[Codes], count: int, share: float, draw: Draw) -> _Kind:
    """Everything in the pools with everything."""
    size = prod(len(pool) for pool in pools)

    def make(first: int, n: int) -> list[Codes]:
        rest = _sample(size, int(count * share), first, n, draw)
        columns: list[Codes] = []
        for pool in reversed(pools):
            rest, index = np.divmod(rest, len(pool))
            columns.append(pool[index])
        return columns[::-1]

    return _Kind(make, share, size)


def _drawn(make: Callable[..., list[Codes]], share: float, *arguments: Any) -> _Kind:
    return _Kind(lambda first, n: make(*arguments, n), share)


# Casts ------------------------------------------------------------------------------------------


def _casts(source: Format, result: Format, count: int, draw: Draw) -> list[_Kind]:
    exponents = {result.quantum_exponent + k for k in (-2, -1, 0, 1)}
    exponents |= {result.emin + k for k in (-2, -1, 0)}
    exponents |= {result.emax + k for k in (-1, 0, 1, 2)}
    return [
        _product([special_codes(source)], count, 1 / 8, draw),
        _product([boundary_codes(source, exponents)], count, 1 / 8, draw),
        _decisions(source, result, count, 3 / 8, draw),
        _drawn(_beside_decisions, 1 / 8, source, result, draw),
        _drawn(_drawn_cast, 0, source, result, draw),
    ]


def _decisions(source: Format, result: Format, count: int, share: float, draw: Draw) -> _Kind:
    """Every value of the result's format, and the middle to the next, with their neighbours."""
    signs = 2 if source.signed else 1
    size = 6 * signs * (result.max_code + 1)

    def make(first: int, n: int) -> list[Codes]:
        rest = _sample(size, int(count * share), first, n, draw)
        rest, sign = np.divmod(rest, signs)
        rest, offset = np.divmod(rest, 3)
        places, middle = np.divmod(rest, 2)
        low, high = gaps(places, result)
        with np.errstate(over="ignore", invalid="ignore"):
            points = np.where(middle == 1, low + (high - low) / 2, low)
        return [near(np.where(sign == 1, -points, points), source, offset - 1)]

    return _Kind(make, share, size)


def _beside_decisions(source: Format, result: Format, draw: Draw, n: int) -> list[Codes]:
    """Values and middles with one bit more, which must not get lost."""
    return [near(targets(result, n, draw), source, _offsets(source, draw, n))]


def _drawn_cast(source: Format, result: Format, draw: Draw, n: int) -> list[Codes]:
    """Any codes, and exponents that the result's format has or almost has."""
    low, high = result.quantum_exponent - 2, result.emax + 2
    within = near(draw.values(draw.between(low, high, n)), source)
    return [np.where(draw.one_in(2, n), within, draw.codes(source, n))]


# Sums, products, fma ----------------------------------------------------------------------------


def _operations(operation: str, fmt: Format, places: int, count: int, draw: Draw) -> list[_Kind]:
    reach = {-fmt.precision - 1, -fmt.precision, fmt.precision - 1, fmt.precision}
    boundary = boundary_codes(fmt, reach | {fmt.emin // 2, fmt.emax // 2})
    kinds = [
        _product([special_codes(fmt)] * places, count, 1 / 8, draw),
        _product([boundary] * places, count, 1 / 8, draw),
        _subnormals(fmt, places, boundary, count, 1 / 8, draw),
    ]
    makers = {
        "add": ((_near_sum, 1 / 4), (_cancelling_sum, 1 / 8), (_drawn_sum, 0)),
        "mul": ((_near_product, 1 / 8), (_tied_product, 1 / 4), (_drawn_product, 0)),
        "fma": ((_near_fma, 1 / 8), (_tied_fma, 1 / 8), (_cancelling_fma, 1 / 8), (_drawn_fma, 0)),
    }
    return kinds + [_drawn(make, share, fmt, draw) for make, share in makers[operation]]


def _subnormals(
    fmt: Format, places: int, boundary: Codes, count: int, share: float, draw: Draw
) -> _Kind:
    """Every subnormal in every place, beside boundaries and draws."""
    each = (1 << fmt.mantissa_bits) - 1 if fmt.zero else 0
    signs = 2 if fmt.signed else 1
    size = each * signs * places

    def make(first: int, n: int) -> list[Codes]:
        rest, place = np.divmod(_sample(size, int(count * share), first, n, draw), places)
        magnitude, sign = np.divmod(rest, signs)
        subnormal = (magnitude + 1 + (sign << fmt.magnitude_bits)).astype(np.uint64)
        columns: list[Codes] = []
        for k in range(places):
            other = np.where(draw.one_in(2, n), draw.of(boundary, n), draw.codes(fmt, n))
            columns.append(np.where(place == k, subnormal, other))
        return columns

    return _Kind(make, share, size)


def _offsets(fmt: Format, draw: Draw, n: int) -> Integers:
    """Half of them 0, the others one bit of a significand, up or down."""
    bit = np.left_shift(1, draw.between(0, fmt.mantissa_bits, n))
    bit = np.where(draw.one_in(2, n), 1, bit)
    return np.where(draw.one_in(2, n), 0, np.where(draw.one_in(2, n), bit, -bit))


def _near_sum(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    aims = targets(fmt, n, draw)
    apart = np.where(draw.one_in(2, n), 0, draw.between(-fmt.precision - 2, 2, n))
    x = near(draw.values(exponents_of(aims, fmt) + apart), fmt)
    y = near(aims - values_of(x, fmt), fmt, _offsets(fmt, draw, n))
    return draw.swapped(x, y)


def _cancelling_sum(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    x = draw.codes(fmt, n)
    return draw.swapped(x, near(-values_of(x, fmt), fmt, draw.between(-3, 3, n)))


def _drawn_sum(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    """Any codes, and exponents within reach of each other."""
    x = draw.codes(fmt, n)
    apart = draw.between(-fmt.precision - 2, fmt.precision + 2, n)
    y = near(draw.values(exponents_of(values_of(x, fmt), fmt) + apart), fmt)
    return [x, np.where(draw.one_in(2, n), y, draw.codes(fmt, n))]


def _split(exponents: Integers, fmt: Format, draw: Draw) -> tuple[Integers, Integers]:
    """Exponents of two factors, within the format's, whose sum these are where that can be."""
    low, high = fmt.quantum_exponent, fmt.emax
    exponents = np.clip(exponents, 2 * low, 2 * high)
    first = draw.between(
        np.maximum(low, exponents - high), np.minimum(high, exponents - low), exponents.size
    )
    return first, exponents - first


def _factors(fmt: Format, draw: Draw, n: int) -> tuple[Codes, Codes]:
    """Factors of a product that the format's range holds, or nearly does."""
    exponents = draw.between(fmt.quantum_exponent - 2, fmt.emax + 1, n)
    x, y = _split(exponents, fmt, draw)
    return near(draw.values(x), fmt), near(draw.values(y), fmt)


def _multiplied(x: Codes, y: Codes, fmt: Format) -> Values:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.nan_to_num(values_of(x, fmt) * values_of(y, fmt))


def _near_product(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    aims = targets(fmt, n, draw)
    exponents, _ = _split(exponents_of(aims, fmt), fmt, draw)
    x = near(draw.values(exponents), fmt)
    with np.errstate(all="ignore"):
        y = near(aims / values_of(x, fmt), fmt, _offsets(fmt, draw, n))
    return draw.swapped(x, y)


def _odd(bits: Integers, draw: Draw) -> Values:
    """Odd integers of so many bits, at least one."""
    words = draw.words(bits.size) >> (np.uint64(64) - bits.astype(np.uint64))
    leading = np.uint64(1) << (bits - 1).astype(np.uint64)
    odd: Values = (words | leading | np.uint64(1)).astype(np.float64)
    return odd


def _tied_factors(fmt: Format, draw: Draw, n: int) -> tuple[Codes, Codes, Integers]:
    """Factors whose product is half way between two values, about half the time; its exponent.

    A middle has one bit more than the values beside it, and that is set: with q bits kept (all of
    the precision, or fewer below the normal range) an odd integer of q + 1 bits, made of two odd
    ones of k and of q + 1 − k or q + 2 − k bits.
    """
    p = fmt.precision
    kept = np.where(draw.one_in(2, n) | (not fmt.subnormals), p, draw.between(0, p, n))
    first = draw.between(1, np.maximum(kept, 1), n)
    second = np.clip(kept + 1 - first + draw.between(0, 1, n), 1, p)
    a, b = _odd(first, draw), _odd(second, draw)
    normal = draw.between(min(fmt.emin, fmt.emax), fmt.emax, n)
    exponents = np.where(kept == p, normal, fmt.quantum_exponent - 1 + kept)
    carries = a * b >= scaled(np.ones(n), first + second - 1)
    e_first, e_second = _split(exponents - carries, fmt, draw)
    x = scaled(a * draw.signs(n), e_first - first + 1)
    y = scaled(b * draw.signs(n), e_second - second + 1)
    return near(x, fmt), near(y, fmt), exponents


def _tied_product(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    """Ties, and what is a place of an operand beside them."""
    x, y, _ = _tied_factors(fmt, draw, n)
    return draw.swapped(x, near(values_of(y, fmt), fmt, _offsets(fmt, draw, n)))


def _drawn_product(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    x, y = _factors(fmt, draw, n)
    some = draw.one_in(2, n)
    return [np.where(some, x, draw.codes(fmt, n)), np.where(some, y, draw.codes(fmt, n))]


def _near_fma(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    aims = targets(fmt, n, draw)
    apart = draw.between(-fmt.precision - 2, 2, n)
    x, y = (
        near(draw.values(exponents), fmt)
        for exponents in _split(exponents_of(aims, fmt) + apart, fmt, draw)
    )
    with np.errstate(over="ignore"):
        z = aims - _multiplied(x, y, fmt)
    return [x, y, near(z, fmt, _offsets(fmt, draw, n))]


def _tied_fma(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    """A product half way with a little or nothing added, and half a place of z added to it."""
    x, y, exponents = _tied_factors(fmt, draw, n)
    below = draw.between(fmt.precision, 3 * fmt.precision, n)
    little = near(draw.values(exponents - below), fmt)
    nothing = near(draw.signs(n) * 0.0, fmt)
    z = np.where(draw.one_in(2, n), little, nothing)
    wide = draw.codes(fmt, n)
    half = np.frexp(np.nan_to_num(fmt.ulp(values_of(wide, fmt)), nan=1.0))[1].astype(np.int64) - 2
    e_first, e_second = _split(half, fmt, draw)
    other = draw.one_in(2, n)
    powers = [
        near(scaled(draw.signs(n), exponent), fmt, _offsets(fmt, draw, n))
        for exponent in (e_first, e_second)
    ]
    return [
        np.where(other, powers[0], x),
        np.where(other, powers[1], y),
        np.where(other, wide, z),
    ]


def _cancelling_fma(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    x, y = _factors(fmt, draw, n)
    return [x, y, near(-_multiplied(x, y, fmt), fmt, draw.between(-2, 2, n))]


def _drawn_fma(fmt: Format, draw: Draw, n: int) -> list[Codes]:
    """Any codes, and products and sums whose exponents are within reach of each other."""
    x, y = _factors(fmt, draw, n)
    apart = draw.between(-2 * fmt.precision - 2, fmt.precision + 2, n)
    z = near(draw.values(exponents_of(_multiplied(x, y, fmt), fmt) + apart), fmt)
    some = draw.one_in(2, n)
    return [np.where(some, code, draw.codes(fmt, n)) for code in (x, y, z)]


# Dot products -----------------------------------------------------------------------------------


def _dots(formats: list[Format], draw: Draw) -> list[_Kind]:
    fmt, total, terms = formats[0], formats[-1], len(formats) // 2
    arguments = fmt, total, terms, draw
    return [
        _drawn(_special_terms, 1 / 8, *arguments),
        _drawn(_boundary_terms, 1 / 8, *arguments),
        _drawn(_aligned_terms, 1 / 4, *arguments),
        _drawn(_cancelling_terms, 1 / 4, *arguments),
        _drawn(_any_terms, 0, *arguments),
    ]


def _special_terms(fmt: Format, total: Format, terms: int, draw: Draw, n: int) -> list[Codes]:
    """Aligned terms, a few of whose operands are special values."""
    columns = _aligned_terms(fmt, total, terms, draw, n)
    pools = [special_codes(fmt)] * (2 * terms) + [special_codes(total)]
    return [
        np.where(draw.one_in(2 * terms, n), draw.of(pool, n), column)
        for pool, column in zip(pools, columns, strict=True)
    ]


def _boundary_terms(fmt: Format, total: Format, terms: int, draw: Draw, n: int) -> list[Codes]:
    pool = boundary_codes(fmt, set())
    finite = pool[np.isfinite(values_of(pool, fmt))]
    columns = [draw.of(finite, n) for _ in range(2 * terms)]
    return [*columns, draw.of(boundary_codes(total, {fmt.emax, fmt.emin}), n)]


def _aligned_terms(fmt: Format, total: Format, terms: int, draw: Draw, n: int) -> list[Codes]:
    """Products whose exponents lie within reach of one of them in the accumulator."""
    top = draw.between(2 * fmt.emin, 2 * fmt.emax, n)
    reach = draw.between(0, total.precision + 2, n)
    columns: list[Codes] = []
    for _ in range(terms):
        exponents = top - draw.between(0, reach, n)
        columns += [near(draw.values(e), fmt) for e in _split(exponents, fmt, draw)]
    return [
        *columns[::2],
        *columns[1::2],
        near(draw.values(top - draw.between(-2, reach, n)), total),
    ]


def _cancelling_terms(fmt: Format, total: Format, terms: int, draw: Draw, n: int) -> list[Codes]:
    """Aligned terms that c cancels, or the last term the first."""
    columns = _aligned_terms(fmt, total, terms, draw, n)
    a, b = columns[:terms], columns[terms : 2 * terms]
    if terms > 1 and fmt.signed:
        again = draw.one_in(2, n)
        a[-1] = np.where(again, near(-values_of(a[0], fmt), fmt), a[-1])
        b[-1] = np.where(again, near(values_of(b[0], fmt), fmt, _offsets(fmt, draw, n)), b[-1])
    products = sum(_multiplied(x, y, fmt) for x, y in zip(a, b, strict=True))
    c = near(-np.asarray(products, np.float64), total, draw.between(-2, 2, n))
    return [*a, *b, np.where(draw.one_in(2, n), c, columns[-1])]


def _any_terms(fmt: Format, total: Format, terms: int, draw: Draw, n: int) -> list[Codes]:
    """Any codes of finite numbers, for among many terms one that is not decides."""
    columns = []
    for k in range(2 * terms + 1):
        where = fmt if k < 2 * terms else total
        codes = draw.codes(where, n)
        columns.append(np.where(np.isfinite(values_of(codes, where)), codes, np.uint64(0)))
    return columns
