"""Codes that matter, and random ones. Imports format, cast, stream.

Codes are uint64 whatever the format; the float64 arithmetic here only places operands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.cast import decode, encode
from fpsim.format import Format, NaNs
from fpsim.stream import Stream

Codes = NDArray[np.uint64]
Values = NDArray[np.float64]
Integers = NDArray[np.int64]

_ALL_BITS = 6  # formats of up to this many bits are boundaries all over


# Codes that matter ----------------------------------------------------------------------------


def special_codes(fmt: Format) -> Codes:
    """Zeros, infinities, NaN of every sort, one, and the ends of subnormals and normals."""
    leading = 1 << fmt.mantissa_bits
    magnitudes = {0, 1, leading - 1, leading, leading + 1, fmt.max_code - 1, fmt.max_code}
    magnitudes.add(int(encode(1.0, fmt, overflow="saturate")))
    for code in (fmt.infinity_code, fmt.nan_code):
        if code is not None:
            magnitudes.add(code)
    if fmt.nans is NaNs.ieee:
        top = (1 << fmt.magnitude_bits) - 1
        magnitudes |= {min(fmt.max_code + 2, top), top}  # the lowest NaN, and the highest
    return _of_both_signs(magnitudes, fmt)


def boundary_codes(fmt: Format, exponents: set[int]) -> Codes:
    """Exponents at the ends, about one and about `exponents`, times significands at the ends."""
    if fmt.bits <= _ALL_BITS:
        return np.arange(1 << fmt.bits, dtype=np.uint64)
    top, ones = (1 << fmt.exponent_bits) - 1, (1 << fmt.mantissa_bits) - 1
    half = (ones + 1) >> 1
    fields = {0, 1, 2, top - 2, top - 1, top}
    fields |= {exponent + fmt.bias for exponent in exponents | {-1, 0, 1}}
    mantissas = {0, 1, 2, half - 1, half, half + 1, ones - 1, ones}
    codes = {
        field << fmt.mantissa_bits | mantissa
        for field in fields
        for mantissa in mantissas
        if 0 <= field <= top and 0 <= mantissa <= ones
    }
    codes |= {1 << k for k in range(fmt.mantissa_bits)}  # a subnormal of every exponent
    return _of_both_signs(codes, fmt)


def _of_both_signs(magnitudes: set[int], fmt: Format) -> Codes:
    codes = {code for code in magnitudes if 0 <= code >> fmt.bits == 0}
    if fmt.signed:
        codes |= {code ^ 1 << fmt.magnitude_bits for code in codes}
    return np.array(sorted(codes), np.uint64)


# Draws ----------------------------------------------------------------------------------------


class Draw:
    """Random numbers of a seed, one after the other."""

    def __init__(self, seed: int, offset: int = 0) -> None:
        self._seed, self._offset = seed, offset

    def words(self, n: int) -> Codes:
        """The next n words of the seed's stream."""
        return self.reserve(n).words(n)

    def reserve(self, n: int) -> Stream:
        """The stream where its next n words are, which nobody else gets."""
        stream = Stream(self._seed, self._offset)
        self._offset += n
        return stream

    def between(self, low: Any, high: Any, n: int) -> Integers:
        """Integers from low to high, both included, which may be arrays."""
        span = np.maximum(np.asarray(high, np.int64) - low, 0).astype(np.uint64) + np.uint64(1)
        numbers: Integers = low + (self.words(n) % span).astype(np.int64)
        return numbers

    def of(self, pool: NDArray[Any], n: int) -> NDArray[Any]:
        """Elements of a pool."""
        return pool[self.between(0, len(pool) - 1, n)]

    def one_in(self, k: int, n: int) -> NDArray[np.bool_]:
        """True once in k."""
        once: NDArray[np.bool_] = self.between(1, k, n) == 1
        return once

    def signs(self, n: int) -> Values:
        """1 or −1."""
        signs: Values = 1.0 - 2.0 * self.between(0, 1, n).astype(np.float64)
        return signs

    def codes(self, fmt: Format, n: int) -> Codes:
        """Any codes."""
        return self.words(n) >> np.uint64(64 - fmt.bits)

    def values(self, exponents: Integers) -> Values:
        """Numbers of these exponents and any sign and significand."""
        significands = 1.0 + self.words(exponents.size).astype(np.float64) * 2.0**-64
        return scaled(significands * self.signs(exponents.size), exponents)

    def swapped(self, x: Codes, y: Codes) -> list[Codes]:
        """The two in either order."""
        swap = self.one_in(2, x.size)
        return [np.where(swap, y, x), np.where(swap, x, y)]


# Values and codes -----------------------------------------------------------------------------


def scaled(values: Values, exponents: Integers) -> Values:
    with np.errstate(over="ignore", under="ignore"):
        scaled: Values = np.ldexp(values, np.clip(exponents, -(1 << 20), 1 << 20))
    return scaled


def values_of(codes: Codes, fmt: Format) -> Values:
    values: Values = decode(codes, fmt, np.float64)
    return values


def exponents_of(values: Values, fmt: Format) -> Integers:
    """Exponents of values; of zero that of the smallest one, of infinity and NaN that of max."""
    magnitudes = np.nan_to_num(np.abs(values), nan=float(fmt.max), posinf=float(fmt.max))
    exponents: Integers = np.frexp(np.maximum(magnitudes, float(fmt.smallest)))[1].astype(np.int64)
    return exponents - 1


def near(values: Values, fmt: Format, offsets: Any = 0) -> Codes:
    """Codes of finite values at, or some places beside, the nearest of these."""
    top = float(fmt.max)
    values = values if fmt.signed else np.abs(values)
    codes = encode(np.clip(np.nan_to_num(values), -top, top), fmt, overflow="saturate")
    codes = codes.astype(np.uint64)
    sign = codes >> np.uint64(fmt.magnitude_bits) << np.uint64(fmt.magnitude_bits)
    places = np.clip((codes ^ sign).astype(np.int64) + offsets, 0, fmt.max_code)
    if fmt.nans is NaNs.negative_zero:
        sign = np.where(places == 0, np.uint64(0), sign)
    beside: Codes = places.astype(np.uint64) | sign
    return beside


def gaps(places: Integers, fmt: Format) -> tuple[Values, Values]:
    """The values at places among the magnitudes, and the next ones (past max: were it a value)."""
    if fmt.zero and not fmt.subnormals:
        places = np.where(places < 1 << fmt.mantissa_bits, 0, places)
    following = places + 1
    if fmt.zero and not fmt.subnormals:
        following = np.where(places == 0, 1 << fmt.mantissa_bits, following)
    low = values_of(places.astype(np.uint64), fmt)
    high = values_of(np.minimum(following, fmt.max_code).astype(np.uint64), fmt)
    with np.errstate(over="ignore"):
        return low, np.where(following > fmt.max_code, low + fmt.ulp(low), high)


def targets(fmt: Format, n: int, draw: Draw) -> Values:
    """Results to aim at: middles mostly, a quarter of them each about zero and about the end."""
    binade = 1 << fmt.mantissa_bits
    zone = draw.between(0, 3, n)
    low = np.where(zone == 1, max(fmt.max_code - binade, 0), 0)
    high = np.where(zone == 0, min(2 * binade, fmt.max_code), fmt.max_code)
    below, above = gaps(draw.between(low, high, n), fmt)
    part = draw.of(np.array([0.5, 0.5, 0.25, 0.0]), n)
    with np.errstate(over="ignore", invalid="ignore"):
        points = np.nan_to_num(below + part * (above - below))
        return draw.signs(n) * np.minimum(points, 2 * float(fmt.max))
