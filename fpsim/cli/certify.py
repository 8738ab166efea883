"""``fpsim certify``. Imports certify, and the public names."""

from __future__ import annotations

import json

import click

import fpsim
from fpsim.cli.terminal import bad_input, format_data, output, progress_bar, titled_table
from fpsim.format import Format


@click.command()
@click.argument("fmt", metavar="FORMAT")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def certify(fmt: str, as_json: bool) -> None:
    """Check all 2^32 float32 inputs, in every mode, against exact rational arithmetic.

    FORMAT has up to 16 bits and values that float32 holds. Takes minutes; exit code 1 if
    anything differs.

    \b
    Example:
      fpsim certify float8_e4m3fn
    """
    from fpsim import certify as certification

    with bad_input():
        parsed = Format.parse(fmt)
        work = certification.comparisons()
        with progress_bar(work) as progress:
            report = certification.certify(parsed, progress=progress)
    if as_json:
        data = {
            "format": format_data(parsed),
            "fpsim": fpsim.__version__,
            "seconds": round(report.seconds, 1),
            "passed": report.passed,
            "compared": report.inputs,
            "lines": [vars(line) for line in report.lines],
        }
        click.echo(json.dumps(data, indent=2))
    else:
        console = output()
        table = titled_table(f"{fmt}: every float32", "operation", "rounding", "overflow")
        table.add_column("compared", justify="right")
        table.add_column("mismatches", justify="right")
        for line in report.lines:
            first = line.first_mismatch
            where = "" if first is None else f", first at 0x{first:08x}"
            table.add_row(
                line.operation,
                line.rounding,
                line.overflow,
                f"{line.inputs:,}",
                f"{line.mismatches:,}{where}",
            )
        console.print(table)
        console.print(
            f"{'PASS' if report.passed else 'FAIL'}: {report.inputs:,} results compared with runs "
            f"of constants found in exact rational arithmetic, in {report.seconds:.0f} s"
        )
    if not report.passed:
        raise SystemExit(1)
