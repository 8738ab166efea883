"""Lognormal: fit it to magnitudes, judge the fit, and what stochastic pruning does under it.

A lognormal describes the nonzero magnitudes ``X = |x|``: ln X is normal with mean `mu` and
standard deviation `sigma`, in natural logarithm. Zeros are counted apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy

from fpsim.analysis import error
from fpsim.analysis.error import LN2, Metric, mills_ratio, tail_moment
from fpsim.analysis.sketch import CELL_BITS, Sketch
from fpsim.arguments import integer, positive, real, shown
from fpsim.format import Format
from fpsim.rounding import Overflow

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[Any]

# Kolmogorov-Smirnov distances below which the closed forms are good, and still usable.
# |normal| data, which are not lognormal, are at 0.096; |Laplace| at 0.071.
GOOD_KS = 0.03
USABLE_KS = 0.08


@dataclass(frozen=True)
class Lognormal:
    """Magnitudes whose natural logarithm is normal, and a share of zeros.

    Parameters
    ----------
    mu, sigma : float
        Mean and standard deviation of ln |x| over the nonzero elements. With sigma 0 all
        magnitudes equal exp(mu), and every answer is exact for that.
    zero_fraction : float
        Share of the elements that are zero and not described by mu and sigma.
    count : int
        Nonzero finite elements that the fit saw; 0 where there was none.

    Attributes
    ----------
    ks : float
        Kolmogorov-Smirnov distance between the data and the fit, NaN where nothing was fitted.
        Not part of equality. It is an effect size, not a test: with a million elements every
        real tensor is rejected, but the sparsity that the fit predicts for stochastic pruning
        is off by at most `ks` at any threshold.
    alternatives : mapping
        The same distance for ``folded_normal``, ``laplace``, ``logistic``, ``cauchy`` and
        ``log_laplace``, each fitted to the same magnitudes; empty where not fitted. Not part
        of equality.

    Raises
    ------
    ValueError
        Where a parameter is out of range.

    Examples
    --------
    >>> from fpsim import Lognormal
    >>> fit = Lognormal.fit([0.5, -1.0, 2.0, 0.0])
    >>> fit.mu, round(fit.sigma_log2, 4), fit.zero_fraction
    (0.0, 0.8165, 0.25)
    """

    mu: float
    sigma: float
    zero_fraction: float = 0.0
    count: int = 0
    ks: float = field(default=math.nan, compare=False)
    alternatives: Mapping[str, float] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        checked = {
            "mu": real("mu", self.mu, "finite: the mean of ln|x|", math.isfinite),
            "sigma": real(
                "sigma",
                self.sigma,
                "finite and at least 0: the standard deviation of ln|x| (natural logarithm; "
                "multiply one of log2|x| by ln 2)",
                lambda s: 0 <= s < math.inf,
            ),
            "zero_fraction": _share("zero_fraction", self.zero_fraction),
            "count": integer("count", self.count, 0, 1 << 62, "give how many elements, 0 or more"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def mu_log2(self) -> float:
        """Mean of log2 |x|."""
        return self.mu / LN2

    @property
    def sigma_log2(self) -> float:
        """Standard deviation of log2 |x|, in binades."""
        return self.sigma / LN2

    @property
    def quality(self) -> Literal["good", "usable", "poor", "unknown"]:
        """How far to trust what follows from the fit, by `ks`.

        ``'good'`` below 0.03, ``'usable'`` below 0.08, else ``'poor'``: then use the data's own
        sketch instead. ``'unknown'`` where nothing was fitted.
        """
        if math.isnan(self.ks):
            return "unknown"
        if self.ks < GOOD_KS:
            return "good"
        return "usable" if self.ks < USABLE_KS else "poor"

    # Fitting ----------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        x: ArrayLike | Sketch,
        *,
        truncated_below: float | None = None,
        censored_below: float | None = None,
        quantized_by: Any = None,
        scale: float = 1.0,
        structural_zeros: bool = False,
    ) -> Lognormal:
        """The maximum-likelihood lognormal of the finite nonzero magnitudes.

        Without options, `mu` and `sigma` are mean and standard deviation (ddof 0) of ln|x|.
        Data that already went through a low-precision format have lost their small elements or
        their fine structure, which the options take into account; at most one may be given.

        Parameters
        ----------
        x : array_like or Sketch
            NaN and infinities are left out.
        truncated_below : float, optional
            Elements below it were dropped, or may be among the zeros for another reason: only
            what lies above is described. `zero_fraction` is the share of zeros as they are.
        censored_below : float, optional
            Elements below it, zeros included, are known to lie below and no more.
        quantized_by : Format, name or dtype, optional
            x holds values of this format, over `scale`: each stands for all that rounds to it,
            the largest for everything above, zero for what is flushed (interval censoring).
        scale : float
            With `quantized_by`: what the data were multiplied by before rounding.
        structural_zeros : bool
            With `censored_below` or `quantized_by`: zeros may also be true zeros. Their share,
            which the shape of the nonzero part decides, becomes `zero_fraction`.

        Returns
        -------
        Lognormal
            `ks` compares what the option leaves comparable: nonzero magnitudes; those above
            `truncated_below`; the shares on both sides of `censored_below` and what lies above;
            the shares of the rounding intervals.

        Raises
        ------
        ValueError
            Where no finite nonzero element is left, the options contradict each other or the
            data, or the data do not determine a fit.

        Examples
        --------
        >>> import numpy as np
        >>> from fpsim import Lognormal
        >>> ln_x = np.random.default_rng(0).normal(-5.2, 1.7, 100_000)
        >>> x = np.where(ln_x > -6, np.exp(ln_x), 0.0)
        >>> naive, fit = Lognormal.fit(x), Lognormal.fit(x, censored_below=np.exp(-6))
        >>> print(f"{naive.mu:.1f} {naive.sigma:.1f}, {fit.mu:.1f} {fit.sigma:.1f}")
        -4.3 1.2, -5.2 1.7
        """
        sketch = x if isinstance(x, Sketch) else Sketch.of(x)
        options = {
            "truncated_below": truncated_below,
            "censored_below": censored_below,
            "quantized_by": quantized_by,
        }
        given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} contradict each other; give one of them")
        if scale != 1.0 and quantized_by is None:
            raise ValueError(f"scale={scale!r} has no meaning without quantized_by; leave it out")
        if structural_zeros and censored_below is None and quantized_by is None:
            raise ValueError(
                "structural_zeros=True has no meaning without censored_below or quantized_by; "
                "otherwise every zero is taken as one"
            )
        if sketch.nonzero == 0:
            raise ValueError(
                f"x has no finite nonzero element ({sketch.size} elements: {sketch.zeros} zero, "
                f"{sketch.nans} NaN, {sketch.infinities} infinite); give data with at least one"
            )
        if quantized_by is not None:
            return _fit_quantized(sketch, Format.parse(quantized_by), scale, structural_zeros)
        if censored_below is not None:
            return _fit_censored(sketch, censored_below, structural_zeros)
        if truncated_below is not None:
            return _fit_truncated(sketch, truncated_below)
        mu, sigma = _log_moments(sketch)
        y, shares = _empirical_steps(sketch)
        return cls(
            mu,
            sigma,
            zero_fraction=sketch.zeros / (sketch.zeros + sketch.nonzero),
            count=sketch.nonzero,
            ks=_distance(shares, _normal_cdf(y, mu, sigma)) if sigma else 0.0,
            alternatives=_alternatives(sketch, y, shares),
        )

    # Errors -----------------------------------------------------------------------------

    def expected_error(
        self,
        fmt: Any,
        scale: float = 1.0,
        metric: Metric | str = "relative",
        overflow: Overflow | str = "saturate",
    ) -> float:
        """Error of rounding ``x * scale`` to nearest in a format and dividing back.

        The exact sum over the format's levels; see `fpsim.analysis.error.error_summary`.

        Parameters
        ----------
        fmt : Format, name or dtype
        scale : float
        metric : {'relative', 'nmse', 'sqnr', 'cosine', 'bias'}
        overflow : Overflow or name
            Unless it saturates, the error is infinite where the format answers infinity or NaN.

        Examples
        --------
        >>> from fpsim import Lognormal
        >>> round(Lognormal(-6.0, 2.0).expected_error("float8_e4m3fn", scale=2.0**8), 4)
        0.0252
        """
        return error.expected_error(self, fmt, scale, metric, overflow)

    def best_scale(
        self,
        fmt: Any,
        metric: Metric | str = "relative",
        kind: str = "power_of_two",
        overflow: Overflow | str = "saturate",
    ) -> tuple[float, float]:
        """The scale that makes a metric best, and the metric there; see `error.best_scale`."""
        return error.best_scale(self, fmt, metric, kind, overflow)

    # Stochastic pruning -----------------------------------------------------------------
    #
    # Below the threshold alpha, |x| becomes alpha with probability |x| / alpha, else 0: the mean
    # stays, and the variance is |x| (alpha - |x|).

    def sparsity(self, threshold: ArrayLike) -> Any:
        """Share of zeros after stochastic pruning, those that were there before included.

        Of the nonzero elements, ``S = E[(1 - X/alpha)+] = Phi(z) - exp(sigma**2/2) / a
        Phi(z - sigma)`` become zero, with ``a = alpha exp(-mu)`` and ``z = ln(a) / sigma``
        (Chmiel et al., arXiv 2006.08173), evaluated without cancellation of large terms.

        Parameters
        ----------
        threshold : array_like
            alpha, at least 0.

        Returns
        -------
        float64 scalar or array

        Examples
        --------
        >>> from fpsim import Lognormal
        >>> round(float(Lognormal(0.0, 1.0).sparsity(1.0)), 4)
        0.2384
        """
        z = self._score(threshold)
        return self.zero_fraction + (1 - self.zero_fraction) * self._pruned(z)

    def pruning_threshold(self, sparsity: float) -> float:
        """The threshold whose `sparsity` is this: the inverse, 0 where zeros alone suffice.

        Found by Brent's method between ``Phi**-1(S)`` and ``sigma/2 - ln(1 - S)/sigma`` in
        units of z, which the bounds ``P(X < alpha)`` and ``1 - E[X]/alpha`` of S give (derived).

        Parameters
        ----------
        sparsity : float
            Total share of zeros, 0 to 1 (1: infinity).

        Examples
        --------
        >>> from fpsim import Lognormal
        >>> round(Lognormal(0.0, 2.0).pruning_threshold(0.85), 3)
        26.692
        """
        sparsity = _share("sparsity", sparsity)
        if sparsity <= self.zero_fraction:
            return 0.0
        if sparsity == 1:
            return math.inf
        pruned = (sparsity - self.zero_fraction) / (1 - self.zero_fraction)
        if self.sigma == 0:
            return math.exp(self.mu) / (1 - pruned)
        low = float(scipy.special.ndtri(pruned))
        high = self.sigma / 2 - math.log1p(-pruned) / self.sigma

        def excess(z: float) -> float:
            return float(self._pruned(np.float64(z))) - pruned

        return math.exp(self.mu + self.sigma * _root(excess, low, high))

    def pruning_nmse(self, threshold: ArrayLike, truncated_at: float | None = None) -> Any:
        """Mean squared error of stochastic pruning over ``E[X**2]``; zeros do not matter.

        ``V = exp(sigma z - 3 sigma**2 / 2) Phi(z - sigma) - Phi(z - 2 sigma)`` (derived).

        Parameters
        ----------
        threshold : array_like
        truncated_at : float, optional
            k: leave out what lies beyond k standard deviations of ln|x|; see `pruning_cosine`.

        Examples
        --------
        >>> from fpsim import Lognormal
        >>> round(float(Lognormal(0.0, 1.0).pruning_nmse(1.0)), 4)
        0.0127
        """
        k = None if truncated_at is None else _truncation(truncated_at)
        return self._pruning_error(self._score(threshold), k)

    def pruning_cosine(self, threshold: ArrayLike, truncated_at: float | None = None) -> Any:
        """Cosine similarity between the data and their stochastically pruned version.

        Pruning is unbiased, so the cosine is ``(1 + V)**-1/2`` with V the `pruning_nmse`
        (derived). For a wide lognormal this population value is governed by elements so large
        that no tensor contains them: `truncated_at` k leaves out what lies beyond k standard
        deviations, which gives the form of Chmiel et al. (arXiv 2006.08173) for thresholds up
        to k and ``sqrt(exp(3 sigma**2/2 - sigma z) Phi(k - 2 sigma) / Phi(k - sigma))``
        (derived) above.

        Parameters
        ----------
        threshold : array_like
        truncated_at : float, optional
            k, in standard deviations of ln|x|; about ``Phi**-1(1 - 1/n)`` for n elements.

        Examples
        --------
        >>> from fpsim import Lognormal
        >>> fit = Lognormal(0.0, 2.0)
        >>> population, sample = fit.pruning_cosine(20.0), fit.pruning_cosine(20.0, 2.71)
        >>> print(f"{population:.3f} {sample:.3f}")
        0.995 0.957
        """
        return (1 + self.pruning_nmse(threshold, truncated_at)) ** -0.5

    def nmse_threshold(self, nmse: float, truncated_at: float | None = None) -> float:
        """The threshold whose `pruning_nmse` is this: the inverse, 0 for 0.

        Between ``a = V exp(3 sigma**2/2)`` and ``(1 + V) exp(3 sigma**2/2)``, with a and V as for
        `sparsity` and `pruning_nmse` (derived), Brent's method finds it; above a truncation it
        has a closed form.

        Parameters
        ----------
        nmse : float
            At least 0.
        truncated_at : float, optional
            As for `pruning_nmse`.

        Examples
        --------
        >>> from fpsim import Lognormal
        >>> fit = Lognormal(0.0, 2.0)
        >>> round(fit.nmse_threshold(fit.pruning_nmse(20.0, 2.71), 2.71), 9)
        20.0
        """
        wanted = real("nmse", nmse, "finite and at least 0", lambda v: 0 <= v < math.inf)
        k = None if truncated_at is None else _truncation(truncated_at)
        sigma = self.sigma
        if wanted == 0:
            return 0.0
        if sigma == 0:
            return math.exp(self.mu) * (1 + wanted)
        kept = 0.0 if k is None else _log_kept(sigma, k)
        high = 1.5 * sigma + (math.log1p(wanted) - kept) / sigma
        if k is None or high <= k:  # else that is the closed form

            def excess(z: float) -> float:
                found = float(self._pruning_error(np.float64(z), k))
                return math.log(found) - math.log(wanted) if found else _FAR_BELOW

            low = 1.5 * sigma + (math.log(wanted) - kept) / sigma
            high = _root(excess, low, high)
        return math.exp(self.mu + sigma * high)

    def _score(self, threshold: ArrayLike) -> Any:
        """Standard score of ln(threshold); for sigma 0, ln(threshold) - mu."""
        allowed = "at least 0 and not NaN; it is compared with |x|"
        try:
            threshold = np.asarray(threshold, dtype=np.float64)
        except (TypeError, ValueError):
            raise TypeError(
                f"threshold={shown(threshold)} is no real number or array; it must be {allowed}"
            ) from None
        if not (threshold >= 0).all():
            raise ValueError(f"threshold={shown(threshold)} is out of range; it must be {allowed}")
        with np.errstate(divide="ignore"):
            distance = np.log(threshold) - self.mu
        return distance / self.sigma if self.sigma else distance

    def _pruned(self, z: Any) -> Any:
        """S of `sparsity` at a `_score`."""
        if self.sigma == 0:
            return -np.expm1(-np.maximum(z, 0.0))[()]
        return tail_moment(-z, 0.0) - tail_moment(-z, self.sigma)

    def _pruning_error(self, z: Any, k: float | None) -> Any:
        """V of `pruning_nmse` at a `_score`."""
        sigma = self.sigma
        if sigma == 0:
            return np.expm1(np.maximum(z, 0.0))[()]
        if k is None:
            y = 2 * sigma - z
            return tail_moment(y, -sigma) - tail_moment(y, 0.0)
        # Both branches over Phi(k - 2 sigma), the lower one in Mills ratios.
        y, end = 2 * sigma - np.minimum(z, k), 2 * sigma - k
        factor = np.exp(0.5 * (end - y) * (end + y)) / mills_ratio(end)
        below = factor * (mills_ratio(y - sigma) - mills_ratio(y))
        with np.errstate(over="ignore"):
            above = np.expm1(sigma * (np.maximum(z, k) - 1.5 * sigma) + _log_kept(sigma, k))
        return np.where(z <= k, below, above)[()]


_FAR_BELOW = -2000.0  # ln of what underflowed


def _truncation(value: Any) -> float:
    allowed = "finite, in standard deviations of ln|x|; None is the whole population"
    return real("truncated_at", value, allowed, math.isfinite)


def _log_kept(sigma: float, k: float) -> float:
    """ln of E[X; Z < k] / E[X] over E[X**2; Z < k] / E[X**2]."""
    log_ndtr = scipy.special.log_ndtr
    return float(log_ndtr(k - sigma) - log_ndtr(k - 2 * sigma))


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing function is 0 between two bounds, which may meet but for rounding."""
    if excess(low) >= 0 or excess(high) <= 0:
        return low if excess(low) >= 0 else high
    return float(scipy.optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14))


def _share(name: str, value: Any) -> float:
    return real(name, value, "from 0 to 1", lambda share: 0 <= share <= 1)


# Fits -------------------------------------------------------------------------------------------


def _log_moments(sketch: Sketch) -> tuple[float, float]:
    """Mean and standard deviation of ln|x|; of equal elements, exactly theirs and 0."""
    if len(sketch.keys) == 1 and error.point_cells(sketch).all():
        return math.log(sketch.largest), 0.0
    return sketch.log_moments()


def _above(sketch: Sketch, threshold: float, option: str) -> tuple[Sketch, float]:
    """The elements from a threshold up, and that threshold.

    A threshold with data below it moves up to the next edge of a cell, which loses a little of
    the data and keeps the fit consistent.
    """
    threshold = positive(option, threshold)
    kept = np.ones(len(sketch.keys), bool)
    edge = threshold
    if threshold > sketch.smallest:
        fraction, exponent = math.frexp(threshold)
        part = math.ceil(math.ldexp(2 * fraction - 1, CELL_BITS))
        edge = math.ldexp(1 + math.ldexp(part, -CELL_BITS), exponent - 1)
        kept = sketch.keys >= ((exponent - 1) << CELL_BITS) + part
    if not kept.any():
        raise ValueError(
            f"{option}={threshold!r} lies above the data, whose largest magnitude is "
            f"{sketch.largest!r}; give the threshold below which the data were cut"
        )
    columns = (f.name for f in fields(sketch) if isinstance(getattr(sketch, f.name), np.ndarray))
    parts: dict[str, Any] = {column: getattr(sketch, column)[kept] for column in columns}
    size = int(parts["counts"].sum())
    return Sketch(size=size, smallest=edge, largest=sketch.largest, **parts), edge


def _fit_truncated(sketch: Sketch, threshold: float) -> Lognormal:
    """Left-truncated: the conditional moments above the threshold are those of the data.

    With ``zeta = (ln tau - mu)/sigma`` and ``lambda = 1/R(zeta)`` the mean of ln X - ln tau is
    ``sigma (lambda - zeta)`` and its variance ``sigma**2 (1 + zeta lambda - lambda**2)``
    (moments of the truncated normal); their ratio leaves one equation for zeta.
    """
    above, edge = _above(sketch, threshold, "truncated_below")
    zeros = sketch.zeros / (sketch.zeros + sketch.nonzero)
    mean, deviation = _log_moments(above)
    if deviation == 0:
        return Lognormal(mean, 0.0, zero_fraction=zeros, count=above.nonzero, ks=0.0)
    mu, sigma = _truncated_parameters(mean - math.log(edge), deviation, edge)
    y, shares = _empirical_steps(above)
    below = _normal_cdf(np.array([math.log(edge)]), mu, sigma)
    cdf = (_normal_cdf(y, mu, sigma) - below) / (1 - below)
    ks = _distance(shares, np.maximum(cdf, 0.0))
    return Lognormal(mu, sigma, zero_fraction=zeros, count=above.nonzero, ks=ks)


def _truncated_parameters(mean: float, deviation: float, threshold: float) -> tuple[float, float]:
    """mu and sigma from mean (above ln threshold) and deviation of the truncated data."""
    ratio = deviation / mean

    def excess(zeta: float) -> float:
        hazard = 1 / float(mills_ratio(zeta))
        gap = hazard - zeta
        return (1 - hazard * gap) / gap**2 - ratio**2

    steepest = 20.0  # beyond, the tail is a power law to 0.5 %
    if excess(steepest) <= 0:
        raise ValueError(
            f"truncated_below={threshold!r}: above it ln|x| has mean {mean:.4g} (from ln of the "
            f"threshold) and standard deviation {deviation:.4g}, the tail of a power law, which "
            "no lognormal fits; give a lower threshold, or use censored_below if the zeros are "
            "elements below it"
        )
    zeta = scipy.optimize.brentq(excess, -2 - 1 / ratio, steepest, xtol=1e-13, rtol=1e-13)
    sigma = mean / (1 / float(mills_ratio(zeta)) - zeta)
    return math.log(threshold) - sigma * zeta, sigma


def _fit_censored(sketch: Sketch, threshold: float, structural_zeros: bool) -> Lognormal:
    """Left-censored: all zeros and what lies below the threshold count as "below"."""
    above, edge = _above(sketch, threshold, "censored_below")
    elements = sketch.zeros + sketch.nonzero
    least, most = sketch.nonzero - above.nonzero, elements - above.nonzero
    mean, deviation = _log_moments(above)
    if deviation == 0:
        raise ValueError(
            f"censored_below={threshold!r} leaves a single magnitude above it, "
            f"{math.exp(mean):.6g}, which determines no fit; give more data"
        )
    ln_edge = np.array([math.log(edge)])
    no_lower = np.array([-math.inf])

    def given(below: float) -> tuple[float, float]:
        return _maximise(no_lower, ln_edge, np.array([below]), above.nonzero, mean, deviation)

    below, (mu, sigma) = _attribute(
        given, above.nonzero, least, most, float(ln_edge[0]), structural_zeros
    )
    y, shares = _empirical_steps(above)
    total = above.nonzero + below
    shares = np.concatenate([[below], below + shares * above.nonzero]) / total
    ks = _distance(shares, _normal_cdf(np.concatenate([ln_edge, y]), mu, sigma))
    zeros = (elements - total) / elements
    return Lognormal(mu, sigma, zero_fraction=zeros, count=above.nonzero, ks=ks)


def _fit_quantized(sketch: Sketch, fmt: Format, scale: float, structural_zeros: bool) -> Lognormal:
    """Interval-censored: each cell of the sketch stands for all that rounds to its levels."""
    low, high, flushed = _rounding_intervals(sketch, fmt, scale)
    counts = sketch.counts.astype(np.float64)
    elements = sketch.zeros + sketch.nonzero
    if len(low) == 1 and (sketch.zeros == 0 or structural_zeros):
        mu = math.log(sketch.largest)
        zeros = sketch.zeros / elements
        return Lognormal(mu, 0.0, zero_fraction=zeros, count=sketch.nonzero, ks=0.0)
    if len(low) + (sketch.zeros > 0) < 3:
        raise ValueError(
            f"quantized_by={str(fmt)!r}: x holds {len(low)} distinct nonzero magnitude(s) and "
            f"{sketch.zeros} zeros, too little to determine a fit; give more data"
        )
    lower, upper = np.concatenate([[-math.inf], low]), np.concatenate([[flushed], high])

    def given(below: float) -> tuple[float, float]:
        return _maximise(lower, upper, np.concatenate([[below], counts]))

    below, (mu, sigma) = _attribute(
        given, sketch.nonzero, 0, sketch.zeros, flushed, structural_zeros
    )
    total = below + sketch.nonzero
    after = (below + np.cumsum(counts)) / total
    shares = np.concatenate([after - counts / total, after])
    ks = _distance(shares, _normal_cdf(np.concatenate([low, high]), mu, sigma))
    zeros = (elements - total) / elements
    return Lognormal(mu, sigma, zero_fraction=zeros, count=sketch.nonzero, ks=ks)


def _attribute(
    given: Callable[[float], tuple[float, float]],
    nonzero: int,
    least: int,
    most: int,
    edge: float,
    structural_zeros: bool,
) -> tuple[float, tuple[float, float]]:
    """How many elements lie below an edge of ln x, and the fit `given` that number.

    All that are there; or, with a free share of true zeros, as many as the fit expects beside
    the nonzero ones, where that number lies between `least` and `most`: there the likelihood is
    stationary in the share (derived).
    """
    if not structural_zeros or least == most:
        return float(most), given(most)

    def excess(below: float) -> float:
        mu, sigma = given(below)
        z = (edge - mu) / sigma
        return nonzero * float(scipy.special.ndtr(z) / scipy.special.ndtr(-z)) - below

    below = float(most)
    if excess(most) < 0:
        below = float(least)
        if excess(least) > 0:
            below = float(scipy.optimize.brentq(excess, least, most, rtol=1e-12))
    return below, given(below)


def _rounding_intervals(sketch: Sketch, fmt: Format, scale: float) -> tuple[Floats, Floats, float]:
    """Per cell, the ends in ln x of all that rounds to its levels; and the end of what is flushed.

    Where the elements of a cell are equal, theirs is the level; else all levels in the cell count.
    Some slack is for data that were scaled back in binary32.
    """
    scale = positive("scale", scale)
    if sketch.zeros and not fmt.zero:
        raise ValueError(
            f"quantized_by={str(fmt)!r} has no zero, but x has {sketch.zeros}; give the format "
            "that x went through, or leave the zeros out"
        )
    factor, shift = math.frexp(scale)
    exponent = sketch.exponents + shift
    lower = 1 + (sketch.keys & ((1 << CELL_BITS) - 1)) * 2.0**-CELL_BITS
    is_point, mean = error.point_cells(sketch), sketch.means
    start = np.where(is_point, mean * (1 - 2.0**-18), lower * (1 - 2.0**-23))
    stop = np.where(is_point, mean * (1 + 2.0**-18), (lower + 2.0**-CELL_BITS) * (1 - 2.0**-23))
    low = _boundary_below(start * factor, exponent, fmt)
    high = _boundary_below(stop * factor, exponent, fmt)
    empty = np.flatnonzero(low == high)
    if len(empty):
        value = float(np.ldexp(sketch.means[empty[0]], sketch.exponents[empty[0]]))
        raise ValueError(
            f"x holds {value:.9g}, and times scale={scale!r} that is not a value of "
            f"quantized_by={str(fmt)!r}; give the format that x went through and the scale that "
            "multiplied x before, or fit without quantized_by"
        )
    flushed = float(low[0])
    if fmt.zero:
        flushed = float(_boundary_below(np.ones(1), np.array([fmt.emin - 60]), fmt)[0])
    return low - math.log(scale), high - math.log(scale), flushed - math.log(scale)


def _boundary_below(significand: Floats, exponent: NDArray[np.int64], fmt: Format) -> Floats:
    """ln of the rounding boundary below the smallest level at or above a value.

    The value is ``significand * 2**exponent``. Past the largest level the boundary is infinite.
    """
    binade = exponent + np.frexp(significand)[1] - 1
    unit = np.maximum(binade, fmt.emin) - fmt.mantissa_bits
    level = np.maximum(np.ceil(np.ldexp(significand, exponent - unit)), 1.0)
    boundary = np.log(level - 0.5) + unit * LN2  # at a power of two, the unit is that below
    if not fmt.subnormals:
        first = np.log(level) + unit * LN2 < (fmt.emin + 0.5 * fmt.eps) * LN2
        boundary = np.where(first, (fmt.emin - 1) * LN2 if fmt.zero else -math.inf, boundary)
    past = np.log(level) + unit * LN2 > error.log_value(fmt.max_code, fmt) + 2.0**-20
    return np.where(past, math.inf, boundary)


def _maximise(
    lower: Floats,
    upper: Floats,
    weight: Floats,
    exact: float = 0.0,
    mean: float = 0.0,
    deviation: float = 0.0,
) -> tuple[float, float]:
    """mu and sigma of largest likelihood for normal data known by intervals.

    ``weight`` elements lie between `lower` and `upper`; besides, `exact` elements are known, of
    this mean and standard deviation. In ``a = 1/sigma`` and ``b = mu/sigma`` the log-likelihood
    is concave (Burridge 1981), so Newton's method with halved steps finds its only maximum.
    """
    present = weight > 0
    lower, upper, weight = lower[present], upper[present], weight[present]
    ends = np.where(np.isfinite(lower), lower, upper), np.where(np.isfinite(upper), upper, lower)
    total = weight.sum() + exact
    middle = (ends[0] + ends[1]) / 2
    centre = (weight @ middle + exact * mean) / total
    spread = weight @ (middle - centre) ** 2 + exact * ((mean - centre) ** 2 + deviation**2)
    unit = math.sqrt(spread / total)
    low, high = (lower - centre) / unit, (upper - centre) / unit
    mean, variance = float(mean - centre) / unit, (deviation / unit) ** 2

    def evaluate(a: float, b: float) -> tuple[float, Floats, Floats]:
        log_mass, mass_low, mass_high = _interval_mass(a * low - b, a * high - b)
        value = float(weight @ log_mass)
        slope, curvature = np.zeros(2), np.zeros((2, 2))
        slopes = np.zeros((2, len(weight)))
        for sign, y, hazard in ((-1, low, mass_low), (1, high, mass_high)):
            y = np.where(np.isfinite(y), y, 0.0)
            direction = np.stack([y, -np.ones_like(y)])
            slopes += sign * hazard * direction
            curvature -= sign * (weight * hazard * (a * y - b) * direction) @ direction.T
        slope += slopes @ weight
        curvature -= (weight * slopes) @ slopes.T
        if exact:
            deviate = a * mean - b
            value += exact * (math.log(a) - 0.5 * (deviate**2 + a * a * variance))
            slope += exact * np.array([1 / a - deviate * mean - a * variance, deviate])
            curvature -= exact * np.array([[1 / a**2 + mean**2 + variance, -mean], [-mean, 1.0]])
        return value, slope, curvature

    point = np.array([1.0, 0.0])
    value, slope, curvature = evaluate(*point)
    for _ in range(100):
        step = np.linalg.solve(curvature, -slope)
        for _ in range(50):
            if point[0] + step[0] > 0:
                found = evaluate(*(point + step))
                if found[0] >= value:
                    break
            step = step / 2
        else:
            break  # at the maximum, but for rounding
        point = point + step
        value, slope, curvature = found
        if np.abs(step).max() < 1e-12 * max(1.0, np.abs(point).max()):
            break
    a, b = point
    return float(centre + unit * b / a), float(unit / a)


def _interval_mass(low: Floats, high: Floats) -> tuple[Floats, Floats, Floats]:
    """ln of the normal mass between scores, and the density at both ends over that mass."""
    flip = low + high > 0  # to the lower tail, where both are small
    near, far = np.where(flip, -low, high), np.where(flip, -high, low)
    log_ndtr = scipy.special.log_ndtr
    log_mass = log_ndtr(near) + np.log1p(-np.exp(log_ndtr(far) - log_ndtr(near)))
    constant = 0.5 * math.log(2 * math.pi)
    at_low, at_high = (np.exp(-0.5 * z * z - constant - log_mass) for z in (low, high))
    return log_mass, at_low, at_high


# Kolmogorov-Smirnov distances -------------------------------------------------------------------


def _empirical_steps(sketch: Sketch) -> tuple[Floats, Floats]:
    """Points in ln x and the share of the nonzero elements up to there.

    The points are the cells' edges; where all elements of a cell are equal (point masses,
    quantised data) also that value, just before and at the step. Within other cells, 1/128 of a
    binade wide, nothing is known: a distance may be short by the share of the largest of them.
    """
    part = sketch.keys & ((1 << CELL_BITS) - 1)
    base = sketch.exponents * LN2
    after = np.cumsum(sketch.counts) / sketch.nonzero
    before = after - sketch.counts / sketch.nonzero
    point = error.point_cells(sketch)
    y = [
        base + np.log1p(part * 2.0**-CELL_BITS),
        base + np.log1p((part + 1) * 2.0**-CELL_BITS),
        *2 * [(base + np.log(sketch.means))[point]],
    ]
    return np.concatenate(y), np.concatenate([before, after, before[point], after[point]])


def _distance(shares: Floats, cdf: Floats) -> float:
    return float(np.max(np.abs(shares - cdf)))


def _normal_cdf(y: Floats, mu: float, sigma: float) -> Any:
    return scipy.special.ndtr((y - mu) / sigma)


def _alternatives(sketch: Sketch, y: Floats, shares: Floats) -> dict[str, float]:
    """Distances of other families on |x|, each fitted to it by its moments or its median."""
    # Magnitudes over 2**reference are below 2: what underflows does not count beside the largest.
    reference = int(sketch.exponents[-1])
    x = np.exp(y - reference * LN2)
    mean = sketch.power_sums(1, reference).sum() / sketch.nonzero
    rms = math.sqrt(sketch.power_sums(2, reference).sum() / sketch.nonzero)
    ln_median = _log_median(sketch)
    with np.errstate(over="ignore"):
        over_median = np.exp(y - ln_median)
    ln_x = sketch.exponents * LN2 + np.log(sketch.means)
    spread = float(np.average(np.abs(ln_x - ln_median), weights=sketch.counts))
    cdfs = {
        "folded_normal": scipy.special.erf(x / (math.sqrt(2) * rms)),
        "laplace": -np.expm1(-x / mean),
        "logistic": np.tanh(x / (2 * math.sqrt(3) * rms / math.pi)),
        "cauchy": 2 / math.pi * np.arctan(over_median),
    }
    if spread > 0:
        tail = 0.5 * np.exp(-np.abs(y - ln_median) / spread)
        cdfs["log_laplace"] = np.where(y < ln_median, tail, 1 - tail)
    return {name: _distance(shares, cdf) for name, cdf in cdfs.items()}


def _log_median(sketch: Sketch) -> float:
    """ln of the median magnitude, as if spread evenly in ln x within its cell."""
    after = np.cumsum(sketch.counts)
    cell = int(np.searchsorted(after, sketch.nonzero / 2))
    inside = 1 - (after[cell] - sketch.nonzero / 2) / sketch.counts[cell]
    base = sketch.exponents[cell] * LN2
    if error.point_cells(sketch)[cell]:
        return float(base + math.log(sketch.means[cell]))
    part = int(sketch.keys[cell]) & ((1 << CELL_BITS) - 1)
    return float(base + math.log1p((part + inside) * 2.0**-CELL_BITS))
