"""benchmarks/training.py in small: it learns, goes on where it stopped, and reports."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not there: pip install 'fpsim[torch]'")

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the folder benchmarks is not here", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import training  # noqa: E402
import training_report  # noqa: E402
from capture_gradients import Dataset  # noqa: E402
from training_rows import Row, rows  # noqa: E402

ROWS = {row.name: row for row in rows()}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch's threads wait for each other by spinning, which is slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(count: int, seed: int) -> Dataset:
    """Ten patterns under much noise."""
    patterns = np.random.default_rng(0).normal(size=(10, 1, 28, 28))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    pixels = 0.4 * patterns[labels] + rng.normal(size=(count, 1, 28, 28))
    return Dataset(torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(labels))


def small_run(row: Row, seed: int = 0, epochs: int = 6) -> training.Run:
    return training.Run(row, seed, images(512, 1), images(500, 2), epochs)


@pytest.mark.parametrize("name", ["float32", "luq4"])
def test_it_learns(name: str) -> None:
    run = small_run(ROWS[name])
    while not run.finished:
        run.epoch()
    assert run.lines[-1]["test_accuracy"] > 0.4  # by chance 0.1
    assert run.lines[-1]["training_loss"] < 1.0 < run.lines[0]["training_loss"]
    assert len(run.gradients.layers) == 9


@pytest.mark.parametrize("name", ["e4m1f", "prune-85-divided"])
def test_a_stopped_run_goes_on(name: str, tmp_path: Path) -> None:
    whole, first, second = (small_run(ROWS[name], epochs=3) for _ in range(3))
    while not whole.finished:
        whole.epoch()
    first.epoch()
    torch.save(first.checkpoint(), tmp_path / "checkpoint.pt")
    second.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=False))
    while not second.finished:
        second.epoch()
    for mine, theirs in zip(second.lines, whole.lines, strict=True):
        for name, value in theirs.items():
            same = mine[name] == value or (math.isnan(mine[name]) and math.isnan(value))
            assert same or name == "seconds"


def test_rows_start_alike_and_differ() -> None:
    one, other = small_run(ROWS["float32"]), small_run(ROWS["e3m0f"])
    weights = [
        torch.cat([p.detach().flatten() for p in run.model.parameters()]) for run in (one, other)
    ]
    assert torch.equal(*weights)
    one.epoch()
    other.epoch()
    assert one.lines[-1]["training_loss"] != other.lines[-1]["training_loss"]
    assert one.lines[-1]["nmse"] == 0 < other.lines[-1]["nmse"]


def test_every_row_makes_a_step() -> None:
    """And its sparsity is the one that it is named after."""
    data = images(128, 1), images(10, 2)
    wanted = {"prune-70": 0.7, "prune-95": 0.95, "cut-85": 0.85, "mvue-1-2": 0.5, "top-2-4": 0.5}
    wanted |= {f"prune-{percent}-divided": percent / 100 for percent in (70, 80, 85, 90, 95)}
    assert len(ROWS) == len(rows())  # names are unique
    for name, row in ROWS.items():
        run = training.Run(row, 0, *data, epochs=1)
        run.epoch()
        line = run.lines[-1]
        assert math.isfinite(line["training_loss"]), name
        if name in wanted:
            assert line["sparsity"] == pytest.approx(wanted[name], abs=0.02), name


def test_results_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not there: pip install 'fpsim[plot]'")
    monkeypatch.setattr(training, "datasets", lambda path: (images(512, 1), images(100, 2)))
    threads = training.fpsim.get_num_threads()
    results = tmp_path / "training"
    page = tmp_path / "training.md"
    places = ["baseline", "distributions", *(f"table {g}" for g in training_report.GROUPS)]
    page.write_text("Before\n" + "".join(f"<!-- {p} -->\nold\n<!-- end -->\n" for p in places))
    try:
        for name, seed in [("float32", 0), ("float32", 1), ("e4m1f", 0)]:
            said = training.run(name, seed, tmp_path, results, epochs=2)
            assert said.startswith(f"{name}, seed {seed}: ")
    finally:
        torch.use_deterministic_algorithms(False)
        training.fpsim.set_num_threads(threads)
    assert not list((results / "unfinished").iterdir())
    with (results / "runs" / "e4m1f-seed0.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["epoch"] for line in lines] == ["1", "2"]
    training_report.report(results, page)
    text = page.read_text()
    assert "1-4-1, lognormal scale" in text
    assert "over 2 seeds" in text
    assert "`blocks.0.conv1` | 2 |" in text
    assert text.count("not run") == len(ROWS) - 2
    assert text.startswith("Before\n")
    assert (results / "formats.svg").read_text().startswith("<?xml")


def test_report_adds_up(tmp_path: Path) -> None:
    """Means, deviations and paired differences of figures that are known."""

    def lines(accuracy: float) -> list[dict[str, Any]]:
        figures = dict.fromkeys(("sparsity", "relative", "nmse", "bias"), "0.5")
        return [
            {"layer": "all", "test_accuracy": "0.1"} | figures,
            {"layer": "all", "test_accuracy": str(accuracy)} | figures,
        ]

    finished = {name: {} for name in ROWS} | {
        "float32": {0: lines(0.9), 1: lines(0.91), 2: lines(0.92)},
        "e4m1f": {0: lines(0.89), 1: lines(0.91), 2: lines(0.93)},
    }
    text = training_report.table("formats", finished)
    (line,) = [line for line in text.splitlines() if line.startswith("| 1-4-1, lognormal")]
    cells = ["1-4-1, lognormal scale", "91.00 ± 2.00", "+0.00 ± 1.00", "3", "50.0", "0.500"]
    assert line == f"| {' | '.join(cells)} | 0.500 | 50.0 |"
