"""LUQ: every decision against exact rationals, its moments, and what the closed forms expect."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Lognormal, Sketch, Stream

DTYPES = [np.float32, np.float64]


def quantised(x: float, alpha: float, levels: int, word: int) -> Fraction:
    """One draw by the definition, in rational numbers: up where word / 2**64 < p."""
    step, size = Fraction(alpha), abs(Fraction(x))
    ladder = [Fraction(0), *(step * 2**j for j in range(levels))]
    size = min(size, ladder[-1])
    low = max(level for level in ladder if level <= size)
    if low == size:
        return low if x > 0 else -low
    high = min(level for level in ladder if level > size)
    result = high if Fraction(word, 1 << 64) < (size - low) / (high - low) else low
    return result if x > 0 else -result


def spread(rng: np.random.Generator, size: int, dtype: Any) -> np.ndarray:
    return (rng.normal(size=size) * np.exp2(rng.uniform(-12, 3, size))).astype(dtype)


# Decisions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*DTYPES, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", ["bit_true", "paper"])
def test_every_decision_is_that_of_rationals(dtype: Any, bits: int, levels: str) -> None:
    x = spread(np.random.default_rng(bits), 400, dtype)
    result = fpsim.luq(x, bits, rng=Stream(5, offset=3), levels=levels, full=True)
    count = 2**bits - (levels == "bit_true")
    assert Fraction(result.alpha) * 2 ** (count - 1) == Fraction(float(np.abs(x).max()))
    words = Stream(5, offset=3).words(x.size)
    expected = [
        quantised(float(v), result.alpha, count, int(w)) for v, w in zip(x, words, strict=True)
    ]
    assert result.values.dtype == dtype
    assert [Fraction(float(v)) for v in result.values] == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [1.0, 1.1, 1.9999])
def test_where_the_upper_half_of_the_word_does_not_decide(dtype: Any, alpha: float) -> None:
    """Magnitudes built from their own random word lie within a unit of the boundary."""
    alpha = float(dtype(alpha))
    words = Stream(11).words(3000)
    p = words.astype(np.float64) / 2.0**64
    low = alpha * np.exp2(np.arange(3000) % 7 - 1.0)
    low[low < alpha] = 0
    gap = np.where(low == 0, alpha, low)
    near = (low + p * gap).astype(dtype)
    x = np.nextafter(near, near * ((np.arange(3000) % 3) - 1).astype(dtype)).astype(dtype)
    x = np.minimum(x, dtype(alpha * 64))
    got = fpsim.luq(x, 3, rng=11, maximum=alpha * 64)
    expected = [quantised(float(v), alpha, 7, int(w)) for v, w in zip(x, words, strict=True)]
    assert [Fraction(float(v)) for v in got] == expected
    assert len(set(got.tolist())) > 5


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=6),
    st.integers(0, 2**64 - 1),
)
@settings(max_examples=150, deadline=None)
def test_any_finite_float64(values: list[float], seed: int) -> None:
    x = np.array(values)
    result = fpsim.luq(x, 3, rng=seed, full=True)
    if not x.any():
        assert result.alpha == 0
        assert not result.values.any()
        return
    words = Stream(seed).words(x.size)
    for v, w, got in zip(x, words, result.values, strict=True):
        assert Fraction(got) == quantised(v, result.alpha, 7, int(w)), (v, result.alpha)


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=6),
    st.integers(0, 2**64 - 1),
)
@settings(max_examples=150, deadline=None)
def test_any_finite_float32(values: list[float], seed: int) -> None:
    x = np.array(values, np.float32)
    result = fpsim.luq(x, 3, rng=seed, full=True)
    words = Stream(seed).words(x.size)
    for v, w, got in zip(x, words, result.values, strict=True):
        exact = quantised(float(v), result.alpha, 7, int(w)) if x.any() else 0
        assert Fraction(float(got)) == exact


def test_the_maximum_is_exact_and_zeros_are_positive() -> None:
    x = np.array([0.0, -0.0, -1e-30, 3.7, -3.7, 1e-9])
    got = fpsim.luq(x, rng=0)
    assert got[3:5].tolist() == [3.7, -3.7]
    assert not np.signbit(got[[0, 1, 2, 5]]).any()


def test_all_zero_and_empty() -> None:
    assert fpsim.luq(np.zeros((2, 3), np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert fpsim.luq(np.zeros(0)).shape == (0,)
    assert fpsim.luq(2.5) == 2.5


def test_power_of_two_alpha_is_rounded_up() -> None:
    for top in (1.0, 1.5, 63.9, 64.0, 64.1):
        result = fpsim.luq([top, 0.1], 3, rng=1, power_of_two=True, full=True)
        exponent = math.log2(result.alpha)
        assert exponent == int(exponent)
        assert result.alpha / 2 < top / 64 <= result.alpha
        assert result.clipped == 0


def test_hindsight_saturates_and_counts() -> None:
    x = np.array([1.0, -5.0, 100.0, 4.0])
    result = fpsim.luq(x, 3, rng=1, maximum=4.0, full=True)
    assert result.clipped == 2
    assert result.maximum == 100.0
    assert result.values[1:].tolist() == [-4, 4, 4]
    assert fpsim.luq_encode(x, 3, rng=1, maximum=4.0).clipped == 2


def test_hindsight_maximum() -> None:
    """m_t = (1 - eta) max|x| + eta m."""
    h = fpsim.HindsightMax(eta=0.25)
    assert h.maximum is None
    h = h.update(np.array([3, -8.0]))
    assert h.maximum == 8
    assert h.update([np.nan, 4.0, np.inf]).maximum == 0.75 * 4 + 0.25 * 8


# Codes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_codes_are_those_of_the_values(dtype: Any, bits: int) -> None:
    x = spread(np.random.default_rng(bits), 10_000, dtype)
    values = fpsim.luq(x, bits, rng=8)
    result = fpsim.luq_encode(x, bits, rng=8)
    assert result.format.bits == bits + 1
    magnitudes = np.unique(np.abs(result.format.values()))
    assert magnitudes.tolist() == [0, *(2.0**j for j in range(2**bits - 1))]
    assert np.array_equal(result.decode(dtype), values)
    by_hand = fpsim.decode(result.codes, result.format, np.float64) * result.alpha
    assert np.array_equal(by_hand, values.astype(np.float64))
    assert not (result.codes == 2**bits).any()  # no negative zero
    assert set(np.unique(result.codes)) == set(range(2 ** (bits + 1))) - {2**bits}


# Moments ------------------------------------------------------------------------------------------


def assert_unbiased(x: np.ndarray, draws: int, bits: int, samples: int) -> None:
    """Mean and mean squared error over draws, each within five standard errors."""
    rows = np.broadcast_to(x, (draws, x.size))
    got = fpsim.luq(np.ascontiguousarray(rows), bits, samples, rng=2).astype(np.float64)
    alpha = float(x.max()) / 2 ** (2**bits - 2)
    for i, value in enumerate(x.astype(np.float64)):
        low = 0.0 if value < alpha else alpha * 2 ** math.floor(math.log2(value / alpha))
        high = alpha if low == 0 else 2 * low
        variance = (value - low) * (high - value) / samples
        error = got[:, i] - value
        assert abs(error.mean()) <= 5 * math.sqrt(variance / draws) + 1e-7 * value
        deviation = float(np.std(error**2)) / math.sqrt(draws)
        assert abs((error**2).mean() - variance) <= 5 * deviation + 1e-6 * variance


VALUES = np.array([0.01, 0.4, 0.99, 1.0, 1.3333, 1.5, 3.9, 5.0, 33.0, 64.0], np.float32)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_unbiased_with_the_variance_of_two_levels(bits: int, samples: int) -> None:
    assert_unbiased(VALUES, 20_000, bits, samples)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2])
def test_unbiased_over_ten_million_draws(samples: int) -> None:
    assert_unbiased(VALUES[[0, 4, 6, 9]], 10_000_000 // 4, 3, samples)
    assert_unbiased(VALUES[[1, 9]], 10_000_000, 3, samples)


def test_samples_are_the_mean_of_draws_with_documented_offsets() -> None:
    x = spread(np.random.default_rng(0), 5000, np.float64)
    draws = [fpsim.luq(x, rng=Stream(4, offset=7 + s * 2**48)) for s in range(4)]
    assert np.allclose(fpsim.luq(x, samples=4, rng=Stream(4, offset=7)), np.mean(draws, axis=0))
    assert not np.array_equal(draws[0], draws[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_for_threads_layouts_and_parts(dtype: Any) -> None:
    x = spread(np.random.default_rng(0), 600 * 700, dtype).reshape(600, 700)
    whole = fpsim.luq(x, rng=9, samples=2)
    before = fpsim.get_num_threads()
    try:
        for threads in (1, 3):
            fpsim.set_num_threads(threads)
            assert np.array_equal(fpsim.luq(x, rng=9, samples=2), whole)
    finally:
        fpsim.set_num_threads(before)
    assert np.array_equal(fpsim.luq(np.asfortranarray(x), rng=9, samples=2), whole)
    top = float(np.abs(x).max())
    part = fpsim.luq(x.ravel()[1001:], rng=Stream(9, offset=1001), samples=2, maximum=top)
    assert np.array_equal(part, whole.ravel()[1001:])


# Expectations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize(("sigma", "maximum"), [(0.3, 2.0), (1.0, 20.0), (1.7, 30.0)])
def test_expectations_under_a_lognormal(sigma: float, maximum: float, bits: int) -> None:
    """Against the conditional moments of LUQ, averaged over drawn magnitudes."""
    fit = Lognormal(0.2, sigma, zero_fraction=0.25)
    expected = fpsim.expected_luq(fit, bits, samples=2, maximum=maximum)
    # Midpoint quadrature in z: no code shared, and good to 1e-6 over the kinks.
    z = (np.arange(400_000) + 0.5) / 400_000 * 24 - 12
    weight = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * 24 / 400_000
    x = np.exp(0.2 + sigma * z)
    alpha = maximum / 2 ** (2**bits - 2)
    top = np.minimum(x, maximum)
    low = np.where(top < alpha, 0, alpha * np.exp2(np.floor(np.log2(np.maximum(top / alpha, 1)))))
    high = np.where(low == 0, alpha, 2 * low)
    variance = (top - low) * (high - top)
    nmse = np.sum(weight * (variance / 2 + (x - top) ** 2)) / np.sum(weight * x * x)
    assert expected.nmse == pytest.approx(nmse, rel=1e-4)
    zeros = 0.25 + 0.75 * np.sum(weight * np.maximum(1 - x / alpha, 0))
    assert expected.sparsity == pytest.approx(zeros, rel=1e-5)
    assert expected.clipped == pytest.approx(0.75 * np.sum(weight * (x > maximum)), abs=2e-5)
    bias = np.sum(weight * top) / np.sum(weight * x) - 1
    assert expected.bias == pytest.approx(bias, rel=1e-4)


def test_expectation_of_a_point() -> None:
    expected = fpsim.expected_luq(Lognormal(math.log(3.0), 0.0), maximum=64.0)
    assert expected.nmse == pytest.approx((3 - 2) * (4 - 3) / 9)
    expected = fpsim.expected_luq(Lognormal(math.log(3.0), 0.0), maximum=2.0)
    assert (expected.bias, expected.clipped) == (pytest.approx(-1 / 3), 1)


@pytest.mark.parametrize("maximum", [None, 3.0])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_expectations_from_a_sketch(bits: int, maximum: float | None) -> None:
    x = np.abs(spread(np.random.default_rng(1), 50_000, np.float32)).astype(np.float64)
    x[:500] = 0
    expected = fpsim.expected_luq(Sketch.of(x), bits, maximum=maximum)
    c = maximum or x.max()
    alpha = c / 2 ** (2**bits - 2)
    top = np.minimum(x, c)
    low = np.where(top < alpha, 0, alpha * np.exp2(np.floor(np.log2(np.maximum(top / alpha, 1)))))
    high = np.where(low == 0, alpha, 2 * low)
    error = (top - low) * (high - top) + (x - top) ** 2
    assert expected.nmse == pytest.approx(np.sum(error) / np.sum(x * x), rel=2e-4)
    assert expected.sparsity == pytest.approx(np.mean(np.maximum(1 - x / alpha, 0)), rel=1e-4)
    assert expected.clipped == pytest.approx(np.mean(x > c), abs=1e-3)
    assert expected.bias == pytest.approx(np.sum(top) / np.sum(x) - 1, abs=1e-5)
    draw = fpsim.luq(x, bits, rng=3, maximum=maximum)
    deviation = 5 * math.sqrt(expected.sparsity / x.size)
    assert abs(np.mean(draw == 0) - expected.sparsity) < deviation


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "zeros"), [(1.0, 0.44), (1.5, 0.88), (2.5, 0.993)])
def test_the_maximum_of_a_pure_lognormal_starves_its_bulk(sigma: float, zeros: float) -> None:
    shares = []
    for seed in range(20):
        x = np.random.default_rng(seed).lognormal(0, sigma, 1_000_000)
        shares.append(np.mean(fpsim.luq(x, 3, rng=seed) == 0))
    assert np.mean(shares) == pytest.approx(zeros, abs=0.06)


def test_nearest_rounding_is_the_biased_twin() -> None:
    x = np.full(1000, 0.3)
    x[0] = 64.0
    nearest = fpsim.round(x / 1.0, fpsim.luq_format(3), overflow="saturate")
    assert nearest[1:].sum() == 0
    assert fpsim.luq(x, rng=1)[1:].sum() == pytest.approx(299.7, abs=5 * math.sqrt(1000 * 0.21))


# NaN and infinity ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_non_finite_elements(dtype: Any) -> None:
    x = np.array([[1.0, np.nan, 4.0], [-np.inf, 2.0, 0.5]], dtype)
    with pytest.raises(
        ValueError, match=r"2 NaN or infinite elements, the first at index \(0, 1\)"
    ):
        fpsim.luq(x)
    skipped = fpsim.luq(x, rng=1, nonfinite="skip", full=True)
    assert (skipped.maximum, skipped.nonfinite, skipped.clipped) == (4.0, 2, 0)
    assert skipped.values[0, 1] == skipped.values[1, 0] == 0
    kept = fpsim.luq(x, rng=1, nonfinite="propagate")
    assert np.isnan(kept[0, 1])
    assert kept[1, 0] == -np.inf
    finite = np.isfinite(x)
    assert np.array_equal(kept[finite], skipped.values[finite])
    nothing = fpsim.luq(np.array([np.nan, 0.0], dtype), nonfinite="propagate")
    assert np.isnan(nothing[0])
    assert nothing[1] == 0


def test_levels_past_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match="scale x"):
        fpsim.luq(np.array([3e38], np.float32), power_of_two=True)
    with pytest.raises(ValueError, match="wider dtype"):
        fpsim.luq(np.array([6.0], ml_dtypes.float4_e2m1fn))
    assert fpsim.luq(np.array([3e38], np.float32))[0] == np.float32(3e38)
