"""Pictures of formats themselves: their values on a line.

Imports catalog, arguments, format, plot.style.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from fpsim.arguments import boolean, shown
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.plot import style

_Floats = NDArray[np.float64]

MOST_VALUES = 1 << 16  # that are drawn one by one
FEW_VALUES = 64  # of which each may have its label


def listed(formats: Any) -> list[Format]:
    """One format, or several, as a list."""
    several = isinstance(formats, Iterable) and not isinstance(formats, (str, bytes))
    found = [parse(fmt) for fmt in (formats if several else [formats])]
    if not found:
        raise ValueError(f"formats={shown(formats)} names no format; give at least one")
    return found


def number_line(
    formats: Any,
    ax: Axes | None = None,
    *,
    log: bool = False,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Every value of a format, or of several one above the other, as marks on a line.

    Powers of two are marked higher, subnormals in another colour. Infinities stand as arrows
    where the line ends.

    Parameters
    ----------
    formats : Format, name or dtype, or a sequence of them
        Of up to 16 bits.
    ax : matplotlib Axes, optional
        None: one of its own.
    log : bool
        The positive values alone, on an axis of powers of two.
    limits : pair of float, optional
        Which part of the line; all of it by default.

    Returns
    -------
    matplotlib Axes
        With `log`, positions are logarithms to base 2.

    Examples
    --------
    >>> from fpsim import plot
    >>> ax = plot.number_line(["float4_e2m1fn", "e3m0f"], limits=(0, 8))
    >>> [tick.get_text() for tick in ax.get_yticklabels()]
    ['float4_e2m1fn', 'e3m0f']
    """
    every, log = listed(formats), boolean("log", log)
    values = [finite_values(fmt) for fmt in every]
    if log:
        values = [v[v > 0] for v in values]
    low, high = checked_limits(limits, values, log)
    ax = style.axes(ax, height=0.9 + 0.6 * len(every))
    marks = 0
    for row, (fmt, v) in enumerate(zip(every, values, strict=True)):
        inside = v[(v >= low) & (v <= high)]
        marks += len(inside)
        _draw_row(ax, row, fmt, inside, log)
        if fmt.infinities and not log and high >= float(fmt.max):
            _draw_infinities(ax, row, fmt, low, high)
    first, last = (style.log2(low), style.log2(high)) if log else (low, high)
    margin = 0.03 * (last - first)
    ax.set_xlim(first - margin, last + margin)
    ax.set_ylim(len(every) - 0.45, -0.55)
    ax.set_yticks(range(len(every)), [style.plain(str(fmt)) for fmt in every])
    ax.tick_params("y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False, axis="y")
    if log:
        style.in_powers_of_two(ax, "x")
    elif len(every) == 1 and marks <= FEW_VALUES:
        _label_values(ax, values[0][(values[0] >= low) & (values[0] <= high)])
    names = str(every[0]) if len(every) == 1 else f"{len(every)} formats"
    what = "positive value" if log else "value"
    style.titled(ax, f"The {what}s of {names}", f"{what}", "")
    style.key(ax, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderpad=0.0)
    return ax


def finite_values(fmt: Format) -> _Floats:
    """The finite values of a format in ascending order."""
    if 1 << fmt.bits > MOST_VALUES:
        raise ValueError(
            f"formats={str(fmt)!r} has 2**{fmt.bits} values, too many to draw one by one; give "
            "formats of up to 16 bits (relative_error draws wider ones)"
        )
    values = fmt.values()
    return np.unique(values[np.isfinite(values)])


def checked_limits(limits: Any, values: list[_Floats], log: bool) -> tuple[float, float]:
    if limits is None:
        return float(min(v[0] for v in values)), float(max(v[-1] for v in values))
    try:
        low, high = (float(limit) for limit in limits)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (log and low <= 0):
        kind = "positive numbers" if log else "numbers"
        raise ValueError(
            f"limits={shown(limits)} is no pair of finite {kind}, the smaller first; leave it out "
            "for all of the range"
        )
    return low, high


_KINDS = {
    "normal": style.BLUE,
    "subnormal": style.ORANGE,
    "zero": style.BLACK,
}


def _draw_row(ax: Axes, row: int, fmt: Format, values: _Floats, log: bool) -> None:
    magnitudes = np.abs(values)
    below = (magnitudes < float(fmt.min_normal)) & fmt.zero
    kinds = {"normal": ~below, "subnormal": below & (values != 0), "zero": values == 0}
    power = np.frexp(magnitudes)[0] == 0.5
    height = np.where(power | (values == 0), 0.34, 0.22)
    # Many marks are drawn thinner, or they would run into one block.
    width = 1.5 if len(values) <= FEW_VALUES else 0.7
    positions = np.log2(values) if log else values
    for kind, chosen in kinds.items():
        x, h = positions[chosen], height[chosen]
        if len(x):
            marks = np.stack([np.stack([x, row - h], 1), np.stack([x, row + h], 1)], axis=1)
            ax.add_collection(
                LineCollection(list(marks), colors=_KINDS[kind], linewidths=width, label=kind)
            )
    ax.axhline(row, color=style.GREY, linewidth=0.6, zorder=0)


def _draw_infinities(ax: Axes, row: int, fmt: Format, low: float, high: float) -> None:
    for end, sign in ((high, 1), (low, -1)):
        if sign > 0 or (fmt.signed and low <= -float(fmt.max)):
            tip = end + sign * 0.03 * (high - low)
            ax.annotate(
                "∞" if sign > 0 else "−∞",
                (tip, row),
                ha="left" if sign > 0 else "right",
                va="center",
                annotation_clip=False,
                color=style.GREY,
            )


def _label_values(ax: Axes, values: _Floats) -> None:
    """Name values at the axis, outermost first, as far as there is room."""
    line = float(np.ptp(values)) or 1.0
    named: dict[float, str] = {}
    for value in sorted(values, key=lambda v: (v != 0, -abs(v))):
        text = f"{value:g}".replace("-", "−")
        if all(
            abs(value - other) >= line * (0.008 + 0.005 * (len(text) + len(beside)))
            for other, beside in named.items()
        ):
            named[float(value)] = text
    ax.set_xticks(list(named), list(named.values()), fontsize="x-small")
    ax.grid(visible=False)
