"""Which distribution the magnitudes in files follow: distances of six fits, as a Markdown table.

    python benchmarks/distributions.py model.safetensors
    python benchmarks/distributions.py --least 1000 gradients.npz

The distance is Kolmogorov and Smirnov's, the largest difference of the cumulative distributions,
between the nonzero magnitudes and each distribution fitted to them (see `fpsim.Lognormal`).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import fpsim
from fpsim.files import TensorFiles

ALTERNATIVES = {
    "folded_normal": "normal",
    "laplace": "Laplace",
    "logistic": "logistic",
    "cauchy": "Cauchy",
    "log_laplace": "log-Laplace",
}
HEAD = ("spread s, binades", "lognormal", *ALTERNATIVES.values())


def cells(sigma: float, ks: float, alternatives: Mapping[str, float]) -> str:
    """The spread and the distances, the least of them in bold."""
    distances = [ks, *(alternatives.get(name, math.nan) for name in ALTERNATIVES)]
    shown = [f"**{d:.3f}**" if d == min(distances) else f"{d:.3f}" for d in distances]
    return f"{sigma / math.log(2):.2f} | {' | '.join(shown)}"


def head(*first: str) -> str:
    """The first two lines of a table."""
    names = (*first, *HEAD)
    return f"| {' | '.join(names)} |\n|{'-|' * len(names)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, help=".npy, .npz or .safetensors")
    parser.add_argument("--least", type=int, default=10_000, metavar="N", help="elements")
    args = parser.parse_args()
    try:
        tensors = TensorFiles(args.files)
        print(head("tensor", "elements"))
        for name in tensors:
            sketch = fpsim.Sketch.of(tensors[name])
            if sketch.nonzero >= args.least:
                fit = fpsim.Lognormal.fit(sketch)
                row = cells(fit.sigma, fit.ks, fit.alternatives)
                print(f"| `{name}` | {sketch.size:,} | {row} |")
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
