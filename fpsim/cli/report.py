"""``--html`` of ``fpsim recommend``. Imports terminal, and report where it is asked for."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fpsim.analysis.recommend import SetRecommendation
from fpsim.cli.terminal import BadInput, bad_input

_MOST_NAMES = 3  # files that the title names

Writer = Callable[[Mapping[int, SetRecommendation], Sequence[str]], None]


def _writer(context: click.Context, parameter: click.Parameter, value: Path | None) -> Any:
    """What writes the report; that it can be is settled before any work is done."""
    if value is None:
        return None
    try:
        from fpsim import report
    except ImportError as error:
        raise BadInput(f"--html: {error}") from None
    with bad_input():
        if not value.absolute().parent.is_dir():
            raise ValueError(f"--html {value}: there is no folder {value.parent}; make it first")

    def write(answers: Mapping[int, SetRecommendation], names: Sequence[str]) -> None:
        source = ", ".join(Path(name).name for name in names[:_MOST_NAMES])
        if len(names) > _MOST_NAMES:
            source += f" and {len(names) - _MOST_NAMES} more files"
        source = source or "the embedded sample of neural gradients"
        command = shlex.join(["fpsim", *sys.argv[1:]])
        with bad_input():
            report.write(value, answers, source=source, command=command)

    return write


html_option = click.option(
    "--html",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_writer,
    help="Also write a report: one self-contained HTML file.",
)
