"""The command line: ``fpsim recommend``, ``inspect``, ``formats``, ``certify``, ``plot``.

Imports everything below; nothing imports it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import fpsim
from fpsim.analysis.error import Metric
from fpsim.analysis.recommend import (
    MAX_BITS,
    MIN_BITS,
    SPECIALS,
    Basis,
    Candidate,
    Recommendation,
    Scale,
    SetRecommendation,
)
from fpsim.analysis.table import candidate_row, data_row, pruning_row, tensor_rows
from fpsim.catalog import SUFFIXES, families
from fpsim.cli_plot import plot
from fpsim.cli_report import Writer, html_option
from fpsim.cli_terminal import bad_input
from fpsim.files import TensorFiles, sample_gradients
from fpsim.format import Format
from fpsim.reprs import printable

_WIDE = 150  # columns of a table that does not go to a terminal
_NAME_WIDTH = 36  # columns that the name of a tensor may take before it is folded
_LISTED_BITS = 8  # formats of up to this many bits have all their values shown
_LONG_WORK = 2_000_000  # elements from which on a progress bar is worth showing


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fpsim.__version__, prog_name="fpsim")
def main() -> None:
    """Bit-accurate low-precision floating point, and which format your numbers should have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale that has no μ shows a question mark


main.add_command(plot)


# recommend ------------------------------------------------------------------------------------


class Widths(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from click 8.5 on
    """A number of bits, a list ``4,6,8`` or a range ``4-8``."""

    name = "bits"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        if isinstance(value, list):
            return value
        widths: list[int] = []
        for part in str(value).split(","):
            low, dash, high = part.strip().partition("-")
            if not low.isdecimal() or (dash and not high.isdecimal()):
                self.fail(f"{value!r} is no number, list (4,6,8) or range (4-8)", param, ctx)
            first, last = int(low), int(high or low)
            if not MIN_BITS <= first <= last <= MAX_BITS:
                allowed = f"allowed is {MIN_BITS} to {MAX_BITS}"
                self.fail(f"{value!r} is out of range; {allowed}", param, ctx)
            widths.extend(range(first, last + 1))
        return sorted(set(widths))


@main.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path())
@click.option("--bits", type=Widths(), default="8", show_default=True, help="8, 4,6,8 or 4-8.")
@click.option(
    "--metric",
    type=click.Choice([m.value for m in Metric]),
    default="relative",
    show_default=True,
    help="What a format is judged by.",
)
@click.option(
    "--scale",
    type=click.Choice([s.value for s in Scale]),
    default="power_of_two",
    show_default=True,
    help="Factor on each tensor before rounding; none: the bias is chosen instead.",
)
@click.option(
    "--specials",
    type=click.Choice(list(SPECIALS)),
    default="none",
    show_default=True,
    help="Special codes of the candidates; none: every code a number.",
)
@click.option("--subnormals/--no-subnormals", default=True, show_default=True)
@click.option("--sparsity", type=float, help="Also find the pruning threshold for this sparsity.")
@click.option(
    "--basis",
    type=click.Choice([b.value for b in Basis]),
    default="auto",
    show_default=True,
    help="What decides: the lognormal fit, the data's own sketch, or the fit where it is good.",
)
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="One row per width and tensor, as CSV.")
@html_option
def recommend(
    files: tuple[str, ...],
    bits: list[int],
    metric: str,
    scale: str,
    specials: str,
    subnormals: bool,
    sparsity: float | None,
    basis: str,
    as_json: bool,
    as_csv: bool,
    html: Writer | None,
) -> None:
    """Which format should these tensors have?

    FILE is .npy (memory-mapped), .npz (each array a tensor) or .safetensors. Without one, the
    embedded sample answers: real neural gradients of a small convolutional network.

    \b
    Examples:
      fpsim recommend
      fpsim recommend gradients.npz --bits 4-8 --sparsity 0.85
      fpsim recommend weights.npy --bits 8 --metric sqnr --specials fn --json
      fpsim recommend weights.npy --html report.html
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    with bad_input():
        tensors: Mapping[str, Any] = TensorFiles(files) if files else sample_gradients()
        elements = tensors.sizes() if isinstance(tensors, TensorFiles) else 0
        with _progress(elements * (1 + 2 * len(bits))) as progress:
            answers = fpsim.recommend(
                tensors,
                bits,
                metric=metric,
                scale=scale,
                specials=specials,
                subnormals=subnormals,
                sparsity=sparsity,
                basis=basis,
                progress=progress,
            )
    if as_json:
        click.echo(json.dumps(_strict(_as_data(answers)), indent=2, allow_nan=False))
    elif as_csv:
        click.echo(_as_csv(answers), nl=False)
    else:
        source = "the embedded sample of neural gradients" if not files else "the data"
        _print_recommendation(answers, source)
    if html is not None:
        html(answers, files)


@contextmanager
def _progress(work: int) -> Iterator[Callable[[int], object] | None]:
    """A progress bar on stderr, where somebody is looking and the work is long."""
    if work < _LONG_WORK or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("reading and emulating"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=work)
        yield lambda done: bar.advance(task, done)


def _strict(data: Any) -> Any:
    """`data` with null for what JSON cannot say: NaN and infinities."""
    if isinstance(data, dict):
        return {key: _strict(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_strict(value) for value in data]
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


def _candidate_data(candidate: Candidate) -> dict[str, Any]:
    return {"format": format_data(candidate.format), **candidate_row(candidate)}


def _tensor_data(r: Recommendation) -> dict[str, Any]:
    pruning = r.pruning
    return {
        **data_row(r),
        "ks_alternatives": dict(r.fit.alternatives),
        "candidates": [_candidate_data(c) for c in r.candidates],
        "pruning": None
        if pruning is None
        else {**pruning_row(pruning), "basis": str(pruning.basis)},
        "notes": list(r.notes),
    }


def _as_data(answers: dict[int, SetRecommendation]) -> dict[str, Any]:
    first = next(iter(answers.values()))
    metric = next(iter(first.tensors.values())).metric
    return {
        "fpsim": fpsim.__version__,
        "metric": str(metric),
        "skipped": dict(first.skipped),
        "widths": [
            {
                "bits": bits,
                "shared": {
                    "by_worst": format_data(answer.by_worst.format),
                    "by_mean": format_data(answer.by_mean.format),
                    "formats": [
                        {
                            "format": format_data(shared.format),
                            "worst_regret": shared.worst,
                            "mean_regret": shared.mean,
                            "scales": dict(shared.scales),
                        }
                        for shared in answer.shared
                    ],
                },
                "tensors": {name: _tensor_data(r) for name, r in answer.tensors.items()},
            }
            for bits, answer in answers.items()
        ],
    }


def _as_csv(answers: dict[int, SetRecommendation]) -> str:
    stream = io.StringIO()
    rows = [row for answer in answers.values() for row in tensor_rows(answer)]
    writer = csv.DictWriter(stream, rows[0])
    writer.writeheader()
    writer.writerows({**row, "tensor": printable(row["tensor"])} for row in rows)
    return stream.getvalue()


def _short(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.4g}"


def _power(scale: float) -> str:
    exponent = math.log2(scale)
    return f"2^{exponent:.0f}" if exponent.is_integer() else f"{scale:.5g}"


def _table(title: str, *columns: str) -> Table:
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


_KS_STYLE = {"good": "green", "usable": "yellow", "poor": "red"}
_SHORT_NAMES = {
    "folded_normal": "normal",
    "laplace": "Laplace",
    "logistic": "logistic",
    "cauchy": "Cauchy",
    "log_laplace": "log-Laplace",
}


def _print_recommendation(answers: dict[int, SetRecommendation], source: str) -> None:
    console = _console()
    first = next(iter(answers.values()))
    table = _table(
        f"Magnitudes of {source}: lognormal fit, and Kolmogorov-Smirnov distance D",
        *("tensor", "count", "zeros", "not finite", "μ (ln)", "σ (ln)", "σ (log2)", "D"),
        "D of the best alternative",
    )
    for name, r in first.tensors.items():
        fit, sketch = r.fit, r.sketch
        style = _KS_STYLE.get(fit.quality, "")
        rival, distance = min(fit.alternatives.items(), key=lambda item: item[1], default=("", 0))
        table.add_row(
            Text(printable(name)),
            f"{sketch.size:,}",
            f"{sketch.zeros:,}",
            f"{sketch.nans + sketch.infinities:,}",
            f"{fit.mu:.3f}",
            f"{fit.sigma:.3f}",
            f"{fit.sigma_log2:.2f}",
            Text(f"{fit.ks:.3f}", style=style),
            f"{distance:.3f} {_SHORT_NAMES.get(rival, rival)}" if rival else "–",
        )
    console.print(table)
    for bits, answer in answers.items():
        _print_width(console, bits, answer)
    for name, reason in first.skipped.items():
        console.print(Text(f"skipped {printable(name)}: {reason}", style="yellow"))


def _print_width(console: Console, bits: int, answer: SetRecommendation) -> None:
    some = next(iter(answer.tensors.values()))
    pruned = some.pruning is not None
    table = _table(
        f"{bits} bits, by {some.metric.words}",
        *("tensor", "best", "scale", "bias*", "closed form", "fit", "sketch", "measured"),
        *("flushed", "clipped", "decided by", "runner-up"),
        *(("threshold", "sparsity") if pruned else ()),
    )
    for name, r in answer.tensors.items():
        best, second = r.best, r.runner_up
        row: list[str | Text] = [
            Text(printable(name)),
            Text(str(best.format), style="bold"),
            _power(best.scale),
            f"{best.bias:g}",
            _short(best.closed_form),
            _short(best.fit),
            _short(best.sketch),
            _short(best.measured),
            f"{best.underflow:.2%}",
            f"{best.overflow:.2%}",
            str(r.basis),
            f"{second.format} {_short(second.measured)}" if second else "–",
        ]
        if r.pruning is not None:
            row += [_short(r.pruning.threshold), f"{r.pruning.actual:.4f}"]
        table.add_row(*row)
    console.print(table)
    for name, r in answer.tensors.items():
        for note in r.notes:
            if r.basis is Basis.sketch and note.startswith("decided by"):
                continue  # the column says so
            console.print(Text(f"  {printable(name)}: {note}", style="dim"))
    if len(answer.tensors) > 1:
        worst, mean = answer.by_worst, answer.by_mean
        line = Text("One format for all: ")
        line.append(str(worst.format), style="bold green")
        line.append(f" (regret {_regret(some, worst.worst)} at worst, ")
        line.append(f"{_regret(some, worst.mean)} on average)")
        if mean.format != worst.format:
            line.append("; least on average: ")
            line.append(str(mean.format), style="bold")
            line.append(f" ({_regret(some, mean.worst)} at worst, {_regret(some, mean.mean)})")
        console.print(line)
        others = [
            f"{s.format} {_regret(some, s.worst)} / {_regret(some, s.mean)}"
            for s in answer.shared[1:5]
        ]
        if others:
            console.print(Text("Others, worst / mean regret: " + ", ".join(others), style="dim"))
    if some.best.scale != 1:
        console.print(
            Text("* the bias that makes the scale unnecessary; scale multiplies x", style="dim")
        )


def _regret(r: Recommendation, regret: float) -> str:
    if r.metric is Metric.sqnr:
        return f"{regret:.2f} dB"
    return f"{regret:.1%}" if math.isfinite(regret) else "infinite"


# inspect, formats -----------------------------------------------------------------------------


@main.command()
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
    console = _console()
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


@main.command()
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
    console = _console()
    table = _table("Named formats", "name", "family", "bits", "exponent", "mantissa", "bias")
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


# certify --------------------------------------------------------------------------------------


@main.command()
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
        with _progress(work) as progress:
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
        console = _console()
        table = _table(f"{fmt}: every float32", "operation", "rounding", "overflow")
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
