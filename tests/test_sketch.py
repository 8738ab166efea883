"""Sketch: counts and integer sums against brute force in rationals, and exact merging."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import fields
from fractions import Fraction
from functools import reduce
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Sketch


@np.errstate(invalid="ignore")  # signalling NaN among random bits
def brute(x: np.ndarray) -> dict[str, Any]:
    """What a sketch holds, element by element, in Python's integers."""
    cells: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    counts = {"zeros": 0, "nans": 0, "infinities": 0}
    extremes = [math.inf, 0.0]
    for value in np.asarray(x).astype(np.float64).ravel().tolist():
        if math.isnan(value):
            counts["nans"] += 1
        elif math.isinf(value):
            counts["infinities"] += 1
        elif value == 0:
            counts["zeros"] += 1
        else:
            magnitude = abs(value)
            significand, exponent = math.frexp(magnitude)
            fraction = Fraction(significand) * 2 - 1  # 0 to 1 within the binade
            part = math.floor(fraction * 128)
            # In units of 2^-31 of the binade; exact for 32 bits, half up for more.
            units = (fraction - Fraction(part, 128)) * (1 << 31)
            offset = math.floor(units + Fraction(1, 2))
            cell = cells[(exponent - 1) * 128 + part]
            cell[0] += 1
            cell[1] += offset
            cell[2] += offset * offset
            extremes = [min(extremes[0], magnitude), max(extremes[1], magnitude)]
    return {"cells": cells, "extremes": extremes, "size": np.size(x), **counts}


def offsets_of(sketch: Sketch) -> list[int]:
    """The sums of offsets, from their limbs."""
    pairs = zip(sketch.offsets_high.tolist(), sketch.offsets_low.tolist(), strict=True)
    return [(high << 64) + low for high, low in pairs]


def squares(sketch: Sketch) -> list[int]:
    pairs = zip(sketch.squares_high.tolist(), sketch.squares_low.tolist(), strict=True)
    return [(high << 64) + low for high, low in pairs]


def check(x: Any, sketch: Sketch | None = None) -> None:
    array = np.asarray(x)
    sketch = Sketch.of(x) if sketch is None else sketch
    want = brute(array)
    for name in ("size", "zeros", "nans", "infinities"):
        assert getattr(sketch, name) == want[name], name
    assert [sketch.smallest, sketch.largest] == want["extremes"]
    cells = sorted(want["cells"].items())
    assert sketch.keys.tolist() == [key for key, _ in cells]
    assert sketch.counts.tolist() == [cell[0] for _, cell in cells]
    assert offsets_of(sketch) == [cell[1] for _, cell in cells]
    assert squares(sketch) == [cell[2] for _, cell in cells]
    assert sketch.nonzero == sum(cell[0] for _, cell in cells)


def mixed(dtype: Any, size: int = 3000, seed: int = 0) -> np.ndarray:
    """Random bit patterns: all exponents, subnormals, zeros, infinities, NaN."""
    rng = np.random.default_rng(seed)
    width = np.dtype(dtype).itemsize
    bits = rng.integers(0, 1 << 8 * width, size, f"u{width}")
    x = bits.view(dtype)
    normal = (rng.normal(0, 1, size // 4) * 0.01).astype(dtype)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 2.0]).astype(dtype)
    subnormal = (bits[:200] & bits.dtype.type(0xF)).view(dtype)
    return np.concatenate([x, normal, special, subnormal])


DTYPES = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_and_sums(dtype: Any) -> None:
    check(mixed(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subnormals_and_both_ends(dtype: Any) -> None:
    info = np.finfo(dtype)
    tiny, least = info.smallest_normal, info.smallest_subnormal
    with np.errstate(under="ignore"):
        x = [least, 3 * least, -least, tiny / 2, tiny, np.nextafter(tiny, dtype(0)), info.max]
    check(np.array([*x, -info.max, 1.0, np.nextafter(dtype(2), dtype(0))], dtype))
    for one in x:
        check(np.array([one], dtype))


@pytest.mark.parametrize(
    "x",
    [
        [],
        0.0,
        [0.0, -0.0],
        [np.nan],
        [np.inf, -np.inf],
        7,
        [True, False],
        np.arange(-100, 100, dtype=np.int8),
        np.array([2**53, -(2**53)]),
        np.zeros((3, 0, 2), np.float32),
        np.broadcast_to(np.float32(1.5), (7, 9)),
    ],
    ids=str,
)
def test_small_and_odd(x: Any) -> None:
    check(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts(dtype: Any) -> None:
    x = mixed(dtype, 500)[:400].reshape(4, 10, 10)
    want = Sketch.of(x)
    for same in (np.asfortranarray(x), x.transpose(2, 0, 1), x[::-1, :, ::-1], x.ravel()):
        assert Sketch.of(same) == want
    assert Sketch.of(x.astype(x.dtype.newbyteorder(">"))) == want
    padded = np.zeros((4, 10, 20), dtype)
    padded[..., ::2] = x
    assert Sketch.of(padded[..., ::2]) == want


@np.errstate(invalid="ignore")
def test_float32_and_float64_of_the_same_values() -> None:
    x = mixed(np.float32)
    assert Sketch.of(x) == Sketch.of(x.astype(np.float64))
    half = mixed(np.float16)
    assert Sketch.of(half) == Sketch.of(half.astype(np.float32)) == Sketch.of(half.astype(float))


def test_float64_to_within_a_unit() -> None:
    """Sums of float64 are right to half a unit of 2^-31 an element."""
    x = np.random.default_rng(0).uniform(1, 2, 10_000)
    sketch = Sketch.of(x)
    total = sum(Fraction(v) for v in x.tolist())
    cells = 128 + (sketch.keys & 127)
    lower = sum(Fraction(int(c), 128) * int(n) for c, n in zip(cells, sketch.counts, strict=True))
    got = lower + Fraction(sum(offsets_of(sketch)), 1 << 31)
    assert abs(got - total) <= len(x) * Fraction(1, 1 << 32)


def test_large_arrays() -> None:
    """Beyond a chunk, a block and a thread's share, by NumPy's integers."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=6_000_001) * 2.0 ** rng.integers(-3, 3, 6_000_001)).astype(np.float32)
    sketch = Sketch.of(x)
    bits = (x.view(np.uint32) & 0x7FFFFFFF).astype(np.int64)
    key = (bits >> 16) - 127 * 128
    order = np.argsort(key, kind="stable")
    keys, starts, counts = np.unique(key[order], return_index=True, return_counts=True)
    offsets = (bits[order] & 0xFFFF) << 8  # 2^-23 is 256 units of 2^-31
    assert sketch.keys.tolist() == keys.tolist()
    assert sketch.counts.tolist() == counts.tolist()
    assert offsets_of(sketch) == np.add.reduceat(offsets, starts).tolist()
    small = (offsets >> 8) ** 2
    assert squares(sketch) == [int(s) << 16 for s in np.add.reduceat(small, starts)]


# Merging ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_split_any_order_any_threads(dtype: Any, threads: int) -> None:
    x = mixed(dtype, 700_000)
    whole = Sketch.of(x)
    before = fpsim.get_num_threads()
    try:
        fpsim.set_num_threads(threads)
        assert Sketch.of(x) == whole
        rng = np.random.default_rng(threads)
        for parts in (2, 9):
            cuts = np.sort(rng.integers(0, x.size, parts - 1))
            sketches = [Sketch.of(part) for part in np.split(x, cuts)]
            rng.shuffle(sketches)  # type: ignore[arg-type]
            assert reduce(Sketch.merge, sketches) == whole
        assert Sketch.of(rng.permutation(x)) == whole
    finally:
        fpsim.set_num_threads(before)


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([1.0, 1.001, 2.0, -0.0])
LISTS = st.lists(NUMBERS, max_size=8).map(lambda x: Sketch.of(np.array(x, np.float64)))


@given(LISTS, LISTS, LISTS)
@settings(max_examples=150, deadline=None)
def test_merging_is_a_commutative_monoid(a: Sketch, b: Sketch, c: Sketch) -> None:
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(Sketch()) == a == Sketch().merge(a)


@given(st.lists(NUMBERS, max_size=20), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_merging_is_sketching_the_whole(x: list[float], cut: int) -> None:
    merged = Sketch.of(x[:cut]).merge(Sketch.of(x[cut:]))
    assert merged == Sketch.of(x)
    check(np.array(x, np.float64), merged)


def test_squares_carry_into_their_upper_limb() -> None:
    """Doubling 40 times: exact integers far past 2^64."""
    x = np.array([np.nextafter(1 + 2**-7, 0), 1.001, 1.0, 5.0, 0.0, np.nan])
    sketch, times = Sketch.of(x), 1
    want = squares(sketch)
    for _ in range(40):
        sketch, times = sketch.merge(sketch), 2 * times
        assert squares(sketch) == [times * s for s in want]
    assert max(squares(sketch)) > 1 << 80
    assert sketch.size == 6 * times
    assert sketch.zeros == sketch.nans == times
    assert sketch.counts.tolist() == [times * n for n in Sketch.of(x).counts.tolist()]
    assert np.allclose(sketch.variances, Sketch.of(x).variances, rtol=1e-12)
    assert sketch.log_moments() == pytest.approx(Sketch.of(x).log_moments(), rel=1e-14)


def test_merging_sketches_of_unequal_limbs() -> None:
    """The carry also where only one of the two has a cell, and where both are just below it."""
    top = np.uint64((1 << 64) - 1)
    for low, other in ((top, 1), (top, top), (1, top), (5, 6)):
        one, two = (
            Sketch(
                size=3,
                smallest=1.0,
                largest=1.0,
                keys=np.array([0]),
                counts=np.array([3]),
                offsets_high=np.array([0], np.uint64),
                offsets_low=np.array([9], np.uint64),
                squares_high=np.array([high], np.uint64),
                squares_low=np.array([value], np.uint64),
            )
            for high, value in ((7, low), (2, other))
        )
        assert squares(one.merge(two)) == [squares(one)[0] + squares(two)[0]]
        assert squares(one.merge(Sketch.of([4.0]))) == [squares(one)[0], 0]


# What follows from it ---------------------------------------------------------------------------


def high_precision(x: np.ndarray) -> list[mpmath.mpf]:
    return [mpmath.mpf(v) for v in np.abs(x).astype(np.float64).tolist() if v]


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("power", [-1, 1, 2])
def test_power_sums(power: int, scale: float) -> None:
    x = (np.random.default_rng(0).lognormal(0, 3, 3000) * scale).astype(np.float32)
    sketch = Sketch.of(x)
    with mpmath.workdps(40):
        total = mpmath.fsum(v**power for v in high_precision(x))
        reference = int(np.log2(scale))
        got = mpmath.fsum(sketch.power_sums(power, reference).tolist())
        got *= mpmath.mpf(2) ** (reference * power)
        assert abs(got / total - 1) < (1e-7 if power == -1 else 1e-14)


def test_power_sums_of_each_cell() -> None:
    x = np.random.default_rng(0).lognormal(0, 1, 2000).astype(np.float32)
    sketch = Sketch.of(x)
    cell = np.floor(np.log2(x.astype(np.float64))).astype(np.int64)
    key = cell * 128 + np.floor((x / np.exp2(cell) - 1) * 128).astype(np.int64)
    for power in (1, 2):
        sums = [np.sum(x[key == k].astype(np.float64) ** power) for k in sketch.keys]
        assert np.allclose(sketch.power_sums(power), sums, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (-14.0, 2.1), (-60.0, 6.0), (3.0, 0.001)])
def test_log_moments(dtype: Any, mu: float, sigma: float) -> None:
    x = np.random.default_rng(0).lognormal(mu, sigma, 4000).astype(dtype)
    x[::50] = 0
    mean, deviation = Sketch.of(x).log_moments()
    with mpmath.workdps(40):
        logs = [mpmath.log(v) for v in high_precision(x)]
        want = mpmath.fsum(logs) / len(logs)
        spread = mpmath.sqrt(mpmath.fsum((v - want) ** 2 for v in logs) / len(logs))
        assert abs(mean - want) < 1e-8 * max(1, abs(want))
        # Within a cell the third moment is left out; where all data lie in one, that shows.
        assert abs(deviation / spread - 1) < (1e-3 if sigma < 0.1 else 1e-6)


@pytest.mark.parametrize("x", [[5e-324], [1.7976931348623157e308], [5e-324, 1e308, -3.0]])
def test_far_out(x: list[float]) -> None:
    check(x)
    sketch = Sketch.of(x)
    mean, _ = sketch.log_moments()
    assert mean == pytest.approx(float(np.mean([math.log(abs(v)) for v in x])), rel=1e-6)
    assert (sketch.lower_edges <= np.sort(np.abs(x))).all()


def test_edges_hold_their_elements() -> None:
    x = np.abs(np.random.default_rng(0).normal(size=1000))
    sketch = Sketch.of(x)
    where = np.searchsorted(sketch.lower_edges, x, side="right") - 1
    assert (x < sketch.upper_edges[where]).all()
    assert np.array_equal(np.bincount(where), sketch.counts)
    assert np.allclose(sketch.upper_edges / sketch.lower_edges - 1, 2**-7, rtol=0.51)
    assert ((sketch.means >= 1) & (sketch.means < 2)).all()
    assert (sketch.variances >= 0).all()


def test_progress_counts_every_element_once() -> None:
    for size in (0, 10, 3_000_000):
        done: list[int] = []
        Sketch.of(np.ones(size, np.float32), done.append)
        assert sum(done) == size


def test_is_a_value() -> None:
    one, two = Sketch.of([1.0, 2.0]), Sketch.of([2.0, 1.0])
    assert one == two
    assert one != Sketch.of([1.0])
    assert one != "sketch"
    with pytest.raises(TypeError):
        hash(one)
    assert {f.name for f in fields(Sketch)} >= {"size", "keys", "counts"}
    text = repr(Sketch.of([0.0, 1.0, -3.0, np.nan]))
    assert "4 elements" in text
    assert "1 zero" in text
    assert "1 NaN" in text
    assert "0 elements" in repr(Sketch())
