"""fpsim's casts beside copying memory, and beside NumPy, ml_dtypes, gfloat, apytypes and pychop.

    python benchmarks/casts.py                 # everything; some minutes
    python benchmarks/casts.py --quick         # small arrays: does it work? Times mean nothing
    python benchmarks/casts.py --only peers --markdown

Four parts:

copying     Every mode of `fpsim.round`, `encode`, `decode`, stochastic rounding and casting in
            place, on float32 and float64 arrays of 2**24 elements, against copying the same array.
            Copies and casts take turns. A copy is `numpy.copyto` on one thread or on fpsim's
            threads, whichever is faster; both sides write to memory that is already there, unless
            a row says that its output is new.
peers       Casts to nearest even by other libraries, each by its own API on one array, against
            `fpsim.encode` where it gives codes and `fpsim.round` where it gives values; and how
            many of the probes each gets wrong by `fpsim.spec`, which is exact: values of the
            format, midpoints between them and the neighbours of both in the source's dtype, zeros,
            subnormals, random bit patterns and random numbers in the format's range. Only what
            stays in range is counted. What lies past the range is shown as it comes out, for
            libraries have their own rules there.
memory      What one call takes beside its input and output, in a fresh process each.
signatures  How many compilations of each kernel served every catalogued format and mode.

Peers that are missing are reported as such: ``pip install 'fpsim[benchmark]'`` gets them all
(pychop also runs without the dependencies that it declares).
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

import fpsim
from fpsim import Format, Rounding, Stochastic, kernels, spec
from fpsim.threads import over_chunks

Array = NDArray[Any]

PARTS = ("copying", "peers", "memory", "signatures")
FORMATS = (
    "float8_e4m3fn",
    "float8_e5m2",
    "float4_e2m1fn",
    "bfloat16",
    "binary16",
    "float8_e8m0fnu",
)
SOURCES = (np.dtype(np.float32), np.dtype(np.float64))
PACKAGES = ("numpy", "numba", "ml_dtypes", "gfloat", "apytypes", "pychop")
_WIDTH = 400  # columns that a table may take where it does not go to a terminal
_SEED = 20060817


# Measuring and showing, for the other scripts too ---------------------------------------------


class Times(NamedTuple):
    """Seconds."""

    median: float
    best: float


def times(works: Sequence[Callable[[], object]], repeats: int) -> list[Times]:
    """Time functions in turns (first, second, …, first, …), after one round that does not count."""
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, taken in zip(works, seconds, strict=True):
            started = time.perf_counter()
            work()
            if turn:
                taken.append(time.perf_counter() - started)
    return [Times(median(taken), min(taken)) for taken in seconds]


def show(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False
) -> None:
    """Print a table: for a terminal, plain where it is piped, or in Markdown."""
    console = Console(highlight=False)
    if markdown or not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(f"\n### {title}\n" if markdown else f"\n{title}", markup=False)
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        left = i == 0 or all(row[i][:1].isalpha() for row in rows)
        table.add_column(column, justify="left" if left else "right", no_wrap=markdown)
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)


def environment() -> str:
    """What was measured, and on what."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    parts = [
        f"fpsim {fpsim.__version__} on {fpsim.get_num_threads()} threads",
        f"Python {platform.python_version()}",
        *(f"{name} {installed(name)}" for name in PACKAGES),
        f"{processor}, {platform.system()}",
    ]
    return ", ".join(parts)


def installed(package: str) -> str:
    """Its version, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def copy(source: Array, target: Array) -> None:
    """Copy on all of fpsim's threads."""
    over_chunks(source.size, lambda i, j: np.copyto(target[i:j], source[i:j]))


def numbers(size: int, dtype: np.dtype[Any], signed: bool = True) -> Array:
    """Magnitudes whose log2 is normal: a few below the normal range of FP8, a few past it."""
    rng = np.random.default_rng(_SEED)
    x = np.exp2(rng.normal(0.0, 4.0, size).astype(dtype))
    if signed:
        np.negative(x, out=x, where=rng.random(size, np.float32) < 0.5)
    return x


# Against copying ------------------------------------------------------------------------------


class Operation(NamedTuple):
    """One row: `run(x, copied)`, where `copied` is a fresh copy of x that may be written to."""

    name: str
    run: Callable[[Array, Array], object]
    new: bool = False  # whether its output is new memory: then so is the copy's


def operations(fmt: Format, x: Array) -> Iterator[Operation]:
    """What is compared with copying `x`."""
    out = np.empty_like(x)
    codes = fpsim.encode(x, fmt)
    specials = x.copy()
    specials[:: 1 << 10] = np.inf if fmt.nan_code is None else np.nan
    flags = np.zeros(x.shape, np.uint8)
    eight = Stochastic(8)

    def rounding(mode: Rounding | Stochastic) -> Callable[[Array, Array], object]:
        rng = 1 if isinstance(mode, Stochastic) else None
        return lambda x, _: fpsim.round(x, fmt, rounding=mode, rng=rng, out=out)

    for mode in Rounding:
        yield Operation(f"round {mode}", rounding(mode))
    yield Operation("round at random, all bits", rounding(Stochastic()))
    yield Operation("round at random, 8 bits", rounding(eight))
    yield Operation("round in place", lambda _, copied: fpsim.round(copied, fmt, out=copied))
    yield Operation("round, 1 in 1024 special", lambda *_: fpsim.round(specials, fmt, out=out))
    yield Operation("round, new output", lambda x, _: fpsim.round(x, fmt), new=True)
    yield Operation("encode", lambda x, _: fpsim.encode(x, fmt, out=codes))
    yield Operation(
        "encode at random, 8 bits",
        lambda x, _: fpsim.encode(x, fmt, rounding=eight, rng=1, out=codes),
    )
    yield Operation("encode, new output", lambda x, _: fpsim.encode(x, fmt), new=True)
    yield Operation("decode, new output", lambda x, _: fpsim.decode(codes, fmt, x.dtype), new=True)
    yield Operation("round with flags", lambda x, _: fpsim.round(x, fmt, out=out, flags=flags))


class Shares(NamedTuple):
    """An operation beside the faster of two copies."""

    copies: tuple[Times, Times]  # on one thread, on all
    operation: Times

    def share(self, of: Callable[[Times], float]) -> float:
        """Of the copy's speed, by medians or by best times."""
        return min(map(of, self.copies)) / of(self.operation)


def beside_copies(operation: Operation, x: Array, copied: Array, repeats: int) -> Shares:
    """Time an operation and two kinds of copies in turns."""
    copies: tuple[Callable[[], object], Callable[[], object]]
    if operation.new:
        copies = x.copy, lambda: copy(x, np.empty_like(x))
    else:
        copies = lambda: np.copyto(copied, x), lambda: copy(x, copied)
    one, all_, cast = times((*copies, lambda: operation.run(x, copied)), repeats)
    return Shares((one, all_), cast)


def against_copying(size: int, repeats: int, markdown: bool) -> None:
    for dtype in SOURCES:
        measured: dict[str, dict[str, Shares]] = {}
        copies: dict[str, dict[str, list[float]]] = {}
        for name in FORMATS:
            fmt = Format.parse(name)
            x = numbers(size, dtype, fmt.signed)
            copied = x.copy()
            for operation in operations(fmt, x):
                found = beside_copies(operation, x, copied, repeats)
                measured.setdefault(operation.name, {})[name] = found
                for kind, taken in zip(("one thread", "all threads"), found.copies, strict=True):
                    row = f"(copy, {kind}{', new output' if operation.new else ''})"
                    copies.setdefault(row, {}).setdefault(name, []).append(taken.median)

        def cell(found: Shares) -> str:
            speed = size / found.operation.median / 1e9
            return f"{speed:.2f}  {found.share(_median):.2f}  {found.share(_best):.2f}"

        rows = [
            *([row, *(cell(cells[f]) for f in FORMATS)] for row, cells in measured.items()),
            *(
                [row, *(f"{size / median(cells[f]) / 1e9:.2f}" for f in FORMATS)]
                for row, cells in copies.items()
            ),
        ]
        show(
            f"{size} {dtype}: 10⁹ elements a second, then the share of the faster copy's speed "
            f"by medians and by best times ({repeats} turns)",
            ["operation", *FORMATS],
            rows,
            markdown,
        )
        print("Below 0.8 of copying, by medians:")
        for row, cells in measured.items():
            shares = {f: cells[f].share(_median) for f in FORMATS}
            below = [f"{f} {share:.2f}" for f, share in shares.items() if share < 0.8]
            if below:
                print(f"- {row}: {', '.join(below)}")


def _median(taken: Times) -> float:
    return taken.median


def _best(taken: Times) -> float:
    return taken.best


# Beside peers ---------------------------------------------------------------------------------


class Peer(NamedTuple):
    """A library's cast to a format."""

    name: str
    format: Format  # as the library has it
    codes: bool  # whether it gives codes, not values
    cast: Callable[[Array], Any]
    values: Callable[[Any], Array] = np.asarray  # from what it gives to float values


def _fpsim(name: str) -> Iterator[Peer]:
    fmt = Format.parse(name)
    yield Peer(
        "fpsim.encode",
        fmt,
        True,
        lambda x: fpsim.encode(x, fmt),
        lambda codes: fpsim.decode(codes, fmt, np.float64),
    )
    yield Peer("fpsim.round", fmt, False, lambda x: fpsim.round(x, fmt))


def _numpy(name: str) -> Iterator[Peer]:
    if name == "binary16":
        yield Peer("numpy astype", Format.parse(name), True, lambda x: x.astype(np.float16))


def _ml_dtypes(name: str) -> Iterator[Peer]:
    import ml_dtypes

    if hasattr(ml_dtypes, name):
        dtype = getattr(ml_dtypes, name)
        yield Peer(
            "ml_dtypes astype",
            Format.parse(name),
            True,
            lambda x: x.astype(dtype),
            lambda given: given.astype(np.float64),
        )


def _gfloat(name: str) -> Iterator[Peer]:
    import gfloat
    import gfloat.formats

    names = {
        "float8_e4m3fn": "ocp_e4m3",
        "float8_e5m2": "ocp_e5m2",
        "float4_e2m1fn": "ocp_e2m1",
    }
    info = getattr(gfloat.formats, f"format_info_{names.get(name, name)}")
    fmt = Format.parse(name)
    saturate = fmt.nan_code is None  # gfloat raises on overflow otherwise
    yield Peer(
        "gfloat.round_ndarray", fmt, False, lambda x: gfloat.round_ndarray(info, x, sat=saturate)
    )


def _ieee_like(name: str) -> Format:
    """The format of the same fields with IEEE 754's infinity and NaN."""
    fmt = Format.parse(name)
    return Format(fmt.exponent_bits, fmt.mantissa_bits)


def _apytypes(name: str) -> Iterator[Peer]:
    import apytypes

    fmt = _ieee_like(name)
    yield Peer(
        "APyFloatArray.from_array",
        fmt,
        True,
        lambda x: apytypes.APyFloatArray.from_array(x, fmt.exponent_bits, fmt.mantissa_bits),
        lambda given: given.to_numpy(),
    )


def _pychop(name: str) -> Iterator[Peer]:
    import pychop

    fmt = _ieee_like(name)
    yield Peer("pychop.Chop", fmt, False, pychop.Chop(fmt.exponent_bits, fmt.mantissa_bits))


PEERS = {
    "fpsim": _fpsim,
    "numpy": _numpy,
    "ml_dtypes": _ml_dtypes,
    "gfloat": _gfloat,
    "apytypes": _apytypes,
    "pychop": _pychop,
}


class Probes(NamedTuple):
    """Inputs, and for those in range what is due."""

    inside: Array
    due: NDArray[np.float64]
    past: Array  # finite, past the range


@cache
def probes(fmt: Format, dtype: np.dtype[Any], count: int) -> Probes:
    """Where casts go wrong, judged by the specification. `count`: how many codes at most."""
    rng = np.random.default_rng(_SEED)
    places = np.arange(fmt.max_code + 1)
    if places.size > count:  # the first and last binades, and codes by chance
        binade = min(1 << fmt.mantissa_bits, count // 8)
        ends = np.concatenate([places[: 2 * binade], places[-2 * binade :]])
        places = np.union1d(ends, rng.choice(places, count - ends.size, replace=False))
    low = np.array([float(spec.value_at(int(k), fmt)) for k in places])
    gap = np.array([float(spec.value_at(int(k) + 1, fmt)) for k in places]) - low
    points = np.concatenate([low, low + gap / 2])  # exact: binary64 has bits to spare
    near = [points.astype(t) for t in ((dtype, np.float32) if dtype == np.float64 else (dtype,))]
    width = np.dtype(f"uint{8 * dtype.itemsize}")
    info = np.finfo(dtype)
    lowest, highest = fmt.quantum_exponent - 2, fmt.emax + 1
    with np.errstate(over="ignore", under="ignore"):
        in_range = np.exp2(rng.uniform(lowest, highest, count)).astype(dtype)
        tiny = np.array([info.smallest_subnormal, info.smallest_normal, 0.0], dtype)
        small = rng.integers(1, 1 << info.nmant, 64, dtype=width).view(dtype)
        pattern = rng.integers(0, 1 << width.itemsize * 8, count, dtype=width).view(dtype)
        magnitudes = np.concatenate(
            [
                *near,
                *(np.nextafter(p, p.dtype.type(end)) for p in near for end in (0, np.inf)),
                *(tiny, np.nextafter(tiny, dtype.type(0)), small, in_range, np.abs(pattern)),
            ]
        ).astype(dtype)
    magnitudes = np.unique(magnitudes[np.isfinite(magnitudes)])
    x = np.concatenate([magnitudes, -magnitudes])
    inside, due = [], []
    for i, value in enumerate(x.tolist()):
        code, flags = spec.project(value, fmt)
        if not flags & fpsim.Flag.overflow:
            inside.append(i)
            due.append(_decoded(code, fmt))
    return Probes(x[inside], np.array(due), np.delete(x, inside))


@cache
def _decoded(code: int, fmt: Format) -> float:
    return float(spec.decode(code, fmt))


class Judgement(NamedTuple):
    wrong: str  # how many of how many
    example: str  # the first
    past: str  # what finite values past the range become


def judged(peer: Peer, dtype: np.dtype[Any], count: int) -> Judgement:
    """A peer's casts of the probes beside the specification's."""
    given = probes(peer.format, dtype, count)
    try:
        got = _values(peer, given.inside)
        wrong = np.flatnonzero(got.view(np.uint64) != given.due.view(np.uint64))
        zeros = int(np.sum((got[wrong] == 0) & (given.due[wrong] == 0)))
    except Exception as error:
        return Judgement(_said(error), "", "")
    text = f"{wrong.size} of {given.due.size}"
    if zeros:
        text += f" ({zeros}: sign of 0)"
    example = ""
    if wrong.size:
        # One that is off by more than a sign, and of those the one nearest 1.
        off = np.abs(np.log2(np.maximum(np.abs(given.inside[wrong].astype(float)), 1e-300)))
        k = wrong[np.argmin(off + 1e6 * (got[wrong] == given.due[wrong]))]
        example = f"{given.inside[k].item()!r} → {got[k]:.9g}, not {given.due[k]:.9g}"
    return Judgement(text, example, _outcomes(peer, given.past) if given.past.size else "none")


def _values(peer: Peer, x: Array) -> NDArray[np.float64]:
    return np.asarray(peer.values(peer.cast(x)), np.float64)


def _outcomes(peer: Peer, x: Array) -> str:
    """What `x` becomes, as magnitudes, the most frequent first."""
    try:
        got = _values(peer, x)
    except Exception as error:
        return type(error).__name__
    counts = Counter("NaN" if math.isnan(v) else f"{v:.6g}" for v in np.abs(got).tolist())
    text = ", ".join(value for value, _ in counts.most_common(3))
    signs = np.sum((np.signbit(got) != np.signbit(x)) & ~np.isnan(got))
    text += f" and {len(counts) - 3} more" if len(counts) > 3 else ""
    return text + (f" ({signs} with a wrong sign)" if signs else "")


def _said(error: Exception) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= 60 else text[:59] + "…"


def workable_size(cast: Callable[[Array], object], x: Array, seconds: float) -> int:
    """The largest power of two up to x.size that the cast does in about that time."""
    size = min(1 << 12, x.size)
    cast(x[:size])  # compiles, imports, fills caches
    while size < x.size:
        started = time.perf_counter()
        cast(x[:size])
        if time.perf_counter() - started > seconds / 2:
            break
        size *= 2
    return min(size, x.size)


def beside_peers(size: int, repeats: int, codes: int, seconds: float, markdown: bool) -> None:
    threads = fpsim.get_num_threads()
    rows, examples = [], []

    def on(count: int, work: Callable[[Array], object], x: Array) -> Callable[[], object]:
        def run() -> None:
            fpsim.set_num_threads(count)
            work(x)

        return run

    for name in FORMATS[:-1]:
        x = numbers(size, np.dtype(np.float32))
        encode, ours = _fpsim(name)
        for library, find in PEERS.items():
            try:
                found = list(find(name))
            except ImportError as error:
                missing = "not installed" if error.name == library else _said(error)
                rows.append([name, library, missing, *[""] * 8])
                continue
            except Exception as error:
                rows.append([name, library, _said(error), *[""] * 8])
                continue
            for peer in found:
                try:
                    part = x[: workable_size(peer.cast, x, seconds)]
                    base = (encode if peer.codes else ours).cast
                    works = (
                        on(threads, peer.cast, part),
                        on(1, base, part),
                        on(threads, base, part),
                    )
                    theirs, single, full = times(works, repeats)
                except Exception as error:
                    rows.append([name, peer.name, _said(error), *[""] * 8])
                    continue
                finally:
                    fpsim.set_num_threads(threads)
                judgements = {dtype: judged(peer, dtype, codes) for dtype in SOURCES}
                for dtype, judgement in judgements.items():
                    if judgement.example:
                        examples.append([peer.name, name, dtype.name, judgement.example])
                specials = (
                    _outcomes(peer, np.array(values, np.float32))
                    for values in ((np.inf, -np.inf), (np.nan,))
                )
                rows.append(
                    [
                        name,
                        peer.name,
                        "codes" if peer.codes else "values",
                        f"2^{math.log2(part.size):.3g}",
                        f"{part.size / theirs.median / 1e6:.0f}",
                        f"{theirs.median / single.median:.1f}",
                        f"{theirs.median / full.median:.1f}",
                        *(judgements[dtype].wrong for dtype in SOURCES),
                        f"{judgements[SOURCES[0]].past} / {' / '.join(specials)}",
                        str(peer.format),
                    ]
                )
    show(
        f"Round to nearest even from float32, and mismatches with the exact specification "
        f"(fpsim: 1 thread, {threads} threads; new output for all)",
        [
            "to",
            "by",
            "gives",
            "elements",
            "10⁶/s",
            "fpsim is faster by, 1 thread",
            f"{threads} threads",
            "wrong, from float32",
            "wrong, from float64",
            "past the range / ±∞ / NaN",
            "judged as",
        ],
        rows,
        markdown,
    )
    show("One mismatch each", ["by", "to", "from", "example"], examples, markdown)


# Memory ---------------------------------------------------------------------------------------

MEMORY: dict[str, Callable[[Array, Array, Array], object]] = {
    "round": lambda x, out, codes: fpsim.round(x, "float8_e4m3fn", out=out),
    "round in place": lambda x, out, codes: fpsim.round(x, "float8_e4m3fn", out=x),
    "round at random": lambda x, out, codes: fpsim.round(
        x, "float8_e4m3fn", rounding=Stochastic(), rng=1, out=out
    ),
    "encode": lambda x, out, codes: fpsim.encode(x, "float8_e4m3fn", out=codes),
    "round every second element": lambda x, out, codes: fpsim.round(
        x[::2], "float8_e4m3fn", out=out[: len(x[::2])]
    ),
    "numpy.copyto, for comparison": lambda x, out, codes: np.copyto(out, x),
    "numpy.multiply, new output": lambda x, out, codes: x * 2,
}


def memory_of(name: str, size: int) -> None:
    """Print the extra bytes of one call: of NumPy's arrays, and of the whole process."""
    work = MEMORY[name]
    x = numbers(size, np.dtype(np.float32))
    out, codes = np.ones_like(x), np.ones(size, np.uint8)
    work(x[: size // 2], out[: size // 2], codes[: size // 2])  # compiles, and starts the threads
    clear = Path("/proc/self/clear_refs")
    resident = -1
    if os.access(clear, os.W_OK):
        clear.write_text("5")  # sets VmHWM, the peak, to what is resident now
        before = _status("VmHWM")
        work(x, out, codes)
        resident = _status("VmHWM") - before
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    work(x, out, codes)
    _, peak = tracemalloc.get_traced_memory()
    print(peak - before, resident)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def memory(size: int, markdown: bool) -> None:
    rows = []
    for name in MEMORY:
        command = [sys.executable, __file__, "--memory-of", name, "--size", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            rows.append([name, (done.stderr.strip().splitlines() or ["failed"])[-1][:80], ""])
            continue
        extra, resident = (int(n) / 2**20 for n in done.stdout.split()[-2:])
        rows.append([name, f"{extra:.2f}", f"{resident:.2f}" if resident >= 0 else "unknown"])
    show(
        f"MiB beside input and output, one call on {size} float32 ({size * 4 / 2**20:.0f} MiB)",
        ["operation", "NumPy's arrays (tracemalloc)", "resident, peak (VmHWM)"],
        rows,
        markdown,
    )


# Signatures -----------------------------------------------------------------------------------


def signatures(markdown: bool) -> None:
    """Cast to every catalogued format in every mode, and count what was compiled for it."""
    original = kernels.compiled
    used: dict[tuple[str, str, str], Any] = {}

    def recorded(kernel: Any, source: Any, target: Any) -> Any:
        found = original(kernel, source, target)
        used[kernel.__name__, np.dtype(source).name, np.dtype(target).name] = found
        return found

    modes: list[Rounding | Stochastic] = [*Rounding]
    modes += (Stochastic(), *(Stochastic(8, variant) for variant in "ABC"))
    samples = [np.ones(1, dtype) for dtype in SOURCES]
    served = formats = 0
    kernels.compiled = recorded  # type: ignore[assignment]
    try:
        for fmt in fpsim.formats().values():
            try:
                fmt.require_binary64()
            except ValueError:
                continue  # leaves binary64
            formats += 1
            for x, mode in itertools.product(samples, modes):
                rng = 1 if isinstance(mode, Stochastic) else None
                codes = fpsim.encode(x, fmt, rounding=mode, rng=rng)
                fpsim.decode(codes, fmt)
                served += 2
                if Format.parse(x.dtype).contains(fmt):
                    fpsim.round(x, fmt, rounding=mode, rng=rng)
                    served += 1
    finally:
        kernels.compiled = original
    rows = [
        [name, source, target, str(len(kernel.signatures))]
        for (name, source, target), kernel in sorted(used.items())
    ]
    show(
        f"Compilations for {formats} formats in {len(modes)} modes, {served} combinations: "
        f"{sum(len(kernel.signatures) for kernel in used.values())}",
        ["kernel", "reads", "writes", "signatures"],
        rows,
        markdown,
    )
    print(f"fpsim.kernels.compiled in this process: {original.cache_info()}")


# Command line ---------------------------------------------------------------------------------


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Run it on an idle machine; the first lines of the file say what each part does.",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--size", type=int, help="elements (default: 2**24; 2**16 if quick)")
    parser.add_argument("--repeats", type=int, help="turns per median (default: 15; 3 if quick)")
    parser.add_argument(
        "--codes",
        type=int,
        help="values of a format to probe; wider formats by a sample (default: 4096; 256 if quick)",
    )
    parser.add_argument("--quick", action="store_true", help="small; times mean nothing")
    parser.add_argument("--markdown", action="store_true", help="tables to paste in documents")
    parser.add_argument("--memory-of", choices=MEMORY, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.size = args.size or (1 << 16 if args.quick else 1 << 24)
    args.repeats = args.repeats or (3 if args.quick else 15)
    args.codes = args.codes or (256 if args.quick else 4096)
    if min(args.size, args.repeats, args.codes) < 1:
        parser.error("--size, --repeats and --codes must be at least 1")
    return args


def main() -> None:
    args = parse_args()
    if args.memory_of:
        memory_of(args.memory_of, args.size)
        return
    print(environment())
    if "copying" in args.only:
        against_copying(args.size, args.repeats, args.markdown)
    if "peers" in args.only:
        seconds = 0.02 if args.quick else 0.3
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peers warn of overflow and underflow
            beside_peers(args.size, args.repeats, args.codes, seconds, args.markdown)
    if "memory" in args.only:
        memory(args.size, args.markdown)
    if "signatures" in args.only:
        signatures(args.markdown)


if __name__ == "__main__":
    main()
