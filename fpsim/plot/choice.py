"""Pictures of the choice of a split: its error by the data's spread, and by every prediction.

Imports analysis, arguments, format, plot.style.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fpsim.analysis.error import LN2, Metric, best_scale, parse_metric
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.recommend import Recommendation, splits
from fpsim.arguments import array, positive, shown
from fpsim.format import Format
from fpsim.plot import style

_Floats = NDArray[np.float64]


def error_by_sigma(
    bits: int,
    ax: Axes | None = None,
    *,
    at: float | Lognormal | None = None,
    metric: Metric | str = "relative",
    specials: str = "none",
    subnormals: bool = True,
    sigmas: Sequence[float] | None = None,
) -> Axes:
    """The error of every split of N bits on lognormal data, against their spread.

    Each split is at its own best scale, any positive number. Where it is the best of all, its
    line is thick. Takes some seconds: the exact sum over each format's values at each sigma.

    Parameters
    ----------
    bits : int
    ax : matplotlib Axes, optional
        None: one of its own.
    at : float or Lognormal, optional
        A standard deviation of log2 |x|, where the best split is marked and named.
    metric : {'relative', 'nmse', 'sqnr', 'cosine', 'bias'}
        See `fpsim.Metric`. Of the cosine, what it lacks to 1 is drawn; of the bias, its size.
    specials, subnormals
        Of the formats, as for `fpsim.recommend`.
    sigmas : sequence of float, optional
        Standard deviations of log2 |x|, ascending, at which the error is worked out; 33 from
        1/4 to 16 by default.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from fpsim import plot
    >>> ax = plot.error_by_sigma(4, at=2.0, sigmas=[1.0, 2.0, 4.0])
    >>> ax.texts[0].get_text()
    'e3m0f, 0.211'
    """
    every = splits(bits, specials, subnormals=subnormals)
    metric = parse_metric(metric)
    spread = _spread(at)
    grid = _grid(sigmas)
    errors = np.array([[_best(s, fmt, metric) for s in grid] for fmt in every])
    loss = np.vectorize(metric.loss, otypes=[float])
    best = np.argmin(loss(errors), axis=0)
    ax = style.axes(ax, height=4.4)
    drawn = errors if metric is Metric.sqnr else loss(errors)
    for k, (fmt, line) in enumerate(zip(every, style.styles(), strict=False)):
        ax.plot(grid, drawn[k], linewidth=1.3, label=str(fmt), **line)
        ax.plot(grid, np.where(best == k, drawn[k], np.nan), color=line["color"], linewidth=5,
                alpha=0.35, solid_capstyle="butt", label="_best")  # fmt: skip
    if spread is not None:
        _mark_best(ax, every, spread, metric)
    ax.set_xscale("log", base=2)
    if metric is not Metric.sqnr:
        ax.set_yscale("log")
        style.plain_numbers_on_log_axis(ax, "y", 10)
    style.plain_numbers_on_log_axis(ax, "x", 2)
    style.titled(
        ax,
        f"Splits of {bits} bits on lognormal data, each at its best scale",
        "standard deviation of log₂|x|, in binades",
        _label(metric),
    )
    style.key(ax)
    return ax


def _spread(at: Any) -> float | None:
    if at is None:
        return None
    return at.sigma_log2 if isinstance(at, Lognormal) else positive("at", at)


def _grid(sigmas: Any) -> _Floats:
    if sigmas is None:
        return np.geomspace(0.25, 16.0, 33)
    allowed = "give positive numbers in ascending order, two or more"
    grid = array("sigmas", sigmas, allowed)
    if grid.ndim != 1 or grid.size < 2 or grid.dtype.kind not in "iuf":
        raise ValueError(f"sigmas={shown(sigmas)} is no such sequence; {allowed}")
    grid = grid.astype(np.float64)
    if not (np.isfinite(grid).all() and grid[0] > 0 and (np.diff(grid) > 0).all()):
        raise ValueError(f"sigmas={shown(sigmas)} is out of range; {allowed}")
    return grid


def _best(sigma_log2: float, fmt: Format, metric: Metric) -> float:
    """The metric at the best scale."""
    return best_scale(Lognormal(0.0, sigma_log2 * LN2), fmt, metric, kind="continuous")[1]


def _mark_best(ax: Axes, every: list[Format], spread: float, metric: Metric) -> None:
    found = [_best(spread, fmt, metric) for fmt in every]
    k = min(range(len(every)), key=lambda k: metric.loss(found[k]))
    y = found[k] if metric is Metric.sqnr else metric.loss(found[k])
    ax.axvline(spread, color=style.GREY, linewidth=1, zorder=1)
    ax.plot([spread], [y], "o", color=style.BLACK, markersize=6, label="_at")
    ax.annotate(f"{every[k]}, {found[k]:.3g}", (spread, y), xytext=(7, -12),
                textcoords="offset points", fontweight="bold")  # fmt: skip


# Predicted and measured -------------------------------------------------------------------------

_KINDS = {
    "closed_form": ("closed form", "D", style.AMBER),
    "fit": ("lognormal fit", "o", style.BLUE),
    "sketch": ("the data's sketch", "s", style.GREEN),
    "measured": ("measured", "x", style.BLACK),
}


def candidates(recommendation: Recommendation, ax: Axes | None = None) -> Axes:
    """The error of every split that was considered, as predicted and as measured.

    Parameters
    ----------
    recommendation : Recommendation
        What `fpsim.recommend` returns for one tensor.
    ax : matplotlib Axes, optional
        None: one of its own.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import fpsim
    >>> from fpsim import plot
    >>> ax = plot.candidates(fpsim.recommend([0.1, 1.0, 3.0, 50.0], bits=5))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['e3m1f', 'e4m0f', 'e2m2f', 'e1m3f']
    """
    if not isinstance(recommendation, Recommendation):
        raise TypeError(
            f"recommendation is of type {type(recommendation).__name__}; give what "
            "fpsim.recommend returns for one tensor"
        )
    every, metric = recommendation.candidates, recommendation.metric
    ax = style.axes(ax, height=1.6 + 0.35 * len(every))
    for kind, (name, marker, colour) in _KINDS.items():
        values = np.array([_drawable(getattr(c, kind), metric) for c in every])
        if np.isfinite(values).any():
            ax.plot(values, range(len(every)), marker, color=colour, markersize=7,
                    markeredgewidth=1.6, markerfacecolor="none", label=name)  # fmt: skip
    ax.set_yticks(range(len(every)), [str(c.format) for c in every])
    ax.set_ylim(len(every) - 0.5, -0.5)
    if metric is not Metric.sqnr:
        ax.set_xscale("log")
        style.plain_numbers_on_log_axis(ax, "x", 10)
    style.titled(
        ax,
        f"Splits of {recommendation.format.bits} bits, best first",
        _label(metric),
        "format",
    )
    style.key(ax)
    return ax


def _drawable(value: float | None, metric: Metric) -> float:
    """A loss for a logarithmic axis, or the SQNR; NaN for what cannot be drawn."""
    if value is None:
        return np.nan
    drawn = value if metric is Metric.sqnr else metric.loss(value)
    return drawn if np.isfinite(drawn) and (drawn > 0 or metric is Metric.sqnr) else np.nan


def _label(metric: Metric) -> str:
    """What an axis of losses says."""
    return {Metric.cosine: "1 − {}", Metric.bias: "|{}|"}.get(metric, "{}").format(metric.words)
