"""recommend: the choice of split and scale against brute force, and everything said beside it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import Format, Lognormal, Metric, Sketch
from fpsim.analysis.lognormal import USABLE_KS
from fpsim.analysis.measure import measured_summary
from fpsim.analysis.recommend import Basis, Candidate, Recommendation

# An independent emulation -----------------------------------------------------------------------


def levels(exponent_bits: int, mantissa_bits: int, subnormals: bool = True, last: int = 0) -> Any:
    """Nonnegative values of a format with IEEE's bias, less the `last` highest codes."""
    bias = 2 ** (exponent_bits - 1) - 1
    values = []
    for exponent, mantissa in itertools.product(range(2**exponent_bits), range(2**mantissa_bits)):
        fraction = mantissa / 2**mantissa_bits
        if exponent == 0:
            if subnormals or mantissa == 0:
                values.append(fraction * 2.0 ** (1 - bias))
        else:
            values.append((1 + fraction) * 2.0 ** (exponent - bias))
    return np.array(values[: len(values) - last])


def nearest(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The nearest of a grid; ties, which random data do not have, go down."""
    return grid[np.searchsorted((grid[1:] + grid[:-1]) / 2, x)]


def loss_of(x: np.ndarray, q: np.ndarray, metric: str) -> float:
    """Small is good."""
    if metric == "relative":
        return float(np.mean(np.abs(q - x) / x))
    if metric in ("nmse", "sqnr"):
        return float(np.sum((q - x) ** 2) / np.sum(x**2))
    if metric == "cosine":
        norm = math.sqrt(float(np.sum(q * q)) * float(np.sum(x * x)))
        return 1 - float(np.sum(q * x)) / norm if norm else 1.0
    return abs(float(np.sum(q) / np.sum(x) - 1))


def brute_force(
    x: np.ndarray, bits: int, metric: str, subnormals: bool = True, last: int = 0
) -> dict[tuple[int, int], float]:
    """Least loss of every split over all integer scales that could matter."""
    x = np.abs(x[x != 0]).astype(np.float64)
    best = {}
    for exponent_bits in range(1, bits):
        mantissa_bits = bits - 1 - exponent_bits
        grid = levels(exponent_bits, mantissa_bits, subnormals, last)
        if grid[-1] == 0 or not np.isfinite(grid[-1]):
            continue
        low = math.floor(math.log2(grid[1] / x.max())) - 2
        high = math.ceil(math.log2(grid[-1] / x.min())) + 2
        best[exponent_bits, mantissa_bits] = min(
            loss_of(x, nearest(x * 2.0**k, grid) / 2.0**k, metric) for k in range(low, high + 1)
        )
    return best


def loss_of_candidate(x: np.ndarray, candidate: Candidate, metric: str, last: int = 0) -> float:
    """The candidate's loss by this file's emulation, at the candidate's scale."""
    fmt = candidate.format
    shift = fmt.bias - (2 ** (fmt.exponent_bits - 1) - 1)
    scale = candidate.scale * 2.0**shift
    grid = levels(fmt.exponent_bits, fmt.mantissa_bits, fmt.subnormals, last)
    x = np.abs(x[x != 0]).astype(np.float64)
    return loss_of(x, nearest(x * scale, grid) / scale, metric)


def split(fmt: Format) -> tuple[int, int]:
    return fmt.exponent_bits, fmt.mantissa_bits


def lognormal(s: float, size: int = 3000, mu: float = -10.0, seed: int = 0) -> np.ndarray:
    """Lognormal data with a standard deviation of log2 of s, of both signs."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(mu, s * math.log(2), size)) * rng.choice([-1, 1], size)


# The choice -------------------------------------------------------------------------------------


@pytest.mark.parametrize("s", [0.3, 0.8, 1.5, 2.5, 4.0])
@pytest.mark.parametrize("bits", [3, 4, 6, 7])
def test_the_best_split_and_scale_by_the_sketch(s: float, bits: int) -> None:
    """Up to six mantissa bits the sketch is exact: nothing beats the recommendation."""
    x = lognormal(s)
    for metric in ("relative", "sqnr"):
        r = fpsim.recommend(x, bits, metric, basis="sketch")
        best = brute_force(x, bits, metric)
        assert {split(c.format) for c in r.candidates} == set(best)
        for candidate in r.candidates:
            mine = loss_of_candidate(x, candidate, metric)
            assert mine == pytest.approx(best[split(candidate.format)], rel=1e-7)
            sketch = candidate.sketch if metric == "relative" else 10 ** (-candidate.sketch / 10)
            assert sketch == pytest.approx(mine, rel=1e-6)
        assert best[split(r.format)] == pytest.approx(min(best.values()), rel=1e-7)
        losses = [loss_of_candidate(x, c, metric) for c in r.candidates]
        assert losses == pytest.approx(sorted(losses), rel=1e-7)


@pytest.mark.parametrize("metric", ["relative", "nmse", "sqnr", "cosine"])
@pytest.mark.parametrize("subnormals", [True, False])
def test_every_metric(metric: str, subnormals: bool) -> None:
    x = lognormal(1.4, 2000)
    r = fpsim.recommend(x, 6, metric, basis="sketch", subnormals=subnormals)
    best = brute_force(x, 6, metric, subnormals)
    tolerance = {"rel": 1e-6, "abs": 1e-9}
    for candidate in r.candidates:
        mine = loss_of_candidate(x, candidate, metric)
        assert mine == pytest.approx(best[split(candidate.format)], **tolerance)
        assert candidate.format.subnormals == subnormals
    assert best[split(r.format)] == pytest.approx(min(best.values()), **tolerance)


def test_bias_of_the_mean() -> None:
    """Least |bias| comes by chance somewhere, so that only the order of candidates is certain."""
    x = lognormal(1.4, 2000)
    r = fpsim.recommend(x, 6, "bias", basis="sketch")
    losses = [loss_of_candidate(x, c, "bias") for c in r.candidates]
    assert losses == pytest.approx(sorted(losses), abs=1e-9)
    for candidate, loss in zip(r.candidates, losses, strict=True):
        assert abs(candidate.sketch) == pytest.approx(loss, abs=1e-9)
    for factor in (0.5, 2.0):
        y = np.abs(x) * r.scale * factor
        q = nearest(y, levels(*split(r.format)))
        assert losses[0] <= loss_of(y, q, "bias") + 1e-9


@pytest.mark.parametrize("s", [0.4, 1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_the_fit_chooses_as_well_on_lognormal_data(s: float, bits: int) -> None:
    x = lognormal(s, 20_000)
    r = fpsim.recommend(x, bits)
    assert r.basis is Basis.fit
    best = brute_force(x, bits, "relative")
    assert loss_of_candidate(x, r.best, "relative") <= 1.02 * min(best.values())


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("normal", lambda rng: rng.normal(size=20_000)),
        ("uniform", lambda rng: rng.uniform(-1, 1, 20_000)),
        ("pool", lambda rng: rng.normal(size=20_000) * rng.choice([1, 1e-4], 20_000)),
        ("quantised", lambda rng: rng.integers(-7, 8, 20_000) / 8),
        ("pareto", lambda rng: rng.pareto(1.5, 20_000) + 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("metric", ["relative", "sqnr"])
@pytest.mark.parametrize("bits", [4, 8])
def test_data_that_are_not_lognormal_get_a_good_answer_all_the_same(
    name: str, draw: Callable[[np.random.Generator], np.ndarray], metric: str, bits: int
) -> None:
    """Weights, say, are normal: the fit must not decide there, and what it costs is little."""
    x = draw(np.random.default_rng(0))
    r = fpsim.recommend(x, bits, metric)
    best = min(brute_force(x, bits, metric).values())
    assert loss_of_candidate(x, r.best, metric) <= 1.1 * best + 1e-12, (r.basis, r.fit.ks)


@pytest.mark.parametrize("s", [0.5, 1.5, 2.5])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_expected_is_measured_within_sampling_error(s: float, bits: int) -> None:
    """Five standard errors of a mean of 10^6, the fit taken as the distribution that was drawn."""
    x = lognormal(s, 1_000_000, seed=bits)
    r = fpsim.recommend(x, bits)
    assert r.basis is Basis.fit
    assert r.expected == r.best.fit
    y = np.abs(x) * r.scale
    q = fpsim.round(y, r.format, overflow="saturate")
    errors = np.abs(q - y) / y
    assert r.measured == pytest.approx(float(errors.mean()), rel=1e-12)
    standard_error = float(errors.std()) / 1000
    assert abs(r.expected - r.measured) < 5 * standard_error
    assert abs(r.best.sketch - r.measured) < 0.1 * standard_error
    truth = Lognormal(-10.0, s * math.log(2)).expected_error(r.format, r.scale)
    assert abs(truth - r.measured) < 5 * standard_error


def test_continuous_scale_is_at_least_as_good() -> None:
    x = lognormal(0.6, 2000)
    for metric in ("relative", "sqnr"):
        power = fpsim.recommend(x, 5, metric, basis="sketch")
        free = fpsim.recommend(x, 5, metric, basis="sketch", scale="continuous")
        loss = Metric(metric).loss
        assert loss(free.best.measured) <= loss(power.best.measured) * (1 + 1e-6)
        for c in power.candidates:
            assert math.log2(c.scale).is_integer()
    # A fine grid finds nothing that is better by much.
    grid = levels(*split(free.format))
    y = np.abs(x)
    tried = [
        loss_of(y, nearest(y * t, grid) / t, "sqnr")
        for t in free.scale * np.exp2(np.arange(-1, 1, 0.01))
    ]
    assert 10 ** (-free.best.measured / 10) <= 1.01 * min(tried)


@pytest.mark.parametrize("metric", ["relative", "sqnr"])
def test_no_scale_is_a_power_of_two_with_the_bias_moved(metric: str) -> None:
    x = lognormal(1.4, 3000, mu=-8)
    with_scale = fpsim.recommend(x, 6, metric)
    without = fpsim.recommend(x, 6, metric, scale="none")
    for one, other in zip(with_scale.candidates, without.candidates, strict=True):
        assert other.scale == 1
        assert split(one.format) == split(other.format)
        assert other.format.bias == one.format.bias + math.log2(one.scale)
        assert other.bias == one.bias
        assert (one.measured is None) == (other.measured is None)
        for field in ("fit", "sketch", "closed_form", "measured", "underflow", "overflow"):
            if getattr(one, field) is not None:
                want = pytest.approx(getattr(one, field), rel=1e-9, nan_ok=True)
                assert getattr(other, field) == want
    assert without.scale == 1
    assert np.array_equal(
        fpsim.round(x, without.format, overflow="saturate"),
        fpsim.round(x * with_scale.scale, with_scale.format, overflow="saturate")
        / with_scale.scale,
    )


def test_a_bias_out_of_reach_leaves_the_other_splits() -> None:
    """Without a scale, wide splits cannot serve data at the ends of binary64; narrow ones can."""
    x = np.random.default_rng(0).lognormal(690, 1, 1000)
    r = fpsim.recommend(x, 8, scale="none")
    assert r.measured < 0.1
    for candidate in r.candidates:
        candidate.format.require_binary64()


@pytest.mark.parametrize(
    ("specials", "last", "parameters"),
    [
        ("none", 0, {"infinities": False, "nans": "none"}),
        ("fn", 1, {"infinities": False, "nans": "all_ones"}),
        ("ieee", None, {"infinities": True, "nans": "ieee"}),
        ("p3109", 1, {"infinities": True, "nans": "negative_zero"}),
    ],
)
@pytest.mark.parametrize("bits", [4, 7])
def test_specials_of_the_candidates(
    specials: str, last: int | None, parameters: dict[str, Any], bits: int
) -> None:
    x = lognormal(1.0, 1500)
    r = fpsim.recommend(x, bits, specials=specials, basis="sketch")
    for candidate in r.candidates:
        fmt = candidate.format
        e, m = split(fmt)
        bias = 2 ** (e - 1) if specials == "p3109" else 2 ** (e - 1) - 1
        assert fmt == Format(e, m, bias=bias, **parameters)
        if specials == "p3109":
            assert fmt == Format.parse(f"binary{bits}p{m + 1}se")
        # Codes at the top that are no numbers: the whole last binade in IEEE's way.
        gone = 2**m if last is None else last
        best = brute_force(x, bits, "relative", last=gone)
        mine = loss_of_candidate(x, candidate, "relative", gone)
        assert mine == pytest.approx(best[e, m], rel=1e-6)
    everything = {(e, bits - 1 - e) for e in range(1, bits)}
    # E1M0-like splits need a number beside zero; E with top exponent reserved needs two binades
    # or a subnormal.
    assert {split(c.format) for c in r.candidates} <= everything
    assert len(r.candidates) >= bits - 2


def test_candidates_of_three_and_sixteen_bits() -> None:
    x = lognormal(1.0, 500)
    assert {split(c.format) for c in fpsim.recommend(x, 3).candidates} == {(1, 1), (2, 0)}
    unsigned = fpsim.recommend(np.abs(x), 3, signed=False)
    assert {split(c.format) for c in unsigned.candidates} == {(1, 2), (2, 1), (3, 0)}
    assert not any(c.format.signed for c in unsigned.candidates)
    wide = {split(c.format) for c in fpsim.recommend(x, 16).candidates}
    # E12 on reaches past binary64; E11 with bias 1023 and no special codes ends at 2^1025.
    assert wide == {(e, 15 - e) for e in range(1, 11)}


# Only the two best are emulated, and as measured_error has it.


def test_measured_is_measured_error() -> None:
    x = lognormal(2.0, 5000)
    for overflow in ("saturate", "nan"):
        r = fpsim.recommend(x, 6, overflow=overflow, specials="fn")
        for candidate in r.candidates[:2]:
            again = fpsim.measured_error(x, candidate.format, candidate.scale, overflow=overflow)
            assert candidate.measured == again
            assert math.isfinite(candidate.measured)
        assert all(c.measured is None for c in r.candidates[2:])
        assert r.measured == r.best.measured
        assert r.runner_up is r.candidates[1]


def test_flushed_and_clipped_shares() -> None:
    x = lognormal(3.0, 20_000)
    r = fpsim.recommend(x, 4, basis="sketch")
    for c in r.candidates:
        summary = measured_summary(x, c.format, c.scale)
        assert c.underflow == pytest.approx(summary.underflow, abs=1e-9)
        assert c.overflow == pytest.approx(summary.overflow, abs=1e-9)


# Input ------------------------------------------------------------------------------------------


def same(one: Recommendation, other: Recommendation, measured: bool = True) -> bool:
    fields = ("format", "scale", "closed_form", "fit", "sketch", "underflow", "overflow")
    return all(
        all(getattr(a, f) == getattr(b, f) or a.closed_form != a.closed_form for f in fields)
        and (a.measured == b.measured or not measured)
        for a, b in zip(one.candidates, other.candidates, strict=True)
    )


def test_arrays_of_any_kind() -> None:
    x = lognormal(1.5, 6000).astype(np.float32)
    want = fpsim.recommend(x, 6)
    for other in (x.astype(np.float64), x.reshape(60, 100), x.astype(">f4"), x.tolist()):
        assert same(fpsim.recommend(other, 6), want)
    reordered = fpsim.recommend(x[::-1], 6)
    assert same(reordered, want, measured=False)
    assert reordered.measured == pytest.approx(want.measured, rel=1e-13)


def test_zeros_and_what_is_not_finite_change_nothing_but_the_counts() -> None:
    x = lognormal(1.5, 5000)
    want = fpsim.recommend(x, 6)
    padded = np.concatenate([x, np.zeros(5000), [np.nan, np.inf, -np.inf]])
    r = fpsim.recommend(padded, 6)
    assert same(r, want)
    assert r.fit.zero_fraction == 0.5
    assert (r.sketch.zeros, r.sketch.nans, r.sketch.infinities) == (5000, 1, 2)
    assert any("1 NaN and 2 infinite of 10003" in note for note in r.notes)
    assert not any("NaN" in note for note in want.notes)


def test_a_sketch_instead_of_data() -> None:
    x = lognormal(1.5, 5000)
    for basis in ("fit", "sketch", "auto"):
        want = fpsim.recommend(x, 6, basis=basis, sparsity=0.7)
        r = fpsim.recommend(Sketch.of(x), 6, basis=basis, sparsity=0.7)
        assert same(r, want, measured=False)
        assert r.measured is None
        assert r.expected == want.expected
        assert r.pruning == want.pruning
    parts = [Sketch.of(part) for part in np.array_split(x, 7)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert same(fpsim.recommend(merged, 6), fpsim.recommend(Sketch.of(x), 6))


def test_several_widths_are_each_alone() -> None:
    x = lognormal(1.5, 3000)
    for widths in ([4, 6, 8], range(4, 9, 2), (4, 6, 8), iter([4, 6, 8])):
        answers = fpsim.recommend(x, widths)
        assert list(answers) == [4, 6, 8]
        for bits, answer in answers.items():
            assert type(bits) is int
            assert same(answer, fpsim.recommend(x, bits))
    assert list(fpsim.recommend(x, [5])) == [5]
    assert isinstance(fpsim.recommend(x, np.int64(5)), Recommendation)


def test_widths_from_an_array() -> None:
    x = lognormal(1.5, 300)
    answers = fpsim.recommend(x, np.array([4, 6]))
    assert list(answers) == [4, 6]
    assert same(answers[6], fpsim.recommend(x, 6))


def test_progress_counts_elements() -> None:
    x = lognormal(1.0, 5000)
    done: list[int] = []
    fpsim.recommend(x, [4, 6], progress=done.append)
    assert sum(done) == x.size * (1 + 2 * 2)


# Edge cases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.0, 3.0, -3.0, 0.1, 448.0, 1e-30, 7e20])
@pytest.mark.parametrize("metric", ["relative", "nmse"])
def test_all_equal(value: float, metric: str) -> None:
    x = np.full(2000, value)
    for bits in (4, 8, 12):
        r = fpsim.recommend(x, bits, metric, scale="continuous")
        assert r.measured == pytest.approx(0, abs=1e-12)
        assert r.fit.sigma == 0
        assert any("equal" in note for note in r.notes)


@pytest.mark.parametrize("value", [1.0, 1.5, 3.0, 0.75])
@pytest.mark.parametrize("basis", ["auto", "fit", "sketch"])
def test_no_scale_is_chosen_where_none_is_needed(value: float, basis: str) -> None:
    """Each of these is a value of E1M6 (a multiple of 2^-5 below 4), the cheapest that is exact."""
    for x in (np.full(1000, value), [value]):
        r = fpsim.recommend(x, 8, basis=basis)
        assert r.measured == 0
        assert r.scale == 1
        assert r.format.exponent_bits == 1
        assert fpsim.recommend(x, 8, basis=basis, scale="none").format.bias == 0


def test_data_that_some_format_holds_exactly() -> None:
    x = fpsim.Format.parse("float4_e2m1fn").values()
    r = fpsim.recommend(x, 4, basis="sketch")
    assert split(r.format) == (2, 1)
    assert r.measured == 0
    assert r.scale == 1


def test_one_element_and_two_far_apart() -> None:
    assert fpsim.recommend(3.7, 6).measured < 0.02
    assert fpsim.recommend([1e-300, 1e300], 16).candidates
    r = fpsim.recommend([1.0, 2.0**12], 6, basis="sketch")
    assert r.measured == 0
    assert any("only 2 nonzero elements" in note for note in r.notes)


@pytest.mark.parametrize("mu", [-700, -650, 650, 700])
def test_data_at_the_ends_of_binary64(mu: float) -> None:
    x = np.random.default_rng(0).lognormal(mu, 1, 2000)
    usual = fpsim.recommend(np.random.default_rng(0).lognormal(0, 1, 2000), 8)
    r = fpsim.recommend(x, 8)
    assert split(r.format) == split(usual.format)
    assert r.measured == pytest.approx(usual.measured, rel=0.3)


# What is decided by what ------------------------------------------------------------------------


def test_basis_follows_the_distance() -> None:
    good = fpsim.recommend(lognormal(1.5, 20_000), 6)
    assert good.fit.ks < 0.03
    assert good.basis is Basis.fit
    assert not any("decided by" in note for note in good.notes)
    two_points = fpsim.recommend(np.array([1.0] * 500 + [1000.0] * 500), 6)
    assert two_points.fit.ks > USABLE_KS
    assert two_points.basis is Basis.sketch
    assert two_points.expected == two_points.best.sketch
    assert any("decided by the data's own sketch" in note for note in two_points.notes)
    # |Gaussian| data, at a distance of 0.097, are those that closed forms must be refused for.
    normal = fpsim.recommend(np.random.default_rng(0).normal(size=100_000), 6)
    assert normal.fit.ks == pytest.approx(0.097, abs=0.003)
    assert normal.fit.quality == "poor"
    assert normal.basis is Basis.sketch
    for basis in ("fit", "sketch"):
        forced = fpsim.recommend(np.random.default_rng(0).normal(size=1000), 6, basis=basis)
        assert forced.basis == basis
        assert forced.expected == getattr(forced.best, basis)


def test_the_closed_form_is_given_beside_the_others() -> None:
    """By its formula, with Emax = 2^(E-1), error 1/(8 ln2 2^M) in range, and the offset of data."""
    from scipy.stats import norm

    x = lognormal(2.0, 20_000)
    r = fpsim.recommend(x, 6)
    for c in r.candidates:
        s = r.fit.sigma_log2
        center = r.fit.mu_log2 + math.log2(c.scale)
        emax = 2.0 ** (c.format.exponent_bits - 1)
        d, low = (emax - center) / s, (-emax - center) / s
        rate = s * math.log(2)
        in_range = 2.0**-c.format.mantissa_bits / (8 * math.log(2))
        tail = norm.sf(d) - math.exp(rate * d + rate**2 / 2) * norm.sf(d + rate)
        want = in_range * (norm.cdf(d) - norm.cdf(low)) + norm.cdf(low) + tail
        assert c.closed_form == pytest.approx(want, rel=1e-6)
    others = fpsim.recommend(x, 6, "sqnr")
    assert all(math.isnan(c.closed_form) for c in others.candidates)


# Pruning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.85, 0.99])
@pytest.mark.parametrize("kind", ["lognormal", "normal", "zeros"])
def test_the_threshold_gives_the_sparsity(sparsity: float, kind: str) -> None:
    """By stochastic pruning of the data: |x| < t stays, as t, with probability |x| / t."""
    rng = np.random.default_rng(1)
    x = lognormal(2.0, 200_000) if kind != "normal" else rng.normal(size=200_000)
    if kind == "zeros":
        x[: x.size // 3] = 0
    r = fpsim.recommend(x, 8, sparsity=sparsity)
    pruning = r.pruning
    assert pruning is not None
    assert pruning.target == sparsity
    magnitude = np.abs(x)
    kept = (magnitude >= pruning.threshold) | (rng.random(x.size) * pruning.threshold < magnitude)
    zeros = np.mean((magnitude == 0) | ~kept)
    error = math.sqrt(0.25 / x.size)
    assert abs(zeros - pruning.actual) < 5 * error
    if kind == "zeros" and sparsity < 1 / 3:
        assert pruning.threshold == 0  # there are more zeros than that already
        assert pruning.actual == pytest.approx(1 / 3, abs=1e-4)
    else:
        # A fit is off by no more than its distance from the data.
        off = r.fit.ks if r.basis is Basis.fit else 0
        assert pruning.actual == pytest.approx(sparsity, abs=off + 1e-6)
    by_sketch = fpsim.recommend(x, 8, sparsity=sparsity, basis="sketch").pruning
    assert by_sketch is not None
    if kind != "zeros" or sparsity > 1 / 3:
        assert by_sketch.actual == pytest.approx(sparsity, abs=1e-6)


def test_no_pruning_unless_asked_for() -> None:
    x = lognormal(1.0, 500)
    assert fpsim.recommend(x, 4).pruning is None
    nothing = fpsim.recommend(x, 4, sparsity=0).pruning
    assert nothing is not None
    assert (nothing.threshold, nothing.actual) == (0, 0)


# Sets -------------------------------------------------------------------------------------------


def tensors() -> dict[str, np.ndarray]:
    return {
        "narrow": lognormal(0.5, 3000, seed=1),
        "usual": lognormal(1.6, 3000, mu=-20, seed=2),
        "wide": lognormal(4.0, 3000, mu=5, seed=3),
    }


@pytest.mark.parametrize("metric", ["relative", "nmse", "sqnr", "cosine"])
@pytest.mark.parametrize("basis", ["fit", "sketch"])
def test_one_format_for_all(metric: str, basis: str) -> None:
    """Every split with each tensor's own scale; its regret is the loss over the best's, less 1."""
    data = tensors()
    answer = fpsim.recommend(data, 6, metric, basis=basis)
    assert list(answer.tensors) == list(data)
    assert answer.skipped == {}
    for name, x in data.items():
        assert same(answer.tensors[name], fpsim.recommend(x, 6, metric, basis=basis))
    assert {split(s.format) for s in answer.shared} == {(e, 5 - e) for e in range(1, 6)}
    for shared in answer.shared:
        for name, r in answer.tensors.items():
            (mine,) = (c for c in r.candidates if c.format == shared.format)
            assert shared.scales[name] == mine.scale
            values = [getattr(c, basis) for c in r.candidates]
            if metric == "sqnr":
                regret = max(values) - getattr(mine, basis)
            elif metric == "cosine":
                regret = (1 - getattr(mine, basis)) / (1 - max(values)) - 1
            else:
                regret = getattr(mine, basis) / min(values) - 1
            assert shared.regrets[name] == pytest.approx(regret, rel=1e-9, abs=1e-12)
        assert shared.worst == max(shared.regrets.values())
        assert shared.mean == pytest.approx(sum(shared.regrets.values()) / 3)
        assert shared.worst >= 0
    worst = [shared.worst for shared in answer.shared]
    assert worst == sorted(worst)
    assert answer.by_worst.worst == min(worst)
    assert answer.by_mean.mean == min(shared.mean for shared in answer.shared)
    assert answer.format == answer.by_worst.format


def test_one_format_for_all_without_scales() -> None:
    """One bias must serve all: every bias between those that the tensors would choose."""
    rng = np.random.default_rng(0)
    data = {f"at {mu}": rng.lognormal(mu, 0.7, 2000) for mu in (-2.0, 0.0, 1.5)}
    answer = fpsim.recommend(data, 6, scale="none", basis="sketch")
    for shared in answer.shared:
        assert set(shared.scales.values()) == {1.0}
    for e in range(1, 6):
        chosen = [
            c.format.bias
            for r in answer.tensors.values()
            for c in r.candidates
            if split(c.format) == (e, 5 - e)
        ]
        offered = sorted(s.format.bias for s in answer.shared if split(s.format) == (e, 5 - e))
        assert offered == list(range(min(chosen), max(chosen) + 1))
    best = answer.by_worst
    for name, x in data.items():
        own = fpsim.measured_error(x, answer.tensors[name].format)
        regret = fpsim.measured_error(x, best.format) / own - 1
        assert best.regrets[name] == pytest.approx(regret, rel=1e-5, abs=1e-9)
    # Nothing else with one of these splits and any bias has less worst regret.
    for e in range(1, 6):
        for bias in range(-10, 40):
            fmt = Format(e, 5 - e, bias=bias, infinities=False, nans="none")
            worst = max(
                fpsim.measured_error(x, fmt) / answer.tensors[name].measured - 1
                for name, x in data.items()
            )
            assert worst >= best.worst * (1 - 1e-6) - 1e-9


def test_tensors_without_anything_to_go_by_are_skipped() -> None:
    data = {"fine": lognormal(1.0, 500), "zeros": np.zeros(7), "nan": [np.nan] * 3, "empty": []}
    answer = fpsim.recommend(data, 6)
    assert list(answer.tensors) == ["fine"]
    assert answer.skipped == {
        "zeros": "none of 7 elements is finite and nonzero",
        "nan": "none of 3 elements is finite and nonzero",
        "empty": "none of 0 elements is finite and nonzero",
    }
    assert answer.by_worst.worst == 0


def test_a_mapping_of_sketches_and_of_both() -> None:
    data = tensors()
    arrays = fpsim.recommend(data, [4, 6])
    sketches = fpsim.recommend({n: Sketch.of(x) for n, x in data.items()}, [4, 6])
    mixed = fpsim.recommend(
        {n: Sketch.of(x) if n == "wide" else x for n, x in data.items()}, [4, 6]
    )
    for bits in (4, 6):
        for other in (sketches, mixed):
            assert other[bits].format == arrays[bits].format
            assert [s.regrets for s in other[bits].shared] == [
                s.regrets for s in arrays[bits].shared
            ]
        assert sketches[bits].tensors["wide"].measured is None
        assert mixed[bits].tensors["wide"].measured is None
        assert mixed[bits].tensors["usual"].measured == arrays[bits].tensors["usual"].measured


def test_exact_for_some_and_not_for_others() -> None:
    """A regret over a loss of nothing is 0 or infinite, never NaN."""
    data = {"exact": np.full(100, 1.0), "other": lognormal(3.0, 2000)}
    answer = fpsim.recommend(data, 4, basis="sketch")
    for shared in answer.shared:
        assert not any(math.isnan(r) for r in shared.regrets.values())
        assert not math.isnan(shared.worst)
    two = {"a": np.array([1.0, 1.5]), "b": np.array([1.0, 2.0**20])}
    answer = fpsim.recommend(two, 6, basis="sketch")
    values = [r for shared in answer.shared for r in shared.regrets.values()]
    assert 0.0 in values
    assert math.inf in values


def test_the_sample() -> None:
    """Real gradients: all fifteen get a format that brute force confirms to within 3 %."""
    sample = fpsim.sample_gradients()
    assert len(sample) == 15
    assert sum(x.nbytes for x in sample.values()) <= 600_000 * 4
    answer = fpsim.recommend(sample, 6)
    for name, x in list(sample.items())[::5]:
        assert x.dtype == np.float32
        best = brute_force(x, 6, "relative")
        chosen = loss_of_candidate(x, answer.tensors[name].best, "relative")
        assert chosen <= 1.03 * min(best.values())
