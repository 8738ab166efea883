"""Chances, which luq, prune and dither decide by, against rationals; and the integer moments."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from fpsim import Stream, kernels
from fpsim.kernels.chance import goes_up, goes_up_at, reciprocal
from fpsim.kernels.statistics import integer_moments

WORDS = st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
POSITIVE = st.floats(0, allow_infinity=False, exclude_min=True)


def below(word: int, excess: float, gap: float) -> bool:
    return Fraction(word, 1 << 64) * Fraction(gap) < Fraction(excess)


@given(
    WORDS,
    st.floats(1, 2, exclude_max=True),
    st.floats(1, 2, exclude_max=True),
    st.sampled_from([0, 1, 63, 64, 65, 100, 116, 117, 120, 127, 128, 900]),
)
@settings(max_examples=500, deadline=None)
def test_every_distance_of_exponents(word: int, gap: float, excess: float, down: int) -> None:
    excess = math.ldexp(min(excess, gap) if down == 0 else excess, -down)
    assert bool(goes_up(excess, gap, np.uint64(word))) == below(word, excess, gap)


@given(WORDS, POSITIVE, POSITIVE)
@example(2**63, 5e-324, 1e-323)
@example(2**63 - 1, 5e-324, 1e-323)
@example(0, 5e-324, 1.7e308)
@example(2**64 - 1, 2.0**-1022, 2.0**-1022)
@settings(max_examples=500, deadline=None)
def test_any_two_floats(word: int, one: float, other: float) -> None:
    excess, gap = sorted((one, other))
    assert bool(goes_up(excess, gap, np.uint64(word))) == below(word, excess, gap)
    assert not goes_up(0.0, gap, np.uint64(word))


@given(st.integers(0, 2**32), st.integers(0, 2**64 - 1), POSITIVE, POSITIVE)
@settings(max_examples=200, deadline=None)
def test_by_the_word_of_an_element(seed: int, index: int, one: float, other: float) -> None:
    excess, gap = sorted((one, other))
    (word,) = (int(w) for w in Stream(seed, index).words(1))
    up = goes_up_at(excess, gap, np.uint32(word >> 32), np.uint64(index), np.uint64(seed))
    assert bool(up) == below(word, excess, gap)


def test_by_the_word_of_an_element_near_its_boundary() -> None:
    """The ratio is the word's, but for a few units of its lower half."""
    for index, word in enumerate(map(int, Stream(3).words(2000))):
        for excess in (float(word), math.nextafter(word, 0), math.nextafter(word, math.inf)):
            half = np.uint32(word >> 32)
            up = goes_up_at(excess, 2.0**64, half, np.uint64(index), np.uint64(3))
            assert bool(up) == (word < excess)


@njit
def quotient(x, value):
    power, rate = reciprocal(value)
    return x * power * rate


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_factors_of_a_reciprocal(dtype: type, data: st.DataObject) -> None:
    width = 8 * np.dtype(dtype).itemsize
    floats = st.floats(0, width=width, allow_infinity=False, exclude_min=True)
    value, x = data.draw(floats), data.draw(floats)
    exact = Fraction(x) / Fraction(value)
    if exact <= 2**64:
        eps = Fraction(float(np.finfo(dtype).eps))
        found = Fraction(float(quotient(dtype(x), dtype(value))))
        assert abs(found - exact) <= max(exact * eps, Fraction(1, 2**64))


@given(st.lists(st.floats(-1, 1) | st.just(math.nan) | st.just(math.inf), max_size=50))
@settings(max_examples=100, deadline=None)
def test_integer_moments(values: list[float]) -> None:
    x, totals = np.array(values, np.float64), np.zeros(3, np.int64)
    kernel = kernels.compiled(integer_moments, np.dtype(np.float64), np.dtype(np.int64))
    kernel(x, 2.0**16, 2.0**15, totals)
    units = [round(Fraction(v) * 2**31) for v in values if math.isfinite(v)]
    assert totals[0] == sum(units)
    assert int(totals[1]) + (int(totals[2]) << 32) == sum(u * u for u in units)
