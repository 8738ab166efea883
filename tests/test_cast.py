"""round, encode, decode against the specification, on every path through the kernels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Format, Overflow, Rounding, Stochastic, spec

DETERMINISTIC = list(Rounding)
OVERFLOWS = list(Overflow)

# Formats that between them take every path: specials, signs, zeros, subnormals, precision 1,
# all-subnormal, and binades below and far above the normal range of float32 and float64.
SMALL = [
    "e4m3",
    "e5m2",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e8m0fnu",
    "float6_e3m2fn",
    "float6_e2m3fn",
    "float4_e2m1fn",
    "binary8p3se",
    "binary8p1se",
    "binary8p1ue",
    "binary6p3ue",
    "binary5p2sf",
    "binary4p4uf",
    "e3m0",
    "e3m0f",
    "e1m2",
    "e1m3f",
    "ue3m2f,subnormals=false",
    "e3m2,subnormals=false",
    "e3m0f,subnormals=false",
    "e3m2f,zero=false",
    "ue3m1fn,zero=false",
    "e3m2b130f",
    "e3m2b-115",
    "e4m1b126fnuz",
    "ue2m3b135f",
]
WIDE_BIAS = [
    "e3m2b1000f",
    "e3m2b-1000",
    "binary12p1se",
    "binary13p2se",
    "e4m3b1000,subnormals=false",
]


@np.errstate(over="ignore")
def decision_points(fmt: Format, dtype: type) -> np.ndarray:
    """Every value, every midpoint, and their neighbours in `dtype`; the ends, and specials."""
    codes = range(1 << fmt.bits)
    values = sorted(
        {v for v in (spec.decode(c, fmt) for c in codes) if math.isfinite(v) and v >= 0}
    )
    top = spec.value_at(fmt.max_code + 1, fmt), spec.value_at(fmt.max_code + 2, fmt)
    values = sorted({*values, *top, 0})
    middles = [(a + b) / 2 for a, b in itertools.pairwise(values)]
    quarters = [(3 * a + b) / 4 for a, b in itertools.pairwise(values)]
    points = np.array([float(v) for v in values + middles + quarters], dtype)
    smallest = float(values[1])
    points = np.concatenate([points, np.array([smallest / 2**20, smallest / 2**70], dtype)])
    info = np.finfo(dtype)
    ends = np.array([info.smallest_subnormal, info.smallest_normal, info.max, np.inf], dtype)
    with np.errstate(over="ignore"):
        around = [points, np.nextafter(points, dtype(0)), np.nextafter(points, dtype(np.inf)), ends]
    positive = np.unique(np.concatenate(around))
    return np.concatenate([positive, -positive, np.array([np.nan], dtype)])


@np.errstate(over="ignore")
def check(x: np.ndarray, fmt: Format, **options: object) -> None:
    """Compare values, codes and flags with the specification, element by element."""
    words = options.pop("words", None)
    if words is not None:
        options["random_bits"] = words
    rounding = options.get("rounding", "ties_to_even")
    overflow = options.get("overflow", "nan")
    expected = [
        spec.project(v, fmt, rounding, overflow, 0 if words is None else int(words[i]))
        for i, v in enumerate(x)
    ]
    flags = np.zeros(x.shape, np.uint8)
    codes = fpsim.encode(x, fmt, flags=flags, **options)
    want = np.array([c for c, _ in expected], fmt.code_dtype)
    wrong = np.flatnonzero(codes != want)
    assert not wrong.size, (x[wrong[0]], codes[wrong[0]], want[wrong[0]])
    want_flags = np.array([f for _, f in expected], np.uint8)
    wrong = np.flatnonzero(flags != want_flags)
    assert not wrong.size, (x[wrong[0]], flags[wrong[0]], want_flags[wrong[0]])
    if Format.parse(x.dtype).contains(fmt):
        values = fpsim.round(x, fmt, **options)
        exact = np.array([float(spec.decode(int(c), fmt)) for c in want], x.dtype)
        assert np.array_equal(values, exact, equal_nan=True)
        number = ~np.isnan(exact)
        assert np.array_equal(np.signbit(values[number]), np.signbit(exact[number]))


def _without_nan(x: np.ndarray, fmt: Format) -> np.ndarray:
    return x[~np.isnan(x)] if fmt.nan_code is None else x


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_mode_and_overflow_rule_at_every_decision_point(name: str, dtype: type) -> None:
    fmt = Format.parse(name)
    x = _without_nan(decision_points(fmt, dtype), fmt)
    if fmt.bits > 6:  # the rules matter at the ends only: every rule there, the default inside
        order = np.argsort(np.abs(x), kind="stable")
        ends = np.concatenate([x[order[:40]], x[order[-60:]]])
    else:
        ends = x
    for rounding in DETERMINISTIC:
        check(x, fmt, rounding=rounding)
        for overflow in OVERFLOWS:
            check(ends, fmt, rounding=rounding, overflow=overflow)


@pytest.mark.parametrize("name", WIDE_BIAS)
def test_formats_at_the_edges_of_binary64(name: str) -> None:
    fmt = Format.parse(name)
    x = decision_points(fmt, np.float64) if fmt.bits <= 8 else None
    if x is None:
        codes = np.r_[0:200, fmt.max_code - 200 : fmt.max_code + 1]
        values = np.array([float(spec.decode(int(c), fmt)) for c in codes])
        middles = values[:-1] / 2 + values[1:] / 2
        x = np.concatenate([values, middles, np.nextafter(middles, 0), -values, [5e-324, np.inf]])
    x = _without_nan(x, fmt)
    for rounding in DETERMINISTIC:
        check(x, fmt, rounding=rounding)


@pytest.mark.parametrize("exponent_bits", [6, 7, 8])
@pytest.mark.parametrize("short", [0, 1, 2])
@pytest.mark.parametrize("subnormals", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_formats_nearly_as_precise_as_the_dtype(
    exponent_bits: int, short: int, subnormals: bool, dtype: type
) -> None:
    """Below their normal range bits go that the normal range has no place to discard."""
    wide = 3 if dtype is np.float64 else 0
    stored = np.finfo(dtype).nmant
    fmt = Format(exponent_bits + wide, stored - short, subnormals=subnormals)
    rng = np.random.default_rng(short)
    significand = rng.integers(1 << stored, 2 << stored, 400)
    significand[:200] &= -(1 << (stored - 3))  # few bits, for ties
    exponent = fmt.emin - stored + rng.integers(-stored - 3, 2, 400)
    with np.errstate(under="ignore"):
        x = np.ldexp(significand.astype(np.float64), exponent).astype(dtype)
    x = np.concatenate([x, -x, np.array([0.0, np.finfo(dtype).smallest_subnormal], dtype)])
    for rounding in DETERMINISTIC:
        check(x, fmt, rounding=rounding)


@pytest.mark.parametrize(
    "name",
    ["float8_e4m3fn", "e3m2b130f", "float8_e8m0fnu", "e2m1f,subnormals=false", "binary6p3ue"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", "ABC")
@pytest.mark.parametrize("bits", [1, 2, 5, 30, 31, 32])
def test_stochastic_with_given_bits(name: str, dtype: type, variant: str, bits: int) -> None:
    fmt = Format.parse(name)
    x = _without_nan(decision_points(fmt, dtype), fmt)
    rng = np.random.default_rng(bits)
    top = (1 << bits) - 1
    for words in (
        np.zeros(x.size, np.int64),
        np.full(x.size, top),
        rng.integers(0, top, x.size, endpoint=True),
        np.full(x.size, max(top // 2, 0)),
    ):
        check(x, fmt, rounding=Stochastic(bits, variant), words=words)


def test_stochastic_where_32_bit_lanes_cannot_tell() -> None:
    """Random words that agree with the fraction in the lane's 32 bits and differ beyond."""
    fmt = Format.parse("float8_e4m3fn")
    rng = np.random.default_rng(0)
    x = (rng.uniform(1, 2, 500) * 2.0 ** rng.integers(-80, -9, 500)).astype(np.float32)
    for rounding, n in ((Stochastic(), 64), (Stochastic(32, "B"), 32), (Stochastic(31, "C"), 31)):
        fraction = [fpsim.spec.exact(v) / fpsim.spec.exact(2.0**-9) for v in x]
        critical = [(1 << n) - int(f * (1 << n)) for f in fraction]
        for nudge in (-2, -1, 0, 1):
            words = np.array([min(max(c + nudge, 0), (1 << n) - 1) for c in critical], np.uint64)
            check(x, fmt, rounding=rounding, words=words)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_format_any_float64(data: st.DataObject) -> None:
    exponent_bits = data.draw(st.integers(1, 11))
    mantissa_bits = data.draw(st.integers(0, 52))
    nans = data.draw(st.sampled_from(["ieee", "all_ones", "negative_zero", "none"]))
    try:
        fmt = Format(
            exponent_bits,
            mantissa_bits,
            bias=data.draw(st.none() | st.integers(-1000, 1000)),
            signed=data.draw(st.booleans()),
            subnormals=data.draw(st.booleans()),
            infinities=nans == "ieee" or data.draw(st.booleans()),
            nans=nans,
            zero=data.draw(st.booleans()),
        )
        fmt.require_binary64()
    except ValueError:
        return
    e = st.integers(max(fmt.emin - 60, -1074), min(fmt.emax + 3, 1023))
    near = st.builds(lambda m, k: math.ldexp(m, k), st.floats(-2, 2), e)
    anywhere = st.floats(allow_nan=fmt.nan_code is not None)
    code = st.integers(0, max(fmt.max_code - 1, 0))
    midpoint = code.map(lambda c: float(spec.value_at(c, fmt) / 2 + spec.value_at(c + 1, fmt) / 2))
    x = np.array(data.draw(st.lists(near | anywhere | midpoint, min_size=1, max_size=8)))
    rounding = data.draw(st.sampled_from(DETERMINISTIC))
    overflow = data.draw(st.sampled_from(OVERFLOWS))
    check(x, fmt, rounding=rounding, overflow=overflow)
    if mantissa_bits <= 23:
        with np.errstate(over="ignore"):
            narrow = x.astype(np.float32)
        check(narrow, fmt, rounding=rounding, overflow=overflow)
    n = data.draw(st.none() | st.integers(1, 32))
    stochastic = Stochastic() if n is None else Stochastic(n, data.draw(st.sampled_from("ABC")))
    words = data.draw(
        st.lists(st.integers(0, (1 << (n or 64)) - 1), min_size=x.size, max_size=x.size)
    )
    check(x, fmt, rounding=stochastic, overflow=overflow, words=np.array(words, np.uint64))
