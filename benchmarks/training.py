"""Train a small residual network through low-precision neural gradients: do the methods hold?

    python benchmarks/training.py                       # all rows, seeds 0, 1, 2: hours
    python benchmarks/training.py --rows 'fp6*' --seeds 0
    python benchmarks/training.py --report              # table and plots of what is finished

A row of the table is a method that the gradients at the outputs of all convolutions pass through;
a run is a row with a seed. Every finished run is one CSV in the folder of results and is not run
again; one that was stopped goes on from its last epoch. With the same seed all rows start from the
same weights and see the same batches.

PyTorch (the CPU build will do) and fpsim's extra ``torch`` are needed, for ``--report`` also
``plot``. The data are Fashion-MNIST's four gzipped IDX files; Debian packages them
(``apt-get install dataset-fashion-mnist``) in the folder that is the default of ``--data``.
"""

# PyTorch leaves some of its methods without types.
# mypy: allow-untyped-calls

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from capture_gradients import DEBIAN_PACKAGE, Dataset, load_data
from distributions import ALTERNATIVES
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor, nn
from training_rows import Row, rows

import fpsim
import fpsim.torch
from fpsim.torch import GradientRecord, NeuralGradients

EPOCHS = 5
BATCH = 128
LEARNING_RATE = 0.1  # at its peak
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
RECORDS = 4  # in an epoch, of every layer
LAYERS = ("conv", "blocks.*.conv?", "blocks.*.shortcut.0")
RESULTS = Path(__file__).parent.parent / "docs" / "training"


# The network --------------------------------------------------------------------------------------


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            narrow = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(narrow, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps of half the size where the stride is 2."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """Nine convolutions, of 16 to 64 channels on maps of 14x14 to 4x4, and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


@torch.no_grad()
def accuracy(model: nn.Module, data: Dataset) -> float:
    """Share of correctly classified images."""
    model.eval()
    guesses = torch.cat([model(images).argmax(dim=1) for images in data.images.split(1000)])
    model.train()
    return (guesses == data.labels).float().mean().item()


# A run --------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A row with a seed, on its way."""

    row: Row
    seed: int
    train: Dataset
    test: Dataset
    epochs: int

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.model = ResidualNet().to(memory_format=torch.channels_last)  # faster on a CPU
        self.optimiser = torch.optim.SGD(
            self.model.parameters(),
            lr=LEARNING_RATE,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        self.batches = len(self.train.labels) // BATCH
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, LEARNING_RATE, total_steps=self.epochs * self.batches, pct_start=0.25
        )
        self.order = torch.Generator().manual_seed(self.seed)
        self.gradients = NeuralGradients(
            self.model,
            self.row.transform,
            LAYERS,
            seed=self.seed,
            every=max(self.batches // RECORDS, 1),
            nonfinite="skip",
        )
        self.recent: list[GradientRecord] = []
        self.lines: list[dict[str, Any]] = []

    def epoch(self) -> None:
        """One pass over the training set, and its lines."""
        if self.row.target is not None:
            self.divide(self.row.target)
        start, total = time.perf_counter(), 0.0
        order = torch.randperm(len(self.train.labels), generator=self.order)
        for chosen in order[: self.batches * BATCH].split(BATCH):
            loss = F.cross_entropy(self.model(self.train.images[chosen]), self.train.labels[chosen])
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.schedule.step()
            total += loss.item()
        done = self.lines[-1]["epoch"] if self.lines else 0
        common = {
            "row": self.row.name,
            "seed": self.seed,
            "epoch": done + 1,
            "training_loss": total / self.batches,
            "test_accuracy": accuracy(self.model, self.test),
            "seconds": time.perf_counter() - start,
        }
        records, self.gradients.records = self.gradients.records, []
        self.recent = records
        self.lines += [common | line for line in summaries(records)]

    def divide(self, target: float) -> None:
        """Divide a sparsity among the layers by fits of their last gradients."""
        records = self.recent if self.lines else self.first_gradients()
        fits = {record.layer: record.fit for record in records if record.fit is not None}
        for name, layer in fpsim.allocate_sparsity(fits, target).layers.items():
            self.gradients.transform(name).sparsity = layer.sparsity

    def first_gradients(self) -> list[GradientRecord]:
        """Of the untrained network."""
        model = ResidualNet()
        model.load_state_dict(self.model.state_dict())
        with NeuralGradients(model, None, LAYERS, every=1) as gradients:
            logits = model(self.train.images[:BATCH])
            F.cross_entropy(logits, self.train.labels[:BATCH]).backward()
        return gradients.records

    def checkpoint(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.order.get_state(),
            "gradients": self.gradients.state_dict(),
            "recent": self.recent,
            "lines": self.lines,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.order.set_state(state["order"])
        self.gradients.load_state_dict(state["gradients"])
        self.recent, self.lines = state["recent"], state["lines"]

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return bool(self.lines) and self.lines[-1]["epoch"] == self.epochs


def summaries(records: Sequence[GradientRecord]) -> Iterator[dict[str, Any]]:
    """For every layer, and for all together, the averages over an epoch, weighted by size."""
    layers = dict.fromkeys(record.layer for record in records)
    for layer in (*layers, "all"):
        chosen = [r for r in records if layer in (r.layer, "all")]
        weights = [r.size for r in chosen]
        figures = [figures_of(r) for r in chosen]
        line: dict[str, Any] = {"layer": layer, "size": sum(weights) // RECORDS}
        for name in figures[0]:
            values = (f[name] * weight for f, weight in zip(figures, weights, strict=True))
            line[name] = sum(values) / sum(weights)
        line["nonfinite"] = sum(r.nonfinite for r in chosen)
        yield line


def figures_of(record: GradientRecord) -> dict[str, float]:
    """The figures that are averaged; NaN where the gradient was all zeros."""
    fit, error = record.fit, record.error
    found = {name: getattr(fit, name, math.nan) for name in ("mu", "sigma", "ks")}
    found["zeros"] = getattr(fit, "zero_fraction", 1.0)
    found["sparsity"] = record.sparsity
    for name in ("underflow", "overflow", "relative", "nmse", "cosine", "bias"):
        found[name] = getattr(error, name, math.nan)
    alternatives = {} if fit is None else fit.alternatives
    return found | {f"ks_{name}": alternatives.get(name, math.nan) for name in ALTERNATIVES}


def run(name: str, seed: int, data: Path, results: Path, epochs: int = EPOCHS) -> str:
    """Start or continue a run, finish it, and say how it went."""
    torch.set_num_threads(1)
    fpsim.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    (row,) = [row for row in rows() if row.name == name]
    this = Run(row, seed, *datasets(data), epochs)
    unfinished = results / "unfinished" / f"{name}-seed{seed}.pt"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    if unfinished.exists():
        this.restore(torch.load(unfinished, weights_only=False))  # which this script wrote
    while not this.finished:
        this.epoch()
        partly = unfinished.with_suffix(".part")
        torch.save(this.checkpoint(), partly)
        partly.replace(unfinished)
    lines = [line for line in this.lines if line["layer"] == "all" or row.transform is None]
    write(finished(results, name, seed), lines)
    unfinished.unlink()
    last = lines[-1]
    return f"{name}, seed {seed}: {last['test_accuracy']:.2%}, sparsity {last['sparsity']:.1%}"


datasets = cache(load_data)


def finished(results: Path, name: str, seed: int) -> Path:
    """Where a run goes."""
    return results / "runs" / f"{name}-seed{seed}.csv"


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a CSV that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partly = path.with_suffix(".part")
    with partly.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        for line in lines:
            short = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in line.items()}
            writer.writerow(short)
    partly.replace(path)


# The command line ---------------------------------------------------------------------------------


def parse_args() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        metavar="DIR",
        help=f"Fashion-MNIST's four .gz files (default: where Debian's {DEBIAN_PACKAGE} puts them)",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument(
        "--rows", nargs="+", default=["*"], metavar="PATTERN", help="names with * and ?"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--list", action="store_true", help="name the rows and what is finished")
    parser.add_argument(
        "--report",
        action="store_true",
        help="write the tables into docs/training.md, and the plots",
    )
    args = parser.parse_args()
    names = [row.name for row in rows()]
    for pattern in args.rows:
        if not any(fnmatchcase(name, pattern) for name in names):
            parser.error(f"--rows {pattern} matches none of {', '.join(names)}")
    if args.jobs < 1 or min(args.seeds) < 0:
        parser.error("--jobs must be at least 1 and --seeds not negative")
    return args


def main() -> None:
    """Do the runs that are not finished, all rows with one seed before the next."""
    args = parse_args()
    names = [
        row.name for row in rows() if any(fnmatchcase(row.name, pattern) for pattern in args.rows)
    ]
    if args.list:
        for name in names:
            done = [s for s in args.seeds if finished(args.results, name, s).exists()]
            print(f"{name:24} finished with seeds {done}" if done else name)
        return
    if args.report:
        from training_report import report

        try:
            report(args.results, args.results.parent / "training.md")
        except (OSError, ValueError) as error:
            sys.exit(f"error: {error}")
        return
    todo = [
        (name, seed)
        for seed in args.seeds
        for name in names
        if not finished(args.results, name, seed).exists()
    ]
    try:
        load_data(args.data)  # says what is missing before processes are started
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    spawned = multiprocessing.get_context("spawn")  # OpenMP does not survive a fork
    with (
        Progress("{task.description}", *columns) as progress,
        ProcessPoolExecutor(args.jobs, mp_context=spawned) as pool,
    ):
        task = progress.add_task("runs", total=len(todo))
        futures = {pool.submit(run, *each, args.data, args.results): each for each in todo}
        failed = 0
        for future in as_completed(futures):
            error = future.exception()
            name, seed = futures[future]
            progress.console.print(
                future.result() if error is None else f"{name}, seed {seed}, failed: {error!r}"
            )
            failed += error is not None
            progress.advance(task)
    if failed:
        sys.exit(f"error: {failed} of {len(todo)} runs failed")


if __name__ == "__main__":
    main()
