"""fpsim.analysis.lognormal against published numbers, likelihoods, quadrature and sorting."""

from __future__ import annotations

import functools
import math
import pickle
import warnings
from dataclasses import astuple

import mpmath
import numpy as np
import pytest
import scipy
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fpsim import spec
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.pruning import empirical_pruning_threshold, empirical_sparsity
from fpsim.analysis.sketch import Sketch
from fpsim.format import Format

LN2 = math.log(2.0)
# Relative: pytest's absolute tolerance of 1e-12 would hide what is small.
approx = functools.partial(pytest.approx, rel=1e-6, abs=0.0)
SIGMAS = (0.1, 0.3, 1.0, 2.0, 4.0, 6.0, 8.0)
SPARSITIES = (1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 0.9999)


def quantiles(distribution, n=200_001):
    """A data set whose empirical distribution is the given one to within 1/n."""
    return distribution.ppf((np.arange(n) + 0.5) / n)


def quantise(x, fmt, scale=1.0):
    """Nearest values of a format by search, levels from the specification."""
    q = {float(spec.value_at(code, fmt)) for code in range(fmt.max_code + 1)}
    q = np.array(sorted(v for v in q if v > 0 or fmt.zero))
    return q[np.searchsorted((q[1:] + q[:-1]) / 2, x * scale)] / scale


# The value --------------------------------------------------------------------------------------


def test_is_a_value():
    one = Lognormal(0.0, 1.0, zero_fraction=0.25, count=4, ks=0.1, alternatives={"cauchy": 0.2})
    other = Lognormal(0.0, 1.0, zero_fraction=0.25, count=4)
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one
    assert (Lognormal(LN2, 2 * LN2).mu_log2, Lognormal(LN2, 2 * LN2).sigma_log2) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("ks", "quality"),
    [(0.0, "good"), (0.029, "good"), (0.03, "usable"), (0.08, "poor"), (math.nan, "unknown")],
)
def test_quality(ks, quality):
    assert Lognormal(0.0, 1.0, ks=ks).quality == quality


# Fitting ----------------------------------------------------------------------------------------


def test_fit_is_mean_and_deviation_of_the_logarithm():
    rng = np.random.default_rng(5)
    x = rng.lognormal(-11.0, 3.3, 10_000) * rng.choice([-1, 1], 10_000)
    spoiled = np.concatenate([x, np.zeros(2_500), [np.nan, np.inf, -np.inf]])
    fit = Lognormal.fit(spoiled)
    logs = np.log(np.abs(x))
    assert fit.mu == approx(logs.mean(), abs=1e-7)
    assert fit.sigma == approx(logs.std(), abs=1e-7)
    assert (fit.zero_fraction, fit.count) == (0.2, 10_000)
    assert Lognormal.fit(Sketch.of(spoiled)) == fit


@pytest.mark.parametrize("value", [1.0, 0.3, 1e-300])
def test_equal_data_are_a_point_mass(value):
    for options in ({}, {"truncated_below": value}, {"truncated_below": value / 2}):
        fit = Lognormal.fit([value, -value, 0.0, value], **options)
        assert fit == Lognormal(math.log(value), 0.0, zero_fraction=0.25, count=3)
        assert fit.ks == 0.0


def test_ln_of_a_normal_by_its_moments():
    """ln|N(0,1)| has mean -(gamma + ln2)/2 and standard deviation pi/sqrt(8)."""
    fit = Lognormal.fit(quantiles(scipy.stats.halfnorm, 2_000_001))
    assert fit.mu == approx(-(np.euler_gamma + LN2) / 2, abs=1e-5)
    assert fit.sigma == approx(math.pi / math.sqrt(8), abs=1e-4)


def exact_distance(x, cdf):
    """The Kolmogorov-Smirnov distance with every element."""
    x = np.sort(np.abs(x))
    f, n = cdf(x), len(x)
    return max((np.arange(1, n + 1) / n - f).max(), (f - np.arange(n) / n).max())


def test_distances_by_published_digits():
    # Of the whole populations, whose ln|x| have known moments.
    y = np.linspace(-12, 4, 1_000_001)
    normal = scipy.special.erf(np.exp(y) / math.sqrt(2))
    normal -= scipy.special.ndtr((y + (np.euler_gamma + LN2) / 2) * math.sqrt(8) / math.pi)
    laplace = -np.expm1(-np.exp(y))
    laplace -= scipy.special.ndtr((y + np.euler_gamma) * math.sqrt(6) / math.pi)
    exact = np.abs(normal).max(), np.abs(laplace).max()
    assert exact == (approx(0.096, abs=1e-3), approx(0.071, abs=1e-3))
    for distribution, distance in zip(
        (scipy.stats.halfnorm, scipy.stats.expon), exact, strict=True
    ):
        assert Lognormal.fit(quantiles(distribution)).ks == approx(distance, abs=2e-5)
    lognormal = Lognormal.fit(quantiles(scipy.stats.lognorm(1.7)))
    assert lognormal.ks < 1e-4
    assert lognormal.quality == "good"
    assert round(lognormal.alternatives["cauchy"], 3) == 0.054
    # Normal data times a lognormal scale: near-lognormal.
    rng = np.random.default_rng(2)
    mixture = rng.standard_normal(1_000_000) * np.exp(1.2 * rng.standard_normal(1_000_000))
    fit = Lognormal.fit(mixture)
    assert fit.ks == approx(0.029, abs=2e-3)
    assert fit.alternatives["cauchy"] == approx(0.044, abs=2e-3)
    assert fit.alternatives["log_laplace"] == approx(0.042, abs=2e-3)


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("folded_normal", scipy.stats.halfnorm(scale=3.0)),
        ("laplace", scipy.stats.expon(scale=0.01)),
        ("logistic", scipy.stats.halflogistic(scale=20.0)),
        ("cauchy", scipy.stats.halfcauchy(scale=0.7)),
        ("log_laplace", scipy.stats.loglaplace(2.5, scale=1e-8)),
    ],
)
def test_each_alternative_describes_its_own_data_best(name, distribution):
    fit = Lognormal.fit(quantiles(distribution))
    assert min(fit.alternatives, key=fit.alternatives.get) == name
    assert fit.alternatives[name] < 1e-3
    assert fit.alternatives[name] < fit.ks


def test_distances_are_those_of_the_elements():
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.lognormal(0, 1, 30_000), rng.lognormal(5, 0.7, 20_000)])
    fit = Lognormal.fit(x)
    root_mean_square, logs = math.sqrt(np.mean(x * x)), np.log(x)
    exact = {
        "lognormal": scipy.stats.norm(logs.mean(), logs.std()).cdf(logs),
        "folded_normal": scipy.stats.halfnorm(scale=root_mean_square).cdf(x),
        "laplace": scipy.stats.expon(scale=x.mean()).cdf(x),
        "logistic": scipy.stats.halflogistic(scale=math.sqrt(3) * root_mean_square / math.pi).cdf(
            x
        ),
        "cauchy": scipy.stats.halfcauchy(scale=np.median(x)).cdf(x),
        "log_laplace": scipy.stats.laplace(
            np.median(logs), np.mean(np.abs(logs - np.median(logs)))
        ).cdf(logs),
    }
    for name, cdf in exact.items():
        distance = exact_distance(x, lambda sorted_x, cdf=cdf: np.sort(cdf))
        found = fit.ks if name == "lognormal" else fit.alternatives[name]
        assert found == approx(distance, abs=6e-4)


def test_distance_of_point_masses_counts_both_sides_of_the_step():
    x = np.repeat([1.0, 3.0, 10.0], [5, 2, 3])
    fit = Lognormal.fit(x)
    distance = exact_distance(x, lambda v: scipy.stats.norm(fit.mu, fit.sigma).cdf(np.log(v)))
    assert fit.ks == approx(distance, rel=1e-12)


def test_predicted_sparsity_is_off_by_at_most_the_distance():
    rng = np.random.default_rng(4)
    x = rng.standard_normal(100_000)
    sketch, fit = Sketch.of(x), Lognormal.fit(x)
    for threshold in np.geomspace(1e-3, 10, 40):
        gap = abs(empirical_sparsity(sketch, threshold) - fit.sparsity(threshold))
        assert gap <= fit.ks


# Fits of data that lost their small elements ----------------------------------------------------

N = 200_000
TRUE = Lognormal(-5.2, 1.7)
data = np.random.default_rng(1).lognormal(TRUE.mu, TRUE.sigma, N)


def close(fit, mu, sigma, tolerance):
    return abs(fit.mu - mu) < tolerance and abs(fit.sigma - sigma) < tolerance


def minimum(negative_log_likelihood):
    start = np.log(data).mean(), math.log(np.log(data).std())
    options = {"xatol": 1e-10, "fatol": 1e-9, "maxiter": 2000}
    found = scipy.optimize.minimize(
        negative_log_likelihood, start, method="Nelder-Mead", options=options
    ).x
    return found[0], math.exp(found[1])


@pytest.mark.parametrize("z", [-2.0, -0.2, 1.0])
def test_truncated_fit_is_the_maximum_of_its_likelihood(z):
    threshold = math.exp(TRUE.mu + z * TRUE.sigma)
    above = data[data >= threshold]
    logs, ln_threshold = np.log(above), math.log(threshold)

    def loss(parameters):
        law = scipy.stats.norm(parameters[0], math.exp(parameters[1]))
        moments = logs.var() + (logs.mean() - parameters[0]) ** 2
        return parameters[1] + moments / (2 * math.exp(2 * parameters[1])) + law.logsf(ln_threshold)

    fit = Lognormal.fit(above, truncated_below=threshold)
    assert close(fit, *minimum(loss), 1e-4)
    assert close(fit, TRUE.mu, TRUE.sigma, 0.15)
    assert fit.count == len(above)
    assert fit.ks < 5e-3
    # A threshold inside the data leaves out what lies below; zeros are only counted.
    whole = Lognormal.fit(np.concatenate([data, np.zeros(N)]), truncated_below=threshold)
    assert close(whole, fit.mu, fit.sigma, 0.02)
    assert whole.zero_fraction == 0.5


@pytest.mark.parametrize("z", [-2.0, -0.2, 1.0])
def test_censored_fit_is_the_maximum_of_its_likelihood(z):
    threshold = math.exp(TRUE.mu + z * TRUE.sigma)
    flushed = np.where(data >= threshold, data, 0.0)
    logs, ln_threshold = np.log(data[data >= threshold]), math.log(threshold)

    def loss(parameters):
        law = scipy.stats.norm(parameters[0], math.exp(parameters[1]))
        moments = logs.var() + (logs.mean() - parameters[0]) ** 2
        observed = parameters[1] + moments / (2 * math.exp(2 * parameters[1]))
        return (len(logs) * observed - (N - len(logs)) * law.logcdf(ln_threshold)) / N

    fit = Lognormal.fit(flushed, censored_below=threshold)
    assert close(fit, *minimum(loss), 1e-4)
    assert close(fit, TRUE.mu, TRUE.sigma, 0.03)
    assert (fit.zero_fraction, fit.count) == (0.0, len(logs))
    assert fit.ks < 5e-3
    # What lies below but was not flushed counts as below too.
    assert close(Lognormal.fit(data, censored_below=threshold), fit.mu, fit.sigma, 0.01)


def test_censored_fit_with_structural_zeros():
    threshold = math.exp(TRUE.mu - 0.5 * TRUE.sigma)
    flushed = np.where(data >= threshold, data, 0.0)
    mixed = np.concatenate([flushed, np.zeros(N // 2)])
    fit = Lognormal.fit(mixed, censored_below=threshold, structural_zeros=True)
    assert close(fit, TRUE.mu, TRUE.sigma, 0.03)
    assert fit.zero_fraction == approx(1 / 3, abs=0.01)
    # The free share of zeros takes what they say, so the fit is that of the rest alone.
    truncated = Lognormal.fit(data[data >= threshold], truncated_below=threshold)
    assert close(fit, truncated.mu, truncated.sigma, 1e-6)
    # Fewer zeros than the fit expects below: then all of them lie there.
    fewer = np.concatenate([data[data >= threshold], np.zeros(1000)])
    fit = Lognormal.fit(fewer, censored_below=threshold, structural_zeros=True)
    assert fit == Lognormal.fit(fewer, censored_below=threshold)
    # Elements below that are not zero: at least those lie there.
    more = np.concatenate([flushed[flushed > 0], np.full(N, threshold / 2), np.zeros(1000)])
    fit = Lognormal.fit(more, censored_below=threshold, structural_zeros=True)
    assert fit.zero_fraction == approx(1000 / len(more))
    assert close(fit, *astuple(Lognormal.fit(more[:-1000], censored_below=threshold))[:2], 1e-9)


E3M2 = Format(3, 2, infinities=False, nans="none", subnormals=False)


def test_quantised_fit_by_published_digits():
    """E3M2 without subnormals, scaled such that 42 % are flushed."""
    x = np.exp(TRUE.mu + TRUE.sigma * scipy.special.ndtri((np.arange(N) + 0.5) / N))
    quantised = quantise(x, E3M2, 32.0)
    assert np.mean(quantised == 0) == approx(0.42, abs=1e-3)
    naive, fit = Lognormal.fit(quantised), Lognormal.fit(quantised, quantized_by=E3M2, scale=32.0)
    assert close(naive, -3.964, 0.984, 0.01)
    assert close(fit, -5.201, 1.700, 2e-3)
    assert fit.ks < 1e-3


@pytest.mark.parametrize(
    ("fmt", "scale"),
    [
        (E3M2, 32.0),
        (E3M2, 37.3),
        (Format.parse("float4_e2m1fn"), 50.0),
        (Format.parse("float8_e4m3fn"), 1.0),
        (Format.parse("float8_e8m0fnu"), 1e-3),
        (Format.parse("bfloat16"), 3.3),
        (Format.parse("binary16"), 0.01),
        (Format.parse("e3m9f"), 16.0),
    ],
    ids=str,
)
def test_quantised_fit_is_the_maximum_of_its_likelihood(fmt, scale):
    x = quantise(data, fmt, scale)
    x = x.astype(np.float32)  # in which scaling back is not exact
    value, counts = np.unique(x.astype(np.float64), return_counts=True)
    levels = quantise(value, fmt, scale) * scale
    every = {float(spec.value_at(code, fmt)) for code in range(fmt.max_code + 1)}
    every = np.array(sorted(v for v in every if v > 0 or fmt.zero))
    bounds = np.concatenate([[0.0], (every[1:] + every[:-1]) / 2, [np.inf]]) / scale
    place = np.searchsorted(every, levels * (1 - 1e-6))
    with np.errstate(divide="ignore"):
        low, high = np.log(bounds[place]), np.log(bounds[place + 1])

    def loss(parameters):
        zs = ((v - parameters[0]) / math.exp(parameters[1]) for v in (low, high))
        below, above = (scipy.special.ndtr(z) for z in zs)
        return -float(counts @ np.log(above - below)) / N

    fit = Lognormal.fit(x, quantized_by=fmt, scale=scale)
    assert close(fit, *minimum(loss), 2e-4)
    assert close(fit, TRUE.mu, TRUE.sigma, 0.03)
    assert fit.zero_fraction == 0.0
    assert fit.count == np.count_nonzero(x)
    assert fit.ks < 5e-3
    assert fit.alternatives == {}


def test_quantised_fit_with_an_element_far_in_the_tail():
    """Where Phi is 1 to binary64; about 42 % are flushed, so that only the maximum comes close."""
    fmt, scale = Format(6, 0), 2.0**-23
    x = np.concatenate([quantise(data, fmt, scale), [2.0**50]])
    assert np.mean(x == 0) == approx(0.4, abs=0.05)
    fit = Lognormal.fit(x, quantized_by=fmt, scale=scale)
    assert close(fit, TRUE.mu, TRUE.sigma, 0.03)


def test_quantised_fit_with_structural_zeros():
    x = np.concatenate([quantise(data, E3M2, 128.0), np.zeros(N // 4)])
    fit = Lognormal.fit(x, quantized_by=E3M2, scale=128.0, structural_zeros=True)
    assert close(fit, TRUE.mu, TRUE.sigma, 0.03)
    assert fit.zero_fraction == approx(0.2, abs=0.01)
    # A level so near to the end of its cell that scaling back may carry it into the next.
    near_edge = quantise(data[:1000], Format(5, 7), 205.04873787572302)
    near_edge[0] = 41.25 / 205.04873787572302
    Lognormal.fit(near_edge, quantized_by=Format(5, 7), scale=205.04873787572302)
    one = Lognormal.fit([0.5, 0.5, 0.0], quantized_by=E3M2, structural_zeros=True)
    assert one == Lognormal(math.log(0.5), 0.0, zero_fraction=1 / 3, count=2)
    # A format that leaves binary64.
    wide = Lognormal.fit(data, quantized_by=Format(16, 30))
    assert close(wide, *astuple(Lognormal.fit(data))[:2], 1e-4)


# Stochastic pruning under the fit ---------------------------------------------------------------


def exact_sparsity(sigma, a):
    """S for mu = 0 in many digits, straight from its two terms."""
    with mpmath.workdps(60):
        sigma, a = mpmath.mpf(sigma), mpmath.mpf(a)
        z = mpmath.log(a) / sigma
        tail = mpmath.exp(sigma**2 / 2) / a * mpmath.ncdf(z - sigma)
        return float(mpmath.ncdf(z) - tail)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_threshold_inverts_sparsity(sigma):
    fit = Lognormal(0.0, sigma)
    for sparsity in SPARSITIES:
        threshold = fit.pruning_threshold(sparsity)
        assert exact_sparsity(sigma, threshold) == approx(sparsity, rel=1e-11)
        assert fit.sparsity(threshold) == approx(sparsity, rel=1e-11)
        moved = Lognormal(-9.0, sigma).pruning_threshold(sparsity)
        assert moved == approx(threshold * math.exp(-9.0), rel=1e-12)


def test_threshold_where_a_fixed_bracket_fails():
    """sigma 5 and sparsity 1e-6: ln(threshold) is -23, outside of [-9, 20]."""
    threshold = Lognormal(0.0, 5.0).pruning_threshold(1e-6)
    assert math.log(threshold) == approx(-23.07, abs=5e-3)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    mu=st.floats(-50, 50),
    sigma=st.floats(1e-6, 30),
    sparsity=st.floats(0, 1),
    zeros=st.floats(0, 0.99),
)
@example(mu=0.0, sigma=1e-6, sparsity=1 - 1e-15, zeros=0.0)
@example(mu=0.0, sigma=30.0, sparsity=1e-300, zeros=0.0)
def test_threshold_and_sparsity_agree_everywhere(mu, sigma, sparsity, zeros):
    fit = Lognormal(mu, sigma, zero_fraction=zeros)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threshold = fit.pruning_threshold(sparsity)
        found = fit.sparsity(threshold)
    if sparsity <= zeros:
        assert threshold == 0.0
        assert found == zeros
    else:
        assert found == approx(sparsity, rel=1e-9, abs=1e-12)


def test_sparsity_counts_the_zeros_that_are_there():
    fit, rest = Lognormal(-1.0, 2.0, zero_fraction=0.3), Lognormal(-1.0, 2.0)
    thresholds = np.array([0.0, 0.1, 3.0, np.inf])
    assert fit.sparsity(thresholds) == approx(0.3 + 0.7 * rest.sparsity(thresholds))
    assert fit.pruning_threshold(0.3) == fit.pruning_threshold(0.1) == 0.0
    assert fit.pruning_threshold(0.65) == approx(rest.pruning_threshold(0.5))
    assert fit.pruning_threshold(1.0) == math.inf
    # Zeros change neither error.
    assert fit.pruning_nmse(2.0) == rest.pruning_nmse(2.0)
    assert fit.pruning_cosine(2.0) == rest.pruning_cosine(2.0)


def test_point_mass_is_pruned_exactly():
    fit = Lognormal(math.log(2.0), 0.0)
    assert fit.sparsity([0.0, 1.0, 2.0, 4.0, np.inf]) == approx([0, 0, 0, 0.5, 1])
    assert fit.pruning_threshold(0.75) == approx(8.0)
    assert fit.pruning_nmse([1.0, 4.0]) == approx([0.0, 1.0])  # |x| (alpha - |x|) / x**2
    assert fit.pruning_cosine(4.0) == approx(math.sqrt(0.5))
    narrow = Lognormal(math.log(2.0), 1e-7)
    for threshold in (1.0, 2.5, 100.0):
        for answer in ("sparsity", "pruning_nmse", "pruning_cosine"):
            exact = getattr(fit, answer)(threshold)
            assert getattr(narrow, answer)(threshold) == approx(exact, abs=1e-6)


def truncated_mean(sigma, function, limit):
    """E[function(X); Z < limit] for mu = 0, by quadrature with many digits."""
    with mpmath.workdps(20):
        integral = mpmath.quad(
            lambda z: function(mpmath.exp(sigma * z)) * mpmath.npdf(z),
            mpmath.linspace(-12, limit, 30),
        )
        return float(integral)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("z", [-1.5, 0.4, 2.0, 4.0])
def test_pruning_errors_by_quadrature(sigma, z):
    a = math.exp(sigma * z)
    fit, threshold = Lognormal(0.7, sigma), math.exp(0.7 + sigma * z)
    for k in (2.71, None):
        limit = 12 + 2 * sigma if k is None else k
        square = truncated_mean(sigma, lambda x: x * x, limit)
        end = min(z, limit)
        # Of T(x): x T(x) is x**2 on average, T(x)**2 is alpha x below alpha.
        kept = truncated_mean(sigma, lambda x: a * x, end)
        if z < limit:
            kept += square - truncated_mean(sigma, lambda x: x * x, end)
        cosine = math.sqrt(square / kept)
        assert fit.pruning_cosine(threshold, truncated_at=k) == approx(cosine, rel=1e-9)
        if k is None:
            nmse = fit.pruning_nmse(threshold)
            assert nmse == approx(kept / square - 1, rel=1e-6, abs=1e-12)
            assert fit.pruning_cosine(threshold) == approx((1 + nmse) ** -0.5)


def test_pruning_by_simulation():
    sigma, threshold = 1.1, 1.4
    rng = np.random.default_rng(6)
    x = np.exp(sigma * rng.standard_normal(1_000_000))
    pruned = np.where(x >= threshold, x, np.where(rng.random(x.size) * threshold < x, threshold, 0))
    fit = Lognormal(0.0, sigma)
    zeros = np.mean(pruned == 0)
    assert fit.sparsity(threshold) == approx(zeros, abs=5 * 0.5 / 1000)
    errors = (pruned - x) ** 2 / math.exp(2 * sigma**2)
    measured = errors.mean()
    assert fit.pruning_nmse(threshold) == approx(measured, abs=5 * errors.std() / 1000)


def test_truncated_cosine_is_continuous_and_tends_to_the_population():
    fit = Lognormal(0.0, 1.5)
    edge = math.exp(1.5 * 2.71)
    below, above = fit.pruning_cosine([edge * (1 - 1e-9), edge * (1 + 1e-9)], truncated_at=2.71)
    assert below == approx(above, abs=1e-8)
    assert fit.pruning_cosine(3.0, truncated_at=20.0) == approx(fit.pruning_cosine(3.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = Lognormal(0.0, 40.0).pruning_cosine([0.0, 1e-9, 1.0, 1e9, np.inf], 2.71)
    assert (np.diff(values) <= 0).all()
    assert (values[0], values[-1]) == (1.0, 0.0)


# Stochastic pruning of the data themselves ------------------------------------------------------


def sorted_threshold(x, sparsity):
    """alpha with the sum of (1 - |x|/alpha)+ right, by trying every gap of the sorted data."""
    x = np.sort(np.abs(x))
    target, sums = sparsity * len(x), np.concatenate([[0.0], np.cumsum(x)])
    for k in range(len(x) + 1):
        if k > target:
            alpha = sums[k] / (k - target)
            if (k == 0 or x[k - 1] <= alpha) and (k == len(x) or alpha <= x[k]):
                return alpha
    raise AssertionError("no gap fits")


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    x=st.lists(
        st.one_of(st.just(0.0), st.integers(1, 4000).map(lambda i: i / 16)), min_size=1, max_size=30
    ),
    sparsity=st.floats(0.01, 0.99),
)
def test_empirical_threshold_of_distinct_points_is_exact(x, sparsity):
    x = np.array(x)
    zeros = np.mean(x == 0)
    assume(sparsity > zeros + 1e-6)
    spread = np.unique(x[x > 0], return_counts=True)[0]
    keys = np.floor(np.log2(spread)) * 1000 + np.floor(
        spread / 2.0 ** np.floor(np.log2(spread)) * 128
    )
    assume(len(np.unique(keys)) == len(spread))  # no cell holds two values
    threshold = empirical_pruning_threshold(Sketch.of(x), sparsity)
    assert threshold == approx(sorted_threshold(x, sparsity), rel=1e-9)
    assert empirical_sparsity(Sketch.of(x), threshold) == approx(sparsity, rel=1e-9)


@pytest.mark.parametrize("kind", ["lognormal", "normal", "tiny", "quantised"])
def test_empirical_pruning(kind):
    rng = np.random.default_rng(9)
    x = {
        "lognormal": lambda: rng.lognormal(-20, 3.0, 20_000),
        "normal": lambda: rng.standard_normal(20_000),
        "tiny": lambda: 1e-310 * rng.standard_normal(20_000),
        "quantised": lambda: quantise(rng.lognormal(0, 2, 20_000), Format.parse("e4m3")),
    }[kind]()
    x[:100] = 0.0
    sketch, magnitude = Sketch.of(x), np.abs(x)
    for sparsity in (0.006, 0.1, 0.5, 0.9, 0.999):
        threshold = empirical_pruning_threshold(sketch, sparsity)
        assert threshold == approx(sorted_threshold(x, sparsity), rel=1e-3)
        exact = np.mean(np.maximum(1 - magnitude / threshold, 0))
        assert empirical_sparsity(sketch, threshold) == approx(exact, abs=2e-5)
        assert empirical_sparsity(sketch, threshold) == approx(sparsity, rel=1e-9)
    assert empirical_sparsity(sketch, 0.0) == np.mean(x == 0)
    assert empirical_sparsity(sketch, math.inf) == 1.0
    assert empirical_pruning_threshold(sketch, 0.0) == 0.0
    assert empirical_pruning_threshold(sketch, 1.0) == math.inf


def test_empirical_pruning_inside_a_cell():
    for value in (1.0, 1.003):
        sketch = Sketch.of([value, value])
        assert empirical_sparsity(sketch, 1.002) == approx(max(1 - value / 1.002, 0), abs=1e-9)
        assert empirical_sparsity(sketch, 1.006) == approx(1 - value / 1.006, rel=1e-6)
        threshold = empirical_pruning_threshold(sketch, 1 - value / 1.006)
        assert threshold == approx(1.006, rel=1e-8)
    # Spread evenly, and crowded at the upper edge.
    for shape in (1.0, 0.3):
        x = 1 + np.linspace(1e-4, 1 - 1e-4, 1000) ** shape / 128
        for threshold in (1.002, 1.004, 1.006):
            exact = np.mean(np.maximum(1 - x / threshold, 0))
            assert empirical_sparsity(Sketch.of(x), threshold) == approx(exact, rel=0.03, abs=1e-6)


def test_sorted_threshold_agrees_with_the_fit_on_lognormal_data():
    x = quantiles(scipy.stats.lognorm(1.5))
    fit = Lognormal.fit(x)
    for sparsity in (0.1, 0.5, 0.9):
        assert fit.pruning_threshold(sparsity) == approx(sorted_threshold(x, sparsity), rel=1e-3)


# Errors -----------------------------------------------------------------------------------------

FIT = Lognormal(0.0, 1.0)
SOME = [0.0, 0.5, 1.0, 2.0]
HEAVY_TAILED = np.exp(np.log((np.arange(1000) + 0.5) / 1000) ** 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Lognormal(math.nan, 1.0), "mu=nan.*finite"),
        (lambda: Lognormal(0.0, -1.0), "sigma=-1.0 .*at least 0.*natural"),
        (lambda: Lognormal(0.0, math.inf), "sigma=inf.*finite"),
        (lambda: Lognormal(0.0, 1.0, zero_fraction=1.5), "zero_fraction=1.5.*0 to 1"),
        (lambda: Lognormal(0.0, 1.0, count=-1), "count=-1.*0 or more"),
        (lambda: Lognormal.fit([]), "no finite nonzero element.*0 elements"),
        (lambda: Lognormal.fit([0.0, math.nan, math.inf]), "1 zero, 1 NaN, 1 infinite"),
        (
            lambda: Lognormal.fit(SOME, truncated_below=0.5, censored_below=0.5),
            "truncated_below=0.5 and censored_below=0.5 contradict",
        ),
        (lambda: Lognormal.fit(SOME, scale=2.0), "scale=2.0 has no meaning without quantized_by"),
        (
            lambda: Lognormal.fit(SOME, structural_zeros=True),
            "structural_zeros=True has no meaning",
        ),
        (
            lambda: Lognormal.fit(SOME, truncated_below=0.0),
            "truncated_below=0.0.*finite and positive",
        ),
        (lambda: Lognormal.fit(SOME, censored_below=9.0), "censored_below=9.0 lies above.*2.0"),
        (lambda: Lognormal.fit(SOME, censored_below=1.5), "single magnitude above it, 2"),
        (lambda: Lognormal.fit(HEAVY_TAILED, truncated_below=1.0), "the tail of a power law"),
        (
            lambda: Lognormal.fit([0.0, 1.0, 0.3, 0.7], quantized_by="e2m1f"),
            "x holds 0.3.*not a value of quantized_by",
        ),
        (lambda: Lognormal.fit([1.0, 7.0], quantized_by="e2m1f"), "x holds 7.*not a value"),
        (lambda: Lognormal.fit([0.0, 1.0], quantized_by="float8_e8m0fnu"), "has no zero.*x has 1"),
        (lambda: Lognormal.fit([0.0, 1.0], quantized_by="e4m3"), "1 distinct nonzero magnitude"),
        (
            lambda: Lognormal.fit(SOME, quantized_by="e4m3", scale=-1.0),
            "scale=-1.0.*finite and positive",
        ),
        (lambda: FIT.sparsity(-1.0), "threshold=.*at least 0"),
        (lambda: FIT.pruning_nmse([1.0, math.nan]), "threshold=.*not NaN"),
        (lambda: FIT.pruning_threshold(1.1), "sparsity=1.1.*0 to 1"),
        (lambda: FIT.pruning_cosine(1.0, truncated_at=math.nan), "truncated_at=nan.*finite"),
        (lambda: empirical_sparsity(Sketch.of(SOME), -1.0), "threshold=-1.0.*at least 0"),
        (lambda: empirical_sparsity(Sketch(), 1.0), "no finite element to prune"),
        (lambda: empirical_pruning_threshold(Sketch.of(SOME), 2.0), "sparsity=2.0.*0 to 1"),
        (lambda: empirical_pruning_threshold(Sketch(), 0.5), "no finite element to prune"),
    ],
)
def test_invalid_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        call()
