"""fpsim's operations beside NumPy's own binary32 addition, and beside apytypes, gfloat and pychop.

    python benchmarks/arithmetic.py
    python benchmarks/arithmetic.py --quick        # small arrays: does it work? Times mean nothing
    python benchmarks/arithmetic.py --markdown

Two tables. Every operation of fpsim into formats of several precisions, on 2**22 elements of
float32, as a share of the speed of ``numpy.add`` of float32 (one thread: NumPy has no other), with
`out` given on both sides; turns are taken. And additions and products by other libraries on the
same operands, where they have them, with how many of their results differ from the exact one,
rounded once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from casts import environment, show

import fpsim

FORMATS = ("float8_e4m3fn", "bfloat16", "binary16", "e8m14", "binary32")
OPERATIONS = {
    "add": 2,
    "subtract": 2,
    "multiply": 2,
    "divide": 2,
    "sqrt": 1,
    "fma": 3,
    "faa": 3,
}


def seconds(*calls: Callable[[], object], turns: int) -> list[float]:
    """Medians of calls that take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(turns):
        for call, record in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            record.append(time.perf_counter() - started)
    return [median(record) for record in times]


def operands(fmt: str, size: int) -> list[np.ndarray]:
    """Positive and negative values of a format, in float32."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((3, size)).astype(np.float32)
    return list(fpsim.round(numbers, fmt, overflow="saturate"))


def own(size: int, turns: int) -> list[list[str]]:
    """A row an operation: share of NumPy's speed by format."""
    rows = []
    modes: list[tuple[str, dict[str, Any]]] = [
        ("", {}),
        (", toward_zero", {"rounding": "toward_zero"}),
        (", 8 random bits", {"rounding": fpsim.Stochastic(8), "rng": 1}),
    ]
    for name, count in OPERATIONS.items():
        for label, options in modes if name in ("add", "multiply", "fma") else modes[:1]:
            row = [name + label]
            for fmt in FORMATS:
                values = operands(fmt, size)
                x, y = values[:2]
                if name == "sqrt":
                    values[0] = np.abs(x)
                out, sums = np.empty_like(x), np.empty_like(x)
                chosen = values[:count]
                theirs, ours = seconds(
                    lambda x=x, y=y, sums=sums: np.add(x, y, out=sums),
                    lambda name=name, chosen=chosen, fmt=fmt, out=out, options=options: getattr(
                        fpsim, name
                    )(*chosen, fmt, out=out, overflow="saturate", **options),
                    turns=turns,
                )
                row.append(f"{size / ours / 1e6:.0f}  {theirs / ours:.2f}")
            rows.append(row)
    return rows


def peers(size: int, turns: int) -> list[list[str]]:
    """A row a library, format and operation."""
    rows = []
    for fmt in ("float8_e5m2", "binary16", "bfloat16"):
        x, y = operands(fmt, size)[:2]
        for name in ("add", "multiply"):
            want = getattr(fpsim, name)(x, y, fmt)
            calls: dict[str, Callable[[], np.ndarray]] = {
                "fpsim": lambda name=name, x=x, y=y, fmt=fmt: getattr(fpsim, name)(x, y, fmt)
            }
            calls |= apytypes_calls(name, x, y, fmt)
            calls |= gfloat_calls(name, x, y, fmt)
            calls |= pychop_calls(name, x, y, fmt)
            base = 0.0
            for library, call in calls.items():
                (spent,) = seconds(call, turns=turns)
                base = base or spent
                got = np.asarray(call(), np.float64).ravel()
                wrong = int(np.count_nonzero((got != want) & ~(np.isnan(got) & np.isnan(want))))
                speed = f"{size / spent / 1e6:.1f}"
                rows.append([fmt, name, library, speed, f"{spent / base:.0f}", f"{wrong:,}"])
    return rows


def apytypes_calls(
    name: str, x: np.ndarray, y: np.ndarray, fmt: str
) -> dict[str, Callable[[], np.ndarray]]:
    """Operators of APyFloatArray, on arrays made beforehand."""
    try:
        import apytypes
    except ImportError:
        return {}
    f = fpsim.Format.parse(fmt)
    a, b = (
        apytypes.APyFloatArray.from_array(v, exp_bits=f.exponent_bits, man_bits=f.mantissa_bits)
        for v in (x, y)
    )
    result = (lambda: a + b) if name == "add" else (lambda: a * b)
    return {"apytypes": lambda: result().to_numpy()}


def gfloat_calls(
    name: str, x: np.ndarray, y: np.ndarray, fmt: str
) -> dict[str, Callable[[], np.ndarray]]:
    """gfloat has no operations: float64's, exact here, and its rounding."""
    try:
        import gfloat
        from gfloat import formats
    except ImportError:
        return {}
    info = {
        "float8_e5m2": formats.format_info_ocp_e5m2,
        "binary16": formats.format_info_binary16,
        "bfloat16": formats.format_info_bfloat16,
    }[fmt]
    operate = np.add if name == "add" else np.multiply
    wide = x.astype(np.float64), y.astype(np.float64)
    return {"gfloat, of float64": lambda: gfloat.round_ndarray(info, operate(*wide))}


def pychop_calls(
    name: str, x: np.ndarray, y: np.ndarray, fmt: str
) -> dict[str, Callable[[], np.ndarray]]:
    """pychop's rounding of float64's operations."""
    try:
        from pychop import Chop
    except ImportError:
        return {}
    f = fpsim.Format.parse(fmt)
    chop = Chop(exp_bits=f.exponent_bits, sig_bits=f.mantissa_bits, rmode=1, subnormal=True)
    operate = np.add if name == "add" else np.multiply
    wide = x.astype(np.float64), y.astype(np.float64)
    return {"pychop, of float64": lambda: np.asarray(chop(operate(*wide)))}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small; times mean nothing")
    parser.add_argument("--markdown", action="store_true", help="tables to paste in documents")
    arguments = parser.parse_args()
    size, turns = (1 << 12, 2) if arguments.quick else (1 << 22, 9)
    print(environment())
    show(
        f"{size} float32: 10⁶ results a second, and the share of numpy.add's speed",
        ["operation", *FORMATS],
        own(size, turns),
        arguments.markdown,
    )
    show(
        "Operations to nearest even, new output",
        ["format", "operation", "by", "10⁶/s", "times as long", "not as exact, rounded once"],
        peers(size >> 4, 3),
        arguments.markdown,
    )


if __name__ == "__main__":
    main()
