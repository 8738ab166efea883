"""Draw the pictures that docs/plots.md and docs/report.md show.

    python docs/pictures.py docs/images [NAME ...]

Takes a minute. Needs the extras ``report`` and ``notebook``; the picture of the report also needs
``browser`` and Chromium, and is left as it is without them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

import fpsim
from fpsim import Accumulator, Lognormal, plot
from fpsim.analysis.recommend import splits

GRADIENTS = fpsim.sample_gradients()
ONE = GRADIENTS["step119/conv5"]


def coverage() -> Axes:
    best = fpsim.recommend(ONE, 6)
    return plot.coverage(ONE, best.format, scale=best.scale, fit=best.fit)


def lost() -> Axes:
    return plot.coverage(ONE, "e4m3fn", scale=2.0**17)


def accumulation() -> Axes:
    a, b = np.abs(fpsim.round(np.random.default_rng(0).normal(size=(2, 64, 4096)), "e4m3fn"))
    return plot.accumulation(
        a,
        b,
        {
            "binary16": Accumulator("binary16"),
            "binary16 in blocks of 64": Accumulator("binary16", order="blocked", block=64),
            "binary16, stochastic": Accumulator("binary16", rounding=fpsim.Stochastic()),
            "H100, 8-bit operands": Accumulator.preset("nvidia-h100", "float8_e4m3fn"),
        },
    )


def pareto() -> Axes:
    fit = Lognormal.fit(ONE)
    every = [fmt for bits in range(3, 10) for fmt in splits(bits)]
    rows = [
        {"format": str(fmt), "bits": fmt.bits, "error": fit.best_scale(fmt)[1]} for fmt in every
    ]
    return plot.pareto(rows)


PICTURES: dict[str, Callable[[], Axes]] = {
    "number-line": lambda: plot.number_line("float4_e2m1fn"),
    "number-lines": lambda: plot.number_line(["e4m3fn", "e5m2", "binary8p3se"], log=True),
    "step-function": lambda: plot.step_function("e2m1f", overflow="saturate"),
    "step-function-stochastic": lambda: plot.step_function(
        "e2m1", overflow="infinity", rounding="stochastic"
    ),
    "cast-error": lambda: plot.cast_error("e2m1f", overflow="saturate"),
    "relative-error": lambda: plot.relative_error("e4m3fn"),
    "relative-errors": lambda: plot.relative_error(["e4m3fn", "e5m2", "binary16", "bfloat16"]),
    "coverage": coverage,
    "coverage-lost": lost,
    "fits": lambda: plot.fits(ONE),
    "sparsity": lambda: plot.sparsity(ONE, target=0.85),
    "error-by-sigma": lambda: plot.error_by_sigma(6, at=Lognormal.fit(ONE)),
    "candidates": lambda: plot.candidates(fpsim.recommend(ONE, 6)),
    "accumulation": accumulation,
    "pareto": pareto,
}


def draw_panel(path: Path) -> None:
    """What `fpsim.explore` draws below its sliders."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is no notebook
        panel = fpsim.explore(ONE, 6)
    path.write_bytes(panel.picture.value)


def draw_report(path: Path) -> None:
    """The first screen of a report, on a desk and on a phone."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("the picture of the report needs the extra browser; left as it is")
        return
    from fpsim import report

    late = {name: x for name, x in GRADIENTS.items() if name.startswith("step119")}
    answers = fpsim.recommend(late, [6, 8])
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page = Path(folder, "report.html")
        command = "fpsim recommend gradients.npz --bits 6,8 --html report.html"
        report.write(page, answers, source="gradients.npz", command=command)
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, width, height in ((path.name, 1100, 1500), ("report-phone.png", 390, 1400)):
            shown = browser.new_page(viewport={"width": width, "height": height})
            shown.goto(page.as_uri())
            shown.screenshot(path=path.with_name(name))
        browser.close()


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    for name, draw in PICTURES.items():
        if not wanted or name in wanted:
            path = folder / f"plot-{name}.png"
            draw().figure.savefig(path, dpi=110, metadata={"Software": None})
    if not wanted or "explore" in wanted:
        draw_panel(folder / "explore.png")
    if not wanted or "report" in wanted:
        draw_report(folder / "report.png")


if __name__ == "__main__":
    main()
