"""Matrix products that round every step, beside NumPy's and beside plain loops.

    python benchmarks/matmul.py
    python benchmarks/matmul.py --quick        # small matrices: does it work? Times mean nothing
    python benchmarks/matmul.py --markdown

10⁹ multiply-adds a second of 512 × 512 × 512, for several operands and accumulators, and memory
taken beside operands and result as the inner dimension grows.
"""

from __future__ import annotations

import argparse
import tracemalloc
from typing import Any

import numpy as np
from arithmetic import seconds
from casts import environment, show

import fpsim
from fpsim import Accumulator, Stochastic

CASES: list[tuple[str, str, Any]] = [
    ("fused", "float8_e4m3fn", Accumulator("binary16")),
    ("fused, toward zero", "float8_e4m3fn", Accumulator("binary16", "toward_zero")),
    ("8 random bits", "float8_e4m3fn", Accumulator("binary16", Stochastic(8))),
    ("products rounded", "float8_e4m3fn", Accumulator("binary16", product="binary16")),
    ("blocks of 64", "float8_e4m3fn", Accumulator("binary16", order="blocked", block=64)),
    ("pairwise", "float8_e4m3fn", Accumulator("binary16", order="pairwise")),
    ("Kahan", "float8_e4m3fn", Accumulator("binary16", order="kahan")),
    ("fused", "binary16", Accumulator("binary16")),
    ("fused", "bfloat16", Accumulator("binary32")),
    ("fused, 8 random bits", "bfloat16", Accumulator("bfloat16", Stochastic(8))),
    ("exact", "float8_e4m3fn", Accumulator("binary16", order="exact")),
    ("nvidia-v100", "float16", Accumulator.preset("nvidia-v100", "float16")),
    ("nvidia-a100", "bfloat16", Accumulator.preset("nvidia-a100", "bfloat16")),
    ("nvidia-h100", "float16", Accumulator.preset("nvidia-h100", "float16")),
    ("nvidia-h100", "float8_e4m3fn", Accumulator.preset("nvidia-h100", "float8_e4m3fn")),
]


def matrix(fmt: str, rows: int, columns: int) -> np.ndarray:
    numbers = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)
    return fpsim.round(numbers, fmt, overflow="saturate")


def speeds(size: int, turns: int) -> list[list[str]]:
    rows = []
    for name, fmt, accumulator in CASES:
        a, b = matrix(fmt, size, size), matrix(fmt, size, size)
        (spent,) = seconds(
            lambda a=a, b=b, accumulator=accumulator: fpsim.matmul(a, b, accumulator, rng=1),
            turns=turns,
        )
        rows.append([name, fmt, str(accumulator.fmt), f"{size**3 / spent / 1e9:.3f}"])
    a, b = matrix("binary32", size, size), matrix("binary32", size, size)
    (spent,) = seconds(lambda: a @ b, turns=turns)
    rows.append(["numpy.matmul (BLAS)", "binary32", "binary32", f"{size**3 / spent / 1e9:.3f}"])
    few = max(size // 64, 1)

    def loop() -> None:
        total = np.zeros((size, size), np.float32)
        for k in range(few):
            total = (total + a[:, k, None] * b[None, k]).astype(np.float16).astype(np.float32)

    (spent,) = seconds(loop, turns=turns)
    speed = f"{size * size * few / spent / 1e9:.3f}"
    rows.append(["a loop of NumPy, rounding thrice", "binary32", "binary16", speed])
    return rows


def memory(size: int) -> list[list[str]]:
    rows = []
    for depth in (size, 16 * size):
        a, b = matrix("float8_e4m3fn", size, depth), matrix("float8_e4m3fn", depth, size)
        row = [str(depth)]
        for accumulator in (CASES[0][2], CASES[5][2], CASES[-1][2]):
            fpsim.matmul(a, b, accumulator)
            tracemalloc.start()
            result = fpsim.matmul(a, b, accumulator)
            peak = tracemalloc.get_traced_memory()[1] - result.nbytes
            tracemalloc.stop()
            row.append(f"{peak / 2**20:.2f}")
        rows.append(row)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small; times mean nothing")
    parser.add_argument("--markdown", action="store_true", help="tables to paste in documents")
    arguments = parser.parse_args()
    size, turns = (64, 2) if arguments.quick else (512, 5)
    print(environment())
    show(
        f"10⁹ multiply-adds a second, {size} × {size} × {size}",
        ["sums", "operands", "accumulator", "10⁹/s"],
        speeds(size, turns),
        arguments.markdown,
    )
    show(
        f"MiB beside operands and result, {size} × depth × {size}",
        ["depth", "fused", "pairwise", "nvidia-h100, fp8"],
        memory(size),
        arguments.markdown,
    )


if __name__ == "__main__":
    main()
