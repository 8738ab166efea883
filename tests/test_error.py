"""fpsim.analysis.error against quadrature, brute force on data, Monte Carlo and published numbers.

The oracles share no code with the module: levels come from `fpsim.spec`, rounding is a search
for the nearest level, integrals are SciPy's.
"""

from __future__ import annotations

import functools
import math
import warnings
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import scipy
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fpsim import spec
from fpsim.analysis.error import (
    Metric,
    best_scale,
    closed_form_error,
    error_summary,
    expected_error,
    in_range_constant,
    in_range_squared_constant,
    in_range_stochastic_constant,
    mills_ratio,
    sketch_error,
    tail_moment,
)
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.sketch import Sketch
from fpsim.format import Format

LN2 = math.log(2.0)
# Relative: pytest's absolute tolerance of 1e-12 would hide what is small.
approx = functools.partial(pytest.approx, rel=1e-6, abs=0.0)
METRICS = ("relative", "nmse", "cosine", "bias")


def finite(exponent_bits, mantissa_bits, **parameters):
    """The format whose every code is a number."""
    return Format(exponent_bits, mantissa_bits, infinities=False, nans="none", **parameters)


# Oracles ----------------------------------------------------------------------------------------


@functools.cache
def levels(fmt):
    """All magnitudes of a format that x may round to, from the specification."""
    values = {spec.value_at(code, fmt) for code in range(fmt.max_code + 1)}
    return np.array(sorted(float(v) for v in values if v > 0 or fmt.zero))


def nearest(x, q):
    return q[np.searchsorted((q[1:] + q[:-1]) / 2, x)]


def by_quadrature(mu, sigma, fmt):
    """Every metric by SciPy's quadrature of its definition, between all kinks and jumps."""
    q = levels(fmt)
    kinks = np.concatenate([q[q > 0], (q[1:] + q[:-1]) / 2])
    scores = (np.log(kinks) - mu) / sigma
    low, high = -10.0, 10.0 + 2 * sigma
    ends = np.unique(np.concatenate([scores, np.arange(low, high + 0.5, 0.5)]))
    ends = ends[(ends >= low) & (ends <= high)]

    def mean(function):
        total = 0.0
        for a, b in pairwise(ends):
            level = nearest(np.exp(mu + sigma * (a + b) / 2), q)

            def integrand(z, level=level):
                x = math.exp(mu + sigma * z)
                return function(x, level) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

            total += scipy.integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-10)[0]
        return total

    square = math.exp(2 * mu + 2 * sigma**2)
    kept = mean(lambda x, q: q * q)
    return {
        "relative": mean(lambda x, q: abs(q - x) / x),
        "nmse": mean(lambda x, q: (q - x) ** 2) / square,
        "cosine": mean(lambda x, q: x * q) / math.sqrt(square * kept) if kept else 0.0,
        "bias": mean(lambda x, q: q) / math.exp(mu + sigma**2 / 2) - 1,
    }


def rounds_past(x, fmt):
    limit = float(fmt.max) + float(fmt.ulp(float(fmt.max))) / 2
    return (x > limit) | ((x == limit) & (fmt.max_code % 2 == 1))


def by_brute_force(x, fmt, scale=1.0):
    """Every metric on data, element by element."""
    x = np.abs(x[x != 0])
    q = nearest(x * scale, levels(fmt)) / scale
    return {
        "relative": np.mean(np.abs(q - x) / x),
        "nmse": np.sum((q - x) ** 2) / np.sum(x * x),
        "cosine": np.sum(q * x) / math.sqrt(np.sum(x * x) * np.sum(q * q)) if q.any() else 0.0,
        "bias": q.sum() / x.sum() - 1,
        "underflow": np.mean(q == 0),
        "overflow": np.mean(rounds_past(x * scale, fmt)),
    }


# In-range constants -----------------------------------------------------------------------------


def test_in_range_constants_by_published_digits():
    assert [round(in_range_constant(m), 6) for m in range(4)] == [
        0.169925,
        0.088641,
        0.044883,
        0.022517,
    ]
    assert [round(in_range_squared_constant(m), 6) for m in range(2)] == [0.038203, 0.010723]
    assert round(in_range_squared_constant(2), 7) == 0.0027805
    assert round(in_range_squared_constant(3), 8) == 0.00070205
    assert in_range_stochastic_constant(0) == approx(3 / (4 * LN2) - 1, rel=1e-14)
    assert round(in_range_stochastic_constant(1), 6) == 0.021909


@pytest.mark.parametrize("m", [0, 1, 2, 5, 9, 10, 11, 12, 16, 23, 52])
def test_in_range_constants_by_gamma_and_digamma(m):
    with mpmath.workdps(60):
        k, half = mpmath.mpf(2) ** m, mpmath.mpf("0.5")
        gamma = mpmath.loggamma
        mean = (
            2 * (gamma(2 * k + half) - gamma(k + half))
            + gamma(k)
            + gamma(k + 1)
            - gamma(2 * k)
            - gamma(2 * k + 1)
        ) / mpmath.log(2)
        squared = 1 - (mpmath.psi(0, 2 * k + half) - mpmath.psi(0, k + half)) / mpmath.log(2)
        # (b/a - a/b) / 2 is the trapezoid rule for 1/x between the neighbours a and b = a + 1.
        trapezoids = mpmath.psi(0, 2 * k) - mpmath.psi(0, k) - 1 / (2 * k) + 1 / (4 * k)
        stochastic = trapezoids / mpmath.log(2) - 1
    assert in_range_constant(m) == approx(float(mean), rel=1e-11)
    assert in_range_squared_constant(m) == approx(float(squared), rel=1e-11)
    assert in_range_stochastic_constant(m) == approx(float(stochastic), rel=1e-11)


@pytest.mark.parametrize("m", range(8))
def test_bulk_of_a_wide_format_has_the_in_range_constants(m):
    """Without under- and overflow: error C_M, bias -D_M, cosine sqrt(1 - D_M)."""
    summary = error_summary(Lognormal(0.3, 2.0), finite(8, m))
    squared = in_range_squared_constant(m)
    assert summary.relative == approx(in_range_constant(m), rel=1e-10)
    assert summary.nmse == approx(squared, rel=1e-10)
    assert summary.bias == approx(-squared, rel=1e-10)
    assert 1 - summary.cosine**2 == approx(squared, rel=1e-9)
    assert summary.sqnr == approx(-10 * math.log10(squared), rel=1e-12)


# Primitives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [-30.0, -3.0, 0.0, 1.0, 30.0, 1e3, 1e8])
def test_mills_ratio(y):
    with mpmath.workdps(50):
        exact = mpmath.sqrt(mpmath.pi / 2) * mpmath.exp(mpmath.mpf(y) ** 2 / 2)
        exact *= mpmath.erfc(mpmath.mpf(y) / mpmath.sqrt(2))
    assert mills_ratio(y) == approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("z", [-40.0, -5.0, -0.3, 0.0, 0.7, 6.0, 35.0])
@pytest.mark.parametrize("tilt", [-20.0, -1.0, 0.0, 0.5, 3.0, 50.0])
def test_tail_moment(z, tilt):
    with mpmath.workdps(60):
        t, y = mpmath.mpf(tilt), mpmath.mpf(z)
        exact = mpmath.exp(t * y + t * t / 2) * mpmath.erfc((y + t) / mpmath.sqrt(2)) / 2
    assert tail_moment(z, tilt) == approx(float(exact), rel=2e-13, abs=1e-307)


def test_weighting_with_a_power_of_x_moves_the_mean():
    """E[X^r g(X)] / E[X^r] is E[g] with mu + r sigma**2: here of normalised L1 error, r = 1."""
    mu, sigma, fmt = -0.4, 0.9, finite(2, 2)
    x = np.exp(mu + sigma * np.random.default_rng(3).standard_normal(1_000_000))
    errors = np.abs(nearest(x, levels(fmt)) - x)
    measured = errors.mean() / math.exp(mu + sigma**2 / 2)
    tolerance = 5 * errors.std() / math.exp(mu + sigma**2 / 2) / 1000
    assert expected_error(Lognormal(mu + sigma**2, sigma), fmt) == approx(measured, abs=tolerance)


# Closed form ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("e", "m", "s"), [(1, 0, 0.5), (2, 1, 1.0), (3, 2, 1.3), (4, 3, 6.0)])
def test_closed_form_without_offset_is_the_one_with_error_functions(e, m, s):
    with mpmath.workdps(40):
        s_, ln2, emax = mpmath.mpf(s), mpmath.log(2), mpmath.mpf(2) ** (e - 1)
        erf, root2 = mpmath.erf, mpmath.sqrt(2)
        phi = mpmath.ncdf(emax / s_)
        exact = (2 * phi - 1) / (8 * ln2 * 2**m)
        exact += (
            2 ** (emax - 1)
            * mpmath.exp(s_**2 * ln2**2 / 2)
            * (erf(s_ * ln2 / root2 + emax / (root2 * s_)) - 1)
        )
        exact += -erf(emax / (root2 * s_)) / 2 + mpmath.mpf(3) / 2 - phi
    assert closed_form_error(s, e, m) == approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("m", [0, 1, 2, 3])
@pytest.mark.parametrize(("e", "s", "c"), [(2, 2.0, 0.0), (3, 2.0, 0.3), (4, 4.0, -1.5)])
def test_closed_form_with_the_exact_constant_is_nearly_the_sum_over_its_quantiser(e, m, s, c):
    """The quantiser flushes all below its smallest level, unlike a Format without subnormals."""
    emax, k = 2 ** (e - 1), np.arange(2**e * 2**m + 1)
    q = 2.0 ** (-emax + k // 2**m) * (1 + k % 2**m / 2**m)
    z = np.linspace(-9, 9, 1_000_001)
    x = 2.0 ** (c + s * z)
    rounded = np.where(x < q[0], 0.0, nearest(x, q))
    weight = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    exact = float(weight @ (np.abs(rounded - x) / x))
    # The significand is not quite log-uniform where the range cuts the data off.
    assert closed_form_error(s, e, m, c, "exact") == approx(exact, rel=2e-3 / 2**m + 6e-4)


@pytest.mark.parametrize(
    ("e", "s", "offset", "best", "centred"),
    [(3, 2, 0.487, 0.0695, 0.0735), (4, 4, 0.589, None, None)],
)
def test_best_offset_of_the_closed_form(e, s, offset, best, centred):
    found = scipy.optimize.minimize_scalar(
        lambda c: closed_form_error(s, e, 2, c), bounds=(-2, 3), method="bounded"
    )
    assert found.x == approx(offset, abs=6e-4)
    # The condition of stationarity, derived by hand.
    emax, c_in = 2.0 ** (e - 1), 1 / (8 * LN2 * 4)
    density = scipy.stats.norm.pdf
    high, low = (emax - found.x) / s, (emax + found.x) / s
    tail = scipy.stats.norm.sf(high + s * LN2) / density(high + s * LN2)
    left = ((1 - c_in) * density(low) + c_in * density(high)) / s
    assert left == approx(LN2 * density(high) * tail, rel=1e-5)
    if best:
        assert closed_form_error(s, e, 2, offset, "exact") == approx(best, abs=6e-5)
        assert closed_form_error(s, e, 2, 0.0, "exact") == approx(centred, abs=6e-5)


def test_closed_form_neither_overflows_nor_leaves_zero_to_one():
    s = np.geomspace(1e-3, 1e4, 60)
    c = np.array([-1e6, -1e3, -3.0, 0.0, 3.0, 1e3, 1e6])
    for e in (1, 5, 11, 16):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = closed_form_error(s[:, None], e, 3, c)
        assert value.shape == (60, 7)
        assert ((value >= 0) & (value <= 1)).all()
    # Growing exponent range: only rounding is left.
    assert closed_form_error(2.0, 12, 3, constant="exact") == approx(in_range_constant(3))


# Lognormal data ---------------------------------------------------------------------------------

ODD_FORMATS = {
    "E2M1": Format.parse("float4_e2m1fn"),
    "E3M0": finite(3, 0),
    "subnormals and one binade": finite(1, 3),
    "subnormals only": Format(1, 3),
    "infinity and NaN": Format(2, 2),
    "no subnormals": finite(3, 1, subnormals=False),
    "bias 20": finite(3, 1, bias=20),
    "NaN for -0": Format(3, 1, infinities=False, nans="negative_zero"),
    "no zero": Format(3, 0, signed=False, zero=False, infinities=False, nans="all_ones"),
    "no zero, two mantissa bits": finite(2, 2, signed=False, zero=False),
    "unsigned P3109": Format.parse("binary4p2uf"),
    "one value": finite(1, 0),
}


@pytest.mark.parametrize("fmt", ODD_FORMATS.values(), ids=ODD_FORMATS)
@pytest.mark.parametrize(("c", "sigma"), [(0.4, 1.2), (-1.5, 0.3), (2.5, 2.0)])
def test_every_metric_by_quadrature(fmt, c, sigma):
    """`c` is where the data lie, in units of ln2 around the middle of the format."""
    mu = LN2 * c + (math.log(float(fmt.max)) + math.log(float(fmt.smallest))) / 2
    exact = by_quadrature(mu, sigma, fmt)
    summary = error_summary(Lognormal(mu, sigma), fmt)
    for metric in METRICS:
        assert summary.value(metric) == approx(exact[metric], rel=1e-8, abs=1e-13), metric
        assert expected_error(Lognormal(mu, sigma), fmt, metric=metric) == approx(
            summary.value(metric), rel=1e-13, abs=1e-15
        )


@st.composite
def small_formats(draw):
    exponent_bits, mantissa_bits = draw(st.integers(1, 4)), draw(st.integers(0, 2))
    zero = draw(st.booleans())
    nans = draw(st.sampled_from(["none", "all_ones", "ieee"]))
    try:
        return Format(
            exponent_bits,
            mantissa_bits,
            bias=draw(st.integers(-5, 12)),
            signed=zero,
            zero=zero,
            subnormals=draw(st.booleans()),
            infinities=nans == "ieee" or draw(st.booleans()),
            nans=nans,
        )
    except ValueError:  # no nonzero finite value is left
        assume(False)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(fmt=small_formats(), place=st.floats(-0.3, 1.3), sigma=st.floats(0.02, 2.5))
@example(fmt=finite(2, 1), place=1.5, sigma=0.02)
def test_any_small_format_by_quadrature(fmt, place, sigma):
    low, high = math.log(float(fmt.smallest)), math.log(float(fmt.max))
    mu = low + place * (high - low)
    exact = by_quadrature(mu, sigma, fmt)
    summary = error_summary(Lognormal(mu, sigma), fmt)
    for metric in METRICS:
        assert summary.value(metric) == approx(exact[metric], rel=1e-7, abs=1e-12), metric


@pytest.mark.parametrize(
    "fmt",
    [Format(4, 9), finite(3, 10), finite(4, 8, subnormals=False), finite(1, 12), Format(3, 7)],
    ids=str,
)
@pytest.mark.parametrize(("mu", "sigma"), [(-0.7, 1.3), (-4.0, 2.5), (0.3, 0.2), (2.0, 0.04)])
def test_finely_spaced_levels_by_summing_over_each(fmt, mu, sigma):
    """Where the module takes whole blocks of levels: here one by one, by differences of Phi."""
    q = levels(fmt)
    bounds = np.concatenate([[0.0], (q[1:] + q[:-1]) / 2, [np.inf]])

    def partial(power, a, b):  # E[X**power; a < X < b]
        with np.errstate(divide="ignore"):
            za, zb = ((np.log(v) - mu) / sigma - power * sigma for v in (a, b))
        flip = za > 0
        mass = scipy.special.ndtr(np.where(flip, -za, zb))
        mass -= scipy.special.ndtr(np.where(flip, -zb, za))
        return math.exp(power * mu + power**2 * sigma**2 / 2) * mass

    below = partial(0, bounds[:-1], q) - q * partial(-1, bounds[:-1], q)
    above = partial(0, q, bounds[1:]) - q * partial(-1, q, bounds[1:])
    mean = math.exp(mu + sigma**2 / 2)
    mass = partial(0, bounds[:-1], bounds[1:])
    # Differences of Phi over narrow cells lose digits: 1e-7 of the error remains.
    summary = error_summary(Lognormal(mu, sigma), fmt)
    assert summary.relative == approx(np.sum(above - below), rel=1e-7)
    assert summary.bias == approx(np.sum(q * mass) / mean - 1, abs=1e-11)
    square = partial(2, bounds[:-1], bounds[1:])
    product = q * partial(1, bounds[:-1], bounds[1:])
    total = math.exp(2 * mu + 2 * sigma**2)
    nmse = np.sum(square - 2 * product + q * q * mass) / total
    assert summary.nmse == approx(nmse, abs=1e-11)
    cosine = np.sum(product) / math.sqrt(total * np.sum(q * q * mass))
    assert summary.cosine == approx(cosine, abs=1e-11)


@pytest.mark.parametrize("name", ["binary32", "binary64", "e11m30", "e12m40", "ue15m48"])
def test_wide_formats(name):
    """Only rounding to nearest is left: the in-range constants of many mantissa bits."""
    fmt = Format.parse(name)
    summary = error_summary(Lognormal(1.0, 3.0), fmt)
    m = fmt.mantissa_bits
    assert summary.relative == approx(2.0**-m / (8 * LN2), rel=1e-9)
    assert summary.nmse == approx(4.0**-m / (32 * LN2), rel=1e-9)
    assert summary.bias == approx(-(4.0**-m) / (32 * LN2), rel=1e-6)
    assert summary.cosine == approx(1.0)
    assert summary.underflow == approx(0.0, abs=1e-80)


def test_data_on_the_edge_of_a_wide_format():
    """Half of the data are flushed: binary32's smallest value is 2**-149, the boundary half."""
    summary = error_summary(Lognormal(-150 * LN2, 0.7), "binary32")
    assert summary.underflow == approx(0.5, rel=1e-12)
    tiny = Lognormal(-150 * LN2 + 149 * LN2, 0.7)
    same = error_summary(tiny, finite(2, 20, bias=-19))  # the same subnormals, starting at 1
    for metric in METRICS:
        assert summary.value(metric) == approx(same.value(metric), rel=1e-9)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize(
    "name", ["float4_e2m1fn", "float6_e3m2fn", "float8_e4m3fn", "float8_e5m2", "binary16"]
)
def test_monte_carlo(name, sigma):
    fmt, scale = Format.parse(name), 2.0**-3
    x = np.exp(0.9 + sigma * np.random.default_rng(7).standard_normal(1_000_000))
    q = nearest(x * scale, levels(fmt)) / scale
    summary = error_summary(Lognormal(0.9, sigma), fmt, scale)
    relative = np.abs(q - x) / x
    assert summary.relative == approx(relative.mean(), abs=5 * relative.std() / 1000)
    for share, hit in (
        (summary.underflow, q == 0),
        (summary.overflow, rounds_past(x * scale, fmt)),
    ):
        assert share == approx(hit.mean(), abs=5 * math.sqrt(share / 1e6) + 1e-12)
    if sigma <= 1:  # beyond, a sample does not contain the elements that govern these
        weight = x * x / np.mean(x * x)
        noise = weight * ((1 - q / x) ** 2 - summary.nmse)
        measured = np.mean((q - x) ** 2) / np.mean(x * x)
        assert summary.nmse == approx(measured, abs=5 * noise.std() / 1000)
        noise = x / x.mean() * (q / x - 1 - summary.bias)
        assert summary.bias == approx(q.mean() / x.mean() - 1, abs=5 * noise.std() / 1000)


@pytest.mark.parametrize("fmt", ODD_FORMATS.values(), ids=ODD_FORMATS)
def test_point_mass_is_exact_and_the_limit_of_narrow_data(fmt):
    for x in (0.4, 0.51, 1.3, 2.9, 1e4):
        q = float(nearest(x, levels(fmt)))
        summary = error_summary(Lognormal(math.log(x), 0.0), fmt)
        exact = {
            "relative": abs(q - x) / x,
            "nmse": (q - x) ** 2 / x**2,
            "cosine": float(q > 0),
            "bias": q / x - 1,
        }
        narrow = error_summary(Lognormal(math.log(x), 1e-9), fmt)
        for metric in METRICS:
            assert summary.value(metric) == approx(exact[metric], rel=1e-12, abs=1e-15)
            assert narrow.value(metric) == approx(exact[metric], rel=1e-5, abs=1e-14)
        assert summary.underflow == float(q == 0)


def test_scale_only_moves_mu():
    fmt = Format.parse("float8_e4m3fn")
    one = error_summary(Lognormal(-6.0, 2.0), fmt, scale=37.0)
    other = error_summary(Lognormal(-6.0 + math.log(37.0), 2.0), fmt)
    assert one.relative == approx(other.relative, rel=1e-13)
    # A format with another bias is the same as a power-of-two scale.
    biased = error_summary(Lognormal(-6.0, 2.0), Format.parse("float8_e4m3fn,bias=12"))
    scaled = error_summary(Lognormal(-6.0, 2.0), fmt, scale=2.0**5)
    assert biased.relative == approx(scaled.relative, rel=1e-13)


# Sketched data ----------------------------------------------------------------------------------


@functools.cache
def sample(kind):
    rng = np.random.default_rng(11)
    x = rng.lognormal(-3.0, 2.0, 60_000) * rng.choice([-1.0, 1.0], 60_000)
    if kind == "quantised":  # point masses, ties included, on a grid finer than E4M3's
        x = nearest(np.abs(x), levels(Format(6, 4)))
        x[:500] = 0.0
    else:  # binary32 values, none of them a tie: their last bit is set
        x = (x.astype(np.float32).view(np.uint32) | 1).view(np.float32)
        x[:500] = 0.0
    x = x.astype(np.float64)
    return x, Sketch.of(x)


SKETCHED = [
    *("float4_e2m1fn", "float8_e4m3fn", "float8_e5m2", "e2m6f", "e3m0f", "float8_e8m0fnu"),
    *("e4m3f,subnormals=false", "binary8p1uf", "hfp8_e4m3", "e1m5f"),
]


@pytest.mark.parametrize("name", SKETCHED)
@pytest.mark.parametrize("kind", ["lognormal", "quantised"])
@pytest.mark.parametrize("exponent", [-9, 0, 4, 12])
def test_sketch_is_exact_for_powers_of_two(name, kind, exponent):
    (x, sketch), fmt, scale = sample(kind), Format.parse(name), 2.0**exponent
    exact = by_brute_force(x, fmt, scale)
    summary = error_summary(sketch, fmt, scale)
    assert summary.relative == approx(exact["relative"], rel=1e-8)
    assert summary.nmse == approx(exact["nmse"], rel=1e-13)
    assert summary.underflow == approx(exact["underflow"], abs=1e-12)
    assert summary.overflow == approx(exact["overflow"], abs=1e-12)
    if kind == "lognormal":  # the oracle does not break ties to even
        assert summary.cosine == approx(exact["cosine"], rel=1e-12)
        assert summary.bias == approx(exact["bias"], rel=1e-9, abs=1e-14)
    assert sketch_error(sketch, fmt, scale, "sqnr") == summary.sqnr


@pytest.mark.parametrize("name", [*SKETCHED, "bfloat16", "binary16", "e3m9f", "e2m12f"])
@pytest.mark.parametrize("scale", [37.3, 0.0123, 1.0])
def test_sketch_where_levels_cut_its_cells(name, scale):
    """Within the noise of where 60,000 elements lie inside their cells."""
    (x, sketch), fmt = sample("lognormal"), Format.parse(name)
    exact = by_brute_force(x, fmt, scale)
    summary = error_summary(sketch, fmt, scale)
    assert summary.relative == approx(exact["relative"], rel=1e-2)
    assert summary.underflow == approx(exact["underflow"], abs=1e-3)
    assert summary.overflow == approx(exact["overflow"], abs=1e-3)
    # Few large elements carry these: their noise is that of a handful.
    assert summary.nmse == approx(exact["nmse"], rel=0.3)
    assert summary.cosine == approx(exact["cosine"], abs=1e-4)


def test_squared_error_around_a_level_inside_a_cell_is_exact():
    """Cells keep mean and variance, which is all that a quadratic needs."""
    x = 1 + np.random.default_rng(12).beta(0.2, 0.5, 1000) / 128
    x = x.astype(np.float32).astype(np.float64)  # one cell, crowded at its ends
    scale = 1.25 / 1.004
    exact = by_brute_force(x, Format.parse("e3m2f"), scale)
    summary = error_summary(Sketch.of(x), "e3m2f", scale)
    assert summary.nmse == approx(exact["nmse"], rel=1e-9)
    assert summary.bias == approx(exact["bias"], rel=1e-9)


def test_the_end_of_a_finely_spaced_range_inside_a_cell():
    fmt, scale = Format.parse("e2m12f"), 12 * math.pi
    x = float(fmt.max) / scale * np.linspace(0.99, 1.01, 20_000)
    exact, summary = by_brute_force(x, fmt, scale), error_summary(Sketch.of(x), fmt, scale)
    for metric in METRICS:
        assert summary.value(metric) == approx(exact[metric], rel=1e-3)
    assert summary.overflow == approx(exact["overflow"], rel=1e-3)


def test_point_masses_are_exact_for_any_scale():
    x, sketch = sample("quantised")
    for name in ("float8_e4m3fn", "bfloat16", "e2m12f"):
        for scale in (12 * math.pi, math.pi / 256):
            exact = by_brute_force(x, Format.parse(name), scale)
            summary = error_summary(sketch, name, scale)
            for metric in METRICS:
                assert summary.value(metric) == approx(exact[metric], rel=1e-9, abs=1e-13)


def test_ties_go_to_the_even_code():
    sketch = Sketch.of([1.25] * 3 + [2.5] * 5 + [0.25, 0.28125])
    summary = error_summary(sketch, "float4_e2m1fn")  # 1, 2, 0 and 0.5
    assert summary.bias == approx((3 + 10 + 0.5) / (3.75 + 12.5 + 0.53125) - 1, rel=1e-12)
    assert summary.underflow == 0.1
    # Without mantissa bits the exponent's parity decides: 1.5 and 3 lie between 1, 2 and 4.
    fmt = finite(3, 0)
    q = [float(spec.round(x, fmt)) for x in (1.5, 3.0)]
    summary = error_summary(Sketch.of([1.5, 3.0]), fmt)
    assert summary.bias == approx(sum(q) / 4.5 - 1, rel=1e-14)


def test_sketch_far_outside_of_a_format():
    below = error_summary(Sketch.of([1e-300, 3e-300]), "float8_e4m3fn")
    assert (below.relative, below.nmse, below.cosine, below.bias) == (1.0, 1.0, 0.0, -1.0)
    assert (below.underflow, below.overflow) == (1.0, 0.0)
    above = error_summary(Sketch.of([1e100, 1e100]), "float8_e4m3fn")
    assert above.relative == approx(1.0)
    assert above.bias == approx(-1.0)
    assert above.cosine == approx(1.0)
    assert (above.underflow, above.overflow) == (0.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert error_summary(Sketch.of([1e-300, 1e300]), "binary64").relative < 1e-15
        # Without zero, small elements become as large as the smallest value.
        wide = error_summary(Sketch.of([1e-300, 2.0**50]), "float8_e8m0fnu")
    assert wide.relative > 1e100
    assert wide.nmse == approx(0.0, abs=1e-15)
    assert wide.cosine == approx(1.0)


# Overflow that is not saturated -----------------------------------------------------------------


def test_overflow_to_infinity_or_nan_is_an_infinite_error():
    fit, small = Lognormal(0.0, 1.0), Sketch.of([1.0, 463.9])
    for fmt, overflow in (("e4m3", "infinity"), ("e4m3fn", "nan"), ("float8_e5m2", "nan")):
        summary = error_summary(fit, fmt, overflow=overflow)
        assert summary.relative == summary.nmse == summary.bias == math.inf
        assert summary.sqnr == -math.inf
        assert math.isnan(summary.cosine)
        assert Metric.cosine.loss(summary.cosine) == math.inf
        assert expected_error(fit, fmt, overflow=overflow) == math.inf
    # A format that has neither, or not the one asked for, saturates.
    saturated = expected_error(fit, "e4m3fn")
    assert expected_error(fit, "e4m3fn", overflow="infinity") == saturated
    assert math.isfinite(expected_error(fit, "e2m1f", overflow="nan"))
    # Past the range begins half an ulp above the largest value: 464 for E4M3FN (its code is even).
    assert math.isfinite(sketch_error(small, "e4m3fn", overflow="nan"))
    assert math.isfinite(sketch_error(Sketch.of([464.0]), "e4m3fn", overflow="nan"))
    assert sketch_error(Sketch.of([464.1]), "e4m3fn", overflow="nan") == math.inf
    assert sketch_error(Sketch.of([65519.9]), "binary16", overflow="nan") < 1e-3
    assert sketch_error(Sketch.of([65520.0]), "binary16", overflow="nan") == math.inf


# Best scale -------------------------------------------------------------------------------------

# format, sigma in log2; best offset and its error, best integer offset and its error, error at
# offset 0; SQNR at its best offset and at offset 0 (dB).
BEST = [
    ("e2m1f", 1, 1.112, 0.113631, 1, 0.114205, 0.172748, 16.508, 16.099),
    ("e2m1f", 2, 1.174, 0.269586, 1, 0.270935, 0.329917, 8.090, 1.896),
    ("e3m0f", 2, 1.301, 0.210746, 1, 0.212759, 0.249918, 11.227, 3.663),
    ("e3m2f", 2, 0.848, 0.060213, 1, 0.060453, 0.067792, 19.662, 5.275),
    ("e4m3f", 3, 0.534, 0.024519, 1, 0.024743, 0.024808, 27.720, 1.739),
    ("e4m3f", 4, 0.457, 0.039674, 0, 0.040348, 0.040348, None, None),
    ("e5m2f", 3, None, 0.044883, 1, 0.044883, 0.044883, 25.559, 15.720),
]


@pytest.mark.parametrize(
    ("name", "s", "c", "best", "integer", "at_integer", "centred", "sqnr", "sqnr_centred"), BEST
)
def test_best_scale_by_published_digits(
    name, s, c, best, integer, at_integer, centred, sqnr, sqnr_centred
):
    fit = Lognormal(0.0, s * LN2)
    scale, value = best_scale(fit, name, kind="continuous")
    assert value == approx(best, abs=1e-6)
    assert expected_error(fit, name, scale) == approx(value, rel=1e-12)
    if c is not None:  # else a plateau
        assert math.log2(scale) == approx(c, abs=6e-4)
    scale, value = best_scale(fit, name)
    assert (math.log2(scale), value) == (integer, approx(at_integer, abs=1e-6))
    assert expected_error(fit, name) == approx(centred, abs=1e-6)
    if sqnr is not None:
        _, value = best_scale(fit, name, "sqnr", kind="continuous")
        assert value == approx(sqnr, abs=6e-4)
        assert expected_error(fit, name, metric="sqnr") == approx(sqnr_centred, abs=6e-4)


@pytest.mark.parametrize(("name", "s", "c"), [("e2m1f", 1, -0.28), ("e3m2f", 2, -4.72)])
def test_best_scale_for_the_squared_error_is_elsewhere(name, s, c):
    scale, _ = best_scale(Lognormal(0.0, s * LN2), name, "nmse", kind="continuous")
    assert math.log2(scale) == approx(c, abs=6e-3)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("name", ["float4_e2m1fn", "float8_e4m3fn", "float8_e8m0fnu"])
def test_best_scale_beats_a_fine_grid(name, metric):
    fit = Lognormal(-7.3, 1.1)
    exponents = np.arange(-40, 40, 0.125)
    losses = [metric.loss(expected_error(fit, name, 2.0**k, metric)) for k in exponents]
    _, value = best_scale(fit, name, metric, kind="continuous")
    assert metric.loss(value) <= min(losses) + 1e-12
    integers = [loss for k, loss in zip(exponents, losses, strict=True) if k % 1 == 0]
    scale, value = best_scale(fit, name, metric)
    assert math.log2(scale) % 1 == 0
    assert metric.loss(value) <= min(integers) + 2e-9 * abs(min(integers))
    assert value == approx(expected_error(fit, name, scale, metric), rel=1e-12)


@pytest.mark.parametrize("metric", ["relative", "nmse", "cosine"])
def test_best_scale_of_a_sketch(metric):
    (x, sketch), fmt = sample("lognormal"), Format.parse("float6_e3m2fn")
    loss = Metric(metric).loss
    exact = {k: loss(by_brute_force(x, fmt, 2.0**k)[metric]) for k in range(-20, 21)}
    scale, value = best_scale(sketch, fmt, metric)
    assert math.log2(scale) == min(exact, key=exact.get)
    assert loss(value) == approx(min(exact.values()), rel=1e-8)
    anywhere, value = best_scale(sketch, fmt, metric, kind="continuous")
    assert loss(value) <= min(exact.values()) * (1 + 1e-9)
    assert value == approx(by_brute_force(x, fmt, anywhere)[metric], rel=1e-2)


def test_best_scale_prefers_none_where_all_are_equal():
    assert best_scale(Sketch.of([1.0, 2.0, 4.0]), "e5m2") == (1.0, 0.0)
    assert best_scale(Lognormal(0.0, 0.0), "float8_e4m3fn") == (1.0, 0.0)
    scale, _ = best_scale(Lognormal(0.0, 2.0), "binary64")
    assert scale == 1.0
    scale, value = best_scale(Lognormal(0.37, 0.0), "float8_e4m3fn", kind="continuous")
    assert value < 1e-15  # some level is met exactly
    assert best_scale(Sketch.of([3.0]), "e4m3", "sqnr", kind="continuous") == (1.0, math.inf)


def test_best_scale_without_saturation_keeps_the_data_in_range():
    (x, sketch), fmt = sample("lognormal"), Format.parse("float8_e4m3fn")
    for kind in ("power_of_two", "continuous"):
        scale, value = best_scale(sketch, fmt, kind=kind, overflow="nan")
        assert np.abs(x).max() * scale <= 464
        assert sketch_error(sketch, fmt, scale, overflow="nan") == approx(value)
    fit = Lognormal(-1.0, 2.5, count=1_000_000)
    scale, value = best_scale(fit, fmt, overflow="nan")
    free, lower = best_scale(fit, fmt)
    assert error_summary(fit, fmt, scale).overflow * fit.count <= 0.01
    assert error_summary(fit, fmt, scale * 2).overflow * fit.count > 0.01
    assert scale < free
    assert value > lower


# Thresholds in s (standard deviation of log2) at which one more exponent bit pays, by the number
# of bits: of the closed form, the same with the exact constant, and the exact sum at the best
# scale with subnormals, without, and for the squared error.
THRESHOLDS = {
    4: ([0.58, 1.43], [0.58, 1.38], [0.74, 1.48], [0.44, 1.20], [0.62, 1.22]),
    5: (
        [0.49, 1.14, 2.73],
        [0.49, 1.13, 2.63],
        [0.66, 1.40, 2.72],
        [0.37, 1.02, 2.45],
        [0.55, 1.15, 2.20],
    ),
    6: (
        [0.43, 0.97, 2.21, 5.23],
        [0.43, 0.97, 2.19, 5.06],
        [0.60, 1.30, 2.50, 5.13],
        [0.31, 0.88, 2.08, 4.86],
        [0.50, 1.05, 2.00, 4.08],
    ),
}


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("bits", THRESHOLDS)
def test_where_one_more_exponent_bit_pays(bits, column):
    def loss(s, e):
        m = bits - 1 - e
        if column < 2:
            return closed_form_error(s, e, m, constant=("simple", "exact")[column])
        metric = "nmse" if column == 4 else "relative"
        fmt = finite(e, m, subnormals=column != 3)
        return best_scale(Lognormal(0.0, s * LN2), fmt, metric, "continuous")[1]

    for e, s in enumerate(THRESHOLDS[bits][column], 1):
        assert loss(s - 0.0051, e) < loss(s - 0.0051, e + 1)
        assert loss(s + 0.0051, e) > loss(s + 0.0051, e + 1)


# Errors -----------------------------------------------------------------------------------------

FIT = Lognormal(0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "exception", "words"),
    [
        (lambda: expected_error(FIT, "e4m3", metric="mse"), ValueError, "metric='mse'.*'nmse'"),
        (lambda: expected_error(FIT, "e4m3", scale=0.0), ValueError, "scale=0.0.*positive"),
        (lambda: expected_error(FIT, "e4m3", scale=math.nan), ValueError, "scale=nan.*finite"),
        (lambda: expected_error(FIT, "e4m3", overflow="wrap"), ValueError, "overflow='wrap'"),
        (lambda: sketch_error(Sketch.of([0.0]), "e4m3"), ValueError, "no finite nonzero element"),
        (lambda: best_scale(FIT, "e4m3", kind="any"), ValueError, "kind='any'.*'power_of_two'"),
        (lambda: best_scale(Sketch(), "e4m3"), ValueError, "no finite nonzero element"),
        (lambda: closed_form_error(0.0, 4, 3), ValueError, "sigma_log2=0.0.*expected_error"),
        (lambda: closed_form_error(1.0, 0, 3), ValueError, "exponent_bits=0.*1 or more"),
        (lambda: closed_form_error(1.0, 2.5, 3), TypeError, "exponent_bits=2.5.*integer"),
        (lambda: closed_form_error(1.0, 4, -1), ValueError, "mantissa_bits=-1.*0 or more"),
        (lambda: closed_form_error(1.0, 4, 3, 0, "c"), ValueError, "constant='c'.*'simple'"),
        (lambda: in_range_constant(-1), ValueError, "mantissa_bits=-1.*0 or more"),
        (lambda: in_range_constant(1.0), TypeError, "mantissa_bits=1.0.*integer"),
    ],
)
def test_invalid_arguments(call, exception, words):
    with pytest.raises(exception, match=words):
        call()
