"""How long a new process takes to its first cast, beside Numba and a trivial cached function.

    python benchmarks/startup.py               # about two minutes
    python benchmarks/startup.py --runs 3      # fewer runs per median

Every run is a new process. It imports something, does something, and says when it was done:

import numba, import fpsim  the import alone.
trivial function            ``@njit(cache=True)`` that adds one to a float32 array, called once.
fpsim.round                 called once on the same array, to float8_e4m3fn.

Cold runs start with an empty folder for Numba's cache, warm ones find what a cold one left there.
Two times are taken: from the start of the process to the result, and to the end of the process,
when Numba and LLVM have been taken down. The cases take turns; medians are shown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from casts import environment, show

# The clock is the system's: what a process reads can be compared with what this one reads.
REPORT = "\nimport time; print(time.monotonic())\n"

TRIVIAL_MODULE = '''
"""A function as trivial as they come."""
from numba import njit


@njit(cache=True)
def add_one(x, out):
    for i in range(x.size):
        out[i] = x[i] + 1
'''
TRIVIAL = """
import numpy as np
from trivial import add_one
x = np.linspace(-1, 1, 1000, dtype=np.float32)
out = np.empty_like(x)
add_one(x, out)
assert out[0] == 0
"""
CAST = """
import numpy as np
import fpsim
x = np.linspace(-1, 1, 1000, dtype=np.float32)
out = np.empty_like(x)
fpsim.round(x, "float8_e4m3fn", out=out)
assert out[0] == -1
"""


class Case(NamedTuple):
    """A program, and whether it finds a filled cache (None: it needs none)."""

    name: str
    program: str
    warm: bool | None


CASES = (
    Case("Python alone", "", None),
    Case("import numpy", "import numpy", None),
    Case("import numba", "import numba", None),
    Case("import fpsim", "import fpsim", None),
    Case("trivial function, cold", TRIVIAL, False),
    Case("trivial function, warm", TRIVIAL, True),
    Case("fpsim.round, cold", CAST, False),
    Case("fpsim.round, warm", CAST, True),
)


def run(program: str, cache: Path, modules: Path) -> tuple[float, float]:
    """Seconds from the start of a new process to its result, and to its end."""
    path = os.pathsep.join([str(modules), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = dict(os.environ)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    environ |= {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": path}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program + REPORT],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ended = time.monotonic()
    return float(done.stdout) - started, ended - started


def measure(runs: int) -> dict[str, tuple[float, float]]:
    """Medians of both times, by case."""
    seconds: dict[str, list[tuple[float, float]]] = {case.name: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        modules = Path(folder, "modules")
        modules.mkdir()
        (modules / "trivial.py").write_text(TRIVIAL_MODULE)
        for turn in range(runs + 1):
            for case in CASES:
                # A warm case finds what the cold case before it left in this turn.
                cache = Path(folder, f"cache{turn}", case.name.partition(",")[0])
                cache.mkdir(parents=True, exist_ok=True)
                taken = run(case.program, cache, modules)
                if turn:  # the first turn fills the disk's cache and writes bytecode
                    seconds[case.name].append(taken)
    return {
        name: (median(result for result, _ in taken), median(end for _, end in taken))
        for name, taken in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Run it on an idle machine; the first lines of the file say what is measured.",
    )
    parser.add_argument("--runs", type=int, help="runs per median (default: 9; 1 if quick)")
    parser.add_argument("--quick", action="store_true", help="one run; times mean little")
    parser.add_argument("--markdown", action="store_true", help="a table to paste in documents")
    args = parser.parse_args()
    runs = args.runs or (1 if args.quick else 9)
    if runs < 1:
        parser.error("--runs must be at least 1")

    print(environment())
    found = measure(runs)
    rows = [[name, f"{result:.3f}", f"{end:.3f}"] for name, (result, end) in found.items()]
    for kind in ("cold", "warm"):
        ours, theirs = found[f"fpsim.round, {kind}"], found[f"trivial function, {kind}"]
        ratios = [f"{a / b:.2f}" for a, b in zip(ours, theirs, strict=True)]
        rows.append([f"fpsim.round / trivial function, {kind}", *ratios])
    show(
        f"Seconds from the start of a process, medians of {runs}",
        ["", "to the result", "to its end"],
        rows,
        args.markdown,
    )


if __name__ == "__main__":
    main()
