"""Tables and plots of the runs that training.py has finished; it is called by its ``--report``."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from distributions import ALTERNATIVES, cells, head
from training_rows import Row, rows

Line = dict[str, str]
GROUPS = {
    "baseline": "Baseline",
    "formats": "Formats, scale by the relative error under the lognormal fit",
    "scale": "Formats, other scales",
    "pruning": "Stochastic pruning",
    "dither": "Dithered backprop",
    "luq": "LUQ",
    "n:m": "N:M sparsity",
    "combined": "Combinations",
}


def report(results: Path, page: Path) -> None:
    """Write the plots, and the tables into the page between their marks."""
    finished = {row.name: load(results, row) for row in rows()}
    base = finished["float32"]
    if not base:
        raise ValueError(f"{results}: the row float32, to compare with, is not finished")
    parts = {f"table {group}": table(group, finished) for group in GROUPS if group != "baseline"}
    parts["baseline"] = baseline(base)
    parts["distributions"] = distributions(base)
    text = page.read_text()
    for name, part in parts.items():
        marks = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marks.search(text):
            raise ValueError(f"{page} has no place for {name!r}: <!-- {name} --> … <!-- end -->")
        text = marks.sub(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)
    page.write_text(text)
    for group in GROUPS:
        if group != "baseline":
            plot(group, finished, results / f"{group.replace(':', '-')}.svg")


def load(results: Path, row: Row) -> dict[int, list[Line]]:
    """Lines of the finished runs of a row by seed."""
    found = {}
    for path in sorted((results / "runs").glob(f"{row.name}-seed*.csv")):
        seed = path.stem.rpartition("-seed")[2]
        with path.open(newline="") as stream:
            found[int(seed)] = list(csv.DictReader(stream))
    return found


def accuracies(runs: dict[int, list[Line]]) -> dict[int, float]:
    """Test accuracy after the last epoch, in percent, by seed."""
    return {seed: 100 * float(lines[-1]["test_accuracy"]) for seed, lines in runs.items()}


def average(runs: dict[int, list[Line]], figure: str) -> float:
    """Over all epochs and seeds."""
    return fmean(
        float(line[figure]) for lines in runs.values() for line in lines if line["layer"] == "all"
    )


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard deviation."""
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):{sign}.2f}{deviation}"


def baseline(runs: dict[int, list[Line]]) -> str:
    """One sentence."""
    found = list(accuracies(runs).values())
    return f"In float32: **{spread(found)} %** test accuracy over {len(found)} seeds."


def table(group: str, finished: dict[str, dict[int, list[Line]]]) -> str:
    """A group's rows in Markdown."""
    out = [
        "| neural gradients | test accuracy, % | less the baseline's | seeds | zeros, % | "
        "relative error | NMSE | bias, % |",
        "|-|-|-|-|-|-|-|-|",
    ]
    base = accuracies(finished["float32"])
    for row in rows():
        if row.group != group:
            continue
        runs = finished[row.name]
        if not runs:
            out.append(f"| {row.says} | not run | | | | | | |")
            continue
        found = accuracies(runs)
        paired = [found[seed] - base[seed] for seed in found if seed in base]
        figures = [average(runs, name) for name in ("relative", "nmse", "bias")]
        relative, nmse, bias = ("–" if math.isnan(f) else f"{f:.3f}" for f in figures)
        bias = bias if math.isnan(figures[2]) else f"{100 * figures[2]:.1f}"
        out.append(
            f"| {row.says} | {spread(list(found.values()))} | {spread(paired, '+')} | "
            f"{len(found)} | {100 * average(runs, 'sparsity'):.1f} | {relative} | {nmse} | {bias} |"
        )
    return "\n".join(out)


def distributions(runs: dict[int, list[Line]]) -> str:
    """Spread and distances of the gradients of the baseline, layer by layer, in Markdown."""
    by_place: dict[tuple[str, int], list[Line]] = {}
    for lines in runs.values():
        for line in lines:
            if line["layer"] != "all":
                by_place.setdefault((line["layer"], int(line["epoch"])), []).append(line)
    out = [head("layer", "epoch")]
    order = list(dict.fromkeys(layer for layer, _ in by_place))[::-1]  # as the network has them
    for layer, epoch in sorted(by_place, key=lambda place: (order.index(place[0]), place[1])):
        lines = by_place[layer, epoch]
        figures = {
            name: fmean(float(line[name]) for line in lines)
            for name in ("sigma", "ks", *(f"ks_{name}" for name in ALTERNATIVES))
        }
        alternatives = {name: figures[f"ks_{name}"] for name in ALTERNATIVES}
        row = cells(figures["sigma"], figures["ks"], alternatives)
        out.append(f"| `{layer}` | {epoch} | {row} |")
    return "\n".join(out)


def plot(group: str, finished: dict[str, dict[int, list[Line]]], path: Path) -> None:
    """Accuracies of a group's rows beside the baseline's spread."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = group  # the same figure gives the same file
    chosen = [row for row in rows() if row.group == group and finished[row.name]]
    base = list(accuracies(finished["float32"]).values())
    figure = Figure(figsize=(8, 0.9 + 0.28 * len(chosen)), layout="constrained")
    axes = figure.subplots()
    low, high = min(base), max(base)
    axes.axvspan(low, high, color="0.85", label="float32, from least to most")
    for i, row in enumerate(chosen):
        values = list(accuracies(finished[row.name]).values())
        axes.plot(values, [i] * len(values), "o", color="C0", alpha=0.5, markersize=4)
        axes.plot(fmean(values), i, "|", color="C0", markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(chosen)), [row.says for row in chosen])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy, %")
    axes.grid(axis="x", alpha=0.4)
    axes.legend(loc="lower left", fontsize="small")
    figure.savefig(path, metadata={"Date": None})
