"""Pruning: every decision against exact rationals, its moments, its expectations, its spreading."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Lognormal, Sketch, Stream
from fpsim.analysis.pruning import empirical_quantile, empirical_share_below

DTYPES = [np.float32, np.float64]
NARROW = [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
# Relative: pytest's absolute tolerance of 1e-12 would hide what is small.
approx = functools.partial(pytest.approx, rel=1e-6, abs=0.0)
SIGMAS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)
SPARSITIES = (1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 0.9999)


def pruned(x: float, threshold: float, word: int) -> Fraction:
    """By the definition, in rational numbers."""
    size, limit = abs(Fraction(x)), Fraction(threshold)
    if size < limit:
        size = limit if Fraction(word, 1 << 64) < size / limit else Fraction(0)
    return size if x > 0 else -size


def spread(rng: np.random.Generator, size: int, dtype: Any) -> np.ndarray:
    return (rng.normal(size=size) * np.exp2(rng.uniform(-12, 3, size))).astype(dtype)


# Decisions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*DTYPES, *NARROW])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.7, 1.0, 6.0, 448.0])
def test_every_decision_is_that_of_rationals(dtype: Any, threshold: float) -> None:
    x = spread(np.random.default_rng(1), 700, dtype)
    result = fpsim.prune(x, threshold, rng=Stream(5, offset=3), full=True)
    words = Stream(5, offset=3).words(x.size)
    expected = [pruned(float(v), result.threshold, int(w)) for v, w in zip(x, words, strict=True)]
    assert result.values.dtype == dtype
    assert [Fraction(float(v)) for v in result.values] == expected
    assert result.sparsity == np.mean([v == 0 for v in expected])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [1.0, 1.1, 1.9999, 3e-39, 2.5e38])
def test_where_the_upper_half_of_the_word_does_not_decide(dtype: Any, threshold: float) -> None:
    """Magnitudes built from their own random word lie within a unit of the boundary."""
    threshold = float(dtype(threshold))
    words = Stream(11).words(3000)
    near = (words.astype(np.float64) / 2.0**64 * threshold).astype(dtype)
    x = np.nextafter(near, near * ((np.arange(3000) % 3) - 1).astype(dtype)).astype(dtype)
    x = np.where(np.arange(3000) % 2, x, -x)
    got = fpsim.prune(x, threshold, rng=11, full=True)
    expected = [pruned(float(v), threshold, int(w)) for v, w in zip(x, words, strict=True)]
    assert [Fraction(float(v)) for v in got.values] == expected
    assert got.sparsity == expected.count(0) / 3000
    assert len(set(got.values.tolist())) >= 3


@pytest.mark.parametrize("width", [32, 64])
@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=150, deadline=None)
def test_any_finite_data_and_threshold(width: int, data: st.DataObject, seed: int) -> None:
    floats = st.floats(allow_nan=False, allow_infinity=False, width=width)
    x = np.array(data.draw(st.lists(floats, min_size=1, max_size=6)), f"f{width // 8}")
    threshold = abs(data.draw(floats))
    words = Stream(seed).words(x.size)
    got = fpsim.prune(x, threshold, rng=seed)
    for v, w, y in zip(x, words, got, strict=True):
        assert Fraction(float(y)) == pruned(float(v), threshold, int(w))
    assert not np.signbit(got[got == 0]).any()


@given(
    st.floats(0, 60000),
    st.sampled_from([np.float16, np.float32, ml_dtypes.bfloat16]),
)
@settings(max_examples=200, deadline=None)
def test_a_rounded_threshold_leaves_the_same_elements_below(threshold: float, dtype: Any) -> None:
    result = fpsim.prune(dtype(1), threshold, method="deterministic", full=True)
    assert float(dtype(result.threshold)) == result.threshold >= threshold
    with np.errstate(over="ignore"):
        below = np.nextafter(dtype(result.threshold), dtype(-1))
    assert result.threshold == 0 or float(below) < threshold


def test_large_elements_and_zeros() -> None:
    x = np.array([0.0, -0.0, 3.0, -3.0, 2.999, 1e30, -1e-30])
    got = fpsim.prune(x, 3.0, rng=0)
    assert got[[2, 3, 5]].tolist() == [3, -3, 1e30]
    assert not np.signbit(got[[0, 1, 6]]).any()
    assert fpsim.prune(x, 0.0).tolist() == x.tolist()
    assert not np.signbit(fpsim.prune(x, 0.0)[1])
    assert fpsim.prune([3, 0, -9], 2).dtype == np.float64


def test_nothing_to_prune() -> None:
    assert fpsim.prune(np.zeros((2, 3), np.float32), sparsity=0.5).tolist() == [[0, 0, 0]] * 2
    assert fpsim.prune(np.zeros(0), sparsity=0.5).shape == (0,)
    assert math.isnan(fpsim.prune([], 1.0, full=True).sparsity)
    assert fpsim.prune(2.5, 1.0) == 2.5
    result = fpsim.prune([1.0, 0.0, 0.0], sparsity=0.5, full=True)
    assert (result.threshold, result.sparsity, result.zeros_before) == (0, approx(2 / 3), 2)
    assert result.values.tolist() == [1, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", [{"threshold": 0.7}, {"sparsity": 0.9}])
def test_the_same_for_threads_layouts_and_parts(dtype: Any, how: dict[str, float]) -> None:
    x = spread(np.random.default_rng(0), 600 * 700, dtype).reshape(600, 700)
    whole = fpsim.prune(x, rng=9, full=True, **how)
    before = fpsim.get_num_threads()
    try:
        for threads in (1, 3):
            fpsim.set_num_threads(threads)
            assert np.array_equal(fpsim.prune(x, rng=9, **how), whole.values)
    finally:
        fpsim.set_num_threads(before)
    assert np.array_equal(fpsim.prune(np.asfortranarray(x), rng=9, **how), whole.values)
    assert np.array_equal(
        fpsim.prune(x[::-1], rng=9, **how), fpsim.prune(x[::-1].copy(), rng=9, **how)
    )
    part = fpsim.prune(x.ravel()[1001:], whole.threshold, rng=Stream(9, offset=1001))
    assert np.array_equal(part, whole.values.ravel()[1001:])


# Moments ------------------------------------------------------------------------------------------

VALUES = np.array([0.01, 0.25, 0.5, 0.99, 1.0, 7.0], np.float32)


def assert_unbiased(draws: int, values: np.ndarray, threshold: float) -> None:
    """Mean and mean squared error over draws, each within five standard errors."""
    rows = np.broadcast_to(values, (draws, values.size))
    got = fpsim.prune(np.ascontiguousarray(rows), threshold, rng=2)
    for i, value in enumerate(values.astype(np.float64)):
        variance = value * max(threshold - value, 0)
        error = got[:, i].astype(np.float64) - value
        assert abs(error.mean()) <= 5 * math.sqrt(variance / draws) + 1e-12
        deviation = float(np.std(error**2)) / math.sqrt(draws)
        assert abs((error**2).mean() - variance) <= 5 * deviation + 1e-12


def test_unbiased_with_its_variance() -> None:
    assert_unbiased(50_000, VALUES, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.01, 0.5, 0.99])
def test_unbiased_over_ten_million_draws(value: float) -> None:
    assert_unbiased(10_000_000, np.array([value], np.float32), 1.0)


def test_the_deterministic_twin_is_biased() -> None:
    x = spread(np.random.default_rng(3), 100_000, np.float64)
    result = fpsim.prune(np.abs(x), 1.0, method="deterministic", full=True)
    assert np.array_equal(result.values, np.where(np.abs(x) < 1, 0, np.abs(x)))
    assert result.sparsity == np.mean(np.abs(x) < 1)
    assert result.predicted == approx(result.sparsity, abs=1e-3)
    lost = np.abs(x)[np.abs(x) < 1].sum()
    assert np.sum(np.abs(x)) - result.values.sum() == approx(lost, rel=1e-9)
    stochastic = fpsim.prune(np.abs(x), 1.0, rng=4)
    error = math.sqrt(np.sum(np.where(np.abs(x) < 1, np.abs(x) * (1 - np.abs(x)), 0)))
    assert abs(stochastic.sum() - np.abs(x).sum()) < 5 * error < lost / 5


# Sparsity -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0, 30_000])
@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.85, 0.99])
@pytest.mark.parametrize("source", ["data", "sketch", "fit"])
def test_sparsity_is_reached(source: str, sparsity: float, zeros: int) -> None:
    n = 100_000
    x = np.random.default_rng(5).lognormal(-9, 1.6, n).astype(np.float32)
    x[:zeros] = 0
    fit: Any = {"data": None, "sketch": Sketch.of(x), "fit": Lognormal.fit(x)}[source]
    result = fpsim.prune(x, sparsity=sparsity, rng=6, fit=fit, full=True)
    floor = max(sparsity, zeros / n)
    assert result.zeros_before == zeros
    assert result.predicted == approx(floor, rel=1e-4)
    # A fit's prediction is off by at most its Kolmogorov-Smirnov distance.
    slack = fit.ks if source == "fit" else 1e-4
    assert abs(result.sparsity - floor) <= 5 * math.sqrt(floor * (1 - floor) / n) + slack
    assert result.sparsity == np.mean(result.values == 0)
    magnitudes = np.abs(x.astype(np.float64))
    by_hand = np.mean(
        np.maximum(1 - magnitudes / result.threshold, 0) if result.threshold else x == 0
    )
    assert abs(by_hand - floor) <= slack


@pytest.mark.parametrize("source", ["data", "fit"])
def test_deterministic_sparsity_is_a_quantile(source: str) -> None:
    x = np.random.default_rng(5).lognormal(-9, 1.6, 100_000)
    x[:20_000] = 0
    fit = Lognormal.fit(x) if source == "fit" else None
    for sparsity in (0.1, 0.3, 0.85, 0.99):
        result = fpsim.prune(x, sparsity=sparsity, fit=fit, method="deterministic", full=True)
        assert result.threshold == approx(np.quantile(x, sparsity), rel=0.03, abs=1e-300)
        assert result.sparsity == approx(max(sparsity, 0.2), abs=5e-3)
        assert result.predicted == approx(max(sparsity, 0.2), abs=1e-6)


def test_quantiles_of_equal_elements() -> None:
    x = np.repeat([0.0, 1.0, 1.001, 3.0], [2, 3, 1, 4]).astype(np.float32)
    sketch = Sketch.of(x)
    assert empirical_quantile(sketch, 0.2) == 0
    assert empirical_share_below(sketch, 1.0) == approx(0.2)
    assert empirical_share_below(sketch, 3.0) == approx(0.6)
    assert empirical_share_below(sketch, 1e300) == 1.0
    assert empirical_share_below(sketch, 1e-300) == approx(0.2)
    three = fpsim.prune(x, sparsity=0.7, method="deterministic", full=True)
    assert (three.threshold, three.sparsity) == (np.nextafter(np.float32(3), np.float32(4)), 1.0)


# Expectations -------------------------------------------------------------------------------------


def exact(sigma: float, threshold: float, k: float | None = None) -> tuple[Any, Any]:
    """(S, V) for mu = 0 in many digits, straight from their terms."""
    s, a = mpmath.mpf(sigma), mpmath.mpf(threshold)
    z = mpmath.log(a) / s
    share = mpmath.ncdf(z) - mpmath.exp(s**2 / 2) / a * mpmath.ncdf(z - s)
    rate = a * mpmath.exp(-3 * s**2 / 2)
    if k is None:
        return share, rate * mpmath.ncdf(z - s) - mpmath.ncdf(z - 2 * s)
    kept = mpmath.ncdf(k - 2 * s)
    if z > k:
        return share, rate * mpmath.ncdf(k - s) / kept - 1
    return share, (rate * mpmath.ncdf(z - s) - mpmath.ncdf(z - 2 * s)) / kept


@pytest.mark.parametrize("sigma", SIGMAS)
def test_expectations_in_many_digits(sigma: float) -> None:
    mu, zeros = -3.0, 0.25
    fit = Lognormal(mu, sigma, zero_fraction=zeros)
    with mpmath.workdps(80):
        for sparsity in SPARSITIES:
            total = zeros + (1 - zeros) * sparsity
            found = fpsim.expected_pruning(fit, sparsity=total, truncated_at=2.71)
            unit = mpmath.mpf(found.threshold) * mpmath.exp(-mu)
            share, nmse = exact(sigma, unit)
            truncated = exact(sigma, unit, mpmath.mpf("2.71"))[1]
            assert found.sparsity == approx(total, rel=1e-14)
            assert found.sparsity == approx(float(zeros + (1 - zeros) * share), rel=1e-14)
            slack = 1e-12 + 2e-16 / sparsity  # of the total, which ends in a digit of its own
            assert float(share) == approx(sparsity, rel=slack)
            assert found.nmse == approx(float(nmse), rel=1e-10)
            assert found.cosine == approx(float((1 + nmse) ** -0.5), rel=1e-14)
            assert found.truncated_cosine == approx(float((1 + truncated) ** -0.5), rel=1e-13)
            square = (1 - zeros) * mpmath.exp(2 * mu + 2 * mpmath.mpf(sigma) ** 2)
            assert found.variance == approx(float(nmse * square), rel=1e-10)
        for cosine in (1 - 1e-12, 0.999, 0.7, 0.1, 1e-3):
            for k in (None, 2.71, -1.0):
                found = fpsim.expected_pruning(fit, cosine=cosine, truncated_at=k)
                unit = mpmath.mpf(found.threshold) * mpmath.exp(-mu)
                nmse = exact(sigma, unit, None if k is None else mpmath.mpf(k))[1]
                assert float(nmse * mpmath.mpf(cosine) ** 2) == approx(1 - cosine**2, rel=1e-4)
                assert (found.cosine if k is None else found.truncated_cosine) == approx(cosine)


def reference_cosine(z: float, sigma: float, k: float) -> float:
    """As the reference implementation has it, for thresholds below the truncation."""
    phi = scipy.special.ndtr
    rest = math.exp(sigma * z - 1.5 * sigma**2) * phi(z - sigma)
    return math.sqrt(phi(k - 2 * sigma) / (rest + phi(k - 2 * sigma) - phi(z - 2 * sigma)))


@pytest.mark.parametrize("sigma", [0.5, 1.3, 2.2])
def test_truncated_cosine_is_that_of_the_reference(sigma: float) -> None:
    for z in (-1.0, 0.3, 2.0, 2.7):
        threshold = math.exp(0.4 + sigma * z)
        found = fpsim.expected_pruning(Lognormal(0.4, sigma), threshold, truncated_at=2.71)
        assert found.truncated_cosine == approx(reference_cosine(z, sigma, 2.71), rel=1e-12)


def test_expectations_of_a_point() -> None:
    found = fpsim.expected_pruning(Lognormal(math.log(3.0), 0.0, zero_fraction=0.5), 4.0)
    assert found.sparsity == approx(0.5 + 0.5 / 4)
    assert found.variance == approx(0.5 * 3)
    assert found.nmse == approx(1 / 3)
    assert fpsim.expected_pruning(Lognormal(0.0, 0.0), cosine=0.5).threshold == approx(4.0)


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300])
@pytest.mark.parametrize("kind", ["lognormal", "quantised", "two"])
def test_expectations_from_a_sketch(kind: str, scale: float) -> None:
    rng = np.random.default_rng(1)
    x = {
        "lognormal": lambda: rng.lognormal(0, 1.5, 20_000),
        "quantised": lambda: np.abs(fpsim.round(rng.normal(size=20_000), "float6_e3m2fn")),
        "two": lambda: np.repeat([1.0, 4.0], [3, 5]),
    }[kind]()
    x[:2] = 0
    sketch = Sketch.of(x * scale)
    for threshold in (0.01, 0.4, 1.0, 2.5, 30.0, 1e4):
        found = fpsim.expected_pruning(sketch, threshold * scale)
        error = np.sum(x * np.maximum(threshold - x, 0))
        assert found.nmse == approx(error / np.sum(x * x), rel=1e-3, abs=1e-9)
        assert found.sparsity == approx(np.mean(np.maximum(1 - x / threshold, 0)), rel=1e-3)
        cosine = math.sqrt(np.sum(x * x) / np.sum(np.maximum(threshold * x, x * x)))
        assert found.cosine == approx(cosine, rel=1e-4)
        if scale == 1:
            assert found.variance == approx(error / x.size, rel=1e-3, abs=1e-9)
        if found.nmse > 1e-9:
            back = fpsim.expected_pruning(sketch, cosine=found.cosine)
            assert back.nmse == approx(found.nmse, rel=1e-6)


def test_expectations_meet_what_happens() -> None:
    x = np.random.default_rng(2).lognormal(-5, 1.0, 1_000_000)
    result = fpsim.prune(x, sparsity=0.8, rng=3, full=True)
    errors = (result.values - x) ** 2
    for source in (Sketch.of(x), Lognormal.fit(x)):
        found = fpsim.expected_pruning(source, result.threshold)
        spread_of_x = 0 if isinstance(source, Sketch) else np.std(x * result.threshold)
        deviation = math.hypot(np.std(errors), spread_of_x) / 1000
        assert abs(errors.mean() - found.variance) < 5 * deviation
    cosine = result.values @ x / math.sqrt((result.values @ result.values) * (x @ x))
    assert fpsim.expected_pruning(Sketch.of(x), result.threshold).cosine == approx(cosine, rel=1e-3)


# Spreading a total over layers --------------------------------------------------------------------

LAYERS: dict[str, Any] = {
    "one": Lognormal(-9.0, 1.2, count=40_000),
    "two": Lognormal(-4.0, 2.2, zero_fraction=0.3, count=70_000),
    "three": Sketch.of(np.random.default_rng(0).laplace(0, 1e-3, 30_000)),
    "four": Lognormal(-7.0, 0.4, zero_fraction=0.9, count=5_000),
}
SIZES = {"one": 40_000, "two": 100_000, "three": 30_000, "four": 50_000}


def total(result: Any) -> float:
    zeros = sum(SIZES[name] * layer.sparsity for name, layer in result.layers.items())
    return zeros / sum(SIZES.values())


@pytest.mark.parametrize("target", [0.5, 0.85, 0.99])
@pytest.mark.parametrize("rule", ["optimal", "equal_cosine"])
def test_the_total_is_met(rule: str, target: float) -> None:
    result = fpsim.allocate_sparsity(LAYERS, target, rule)
    assert {name: layer.elements for name, layer in result.layers.items()} == SIZES
    assert list(result.layers) == list(LAYERS)
    assert result.sparsity == approx(target, rel=1e-9)
    assert total(result) == approx(target, rel=1e-9)
    for name, layer in result.layers.items():
        k = None if isinstance(LAYERS[name], Sketch) else 2.71
        found = fpsim.expected_pruning(LAYERS[name], layer.threshold, truncated_at=k)
        assert layer.sparsity == found.sparsity
        assert layer.cosine == (found.cosine if k is None else found.truncated_cosine)


def test_one_threshold_for_all_where_errors_are_absolute() -> None:
    result = fpsim.allocate_sparsity(LAYERS, 0.85, weighting="absolute")
    thresholds = {layer.threshold for layer in result.layers.values()}
    assert len(thresholds) == 1
    result = fpsim.allocate_sparsity(LAYERS, 0.85, truncated_at=None)
    for name, fit in LAYERS.items():
        if isinstance(fit, Lognormal):
            square = (1 - fit.zero_fraction) * math.exp(2 * fit.mu + 2 * fit.sigma**2)
        else:
            square = float(fit.power_sums(2).sum()) / fit.size
        ratio = result.layers[name].threshold / math.sqrt(square)
        assert ratio == approx(result.layers["one"].threshold / math.exp(-9 + 1.2**2))


def cost(thresholds: dict[str, float], weighting: str) -> float:
    """The sum of squared errors over all elements."""
    every = 0.0
    for name, threshold in thresholds.items():
        found = fpsim.expected_pruning(LAYERS[name], threshold)
        every += SIZES[name] * (found.variance if weighting == "absolute" else found.nmse)
    return every


@pytest.mark.parametrize("weighting", ["normalised", "absolute"])
def test_no_other_spreading_is_better(weighting: str) -> None:
    target = 0.85
    best = fpsim.allocate_sparsity(LAYERS, target, weighting=weighting, truncated_at=None)
    least = cost({n: layer.threshold for n, layer in best.layers.items()}, weighting)
    names = list(LAYERS)
    sizes = np.array([SIZES[n] for n in names], float)
    shares = np.array([best.layers[n].sparsity for n in names])
    floors = np.array([0.0, 0.3, 0.0, 0.9])

    def cost_of(these: np.ndarray) -> float:
        thresholds = {
            n: fpsim.expected_pruning(LAYERS[n], sparsity=float(s)).threshold
            for n, s in zip(names, these, strict=True)
        }
        return cost(thresholds, weighting)

    # Random feasible steps, down to those that only the curvature sees.
    rng = np.random.default_rng(7)
    tried = 0
    for _ in range(150):
        step = rng.normal(size=4) * 10.0 ** rng.uniform(-4, -0.5)
        step -= sizes * (step @ sizes) / (sizes @ sizes)
        other = shares + step
        if (other > floors).all() and (other < 0.999).all():
            tried += 1
            assert cost_of(other) >= least * (1 - 1e-9)
    assert tried > 50
    # And by a general method, from the homogeneous spreading.
    found = scipy.optimize.minimize(
        lambda s: cost_of(s) / least,
        np.maximum(floors, 0.8) + 0.01,
        method="SLSQP",
        bounds=[(f, 0.9999) for f in floors],
        constraints={"type": "eq", "fun": lambda s: (sizes @ s) / sizes.sum() - target},
        options={"ftol": 1e-10, "maxiter": 300},
    )
    assert found.fun >= 1 - 1e-6
    assert found.fun == approx(1.0, rel=0.02)


def test_equal_cosines() -> None:
    for k in (None, 2.71):
        result = fpsim.allocate_sparsity(LAYERS, 0.9, "equal_cosine", truncated_at=k)
        cosines = [layer.cosine for layer in result.layers.values()]
        assert cosines == approx([cosines[0]] * 4, rel=1e-9)


def test_protected_layers() -> None:
    layers = {
        name: Lognormal(-5.0, sigma, count=n)
        for name, sigma, n in (("a", 1.0, 5_000), ("b", 2.0, 20_000), ("c", 2.2, 70_000))
    }
    same = fpsim.allocate_sparsity(layers, 0.85, "homogeneous")
    assert [layer.sparsity for layer in same.layers.values()] == approx([0.85] * 3)
    goal = 0.98
    assert same.layers["a"].cosine < goal < 1
    result = fpsim.allocate_sparsity(layers, 0.85, "protected", protect={"a": goal, "b": 0.5})
    assert result.layers["a"].cosine == approx(goal)
    assert result.layers["b"].sparsity == approx(0.85)  # its goal is met
    lost = 5_000 * (0.85 - result.layers["a"].sparsity)
    assert result.layers["c"].sparsity == approx(0.85 + lost / 70_000)
    assert result.sparsity == approx(0.85)
    capped = fpsim.allocate_sparsity(layers, 0.85, "protected", protect={"b": 0.9999}, cap=0.86)
    assert [capped.layers[name].sparsity for name in "ac"] == approx([0.86, 0.86])
    assert capped.sparsity < 0.85
    alone = fpsim.allocate_sparsity(layers, 0.95, "protected", protect=dict.fromkeys(layers, 0.1))
    assert alone.sparsity == approx(0.95)


def test_more_zeros_than_asked_for() -> None:
    for rule in fpsim.Allocation:
        protect = {"one": 0.9} if rule == "protected" else None
        result = fpsim.allocate_sparsity(LAYERS, 0.1, rule, protect=protect)
        assert result.layers["four"].threshold == 0 or rule == "equal_cosine"
        assert result.layers["four"].sparsity >= 0.9
        assert result.sparsity >= 80_000 * 0.9 / sum(SIZES.values()) > 0.1


def test_the_thresholds_do_what_they_say() -> None:
    rng = np.random.default_rng(8)
    data = {
        "a": rng.lognormal(-8, 1.5, 50_000).astype(np.float32),
        "b": rng.normal(0, 1e-5, 80_000).astype(np.float32),
    }
    result = fpsim.allocate_sparsity({n: Sketch.of(x) for n, x in data.items()}, 0.85)
    zeros = 0
    for name, x in data.items():
        values = fpsim.prune(x, result.layers[name].threshold, rng=1)
        zeros += np.count_nonzero(values == 0)
        cosine = values @ x / math.sqrt(float(values @ values) * float(x @ x))
        assert cosine == approx(result.layers[name].cosine, abs=0.02)
    assert zeros / 130_000 == approx(0.85, abs=5 * math.sqrt(0.85 * 0.15 / 130_000))


# NaN and infinity ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["stochastic", "deterministic"])
@pytest.mark.parametrize("dtype", [*DTYPES, np.float16, ml_dtypes.bfloat16])
def test_non_finite_elements(dtype: Any, method: str) -> None:
    x = np.array([[1.0, np.nan, 4.0], [-np.inf, 2.0, 0.0]], dtype)
    for how in ({"threshold": 2.0}, {"sparsity": 0.5}):
        with pytest.raises(
            ValueError, match=r"2 NaN or infinite elements, the first at index \(0, 1\)"
        ):
            fpsim.prune(x, method=method, **how)
    kept = fpsim.prune(x, 2.0, rng=1, nonfinite="propagate", method=method, full=True)
    assert np.isnan(kept.values[0, 1])
    assert kept.values[1, 0] == -np.inf
    finite = np.isfinite(x.astype(np.float64))
    assert kept.sparsity == np.mean(kept.values[finite] == 0)
    assert (kept.nonfinite, kept.zeros_before) == (2, 1)
    skipped = fpsim.prune(x, 2.0, rng=1, nonfinite="skip", method=method, full=True)
    assert np.array_equal(skipped.values[finite], kept.values[finite])
    assert skipped.values[0, 1] == skipped.values[1, 0] == 0
    assert skipped.sparsity == np.mean(skipped.values == 0)
    assert (skipped.nonfinite, skipped.zeros_before) == (2, 1)


def test_sparsity_counts_what_is_skipped() -> None:
    x = np.random.default_rng(0).normal(size=20_000)
    x[:5000] = np.nan
    skipped = fpsim.prune(x, sparsity=0.6, rng=1, nonfinite="skip", full=True)
    assert skipped.predicted == approx(0.6, rel=1e-6)
    assert skipped.sparsity == np.mean(skipped.values == 0) == approx(0.6, abs=0.02)
    kept = fpsim.prune(x, sparsity=0.6, rng=1, nonfinite="propagate", full=True)
    assert kept.predicted == approx(0.6, rel=1e-6)
    assert kept.sparsity == np.mean(kept.values[5000:] == 0) == approx(0.6, abs=0.02)
    assert kept.threshold > skipped.threshold
