"""measured_error by emulation, against sums in exact rationals over the specification's values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Format, Metric, Stochastic, Stream, spec
from fpsim.analysis.measure import measured_summary

METRICS = list(Metric)


def root(x: Fraction) -> float:
    """Square root of a rational of any size."""
    shift = (x.numerator.bit_length() - x.denominator.bit_length()) // 2
    return math.ldexp(math.sqrt(x / Fraction(4) ** shift), shift)


def exact_errors(
    x: Sequence[float],
    fmt: Any,
    scale: float = 1.0,
    words: Sequence[int] | None = None,
    **options: Any,
) -> dict[str, float]:
    """Every metric by its definition, with q and x as rationals (q over the scale)."""
    pairs = []
    scaled = [v * scale for v in x]
    for i, y in enumerate(scaled):
        if not math.isfinite(x[i]) or x[i] == 0:
            continue
        word = 0 if words is None else words[i]
        q = spec.round(y, fmt, random_bits=word, overflow="saturate", **options)
        # Errors over the scale are those of the scaled data: the metrics have no unit.
        pairs.append((abs(Fraction(y)), Fraction(q) * (1 if y > 0 else -1)))
    n = len(pairs)
    xx, qq = sum(x * x for x, _ in pairs), sum(q * q for _, q in pairs)
    errors = sum((q - x) ** 2 for x, q in pairs)
    past = Fraction(Format.parse(fmt).max)
    nmse = Fraction(errors, xx) if isinstance(errors, int) else errors / xx
    largest_step = Fraction(float(Format.parse(fmt).ulp(float(past))))
    return {
        "relative": float(sum(abs(q - x) / x for x, q in pairs) / n),
        "nmse": float(nmse),
        "sqnr": -10 * math.log10(nmse) if float(nmse) else math.inf,
        "bias": float(sum(q for _, q in pairs) / sum(x for x, _ in pairs) - 1),
        "cosine": (
            float(sum(q * x for x, q in pairs) / (Fraction(root(xx)) * Fraction(root(qq))))
            if qq
            else 0.0
        ),
        "underflow": sum(q == 0 for _, q in pairs) / n,
        "overflow": sum(x > past + largest_step / 2 for x, _ in pairs) / n,
    }


def check(x: Sequence[float], fmt: Any, scale: float = 1.0, **options: Any) -> None:
    want = exact_errors(x, fmt, scale, **options)
    got = measured_summary(np.array(x), fmt, scale, **options)
    for metric in METRICS:
        tolerance: dict[str, Any] = {"rel": 1e-12, "abs": 1e-15, "nan_ok": True}
        if metric == "sqnr":
            tolerance |= {"rel": 1e-10, "abs": 1e-9}
        assert got.value(metric) == pytest.approx(want[metric], **tolerance), metric
        alone = fpsim.measured_error(np.array(x), fmt, scale, metric, **options)
        assert alone == pytest.approx(want[metric], **tolerance), metric
    assert got.underflow == want["underflow"]
    assert got.overflow == want["overflow"]


FORMATS = ["e4m3", "float8_e4m3fn", "float4_e2m1fn", "e5m2", "binary16", "e3m0f", "e1m4f"]


@pytest.mark.parametrize("fmt", [*FORMATS, "e3m2,subnormals=false", "binary8p3se"])
@pytest.mark.parametrize("scale", [1.0, 64.0, 0.3])
def test_every_metric_of_random_data(fmt: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.lognormal(-1, 3, 300) * rng.choice([-1, 1], 300)
    check([*x.tolist(), 0.0, -0.0, math.nan, math.inf, -math.inf], fmt, scale)


@pytest.mark.parametrize("rounding", list(fpsim.Rounding))
def test_every_mode(rounding: fpsim.Rounding) -> None:
    """Signs matter to the directed ones: errors are those of magnitudes all the same."""
    rng = np.random.default_rng(1)
    # Within the range: past it, directed modes saturate where nearest ones would overflow.
    x = rng.lognormal(-1, 1, 200).clip(0, 400) * rng.choice([-1, 1], 200)
    check(x.tolist(), "float8_e4m3fn", rounding=rounding)


def test_by_hand() -> None:
    # E2M1 has 0, 0.5, 1, 1.5, 2, 3, 4, 6. 1.2 goes to 1, -5.5 to -6, 0.1 to 0, 100 to 6.
    x = [1.2, -5.5, 0.1, 100.0, 0.0]
    summary = measured_summary(x, "float4_e2m1fn")
    assert summary.relative == pytest.approx((0.2 / 1.2 + 0.5 / 5.5 + 1 + 94 / 100) / 4)
    squares = 1.2**2 + 5.5**2 + 0.1**2 + 100**2
    assert summary.nmse == pytest.approx((0.2**2 + 0.5**2 + 0.1**2 + 94**2) / squares)
    assert summary.sqnr == pytest.approx(-10 * math.log10(summary.nmse))
    assert summary.bias == pytest.approx((1 + 6 + 0 + 6) / (1.2 + 5.5 + 0.1 + 100) - 1)
    cosine = (1.2 + 33 + 600) / math.sqrt(squares * (1 + 36 + 36))
    assert summary.cosine == pytest.approx(cosine)
    assert (summary.underflow, summary.overflow) == (0.25, 0.25)


def test_scale_multiplies_x() -> None:
    x = np.array([0.3, -1.7, 5.0])
    for scale in (2.0**-20, 0.5, 8.0, 2.0**40):
        scaled = measured_summary(x * scale, "float8_e4m3fn")
        assert measured_summary(x, "float8_e4m3fn", scale) == scaled
    # A scale undoes itself where a bias does the same: 2^4 is four more.
    biased = measured_summary(x, "float8_e4m3fn,bias=11")
    assert biased == measured_summary(x, "float8_e4m3fn", 16.0)


def test_what_is_left_out_and_what_changes_nothing() -> None:
    x = np.array([0.3, -1.7, 5.0, 1e-9])
    padded = np.array([math.nan, 0.3, -0.0, -1.7, math.inf, 5.0, -math.inf, 0.0, 1e-9])
    assert measured_summary(padded, "e4m3") == measured_summary(x, "e4m3")
    # Also where the format has no NaN and no zero.
    for fmt in ("float4_e2m1fn", "float8_e8m0fnu"):
        positive = np.abs(padded)
        assert measured_summary(positive, fmt) == measured_summary(np.abs(x), fmt)


def test_shapes_dtypes_and_layouts() -> None:
    x = np.random.default_rng(0).lognormal(0, 2, (6, 7, 8)).astype(np.float32)
    want = measured_summary(x, "e4m3")
    for same in (x.ravel(), x.astype(np.float64), x.astype(">f4"), x[::1].tolist(), x.copy()):
        assert measured_summary(same, "e4m3") == want
    for reordered in (np.asfortranarray(x), x.transpose(2, 0, 1), x[::-1], x[:, ::-1, ::-1]):
        got = measured_summary(reordered, "e4m3")
        for metric in METRICS:
            assert got.value(metric) == pytest.approx(want.value(metric), rel=1e-13)
    assert measured_summary(3, "float4_e2m1fn").relative == 0
    assert measured_summary(np.float16(0.3), "float4_e2m1fn").relative == pytest.approx(
        0.5 / float(np.float16(0.3)) - 1
    )


def test_large_arrays_are_the_sum_of_their_parts() -> None:
    x = np.random.default_rng(0).lognormal(-3, 3, 500_001).astype(np.float32)
    x[::7] = 0
    whole = measured_summary(x, "float8_e4m3fn", 4.0)
    y = np.float64(4.0) * x[x != 0].astype(np.float64)
    q = fpsim.round(y, "float8_e4m3fn", overflow="saturate")
    assert whole.relative == pytest.approx(float(np.mean(np.abs(q - y) / y)), rel=1e-12)
    assert whole.nmse == pytest.approx(float(np.sum((q - y) ** 2) / np.sum(y**2)), rel=1e-12)
    assert whole.bias == pytest.approx(float(np.sum(q) / np.sum(y) - 1), rel=1e-9)
    assert whole.underflow == np.mean(q == 0)
    assert whole.overflow == np.mean(y > 464)


# Ranges where squares leave binary64 ------------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-300, 1e-200, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("more", [[], [0.0], [math.nan, math.inf]], ids=["", "zero", "special"])
def test_squares_neither_overflow_nor_underflow(factor: float, more: list[float]) -> None:
    x = [1.1 * factor, -2.7 * factor, 1.3 * factor]
    check([*x, *more], "e11m2")


def test_far_apart_magnitudes() -> None:
    check([1e-300, 3e-290, 7.0, 1.1e200, 3e300], "e11m2")
    check([1e-300, 3e-290, 0.0, 7.0], "e11m2")
    spread = np.zeros(200_000)
    spread[0], spread[199_999] = 1.1e-200, 1.3e-200  # in different chunks, zeros between
    check_far = measured_summary(spread, "e11m2")
    want = exact_errors([1.1e-200, 1.3e-200], "e11m2")
    assert check_far.nmse == pytest.approx(want["nmse"], rel=1e-12)
    assert check_far.relative == pytest.approx(want["relative"], rel=1e-12)


@pytest.mark.parametrize("x", [[5e-324], [5e-324, 0.0], [5e-324, 1e-323, 2.5e-310]])
def test_subnormal_data(x: list[float]) -> None:
    summary = measured_summary(x, "binary64")
    assert summary.relative == 0
    assert summary.nmse == 0
    assert summary.cosine == pytest.approx(1)
    # e11m2 has steps of 2^-1024 below: all of this is flushed.
    summary = measured_summary(x, "e11m2")
    assert summary.relative == 1
    assert summary.nmse == 1
    assert summary.underflow == 1


def test_products_with_the_scale_that_leave_binary64() -> None:
    lost = measured_summary([1e-300, 1e-300], "e4m3", 1e-300)  # x * scale is 0
    assert lost.relative == 1
    assert lost.underflow == 1
    clipped = measured_summary([1e300], "float8_e4m3fn", 1e300)  # x * scale is infinite
    assert clipped.overflow == 1
    assert clipped.relative >= 1  # all is lost, or infinitely far from an infinite product


def test_everything_flushed() -> None:
    """Nothing is left to compare directions with: 0, as the exact sums say."""
    summary = measured_summary([1e-9, -2e-9], "float4_e2m1fn")
    assert (summary.relative, summary.nmse, summary.sqnr, summary.bias) == (1, 1, 0, -1)
    assert summary.cosine == fpsim.Lognormal(-20.0, 0.0).expected_error(
        "float4_e2m1fn", metric="cosine"
    )


# Overflow and rounding --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmt", "overflow", "infinite"),
    [
        ("float8_e4m3fn", "nan", True),  # NaN
        ("float8_e4m3", "infinity", True),
        ("float8_e4m3", "nan", True),
        ("float4_e2m1fn", "nan", False),  # neither NaN nor infinity: the largest value
        ("float8_e4m3fn", "infinity", False),
        ("float8_e4m3", "saturate", False),
    ],
)
def test_elements_that_become_infinite_or_nan(fmt: str, overflow: str, infinite: bool) -> None:
    x = [1.0, 1e6, 2.0]
    relative = fpsim.measured_error(x, fmt, overflow=overflow)
    nmse = fpsim.measured_error(x, fmt, metric="nmse", overflow=overflow)
    assert math.isinf(relative) == infinite
    assert math.isinf(nmse) == infinite
    # What is infinite in x itself is left out.
    assert math.isfinite(fpsim.measured_error([1.0, math.inf], fmt, overflow=overflow))


def test_stochastic_uses_the_bits_of_the_stream() -> None:
    rng = np.random.default_rng(0)
    x = rng.lognormal(-1, 1, 400).clip(0, 400) * rng.choice([-1, 1], 400)
    x[::10] = 0  # left out, but keeping their places in the stream
    rounding = Stochastic(bits=8, variant="B")
    words = [int(w) for w in Stream(11).words(400) >> np.uint64(56)]
    want = exact_errors(x.tolist(), "float8_e4m3fn", words=words, rounding=rounding)
    got = measured_summary(x, "float8_e4m3fn", rounding=rounding, rng=11)
    for metric in ("relative", "nmse", "bias", "cosine"):
        assert got.value(metric) == pytest.approx(want[metric], rel=1e-12)
    long = np.resize(x, 300_000)
    one = measured_summary(long, "float8_e4m3fn", rounding="stochastic", rng=11)
    again = measured_summary(long, "float8_e4m3fn", rounding="stochastic", rng=Stream(11))
    assert one == again
    assert one != measured_summary(long, "float8_e4m3fn", rounding="stochastic", rng=12)


def test_stochastic_rounding_has_no_bias() -> None:
    x = np.random.default_rng(0).lognormal(-1, 0.5, 1_000_000).clip(0, 400)
    nearest = fpsim.measured_error(x, "e5m2", metric="bias")
    stochastic = fpsim.measured_error(x, "e5m2", metric="bias", rounding="stochastic", rng=1)
    # The error of one element is at most a gap of x/4, its deviation x/8: over 10^6 about 1.5e-4.
    assert abs(stochastic) < 5 * 1.5e-4
    assert abs(nearest) > abs(stochastic)


# Identities -------------------------------------------------------------------------------------


@given(
    x=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    fmt=st.sampled_from(FORMATS),
    shift=st.integers(-8, 8),
)
@settings(max_examples=80, deadline=None)
def test_identities(x: list[float], fmt: str, shift: int) -> None:
    assume(any(abs(v) > 1e-30 for v in x))
    summary = measured_summary(x, fmt, 2.0**shift)
    assert summary.relative >= 0
    assert summary.nmse >= 0
    assert summary.bias >= -1
    assert 0 <= summary.underflow <= 1
    assert 0 <= summary.overflow <= 1
    if summary.nmse > 0:
        assert summary.sqnr == pytest.approx(-10 * math.log10(summary.nmse))
    else:
        assert summary.sqnr == math.inf
    if math.isfinite(summary.cosine):
        assert 0 <= summary.cosine <= 1 + 1e-15
        # |x|^2 sin^2 of the angle is the least error over all multiples of q.
        assert 1 - summary.cosine**2 <= summary.nmse + 1e-12
    mirrored = measured_summary([-v for v in x], fmt, 2.0**shift)
    assert mirrored == summary
    # Values of the format have no error.
    values = fpsim.round(np.array(x) * 2.0**shift, fmt, overflow="saturate")
    if np.any(values):
        again = measured_summary(values, fmt)
        assert (again.relative, again.nmse, again.bias) == (0, 0, 0)
        assert again.cosine == pytest.approx(1)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6), st.sampled_from(FORMATS))
@settings(max_examples=60, deadline=None)
def test_against_exact_sums(x: list[float], fmt: str) -> None:
    assume(any(abs(v) > 1e-100 for v in x))
    check([v if abs(v) > 1e-100 else 0.0 for v in x], fmt)
