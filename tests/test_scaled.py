"""ScaledRounding and Chain: which scale, when it is fitted, and what is rounded with it."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fpsim
from fpsim import Chain, Lognormal, ScaledRounding, Sketch, Stream, spec
from fpsim.analysis.measure import measured_error, summary_between


def lognormal(size: int, mu: float = -12.0, sigma: float = 2.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.lognormal(mu, sigma, size) * rng.choice([-1, 1], size)).astype(np.float32)


@pytest.mark.parametrize("scale", [2.0**14, 3000.0])
def test_values_are_rounded_in_exact_arithmetic(scale: float) -> None:
    x = lognormal(300)
    found = ScaledRounding("e3m2f", scale)(x)
    fmt = fpsim.Format.parse("e3m2f")
    for value, result in zip(x.tolist(), found.tolist(), strict=True):
        # The product in float64, as the docstring says where the scale is no power of two.
        product = Fraction(value * scale)
        exact = spec.round(product, fmt, overflow="saturate")
        assert result == np.float32(float(exact) / scale)


def brute_force(x: np.ndarray, fmt: str, metric: str) -> float:
    """The best of all powers of two, by rounding the data with each."""
    return min(
        (2.0**k for k in range(-10, 60)),
        key=lambda scale: (
            1 - measured_error(x, fmt, scale, metric)
            if metric == "cosine"
            else measured_error(x, fmt, scale, metric)
        ),
    )


@pytest.mark.parametrize("fmt", ["e4m1f", "e2m1f", "e5m2"])
@pytest.mark.parametrize("metric", ["relative", "nmse", "cosine"])
def test_the_scale_is_the_best_for_the_data(fmt: str, metric: str) -> None:
    x = lognormal(20_000)
    rounding = ScaledRounding(fmt, metric, basis="sketch")
    rounding(x)
    best = brute_force(x, fmt, metric)
    found, least = (measured_error(x, fmt, s, metric) for s in (rounding.current, best))
    assert found == pytest.approx(least, rel=1e-6)


def test_the_fit_decides_where_it_is_told_to() -> None:
    """On data that no lognormal fits, and only for the relative error by itself."""
    x = np.concatenate([lognormal(9000, -12, 0.2), lognormal(1000, 4, 0.2)])
    fit = Lognormal.fit(x)
    assert fit.quality == "poor"
    chosen = {basis: ScaledRounding("e4m1f", basis=basis) for basis in ("auto", "fit", "sketch")}
    for rounding in chosen.values():
        rounding(x)
    assert chosen["fit"].current == fit.best_scale("e4m1f")[0]
    assert chosen["auto"].current == chosen["sketch"].current != chosen["fit"].current
    good = lognormal(50_000)
    for metric, decides in (("relative", "fit"), ("nmse", "sketch")):
        auto = ScaledRounding("e3m1f", metric)
        auto(good)
        same = ScaledRounding("e3m1f", metric, basis=decides)
        same(good)
        assert auto.current == same.current


@pytest.mark.parametrize("top", [0.001, 0.875, 0.8750001, 1.0, 28.0, 3e-30])
def test_the_maximum_just_does_not_overflow(top: float) -> None:
    """And with twice the scale it would."""
    x = np.array([top, -top / 3, 0.0])
    rounding = ScaledRounding("e3m2f", "maximum")
    rounding(x)
    limit = Fraction(fpsim.Format.parse("e3m2f").max)
    assert Fraction(top) * Fraction(rounding.current) <= limit
    assert Fraction(top) * Fraction(rounding.current) * 2 > limit


def test_when_the_scale_is_fitted() -> None:
    """To the 1st, 2nd, 4th, 8th …, then every `refit`-th array."""
    rounding = ScaledRounding("e4m3", "maximum", refit=10, window=1)
    before, fitted = None, []
    for count in range(1, 45):
        rounding(np.full(3, 2.0**-count))
        if rounding.current != before:
            fitted.append(count)
        before = rounding.current
    assert fitted == [1, 2, 4, 8, 10, 20, 30, 40]


def test_the_window_is_what_counts() -> None:
    rounding = ScaledRounding("e4m3", "maximum", refit=1, window=3)
    scales = []
    for top in (1.0, 64.0, 1.0, 1.0, 1.0, 1.0):
        rounding([top])
        scales.append(rounding.current)
    assert scales == [128.0, 2.0, 2.0, 2.0, 128.0, 128.0]  # 240 is the largest of e4m3


def test_zeros_are_waited_through() -> None:
    rounding = ScaledRounding("e4m3", "nmse", refit=1000)
    for _ in range(3):
        assert not rounding(np.zeros(5)).any()
    assert rounding.current is None
    rounding(np.array([0.001]))
    assert rounding.current is not None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_dtypes(dtype: Any) -> None:
    """What a dtype holds is exact; float16's range does not bind the scale."""
    x = (lognormal(500, -8, 1.0) + 0).astype(dtype)
    rounding = ScaledRounding("e3m2f", "maximum")
    found = rounding(x)
    assert found.dtype == dtype
    wide = fpsim.round(x.astype(np.float64) * rounding.current, "e3m2f", overflow="saturate")
    np.testing.assert_array_equal(found, (wide / rounding.current).astype(dtype))


def test_a_narrow_dtype_does_not_bind_the_scale() -> None:
    """The scaled format has values that float16 lacks; those that come out, it has."""
    x = np.array([2.0**-18, -7.0 * 2.0**-21, 2.0**-24], np.float16)
    rounding = ScaledRounding("e5m0f", "maximum")
    assert rounding(x).tolist() == [2.0**-18, -(2.0**-18), 2.0**-24]
    assert rounding.current == 2.0**34


def test_stochastic_rounding_draws_from_its_stream() -> None:
    x = lognormal(1000)
    rounding = ScaledRounding("e4m1f", 2.0**16, rounding="stochastic")
    expected = fpsim.round(x, "e4m1f,bias=23", rounding="stochastic", overflow="saturate", rng=3)
    np.testing.assert_array_equal(rounding(x, rng=3), expected)
    assert not np.array_equal(rounding(x, rng=4), expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_copies_go_their_own_way(copied: Any) -> None:
    one = ScaledRounding("e4m3", "maximum")
    one([1.0])
    other = copied(one)
    other([2.0**-20])  # its second array
    assert one.current == 128.0
    assert (one.seen, other.seen) == (1, 2)
    assert other.current == 128.0  # the larger of both is in its window


def test_a_chain_is_one_after_the_other() -> None:
    x = lognormal(4000)
    first, second = partial(fpsim.luq, exponent_bits=3), partial(fpsim.nm_sparsify, n=1, m=2)
    stream = Stream(9)
    between = fpsim.luq(x, 3, rng=stream.derive(0))
    expected = fpsim.nm_sparsify(between, 1, 2, rng=stream.derive(1))
    np.testing.assert_array_equal(Chain(first, second)(x, rng=9), expected)
    np.testing.assert_array_equal(Chain()(x), x)


def test_streams_of_different_labels_differ() -> None:
    labels = [(), ("a",), ("b",), ("a", 1), ("a", 2), ("a1",), (1,), ("1",), ("a", "1")]
    seeds = {Stream(s, o).derive(*label).seed for s in (0, 1) for o in (0, 1) for label in labels}
    assert len(seeds) == 4 * len(labels)
    # SHA-256 of "(7, 0, 'conv1', 3)", its first eight bytes, from sha256sum.
    assert Stream(7).derive("conv1", 3).seed == 5418138961639433629
    assert Stream(7).derive("conv1", 3).offset == 0


def test_summary_between_against_plain_sums() -> None:
    x = lognormal(70_000)
    x[::7] = 0
    q = fpsim.round(x * np.float32(2.0**15), "e2m1f", overflow="saturate") / np.float32(2.0**15)
    q[5] = -q[5]
    past = 2.0**-13
    found = summary_between(x, q, past)
    there = x != 0
    a, b = np.abs(x[there]).astype(float), (np.sign(x[there]) * q[there]).astype(float)
    assert found.relative == pytest.approx(np.mean(np.abs(b - a) / a), rel=1e-12)
    assert found.nmse == pytest.approx(np.sum((b - a) ** 2) / np.sum(a * a), rel=1e-12)
    assert found.bias == pytest.approx(np.sum(b - a) / np.sum(a), rel=1e-12)
    cosine = np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))
    assert found.cosine == pytest.approx(cosine, rel=1e-12)
    assert found.underflow == pytest.approx(np.mean(b == 0), rel=1e-12)
    assert found.overflow == pytest.approx(np.mean(a > past), rel=1e-12)
    wide = summary_between([np.nan, np.inf, 0.0, 2.0**1000, 2.0**-1000], [1, 1, 1, 2.0**999, 0.0])
    assert (wide.relative, wide.nmse, wide.underflow) == (0.75, 0.25, 0.5)
    measured = fpsim.analysis.measure.measured_summary(x, "e2m1f", 2.0**15)
    q[5] = -q[5]
    again = summary_between(x, q, float(np.inf))
    assert again.nmse == pytest.approx(measured.nmse, rel=1e-12)
    assert Sketch.of(x).zeros == np.count_nonzero(x == 0)
