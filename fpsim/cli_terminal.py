"""What every command needs: errors of one clear line. Imports reprs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from fpsim.reprs import printable


class BadInput(click.ClickException):
    """One clear line and exit code 2."""

    exit_code = 2


@contextmanager
def bad_input() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise BadInput(" ".join(printable(str(error)).split())) from None
