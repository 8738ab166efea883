"""What every command needs of a terminal: errors, tables, progress, and plain data for JSON.

Imports format, reprs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fpsim.format import Format
from fpsim.reprs import printable

_WIDE = 150  # columns of a table that does not go to a terminal
_NAME_WIDTH = 36  # columns that the name of a tensor may take before it is folded
_LONG_WORK = 2_000_000  # elements from which on a progress bar is worth showing


class BadInput(click.ClickException):
    """One clear line and exit code 2."""

    exit_code = 2


@contextmanager
def bad_input() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise BadInput(" ".join(printable(str(error)).split())) from None


def output() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


@contextmanager
def progress_bar(work: int) -> Iterator[Callable[[int], object] | None]:
    """A progress bar on stderr, where somebody is looking and the work is long."""
    if work < _LONG_WORK or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("reading and emulating"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=work)
        yield lambda done: bar.advance(task, done)


def strict(data: Any) -> Any:
    """`data` with null for what JSON cannot say: NaN and infinities."""
    if isinstance(data, dict):
        return {key: strict(value) for key, value in data.items()}
    if isinstance(data, list):
        return [strict(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def format_data(fmt: Format) -> dict[str, Any]:
    """A format's parameters, as plain data."""
    return {
        "name": str(fmt),
        "exponent_bits": fmt.exponent_bits,
        "mantissa_bits": fmt.mantissa_bits,
        "bias": fmt.bias,
        "signed": fmt.signed,
        "subnormals": fmt.subnormals,
        "infinities": fmt.infinities,
        "nans": str(fmt.nans),
        "zero": fmt.zero,
    }


def short(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.4g}"


def titled_table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    for i, column in enumerate(columns):
        if i == 0:
            table.add_column(column, overflow="fold", max_width=_NAME_WIDTH)
        else:
            table.add_column(column, justify="right", overflow="fold")
    return table
