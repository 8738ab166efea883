"""Methods for gradients beside copying memory, on 2**24 float32 values.

    python benchmarks/gradients.py
    python benchmarks/gradients.py --quick         # small arrays: does it work? Times mean nothing
    python benchmarks/gradients.py --markdown

Copies and methods take turns. Both write to new memory, and a copy runs on fpsim's threads or on
one, whichever is faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from casts import Operation, beside_copies, environment, numbers, show
from numpy.typing import NDArray

import fpsim

Array = NDArray[Any]

ROWS: list[tuple[str, Callable[[Array], object]]] = [
    ("prune, threshold", lambda x: fpsim.prune(x, 4.0, rng=1)),
    ("prune, sparsity of its own sketch", lambda x: fpsim.prune(x, sparsity=0.85, rng=1)),
    ("prune, deterministic", lambda x: fpsim.prune(x, 4.0, method="deterministic")),
    ("dither, step", lambda x: fpsim.dither(x, 8.0, rng=1)),
    ("dither, standard deviations", lambda x: fpsim.dither(x, scale=0.5, rng=1)),
    ("dither_encode, 32 bits", lambda x: fpsim.dither_encode(x, 8.0, rng=1, bits=32)),
    ("luq, 3 exponent bits", lambda x: fpsim.luq(x, 3, rng=1)),
    ("luq, 2 samples", lambda x: fpsim.luq(x, 3, samples=2, rng=1)),
    ("luq_encode", lambda x: fpsim.luq_encode(x, 3, rng=1)),
    ("nm_sparsify 1:2", lambda x: fpsim.nm_sparsify(x, 1, 2, rng=1)),
    ("nm_sparsify 2:4", lambda x: fpsim.nm_sparsify(x, 2, 4, rng=1)),
    ("nm_sparsify 4:8", lambda x: fpsim.nm_sparsify(x, 4, 8, rng=1)),
    (
        "nm_sparsify 2:4, approximate",
        lambda x: fpsim.nm_sparsify(x, 2, 4, rng=1, method="approximate"),
    ),
    ("nm_sparsify 2:4, top", lambda x: fpsim.nm_sparsify(x, 2, 4, method="top")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    size, repeats = (1 << 14, 1) if arguments.quick else (1 << 24, 7)
    print(environment())
    x = numbers(size, np.dtype(np.float32))
    copied = x.copy()
    rows = []
    for name, call in ROWS:
        found = beside_copies(
            Operation(name, lambda x, _, call=call: call(x), new=True), x, copied, repeats
        )
        rows.append(
            [
                name,
                f"{size / found.operation.median / 1e9:.3f}",
                f"{found.share(lambda t: t.median):.3f}",
                f"{found.share(lambda t: t.best):.3f}",
            ]
        )
    columns = ["method", "10⁹ elements/s", "of copying (medians)", "of copying (best)"]
    show(f"{size} float32 elements", columns, rows, arguments.markdown)


if __name__ == "__main__":
    main()
