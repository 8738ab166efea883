"""How many bits a dot product keeps, by depth: table and picture.

python benchmarks/dot_bits.py
python benchmarks/dot_bits.py --picture docs/images/dot-bits.png     # needs matplotlib
python benchmarks/dot_bits.py --quick
"""

from __future__ import annotations

import argparse

import numpy as np

import fpsim
from fpsim import Accumulator

DOTS = 256
BINARY16 = Accumulator("binary16")
ACCUMULATORS: list[tuple[str, str, Accumulator]] = [
    ("binary32, every step rounded", "float8_e4m3fn", Accumulator("binary32")),
    ("H100, binary16 operands", "binary16", Accumulator.preset("nvidia-h100", "float16")),
    ("CDNA 3, binary16 operands", "binary16", Accumulator.preset("amd-cdna3", "float16")),
    ("V100, binary16 operands", "binary16", Accumulator.preset("nvidia-v100", "float16")),
    ("H100, E4M3 operands", "float8_e4m3fn", Accumulator.preset("nvidia-h100", "float8_e4m3fn")),
    ("binary16, every step rounded", "float8_e4m3fn", BINARY16),
    (
        "binary16, blocks of 64",
        "float8_e4m3fn",
        Accumulator("binary16", order="blocked", block=64),
    ),
    (
        "binary16, stochastic",
        "float8_e4m3fn",
        Accumulator("binary16", rounding=fpsim.Stochastic(16)),
    ),
]


def bits_kept(operands: str, accumulator: Accumulator, depth: int, positive: bool) -> float:
    """Median of -log2(|error| / sum |a b|); exact results count as 30."""
    x = np.random.default_rng(depth).standard_normal((2, DOTS, depth)).astype(np.float32)
    a, b = fpsim.round(np.abs(x) if positive else x, operands)
    found = fpsim.dot_error(a, b, accumulator, rng=depth)
    return float(-np.log2(np.maximum(np.median(found.error / found.magnitude), 2.0**-30)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--picture", metavar="FILE")
    arguments = parser.parse_args()
    depths = [2**k for k in range(2, 6 if arguments.quick else 15, 2)]
    table = {
        positive: {
            name: [bits_kept(operands, unit, depth, positive) for depth in depths]
            for name, operands, unit in ACCUMULATORS
        }
        for positive in (False, True)
    }
    for positive, rows in table.items():
        print(f"\nbits kept, {'positive terms' if positive else 'terms of both signs'}")
        print(f"{'depth':32}", *(f"{depth:6}" for depth in depths))
        for name, row in rows.items():
            print(f"{name:32}", *(f"{bits:6.1f}" for bits in row))
    if arguments.picture:
        draw(arguments.picture, depths, table)


def draw(path: str, depths: list[int], table: dict[bool, dict[str, list[float]]]) -> None:
    from matplotlib.figure import Figure

    # Okabe and Ito's colours, which the colour-blind tell apart.
    hues = ("000000", "E69F00", "56B4E9", "009E73", "D55E00", "0072B2", "CC79A7", "999999")
    colours = [f"#{hue}" for hue in hues]
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (positive, rows) in zip(axes, table.items(), strict=True):
        for (name, row), colour, marker in zip(rows.items(), colours, "osD^vPX*", strict=True):
            ax.plot(depths, row, color=colour, marker=marker, markersize=5, label=name)
        ax.set_xscale("log", base=2)
        ax.set_xlabel("terms of a dot product")
        ax.set_title("terms of one sign" if positive else "terms of both signs")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("bits kept: −log₂(|error| / Σ|aᵢbᵢ|), median")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=9)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
