"""Picture of a trade-off: what a smaller error costs. Imports arguments, plot.style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fpsim.arguments import shown
from fpsim.plot import style

_Floats = NDArray[np.float64]

_MOST_NAMES = 24


def pareto(
    rows: Any,
    ax: Axes | None = None,
    *,
    cost: str = "bits",
    error: str = "error",
    name: str = "format",
) -> Axes:
    """Cost against error of formats, with those that no other beats in both: the Pareto front.

    Parameters
    ----------
    rows : mapping of columns, or iterable of mappings
        A table: a dict of lists, a pandas or polars frame, or one dict a row.
    ax : matplotlib Axes, optional
        None: one of its own.
    cost, error : str
        The columns to compare; of both, less is better. Costs such as ``'bits'`` or ``'gates'``.
    name : str
        The column that names a row; a table without it has rows without names.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from fpsim import plot
    >>> rows = {"format": ["e2m1", "e4m3", "e5m2"], "bits": [4, 8, 8], "error": [0.1, 0.02, 0.05]}
    >>> [text.get_text() for text in plot.pareto(rows).texts]
    ['e2m1', 'e4m3']
    """
    columns = _columns(rows, (cost, error), name)
    x, y = _numbers(columns, cost), _numbers(columns, error)
    front = on_front(x, y)
    ax = style.axes(ax, height=4.4)
    ax.plot(x[~front], y[~front], "o", color=style.GREY, alpha=0.6, markersize=5,
            markeredgewidth=0, label="beaten in both")  # fmt: skip
    order = np.flatnonzero(front)[np.lexsort((y[front], x[front]))]
    ax.plot(x[order], y[order], color=style.BLUE, linewidth=1.8, drawstyle="steps-post",
            marker="o", markersize=6, label="Pareto front")  # fmt: skip
    names = columns.get(name)
    if names is not None and len(order) <= _MOST_NAMES:
        for i in order:
            ax.annotate(style.plain(str(names[i])), (x[i], y[i]), xytext=(5, 5),
                        textcoords="offset points", fontsize="small")  # fmt: skip
    if (y > 0).all() and y.max() > 20 * y.min():
        ax.set_yscale("log")
        style.plain_numbers_on_log_axis(ax, "y", 10)
    if (x > 0).all() and x.max() > 20 * x.min():
        ax.set_xscale("log")
        style.plain_numbers_on_log_axis(ax, "x", 10)
    ax.margins(x=0.1)
    style.titled(ax, f"{error} against {cost}", cost, error)
    style.key(ax)
    return ax


def on_front(x: _Floats, y: _Floats) -> NDArray[np.bool_]:
    """Which points no other beats: none is as good in both and better in one.

    Examples
    --------
    >>> import numpy as np
    >>> from fpsim.plot.tradeoff import on_front
    >>> on_front(np.array([4.0, 8.0, 8.0]), np.array([0.1, 0.02, 0.05]))
    array([ True,  True, False])
    """
    order = np.lexsort((y, x))
    found = np.zeros(len(x), bool)
    best = cheapest = np.inf
    for i in order:
        if y[i] < best or (y[i] == best and x[i] == cheapest):
            found[i] = True
            best, cheapest = y[i], x[i]
    return found


def _columns(rows: Any, needed: tuple[str, ...], name: str) -> dict[str, list[Any]]:
    """The columns of a table that are drawn."""
    wanted = (*needed, name)
    if isinstance(rows, Mapping) or hasattr(rows, "columns"):
        there = [str(c) for c in (rows if isinstance(rows, Mapping) else rows.columns)]
        found = {c: list(rows[c]) for c in wanted if c in there}
    elif isinstance(rows, Iterable) and not isinstance(rows, (str, bytes)):
        every = list(rows)
        if not all(isinstance(row, Mapping) for row in every):
            raise TypeError("rows hold what is no mapping; give a dict a row, or a dict of columns")
        there = sorted(set().union(*every)) if every else []
        found = {c: [row.get(c) for row in every] for c in wanted if c in there}
    else:
        raise TypeError(
            f"rows is of type {type(rows).__name__}; give a dict of columns, or a dict a row"
        )
    for column in needed:
        if column not in found:
            raise ValueError(f"rows have no column {column!r}; there are {shown(there)}")
    lengths = {len(values) for values in found.values()}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError("rows have columns of unequal length, or none at all; give a row or more")
    return found


def _numbers(columns: dict[str, list[Any]], column: str) -> _Floats:
    try:
        values = np.array(columns[column], np.float64)
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if not np.isfinite(values).all():
        raise ValueError(
            f"column {column!r} of rows holds what is no finite number; drop such rows first"
        )
    return values
