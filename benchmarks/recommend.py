"""How long `fpsim.recommend` takes: a large tensor, its sketch, and the embedded sample.

    python benchmarks/recommend.py             # 10**7 elements; about a minute
    python benchmarks/recommend.py --quick     # 10**5 elements: does it work?
    python benchmarks/recommend.py --profile   # also where the Python code spends its time

The tensor holds lognormal float32 magnitudes of random sign, as neural gradients have them
(mean of log2|x| -20, standard deviation 3 binades). Everything is warm: each thing is done once
before it is timed. The stages are those of one recommendation at 8 bits; the sketch also takes
turns with copying the array, on one thread and on all, and is compared with the faster copy.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
from collections.abc import Callable

import numpy as np
from casts import Times, copy, environment, show, times

import fpsim
from fpsim.analysis.measure import measured_summary
from fpsim.files import sample_gradients

BITS = 8
SAMPLE_BITS = range(4, 9)


def tensor(size: int) -> np.ndarray:
    """Lognormal magnitudes of random sign."""
    rng = np.random.default_rng(0)
    x = np.exp2(rng.normal(-20.0, 3.0, size).astype(np.float32))
    np.negative(x, out=x, where=rng.random(size, np.float32) < 0.5)
    return x


def stages(x: np.ndarray) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    sketch = fpsim.Sketch.of(x)
    best = fpsim.recommend(sketch, BITS).best
    sample = sample_gradients()
    copied = np.empty_like(x)
    return {
        f"recommend, {BITS} bits": lambda: fpsim.recommend(x, BITS),
        "- Sketch.of": lambda: fpsim.Sketch.of(x),
        "- Lognormal.fit of the sketch": lambda: fpsim.Lognormal.fit(sketch),
        "- recommend from the sketch (fit and candidates)": lambda: fpsim.recommend(sketch, BITS),
        "- emulation of one candidate (of two)": lambda: measured_summary(
            x, best.format, best.scale, overflow="saturate"
        ),
        "copy of the tensor, one thread": lambda: np.copyto(copied, x),
        "copy of the tensor, all threads": lambda: copy(x, copied),
        f"recommend, embedded sample ({len(sample)} tensors), "
        f"{SAMPLE_BITS[0]}-{SAMPLE_BITS[-1]} bits": lambda: fpsim.recommend(sample, SAMPLE_BITS),
        f"recommend, embedded sample, {BITS} bits": lambda: fpsim.recommend(sample, BITS),
    }


def profile(work: Callable[[], object]) -> None:
    """Print where the calling thread spends its time."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(15)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Run it on an idle machine; the first lines of the file say what is measured.",
    )
    parser.add_argument("--size", type=int, help="elements (default: 10**7; 10**5 if quick)")
    parser.add_argument("--repeats", type=int, help="turns per median (default: 7; 2 if quick)")
    parser.add_argument("--quick", action="store_true", help="small; times mean nothing")
    parser.add_argument("--profile", action="store_true", help="also profile, without threads")
    parser.add_argument("--markdown", action="store_true", help="a table to paste in documents")
    args = parser.parse_args()
    size = args.size or (10**5 if args.quick else 10**7)
    repeats = args.repeats or (2 if args.quick else 7)
    if min(size, repeats) < 1:
        parser.error("--size and --repeats must be at least 1")

    print(environment())
    x = tensor(size)
    works = stages(x)
    found = dict(zip(works, times(list(works.values()), repeats), strict=True))
    copies = [taken for name, taken in found.items() if name.startswith("copy")]
    fastest = Times(min(c.median for c in copies), min(c.best for c in copies))
    show(
        f"{size} float32; medians and best of {repeats} turns",
        ["", "seconds, median", "seconds, best", "times as long as a copy"],
        [
            [
                name,
                f"{taken.median:.4f}",
                f"{taken.best:.4f}",
                "" if "sample" in name else f"{taken.median / fastest.median:.1f}",
            ]
            for name, taken in found.items()
        ],
        args.markdown,
    )
    print(f"The answer: {fpsim.recommend(x, BITS).best}")
    if args.profile:
        fpsim.set_num_threads(1)
        for name, work in works.items():
            if name.startswith("recommend"):
                print(f"\n{name}, one thread")
                profile(work)


if __name__ == "__main__":
    main()
