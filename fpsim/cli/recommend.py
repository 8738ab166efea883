"""``fpsim recommend``. Imports the public names, analysis and files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
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
from fpsim.cli.report import Writer, html_option
from fpsim.cli.terminal import (
    bad_input,
    format_data,
    output,
    progress_bar,
    short,
    strict,
    titled_table,
)
from fpsim.files import TensorFiles, sample_gradients
from fpsim.reprs import printable


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


@click.command()
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
        with progress_bar(elements * (1 + 2 * len(bits))) as progress:
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
        click.echo(json.dumps(strict(_as_data(answers)), indent=2, allow_nan=False))
    elif as_csv:
        click.echo(_as_csv(answers), nl=False)
    else:
        source = "the embedded sample of neural gradients" if not files else "the data"
        _print_recommendation(answers, source)
    if html is not None:
        html(answers, files)


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


def _power(scale: float) -> str:
    exponent = math.log2(scale)
    return f"2^{exponent:.0f}" if exponent.is_integer() else f"{scale:.5g}"


_KS_STYLE = {"good": "green", "usable": "yellow", "poor": "red"}
_SHORT_NAMES = {
    "folded_normal": "normal",
    "laplace": "Laplace",
    "logistic": "logistic",
    "cauchy": "Cauchy",
    "log_laplace": "log-Laplace",
}


def _print_recommendation(answers: dict[int, SetRecommendation], source: str) -> None:
    console = output()
    first = next(iter(answers.values()))
    table = titled_table(
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
    table = titled_table(
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
            short(best.closed_form),
            short(best.fit),
            short(best.sketch),
            short(best.measured),
            f"{best.underflow:.2%}",
            f"{best.overflow:.2%}",
            str(r.basis),
            f"{second.format} {short(second.measured)}" if second else "–",
        ]
        if r.pruning is not None:
            row += [short(r.pruning.threshold), f"{r.pruning.actual:.4f}"]
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
