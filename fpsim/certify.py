"""certify: every float32, in every mode, against thresholds worked out in exact rationals.

The check shares no code with the casts that it judges. In each mode, rounding is a step function
of the magnitude. From the format's exact values alone (`fpsim.spec.decode`) and the definition of
the mode, the first float32 of every step is found in rational arithmetic; the casts' results for
all 2**32 bit patterns are then compared with those constant runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import spec
from fpsim.arguments import integer, shown
from fpsim.cast import encode, round
from fpsim.format import Format
from fpsim.rounding import Overflow, Rounding, Stochastic, parse_overflow, parse_rounding
from fpsim.threads import over_chunks

MAX_CERTIFIED_BITS = 16
_SIGN, _INFINITY = 1 << 31, 0x7F800000
_CHUNK = 1 << 20

Mode = Rounding | Stochastic


@dataclass(frozen=True)
class Line:
    """What was compared for one mode, overflow rule and random integer, and what differed."""

    operation: str
    rounding: str
    overflow: str
    inputs: int
    mismatches: int
    first_mismatch: int | None  # bits of the first float32 that differs


@dataclass(frozen=True)
class Certificate:
    """The report of `certify`."""

    format: Format
    lines: tuple[Line, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing differed."""
        return all(line.mismatches == 0 for line in self.lines)

    @property
    def inputs(self) -> int:
        """How many results were compared."""
        return sum(line.inputs for line in self.lines)


def certify(
    fmt: Any,
    *,
    modes: tuple[Mode, ...] | None = None,
    overflows: tuple[Overflow, ...] = tuple(Overflow),
    progress: Callable[[int], object] | None = None,
    exponents: tuple[int, int] = (0, 255),
) -> Certificate:
    """Compare `encode` and `round` of all float32 with an independent exact check.

    Parameters
    ----------
    fmt : Format, str or dtype
        Up to 16 bits, and within float32's range.
    modes : tuple, optional
        Rounding modes; by default the eight deterministic ones, and stochastic rounding of
        variants A, B and C with 8 bits. Stochastic modes are encoded at the random integers
        0, 2**(N-1) and 2**N - 1; the others are encoded, and rounded to values.
    overflows : tuple of Overflow
        Rules; all are tried with ties to even, the default one with the other modes.
    progress : callable, optional
        Called with the number of results compared since the last call.
    exponents : (int, int)
        First and last of float32's exponent fields to go through: all of them by default.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.certify import certify
    >>> certify("float4_e2m1fn", modes=(fpsim.Rounding.to_odd,), exponents=(126, 127)).passed
    True
    """
    fmt = Format.parse(fmt)
    if fmt.bits > MAX_CERTIFIED_BITS or not Format.parse("binary32").contains(fmt):
        raise ValueError(
            f"fmt={fmt} has {fmt.bits} bits and values up to 2**{fmt.emax}; give a format of up "
            f"to {MAX_CERTIFIED_BITS} bits whose values float32 holds"
        )
    exponents = _validated_exponents(exponents)
    started = time.perf_counter()
    check = _Check(fmt, exponents, progress)
    chosen = None if modes is None else tuple(parse_rounding(mode) for mode in modes)
    rules = tuple(parse_overflow(rule) for rule in overflows)
    lines = tuple(check.run(*case) for case in _cases(chosen, rules))
    return Certificate(fmt, lines, time.perf_counter() - started)


def _validated_exponents(exponents: Any) -> tuple[int, int]:
    remedy = "give two exponent fields from 0 to 255, the first not above the last"
    if not isinstance(exponents, (tuple, list)) or len(exponents) != 2:
        raise TypeError(f"exponents={shown(exponents)} is no pair; {remedy}")
    try:
        first, last = (integer("exponents", e, 0, 255) for e in exponents)
    except (TypeError, ValueError) as error:
        raise type(error)(f"exponents={shown(exponents)} is out of range; {remedy}") from None
    if first > last:
        raise ValueError(f"exponents={shown(exponents)} is out of order; {remedy}")
    return first, last


def comparisons() -> int:
    """How many results a `certify` with the default arguments compares, NaN included."""
    return len(_cases(None, tuple(Overflow))) << 32


def _cases(
    modes: tuple[Mode, ...] | None, overflows: tuple[Overflow, ...]
) -> list[tuple[str, Mode, Overflow, int | None]]:
    """(operation, mode, overflow rule, random integer) of every line of the report."""
    cases = []
    for mode in modes or (*Rounding, *(Stochastic(8, variant) for variant in "ABC")):
        rules = overflows if mode is Rounding.ties_to_even else (Overflow.nan,)
        cases += [("encode", mode, rule, random) for random in _randoms(mode) for rule in rules]
        if not isinstance(mode, Stochastic):
            cases.append(("round", mode, Overflow.nan, None))
    return cases


def _randoms(mode: Mode) -> list[int | None]:
    if not isinstance(mode, Stochastic):
        return [None]
    top = (1 << (mode.bits or 64)) - 1
    return [*sorted({0, top // 2 + 1, top})]


class _Check:
    """The exact values of a format, and the runs of float32 that each of them is due."""

    def __init__(
        self, fmt: Format, exponents: tuple[int, int], progress: Callable[[int], object] | None
    ) -> None:
        self.fmt = fmt
        self.first, self.last = exponents[0] << 23, (exponents[1] + 1) << 23
        self.progress = progress
        finite: list[tuple[Fraction, int]] = []
        for code in range(1 << fmt.magnitude_bits):
            value = spec.decode(code, fmt)
            if isinstance(value, Fraction) and (not finite or value > finite[-1][0]):
                finite.append((value, code))
        if not fmt.zero:
            finite.insert(0, (Fraction(0), -1))  # a place below the smallest value, never taken
        # One step past the largest value: where rounding goes before overflow is looked at.
        top, code = finite[-1]
        step = Fraction(2) ** (fmt.emax - fmt.mantissa_bits) if len(finite) > 1 else top
        if top < Fraction(2) ** fmt.emin:  # all values are subnormal
            step = Fraction(2) ** fmt.quantum_exponent
        self.magnitudes = [value for value, _ in finite] + [top + step]
        self.codes = [code for _, code in finite]

    def run(self, operation: str, mode: Mode, overflow: Overflow, random: int | None) -> Line:
        """Compare one operation in one mode over all float32 of both signs."""
        wrong: list[tuple[int, int]] = []
        done: list[int] = []
        for negative in (False, True):
            starts, results = self._runs(operation, mode, overflow, random, negative)

            def work(
                start: int,
                stop: int,
                negative: bool = negative,
                starts: NDArray[np.int64] = starts,
                results: NDArray[Any] = results,
            ) -> None:
                low, high = self.first + start, self.first + stop
                bits = np.arange(low, high, dtype=np.uint32)
                x = (bits | np.uint32(_SIGN if negative else 0)).view(np.float32)
                x = self._usable(x)
                got = self._apply(operation, x, mode, overflow, random)
                inner = np.searchsorted(starts, [low, high - 1], side="right")
                edges = np.concatenate([[low], starts[inner[0] : inner[1]], [high]])
                want = np.repeat(results[inner[0] - 1 : inner[1]], np.diff(edges))
                differs = got != want[: got.size]
                if differs.any():
                    at = int(x[np.argmax(differs)].view(np.uint32))
                    wrong.append((at, int(np.count_nonzero(differs))))
                done.append(got.size)
                if self.progress is not None:
                    self.progress(got.size)

            over_chunks(self.last - self.first, work, chunk=_CHUNK)
        name = str(mode) if random is None else f"stochastic {_describe(mode)}, R = {random}"
        return Line(
            operation,
            name,
            str(overflow),
            sum(done),
            sum(count for _, count in wrong),
            min(wrong)[0] if wrong else None,
        )

    def _usable(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Without the NaN, where the format takes none (they are the end of the array)."""
        if self.fmt.nan_code is not None or not np.isnan(x[-1]):
            return x
        return x[: int(np.argmax(np.isnan(x)))]

    def _apply(
        self, operation: str, x: NDArray[Any], mode: Mode, overflow: Overflow, random: int | None
    ) -> NDArray[Any]:
        options: dict[str, Any] = {"rounding": mode, "overflow": overflow}
        if random is not None:
            options["random_bits"] = np.uint64(random)
        if operation == "encode":
            codes: NDArray[Any] = encode(x, self.fmt, **options)
            return codes
        values = round(x, self.fmt, **options)
        # Compare NaN as one pattern, and zeros with their sign.
        bits: NDArray[Any] = np.where(np.isnan(values), np.float32(np.nan), values).view(np.uint32)
        return bits

    def _runs(
        self, operation: str, mode: Mode, overflow: Overflow, random: int | None, negative: bool
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """(first magnitude bits of each run, its result), in ascending order, no gap."""
        starts, codes = [0], [self._zero(overflow, negative)]
        for i, (low, high) in enumerate(zip(self.magnitudes, self.magnitudes[1:], strict=False)):
            lower = self.codes[i]
            goes_up = _first_going_up(low, high, lower % 2 == 1, mode, random, negative)
            if lower == -1:
                goes_up = 1  # no value below the smallest: whatever is not zero takes it
            past = i + 1 == len(self.codes)
            code = (
                self._past(mode, overflow, negative)
                if past
                else self._signed(i + 1, overflow, negative)
            )
            if goes_up < _INFINITY:
                starts.append(goes_up)
                codes.append(code)
        starts.append(_INFINITY)
        codes.append(self._infinite(overflow, negative))
        starts.append(_INFINITY + 1)
        codes.append(self.fmt.nan_code or 0)
        # Where several runs start at one float32, the last is the one that counts.
        at = np.array(starts, np.int64)
        last = np.append(at[1:] != at[:-1], True)
        dtype = self.fmt.code_dtype
        results = np.array(codes, np.uint64)[last].astype(dtype)
        if operation == "round":
            values = np.array([float(spec.decode(int(c), self.fmt)) for c in results], np.float32)
            results = np.where(np.isnan(values), np.float32(np.nan), values).view(np.uint32)
        return at[last], results

    def _zero(self, overflow: Overflow, negative: bool) -> int:
        if not self.fmt.zero:
            return self._outside(overflow)
        return 1 << (self.fmt.bits - 1) if negative and self.fmt.has_negative_zero else 0

    def _signed(self, place: int, overflow: Overflow, negative: bool) -> int:
        if not negative:
            return self.codes[place]
        if not self.fmt.signed:
            return self._outside(overflow)
        return self.codes[place] | 1 << (self.fmt.bits - 1)

    def _outside(self, overflow: Overflow) -> int:
        clamps = overflow in (Overflow.saturate, Overflow.saturate_infinities)
        return 0 if clamps or self.fmt.nan_code is None else self.fmt.nan_code

    def _past(self, mode: Mode, overflow: Overflow, negative: bool) -> int:
        last = len(self.codes) - 1
        if negative and not self.fmt.signed:
            return self._outside(overflow)
        inward = (
            mode is Rounding.toward_zero
            or mode is (Rounding.toward_positive if negative else Rounding.toward_negative)
            or (mode is Rounding.to_odd and self.codes[last] % 2 == 1)
        )
        if inward or overflow in (Overflow.saturate, Overflow.saturate_infinities):
            return self._signed(last, overflow, negative)
        return self._beyond(overflow, negative)

    def _infinite(self, overflow: Overflow, negative: bool) -> int:
        if negative and not self.fmt.signed:
            return self._outside(overflow)
        if overflow is Overflow.saturate_infinities or (
            overflow is Overflow.saturate and not self.fmt.infinities
        ):
            return self._signed(len(self.codes) - 1, overflow, negative)
        return self._beyond(overflow, negative)

    def _beyond(self, overflow: Overflow, negative: bool) -> int:
        """Infinity, or what stands in for it."""
        if self.fmt.infinity_code is not None:
            sign = 1 << (self.fmt.bits - 1) if negative else 0
            return self.fmt.infinity_code | sign
        if overflow is Overflow.nan and self.fmt.nan_code is not None:
            return self.fmt.nan_code
        return self._signed(len(self.codes) - 1, overflow, negative)


def _describe(mode: Mode) -> str:
    assert isinstance(mode, Stochastic)
    return f"{mode.variant}{'' if mode.bits is None else mode.bits}"


def _first_going_up(
    low: Fraction, high: Fraction, low_is_odd: bool, mode: Mode, random: int | None, negative: bool
) -> int:
    """Bits of the first positive float32 above `low` (or at `high`) that rounds to `high`."""
    if isinstance(mode, Stochastic):
        # The rule's fraction ν·2^N, cut to an integer, must reach 2^N − R.
        n = mode.bits or 64
        whole = 1 << n
        assert random is not None
        if mode.variant == "A":
            point, inclusive = Fraction(whole - random, whole), True
        elif mode.variant == "B":
            point, inclusive = Fraction(2 * whole - 2 * random - 1, 2 * whole), True
        else:  # ties to even of ν·2^N reaches k from k − 1/2 on, inclusive where k is even
            k = whole - random
            point, inclusive = Fraction(2 * k - 1, 2 * whole), k % 2 == 0
        return _float32_at(low + point * (high - low), inclusive)
    middle = (low + high) / 2
    outward = mode is Rounding.away_from_zero or mode is (
        Rounding.toward_negative if negative else Rounding.toward_positive
    )
    if outward or (mode is Rounding.to_odd and not low_is_odd):
        return _float32_at(low, inclusive=False)
    if mode is Rounding.ties_to_even:
        return _float32_at(middle, inclusive=low_is_odd)
    if mode is Rounding.ties_to_away:
        return _float32_at(middle, inclusive=True)
    if mode is Rounding.ties_to_zero:
        return _float32_at(middle, inclusive=False)
    return _float32_at(high, inclusive=True)


def _float32_at(point: Fraction, inclusive: bool) -> int:
    """Bits of the first positive float32 at (if inclusive) or above a point."""
    with np.errstate(over="ignore"):
        near = np.float32(math.inf if point > Fraction(2) ** 128 else float(point))
    bits = int(near.view(np.uint32))

    def reaches(bits: int) -> bool:
        if bits >= _INFINITY:
            return True
        exact = Fraction(float(np.uint32(bits).view(np.float32)))
        return exact >= point if inclusive else exact > point

    while bits > 0 and reaches(bits - 1):
        bits -= 1
    while not reaches(bits):
        bits += 1
    return bits
