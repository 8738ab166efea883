"""ulp_error and the bounds of sums: exact rationals, and sums as wrong as they can be."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import Accumulator, Format, Stochastic


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "e3m2", "e8m23"])
def test_ulp_error_against_rationals(name: str) -> None:
    fmt = Format.parse(name)
    rng = np.random.default_rng(0)
    exact = rng.standard_normal(500) * 2.0 ** rng.integers(fmt.emin - 4, fmt.emax + 2, 500)
    computed = fpsim.round(exact, fmt, overflow="saturate")
    got = fpsim.ulp_error(computed, exact, fmt)
    for x, y, error in zip(computed, exact, got, strict=True):
        exponent = min(max(math.frexp(y)[1] - 1, fmt.emin), fmt.emax)
        unit = Fraction(2) ** (exponent - fmt.mantissa_bits)
        want = abs(Fraction(x) - Fraction(y)) / unit
        assert abs(Fraction(error) - want) <= want * Fraction(1, 2**51)
    inside = np.abs(exact) <= float(fmt.max)
    assert got[inside].max() <= 0.5


def test_ulp_error_of_special_values() -> None:
    inf, nan = np.inf, np.nan
    computed = [inf, inf, inf, 1.0, nan, nan, 0.0, -0.0]
    exact = [inf, -inf, 1.0, -inf, nan, 1.0, -0.0, 0.5]
    got = fpsim.ulp_error(computed, exact, "e4m3")
    assert np.array_equal(got, [0, inf, inf, inf, 0, nan, 0, 8], equal_nan=True)


ACCUMULATORS: list[dict[str, Any]] = [
    {},
    {"product": "bfloat16"},
    {"rounding": "toward_zero"},
    {"rounding": "to_odd", "product": "e5m4"},
    {"order": "pairwise"},
    {"order": "pairwise", "product": "e8m5", "rounding": "away_from_zero"},
    {"order": "blocked", "block": 8, "block_fmt": "e8m5"},
    {"order": "blocked", "block": 16, "block_order": "pairwise", "product": "e8m9"},
    {"order": "exact"},
    {"order": "exact", "block": 16, "rounding": "toward_negative"},
    {"flush_subnormals": True},
    {"alignment_bits": 9, "block": 8},
    {"alignment_bits": 7, "block": 4, "alignment": "ties_to_even", "operands": "float8_e5m2"},
    {"alignment_bits": 10, "block": 8, "carry": "after", "block_fmt": "e8m9"},
    {"alignment_bits": 9, "block": 8, "carry": "two_stage", "carry_bits": 12, "interleaved": 2},
    {"rounding": Stochastic(10)},
    {"rounding": Stochastic(10), "order": "pairwise"},
]


@pytest.mark.parametrize("options", ACCUMULATORS, ids=str)
@pytest.mark.parametrize("scale", [0, -62])  # the second where products underflow
def test_bounds_hold(options: dict[str, Any], scale: int) -> None:
    rng = np.random.default_rng(len(str(options)))
    accumulator = Accumulator("bfloat16", **options)
    operands = options.get("operands", "e8m2")
    if scale and "operands" in options:
        scale = -14
    shape = (400, 60)
    a, b = (
        fpsim.round(np.ldexp(rng.standard_normal(shape), scale).astype(np.float32), operands)
        for _ in range(2)
    )
    b[:200] = np.abs(b[:200])
    a[:100] = np.abs(a[:100])  # sums without cancellation
    a[300:, 30:], b[300:, 30:] = -a[300:, :30], b[300:, :30]  # sums that cancel
    c = np.ldexp(rng.standard_normal(400), 2 * scale)
    found = fpsim.dot_error(a, b, accumulator, c, rng=3)
    start = fpsim.round(c, "bfloat16")
    for k in range(0, 400, 7):
        terms = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[k], b[k], strict=True)]
        exact = sum(terms) + Fraction(c[k])
        assert found.exact[k] == float(exact)
        magnitude = sum(map(abs, terms)) + abs(Fraction(c[k]))
        assert magnitude <= Fraction(found.magnitude[k]) <= magnitude * (1 + Fraction(1, 2**51))
    lost = np.abs(start - c)  # c is rounded first
    assert np.all(found.error <= found.deterministic + 2 * lost)
    assert np.isfinite(found.deterministic).all()
    if not np.isnan(found.root_gamma):
        beyond = np.mean(found.error > found.probabilistic + 2 * lost)
        assert beyond <= 1 - found.probability


def test_the_certain_bound_is_reached_but_for_a_factor() -> None:
    """Directed rounding of terms that lose all they can; and n u <= gamma_n."""
    fmt = Format.parse("e8m9")
    a = np.full(100, float(fmt.eps) * 0.99)
    a[0] = 1.0
    found = fpsim.dot_error(a, np.ones(100), Accumulator(fmt, rounding="toward_zero"))
    assert found.error / found.deterministic > 0.6
    assert found.gamma == pytest.approx(100 * fmt.eps / (1 - 100 * fmt.eps))
    nearest = fpsim.dot_error(a, np.ones(100), Accumulator(fmt))
    assert nearest.gamma == pytest.approx(50 * fmt.eps / (1 - 50 * fmt.eps))


def test_the_probable_bound_grows_with_the_root() -> None:
    accumulator = Accumulator("binary32", rounding=Stochastic())
    roots = [
        fpsim.dot_error(np.ones(n), np.ones(n), accumulator, rng=0, probability=0.9).root_gamma
        for n in (100, 10_000)
    ]
    assert 10 < roots[1] / roots[0] < 14  # and the root of a logarithm
    u, n = 2.0**-23, 100
    spread = math.sqrt(2 * math.log(2 * n / 0.1))
    assert roots[0] == pytest.approx(spread * math.sqrt(n) * u, rel=1e-4)


def test_bounds_that_are_not_known_say_so() -> None:
    ones = np.ones(40)
    assert np.isnan(fpsim.dot_error(ones, ones, Accumulator("bfloat16", order="kahan")).gamma)
    found = fpsim.dot_error(ones * 100, ones * 100, Accumulator("binary16"))
    assert found.result == np.inf
    assert found.error == np.inf
    assert found.deterministic == np.inf
    found = fpsim.dot_error(ones, ones, Accumulator("e8m3"))  # n u > 1
    assert found.deterministic == np.inf


def test_matrices_have_the_errors_of_their_rows() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((5, 30)), rng.standard_normal((30, 4))
    a, b = (fpsim.round(x, "e4m3") for x in (a, b))
    c = fpsim.round(rng.standard_normal((5, 4)), "e8m7")
    accumulator = Accumulator("e8m7", order="pairwise")
    found = fpsim.matmul_error(a, b, accumulator, c)
    rows = fpsim.dot_error(a[:, None], b.T[None], accumulator, c)
    for name in ("result", "exact", "error", "magnitude", "deterministic", "probabilistic"):
        assert np.array_equal(getattr(found, name), getattr(rows, name)), name
    assert np.array_equal(found.result, fpsim.matmul(a, b, accumulator, c))
