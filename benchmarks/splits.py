"""The best exponent/mantissa split of N bits for lognormal data, by sigma, under several rules.

    python benchmarks/splits.py --out docs/splits.md --picture docs/images/splits.png

Writes the thresholds, in standard deviations of log2 of the data, at which one more exponent bit
becomes better; the regret of each rule against the exact optimum; and a plot. Takes about two
minutes. Needs the extra ``plot``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy

from fpsim import Format, Lognormal
from fpsim.analysis.error import best_scale, closed_form_error

WIDTHS = range(3, 9)
LN2 = float(np.log(2.0))
SIGMAS = np.geomspace(0.1, 25, 320)

# find_opt_exp_bits of the reference implementation of "Neural gradients are near-lognormal"
# (arXiv 2006.08173): E = 1 below the first number, one more from each on.
REFERENCE: dict[int, list[float]] = {
    3: [0.7],
    4: [0.5, 1.2],
    5: [0.2, 1.0, 2.4],
    6: [0.3, 0.9, 2.0, 4.9],
    7: [0.3, 0.7, 1.7, 4.0, 9.4],
    8: [0.1, 0.6, 1.4, 3.7, 8.1, 19.3],
}

Loss = Callable[[float, int, int], float]  # of sigma (log2), exponent bits, mantissa bits


def finite(exponent_bits: int, mantissa_bits: int, subnormals: bool) -> Format:
    return Format(
        exponent_bits, mantissa_bits, infinities=False, nans="none", subnormals=subnormals
    )


def closed_form(constant: str) -> Loss:
    def loss(s: float, e: int, m: int) -> float:
        return float(closed_form_error(s, e, m, 0.0, constant))

    return loss


def exact(subnormals: bool, metric: str) -> Loss:
    def loss(s: float, e: int, m: int) -> float:
        fmt = finite(e, m, subnormals)
        return best_scale(Lognormal(0.0, s * LN2), fmt, metric, kind="continuous")[1]

    return loss


RULES: dict[str, tuple[Loss, str]] = {
    "closed form": (closed_form("simple"), "closed form, in-range error 1/(8 ln2 2^M), centred"),
    "closed form, exact constant": (
        closed_form("exact"),
        "closed form with the exact in-range error, centred",
    ),
    "exact": (exact(True, "relative"), "exact sum, subnormals, best scale"),
    "exact, no subnormals": (exact(False, "relative"), "exact sum, no subnormals, best scale"),
    "NMSE": (exact(True, "nmse"), "exact NMSE, subnormals, its own best scale"),
}


def thresholds(loss: Loss, bits: int) -> list[float]:
    """Where E + 1 exponent bits get better than E, for E = 1 to bits - 3."""
    found = []
    for e in range(1, bits - 1):
        m = bits - 1 - e

        def gain(log_s: float, e: int = e, m: int = m) -> float:
            s = float(np.exp(log_s))
            # Losses span many decades where all rounds to nothing: compare their logarithms.
            return float(np.log(loss(s, e, m)) - np.log(loss(s, e + 1, m - 1)))

        if m - 1 < 0:
            break
        grid = np.log(np.geomspace(0.15, 25, 60))
        gains = [gain(x) for x in grid]
        crossing = next(i for i in range(len(grid) - 1) if gains[i] < 0 <= gains[i + 1])
        root = scipy.optimize.brentq(gain, grid[crossing], grid[crossing + 1], xtol=1e-5)
        found.append(float(np.exp(root)))
    return found


def regrets(table: dict[str, dict[int, list[float]]]) -> dict[str, dict[int, tuple[float, float]]]:
    """By rule and width: (largest loss over the best there is, less 1; sigma where)."""
    loss = RULES["exact"][0]
    result: dict[str, dict[int, tuple[float, float]]] = {rule: {} for rule in table}
    for bits in WIDTHS:
        errors = np.array([[loss(s, e, bits - 1 - e) for e in range(1, bits)] for s in SIGMAS])
        best = errors.min(axis=1)
        for rule, by_bits in table.items():
            chosen = np.searchsorted(by_bits[bits], SIGMAS, side="right")
            over = errors[np.arange(len(SIGMAS)), chosen] / best - 1
            worst = int(over.argmax())
            result[rule][bits] = float(over[worst]), float(SIGMAS[worst])
    return result


def picture(table: dict[str, dict[int, list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Okabe-Ito, safe for colour-blind readers.
    colours = ["#E69F00", "#56B4E9", "#000000", "#009E73", "#CC79A7", "#D55E00"]
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True, constrained_layout=True)
    for axis, bits in zip(axes.flat, WIDTHS, strict=True):
        for (rule, by_bits), colour in zip(table.items(), colours, strict=True):
            steps = by_bits[bits]
            x = [0.1, *np.repeat(steps, 2), 25]
            y = np.repeat(np.arange(1, len(steps) + 2), 2)
            wide = 2.4 if rule == "exact" else 1.3
            axis.plot(x, y, color=colour, lw=wide, label=rule)
        axis.set_xscale("log")
        axis.set_yticks(range(1, bits), [f"e{e}m{bits - 1 - e}" for e in range(1, bits)])
        axis.set_title(f"{bits} bits")
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("σ of log2 |x| (binades)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    figure.suptitle("Best exponent/mantissa split of N bits for lognormal data")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def page(table: dict[str, dict[int, list[float]]], image: str) -> str:
    lost = regrets(table)
    lines = [
        "# Which split of N bits, by the spread of the data",
        "",
        "For lognormal magnitudes the best number of exponent bits depends on one number, the",
        "standard deviation s of log2 |x|, in binades (`Lognormal.sigma_log2`). The tables give,",
        "for formats in which every code is a number, the s from which one more exponent bit is",
        "better: with 6 bits and the exact rule, `e1m4` below the first number, `e2m3` from there",
        "to the second, and so on.",
        "",
        f"![Best split by sigma]({image})",
        "",
        "The rules:",
        "",
        *(f"- **{rule}**: {text}" for rule, (_, text) in RULES.items()),
        "- **reference**: the thresholds that the reference implementation of",
        "  [arXiv 2006.08173](https://arxiv.org/abs/2006.08173) ships.",
        "",
        "## Thresholds",
        "",
        "| bits | rule | " + " | ".join(f"e{e} to e{e + 1}" for e in range(1, 7)) + " |",
        "|-" * 8 + "|",
    ]
    for bits in WIDTHS:
        for rule, by_bits in table.items():
            cells = [f"{s:.2f}" if rule != "reference" else f"{s:g}" for s in by_bits[bits]]
            cells += [""] * (6 - len(cells))
            lines.append(f"| {bits} | {rule} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## What a rule costs",
        "",
        "The largest regret over s from 0.1 to 25: the mean relative error of the split that the",
        "rule picks over that of the best split, less 1, both with subnormals, by the exact sum,",
        "each at its own best scale; and the s where it happens.",
        "",
        "| bits | " + " | ".join(lost) + " |",
        "|-" * (len(lost) + 1) + "|",
    ]
    for bits in WIDTHS:
        cells = [f"{lost[rule][bits][0]:.0%} at {lost[rule][bits][1]:.2f}" for rule in lost]
        lines.append(f"| {bits} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Every other rule asks for one more exponent bit sooner than the exact sum for formats",
        "with subnormals does: the closed forms because their formats have none, the NMSE because",
        "it is about the largest elements. `fpsim.recommend` uses the exact sums.",
        "",
        "Made by `python benchmarks/splits.py --out docs/splits.md --picture "
        "docs/images/splits.png`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the page to write")
    parser.add_argument("--picture", type=Path, required=True, help="the plot to write")
    arguments = parser.parse_args()
    table = {
        rule: {bits: thresholds(loss, bits) for bits in WIDTHS} for rule, (loss, _) in RULES.items()
    }
    table["reference"] = REFERENCE
    picture(table, arguments.picture)
    image = arguments.picture.relative_to(arguments.out.parent)
    arguments.out.write_text(page(table, str(image)))


if __name__ == "__main__":
    main()
