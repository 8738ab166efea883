"""The executable specification, judged by authorities that share no code with it.

ml_dtypes, NumPy, CPython, gmpy2 (MPFR), SoftFloat, the rules of P3109, tables written by hand,
and an oracle below that knows rounding by its definition only.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import gmpy2
import ml_dtypes
import numpy as np
import pytest
import softfloatpy as sf
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fpsim import catalog, spec
from fpsim.format import Format, NaNs
from fpsim.rounding import Flag, Overflow, Rounding, Stochastic

INF, NAN = math.inf, math.nan
HALF, QUARTER = Fraction(1, 2), Fraction(1, 4)
TINY = Fraction(1, 2**80)  # a share of a gap far below any precision here

NOTHING = Flag(0)
INEXACT = Flag.inexact
UNDERFLOW = Flag.underflow | Flag.inexact
OVERFLOW = Flag.overflow | Flag.inexact
INVALID = Flag.invalid

FINITE: dict[str, Any] = {"infinities": False, "nans": "none"}
FN: dict[str, Any] = {"infinities": False, "nans": "all_ones"}
FNUZ: dict[str, Any] = {"infinities": False, "nans": "negative_zero"}

BINARY16 = Format(5, 10)
BINARY32 = Format(8, 23)
BINARY64 = Format(11, 52)
BFLOAT16 = Format(8, 7)
E4M3FN = Format(4, 3, **FN)
E5M2 = Format(5, 2)
E5M2FNUZ = Format(5, 2, 16, **FNUZ)
E2M1 = Format(2, 1, **FINITE)
E8M0 = Format(8, 0, signed=False, zero=False, **FN)
P3SE = catalog.parse("binary8p3se")
P3SF = catalog.parse("binary8p3sf")
P4SE = catalog.parse("binary8p4se")
P3UE = catalog.parse("binary8p3ue")
UNSIGNED_FINITE = Format(4, 3, signed=False, **FINITE)
SIGNED_WITHOUT_ZERO = Format(3, 1, zero=False, **FINITE)
WITHOUT_SUBNORMALS = Format(4, 3, subnormals=False, **FN)
INFINITY_WITHOUT_NAN = Format(4, 3, nans="none")

MODES = list(Rounding)
RULES = list(Overflow)

judged = settings(
    deadline=None,
    derandomize=True,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)


def brief(value: Any) -> str | None:
    """A test's id: formats and dtypes by name, the rest as pytest has it."""
    if isinstance(value, (Format, Stochastic, Fraction)):
        return str(value)
    return value.__name__ if isinstance(value, type) else None


def is_nan(x: Any) -> bool:
    return isinstance(x, float) and math.isnan(x)


def is_negative(x: Any) -> bool:
    """Whether the sign is minus, that of −0 too."""
    return math.copysign(1, x) < 0 if isinstance(x, float) else x < 0


def alike(one: Any, other: Any) -> bool:
    """Equal, both NaN; a zero's sign counts."""
    if is_nan(one) or is_nan(other):
        return is_nan(one) and is_nan(other)
    return bool(one == other) and is_negative(one) == is_negative(other)


def project(x: Any, fmt: Format, *arguments: Any, **keywords: Any) -> tuple[Any, Flag]:
    """The value and the flags of a projection."""
    code, flags = spec.project(x, fmt, *arguments, **keywords)
    assert type(code) is int
    return spec.decode(code, fmt), flags


def assert_projects(
    x: Any, fmt: Format, rounding: Any, overflow: Any, value: Any, flags: Flag | None = None
) -> None:
    got, got_flags = project(x, fmt, rounding, overflow)
    assert alike(got, value), f"{x!r} into {fmt} {rounding} {overflow}: {got!r}, not {value!r}"
    assert flags is None or got_flags == flags, f"{x!r} {fmt} {rounding} {overflow}: {got_flags!r}"


def small_formats(max_bits: int, min_bits: int = 1) -> list[Format]:
    """Every valid combination of parameters of so many bits, with IEEE's bias."""
    found = []
    for exponent_bits, mantissa_bits, signed in itertools.product(
        range(1, max_bits + 1), range(max_bits), (True, False)
    ):
        if not min_bits <= signed + exponent_bits + mantissa_bits <= max_bits:
            continue
        for nans, infinities, subnormals, zero in itertools.product(
            NaNs, (True, False), (True, False), (True, False)
        ):
            if subnormals and not zero:
                continue  # the same format as with subnormals=False
            try:
                fmt = Format(
                    exponent_bits,
                    mantissa_bits,
                    signed=signed,
                    subnormals=subnormals,
                    infinities=infinities,
                    nans=nans,
                    zero=zero,
                )
            except ValueError:
                continue
            found.append(fmt)
    return found


# exact and decode -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "value"),
    [
        (3, Fraction(3)),
        (True, Fraction(1)),
        (10**400, Fraction(10**400)),
        (0.1, Fraction(3602879701896397, 2**55)),
        (Fraction(1, 3), Fraction(1, 3)),
        (0.0, Fraction(0)),
        (-0.0, -0.0),
        (-0.5, Fraction(-1, 2)),
        (INF, INF),
        (-INF, -INF),
        (NAN, NAN),
        (np.float16(-0.0), -0.0),
        (np.float32(0.1), Fraction(13421773, 2**27)),
        (ml_dtypes.bfloat16(0.1), Fraction(205, 2**11)),
        (np.int8(-7), Fraction(-7)),
        (np.int64(2**53 + 1), Fraction(2**53 + 1)),
        (np.uint64(2**64 - 1), Fraction(2**64 - 1)),
    ],
    ids=lambda value: f"{type(value).__name__}" if isinstance(value, np.generic) else None,
)
def test_exact(x: Any, value: Any) -> None:
    assert alike(spec.exact(x), value)
    assert type(spec.exact(x)) is type(value)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="longdouble is binary64 here")
def test_exact_of_a_longdouble_loses_nothing() -> None:
    x = np.longdouble(1) + np.longdouble(2) ** -60
    assert spec.exact(x) == 1 + Fraction(1, 2**60)


@pytest.mark.parametrize("e", [-1080, -3, -1, 0, 1, 2, 63, 2000])
def test_floor_log2(e: int) -> None:
    power = Fraction(2) ** e
    for x in (power, power * (1 + TINY), power * Fraction(4, 3), power * (2 - TINY)):
        assert spec.floor_log2(x) == e
    assert spec.floor_log2(power * (1 - TINY)) == e - 1


DECODED = [
    *small_formats(5),
    *(fmt for fmt in catalog.formats().values() if fmt.bits <= 8),
    BINARY16,
    BFLOAT16,
]


def test_decode_is_values() -> None:
    """`Format.values` is judged by NumPy's and ml_dtypes' casts in its own tests."""
    for fmt in DECODED:
        for code, value in enumerate(fmt.values().tolist()):
            assert alike(spec.decode(code, fmt), value), (fmt, code)


@pytest.mark.parametrize(
    ("fmt", "code", "value"),
    [
        (BINARY64, 0x3FF0_0000_0000_0001, 1 + Fraction(1, 2**52)),
        (BINARY64, 1, Fraction(1, 2**1074)),
        (BINARY64, 0x8000_0000_0000_0000, -0.0),
        (BINARY64, 0xFFF0_0000_0000_0000, -INF),
        (Format(16, 3), 0x7FFF7, Fraction(15, 8) * 2**32767),
        (Format(16, 3), 0x80001, Fraction(-1, 2**32769)),
        (Format(12, 51), (1 << 62) | 1, 2 * (1 + Fraction(1, 2**51))),
        (Format(4, 3, 1000, subnormals=False), 7, Fraction(0)),
        (Format(4, 3, 1000, subnormals=False), 0x87, -0.0),
        (Format(4, 3, -1000), 0x09, Fraction(9, 8) * 2**1001),
    ],
)
def test_decode_far_out(fmt: Format, code: int, value: Any) -> None:
    assert alike(spec.decode(code, fmt), value)


@pytest.mark.parametrize("fmt", [E4M3FN, P3UE, BINARY16, SIGNED_WITHOUT_ZERO], ids=brief)
def test_decode_takes_the_codes_of_an_array(fmt: Format) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for code in fmt.codes()[:: max(1, (1 << fmt.bits) // 500)]:
            assert alike(spec.decode(code, fmt), spec.decode(int(code), fmt)), repr(code)


@pytest.mark.parametrize("code", [-1, 256, 10**9])
def test_decode_refuses_codes_out_of_range(code: int) -> None:
    with pytest.raises(ValueError, match=rf"code={code} is out of range.*0 to 255"):
        spec.decode(code, "float8_e4m3fn")


# ml_dtypes ------------------------------------------------------------------------------

ML_DTYPES = [ml_dtypes.bfloat16] + [
    getattr(ml_dtypes, name) for name in catalog.families()["ml_dtypes"]
]


def float32_probes(dtype: Any, fmt: Format, count: int) -> np.ndarray[Any, Any]:
    """All values and midpoints, the edges of the range, their float32 neighbours, and patterns."""
    codes = fmt.codes()
    rng = np.random.default_rng(fmt.bits)
    if fmt.bits > 8:
        codes = rng.choice(codes, 500)
    with np.errstate(all="ignore"):
        values = codes.view(dtype).astype(np.float32)
        finite = np.unique(values[np.isfinite(values)])
        midpoints = (finite[1:] / 2 + finite[:-1] / 2).astype(np.float32)
        edges = np.outer(finite[[0, -1]], 1 + np.arange(17) / 16).astype(np.float32).ravel()
        tiny = np.float32(fmt.smallest) * np.arange(-2, 2.25, 0.25, dtype=np.float32)
        points = np.concatenate([values, midpoints, edges, tiny, np.float32([0, -0.0, INF, -INF])])
        up, down = (np.nextafter(points, np.float32(to)) for to in (INF, -INF))
        patterns = rng.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)
        exponents = rng.uniform(fmt.quantum_exponent - 2, fmt.emax + 2, count)
        spread = (rng.choice([-1, 1], count) * 2.0**exponents).astype(np.float32)
        return np.unique(np.concatenate([points, up, down, patterns, spread]).view(np.uint32)).view(
            np.float32
        )


def assert_ml_dtypes_agrees(dtype: Any, count: int) -> None:
    fmt = catalog.parse(dtype)
    x = float32_probes(dtype, fmt, count)
    if fmt.nan_code is None:
        x = x[~np.isnan(x)]  # ml_dtypes makes zeros of them
    with np.errstate(all="ignore"):
        theirs = x.astype(dtype)
        values = theirs.astype(np.float64).tolist()
    codes = theirs.view(fmt.code_dtype).tolist()
    differing = []
    for source, code, value in zip(x.tolist(), codes, values, strict=True):
        ours = spec.project(source, fmt)[0]
        if not (ours == code or (is_nan(value) and ours == fmt.nan_code)):
            differing.append(source)
    if fmt.mantissa_bits == 0 and not fmt.zero:
        # Two known differences in E8M0. Of the neighbours of an exact tie, 1.5·2^k, ml_dtypes
        # takes the upper, ties_to_even the one whose code is even. And ml_dtypes takes every
        # subnormal of float32 above 2^-127 to 2^-126.
        ties = {s for s in differing if math.frexp(s)[0] == 0.75}
        sunk = {s for s in differing if 2.0**-127 < s < 2.0**-126}
        assert ties
        differing = [s for s in differing if s not in ties | sunk]
    assert not differing, [source.hex() for source in differing[:5]]


@pytest.mark.parametrize("dtype", ML_DTYPES, ids=brief)
def test_casts_from_float32_are_those_of_ml_dtypes(dtype: Any) -> None:
    assert_ml_dtypes_agrees(dtype, 700)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ML_DTYPES, ids=brief)
def test_casts_from_float32_are_those_of_ml_dtypes_at_length(dtype: Any) -> None:
    assert_ml_dtypes_agrees(dtype, 100_000)


# NumPy and CPython ----------------------------------------------------------------------


def patterns(dtype: Any, fmt: Format, count: int) -> np.ndarray[Any, Any]:
    """Random floats, those near the range of `fmt`, and those at and around its midpoints."""
    rng = np.random.default_rng(count)
    unsigned = {np.float32: np.uint32, np.float64: np.uint64}[dtype]
    width = np.dtype(unsigned).itemsize * 8
    anywhere = rng.integers(0, 1 << width, count, dtype=unsigned).view(dtype)
    codes = rng.integers(0, fmt.max_code, count)
    low = [spec.value_at(int(code), fmt) for code in codes]
    high = [spec.value_at(int(code) + 1, fmt) for code in codes]
    middle = np.array([float((a + b) / 2) for a, b in zip(low, high, strict=True)], dtype)
    middle *= rng.choice([-1, 1], count).astype(dtype)
    with np.errstate(all="ignore"):
        near = [np.nextafter(middle, dtype(to)) for to in (INF, -INF)]
    special = np.array([0.0, -0.0, INF, -INF, NAN, fmt.max, -float(fmt.max)], dtype)
    return np.concatenate([anywhere, middle, *near, special])


@pytest.mark.parametrize(
    ("source", "target", "fmt"),
    [
        (np.float32, np.float16, BINARY16),
        (np.float64, np.float16, BINARY16),
        (np.float64, np.float32, BINARY32),
    ],
    ids=["float32-float16", "float64-float16", "float64-float32"],
)
def test_casts_are_those_of_numpy(source: Any, target: Any, fmt: Format) -> None:
    x = patterns(source, fmt, 1500)
    with np.errstate(all="ignore"):
        theirs = x.astype(target)
    for value, expected in zip(x.tolist(), theirs.tolist(), strict=True):
        assert_projects(value, fmt, "ties_to_even", "infinity", expected)


@judged
@given(
    st.integers(-(2**80), 2**80),
    st.integers(1, 2**80),
    st.one_of(st.integers(-1100, 1100), st.sampled_from([-1074, -1075, -1022, 970, 1023])),
)
@example(1, 1, -1075)
@example(3, 1, -1075)
@example(2**54 - 1, 1, 970)
@example(2**54 - 2, 1, 970)
def test_quotients_into_binary64_are_those_of_cpython(n: int, d: int, e: int) -> None:
    """CPython divides integers correctly rounded."""
    n, d = (n << e, d) if e > 0 else (n, d << -e)
    try:
        expected = n / d
    except OverflowError:
        expected = INF if n > 0 else -INF
    # Below half the smallest value, a negative quotient is −0 to both.
    assert_projects(Fraction(n, d), BINARY64, "ties_to_even", "infinity", expected)


# MPFR -----------------------------------------------------------------------------------

MPFR_MODES = {
    Rounding.ties_to_even: gmpy2.RoundToNearest,
    Rounding.toward_zero: gmpy2.RoundToZero,
    Rounding.toward_positive: gmpy2.RoundUp,
    Rounding.toward_negative: gmpy2.RoundDown,
    Rounding.away_from_zero: gmpy2.RoundAwayZero,
}


def mpfr(x: Fraction | float, fmt: Format, rounding: Rounding) -> tuple[Any, Flag]:
    """MPFR's value and flags in an IEEE-like format.

    MPFR's significands lie in [1/2, 1), so its exponents are one more; its emin is that of the
    smallest subnormal. Its underflow flag is raised for every nonzero result that was subnormal
    once rounded to full precision, exact or not: inexact too, it is IEEE's after rounding.
    """
    context = gmpy2.context(
        precision=fmt.precision,
        emax=fmt.emax + 1,
        emin=fmt.quantum_exponent + 1,
        subnormalize=True,
        round=MPFR_MODES[rounding],
    )
    with context as active:
        result = gmpy2.mpfr(gmpy2.mpq(x.numerator, x.denominator) if isinstance(x, Fraction) else x)
        flags = Flag.inexact if active.inexact else NOTHING
        flags |= Flag.overflow if active.overflow else NOTHING
        flags |= Flag.underflow if active.underflow and active.inexact else NOTHING
        if gmpy2.is_nan(result):
            return NAN, flags
        if gmpy2.is_infinite(result) or (gmpy2.is_zero(result) and gmpy2.is_signed(result)):
            return float(result), flags
        exact = gmpy2.mpq(result)
        return Fraction(int(exact.numerator), int(exact.denominator)), flags


def assert_mpfr_agrees(x: Fraction | float, fmt: Format, rounding: Rounding) -> None:
    assert_projects(x, fmt, rounding, "infinity", *mpfr(x, fmt, rounding))


def gap_points(low: Fraction, high: Fraction) -> list[Fraction]:
    """The lower end of a gap, a quarter up, the middle, and what lies next to these."""
    gap, middle = high - low, (low + high) / 2
    tiny = gap * TINY
    return [
        low,
        low + tiny,
        low + gap / 4,
        middle - tiny,
        middle,
        middle + tiny,
        high - tiny,
    ]


@pytest.mark.parametrize(
    "fmt",
    [Format(2, 1), Format(2, 3), Format(3, 1), Format(3, 2, 5), Format(4, 1, -3), Format(2, 4, 40)],
    ids=brief,
)
def test_every_gap_of_a_small_format_is_rounded_as_by_mpfr(fmt: Format) -> None:
    # Two places past the largest value, then far out.
    ends = [spec.value_at(code, fmt) for code in range(fmt.max_code + 3)]
    points = [p for low, high in itertools.pairwise(ends) for p in gap_points(low, high)]
    for point in [*points, ends[-1] * 3, ends[-1] * 2**50]:
        for sign, rounding in itertools.product((1, -1), MPFR_MODES):
            assert_mpfr_agrees(sign * point, fmt, rounding)


@st.composite
def ieee_formats(draw: st.DrawFn) -> Format:
    known = st.sampled_from([BINARY16, BINARY32, BINARY64, BFLOAT16, E5M2])
    odd = st.builds(Format, st.integers(2, 12), st.integers(1, 40), st.integers(-300, 300))
    return draw(st.one_of(known, odd))


@st.composite
def reals_near(draw: st.DrawFn, fmt: Format) -> Fraction:
    """Values, ties, near-ties and others, from below the smallest value to past the largest."""
    # Two bits more than the format has: values, ties and quarters.
    significand = draw(st.integers(1, (1 << (fmt.precision + 2)) - 1))
    edges = [fmt.quantum_exponent - 2, fmt.quantum_exponent, fmt.emin, fmt.emin - 1, fmt.emax]
    low, high = fmt.quantum_exponent - 3, max(fmt.emax, fmt.emin) + 1
    exponent = draw(st.one_of(st.sampled_from(edges), st.integers(low, high)))
    x = significand * Fraction(2) ** (exponent - draw(st.integers(0, fmt.precision + 1)))
    x *= 1 + draw(st.sampled_from([0, 0, 1, -1])) * TINY
    return draw(st.sampled_from([1, -1])) * x


@judged
@given(st.data(), ieee_formats(), st.sampled_from(list(MPFR_MODES)))
def test_rationals_are_rounded_as_by_mpfr(
    data: st.DataObject, fmt: Format, rounding: Rounding
) -> None:
    x = data.draw(st.one_of(reals_near(fmt), st.fractions()))
    assert_mpfr_agrees(x, fmt, rounding)


@judged
@given(st.floats(), ieee_formats(), st.sampled_from(list(MPFR_MODES)))
def test_floats_are_rounded_as_by_mpfr(x: float, fmt: Format, rounding: Rounding) -> None:
    assert_mpfr_agrees(x, fmt, rounding)


# SoftFloat ------------------------------------------------------------------------------

SOFTFLOAT_MODES = {
    Rounding.ties_to_even: sf.RoundingMode.NEAR_EVEN,
    Rounding.toward_zero: sf.RoundingMode.MIN_MAG,
    Rounding.toward_negative: sf.RoundingMode.MIN,
    Rounding.toward_positive: sf.RoundingMode.MAX,
    Rounding.ties_to_away: sf.RoundingMode.NEAR_MAX_MAG,
}
TININESS = {
    "before": sf.TininessMode.BEFORE_ROUNDING,
    "after": sf.TininessMode.AFTER_ROUNDING,
}


@dataclass(frozen=True)
class Cast:
    """A conversion of SoftFloat's, on codes."""

    source: Format
    target: Format
    make: Callable[[bytes], Any]
    convert: Callable[[Any], Any]

    def __call__(self, code: int) -> tuple[int, Flag]:
        """The code of the result, and the flags that were raised."""
        sf.set_exception_flags(0)
        result = self.convert(self.make(code.to_bytes(self.source.bits // 8, "big")))
        flags = Flag(sf.get_exception_flags())
        return int.from_bytes(result.to_bytes(), "big"), flags


CASTS = [
    pytest.param(
        Cast(BINARY32, BINARY16, sf.Float32.from_bytes, sf.f32_to_f16), id="binary32-binary16"
    ),
    pytest.param(
        Cast(BINARY64, BINARY16, sf.Float64.from_bytes, sf.f64_to_f16), id="binary64-binary16"
    ),
    pytest.param(
        Cast(BINARY64, BINARY32, sf.Float64.from_bytes, sf.f64_to_f32), id="binary64-binary32"
    ),
]


@contextmanager
def softfloat_state() -> Iterator[None]:
    """SoftFloat's modes and flags are global: put them back."""
    state = sf.get_rounding_mode(), sf.get_tininess_mode(), sf.get_exception_flags()
    try:
        yield
    finally:
        sf.set_rounding_mode(state[0])
        sf.set_tininess_mode(state[1])
        sf.set_exception_flags(state[2])


def boundary_codes(source: Format, target: Format) -> list[int]:
    """Codes of `source`: boundary exponents × boundary significands of a cast to `target`."""
    m, rng = source.mantissa_bits, random.Random(source.bits)
    exponents = {
        *range(target.quantum_exponent - 2, target.quantum_exponent + 2),
        *range(target.emin - 3, target.emin + 2),
        *range(-1, 2),
        *range(target.emax - 1, target.emax + 3),
        source.emin,
        source.emax,
    }
    codes = []
    for exponent in sorted(exponents):
        field = exponent + source.bias
        lost = m - target.mantissa_bits + max(0, target.emin - exponent)  # bits below the last
        lost = min(lost, m)
        half = (1 << lost) >> 1
        kept = (1 << m) - (1 << lost)
        heads = {0, (1 << lost) & kept, kept, rng.randrange(1 << m) & kept}
        tails = {0, 1, half - 1, half, half + 1, (1 << lost) - 1} - {-1}
        codes += [field << m | head | tail for head in heads for tail in tails if tail < 1 << lost]
    codes += [0, 1, (1 << m) - 1, source.infinity_code or 0, source.max_code]
    return codes + [code | 1 << source.magnitude_bits for code in codes]


def assert_softfloat_agrees(cast: Cast, codes: list[int]) -> None:
    with softfloat_state():
        for (rounding, mode), (name, tininess) in itertools.product(
            SOFTFLOAT_MODES.items(), TININESS.items()
        ):
            sf.set_rounding_mode(mode)
            sf.set_tininess_mode(tininess)
            for code in codes:
                x = spec.decode(code, cast.source)
                ours = spec.project(x, cast.target, rounding, "infinity", tininess=name)
                assert ours == cast(code), (hex(code), x, rounding, name)


@pytest.mark.parametrize("cast", CASTS)
def test_casts_at_the_boundaries_are_those_of_softfloat(cast: Cast) -> None:
    assert_softfloat_agrees(cast, boundary_codes(cast.source, cast.target))


def random_codes(cast: Cast, count: int) -> list[int]:
    """Patterns whose exponents lie anywhere, and where the target's are; no NaN."""
    rng = random.Random(cast.source.bits + cast.target.bits)
    m = cast.source.mantissa_bits
    low = cast.target.quantum_exponent - 2 + cast.source.bias
    high = cast.target.emax + 2 + cast.source.bias
    codes = []
    while len(codes) < count:
        near = rng.randint(low, high) << m | rng.getrandbits(m)
        code = rng.choice([rng.getrandbits(cast.source.magnitude_bits), near])
        if not is_nan(spec.decode(code, cast.source)):
            codes.append(code | rng.getrandbits(1) << cast.source.magnitude_bits)
    return codes


@pytest.mark.parametrize("cast", CASTS)
def test_random_casts_are_those_of_softfloat(cast: Cast) -> None:
    assert_softfloat_agrees(cast, random_codes(cast, 400))


@pytest.mark.slow
@pytest.mark.parametrize("cast", CASTS)
def test_random_casts_are_those_of_softfloat_at_length(cast: Cast) -> None:
    assert_softfloat_agrees(cast, random_codes(cast, 30_000))


@pytest.mark.parametrize("cast", CASTS)
def test_a_quiet_nan_raises_no_flag_as_in_softfloat(cast: Cast) -> None:
    assert cast.source.nan_code is not None
    with softfloat_state():
        code, flags = cast(cast.source.nan_code)
    assert is_nan(spec.decode(code, cast.target))
    assert spec.project(NAN, cast.target) == (cast.target.nan_code, flags) == (code, NOTHING)


# Rounding by its definition -------------------------------------------------------------
#
# The oracle enumerates the magnitudes of a format (from its codes), lets the list go on past the
# largest as though there were no end to the exponents, and picks neighbours from it by the words
# of each `Rounding`. It knows neither significands nor exponents.


@dataclass(frozen=True)
class Rung:
    """A magnitude, and whether its code is odd."""

    magnitude: Fraction | float  # infinity, too
    odd: bool


@dataclass(frozen=True)
class Ladder:
    """The magnitudes of a format in order, and three binades more."""

    rungs: list[Rung]
    own: int  # how many are the format's

    @property
    def largest(self) -> Rung:
        return self.rungs[self.own - 1]


@lru_cache(maxsize=8)
def ladder(fmt: Format) -> Ladder:
    rungs: list[Rung] = []
    for code in range(1 << fmt.magnitude_bits):
        magnitude = spec.decode(code, fmt)
        # The code 0 speaks for all that read as zero.
        if isinstance(magnitude, Fraction) and (not rungs or magnitude > rungs[-1].magnitude):
            rungs.append(Rung(magnitude, code % 2 == 1))
    own = len(rungs)
    for _ in range((3 << fmt.mantissa_bits) + 2):
        last = rungs[-1]
        binade = min_normal(fmt)
        while binade * 2 <= last.magnitude:
            binade *= 2
        rungs.append(Rung(last.magnitude + binade / (1 << fmt.mantissa_bits), not last.odd))
    return Ladder(rungs, own)


def min_normal(fmt: Format) -> Fraction:
    return Fraction(2) ** (int(fmt.zero) - fmt.bias)


def pick(x: Fraction, ends: tuple[Rung, Rung], rounding: Rounding) -> Rung:
    """Which of two neighbours in magnitude, the smaller first, x goes to."""
    smaller, larger = ends
    nearer = None
    if larger.magnitude != INF:
        down, up = abs(x) - smaller.magnitude, larger.magnitude - abs(x)
        nearer = None if down == up else smaller if down < up else larger
    else:
        nearer = larger  # a value past the range, once rounded
    match rounding:
        case Rounding.ties_to_even:
            return nearer or (larger if smaller.odd else smaller)
        case Rounding.ties_to_away:
            return nearer or larger
        case Rounding.ties_to_zero:
            return nearer or smaller
        case Rounding.toward_zero:
            return smaller
        case Rounding.away_from_zero:
            return larger
        case Rounding.toward_positive:
            return larger if x > 0 else smaller
        case Rounding.toward_negative:
            return larger if x < 0 else smaller
        case Rounding.to_odd:
            return smaller if smaller.odd else larger


def climb(x: Fraction, rungs: list[Rung], rounding: Rounding) -> Rung:
    """x rounded to the magnitudes of a ladder."""
    place = bisect_left(rungs, abs(x), key=lambda rung: rung.magnitude)
    if rungs[place].magnitude == abs(x) or place == 0:
        return rungs[place]  # place 0: below the smallest value of a format without a zero
    return pick(x, (rungs[place - 1], rungs[place]), rounding)


def oracle(
    x: Fraction, fmt: Format, rounding: Rounding, overflow: Overflow
) -> tuple[Fraction | float, Flag, Flag]:
    """Value, flags with tininess before rounding, flags with tininess after, for x ≠ 0."""
    steps = ladder(fmt)
    rounded, largest = climb(x, steps.rungs, rounding), steps.largest
    saturating = overflow in (Overflow.saturate, Overflow.saturate_infinities)

    if x < 0 and not fmt.signed and rounded.magnitude != 0:
        value = steps.rungs[0].magnitude if saturating or fmt.nan_code is None else NAN
        return value, INVALID, INVALID

    if rounded.magnitude > largest.magnitude:
        rounded = largest
        if not saturating:
            rounded = pick(x, (largest, Rung(INF, not largest.odd)), rounding)
        if rounded.magnitude == INF and not fmt.infinities:
            if overflow is Overflow.nan and fmt.nan_code is not None:
                return NAN, OVERFLOW, OVERFLOW
            rounded = largest
        return (-rounded.magnitude if x < 0 else rounded.magnitude), OVERFLOW, OVERFLOW

    value = rounded.magnitude
    if x < 0:
        value = -value if value else (-0.0 if fmt.has_negative_zero else value)
    if rounded.magnitude == abs(x):
        return value, NOTHING, NOTHING
    normal = min_normal(fmt)
    before = UNDERFLOW if abs(x) < normal else INEXACT
    # Tiny after rounding: x is rounded as though there were no end to the exponents. Two binades
    # up, where the ladder is whole, everything is the same but for a factor of four.
    after = before
    if normal / 2 < abs(x) < normal:
        after = UNDERFLOW if climb(4 * x, steps.rungs, rounding).magnitude < 4 * normal else INEXACT
    return value, before, after


def probes(fmt: Format) -> list[Fraction]:
    """Points in every gap, below the smallest value, in two gaps past the largest, and far out."""
    steps = ladder(fmt)
    ends = [Fraction(rung.magnitude) for rung in steps.rungs[: steps.own + 2]]
    points = [p for low, high in itertools.pairwise(ends) for p in gap_points(low, high)]
    if not fmt.zero:
        points += gap_points(Fraction(0), ends[0])
    # Below the smallest normal value, where tininess is decided: in the gap of full precision.
    gap = min_normal(fmt) / (2 << fmt.mantissa_bits)
    parts = (TINY, QUARTER, HALF - TINY, HALF, HALF + TINY)
    points += [min_normal(fmt) - gap * part for part in parts]
    top = Fraction(steps.rungs[-1].magnitude)
    return [p for p in [*points, ends[-1], top] if 0 < p <= top]


def assert_oracle_agrees(fmt: Format, modes: list[Rounding]) -> int:
    """Every probe, both signs, the modes; every overflow rule where it matters, else one in turn.

    Returns how many projections were compared.
    """
    turns = itertools.cycle(RULES)
    largest, lowest = Fraction(fmt.max), Fraction(fmt.smallest)
    compared = 0
    for point, sign in itertools.product(probes(fmt), (1, -1)):
        x = sign * point
        matters = point > largest or (x < 0 and not fmt.signed and point <= lowest)
        for rounding in modes:
            for overflow in RULES if matters else [next(turns)]:
                value, before, after = oracle(x, fmt, rounding, overflow)
                assert_projects(x, fmt, rounding, overflow, value, after)
                compared += 1
                if before != after:
                    flags = spec.project(x, fmt, rounding, overflow, tininess="before")[1]
                    assert flags == before, (x, rounding)
    return compared


@pytest.mark.parametrize("fmt", small_formats(4), ids=brief)
def test_every_mode_is_its_definition(fmt: Format) -> None:
    assert assert_oracle_agrees(fmt, MODES)


@pytest.mark.parametrize(("turn", "fmt"), list(enumerate(small_formats(5, 5))), ids=brief)
def test_every_mode_is_its_definition_on_five_bits(turn: int, fmt: Format) -> None:
    # Two modes a format in turn; the slow test takes all.
    assert assert_oracle_agrees(fmt, [MODES[turn % 8], MODES[(turn // 8 + turn + 3) % 8]])


@pytest.mark.slow
@pytest.mark.parametrize("fmt", small_formats(6, 5), ids=brief)
def test_every_mode_is_its_definition_on_six_bits(fmt: Format) -> None:
    assert assert_oracle_agrees(fmt, MODES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fmt", [E4M3FN, E5M2FNUZ, P3SE, P3UE, UNSIGNED_FINITE, WITHOUT_SUBNORMALS], ids=brief
)
def test_every_mode_is_its_definition_on_eight_bits(fmt: Format) -> None:
    assert assert_oracle_agrees(fmt, MODES)


# Numbers that are no real number, and zeros, in every small format


@pytest.mark.parametrize("overflow", RULES)
def test_zeros_infinities_and_nan(overflow: Overflow) -> None:
    saturating = overflow in (Overflow.saturate, Overflow.saturate_infinities)
    for fmt, rounding in itertools.product(small_formats(4), (Rounding.ties_to_even, Stochastic())):
        has_nan = bool(np.isnan(fmt.values()).any())
        outside = NAN if has_nan and not saturating else spec.decode(0, fmt)
        minus_zero = -0.0 if fmt.signed and fmt.nans != "negative_zero" else Fraction(0)

        zeros = (Fraction(0), NOTHING), (minus_zero, NOTHING)
        if not fmt.zero:
            zeros = (outside, INVALID), (outside, INVALID)
        assert_projects(0, fmt, rounding, overflow, *zeros[0])
        assert_projects(-0.0, fmt, rounding, overflow, *zeros[1])

        largest = Fraction(fmt.max)
        if fmt.infinities and overflow is not Overflow.saturate_infinities:
            plus, minus, flags = INF, -INF, NOTHING
        elif overflow is Overflow.nan and has_nan:
            plus, minus, flags = NAN, NAN, INVALID
        else:
            plus, minus, flags = largest, -largest, OVERFLOW
        assert_projects(INF, fmt, rounding, overflow, plus, flags)
        if not fmt.signed:
            minus, flags = outside, INVALID
        assert_projects(-INF, fmt, rounding, overflow, minus, flags)

        if has_nan:
            assert spec.project(NAN, fmt, rounding, overflow) == (fmt.nan_code, NOTHING)
        else:
            with pytest.raises(ValueError, match=r"x=nan.*no NaN; replace it.*another format"):
                spec.project(NAN, fmt, rounding, overflow)


# Properties -----------------------------------------------------------------------------


@st.composite
def drawn_formats(draw: st.DrawFn, max_exponent_bits: int = 8, max_mantissa: int = 24) -> Format:
    """Any valid format within these widths."""
    exponent_bits = draw(st.integers(1, max_exponent_bits))
    nans = draw(st.sampled_from(NaNs))
    plain = nans is NaNs.negative_zero
    try:
        return Format(
            exponent_bits,
            draw(st.integers(0, max_mantissa)),
            draw(st.one_of(st.none(), st.integers(-100, 100))),  # type: ignore[arg-type]
            signed=plain or draw(st.booleans()),
            subnormals=draw(st.booleans()),
            infinities=nans is NaNs.ieee or draw(st.booleans()),
            nans=nans,
            zero=plain or draw(st.booleans()),
        )
    except ValueError:
        assume(False)
        raise


modes = st.sampled_from(MODES)
rules = st.sampled_from(RULES)


@judged
@given(st.data(), drawn_formats(11, 52), modes, rules)
def test_values_of_the_format_are_left_alone(
    data: st.DataObject, fmt: Format, rounding: Rounding, overflow: Overflow
) -> None:
    code = data.draw(st.integers(0, (1 << fmt.bits) - 1))
    value = spec.decode(code, fmt)
    assume(not is_nan(value))
    assume(abs(value) != INF or overflow is not Overflow.saturate_infinities)
    assert_projects(value, fmt, rounding, overflow, value, NOTHING)


@judged
@given(st.data(), drawn_formats(), modes, rules)
def test_rounding_never_decreases(
    data: st.DataObject, fmt: Format, rounding: Rounding, overflow: Overflow
) -> None:
    x, y = sorted((data.draw(reals_near(fmt)), data.draw(reals_near(fmt))))
    low, high = (spec.round(v, fmt, rounding, overflow) for v in (x, y))
    assert is_nan(low) or is_nan(high) or low <= high


MIRRORED = {
    Rounding.toward_positive: Rounding.toward_negative,
    Rounding.toward_negative: Rounding.toward_positive,
}


@judged
@given(st.data(), drawn_formats(), modes, rules)
def test_signs_mirror_each_other(
    data: st.DataObject, fmt: Format, rounding: Rounding, overflow: Overflow
) -> None:
    assume(fmt.signed and fmt.has_negative_zero == fmt.zero)
    x = data.draw(reals_near(fmt))
    value, flags = project(x, fmt, rounding, overflow)
    mirrored = -value
    if value == 0:
        mirrored = Fraction(0) if is_negative(value) else -0.0
    assert_projects(-x, fmt, MIRRORED.get(rounding, rounding), overflow, mirrored, flags)


@judged
@given(st.data(), drawn_formats(), modes, st.integers(-50, 50))
def test_a_bias_is_a_power_of_two(
    data: st.DataObject, fmt: Format, rounding: Rounding, shift: int
) -> None:
    shifted = Format(
        fmt.exponent_bits,
        fmt.mantissa_bits,
        fmt.bias - shift,
        signed=fmt.signed,
        subnormals=fmt.subnormals,
        infinities=fmt.infinities,
        nans=fmt.nans,
        zero=fmt.zero,
    )
    x = data.draw(reals_near(fmt))
    scaled = x * Fraction(2) ** shift
    assert spec.project(scaled, shifted, rounding) == spec.project(x, fmt, rounding)


@judged
@given(st.data(), st.integers(2, 6), st.integers(0, 12), modes)
def test_rounding_to_odd_first_changes_nothing(
    data: st.DataObject, exponent_bits: int, mantissa_bits: int, rounding: Rounding
) -> None:
    """Rounding to odd with two bits more, then to nearest or any other way, is rounding once.

    Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using
    rounding to odd", IEEE Transactions on Computers 57 (2008).
    """
    fmt = Format(exponent_bits, mantissa_bits)
    wide = Format(exponent_bits + 2, mantissa_bits + 2 + fmt.precision)
    x = data.draw(reals_near(fmt))
    odd = spec.round(x, wide, "to_odd", "infinity")
    assert spec.project(odd, fmt, rounding, "infinity") == spec.project(
        x, fmt, rounding, "infinity"
    )


# P3109, interim report 4.0 --------------------------------------------------------------


def exponent_of(x: Fraction) -> int:
    """⌊log2 x⌋, by trying."""
    e = 0
    while Fraction(2) ** e > x:
        e -= 1
    while Fraction(2) ** (e + 1) <= x:
        e += 1
    return e


def p3109(x: Fraction, fmt: Format, rounding: Rounding, saturation: str) -> Fraction | float:
    """RoundToPrecision and Saturate of the report, for a finite x ≠ 0."""
    p, b = fmt.precision, fmt.bias
    # E = max(⌊log2 |X|⌋, 1 − B) − P + 1;  S = |X| · 2^−E;  Δ = S − ⌊S⌋
    e = max(exponent_of(abs(x)), 1 - b) - p + 1
    s = abs(x) * Fraction(2) ** -e
    delta = s - math.floor(s)
    # CodeIsEven: P > 1: IsEven(⌊S⌋);  P = 1: ⌊S⌋ = 0 ∨ IsEven(E + B)
    even = math.floor(s) % 2 == 0 if p > 1 else math.floor(s) == 0 or (e + b) % 2 == 0
    away = {
        Rounding.ties_to_even: delta > HALF or (delta == HALF and not even),
        Rounding.ties_to_away: delta >= HALF,
        Rounding.toward_positive: delta > 0 and x > 0,
        Rounding.toward_negative: delta > 0 and x < 0,
        Rounding.toward_zero: False,
        Rounding.to_odd: delta > 0 and even,
    }[rounding]
    rounded = (1 if x > 0 else -1) * (math.floor(s) + away) * Fraction(2) ** e
    # Saturate: M^lo ≤ X ≤ M^hi is kept; past them, SatFinite and SatPropagate give M^lo and M^hi;
    # SatNone gives the infinity, where the format is extended and the direction leads there.
    high = Fraction(fmt.max)
    low = -high if fmt.signed else Fraction(0)
    if low <= rounded <= high:
        return rounded
    back = {Rounding.toward_zero, Rounding.toward_positive if x < 0 else Rounding.toward_negative}
    bounded = saturation != "SatNone" or rounding in back or not fmt.infinities
    if x < 0:
        return low if bounded or not fmt.signed else -INF
    return high if bounded else INF


P3109_RULES = {
    Overflow.infinity: "SatNone",
    Overflow.saturate: "SatPropagate",
    Overflow.saturate_infinities: "SatFinite",
}
P3109_MODES = [m for m in MODES if m not in (Rounding.ties_to_zero, Rounding.away_from_zero)]


def p3109_formats(*bits: int) -> list[Format]:
    return [fmt for fmt in catalog.families()["P3109"].values() if fmt.bits in bits]


@pytest.mark.parametrize(
    "fmt",
    [*p3109_formats(3, 4)]
    + [pytest.param(fmt, marks=pytest.mark.slow) for fmt in p3109_formats(5, 6, 7)],
    ids=brief,
)
def test_projection_is_that_of_p3109(fmt: Format) -> None:
    for point, sign, overflow in itertools.product(probes(fmt), (1, -1), P3109_RULES):
        if not (overflow is Overflow.infinity or point > fmt.max or sign < 0):
            continue  # the rules differ only past the range
        x = sign * point
        for rounding in P3109_MODES:
            expected = p3109(x, fmt, rounding, P3109_RULES[overflow])
            if overflow is Overflow.infinity and not fmt.signed and x < 0:
                continue  # NaN here (see Overflow), M^lo = 0 there
            if rounding is Rounding.to_odd and fmt.max_code % 2 and expected == INF:
                expected = Fraction(fmt.max)  # the odd one of the two neighbours
            got = spec.round(x, fmt, rounding, overflow)
            assert got == expected, (x, rounding, overflow)


# Stochastic rounding --------------------------------------------------------------------


def ups(fraction: Fraction, n: int, variant: str, low: Fraction, high: Fraction) -> list[bool]:
    """For every R, whether a value that lies `fraction` up the gap goes to the upper end."""
    x = low + fraction * (high - low)
    results = []
    for r in range(1 << n):
        value, flags = project(x, E4M3FN, Stochastic(n, variant), random_bits=r)
        assert abs(value) in (abs(low), abs(high))
        assert flags & INEXACT or value == x
        results.append(value == high)
    return results


# The number of R, out of 2^N, that go up. The report's rules:
COUNTS: dict[str, Callable[[Fraction, int], int]] = {
    # A: ⌊ν·2^N⌋ + R ≥ 2^N, so as many R as ⌊ν·2^N⌋
    "A": lambda nu, n: math.floor(nu * 2**n),
    # B: ⌊ν·2^(N+1)⌋ + 2R + 1 ≥ 2^(N+1), so ν·2^N rounded to nearest, ties up
    "B": lambda nu, n: math.floor(nu * 2**n + HALF),
    # C: RNE(ν·2^N) + R ≥ 2^N, so ν·2^N rounded to nearest, ties to even
    "C": lambda nu, n: round(nu * 2**n),
}
GAPS = [
    pytest.param(Fraction(1), Fraction(9, 8), id="normal"),
    pytest.param(Fraction(15, 8), Fraction(2), id="to-a-power-of-two"),
    pytest.param(Fraction(-3, 512), Fraction(-4, 512), id="subnormal-negative"),
    pytest.param(Fraction(0), Fraction(1, 512), id="from-zero"),
]


@pytest.mark.parametrize("variant", "ABC")
@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize(("low", "high"), GAPS)
def test_stochastic_probabilities(variant: str, n: int, low: Fraction, high: Fraction) -> None:
    step = Fraction(1, 2**n)
    sixths = [step * k / 6 for k in (1, 2, 3, 4, 5, 7, 9)]  # 3 and 9: ties of ν·2^N
    fractions = {f for s in sixths for f in (s, 1 - s, HALF + s - step)} | {Fraction(1, 3), step}
    for fraction in sorted(f for f in fractions if 0 < f < 1):
        went_up = ups(fraction, n, variant, low, high)
        assert sum(went_up) == COUNTS[variant](fraction, n), fraction
        assert went_up == sorted(went_up), "the larger R, the farther from zero"


@pytest.mark.parametrize("variant", "ABC")
def test_stochastic_leaves_values_of_the_format_alone(variant: str) -> None:
    for code in range(E4M3FN.max_code + 1):
        value = spec.decode(code, E4M3FN)
        for r in range(8):
            assert spec.project(value, E4M3FN, Stochastic(3, variant), random_bits=r) == (
                code,
                NOTHING,
            )


@pytest.mark.parametrize("variant", "ABC")
@pytest.mark.parametrize(
    "fraction", [Fraction(3, 8), Fraction(1, 5), 1 - TINY], ids=["3/8", "1/5", "almost-1"]
)
def test_stochastic_past_the_range(variant: str, fraction: Fraction) -> None:
    # Up is past the range; a share of the gap, of 480 − 448 here.
    x = 448 + 32 * fraction
    n = 3
    ends = [
        spec.round(x, E4M3FN, Stochastic(n, variant), random_bits=r, overflow="nan")
        for r in range(1 << n)
    ]
    assert sum(is_nan(end) for end in ends) == COUNTS[variant](fraction, n)
    assert all(end == 448 for end in ends if not is_nan(end))
    for r in range(1 << n):
        assert is_nan(spec.round(480, E4M3FN, Stochastic(n, variant), random_bits=r))
        assert spec.round(-1e9, E4M3FN, Stochastic(n, variant), "saturate", r) == -448


@pytest.mark.parametrize("variant", "ABC")
def test_stochastic_tininess_after_rounding_uses_the_same_bits(variant: str) -> None:
    # A quarter of a subnormal gap below the smallest normal is half of a gap of full precision.
    x = Fraction(1, 64) - Fraction(1, 512) / 4
    for r in range(4):
        value, flags = project(x, E4M3FN, Stochastic(2, variant), random_bits=r)
        tiny = COUNTS[variant](HALF, 2) + r < 4
        assert value == (Fraction(1, 64) if COUNTS[variant](3 * QUARTER, 2) + r >= 4 else 7 / 512)
        assert flags == (UNDERFLOW if tiny else INEXACT)


@pytest.mark.parametrize(
    "fraction",
    [Fraction(1, 3), Fraction(1, 2**64), HALF, 1 - TINY],
    ids=["1/3", "2^-64", "1/2", "almost-1"],
)
def test_stochastic_without_a_number_of_bits_counts_to_two_to_the_64th(fraction: Fraction) -> None:
    threshold = 2**64 - math.floor(fraction * 2**64)
    for r, up in [(threshold, True), (threshold - 1, False), (2**64 - 1, True), (0, False)]:
        for rounding in (Stochastic(), "stochastic"):
            value = spec.round(2 + fraction, E2M1, rounding, random_bits=r)
            assert value == (3 if up else 2)
    assert spec.round(2 + TINY, E2M1, Stochastic(), random_bits=2**64 - 1) == 2
    # No random bits given: R = 0, which goes up nowhere.
    assert spec.round(3 - TINY, E2M1, Stochastic()) == 2
    assert spec.project(3 - TINY, E2M1, Stochastic())[0] == 4


@pytest.mark.parametrize("number", [np.uint8, np.int64, np.uint64], ids=brief)
def test_random_bits_may_be_numpy_integers(number: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for r in range(8):
            assert spec.round(2.5, E2M1, Stochastic(3), random_bits=number(r)) == 2 + (r >= 4)
        if number is np.uint64:
            r = number(2**63)
            assert spec.round(2.5, E2M1, Stochastic(), random_bits=r) == 3


@pytest.mark.parametrize("x", [2.5, 2.0], ids=["inexact", "exact"])
@pytest.mark.parametrize("bits", [-1, 8, 2**64])
def test_random_bits_out_of_range(x: float, bits: int) -> None:
    with pytest.raises(ValueError, match=rf"random_bits={bits} is out of range.*0 to 2\*\*3-1"):
        spec.project(x, E2M1, Stochastic(3), random_bits=bits)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"bits": 0}, ValueError, ["bits=0", "1 to 32", "None"]),
        ({"bits": 33}, ValueError, ["bits=33", "1 to 32", "None"]),
        ({"bits": 2.0}, TypeError, ["bits=2.0", "not an integer", "None"]),
        ({"bits": True}, TypeError, ["bits=True", "not an integer"]),
        ({"bits": 4, "variant": "D"}, ValueError, ["variant='D'", "'A', 'B', 'C'"]),
        ({"bits": 4, "variant": "a"}, ValueError, ["variant='a'"]),
        ({"variant": "B"}, ValueError, ["variant='B'", "bits=N", "variant='A'"]),
        ({"variant": "C"}, ValueError, ["variant='C'", "bits=N"]),
    ],
    ids=str,
)
def test_invalid_stochastic(
    arguments: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        Stochastic(**arguments)
    for word in words:
        assert word in str(caught.value)


# Past the range, by hand ----------------------------------------------------------------

ANY = "infinity nan saturate saturate_infinities"
UNSATURATED = "infinity nan"
SATURATED = "saturate saturate_infinities"
BY_HAND = [
    # binary16: the largest value is 65504, odd code 7BFF; the next would be 65536, infinity's 7C00
    (BINARY16, 65519.99, "ties_to_even", ANY, 65504, INEXACT),
    (BINARY16, 65520, "ties_to_even", UNSATURATED, INF, OVERFLOW),
    (BINARY16, -65520, "ties_to_even", UNSATURATED, -INF, OVERFLOW),
    (BINARY16, 65520, "ties_to_even", SATURATED, 65504, OVERFLOW),
    (BINARY16, 65520, "ties_to_away", UNSATURATED, INF, OVERFLOW),
    (BINARY16, 65520, "ties_to_zero", ANY, 65504, INEXACT),
    (BINARY16, 65520.01, "ties_to_zero", UNSATURATED, INF, OVERFLOW),
    (BINARY16, 65535, "toward_zero", ANY, 65504, INEXACT),
    (BINARY16, 65536, "toward_zero", ANY, 65504, OVERFLOW),
    (BINARY16, 65535, "toward_negative", ANY, 65504, INEXACT),
    (BINARY16, 1e9, "toward_negative", ANY, 65504, OVERFLOW),
    (BINARY16, -1e9, "toward_negative", UNSATURATED, -INF, OVERFLOW),
    (BINARY16, -1e9, "toward_negative", SATURATED, -65504, OVERFLOW),
    (BINARY16, -1e9, "toward_positive", ANY, -65504, OVERFLOW),
    (BINARY16, 65505, "toward_positive", UNSATURATED, INF, OVERFLOW),
    (BINARY16, 65505, "away_from_zero", UNSATURATED, INF, OVERFLOW),
    (BINARY16, 65505, "away_from_zero", SATURATED, 65504, OVERFLOW),
    (BINARY16, 65535, "to_odd", ANY, 65504, INEXACT),
    (BINARY16, 65536, "to_odd", ANY, 65504, OVERFLOW),
    (BINARY16, INF, "toward_zero", "infinity nan saturate", INF, NOTHING),
    (BINARY16, -INF, "ties_to_even", "infinity nan saturate", -INF, NOTHING),
    (BINARY16, -INF, "ties_to_even", "saturate_infinities", -65504, OVERFLOW),
    # E4M3FN: the largest value is 448, even code 7E; the next would be 480, NaN's 7F; no infinity
    (E4M3FN, 464, "ties_to_even", ANY, 448, INEXACT),
    (E4M3FN, 464.001, "ties_to_even", "nan", NAN, OVERFLOW),
    (E4M3FN, 464.001, "ties_to_even", "infinity", 448, OVERFLOW),
    (E4M3FN, 464.001, "ties_to_even", SATURATED, 448, OVERFLOW),
    (E4M3FN, 464, "ties_to_away", "nan", NAN, OVERFLOW),
    (E4M3FN, 464, "ties_to_zero", ANY, 448, INEXACT),
    (E4M3FN, 1e9, "toward_zero", ANY, 448, OVERFLOW),
    (E4M3FN, 449, "toward_zero", ANY, 448, INEXACT),
    (E4M3FN, 1e9, "toward_negative", ANY, 448, OVERFLOW),
    (E4M3FN, -1e9, "toward_positive", ANY, -448, OVERFLOW),
    (E4M3FN, -1e9, "toward_negative", "nan", NAN, OVERFLOW),
    (E4M3FN, -1e9, "toward_negative", "infinity saturate", -448, OVERFLOW),
    (E4M3FN, 449, "away_from_zero", "nan", NAN, OVERFLOW),
    (E4M3FN, 449, "to_odd", "nan", NAN, OVERFLOW),
    (E4M3FN, 449, "to_odd", "infinity saturate saturate_infinities", 448, OVERFLOW),
    (E4M3FN, -1e9, "to_odd", "nan", NAN, OVERFLOW),
    (E4M3FN, INF, "ties_to_even", "nan", NAN, INVALID),
    (E4M3FN, INF, "toward_zero", "nan", NAN, INVALID),
    (E4M3FN, -INF, "ties_to_even", "infinity saturate saturate_infinities", -448, OVERFLOW),
    (E4M3FN, NAN, "toward_zero", ANY, NAN, NOTHING),
    # E5M2FNUZ: the largest value is 57344, odd code 7F; NaN in the place of −0
    (E5M2FNUZ, 61440, "ties_to_even", "nan", NAN, OVERFLOW),
    (E5M2FNUZ, -61439, "ties_to_even", ANY, -57344, INEXACT),
    (E5M2FNUZ, -1e9, "to_odd", ANY, -57344, OVERFLOW),
    (E5M2FNUZ, -0.0, "ties_to_even", ANY, Fraction(0), NOTHING),
    (E5M2FNUZ, -1e-9, "ties_to_even", ANY, Fraction(0), UNDERFLOW),
    (E5M2FNUZ, -1e-9, "toward_negative", ANY, Fraction(-1, 2**17), UNDERFLOW),
    # E2M1: the largest value is 6, odd code 7; the next would be 8; neither infinity nor NaN
    (E2M1, 7, "ties_to_even", ANY, 6, OVERFLOW),
    (E2M1, 6.99, "ties_to_even", ANY, 6, INEXACT),
    (E2M1, 7, "ties_to_zero", ANY, 6, INEXACT),
    (E2M1, -1e9, "away_from_zero", ANY, -6, OVERFLOW),
    (E2M1, -INF, "ties_to_even", ANY, -6, OVERFLOW),
    # an infinity, and no NaN: 448 is the largest value, 7F infinity
    (INFINITY_WITHOUT_NAN, 1e9, "ties_to_even", UNSATURATED, INF, OVERFLOW),
    (INFINITY_WITHOUT_NAN, 1e9, "to_odd", UNSATURATED, INF, OVERFLOW),
    (INFINITY_WITHOUT_NAN, -INF, "to_odd", "saturate_infinities", -448, OVERFLOW),
    # P3109 extended: 224 is the largest value, even code 7E; the next would be 240
    (P4SE, 232, "ties_to_even", ANY, 224, INEXACT),
    (P4SE, 232.1, "ties_to_even", UNSATURATED, INF, OVERFLOW),
    (P4SE, -1e9, "ties_to_even", SATURATED, -224, OVERFLOW),
    (P4SE, 1e9, "to_odd", UNSATURATED, INF, OVERFLOW),
    (P4SE, INF, "ties_to_even", "saturate", INF, NOTHING),
    (P4SE, INF, "ties_to_even", "saturate_infinities", 224, OVERFLOW),
    (P4SE, -0.0, "ties_to_even", ANY, Fraction(0), NOTHING),
    # P3109 finite: SatNone gives the largest value
    (P3SF, 1e9, "ties_to_even", "infinity", 57344, OVERFLOW),
    (P3SF, 1e9, "ties_to_even", "nan", NAN, OVERFLOW),
    (P3SF, -INF, "ties_to_even", "infinity saturate", -57344, OVERFLOW),
    # unsigned: what rounds below zero is NaN, or 0 where saturating
    (P3UE, -5, "ties_to_even", UNSATURATED, NAN, INVALID),
    (P3UE, -5, "ties_to_even", SATURATED, Fraction(0), INVALID),
    (P3UE, -INF, "toward_zero", UNSATURATED, NAN, INVALID),
    (P3UE, -INF, "toward_zero", SATURATED, Fraction(0), INVALID),
    (P3UE, -0.0, "toward_negative", ANY, Fraction(0), NOTHING),
    (P3UE, -1e-30, "ties_to_even", ANY, Fraction(0), UNDERFLOW),
    (P3UE, -1e-30, "toward_zero", ANY, Fraction(0), UNDERFLOW),
    (P3UE, -1e-30, "toward_positive", ANY, Fraction(0), UNDERFLOW),
    (P3UE, -1e-30, "toward_negative", UNSATURATED, NAN, INVALID),
    (P3UE, -1e-30, "toward_negative", SATURATED, Fraction(0), INVALID),
    (P3UE, -1e-30, "away_from_zero", UNSATURATED, NAN, INVALID),
    (P3UE, -1e-30, "to_odd", UNSATURATED, NAN, INVALID),
    (P3UE, -(2.0**-34), "ties_to_even", ANY, Fraction(0), UNDERFLOW),  # half the smallest value
    (P3UE, -(2.0**-34), "ties_to_away", UNSATURATED, NAN, INVALID),
    (P3UE, 1e-30, "toward_positive", ANY, Fraction(1, 2**33), UNDERFLOW),
    (P3UE, 1e30, "ties_to_even", UNSATURATED, INF, OVERFLOW),
    (P3UE, 1e30, "to_odd", ANY, Fraction(5, 4) * 2**31, OVERFLOW),  # odd code FD
    (UNSIGNED_FINITE, -5, "ties_to_even", ANY, Fraction(0), INVALID),
    (UNSIGNED_FINITE, 1e9, "ties_to_even", ANY, 480, OVERFLOW),
    # no zero: it is NaN, or the smallest value where saturating or without a NaN
    (E8M0, 0, "ties_to_even", UNSATURATED, NAN, INVALID),
    (E8M0, 0, "ties_to_even", SATURATED, Fraction(1, 2**127), INVALID),
    (E8M0, -0.0, "ties_to_even", SATURATED, Fraction(1, 2**127), INVALID),
    (E8M0, -1, "ties_to_even", UNSATURATED, NAN, INVALID),
    (E8M0, -1, "ties_to_even", SATURATED, Fraction(1, 2**127), INVALID),
    (E8M0, -1e-300, "toward_zero", UNSATURATED, NAN, INVALID),
    (E8M0, 1e-300, "toward_zero", ANY, Fraction(1, 2**127), UNDERFLOW),
    (E8M0, 1e300, "ties_to_even", "nan", NAN, OVERFLOW),
    (E8M0, 1e300, "ties_to_even", "infinity saturate", Fraction(2**127), OVERFLOW),
    (E8M0, INF, "ties_to_even", "nan", NAN, INVALID),
    (E8M0, Fraction(3 * 2**126), "ties_to_even", ANY, Fraction(2**127), INEXACT),  # code FE is even
    (E8M0, 6, "ties_to_even", ANY, 8, INEXACT),  # 4 has code 81, 8 has 82
    (E8M0, 3, "ties_to_even", ANY, 2, INEXACT),  # 2 has code 80
    (SIGNED_WITHOUT_ZERO, 0, "ties_to_even", ANY, Fraction(1, 8), INVALID),
    (SIGNED_WITHOUT_ZERO, -0.0, "ties_to_even", ANY, Fraction(1, 8), INVALID),
    (SIGNED_WITHOUT_ZERO, -1e-9, "toward_positive", ANY, Fraction(-1, 8), UNDERFLOW),
    # no subnormals: 0 and what is from 1/64 up; 0 is even and below
    (WITHOUT_SUBNORMALS, 0.6 / 64, "ties_to_even", ANY, Fraction(1, 64), UNDERFLOW),
    (WITHOUT_SUBNORMALS, 0.5 / 64, "ties_to_even", ANY, Fraction(0), UNDERFLOW),
    (WITHOUT_SUBNORMALS, -0.5 / 64, "ties_to_even", ANY, -0.0, UNDERFLOW),
    (WITHOUT_SUBNORMALS, -0.5 / 64, "ties_to_away", ANY, Fraction(-1, 64), UNDERFLOW),
    (WITHOUT_SUBNORMALS, 1e-9, "to_odd", ANY, Fraction(1, 64), UNDERFLOW),
    (WITHOUT_SUBNORMALS, 0.99 / 64, "toward_zero", ANY, Fraction(0), UNDERFLOW),
    (WITHOUT_SUBNORMALS, 1e-9, "toward_positive", ANY, Fraction(1, 64), UNDERFLOW),
]


@pytest.mark.parametrize(
    ("fmt", "x", "rounding", "overflow", "value", "flags"),
    [(f, x, r, rule, v, flags) for f, x, r, rs, v, flags in BY_HAND for rule in rs.split()],
    ids=brief,
)
def test_by_hand(
    fmt: Format, x: Any, rounding: str, overflow: str, value: Any, flags: Flag
) -> None:
    assert_projects(x, fmt, rounding, overflow, value, flags)


# Faults of other libraries --------------------------------------------------------------


def test_doubles_into_fp8_are_rounded_once() -> None:
    # By way of float32 it would be −400, a tie, and then −384.
    assert spec.round(-400.00000000000006, E4M3FN) == -416


@pytest.mark.parametrize("x", [65536, 70000, 131071, 65520])
def test_past_the_largest_value_of_binary16_is_infinity(x: int) -> None:
    assert spec.round(x, BINARY16, "ties_to_even", "infinity") == INF


@pytest.mark.parametrize(
    ("rounding", "ties"),
    [
        ("ties_to_even", [0, 2, 2, 4, 4, 4]),
        ("ties_to_away", [1, 2, 3, 4, 5, 6]),
        ("ties_to_zero", [0, 1, 2, 3, 4, 4]),
    ],
)
def test_ties_between_subnormals_and_normals(rounding: str, ties: list[int]) -> None:
    # In units of the smallest subnormal of 1-3-2: halves between 0 and 4, then 4.5 and 5.
    unit = Fraction(1, 16)
    fmt = Format(3, 2)
    halves = [HALF, 3 * HALF, 5 * HALF, 7 * HALF, 9 * HALF]
    for half, expected in zip(halves, ties, strict=False):
        for sign in (1, -1):
            assert abs(spec.round(sign * half * unit, fmt, rounding)) == expected * unit
            below, above = math.floor(half), math.ceil(half)
            assert abs(spec.round(sign * (half - TINY) * unit, fmt, rounding)) == below * unit
            assert abs(spec.round(sign * (half + TINY) * unit, fmt, rounding)) == above * unit


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16, E4M3FN, E5M2, E2M1], ids=brief)
@pytest.mark.parametrize("rounding", MODES)
def test_minus_zero_is_kept(fmt: Format, rounding: Rounding) -> None:
    assert_projects(-0.0, fmt, rounding, "nan", -0.0, NOTHING)
    tiny = -Fraction(fmt.smallest) / 1000
    down = {Rounding.toward_negative, Rounding.away_from_zero, Rounding.to_odd}
    value = -Fraction(fmt.smallest) if rounding in down else -0.0
    assert_projects(tiny, fmt, rounding, "nan", value, UNDERFLOW)


@pytest.mark.parametrize("fmt", [BINARY16, E4M3FN, E5M2, E2M1], ids=brief)
def test_between_the_largest_subnormal_and_the_smallest_normal_nothing_is_lost(fmt: Format) -> None:
    low, high = Fraction(fmt.min_normal) - Fraction(fmt.smallest), Fraction(fmt.min_normal)
    for part in (Fraction(1, 10), QUARTER, Fraction(4, 9)):
        assert spec.round(low + part * (high - low), fmt) == low
        assert spec.round(high - part * (high - low), fmt) == high


def test_the_number_below_the_smallest_tie_is_not_rounded_up() -> None:
    # floor(|x| + 0.5) would round it up: the sum is a tie in binary64.
    below_half = math.nextafter(0.5, 0)
    integers = Format(2, 4, -2, **FINITE)  # subnormals 1, 2, 3 …
    assert integers.smallest == 0.5
    assert spec.round(below_half / 2, integers) == 0
    assert spec.round(math.nextafter(0.25, 1), integers) == 0.5


def test_an_unsigned_format_has_no_negative_values() -> None:
    for x, rounding, overflow in itertools.product((-5, -0.0, -1e-300, -INF), MODES, RULES):
        value = spec.round(x, P3UE, rounding, overflow)
        assert is_nan(value) or (value >= 0 and not is_negative(value))


@pytest.mark.parametrize("rounding", MODES)
def test_e8m0_stays_among_powers_of_two(rounding: Rounding) -> None:
    for exponent, part in itertools.product((-400, -128, -127, -1, 0, 127, 128, 900), range(1, 8)):
        value = spec.round(part * 2.0**exponent, E8M0, rounding, "infinity")
        assert Fraction(1, 2**127) <= value <= 2**127
        assert 1 in (Fraction(value).numerator, Fraction(value).denominator)
        assert abs(value).numerator.bit_count() == 1


@pytest.mark.parametrize("fmt", [E4M3FN, E5M2, E2M1, P3SE], ids=brief)
def test_to_odd_leaves_values_alone_and_makes_the_rest_odd(fmt: Format) -> None:
    for code in range(fmt.max_code):
        low, high = spec.value_at(code, fmt), spec.value_at(code + 1, fmt)
        assert spec.project(low, fmt, "to_odd") == (code, NOTHING)
        for part in (TINY, QUARTER, HALF, 1 - TINY):
            odd = code if code % 2 else code + 1
            assert spec.project(low + part * (high - low), fmt, "to_odd")[0] == odd


def test_formats_that_differ_in_their_specials_only_differ_in_their_largest_value() -> None:
    largest = {"float8_e4m3": 240, "float8_e4m3fn": 448, "e4m3f": 480, "binary8p4se": 224}
    for name, value in largest.items():
        assert spec.round(1e9, name, overflow="saturate") == value


# Arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"rounding": "nearest"}, ["rounding='nearest'", "'ties_to_even'", "'stochastic'"]),
        ({"rounding": None}, ["rounding=None", "'ties_to_even'"]),
        ({"overflow": "clamp"}, ["overflow='clamp'", "'saturate'", "'infinity'", "'nan'"]),
        ({"overflow": None}, ["overflow=None", "'saturate'"]),
        ({"tininess": "sometimes"}, ["tininess='sometimes'", "'after'", "'before'"]),
    ],
    ids=str,
)
def test_invalid_arguments(keywords: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match="is not one of") as caught:
        spec.project(0.3, E4M3FN, **keywords)
    for word in words:
        assert word in str(caught.value)


def test_arguments_may_be_names_or_members() -> None:
    expected = spec.project(-3.3, E4M3FN, Rounding.toward_negative, Overflow.saturate)
    assert spec.project(-3.3, "float8_e4m3fn", "toward_negative", "saturate") == expected
    assert spec.project(-3.3, ml_dtypes.float8_e4m3fn, "toward_negative", "saturate") == expected
    assert spec.round(-3.3, E4M3FN, "toward_negative") == -3.5


def test_floats_are_taken_at_their_exact_value() -> None:
    single = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    wide = Format(8, 40)
    assert spec.round(np.float32(0.1), wide) == Fraction(single)
    assert spec.round(0.1, wide) != Fraction(0.1)
