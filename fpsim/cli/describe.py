"""``fpsim inspect`` and ``fpsim formats``: what a format holds. Imports the public names."""

from __future__ import annotations

import json
import math
from typing import Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

import fpsim
from fpsim.catalog import SUFFIXES, families
from fpsim.cli.terminal import bad_input, format_data, output, titled_table
from fpsim.format import Format
from fpsim.reprs import printable

_LISTED_BITS = 8  # formats of up to this many bits have all their values shown


@click.command()
@click.argument("fmt", metavar="FORMAT")
def inspect(fmt: str) -> None:
    """Parameters, special codes and values of a format.

    FORMAT is a name (see fpsim formats), a P3109 name, or a shorthand, with parameters after
    commas if need be.

    \b
    Examples:
      fpsim inspect e4m3fn
      fpsim inspect binary8p3se
      fpsim inspect e3m2f,bias=9,subnormals=false
    """
    with bad_input():
        parsed = Format.parse(fmt)
        _print_format(parsed)


def _print_format(fmt: Format) -> None:
    console = output()
    table = Table(title=printable(str(fmt)), title_style="bold", show_header=False, box=box.SIMPLE)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    sign = "1 sign, " if fmt.signed else "no sign, "
    rows: list[tuple[str, Any]] = [
        (
            "layout",
            f"{fmt.bits} bits: {sign}{fmt.exponent_bits} exponent, {fmt.mantissa_bits} mantissa",
        ),
        ("parameters", repr(fmt)),
        ("bias", fmt.bias),
        ("precision", f"{fmt.precision} bits"),
        ("emin, emax", f"{fmt.emin}, {fmt.emax}"),
        ("max", _exact(fmt.max)),
        ("min normal", _exact(fmt.min_normal)),
        ("min subnormal", "none" if fmt.min_subnormal is None else _exact(fmt.min_subnormal)),
        ("eps, unit roundoff", f"2^-{fmt.mantissa_bits}, 2^-{fmt.precision}"),
        (
            "zero",
            "none" if not fmt.zero else ("+0 and −0" if fmt.has_negative_zero else "one zero"),
        ),
        ("infinity", _code(fmt, fmt.infinity_code, both=fmt.signed)),
        ("NaN", _nan_codes(fmt)),
        ("subnormals", "yes" if fmt.subnormals and fmt.mantissa_bits else "none"),
    ]
    for key, value in rows:
        table.add_row(key, Text(str(value)))
    console.print(table)
    lines = [f"e4m3{suffix}: {meaning}" for suffix, meaning in SUFFIXES.items()]
    lines.append("1-4-3 is e4m3")
    for line in ("Shorthand:", *(f"  {line}" for line in lines)):
        console.print(Text(line, "dim"))
    try:
        fmt.require_binary64()
    except ValueError:
        console.print(Text("Its values leave binary64; fpsim.spec.decode has them.", "dim"))
        return
    if fmt.bits > _LISTED_BITS:
        console.print(Text(f"2**{fmt.bits} codes: too many to show; fpsim.decode has them", "dim"))
        return
    values = fmt.values()
    digits = -(-fmt.bits // 4)
    cells = [f"0x{code:0{digits}x} {value:.6g}" for code, value in enumerate(values)]
    wanted = 4 if fmt.bits < 6 else 8
    columns = max(min(wanted, console.width // (max(map(len, cells)) + 4)), 1)
    rows_of = -(-values.size // columns)
    grid = Table(title="values by code", title_style="bold", show_header=False, box=box.SIMPLE)
    for _ in range(columns):
        grid.add_column(justify="right")
    for row in range(rows_of):
        grid.add_row(*cells[row::rows_of])
    console.print(grid)


def _exact(value: Any) -> str:
    """A value as a decimal and, where it is one, as a power of two or a product with one."""
    fraction = fpsim.spec.exact(value)
    assert not isinstance(fraction, float)
    exponent = fraction.numerator.bit_length() - 1 - (fraction.denominator.bit_length() - 1)
    significand = fraction.numerator >> _trailing_zeros(fraction.numerator)
    power = exponent - (significand.bit_length() - 1)
    binary = f"2^{power}" if significand == 1 else f"{significand} × 2^{power}"
    try:
        decimal = f"{float(fraction):.10g}"
    except OverflowError:
        return binary
    return f"{decimal} = {binary}" if float(fraction) else binary


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1


def _code(fmt: Format, code: int | None, both: bool) -> str:
    if code is None:
        return "none"
    digits = -(-fmt.bits // 4)
    negative = f", negative 0x{code | 1 << (fmt.bits - 1):0{digits}x}" if both else ""
    return f"0x{code:0{digits}x}{negative}"


def _nan_codes(fmt: Format) -> str:
    if fmt.nan_code is None:
        return "none"
    digits = -(-fmt.bits // 4)
    written = f"0x{fmt.nan_code:0{digits}x}"
    if fmt.nans == "ieee":
        count = ((1 << fmt.mantissa_bits) - 1) << fmt.signed
        return f"{count} codes (top exponent, nonzero mantissa); {written} is written"
    if fmt.nans == "all_ones" and fmt.signed:
        return (
            f"{written} and 0x{fmt.nan_code | 1 << (fmt.bits - 1):0{digits}x}; the first is written"
        )
    return written


@click.command()
@click.option("--all", "everything", is_flag=True, help="Each P3109 format too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def formats(everything: bool, as_json: bool) -> None:
    """The named formats.

    \b
    Examples:
      fpsim formats
      fpsim formats --all --json
    """
    if as_json:
        listed = {
            family: {name: format_data(fmt) for name, fmt in members.items()}
            for family, members in families().items()
            if everything or family != "P3109"
        }
        click.echo(json.dumps(listed, indent=2))
        return
    console = output()
    table = titled_table("Named formats", "name", "family", "bits", "exponent", "mantissa", "bias")
    for column in ("max", "smallest", "infinity", "NaN"):
        table.add_column(column, justify="right")
    for family, members in families().items():
        if family == "P3109" and not everything:
            table.add_row("binary{K}p{P}{s|u}{e|f}", family, "3–16", *["–"] * 7)
            continue
        for name, fmt in members.items():
            table.add_row(
                name,
                family,
                str(fmt.bits),
                str(fmt.exponent_bits),
                str(fmt.mantissa_bits),
                str(fmt.bias),
                _magnitude(fmt.max),
                _magnitude(fmt.smallest),
                "yes" if fmt.infinities else "no",
                "no" if fmt.nan_code is None else str(fmt.nans),
            )
    console.print(table)
    console.print(
        Text(
            "P3109: K bits, precision P, signed or unsigned, extended (infinity) or finite; "
            "fpsim formats --all lists each. Any other format: fpsim inspect --help.",
            style="dim",
        )
    )


def _magnitude(value: Any) -> str:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isfinite(number) and number:
        return f"{number:.6g}"
    fraction = fpsim.spec.exact(value)
    assert not isinstance(fraction, float)
    return f"2^{fpsim.spec.floor_log2(fraction)}"
