"""Dither: every decision against exact rationals, its moments, and what the closed forms expect."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Lognormal, Sketch, Stream

# Significant bits and the exponent of the smallest normal number, from the formats' definitions.
SHAPES: dict[Any, tuple[int, int]] = {
    np.float32: (24, -126),
    np.float64: (53, -1022),
    np.float16: (11, -14),
    ml_dtypes.bfloat16: (8, -126),
    ml_dtypes.float8_e4m3fn: (4, -6),
    ml_dtypes.float8_e5m2: (3, -14),
    ml_dtypes.float4_e2m1fn: (2, 0),
}
approx = functools.partial(pytest.approx, rel=1e-6, abs=0.0)


def nearest(value: Fraction, dtype: Any) -> Fraction:
    """A number of the dtype, ties to even, but for the end of its range."""
    precision, emin = SHAPES[dtype]
    if value == 0:
        return value
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > value
    unit = Fraction(2) ** (max(exponent, emin) - precision + 1)
    return round(value / unit) * unit


def rounded(x: Any, step: float, word: int, dtype: Any) -> Fraction:
    """By the definition: one of the neighbouring multiples, as the dtype has them."""
    size, unit = abs(Fraction(float(x))), Fraction(step)
    below = size // unit
    low, high = nearest(below * unit, dtype), nearest((below + 1) * unit, dtype)
    up = low != size and Fraction(word, 1 << 64) < (size - low) / (high - low)
    result = high if up else low
    return result if x > 0 else -result


def multiple(x: Any, step: float, word: int) -> int:
    size = abs(Fraction(float(x))) / Fraction(step)
    below = size // 1
    result = below + (Fraction(word, 1 << 64) < size - below)
    return result if x > 0 else -result


def spread(rng: np.random.Generator, size: int, dtype: Any) -> np.ndarray:
    return (rng.normal(size=size) * np.exp2(rng.uniform(-12, 1.5, size))).astype(dtype)


# Decisions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", SHAPES)
@pytest.mark.parametrize("step", [0.1, 0.5, 0.37, 1e-3, 1e-6, 3.0, 1e-30])
def test_every_decision_is_that_of_rationals(dtype: Any, step: float) -> None:
    x = spread(np.random.default_rng(0), 500, dtype)
    result = fpsim.dither(x, step, Stream(5, offset=3), full=True)
    least = float(np.nextafter(dtype(0), dtype(1)))
    assert result.step == max(float(nearest(Fraction(step), dtype)), least)
    words = Stream(5, offset=3).words(x.size)
    expected = [rounded(v, result.step, int(w), dtype) for v, w in zip(x, words, strict=True)]
    assert result.values.dtype == dtype
    assert [Fraction(float(v)) for v in result.values] == expected
    assert result.sparsity == np.mean([v == 0 for v in expected])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("step", [1.0, 0.1, 1.9999, 3e-39, 1e36])
def test_where_the_upper_half_of_the_word_does_not_decide(dtype: Any, step: float) -> None:
    """Magnitudes built from their own random word lie within a unit of the boundary."""
    step = float(dtype(step))
    words = Stream(11).words(3000)
    place = np.arange(3000)
    near = ((place % 5 + words.astype(np.float64) / 2.0**64) * step).astype(dtype)
    x = np.nextafter(near, near * (place % 3 - 1).astype(dtype)).astype(dtype)
    x = np.where(place % 2, x, -x)
    got, codes = fpsim.dither(x, step, rng=11, full=True), fpsim.dither_encode(x, step, rng=11)
    assert got.sparsity == np.mean(got.values == 0) > 0.05
    assert codes.sparsity == np.mean(codes.codes == 0)
    for v, w, y, code in zip(x, map(int, words), got.values, codes.codes, strict=True):
        assert Fraction(float(y)) == rounded(v, step, w, dtype)
        assert code == multiple(v, step, w)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=200, deadline=None)
def test_any_finite_data_and_step(dtype: Any, data: st.DataObject, seed: int) -> None:
    top = float(np.finfo(dtype).max) / 4
    floats = st.floats(-top, top, width=8 * np.dtype(dtype).itemsize)
    x = np.array(data.draw(st.lists(floats, min_size=1, max_size=6)), dtype)
    step = abs(data.draw(floats.filter(bool)))
    for v, w, y in zip(x, Stream(seed).words(x.size), fpsim.dither(x, step, seed), strict=True):
        assert Fraction(float(y)) == rounded(v, step, int(w), dtype), (v, step)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@given(ratio=st.integers(1, 2**31 - 2), nudge=st.integers(-2, 2), seed=st.integers(0, 1000))
@example(ratio=2**31 - 2, nudge=0, seed=0)
@settings(max_examples=100, deadline=None)
def test_integers_are_the_multiples(dtype: Any, ratio: int, nudge: int, seed: int) -> None:
    step = float(dtype(2.0**-12 * (1 + seed / 999)))
    with np.errstate(over="ignore"):
        x = np.array([min(ratio * step, float(ml_dtypes.finfo(dtype).max) / 2)]).astype(dtype)
    for _ in range(abs(nudge)):
        x = np.nextafter(x, dtype(math.copysign(math.inf, nudge)))
    x = np.append(x, -x)
    if float(x[0]) / step > 2**31 - 2:
        return
    result = fpsim.dither_encode(x, step, seed, bits=32)
    words = map(int, Stream(seed).words(2))
    assert result.codes.tolist() == [multiple(v, step, w) for v, w in zip(x, words, strict=True)]


@pytest.mark.parametrize("dtype", SHAPES)
def test_multiples_stay_and_zeros_are_positive(dtype: Any) -> None:
    x = np.array([0.0, -0.0, 1.0, -1.5, 3.0, 4.0, -0.5], dtype)
    got = fpsim.dither(x, 0.5, rng=0)
    assert got.tolist() == x.tolist()
    assert not np.signbit(got[:2].astype(np.float32)).any()
    assert fpsim.dither([3, -6], 3).tolist() == [3, -6]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_numbers_lie_further_apart_than_the_step(dtype: Any) -> None:
    """Nothing changes there; and where they lie as far apart, the mean still stays."""
    x = dtype(2) ** (SHAPES[dtype][0] + 3) * np.array([1.0, 1.25, -1.5], dtype)
    assert fpsim.dither(x, 0.7, rng=1).tolist() == x.tolist()
    coarse = np.full(100_000, x[1] / 4, dtype)  # whose neighbours are four away
    both = 0
    for step in (2.7, 5.3, 6.1, 7.7, 8.9, 10.1, 11.3, 12.9):
        size, unit = Fraction(float(coarse[0])), Fraction(float(dtype(step)))
        low, high = (nearest((size // unit + k) * unit, dtype) for k in (0, 1))
        got = fpsim.dither(coarse, step, rng=2)
        values, counts = np.unique(got, return_counts=True)
        stays = size in (low, high)
        assert [Fraction(float(v)) for v in values] == ([size] if stays else [low, high])
        mean = float(np.sum((values - coarse[0]) * counts) / coarse.size)
        assert abs(mean) <= 5 * got.std() / math.sqrt(coarse.size)
        both += not stays
    assert both > 1


def test_decoded_integers_are_the_values() -> None:
    x = spread(np.random.default_rng(0), 20_000, np.float32).reshape(100, 200)
    for step in (0.25, 0.375):
        values = fpsim.dither(x, step, rng=8)
        for bits, dtype in ((8, np.int8), (12, np.int16), (16, np.int16), (32, np.int32)):
            result = fpsim.dither_encode(x, step, rng=8, bits=bits)
            assert result.codes.dtype == dtype
            assert np.array_equal(result.decode(np.float32), values)
            assert result.values is None
            assert result.sparsity == np.mean(values == 0)


def test_integers_that_just_fit() -> None:
    assert fpsim.dither_encode([127.0, -127.0], 1.0).codes.tolist() == [127, -127]
    for seed in range(3):  # whichever is drawn
        with pytest.raises(ValueError, match=r"upper multiple 128 does not fit 8 bits.*bits=9"):
            fpsim.dither_encode([126.0, 127.001], 1.0, rng=seed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", [{"step": 0.3}, {"scale": 1.2}])
def test_the_same_for_threads_layouts_and_parts(dtype: Any, how: dict[str, float]) -> None:
    x = spread(np.random.default_rng(0), 600 * 700, dtype).reshape(600, 700)
    whole = fpsim.dither(x, rng=9, full=True, **how)
    before = fpsim.get_num_threads()
    try:
        for threads in (1, 3):
            fpsim.set_num_threads(threads)
            assert np.array_equal(fpsim.dither(x, rng=9, **how), whole.values)
    finally:
        fpsim.set_num_threads(before)
    assert np.array_equal(fpsim.dither(np.asfortranarray(x), rng=9, **how), whole.values)
    part = fpsim.dither(x.ravel()[1001:], whole.step, rng=Stream(9, offset=1001))
    assert np.array_equal(part, whole.values.ravel()[1001:])


# The standard deviation ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e-320, 1e300])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_steps_of_standard_deviations(scale: float, mean: float) -> None:
    x = np.random.default_rng(0).normal(mean, 1, 10_000)
    x[:2000] = 0
    data = x * scale
    result = fpsim.dither(data, scale=0.75, rng=1, full=True)
    deviation = mpmath.sqrt(sum((mpmath.mpf(v) - np.mean(x)) ** 2 for v in x) / x.size)
    assert result.step / scale == approx(
        0.75 * float(deviation), rel=1e-8 if scale > 1e-308 else 0.01
    )
    assert fpsim.dither_encode(data, scale=0.75, rng=1, bits=16).step == result.step


def test_a_small_deviation_beside_a_large_element() -> None:
    x = np.full(1 << 20, 1e-5, np.float32)
    x[::2] *= -1
    x[7] = 1.0
    exact = math.sqrt(float(np.var(x.astype(np.float64))))
    assert fpsim.dither(x, scale=1.0, full=True).step == approx(exact)


@pytest.mark.parametrize("dtype", SHAPES)
def test_no_deviation(dtype: Any) -> None:
    for x in ([0.0, -0.0, 0.0], [2.0, 2.0], [-1.5]):
        result = fpsim.dither(np.array(x, dtype), scale=1.2, full=True)
        assert (result.step, result.values.tolist()) == (0, x)
        assert not np.signbit(result.values[result.values == 0].astype(np.float32)).any()
    assert fpsim.dither_encode(np.zeros(3, dtype), scale=1.2).codes.tolist() == [0, 0, 0]
    assert fpsim.dither(np.zeros((0, 2), dtype), scale=1.0).shape == (0, 2)


# Moments ------------------------------------------------------------------------------------------

VALUES = np.array([0.01, 0.25, 0.7, 1.0, 1.4, 6.99], np.float32)


def assert_unbiased(draws: int, values: np.ndarray, step: float) -> None:
    """Mean and mean squared error over draws, each within five standard errors."""
    rows = np.broadcast_to(values, (draws, values.size))
    got = fpsim.dither(np.ascontiguousarray(rows), step, rng=2)
    step = float(np.float32(step))
    for i, value in enumerate(values.astype(np.float64)):
        low = math.floor(value / step) * step
        variance = (value - low) * (low + step - value)
        error = got[:, i].astype(np.float64) - value
        assert abs(error.mean()) <= 5 * math.sqrt(variance / draws) + 1e-12
        deviation = float(np.std(error**2)) / math.sqrt(draws)
        assert abs((error**2).mean() - variance) <= 5 * deviation + 1e-6 * step**2


def test_unbiased_with_its_variance() -> None:
    assert_unbiased(50_000, VALUES, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.01, 0.7, 6.99])
def test_unbiased_over_ten_million_draws(value: float) -> None:
    assert_unbiased(10_000_000, np.array([value], np.float32), 0.3)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_unbiased_though_multiples_are_rounded(dtype: Any) -> None:
    """Whose nearest numbers are off by up to a sixteenth: a mean of those would be, too."""
    step = float(dtype(0.2))
    for value in (0.5, 1.25, 3.25):
        x = np.full(100_000, value, dtype)
        got = fpsim.dither(x, step, rng=1).astype(np.float64)
        assert abs(got.mean() - value) <= 5 * got.std() / math.sqrt(x.size) + 1e-12
    assert fpsim.dither_encode(x, step, rng=1).decode().mean() == approx(3.25, abs=2e-3)


def test_nearest_rounding_is_the_biased_twin() -> None:
    x = np.full(10_000, 0.3)
    assert np.rint(x).sum() == 0
    assert fpsim.dither(x, 1.0, rng=1).sum() == approx(3000, abs=5 * math.sqrt(10_000 * 0.21))


# Expectations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "scale", "sparsity"),
    [
        ("normal", 0.5, 0.195),
        ("normal", 1.0, 0.369),
        ("normal", 2.0, 0.610),
        ("laplace", 0.5, 0.283),
        ("laplace", 1.0, 0.465),
        ("laplace", 2.0, 0.667),
        (Lognormal(0.0, 2.0), 0.5, 0.852),
        (Lognormal(3.0, 2.0), 1.0, 0.910),
        (Lognormal(-9.0, 2.0), 2.0, 0.948),
        (Lognormal(0.0, 2.0), 1.2, 0.921),
    ],
)
def test_sparsity_by_known_digits(source: Any, scale: float, sparsity: float) -> None:
    found = fpsim.expected_dither(source, scale=scale)
    assert found.sparsity == approx(sparsity, abs=5e-4)
    if isinstance(source, Lognormal):
        assert found.step == approx(scale * math.exp(source.mu + source.sigma**2))
    else:
        assert found.step == scale


def test_zeros_that_are_there() -> None:
    fit = Lognormal(-2.0, 1.0, zero_fraction=0.4)
    found = fpsim.expected_dither(fit, scale=1.5)
    assert found.step == approx(1.5 * math.sqrt(0.6) * math.exp(-2 + 1))
    rest = fpsim.expected_dither(Lognormal(-2.0, 1.0), found.step)
    assert found.sparsity == approx(0.4 + 0.6 * rest.sparsity)
    assert found.variance == approx(0.6 * rest.variance)
    assert (found.nmse, found.bits) == (approx(rest.nmse), approx(rest.bits))
    assert found.share_from(3) == approx(0.6 * rest.share_from(3))


def tail_call(law: str, j: int, *p: Any) -> Any:
    """E[(Y - j)+] in closed form, in many digits, whose differences are P(|k| >= j)."""
    if law == "normal":  # Y = |N| / r
        (r,) = p
        return 2 * (mpmath.npdf(j * r) / r - j * mpmath.ncdf(-j * r))
    if law == "laplace":
        rate = mpmath.sqrt(2) * p[0]
        return mpmath.exp(-rate * j) / rate
    mu, sigma = p
    if j == 0:
        return mpmath.exp(mu + sigma**2 / 2)
    z = (mpmath.log(j) - mu) / sigma
    return mpmath.exp(mu + sigma**2 / 2) * mpmath.ncdf(sigma - z) - j * mpmath.ncdf(-z)


def density(law: str, y: Any, *p: Any) -> Any:
    if law == "normal":
        return 2 * p[0] * mpmath.npdf(p[0] * y)
    if law == "laplace":
        rate = mpmath.sqrt(2) * p[0]
        return rate * mpmath.exp(-rate * y)
    return mpmath.npdf((mpmath.log(y) - p[0]) / p[1]) / (p[1] * y)


CASES = [
    *(("normal", r) for r in (0.03, 0.3, 1.0, 4.0, 60.0)),
    *(("laplace", r) for r in (0.03, 0.2, 1.0, 4.0)),
    *(
        ("lognormal", mu, sigma)
        for sigma in (0.01, 0.1, 0.5, 2.0, 8.0)
        for mu in (-6.0, -0.5, 1.3, 4.0)
    ),
]


def expectation(law: str, *p: float) -> Any:
    if law == "lognormal":
        return fpsim.expected_dither(Lognormal(*p), 1.0)
    return fpsim.expected_dither(law, scale=p[0])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shares_in_many_digits(case: Any) -> None:
    found = expectation(*case)
    with mpmath.workdps(60):
        p = [mpmath.mpf(v) for v in case[1:]]
        exact = [tail_call(case[0], j - 1, *p) - tail_call(case[0], j, *p) for j in (1, 2)]
        bits = []
        for b in range(150):
            j = 2**b
            share = tail_call(case[0], j - 1, *p) - tail_call(case[0], j, *p)
            bits.append(share)
            if share > 1e-280:
                assert found.share_from(j) == approx(float(share), rel=2e-11)
        assert found.share_from(3) == approx(
            float(tail_call(case[0], 2, *p) - tail_call(case[0], 3, *p)), rel=2e-11, abs=1e-290
        )
        assert found.sparsity == approx(float(1 - exact[0]), rel=1e-10, abs=1e-14)
        assert found.bits == approx(float(mpmath.fsum(bits) / bits[0]), rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_variance_by_quadrature(case: Any) -> None:
    """Cell by cell up to where 1/6 of a share is right to many digits."""
    found = expectation(*case)
    law, p = case[0], [mpmath.mpf(v) for v in case[1:]]
    cells = 500 if law == "lognormal" else math.ceil(40 / case[1])
    with mpmath.workdps(20):
        total = mpmath.mpf(0)
        for j in range(cells):
            if law == "lognormal":
                z = [(mpmath.log(max(j + k, mpmath.mpf(10) ** -40)) - p[0]) / p[1] for k in (0, 1)]
                if z[1] < -13 or z[0] > 13:
                    continue
                inside = [max(z[0], -13), min(z[1], 13)]
                grid = mpmath.linspace(*inside, 2 + int(2 * (inside[1] - inside[0])))

                def part(z: Any, j: int = j) -> Any:
                    y = mpmath.exp(p[0] + p[1] * z)
                    return (y - j) * (j + 1 - y) * mpmath.npdf(z)

            else:
                grid = mpmath.linspace(j, j + 1, 2 + int(2 * case[1]))

                def part(y: Any, j: int = j) -> Any:
                    return (y - j) * (j + 1 - y) * density(law, y, *p)

            total += mpmath.quad(part, grid, maxdegree=4)
        if law == "lognormal":
            total += mpmath.ncdf((p[0] - mpmath.log(cells)) / p[1]) / 6
    step = 1.0 if law == "lognormal" else case[1]
    assert found.variance == approx(float(total) * step**2, rel=3e-8)
    square = math.exp(2 * case[1] + 2 * case[2] ** 2) if law == "lognormal" else 1.0
    assert found.nmse == approx(found.variance / square)


def test_expectation_of_a_point() -> None:
    found = fpsim.expected_dither(Lognormal(math.log(2.25), 0.0), 1.0)
    assert found.variance == approx(0.25 * 0.75)
    assert [found.share_from(j) for j in (1, 2, 3, 4)] == approx([1, 1, 0.25, 0])
    assert (found.sparsity, found.bits) == (0, approx(2.0))
    narrow = fpsim.expected_dither(Lognormal(math.log(2.25), 1e-9), 1.0)
    assert narrow.variance == approx(0.25 * 0.75)
    assert [narrow.share_from(j) for j in (1, 2, 3)] == approx([1, 1, 0.25])


@pytest.mark.parametrize("step", [0.003, 0.02, 0.3, 1.0, 2.7, 40.0])
@pytest.mark.parametrize("kind", ["lognormal", "quantised", "two", "tiny"])
def test_expectations_from_a_sketch(kind: str, step: float) -> None:
    rng = np.random.default_rng(1)
    x = {
        "lognormal": lambda: rng.lognormal(0, 1.5, 50_000),
        "quantised": lambda: np.abs(fpsim.round(rng.normal(size=50_000), "float6_e3m2fn")),
        "two": lambda: np.repeat([1.0, 4.1], [3, 5]),
        "tiny": lambda: 1e-310 * rng.lognormal(0, 1.0, 50_000),
    }[kind]()
    x[:2] = 0
    step *= 1e-310 if kind == "tiny" else 1.0
    found = fpsim.expected_dither(Sketch.of(x), step)
    y = x / step
    fraction = y - np.floor(y)
    # Data within a cell of a sketch, 1/128 of a binade, may lie as they please.
    slack = {"rel": 5e-3, "abs": 1e-6}
    assert found.sparsity == approx(np.mean(np.maximum(1 - y, 0)), **slack)
    assert found.nmse == approx(np.sum(fraction * (1 - fraction)) / np.sum(y * y), **slack)
    nonzero = np.mean(np.clip(y, 0, 1))
    for j in (1, 2, 7):
        assert found.share_from(j) == approx(np.mean(np.clip(y - j + 1, 0, 1)), **slack)
    bits = sum(np.mean(np.clip(y - 2.0**b + 1, 0, 1)) for b in range(40)) / nonzero
    assert found.bits == approx(bits, **slack)
    assert found.worst_bits == 1 + math.ceil(math.log2(math.ceil(y.max()) + 1))
    if kind == "lognormal":
        scale = step / math.sqrt(np.mean(x * x))
        assert fpsim.expected_dither(Sketch.of(x), scale=scale).step == approx(step)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_expectations_meet_what_happens(scale: float) -> None:
    n = 1_000_000
    rng = np.random.default_rng(2)
    signs = rng.choice([-1, 1], n)
    sources: list[tuple[Any, np.ndarray]] = [
        ("normal", rng.normal(size=n)),
        ("laplace", rng.laplace(size=n) / math.sqrt(2)),
        (Lognormal(0.0, 1.0), rng.lognormal(0, 1, n) * signs),
    ]
    sources.append((Sketch.of(sources[2][1]), sources[2][1]))
    for source, x in sources:
        found = fpsim.expected_dither(source, scale=scale)
        codes = np.abs(fpsim.dither_encode(x, found.step, rng=3, bits=32).codes)
        errors = (fpsim.dither(x, found.step, rng=3) - x) ** 2
        assert abs(errors.mean() - found.variance) < 5 * errors.std() / 1000
        shares = [(0, found.sparsity), *((j, found.share_from(j)) for j in (1, 2, 5))]
        for j, share in shares:
            seen = np.mean(codes >= j) if j else np.mean(codes == 0)
            assert abs(seen - share) < 5 * math.sqrt(max(share * (1 - share), 1e-9) / n)
        lengths = np.frexp(codes[codes > 0])[1]
        assert abs(lengths.mean() - found.bits) < 5 * lengths.std() / math.sqrt(lengths.size)


# NaN and infinity ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("how", [{"step": 0.5}, {"scale": 0.7}])
def test_non_finite_elements(dtype: Any, how: dict[str, float]) -> None:
    x = np.array([[1.0, np.nan, 3.0], [-np.inf, 0.2, 0.0]], dtype)
    message = r"2 NaN or infinite elements, the first at index \(0, 1\)"
    for function in (fpsim.dither, fpsim.dither_encode):
        with pytest.raises(ValueError, match=message):
            function(x, **how)
    finite = np.isfinite(x.astype(np.float64))
    kept = fpsim.dither(x, rng=1, nonfinite="propagate", full=True, **how)
    assert np.isnan(kept.values[0, 1])
    assert kept.values[1, 0] == -np.inf
    assert (kept.sparsity, kept.nonfinite) == (np.mean(kept.values[finite] == 0), 2)
    skipped = fpsim.dither(x, rng=1, nonfinite="skip", full=True, **how)
    assert skipped.values[0, 1] == skipped.values[1, 0] == 0
    assert (skipped.sparsity, skipped.nonfinite) == (np.mean(skipped.values == 0), 2)
    codes = fpsim.dither_encode(x, rng=1, nonfinite="skip", **how)
    assert np.array_equal(codes.codes == 0, skipped.values == 0)
    clean = np.where(finite, x, dtype(0))
    if "step" in how:
        assert np.array_equal(kept.values[finite], skipped.values[finite])
    else:  # of the finite elements; of all, those as zeros
        values = clean.astype(np.float64)
        assert skipped.step == approx(0.7 * values.std(), rel=4e-3)
        assert kept.step == approx(0.7 * values[finite].std(), rel=4e-3)
    equal = fpsim.dither(np.array([np.nan, 2.0], dtype), scale=1.0, nonfinite="propagate")
    assert np.isnan(equal[0])
    assert equal[1] == 2


def test_multiples_past_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match="upper multiple leaves the range"):
        fpsim.dither(np.float32(3e38), 2e38)
    with pytest.raises(ValueError, match="upper multiple leaves the range"):
        fpsim.dither(np.array([6.0], ml_dtypes.float4_e2m1fn), 4.0)
    top = np.finfo(np.float32).max
    assert fpsim.dither(top, 0.7) == top
    with pytest.raises(ValueError, match=r"scale=2.0: step=12 is past 6, the largest"):
        fpsim.dither(np.array([6.0, -6.0], ml_dtypes.float4_e2m1fn), scale=2.0)
