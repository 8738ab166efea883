"""Pictures of casts: what they make of a number, and how far off that is.

Imports arguments, cast, catalog, format, plot.formats, plot.style, reprs, rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fpsim.arguments import positive
from fpsim.cast import round
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.plot import style
from fpsim.plot.formats import FEW_VALUES, checked_limits, finite_values, listed
from fpsim.reprs import factor
from fpsim.rounding import (
    Overflow,
    Rounding,
    Stochastic,
    parse_overflow,
    parse_rounding,
)

_Floats = NDArray[np.float64]

_TEETH = 1 << 11  # values up to which the error curve shows every tooth


@dataclass(frozen=True)
class Pieces:
    """Intervals ``start < x < stop`` on which a cast is constant, one after the other."""

    start: _Floats
    stop: _Floats
    result: _Floats


def pieces(fmt: Format, edges: _Floats, mode: Rounding, rule: Overflow) -> Pieces:
    """The pieces between edges, among which all of the cast's own jumps in there must be."""
    edges = np.unique(edges)
    start, stop = edges[:-1], edges[1:]
    return Pieces(start, stop, np.asarray(round((start + stop) / 2, fmt, rounding=mode,
                                               overflow=rule)))  # fmt: skip


def _edges(fmt: Format, low: float, high: float) -> _Floats:
    """Where a cast may jump from low to high: at values, between them, and past the range."""
    top = float(fmt.max)
    ulp = float(fmt.ulp(top))
    values = np.append(finite_values(fmt), [top + ulp, -top - ulp])
    values = np.unique(np.concatenate([values, -values]))
    every = np.concatenate([values, (values[1:] + values[:-1]) / 2])
    return np.concatenate([[low, high], every[(every > low) & (every < high)]])


def _modes(rounding: Any) -> tuple[list[Rounding], Rounding | Stochastic]:
    """The deterministic modes whose results a cast has: both directions for a stochastic one."""
    mode = parse_rounding(rounding)
    if isinstance(mode, Stochastic):
        return [Rounding.toward_zero, Rounding.away_from_zero], mode
    return [mode], mode


def _described(fmt: Format, mode: Rounding | Stochastic, rule: Overflow) -> str:
    how = "stochastic" if isinstance(mode, Stochastic) else str(mode)
    return f"{fmt}, {how.replace('_', ' ')}, overflow: {str(rule).replace('_', ' ')}"


def _staircase(
    fmt: Any, rounding: Any, overflow: Any, limits: Any
) -> tuple[Format, list[Pieces], Rounding | Stochastic, Overflow, tuple[float, float]]:
    """What `step_function` and `cast_error` both draw."""
    fmt, rule = parse(fmt), parse_overflow(overflow)
    modes, mode = _modes(rounding)
    values = finite_values(fmt)
    if limits is None:
        reach = 1.2 * float(fmt.max)
        if len(values) > FEW_VALUES and fmt.min_normal:
            reach = min(4 * float(fmt.min_normal), reach)
        limits = (-reach if fmt.signed else -reach / 8, reach)
    low, high = checked_limits(limits, [values], log=False)
    edges = _edges(fmt, low, high)
    return fmt, [pieces(fmt, edges, m, rule) for m in modes], mode, rule, (low, high)


def _drawn(ax: Axes, stairs: list[Pieces], at: Any, mode: Any, label: str) -> None:
    """Lines through ``at(pieces, x)`` at both ends x of every piece."""
    lines = []
    for steps, line in zip(stairs, style.styles(), strict=False):
        x = np.stack([steps.start, steps.stop], axis=1).ravel()
        y = np.stack([at(steps, steps.start), at(steps, steps.stop)], axis=1).ravel()
        y[~np.isfinite(y)] = np.nan
        lines.append((x, y))
        name = label
        if isinstance(mode, Stochastic):
            name = "toward zero" if not lines[1:] else "away from zero"
        ax.plot(x, y, linewidth=1.6, label=name, **line)
    if len(lines) == 2:
        (x, low), (_, high) = lines
        ax.fill_between(x, low, high, color=style.SKY, alpha=0.3, linewidth=0,
                        label="one of the two, by chance")  # fmt: skip


def _shade_specials(ax: Axes, steps: Pieces) -> None:
    """Mark where the cast gives infinity or NaN, which no line can show."""
    for name, special, colour in (
        ("NaN", np.isnan(steps.result), style.PURPLE),
        ("±∞", np.isinf(steps.result), style.AMBER),
    ):
        label = name
        for start, stop in zip(steps.start[special], steps.stop[special], strict=True):
            ax.axvspan(start, stop, color=colour, alpha=0.3, linewidth=0, label=label)
            label = "_" + name  # one entry in the legend


def step_function(
    fmt: Any,
    ax: Axes | None = None,
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "nan",
    limits: tuple[float, float] | None = None,
) -> Axes:
    """What a cast makes of every real number: its staircase, exact at every jump.

    Where it gives infinity or NaN, the background says so. Stochastic rounding shows both
    results that it chooses from.

    Parameters
    ----------
    fmt : Format, name or dtype
        Of up to 16 bits.
    ax : matplotlib Axes, optional
        None: one of its own.
    rounding, overflow
        As for `fpsim.round`.
    limits : pair of float, optional
        From which x to which. By default the whole range of formats of up to 64 values, else
        the first binades on both sides of 0.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from fpsim import plot
    >>> ax = plot.step_function("float4_e2m1fn", overflow="saturate")
    >>> float(ax.lines[0].get_ydata().max())
    6.0
    """
    fmt, stairs, mode, rule, (low, high) = _staircase(fmt, rounding, overflow, limits)
    ax = style.axes(ax, height=4.4)
    _drawn(ax, stairs, lambda steps, x: steps.result + 0 * x, mode, "result")
    _shade_specials(ax, stairs[-1])
    ax.plot([low, high], [low, high], color=style.GREY, linewidth=0.8, label="exact", zorder=1)
    ax.set_xlim(low, high)
    style.titled(ax, f"Rounding to {_described(fmt, mode, rule)}", "x", "round(x)")
    style.key(ax)
    return ax


def cast_error(
    fmt: Any,
    ax: Axes | None = None,
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "nan",
    limits: tuple[float, float] | None = None,
) -> Axes:
    """The error ``round(x) - x`` of a cast, with half a unit in the last place around 0.

    Parameters
    ----------
    fmt, ax, rounding, overflow, limits
        As for `step_function`.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from fpsim import plot
    >>> ax = plot.cast_error("float4_e2m1fn", limits=(-6, 6))
    >>> float(ax.lines[0].get_ydata().max())
    1.0
    """
    fmt, stairs, mode, rule, (low, high) = _staircase(fmt, rounding, overflow, limits)
    ax = style.axes(ax)
    _drawn(ax, stairs, lambda steps, x: steps.result - x, mode, "error")
    _shade_specials(ax, stairs[-1])
    steps = stairs[0]
    half = np.repeat(fmt.ulp((steps.start + steps.stop) / 2) / 2, 2)
    x = np.stack([steps.start, steps.stop], axis=1).ravel()
    within = np.abs(x) <= float(fmt.max)
    ax.fill_between(x, -half, half, where=within, color=style.GREY, alpha=0.25, linewidth=0,
                    label="± ½ ulp", zorder=1)  # fmt: skip
    ax.set_xlim(low, high)
    style.titled(ax, f"Error of rounding to {_described(fmt, mode, rule)}", "x", "round(x) − x")
    style.key(ax)
    return ax


# Error against magnitude ------------------------------------------------------------------------


def relative_error(
    formats: Any,
    ax: Axes | None = None,
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "saturate",
    scale: float = 1.0,
) -> Axes:
    """The largest relative error of a cast, binade by binade, against the magnitude.

    Flat where numbers are normal, at the unit roundoff; rising through the subnormals to 1,
    where everything is flushed to zero, and again past the range. One format with up to 2048
    positive values shows the error itself too, with every tooth.

    Parameters
    ----------
    formats : Format, name or dtype, or a sequence of them
        Of up to 32 bits.
    ax : matplotlib Axes, optional
        None: one of its own.
    rounding, overflow
        As for `fpsim.round`; for stochastic rounding, the worse of its two results. Errors that
        are infinite are not drawn.
    scale : float
        Multiplies x before rounding; the axis shows x.

    Returns
    -------
    matplotlib Axes
        Positions are logarithms to base 2 of |x|.

    Examples
    --------
    >>> from fpsim import plot
    >>> ax = plot.relative_error(["float8_e4m3fn", "float8_e5m2"])
    >>> [line.get_label() for line in ax.lines]
    ['float8_e4m3fn', 'float8_e5m2']
    """
    every, rule = listed(formats), parse_overflow(overflow)
    modes, mode = _modes(rounding)
    scale = positive("scale", scale)
    for fmt in every:
        if fmt.bits > 32 or fmt.emax > 1000 or fmt.quantum_exponent < -1000:
            raise ValueError(
                f"formats={str(fmt)!r} has {fmt.bits} bits, from 2**{fmt.quantum_exponent} to "
                f"2**{fmt.emax}; errors are computed in float64: give formats of up to 32 bits "
                "within 2**-1000 to 2**1000"
            )
    ax = style.axes(ax)
    shift = style.log2(scale)
    alone = len(every) == 1
    floor = min(fmt.unit_roundoff for fmt in every) / 8
    for fmt, line in zip(every, style.styles(), strict=False):
        if alone and fmt.max_code < _TEETH:
            _draw_teeth(ax, fmt, modes, rule, shift, floor)
        binades, worst = _worst(fmt, modes, rule)
        x = np.stack([binades, binades + 1.0], axis=1).ravel() - shift
        name = f"{fmt}: largest in each binade" if alone else str(fmt)
        ax.plot(x, np.repeat(worst, 2), linewidth=1.8, label=style.plain(name), **line)
    ax.set_yscale("log", base=2)
    ax.set_ylim(floor, 2.0)
    style.in_powers_of_two(ax, "x")
    style.powers_of_two_on_log_axis(ax, "y")
    how = "stochastic" if isinstance(mode, Stochastic) else str(mode).replace("_", " ")
    names = ", ".join(str(fmt) for fmt in every) if len(every) < 4 else f"{len(every)} formats"
    what = f"Relative error of {names}, {how}"
    if scale != 1:
        what += f", scale {factor(scale)}"
    style.titled(ax, what, "|x|", "|round(x) − x| / |x|")
    style.key(ax)
    return ax


def _largest(steps: list[Pieces]) -> _Floats:
    """The largest relative error on each piece: at one of its ends, for it is monotone."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ends = [np.abs(1 - s.result / x) for s in steps for x in (s.start, s.stop)]
    return np.asarray(np.max(ends, axis=0), np.float64)


def _worst(fmt: Format, modes: list[Rounding], rule: Overflow) -> tuple[_Floats, _Floats]:
    """Binades, as exponents, and the largest relative error in each.

    It is that of the first gap between values in the binade: there the gap is largest beside x.
    """
    low, high = math.floor(style.log2(float(fmt.smallest))) - 2, fmt.emax + 1
    exponents = np.arange(low, high + 1)
    first = np.ldexp(1.0, exponents)
    gap = np.where(first < float(fmt.smallest), first, np.minimum(fmt.ulp(first), first))
    top = float(fmt.max)
    end = 2.0 ** (fmt.emax + 1)
    past = [top, top + float(fmt.ulp(top)) / 2, end, 2 * end]
    starts = np.concatenate([first[:-1], first[:-1] + gap[:-1] / 2, past[:-1]])
    stops = np.concatenate([first[:-1] + gap[:-1] / 2, first[:-1] + gap[:-1], past[1:]])
    some = stops > starts
    starts, stops = starts[some], stops[some]
    middle = (starts + stops) / 2
    found = [
        Pieces(starts, stops, np.asarray(round(middle, fmt, rounding=m, overflow=rule)))
        for m in modes
    ]
    worst = np.zeros(len(exponents))
    np.maximum.at(worst, np.frexp(starts)[1] - 1 - low, _largest(found))
    worst[~np.isfinite(worst)] = np.nan
    return exponents.astype(np.float64), worst


def _draw_teeth(
    ax: Axes, fmt: Format, modes: list[Rounding], rule: Overflow, shift: float, floor: float
) -> None:
    """The error itself, which is 0 at the format's values: the line stops at `floor`."""
    low, high = float(fmt.smallest) / 4, 4.0 * 2.0**fmt.emax
    steps = [pieces(fmt, _edges(fmt, low, high), m, rule) for m in modes]
    part = np.linspace(0.0, 1.0, 9)
    x = (steps[0].start[:, None] + (steps[0].stop - steps[0].start)[:, None] * part).ravel()
    errors = [np.abs(1 - np.repeat(s.result, len(part)) / x) for s in steps]
    error = np.max(errors, axis=0)
    error[~np.isfinite(error)] = np.nan
    ax.plot(np.log2(x) - shift, np.maximum(error, floor / 2), color=style.SKY, linewidth=0.9,
            label="every x", zorder=1)  # fmt: skip
