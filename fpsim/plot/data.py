"""Pictures of data: how a format covers them, how lognormal they are, what pruning does.

Imports analysis, arguments, catalog, format, plot.style, reprs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from fpsim.analysis.error import LN2, error_summary
from fpsim.analysis.lognormal import (
    Lognormal,
    alternative_cdfs,
    empirical_steps,
    normal_cdf,
)
from fpsim.analysis.pruning import empirical_pruning_threshold, empirical_sparsity
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import positive, real
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.plot import style
from fpsim.reprs import factor

_Floats = NDArray[np.float64]

_NOISE = 1e-14  # of sums of shares

FAMILIES: dict[str, tuple[str, str, Any]] = {
    "folded_normal": ("|normal|", style.GREEN, "--"),
    "laplace": ("|Laplace|", style.PURPLE, "-."),
    "logistic": ("|logistic|", style.AMBER, (0, (5, 1, 1, 1, 1, 1))),
    "cauchy": ("|Cauchy|", style.SKY, (0, (1, 1))),
    "log_laplace": ("log-Laplace", style.GREY, ":"),
}


def _sketched(x: Any) -> Sketch:
    sketch = x if isinstance(x, Sketch) else Sketch.of(x)
    if sketch.nonzero == 0:
        raise ValueError(
            f"x has no finite nonzero element ({sketch.size} elements); give data with at least one"
        )
    return sketch


# Coverage ---------------------------------------------------------------------------------------


def coverage(
    x: ArrayLike | Sketch,
    fmt: Any,
    ax: Axes | None = None,
    *,
    scale: float = 1.0,
    fit: Lognormal | None = None,
) -> Axes:
    """Where the data lie in a format's range: their histogram by binade, and what is lost.

    Bars are the shares of the nonzero elements with ``2**e <= |x * scale| < 2**(e + 1)``; their
    colours say what becomes of them when they are rounded to nearest: flushed to zero, subnormal,
    normal, or past the range. The legend has the shares, which are those of
    `fpsim.analysis.error.error_summary`.

    Parameters
    ----------
    x : array_like or Sketch
    fmt : Format, name or dtype
    ax : matplotlib Axes, optional
        None: one of its own.
    scale : float
        Multiplies x. The histogram is exact for powers of two; else elements that are within
        1/128 of a binade's end may count in its neighbour.
    fit : Lognormal, optional
        Of x: the shares that it expects are drawn as well.

    Returns
    -------
    matplotlib Axes
        Positions are logarithms to base 2 of ``|x * scale|``.

    Examples
    --------
    >>> from fpsim import plot
    >>> ax = plot.coverage([0.001, 0.02, 1.0, 2.0, 3.0, 700.0], "float8_e4m3fn")
    >>> [text.get_text() for text in ax.get_legend().get_texts()][:2]
    ['flushed to zero: 0 %', 'subnormal: 16.7 %']
    """
    sketch, fmt, scale = _sketched(x), parse(fmt), positive("scale", scale)
    fmt.require_binary64()
    if fit is not None:
        _lognormal("fit", fit)
    summary = error_summary(sketch, fmt, scale)
    binades, shares = _histogram(sketch, scale)
    ax = style.axes(ax)
    least, most = _thresholds(fmt)
    fates = _fates(fmt, binades, shares, summary.underflow, summary.overflow)
    first = int(binades[0]) - 1
    if fmt.zero:
        first = min(first, math.floor(least) - 1)
    last = max(int(binades[-1]) + 1, math.ceil(most)) + 1
    for colour, start, stop in (
        (style.ORANGE, first, least),
        (style.PURPLE, most, last),
    ):
        ax.axvspan(max(start, first), max(stop, first), color=colour, alpha=0.12, linewidth=0)
    bottom = np.zeros(len(binades))
    for (name, part), (colour, hatch) in zip(fates.items(), _FATE_STYLES, strict=True):
        some = np.flatnonzero(part) if part.any() else [0]  # an entry in the legend in any case
        ax.bar(binades[some], part[some], 1.0, bottom[some], align="edge", color=colour,
               hatch=hatch, edgecolor="white", linewidth=0.5,
               label=f"{name}: {style.share(float(part.sum()))}")  # fmt: skip
        bottom += part
    if fit is not None:
        _draw_fit(ax, fit, scale, first, last)
    ax.set_xlim(first, last)
    ax.set_ylim(0.0, 1.5 * ax.dataLim.y1)  # with room for the legend
    style.in_powers_of_two(ax, "x")
    style.in_percent(ax, "y")
    title = f"{sketch.nonzero:,} nonzero elements in {fmt}"
    xlabel = "|x|"
    if scale != 1:
        xlabel = f"|x| × {factor(scale)}"
    style.titled(ax, title, xlabel, "share in each binade")
    style.key(ax)
    return ax


_FATE_STYLES = ((style.ORANGE, "//"), (style.SKY, ""), (style.BLUE, ""), (style.PURPLE, "\\\\"))


def _histogram(sketch: Sketch, scale: float) -> tuple[_Floats, _Floats]:
    """Exponents of the binades of scaled data, without gaps, and the share in each."""
    significand, shift = math.frexp(scale)
    exponents = sketch.exponents + shift - 1 + (np.frexp(sketch.means * 2 * significand)[1] - 1)
    low, high = int(exponents.min()), int(exponents.max())
    counts = np.bincount(exponents - low, sketch.counts, high - low + 1)
    return np.arange(low, high + 1, dtype=np.float64), counts / sketch.nonzero


def _thresholds(fmt: Format) -> tuple[float, float]:
    """Between which magnitudes, in log2, nearest rounding gives a nonzero value in range."""
    least = style.log2(float(fmt.smallest)) - 1 if fmt.zero else -math.inf
    top = float(fmt.max)
    unit = style.log2(float(fmt.ulp(top)))
    return least, style.log2(math.ldexp(top, -int(unit)) + 0.5) + unit


def _fates(
    fmt: Format, binades: _Floats, shares: _Floats, underflow: float, overflow: float
) -> dict[str, _Floats]:
    """What becomes of each binade's share; the totals of the first and last are as given."""
    least, _ = _thresholds(fmt)
    flushed = np.where(binades < least, shares, 0.0)
    past = np.where(binades > fmt.emax, shares, 0.0)
    # The rest is in the binade where the range ends; at the lower end, ties that go to zero.
    edge = binades == fmt.emax
    past[edge] = np.clip(overflow - past.sum(), 0.0, shares[edge])
    edge = binades == least
    flushed[edge] = np.clip(underflow - flushed.sum(), 0.0, shares[edge])
    for part in (flushed, past):
        part[part < _NOISE] = 0.0
    kept = shares - flushed - past
    kept[kept < _NOISE] = 0.0
    below = binades < fmt.emin if fmt.zero else np.zeros(len(binades), bool)
    return {
        "flushed to zero": flushed,
        "subnormal" if fmt.subnormals else "up to min_normal": np.where(below, kept, 0.0),
        "normal": np.where(below, 0.0, kept),
        "past the range": past,
    }


def _draw_fit(ax: Axes, fit: Lognormal, scale: float, first: int, last: int) -> None:
    edges = np.arange(first, last + 1, dtype=np.float64)
    cdf = _lognormal_cdf(fit, (edges - style.log2(scale)) * LN2)
    ax.plot(edges[:-1] + 0.5, np.diff(cdf), color=style.BLACK, linewidth=1.2, marker="o",
            markersize=3, label="expected by the lognormal fit")  # fmt: skip


def _lognormal_cdf(fit: Lognormal, y: _Floats) -> _Floats:
    if fit.sigma == 0:
        return np.where(y < fit.mu, 0.0, 1.0)
    return np.asarray(normal_cdf(y, fit.mu, fit.sigma), np.float64)


# Fits -------------------------------------------------------------------------------------------


def fits(x: ArrayLike | Sketch, ax: Axes | None = None, *, fit: Lognormal | None = None) -> Axes:
    """How lognormal the magnitudes are: their distribution beside the fits.

    The Kolmogorov-Smirnov distance D, the largest vertical distance to the data, stands in the
    legend; that of the lognormal is drawn where it is. `fpsim.Lognormal` explains how to read it.

    Parameters
    ----------
    x : array_like or Sketch
    ax : matplotlib Axes, optional
        None: one of its own.
    fit : Lognormal, optional
        `fpsim.Lognormal.fit` of x unless given.

    Returns
    -------
    matplotlib Axes
        Positions are logarithms to base 2 of |x|.

    Examples
    --------
    >>> import fpsim
    >>> from fpsim import plot
    >>> ax = plot.fits(fpsim.sample_gradients()["step119/conv5"])
    >>> ax.get_legend().get_texts()[1].get_text()
    'lognormal, D = 0.082'
    """
    sketch = _sketched(x)
    chosen = Lognormal.fit(sketch) if fit is None else _lognormal("fit", fit)
    y, shares = empirical_steps(sketch)
    y, shares = np.sort(y), np.sort(shares)  # both rise along the distribution
    ax = style.axes(ax)
    at = y / LN2
    ax.plot(at, shares, color=style.BLACK, linewidth=2.6, label="data")
    cdf = _lognormal_cdf(chosen, y)
    distance = np.abs(shares - cdf) if chosen.sigma else np.zeros(len(y))
    worst = int(np.argmax(distance))
    curve = np.linspace(at[0] - 1, at[-1] + 1, 400)
    ax.plot(curve, _lognormal_cdf(chosen, curve * LN2), color=style.BLUE, linewidth=1.6,
            label=f"lognormal, D = {distance[worst]:.3f}")  # fmt: skip
    ax.plot([at[worst]] * 2, [shares[worst], cdf[worst]], color=style.ORANGE, linewidth=2.4,
            marker="_", markersize=9, label="_distance")  # fmt: skip
    at_data = alternative_cdfs(sketch, y)
    for name, values in alternative_cdfs(sketch, curve * LN2).items():
        label, colour, dash = FAMILIES[name]
        d = float(np.max(np.abs(shares - at_data[name])))
        ax.plot(curve, values, color=colour, linestyle=dash, linewidth=1.2,
                label=f"{label}, D = {d:.3f}")  # fmt: skip
    ax.set_xlim(curve[0], curve[-1])
    ax.set_ylim(-0.02, 1.02)
    style.in_powers_of_two(ax, "x")
    style.in_percent(ax, "y")
    title = (
        f"Magnitudes of {sketch.nonzero:,} nonzero elements: "
        f"μ = {chosen.mu_log2:.2f}, σ = {chosen.sigma_log2:.2f} binades"
    ).replace("= -", "= −")
    style.titled(ax, title, "|x|", "share below")
    style.key(ax, loc="upper left")
    return ax


def _lognormal(name: str, value: Any) -> Lognormal:
    if not isinstance(value, Lognormal):
        raise TypeError(f"{name} is of type {type(value).__name__}; give a fpsim.Lognormal")
    return value


# Pruning ----------------------------------------------------------------------------------------


def sparsity(
    x: ArrayLike | Sketch,
    ax: Axes | None = None,
    *,
    target: float | None = None,
    fit: Lognormal | None = None,
) -> Axes:
    """Share of zeros after stochastic pruning, against the threshold: predicted and on the data.

    The band around the prediction is as wide as the fit's Kolmogorov-Smirnov distance allows:
    what the data do cannot leave it.

    Parameters
    ----------
    x : array_like or Sketch
    ax : matplotlib Axes, optional
        None: one of its own.
    target : float, optional
        A share of zeros, 0 to 1: the thresholds for it, by the fit and on the data, are marked.
    fit : Lognormal, optional
        `fpsim.Lognormal.fit` of x unless given.

    Returns
    -------
    matplotlib Axes
        Positions are logarithms to base 2 of the threshold.

    Examples
    --------
    >>> import fpsim
    >>> from fpsim import plot
    >>> ax = plot.sparsity(fpsim.sample_gradients()["step119/conv5"], target=0.85)
    >>> ax.get_ylabel()
    'share of zeros'
    """
    sketch = _sketched(x)
    chosen = Lognormal.fit(sketch) if fit is None else _lognormal("fit", fit)
    if target is not None:
        target = real("target", target, "between 0 and 1", lambda t: 0 < t < 1)
    zeros = sketch.zeros / (sketch.zeros + sketch.nonzero)
    ends = [empirical_pruning_threshold(sketch, zeros + (1 - zeros) * s) for s in (0.005, 0.995)]
    low, high = (style.log2(end) for end in ends)
    curve, points = np.linspace(low, high, 200), np.linspace(low, high, 25)
    predicted = chosen.sparsity(np.exp2(curve))
    measured = [empirical_sparsity(sketch, float(2.0**p)) for p in points]
    ax = style.axes(ax)
    if not math.isnan(chosen.ks):
        room = chosen.ks * (1 - chosen.zero_fraction)
        ax.fill_between(curve, np.clip(predicted - room, 0, 1), np.clip(predicted + room, 0, 1),
                        color=style.SKY, alpha=0.35, linewidth=0,
                        label=f"prediction ± D = {chosen.ks:.3f}")  # fmt: skip
    ax.plot(curve, predicted, color=style.BLUE, linewidth=1.8, label="predicted by the fit")
    ax.plot(points, measured, "o", color=style.BLACK, markersize=4, label="on the data")
    if target is not None:
        _mark_target(ax, chosen, sketch, target)
    style.in_powers_of_two(ax, "x")
    style.in_percent(ax, "y")
    title = f"Stochastic pruning of {sketch.size:,} elements"
    style.titled(ax, title, "threshold", "share of zeros")
    style.key(ax, loc="lower right")
    return ax


def _mark_target(ax: Axes, fit: Lognormal, sketch: Sketch, target: float) -> None:
    ax.axhline(target, color=style.GREY, linewidth=1, zorder=1)
    for name, threshold, colour in (
        ("by the fit", fit.pruning_threshold(target), style.BLUE),
        ("on the data", empirical_pruning_threshold(sketch, target), style.BLACK),
    ):
        if 0 < threshold < math.inf:
            ax.axvline(style.log2(threshold), color=colour, linestyle="--", linewidth=1,
                       label=f"{style.share(target)} {name}: {threshold:.4g}")  # fmt: skip
