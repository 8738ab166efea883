"""The command line: one module for each group of commands; here they come together.

Imports everything below; nothing imports it.
"""

from __future__ import annotations

import io
import sys

import click

import fpsim
from fpsim.cli import certify, describe, plot, recommend


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fpsim.__version__, prog_name="fpsim")
def main() -> None:
    """Bit-accurate low-precision floating point, and which format your numbers should have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale that has no μ shows a question mark


for command in (
    recommend.recommend,
    describe.inspect,
    describe.formats,
    certify.certify,
    plot.plot,
):
    main.add_command(command)
