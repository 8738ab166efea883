"""What all pictures share: axes made without pyplot, one palette, axes in powers of two.

Imports arguments, reprs.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from fpsim.arguments import shown
from fpsim.reprs import power_of_two, printable

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
AMBER, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#767676"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, BLACK)
DASHES = ("-", "--", "-.", ":")  # so that colour is never all that tells two lines apart

_DPI = 144


class Picture(Axes):
    """Axes that notebooks show, with the whole figure, though pyplot knows nothing of them."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        figure = self.get_figure(root=True)
        assert figure is not None  # axes of no figure are not drawn
        figure.savefig(stream, format="png", dpi=_DPI)
        return stream.getvalue()


def axes(ax: Axes | None, width: float = 7.0, height: float = 3.8) -> Axes:
    """`ax`, or where it is None axes on a figure of their own that pyplot knows nothing of."""
    if ax is None:
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
        figure = Figure(figsize=(width, height), layout=layout)
        ax = figure.add_subplot(axes_class=Picture)
    elif not isinstance(ax, Axes):
        raise TypeError(
            f"ax={shown(ax)} is no matplotlib Axes; give one, or None for a figure of its own"
        )
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def titled(ax: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Name the axes and what is drawn; text that is somebody else's is shown as it is."""
    for setter, text in ((ax.set_xlabel, xlabel), (ax.set_ylabel, ylabel)):
        setter(text)
    ax.set_title(plain(title), loc="left", fontsize="medium", fontweight="bold")


def plain(text: str) -> str:
    """`text` with nothing that matplotlib would take for mathematics, on one line."""
    return printable(text).replace("$", r"\$")


def styles() -> Iterator[dict[str, Any]]:
    """Colours with dashes, for lines to be told apart on screen and on paper; without end."""
    for colour, dash in zip(itertools.cycle(PALETTE), itertools.cycle(DASHES), strict=False):
        yield {"color": colour, "linestyle": dash}


def in_powers_of_two(ax: Axes, which: str, ticks: int = 9) -> None:
    """Label an axis whose numbers are logarithms to base 2 with the powers."""
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 4, 5, 8, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_two(value)))


def powers_of_two_on_log_axis(ax: Axes, which: str) -> None:
    """Label a logarithmic axis with the powers of two themselves."""
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(LogLocator(base=2, numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_two(math.log2(value))))


def plain_numbers_on_log_axis(ax: Axes, which: str, base: int) -> None:
    """Label a logarithmic axis with numbers as they are; of base 10 with 1, 2 and 5."""
    axis = getattr(ax, f"{which}axis")
    low, high = sorted(getattr(ax, f"get_{which}lim")())
    few = base == 2 or math.log10(high / low) > 4
    axis.set_major_locator(LogLocator(base=base, subs=(1.0,) if few else (1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def in_percent(ax: Axes, which: str) -> None:
    """Label an axis of shares."""
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))


def key(ax: Axes, **options: Any) -> None:
    """A legend of what has a name, each name once; none where one name says nothing new."""
    handles, labels = ax.get_legend_handles_labels()
    entries = dict(zip(labels[::-1], handles[::-1], strict=True))  # the first of each name
    entries = {name: entries[name] for name in dict.fromkeys(labels)}
    if len(entries) > 1:
        ax.legend(entries.values(), entries.keys(), fontsize="small", framealpha=0.8,
                  edgecolor="none", **options)  # fmt: skip


def log2(x: float) -> float:
    """Logarithm to base 2 of a positive number, however small; -inf of 0."""
    if x == 0:
        return -math.inf
    significand, exponent = math.frexp(x)
    return math.log2(significand) + exponent


def share(value: float) -> str:
    """A share in percent, with enough digits to tell little from none.

    Examples
    --------
    >>> from fpsim.plot.style import share
    >>> share(0.1234), share(0.00001), share(0.0)
    ('12.3 %', '0.001 %', '0 %')
    """
    if value == 0:
        return "0 %"
    if value == 1:
        return "100 %"
    digits = 1 if 0.01 <= value <= 0.99 else 2
    text = f"{100 * value:.{digits}f}"
    if float(text) in (0.0, 100.0):
        text = f"{100 * value:.1g}" if value < 0.5 else f"{100 * value:.6g}"
    return f"{text} %"
