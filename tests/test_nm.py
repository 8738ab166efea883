"""N:M sparsity: unbiased, optimal, never more than N, whatever the values; and packing."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Lognormal, Sketch, Stream

PATTERNS = [(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (2, 7), (1, 1), (3, 3)]


def optimum(a: np.ndarray, n: int) -> tuple[list[Fraction], Fraction]:
    """(p, variance) that minimise sum of a**2 / p with p <= 1, sum p = n: by bisecting nothing.

    Tries every k; in rational numbers.
    """
    sizes = [Fraction(float(v)) for v in np.abs(a)]
    if sum(v != 0 for v in sizes) <= n:
        return [Fraction(int(v != 0)) for v in sizes], Fraction(0)
    for k in range(n):
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        tau = sum(sizes[i] for i in order[k:]) / (n - k)
        p = [min(Fraction(1), v / tau) for v in sizes]
        if sum(p) == n:
            kept = [(v, q) for v, q in zip(sizes, p, strict=True) if v]
            return p, sum((v * v * (1 / q - 1) for v, q in kept), Fraction(0))
    raise AssertionError(a)


def hostile(rng: np.random.Generator, blocks: int, m: int, dtype: Any) -> np.ndarray:
    info = np.finfo(dtype)
    limit = float(info.max) / m
    x = rng.normal(size=(blocks, m)).astype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        x[1::8] *= dtype(info.smallest_subnormal * 8)
        low, high = (-148, 120) if dtype == np.float32 else (-1070, 1015)
        x[2::8] *= np.exp2(rng.integers(low, high, x[2::8].shape)).astype(dtype)
        x[3::8] = rng.choice([0, 1, -1, 2], x[3::8].shape)
        x[4::8] = dtype(limit) * rng.uniform(-1, 1, x[4::8].shape)
        x[5::8] = rng.choice([0, info.smallest_subnormal, info.tiny, limit, 1], x[5::8].shape)
        x[6::8] = 1 + rng.integers(0, 3, x[6::8].shape) * dtype(info.eps)
    return x


# Masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["mvue", "top", "approximate"])
@pytest.mark.parametrize(("n", "m"), PATTERNS)
def test_never_more_than_n_whatever_the_values(n: int, m: int, method: str, dtype: Any) -> None:
    if method == "approximate" and (n, m) != (2, 4):
        return
    x = hostile(np.random.default_rng(0), 20_000, m, dtype)
    if method == "approximate":
        x[np.abs(x) > np.finfo(dtype).max / 2**30] = 1  # 1/p may be large
        x[2::8] = 0
    got = fpsim.nm_sparsify(x, n, m, rng=1, method=method)
    assert np.count_nonzero(got, axis=1).max() <= n
    assert np.isfinite(got).all()
    assert ((got == 0) | (np.sign(got) == np.sign(x))).all()
    assert not np.signbit(got[got == 0]).any()
    few = np.count_nonzero(x, axis=1) <= n
    assert few.any()
    assert np.array_equal(got[few], x[few])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "m"), PATTERNS)
def test_kept_values_are_the_element_or_tau(n: int, m: int, dtype: Any) -> None:
    x = hostile(np.random.default_rng(1), 300, m, dtype)
    got = fpsim.nm_sparsify(x, n, m, rng=2)
    for block, kept in zip(x, got, strict=True):
        p, _ = optimum(block, n)
        for value, q, result in zip(block, p, kept, strict=True):
            if result == 0:
                continue
            exact = Fraction(float(value)) / q
            if q == 1 and result == value:
                continue
            # tau, rounded up, but for what float64 loses of the sum.
            above = abs(Fraction(float(result))) - abs(exact)
            ulp = Fraction(float(np.spacing(np.abs(result))))
            lost = abs(exact) * m / 2**52
            assert -lost <= above < ulp + lost


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 8)])
def test_decisions_are_those_of_systematic_sampling(n: int, m: int, dtype: Any) -> None:
    """In rational numbers with tau rounded up, by the block's own word."""
    x = np.random.default_rng(3).normal(size=(500, m)).astype(dtype)
    got = fpsim.nm_sparsify(x, n, m, rng=Stream(4, offset=2))
    words = Stream(4, offset=2).words(500)
    near = 0
    for block, kept, word in zip(x, got, words, strict=True):
        p, _ = optimum(block, n)
        u = Fraction(int(word) >> 14, 1 << 50)
        values = [Fraction(float(abs(v))) for v in block]
        drawn = [i for i in range(m) if p[i] < 1]
        tau = sum(values[i] for i in drawn) / (n - (m - len(drawn)))
        total = Fraction(0)
        expected = [q == 1 for q in p]
        for i in drawn:
            before, total = total, total + values[i]
            for t in range(n):
                point = (u + t) * tau
                near += abs(point - total) < total / 2**20
                expected[i] |= before <= point < total
        if near:
            near = 0
            continue  # the rounding of tau may decide
        assert [bool(v) for v in kept] == expected


def moments(
    block: np.ndarray, n: int, m: int, method: str, draws: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean error, its standard error, errors' squares) over draws."""
    rows = np.ascontiguousarray(np.broadcast_to(block, (draws, m)))
    got = fpsim.nm_sparsify(rows, n, m, rng=6, method=method).astype(np.float64)
    error = got - block.astype(np.float64)
    return error.mean(axis=0), error.std(axis=0) / math.sqrt(draws), (error**2).sum(axis=1)


BLOCKS = {
    (1, 2): [[1.0, 3.0], [0.1, -0.1], [1e-3, 5.0]],
    (2, 4): [[1.0, 2.0, -3.0, 4.0], [10.0, 1.0, 1.0, -2.0], [1, 0.3, 0.09, 0.027], [1, 1, 1, 1]],
    (3, 5): [[1.0, 2.0, 30.0, 4.0, -5.0], [0.0, 1.0, 1.0, 2.0, 3.0]],
}
CASES = [(n, m, block) for (n, m), blocks in BLOCKS.items() for block in blocks]


def check_moments(block: list[float], n: int, m: int, method: str, draws: int) -> None:
    x = np.array(block, np.float32)
    mean, deviation, squares = moments(x, n, m, method, draws)
    assert (np.abs(mean) <= 5 * deviation + 3e-7 * np.abs(x).sum()).all()
    variance = float(fpsim.nm_variance(x, n, m, method=method)[0])
    margin = 5 * float(squares.std()) / math.sqrt(draws) + 1e-6 * variance
    assert abs(squares.mean() - variance) <= margin


@pytest.mark.parametrize(("n", "m", "block"), CASES)
def test_unbiased_with_the_variance_predicted(n: int, m: int, block: list[float]) -> None:
    check_moments(block, n, m, "mvue", 200_000)
    if (n, m) == (2, 4):
        check_moments(block, n, m, "approximate", 200_000)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "block"), CASES)
def test_unbiased_over_ten_million_draws(n: int, m: int, block: list[float]) -> None:
    check_moments(block, n, m, "mvue", 10_000_000)


@pytest.mark.parametrize(("n", "m"), PATTERNS)
def test_variance_is_that_of_rationals(n: int, m: int) -> None:
    x = hostile(np.random.default_rng(2), 64, m, np.float32)
    x = x[np.abs(x).max(axis=1) < 1e30]
    got = fpsim.nm_variance(x, n, m)
    for block, variance in zip(x, got[:, 0], strict=True):
        _, exact = optimum(block, n)
        size = float(sum(Fraction(float(v)) ** 2 for v in block))
        assert variance == pytest.approx(float(exact), rel=1e-12, abs=1e-15 * size)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 8)])
def test_no_feasible_probabilities_have_less_variance(n: int, m: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(10):
        a = np.exp(rng.normal(0, 1.5, m))
        least = float(fpsim.nm_variance(a, n, m)[0])
        solved = scipy.optimize.minimize(
            lambda p, a=a: np.sum(a * a / p) - np.sum(a * a),
            np.full(m, n / m),
            jac=lambda p, a=a: -a * a / p**2,
            bounds=[(1e-6, 1.0)] * m,
            constraints={"type": "eq", "fun": lambda p: p.sum() - n, "jac": lambda p: np.ones(m)},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 1000},
        )
        assert least <= solved.fun * (1 + 1e-6) + 1e-9
        assert least == pytest.approx(solved.fun, rel=0.02, abs=1e-9)  # it stops early
        for _ in range(200):
            p = rng.dirichlet(np.ones(m)) * n
            if p.max() <= 1:
                assert np.sum(a * a / p) - np.sum(a * a) >= least * (1 - 1e-12)


def test_approximate_variance_is_within_twice_the_optimum() -> None:
    rng = np.random.default_rng(8)
    x = np.exp(rng.normal(0, rng.uniform(0.1, 6, (4000, 1)), (4000, 4)))
    ratio = fpsim.nm_variance(x, 2, 4, method="approximate") / fpsim.nm_variance(x, 2, 4)
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() < 2
    assert ratio.max() > 1.5


def test_approximate_variance_by_enumerating_pairs() -> None:
    a = np.array([5.0, 1.0, 2.0, 0.5])
    p = np.zeros(4)
    for i in range(4):
        for j in range(4):
            if i != j:
                chance = a[i] / a.sum() * a[j] / (a.sum() - a[i])
                p[i] += chance
                p[j] += chance
    exact = np.sum(a * a * (1 / p - 1))
    assert fpsim.nm_variance(a, 2, 4, method="approximate")[0] == pytest.approx(exact)


@pytest.mark.parametrize("method", ["mvue", "approximate", "top"])
def test_mean_errors_of_normal_data(method: str) -> None:
    """2:4 of normal data: 0.473, 0.502 and 0.132 of the sum of squares."""
    expected = {"mvue": 0.473, "approximate": 0.502, "top": 0.132}[method]
    x = np.random.default_rng(9).normal(size=(100_000, 4))
    assert fpsim.nm_variance(x, 2, 4, method=method).sum() / (x**2).sum() == pytest.approx(
        expected, abs=2e-3
    )
    got = fpsim.nm_sparsify(x, 2, 4, rng=1, method=method)
    assert ((got - x) ** 2).sum() / (x**2).sum() == pytest.approx(expected, rel=0.02)


def test_expected_nmse_of_pairs() -> None:
    rng = np.random.default_rng(10)
    for source, x in (
        (Lognormal(-3.0, 0.8, zero_fraction=0.3), rng.lognormal(-3, 0.8, 2_000_000)),
        ("normal", rng.normal(size=2_000_000)),
        ("laplace", rng.laplace(size=2_000_000)),
    ):
        if isinstance(source, Lognormal):
            x *= rng.random(x.size) >= 0.3
        got = fpsim.nm_variance(x, 1, 2).sum() / (x**2).sum()
        assert fpsim.expected_nm_nmse(source) == pytest.approx(got, rel=0.01)
        assert fpsim.expected_nm_nmse(Sketch.of(x)) == pytest.approx(got, rel=0.01)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=6, max_size=6), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_top_keeps_the_largest(values: list[float], n: int) -> None:
    got = fpsim.nm_sparsify(np.array(values, np.float32), n, 6, method="top")
    order = sorted(range(6), key=lambda i: (-abs(values[i]), i))[:n]
    assert got.tolist() == [values[i] + 0.0 if i in order else 0.0 for i in range(6)]


# Axes, threads, padding ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 6)])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_any_axis_is_the_last_one_moved(axis: int, n: int, m: int, dtype: Any) -> None:
    x = np.random.default_rng(1).normal(size=(24, 36, 48)).astype(dtype)
    moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    expected = np.moveaxis(fpsim.nm_sparsify(moved, n, m, rng=3), -1, axis)
    got = fpsim.nm_sparsify(x, n, m, axis, rng=3)
    assert got.dtype == dtype
    assert np.array_equal(got, expected)
    assert np.array_equal(fpsim.nm_sparsify(x[:, ::-1][:, ::-1], n, m, axis, rng=3), expected)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 7)])
def test_the_same_for_threads_and_parts(n: int, m: int) -> None:
    x = np.random.default_rng(1).normal(size=m * 90_000).astype(np.float32)
    whole = fpsim.nm_sparsify(x, n, m, rng=3)
    before = fpsim.get_num_threads()
    try:
        for threads in (1, 3):
            fpsim.set_num_threads(threads)
            assert np.array_equal(fpsim.nm_sparsify(x, n, m, rng=3), whole)
    finally:
        fpsim.set_num_threads(before)
    part = fpsim.nm_sparsify(x[m * 1001 :], n, m, rng=Stream(3, offset=1001))
    assert np.array_equal(part, whole[m * 1001 :])


def test_padding() -> None:
    x = np.random.default_rng(1).normal(size=(5, 10))
    with pytest.raises(ValueError, match="pad=True to treat it as if 2 zeros followed"):
        fpsim.nm_sparsify(x, 2, 4)
    got = fpsim.nm_sparsify(x, 2, 4, rng=1, pad=True)
    assert np.array_equal(got[:, :8], fpsim.nm_sparsify(x[:, :8], 2, 4, rng=1))
    assert np.array_equal(got[:, 8:], x[:, 8:])  # two of the padded four
    variance = fpsim.nm_variance(x, 2, 4, pad=True)
    assert variance.shape == (5, 3)
    assert not variance[:, 2].any()
    one = fpsim.nm_sparsify(x[:, :1], 1, 4, rng=1, pad=True)
    assert np.array_equal(one, x[:, :1])


def test_zeros_and_empty() -> None:
    assert not fpsim.nm_sparsify(np.zeros((3, 4)), 2, 4).any()
    assert fpsim.nm_sparsify(np.zeros((0, 4)), 2, 4).shape == (0, 4)


# Bad values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4)])
def test_non_finite_elements(n: int, m: int) -> None:
    x = np.ones((2, 8))
    x[1, 0], x[1, 1], x[0, 5] = np.inf, np.nan, -np.inf
    with pytest.raises(
        ValueError, match=r"3 NaN or infinite elements, the first at index \(0, 5\)"
    ):
        fpsim.nm_sparsify(x, n, m)
    clean = np.where(np.isfinite(x), x, 0)
    expected = fpsim.nm_sparsify(clean, n, m, rng=1)
    assert np.array_equal(fpsim.nm_sparsify(x, n, m, rng=1, nonfinite="skip"), expected)
    got = fpsim.nm_sparsify(x, n, m, rng=1, nonfinite="propagate")
    assert got[1, 0] == np.inf
    assert np.isnan(got[1, 1]) == (n == 2)
    assert got[0, 5] == -np.inf
    assert np.count_nonzero(got.reshape(-1, m), axis=1).max() <= n


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4)])
def test_what_leaves_the_range_is_counted(n: int, m: int, dtype: Any) -> None:
    x = np.full(2 * m, np.finfo(dtype).max, dtype)
    x[m:] = 1
    with pytest.raises(ValueError, match=f"1 blocks.*{np.dtype(dtype).name}; scale x down"):
        fpsim.nm_sparsify(x, n, m, rng=1)


# Packing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), PATTERNS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_packing_there_and_back(axis: int, n: int, m: int) -> None:
    x = np.random.default_rng(4).normal(size=(m * 5, m * 3, m * 2)).astype(np.float32)
    sparse = fpsim.nm_sparsify(x, n, m, axis, rng=1)
    sparse[: m * 2, :m] = 0
    packed = fpsim.nm_pack(sparse, n, m, axis)
    assert packed.values.size == sparse.size * n // m
    assert np.array_equal(fpsim.nm_unpack(packed), sparse)


def test_metadata_of_every_pair_of_places() -> None:
    """Two-bit places, the first in the low bits: 0b0100 for elements 0 and 1, up to 0b1110."""
    for i in range(4):
        for j in range(i + 1, 4):
            x = np.zeros(8)
            x[[i, j]] = 1, 2
            x[[4, 7]] = 3, 4
            packed = fpsim.nm_pack(x, 2, 4)
            assert packed.metadata.tolist() == [i | j << 2 | 0 << 4 | 3 << 6]
            assert packed.values.tolist() == [1, 2, 3, 4]
    assert fpsim.nm_pack([0.0, 1.0, 1.0, 0.0], 1, 2).metadata.tolist() == [0b0100_1110]


def test_packing_refuses_what_is_not_sparse() -> None:
    with pytest.raises(ValueError, match="1 blocks with more than n=2"):
        fpsim.nm_pack([1.0, 1.0, 1.0, 0.0], 2, 4)


@pytest.mark.parametrize("rows", [32, 64])
def test_metadata_are_torchs(rows: int) -> None:
    """Places as PyTorch's converter for CUTLASS stores them, its reordering undone."""
    torch = pytest.importorskip("torch")
    conversions = pytest.importorskip("torch.sparse._semi_structured_conversions")
    x = np.random.default_rng(0).normal(size=(rows, 128)).astype(np.float16)
    sparse = fpsim.nm_sparsify(x, 2, 4, method="top")
    packed = fpsim.nm_pack(sparse, 2, 4)
    values, metadata = conversions.sparse_semi_structured_from_dense_cutlass(
        torch.from_numpy(sparse)
    )
    assert np.array_equal(values.numpy(), packed.values)
    words = packed.metadata.view("<i2")
    offsets = conversions._calculate_meta_reordering_scatter_offsets(
        rows, words.shape[1], torch.int16, "cpu"
    ).numpy()
    assert np.array_equal(metadata.numpy().ravel()[offsets], words.ravel())
