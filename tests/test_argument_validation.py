"""What every public function says to arguments that it cannot use: one table."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import pytest

import fpsim
import fpsim.certify
from fpsim import Lognormal, Rounding, Sketch, Stochastic, Stream, plot, report, threads
from fpsim.analysis.measure import summary_between
from fpsim.hardware import tables
from fpsim.hardware.c_header import c_header
from fpsim.hardware.random_bits import (
    Lfsr,
    Xoshiro,
    mean_bias,
    rounding_bias,
    rounding_probability,
)
from fpsim.hardware.vector_files import write
from fpsim.hardware.vectors import vectors

SENTINEL = 0xA5
REAL = "real numbers"
ROUNDINGS = ["'ties_to_even'", "'to_odd'", "'stochastic'"]


@dataclass(frozen=True)
class Row:
    """A call, the type of its error, and what the message must hold."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    error: type[Exception]
    words: tuple[str, ...]

    def __str__(self) -> str:
        name = getattr(self.function, "__qualname__", str(self.function))
        given = [short(v) for v in self.args] + [f"{k}={short(v)}" for k, v in self.kwargs.items()]
        return f"{name}({','.join(given)})"


def short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = value if isinstance(value, str) else repr(value)
    if " at 0x" in text:  # an address differs between the processes of pytest-xdist
        text = type(value).__name__
    return text if len(text) < 30 else text[:27] + "..."


def blank(shape: Any, dtype: Any) -> np.ndarray:
    """An array that shows whether it was written to."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape))
    return np.frombuffer(bytearray([SENTINEL]) * (size * dtype.itemsize), dtype).reshape(shape)


def read_only(dtype: Any) -> np.ndarray:
    array = blank(3, dtype)
    array.flags.writeable = False
    return array


def threads_of_environment(text: str) -> int:
    """`get_num_threads` in a process where nobody has set a number."""
    with (
        mock.patch.dict(os.environ, FPSIM_NUM_THREADS=text),
        mock.patch.object(threads, "_count", None),
    ):
        return fpsim.get_num_threads()


def enter(context: Callable[..., Any], *arguments: Any) -> None:
    """What happens on the way into a ``with`` block."""
    with context(*arguments):
        pass


X = np.array([1.0, 2.5, -3.0], np.float32)
SUM = fpsim.Accumulator("e4m3")
WIDE = np.array([1.0, 2.5, -3.0])
FIT = Lognormal(0.0, 1.0)
NAN_AT_1_2 = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, np.nan], [np.nan, 6.0, np.nan]])
OPEN_END = 1 << 64
FAR = "binary14p1se"  # values from 2**-4095 to 2**4094

ROWS: list[Row] = []


def row(function: Any, *args: Any, error: type[Exception], words: Any, **kwargs: Any) -> None:
    ROWS.append(Row(function, args, kwargs, error, tuple(words)))


# Arrays that are not real numbers, for everything that takes data -------------------------------

NOT_REAL: list[tuple[Any, type[Exception], list[str]]] = [
    (np.array([1j]), TypeError, ["complex128", REAL]),
    (1 + 2j, TypeError, ["complex128", REAL]),
    (np.array([1.0, None], object), TypeError, ["object", REAL]),
    (None, TypeError, ["object", REAL]),
    (Fraction(1, 3), TypeError, ["object", REAL]),
    ("1.5", TypeError, ["<U3", REAL]),
    (b"1.5", TypeError, ["|S3", REAL]),
    (np.array(["2020-01-01"], "M8[D]"), TypeError, ["datetime64[D]", REAL]),
    (np.array([3], "m8[s]"), TypeError, ["timedelta64[s]", REAL]),
    (np.array([(1.0,)], [("a", "f4")]), TypeError, ["'a'", REAL]),
    (np.array([1], ml_dtypes.int4), TypeError, ["int4", REAL]),
    ([[1.0], [1.0, 2.0]], ValueError, [REAL]),
    (2**53 + 1, ValueError, ["9007199254740993", "2**53", "float64"]),
    ([0, -(2**53) - 1], ValueError, ["-9007199254740993", "2**53", "float64"]),
    (np.array([5, 2**64 - 1], np.uint64), ValueError, ["18446744073709551615", "2**53"]),
    (np.array([-(2**63), 5]), ValueError, ["-9223372036854775808", "2**53"]),
    (2**64, (ValueError, TypeError), ["18446744073709551616", "2**53"]),
]
if np.dtype(np.longdouble).itemsize > 8:
    NOT_REAL.append((np.longdouble(1), TypeError, [np.dtype(np.longdouble).name, REAL]))

for data, error, words in NOT_REAL:
    for function, more in (
        (fpsim.round, ("e4m3",)),
        (fpsim.encode, ("e4m3",)),
        (Sketch.of, ()),
        (Lognormal.fit, ()),
        (fpsim.measured_error, ("e4m3",)),
        (fpsim.recommend, (8,)),
        (fpsim.luq, ()),
        (fpsim.luq_encode, ()),
        (fpsim.nm_sparsify, (1, 1)),
        (fpsim.nm_variance, (1, 1)),
        (fpsim.nm_pack, (1, 1)),
        (fpsim.prune, (1.0,)),
        (fpsim.dither, (1.0,)),
        (fpsim.dither_encode, (1.0,)),
    ):
        row(function, data, *more, error=error, words=["x", *words])

# Quantising and thinning gradients ----------------------------------------------------------------

for function in (fpsim.luq, fpsim.luq_encode):
    for bits, error in ((0, ValueError), (5, ValueError), (2.0, TypeError), (True, TypeError)):
        words = [f"exponent_bits={bits}", "1 to 4", "2 to 5 bits"]
        row(function, X, bits, error=error, words=words)
    for maximum, error in ((0.0, ValueError), (-1.0, ValueError), ("1", TypeError)):
        words = [f"maximum={maximum!r}", "finite and positive"]
        row(function, X, maximum=maximum, error=error, words=words)
    row(function, X, rng=-1, error=ValueError, words=["rng=-1", "0 to 2**64-1"])
    row(function, X, power_of_two=1, error=TypeError, words=["power_of_two=1", "True or False"])
    row(function, X, nonfinite="drop", error=ValueError, words=["'drop'", "'raise'", "'skip'"])
    words = ["3 NaN or infinite", "(1, 2)", "nan_to_num", "nonfinite='skip'", "'propagate'"]
    row(function, NAN_AT_1_2, error=ValueError, words=words)
    words = ["magnitude 3e+38", "float32", "scale x", "wider dtype"]
    row(function, np.float32(3e38), power_of_two=True, error=ValueError, words=words)
row(fpsim.luq_encode, X, nonfinite="propagate", error=ValueError, words=["'raise' or 'skip'"])
row(fpsim.luq, X, samples=0, error=ValueError, words=["samples=0", "from 1 to"])
row(fpsim.luq, X, levels="both", error=ValueError, words=["levels='both'", "'bit_true', 'paper'"])
row(fpsim.luq, X, full=1, error=TypeError, words=["full=1", "True or False"])
row(fpsim.luq_format, 9, error=ValueError, words=["exponent_bits=9", "1 to 4"])
row(fpsim.HindsightMax, 1.0, error=ValueError, words=["eta=1.0", "from 0 to below 1"])
row(fpsim.HindsightMax, 0.5, -2.0, error=ValueError, words=["maximum=-2.0", "at least 0"])
row(fpsim.expected_luq, FIT, error=ValueError, words=["maximum=None", "Lognormal"])
row(fpsim.expected_luq, X, error=TypeError, words=["source", "ndarray", "Sketch"])
row(fpsim.expected_luq, Sketch(), error=ValueError, words=["no finite nonzero element"])
row(fpsim.luq([1.0], full=True).decode, error=ValueError, words=["codes=None", "luq_encode"])

SCALED = fpsim.ScaledRounding
row(SCALED, "e4m", error=ValueError, words=["fmt='e4m'", "fpsim.formats()"])
row(SCALED, FAR, error=ValueError, words=[FAR, "binary64"])
row(SCALED, "e4m3", "best", error=ValueError, words=["scale='best'", "'nmse'", "'maximum'"])
row(SCALED, "e4m3", 0.0, error=ValueError, words=["scale=0.0", "finite and positive"])
row(SCALED, "e4m3", None, error=TypeError, words=["scale=None", "finite and positive"])
row(SCALED, "e4m3", basis="x", error=ValueError, words=["basis='x'", "'auto', 'fit', 'sketch'"])
row(SCALED, "e4m3", refit=0, error=ValueError, words=["refit=0", "after how many arrays"])
row(SCALED, "e4m3", window=0, error=ValueError, words=["window=0", "how many sketches"])
row(SCALED, "e4m3", rounding="up", error=ValueError, words=["rounding='up'", *ROUNDINGS])
row(SCALED, "e4m3", overflow="clip", error=ValueError, words=["'clip'", "'saturate'"])
row(SCALED("e4m3"), ["a"], error=TypeError, words=["x has dtype", REAL])
row(SCALED("e4m3f"), [np.nan, 1.0], error=ValueError, words=["1 NaN", "has no NaN"])
row(fpsim.Chain, 3, error=TypeError, words=["transforms[0]=3", "(x, rng=…)"])
row(fpsim.Chain(), X, rng="seed", error=TypeError, words=["rng='seed'", "Generator"])
row(summary_between, [1.0, 2.0], [1.0], error=ValueError, words=["(2,)", "(1,)", "shape"])
row(summary_between, [0.0], [0.0], error=ValueError, words=["no finite nonzero element"])

for function in (fpsim.nm_sparsify, fpsim.nm_variance, fpsim.nm_pack):
    four = np.ones((3, 4))
    for n, error in ((0, ValueError), (5, ValueError), (1.5, TypeError)):
        row(function, four, n, 4, error=error, words=[f"n={n}", "m=4", "1 to 4"])
    row(function, four, 1, 0, error=ValueError, words=["m=0", "size of a block"])
    row(function, four, 1, 2, axis=2, error=ValueError, words=["axis=2", "-2 to 1"])
    row(function, four, 1, 2, axis=0, error=ValueError, words=["axis=0", "length 3", "m=2", "pad"])
    row(function, 1.0, 1, 1, error=ValueError, words=["x has no axis", "1 dimension"])
for function in (fpsim.nm_sparsify, fpsim.nm_variance):
    row(function, four, 1, 2, method="best", error=ValueError, words=["'best'", "'mvue', 'appr"])
    row(function, four, 1, 2, pad=1, error=TypeError, words=["pad=1", "True or False"])
    words = ["'approximate'", "n=1, m=2", "2:4", "'mvue'"]
    row(function, four, 1, 2, method="approximate", error=ValueError, words=words)
words = ["3 NaN or infinite", "(1, 2)", "nan_to_num", "'skip'", "'propagate'"]
row(fpsim.nm_sparsify, NAN_AT_1_2, 1, 3, error=ValueError, words=words)
row(fpsim.nm_sparsify, four, 1, 2, nonfinite=0, error=ValueError, words=["nonfinite=0", "'skip'"])
row(fpsim.nm_sparsify, four, 1, 2, rng="a", error=TypeError, words=["rng='a'", "seed"])
row(fpsim.nm_variance, NAN_AT_1_2, 1, 3, error=ValueError, words=["NaN", "nan_to_num"])
row(fpsim.nm_pack, four, 1, 2, error=ValueError, words=["6 blocks", "n=1", "m=2", "nm_sparsify"])
row(fpsim.nm_unpack, four, error=TypeError, words=["packed", "ndarray", "nm_pack"])
row(fpsim.expected_nm_nmse, "cauchy", error=ValueError, words=["'cauchy'", "'normal'", "Lognormal"])
row(fpsim.expected_nm_nmse, Sketch(), error=ValueError, words=["no finite nonzero element"])

WORDS_3_BAD = ["3 NaN or infinite", "(1, 2)", "nan_to_num", "nonfinite='skip'", "'propagate'"]
for function in (fpsim.prune, fpsim.dither, fpsim.dither_encode):
    row(function, X, 1.0, rng=-1, error=ValueError, words=["rng=-1", "0 to 2**64-1"])
    row(function, X, 1.0, nonfinite="drop", error=ValueError, words=["'drop'", "'skip'"])
    row(function, NAN_AT_1_2, 1.0, error=ValueError, words=WORDS_3_BAD)
    scales = np.ones(2, ml_dtypes.float8_e8m0fnu)
    row(function, scales, 1.0, error=TypeError, words=["x has dtype", "without sign", "float32"])
for function, lead in ((fpsim.prune, (X,)), (fpsim.expected_pruning, (FIT,))):
    for threshold, error in (
        (-1.0, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("1", TypeError),
        (True, TypeError),
        ([1.0], TypeError),
    ):
        words = [f"threshold={threshold!r}", "at least 0", "|x|"]
        row(function, *lead, threshold, error=error, words=words)
    for sparsity, error in ((1.0, ValueError), (-0.1, ValueError), (1.5, ValueError),
                            (float("nan"), ValueError), ("half", TypeError)):  # fmt: skip
        words = [f"sparsity={sparsity!r}", "from 0 to below 1", "already there"]
        row(function, *lead, sparsity=sparsity, error=error, words=words)
    words = ["threshold=1.0", "sparsity=0.5", "one of them"]
    row(function, *lead, 1.0, 0.5, error=ValueError, words=words)
    row(function, *lead, error=ValueError, words=["threshold=None", "sparsity=None", "one of"])
row(fpsim.prune, X, 1.0, method="hard", error=ValueError, words=["'hard'", "'deterministic'"])
row(fpsim.prune, X, 1.0, full=1, error=TypeError, words=["full=1", "True or False"])
row(fpsim.prune, X, sparsity=0.5, fit=X, error=TypeError, words=["fit", "ndarray", "Lognormal"])
row(fpsim.prune, X, sparsity=0.5, fit=Sketch(), error=ValueError, words=["fit has no", "at least"])
words = ["threshold=1e+06", "65504", "float16", "wider dtype"]
row(fpsim.prune, X.astype(np.float16), 1e6, error=ValueError, words=words)
words = ["sparsity=0.99999", "threshold=", "65504", "prune less"]
row(fpsim.prune, X.astype(np.float16), sparsity=0.99999, error=ValueError, words=words)
row(fpsim.expected_pruning, X, 1.0, error=TypeError, words=["source", "ndarray", "Sketch"])
row(fpsim.expected_pruning, Sketch(), 1.0, error=ValueError, words=["no finite nonzero element"])
for cosine, error in ((0.0, ValueError), (1.1, ValueError), (-0.5, ValueError), ("c", TypeError)):
    words = [f"cosine={cosine!r}", "above 0 and up to 1"]
    row(fpsim.expected_pruning, FIT, cosine=cosine, error=error, words=words)
row(fpsim.expected_pruning, FIT, 1.0, cosine=0.5, error=ValueError, words=["cosine=0.5", "one of"])
row(fpsim.expected_pruning, FIT, 1.0, truncated_at="k", error=TypeError, words=["truncated_at='k'"])
words = ["truncated_at=2.7", "Sketch", "leave it out"]
row(fpsim.expected_pruning, Sketch.of(X), 1.0, truncated_at=2.7, error=ValueError, words=words)
row(FIT.nmse_threshold, -1.0, error=ValueError, words=["nmse=-1.0", "at least 0"])

for function, lead in (
    (fpsim.dither, (X,)),
    (fpsim.dither_encode, (X,)),
    (fpsim.expected_dither, (FIT,)),
):
    for name in ("step", "scale"):
        for value, error in (
            (0.0, ValueError),
            (-1.0, ValueError),
            (float("nan"), ValueError),
            (float("inf"), ValueError),
            ("1", TypeError),
            ([1.0], TypeError),
        ):
            words = [f"{name}={value!r}", "finite and positive"]
            row(function, *lead, error=error, words=words, **{name: value})
    row(function, *lead, error=ValueError, words=["step=None", "scale=None", "one of them"])
    words = ["step=1.0", "scale=2.0", "one of them", "absolute", "standard deviation"]
    row(function, *lead, 1.0, scale=2.0, error=ValueError, words=words)
for function in (fpsim.dither, fpsim.dither_encode):
    words = ["step=3e+38", "magnitude 3.1e+38"]
    row(function, np.float32(3.1e38), 3e38, error=ValueError, words=[*words, "float32", "wider"])
    words = ["step=1e+06", "65504", "float16", "smaller"]
    row(function, X.astype(np.float16), 1e6, error=ValueError, words=words)
row(fpsim.dither, X, 1.0, full=1, error=TypeError, words=["full=1", "True or False"])
row(fpsim.dither([1.0], 1.0, full=True).decode, error=ValueError, words=["codes=None", "encode"])
for bits, error in ((1, ValueError), (33, ValueError), (8.0, TypeError), (True, TypeError)):
    row(fpsim.dither_encode, X, 1.0, bits=bits, error=error, words=[f"bits={bits}", "2 to 32"])
words = ["step=0.01", "magnitude 3", "8 bits", "bits=10", "larger step"]
row(fpsim.dither_encode, X, 0.01, error=ValueError, words=words)
words = ["scale=1.0", "step=0", "equal", "give step="]
row(fpsim.dither_encode, [2.0, 2.0], scale=1.0, error=ValueError, words=words)
words = ["'propagate'", "codes", "'raise' or 'skip'"]
row(fpsim.dither_encode, X, 1.0, nonfinite="propagate", error=ValueError, words=words)
row(fpsim.expected_dither, X, 1.0, error=TypeError, words=["source", "ndarray", "Sketch"])
row(fpsim.expected_dither, "cauchy", 1.0, error=ValueError, words=["'cauchy'", "'normal'"])
row(fpsim.expected_dither, Sketch(), 1.0, error=ValueError, words=["no finite nonzero element"])
row(fpsim.expected_dither(FIT, 1.0).share_from, 0, error=ValueError, words=["multiple=0", "posit"])
row(fpsim.expected_dither(FIT, 1.0).share_from, 1.5, error=TypeError, words=["multiple=1.5"])

COUNTED = {"conv1": Lognormal(0.0, 1.0, count=10), "conv2": Lognormal(1.0, 2.0, count=30)}
for fits, error, words in (
    ([FIT], TypeError, ["fits", "list", "mapping"]),
    ({}, ValueError, ["fits is an empty mapping", "at least one"]),
    ({"conv1": X}, TypeError, ["fits['conv1']", "ndarray", "Sketch"]),
    ({"conv1": Sketch()}, ValueError, ["fits['conv1'] has no finite nonzero element"]),
    ({"conv1": FIT}, ValueError, ["fits['conv1'] has count=0", "give count="]),
):
    row(fpsim.allocate_sparsity, fits, 0.5, error=error, words=words)
for target, error in ((1.0, ValueError), (-0.5, ValueError), ("most", TypeError)):
    words = [f"target={target!r}", "from 0 to below 1"]
    row(fpsim.allocate_sparsity, COUNTED, target, error=error, words=words)
for options, error, words in (
    ({"rule": "best"}, ValueError, ["rule='best'", "'optimal', 'equal_cosine', 'protected'"]),
    ({"weighting": "rms"}, ValueError, ["weighting='rms'", "'normalised', 'absolute'"]),
    ({"protect": {"conv1": 0.9}}, ValueError, ["protect=", "rule='optimal'", "'protected'"]),
    ({"cap": 0.9}, ValueError, ["cap=0.9", "rule='optimal'", "leave it out"]),
    ({"truncated_at": "k"}, TypeError, ["truncated_at='k'", "standard deviations"]),
    ({"rule": "protected"}, TypeError, ["protect=None", "mapping"]),
    ({"rule": "protected", "protect": ["conv1"]}, TypeError, ["protect=['conv1']", "cosine"]),
    (
        {"rule": "protected", "protect": {"conv7": 0.9}},
        ValueError,
        ["protect", "'conv7'", "fits does not have", "'conv1', 'conv2'"],
    ),
    (
        {"rule": "protected", "protect": {"conv1": 1.5}},
        ValueError,
        ["protect['conv1']=1.5", "above 0 and up to 1"],
    ),
    (
        {"rule": "protected", "protect": {"conv1": 0.9}, "cap": 1.0},
        ValueError,
        ["cap=1.0", "from 0 to below 1"],
    ),
):
    row(fpsim.allocate_sparsity, COUNTED, 0.5, error=error, words=words, **options)

# Test vectors ------------------------------------------------------------------------------------

row(vectors, "e4m", "add", error=ValueError, words=["fmt='e4m'", "fpsim.formats()"])
row(vectors, FAR, "add", error=ValueError, words=[FAR, "binary64", "fpsim.spec"])
row(vectors, "e4m3", "cast", source=FAR, error=ValueError, words=[FAR, "binary64"])
for op in ("divide", 3, None):
    row(vectors, "e4m3", op, error=ValueError, words=[f"op={op!r}", "'cast'", "'fma'", "'dot'"])
row(vectors, "e4m3", "add", source="binary16", error=ValueError, words=["source=", "op='cast'"])
row(vectors, "e4m3", "add", rounding="nearest", error=ValueError, words=["'nearest'", *ROUNDINGS])
row(vectors, "e4m3", "add", overflow="clip", error=ValueError, words=["'clip'", "'saturate'"])
row(vectors, "e4m3", "add", tininess="late", error=ValueError, words=["'late'", "'before'"])
row(vectors, "e4m3", "add", accumulator=SUM, error=ValueError, words=["accumulator=", "op='dot'"])
row(vectors, "e4m3", "add", terms=4, error=ValueError, words=["terms=4", "op='dot'"])
for count, error in ((0, ValueError), (1 << 41, ValueError), (1e6, TypeError), (True, TypeError)):
    words = [f"count={count}", "1 to 2**40"]
    row(vectors, "e4m3", "add", count=count, error=error, words=words)
for seed, error in ((-1, ValueError), (OPEN_END, ValueError), ("a", TypeError)):
    row(vectors, "e4m3", "add", seed=seed, error=error, words=[f"seed={seed!r}", "from 0"])
row(vectors, "e4m3", "dot", error=TypeError, words=["accumulator=None", "fpsim.Accumulator"])
row(vectors, "e4m3", "dot", accumulator="e4m3", error=TypeError, words=["'e4m3'", "Accumulator"])
words = ["rounding='to_odd'", "fpsim.Accumulator(rounding=…)"]
row(vectors, "e4m3", "dot", accumulator=SUM, rounding="to_odd", error=ValueError, words=words)
words = ["overflow='nan'", "fpsim.Accumulator(overflow=…)"]
row(vectors, "e4m3", "dot", accumulator=SUM, overflow="nan", error=ValueError, words=words)
for terms, error in ((0, ValueError), (1025, ValueError), (2.0, TypeError)):
    words = [f"terms={terms}", "1 to 1024"]
    row(vectors, "e4m3", "dot", accumulator=SUM, terms=terms, error=error, words=words)
row(vectors, "ue4m3", "dot", accumulator=SUM, error=ValueError, words=["fmt=ue4m3", "no sign"])
endless = fpsim.Accumulator(fpsim.Format(3, 2, nans="none"))
words = ["infinity and no NaN", "one with NaN"]
row(vectors, "e4m3", "dot", accumulator=endless, error=ValueError, words=words)
h100 = fpsim.Accumulator.preset("nvidia-h100", "float8_e4m3fn")
words = ["fmt=binary16", "operands=float8_e4m3fn"]
row(vectors, "binary16", "dot", accumulator=h100, error=ValueError, words=words)
pairwise = fpsim.Accumulator("e4m3", Stochastic(4), order="pairwise")
words = ["at random", "order='sequential'", "order='exact'"]
row(vectors, "e4m3", "dot", accumulator=pairwise, error=ValueError, words=words)
row(write, "e4m3", ".", error=TypeError, words=["tests='e4m3'", "vectors(…)"])
words = ["kinds='hex'", "'txt', 'mem', 'csv'"]
row(write, vectors("e4m3", "add"), ".", ["hex"], error=ValueError, words=words)

# Headers, tables, random bits of circuits ---------------------------------------------------------

row(c_header, "e4m", error=ValueError, words=["fmt='e4m'", "fpsim.formats()"])
row(c_header, FAR, error=ValueError, words=[FAR, "binary64"])
for name in ("8bit", "a-b", "", 3):
    row(c_header, "e4m3", name, error=ValueError, words=[f"name={name!r}", "letters, digits and _"])

row(tables.table, "e4m", "sqrt", error=ValueError, words=["fmt='e4m'", "fpsim.formats()"])
row(tables.table, FAR, "sqrt", error=ValueError, words=[FAR, "binary64"])
for function in ("cbrt", 3, None):
    words = [f"function={function!r}", "'sqrt'", "'sigmoid'", "'divide'"]
    row(tables.table, "e4m3", function, error=ValueError, words=words)
words = ["fmt=tf32", "19 bits", "2**19 words", "up to 16 bits"]
row(tables.table, "tf32", "exp", error=ValueError, words=words)
words = ["fmt=e4m4", "9 bits", "2**18 words", "up to 8 bits"]
row(tables.table, "e4m4", "add", error=ValueError, words=words)
words = ["result=binary32", "precision of 24", "up to 16"]
row(tables.table, "e4m3", "exp", result="binary32", error=ValueError, words=words)
words = ["rounding=Stochastic(bits=4", "deterministic"]
row(tables.table, "e4m3", "exp", rounding=Stochastic(4), error=ValueError, words=words)
row(tables.table, "e4m3", "exp", rounding="up", error=ValueError, words=["'up'", *ROUNDINGS])
row(tables.table, "e4m3", "exp", overflow="clip", error=ValueError, words=["'clip'", "'nan'"])
row(tables.write, "e4m3", ".", error=TypeError, words=["made='e4m3'", "table(…)"])
words = ["kinds='rom'", "'mem', 'h', 'csv'"]
row(tables.write, tables.table("e2m1", "sqrt"), ".", ["rom"], error=ValueError, words=words)

for width, error in ((1, ValueError), (65, ValueError), (8.0, TypeError), (True, TypeError)):
    row(Lfsr, width, error=error, words=[f"width={width}", "2 to 64 stages"])
for taps in ((8, 9), (6, 5), (0, 8), 3, ("8",), [8.0]):
    row(Lfsr, 8, taps, error=ValueError, words=[f"taps={taps!r}", "1 to 8", "(8, 6, 5, 4)"])
row(Lfsr, 8, form="ring", error=ValueError, words=["form='ring'", "'fibonacci', 'galois'"])
for seed, error in ((0, ValueError), (256, ValueError), (None, TypeError)):
    row(Lfsr, 8, seed=seed, error=error, words=[f"seed={seed}", "1 to 2**8-1"])
row(Lfsr, 8, steps=0, error=ValueError, words=["steps=0", "between integers"])
row(Lfsr(8).integers, 9, 3, error=ValueError, words=["bits=9", "1 to 8", "wider register"])
row(Lfsr(8).integers, 4, -1, error=ValueError, words=["count=-1", "how many"])
row(Lfsr(8).advanced, 2.0, error=TypeError, words=["count=2.0", "how many"])
row(Xoshiro, "xorshift", error=ValueError, words=["name='xorshift'", "'xoshiro256++'"])
row(Xoshiro, state=-1, error=ValueError, words=["state=-1", "0 to 2**64-1", "four words"])
row(Xoshiro, state=(0, 0, 0, 0), error=ValueError, words=["(0, 0, 0, 0)", "four words"])
row(Xoshiro, state=(1, 2, 3), error=ValueError, words=["(1, 2, 3)", "four words"])
row(Xoshiro, state=(1, 2, 3, 1 << 32), error=ValueError, words=["state=4294967296", "32 bits"])
row(Xoshiro().integers, 33, 1, error=ValueError, words=["bits=33", "1 to 32"])
for function in (rounding_probability, rounding_bias):
    for fraction in (1.0, -0.1, float("nan"), "half", None):
        words = [f"fraction={fraction!r}", "0 to below 1"]
        row(function, fraction, Stochastic(4), error=ValueError, words=words)
    for mode in ("to_odd", Stochastic(), 4):
        words = ["mode=", "fpsim.Stochastic(bits=N)"]
        row(function, 0.5, mode, error=ValueError, words=words)
    words = ["register=Lfsr(width=3", "at least 4 stages"]
    row(function, 0.5, Stochastic(4), Lfsr(3), error=ValueError, words=words)
    words = ["goes through 5 states", "TAPS"]
    row(function, 0.5, Stochastic(4), Lfsr(4, steps=3), error=ValueError, words=words)
row(mean_bias, Stochastic(), 8, error=ValueError, words=["mode=", "fpsim.Stochastic(bits=N)"])
row(mean_bias, Stochastic(4), 0, error=ValueError, words=["discarded_bits=0", "from 1"])

# round and encode -------------------------------------------------------------------------------

for function, result in ((fpsim.round, np.float32), (fpsim.encode, np.uint8)):
    # The format.
    row(function, X, "e4m", error=ValueError, words=["fmt='e4m'", "fpsim.formats()", "e4m3"])
    row(function, X, 43, error=TypeError, words=["fmt=43", "fpsim.Format", "fpsim.formats()"])
    row(function, X, np.int8, error=ValueError, words=["int8", "fpsim.Format"])
    row(function, X, FAR, error=ValueError, words=[FAR, "binary64", "2**4094", "fpsim.spec"])
    # NaN into a format without one: how many, and where the first is.
    for nan, count, index in (
        (NAN_AT_1_2, 3, "(1, 2)"),
        (NAN_AT_1_2.astype(np.float32).T, 3, "(0, 2)"),
        (np.float32("nan"), 1, "()"),
        (NAN_AT_1_2.astype(ml_dtypes.bfloat16), 3, "(1, 2)"),
    ):
        words = [f"{count} NaN", index, "float4_e2m1fn", "numpy.nan_to_num"]
        fmt = "float4_e2m1fn"
        row(function, nan, fmt, error=ValueError, words=words)
        row(function, nan, fmt, error=ValueError, words=words, flags=blank(nan.shape, np.uint8))
        dtype = np.uint8 if result == np.uint8 else nan.dtype
        out, flags = blank(nan.shape, dtype), blank(nan.shape, np.uint8)
        row(function, nan, fmt, error=ValueError, words=words, out=out, flags=flags)
    # out and flags.
    for out, error, words in (
        ([0, 0, 0], TypeError, ["list", np.dtype(result).name]),
        (blank(3, np.float64), TypeError, ["float64", np.dtype(result).name]),
        (blank(4, result), ValueError, ["(4,)", "(3,)"]),
        (blank((3, 1), result), ValueError, ["(3, 1)", "(3,)"]),
        (blank((), result), ValueError, ["()", "(3,)"]),
        (read_only(result), ValueError, ["read-only", "written to"]),
        ("out", TypeError, ["str", np.dtype(result).name]),
    ):
        row(function, X, "e4m3", error=error, words=["out", *words], out=out)
    for flags, error, words in (
        ([0, 0, 0], TypeError, ["list", "uint8"]),
        (blank(3, np.int8), TypeError, ["int8", "uint8"]),
        (blank(3, bool), TypeError, ["bool", "uint8"]),
        (blank((1, 3), np.uint8), ValueError, ["(1, 3)", "(3,)"]),
        (read_only(np.uint8), ValueError, ["read-only", "written to"]),
        (True, TypeError, ["bool", "uint8"]),
    ):
        row(function, X, "e4m3", error=error, words=["flags", *words], flags=flags)
        out = blank(3, result)
        row(function, X, "e4m3", error=error, words=["flags", *words], flags=flags, out=out)
    # Rounding and overflow.
    for rounding, value in (
        ("nearest", "'nearest'"),
        (None, "None"),
        (0, "0"),
        (Stochastic, "Stochastic"),
        (["to_odd"], "['to_odd']"),
        (np.array([1, 2]), "array([1, 2])"),
    ):
        words = [f"rounding={'' if rounding is Stochastic else value}", value, *ROUNDINGS]
        row(function, X, "e4m3", error=ValueError, words=words, rounding=rounding)
    for overflow, value in (("clip", "'clip'"), (None, "None"), (["nan"], "['nan']")):
        words = [f"overflow={value}", "'infinity'", "'nan'", "'saturate'", "'saturate_infinities'"]
        row(function, X, "e4m3", error=ValueError, words=words, overflow=overflow)
    # Random bits.
    four = Stochastic(bits=4)
    allowed = "0 to 2**4-1"
    for bits, error, words in (
        (16, ValueError, ["16", allowed]),
        ([0, 3, -1], ValueError, ["-1", allowed]),
        ([0, 3, 99], ValueError, ["99", allowed]),
        (1.0, TypeError, ["float64", allowed]),
        (np.ones(3), TypeError, ["float64", allowed]),
        (True, TypeError, ["bool", allowed]),
        ("3", TypeError, ["<U1", allowed]),
        (2**70, (TypeError, ValueError), [allowed]),
        ([1, 2], ValueError, ["(2,)", "(3,)", "broadcast"]),
        (np.ones((2, 3), int), ValueError, ["(2, 3)", "(3,)", "broadcast"]),
        ([[1], [1, 2]], ValueError, [allowed]),
    ):
        row(
            function,
            X,
            "e4m3",
            error=error,
            words=["random_bits", *words],
            rounding=four,
            random_bits=bits,
            out=blank(3, result),
        )
    row(
        function,
        X,
        "e4m3",
        error=ValueError,
        words=["random_bits=-1", "0 to 2**64-1"],
        rounding="stochastic",
        random_bits=[0, -1, 5],
    )
    row(
        function,
        X,
        "e4m3",
        error=ValueError,
        words=["random_bits", "rounding='to_odd'", "fpsim.Stochastic"],
        rounding="to_odd",
        random_bits=3,
    )
    row(
        function,
        X,
        "e4m3",
        error=ValueError,
        words=["random_bits", "rng", "one of them"],
        rounding=four,
        random_bits=3,
        rng=1,
    )
    for rng, error, words in (
        ("seed", TypeError, ["rng='seed'", "int", "numpy.random.Generator", "fpsim.Stream"]),
        (1.5, TypeError, ["rng=1.5", "int", "numpy.random.Generator"]),
        (np.random.PCG64(1), TypeError, ["rng=", "PCG64", "numpy.random.Generator"]),
        (-1, ValueError, ["rng=-1", "0 to 2**64-1"]),
        (OPEN_END, ValueError, [f"rng={OPEN_END}", "0 to 2**64-1"]),
    ):
        out, flags = blank(3, result), blank(3, np.uint8)
        rounding = "stochastic"
        row(
            function,
            X,
            "e4m3",
            error=error,
            words=words,
            rounding=rounding,
            rng=rng,
            out=out,
            flags=flags,
        )

# Formats that the data's dtype cannot hold.
for data, fmt, dtype in (
    (np.ones(2, np.float16), "bfloat16", "float16"),
    (np.ones(2, np.float16), "float8_e8m0fnu", "float16"),
    (np.ones(2, np.float16), "e5m11", "float16"),
    (np.ones(2, np.float32), "binary64", "float32"),
    (np.ones(2, np.float32), "e4m3b200", "float32"),
    (np.ones(2, ml_dtypes.bfloat16), "binary16", "bfloat16"),
    (np.ones(2, ml_dtypes.float8_e4m3fn), "float8_e5m2", "float8_e4m3fn"),
    (np.ones(2, ml_dtypes.float4_e2m1fn), "float6_e2m3fn", "float4_e2m1fn"),
):
    words = ["x has dtype", dtype, fmt, "float64", "fpsim.encode"]
    row(fpsim.round, data, fmt, error=ValueError, words=words)

row(
    fpsim.encode,
    X,
    "e4m3",
    error=ValueError,
    words=["out", "flags", "memory"],
    **dict.fromkeys(["out", "flags"], blank(3, np.uint8)),
)

# decode, pack, unpack ---------------------------------------------------------------------------

for function in (fpsim.decode, fpsim.pack):
    for codes, fmt, error, words in (
        ([3, -1], "e4m3", ValueError, ["codes=-1", "e4m3", "0 to 255"]),
        ([3, 256], "e4m3", ValueError, ["codes=256", "0 to 255"]),
        (np.array([16], np.uint8), "float4_e2m1fn", ValueError, ["codes=16", "0 to 15"]),
        (np.array([3, 300], np.uint16), "e4m3", ValueError, ["codes=300", "0 to 255"]),
        (np.array([1 << 16], np.uint32), "binary16", ValueError, ["codes=65536", "0 to 65535"]),
        (np.array([1 << 40], np.uint64), "binary32", ValueError, ["codes=1099511627776"]),
        (np.array([1 << 63], np.uint64), "e11m50", ValueError, ["codes=9223372036854775808"]),
        ([1.0], "e4m3", TypeError, ["codes", "float64", "0 to 255"]),
        (np.array([True]), "e4m3", TypeError, ["codes", "bool", "0 to 255"]),
        ([None], "e4m3", TypeError, ["codes", "object", "0 to 255"]),
        ("7", "e4m3", TypeError, ["codes", "<U1", "0 to 255"]),
        ([[1], [1, 2]], "e4m3", (ValueError, TypeError), ["codes", "0 to 255"]),
        (2**64, "e4m3", (ValueError, TypeError), ["codes", "0 to 255"]),
        ([1], "e4m", ValueError, ["fmt='e4m'", "fpsim.formats()"]),
    ):
        row(function, codes, fmt, error=error, words=words)
row(fpsim.decode, [1], FAR, error=ValueError, words=[FAR, "binary64", "fpsim.spec"])
for dtype, error, words in (
    (np.float16, ValueError, ["dtype=float16", "bfloat16", "float64"]),
    (np.int8, (ValueError, TypeError), ["dtype=int8", "float64"]),
    (complex, (ValueError, TypeError), ["dtype=complex128", "float64"]),
    ("double-dutch", (ValueError, TypeError), ["dtype=", "double-dutch", "float64"]),
):
    row(fpsim.decode, [1], "bfloat16", error=error, words=words, dtype=dtype)
for buffer, count, error, words in (
    (b"ab", 3, ValueError, ["count=3", "2 bytes", "2 codes of 8 bits"]),
    (b"", 1, ValueError, ["count=1", "0 bytes", "0 codes"]),
    (b"ab", -1, ValueError, ["count=-1"]),
    (b"ab", 1.0, TypeError, ["count=1.0", "integer"]),
    (b"ab", True, TypeError, ["count=True", "integer"]),
    (b"ab", None, TypeError, ["count=None", "integer"]),
    (b"ab", 2**70, ValueError, ["count=", "2 codes"]),
    ("ab", 1, TypeError, ["buffer", "str", "bytes", "uint8"]),
    ([1, 2], 1, TypeError, ["buffer", "list", "bytes", "uint8"]),
    (None, 1, TypeError, ["buffer", "NoneType", "bytes"]),
    (np.arange(3), 1, TypeError, ["buffer", "int64", "uint8"]),
    (memoryview(b"abcd")[::2], 1, (TypeError, ValueError), ["buffer", "bytes", "uint8"]),
):
    row(fpsim.unpack, buffer, "e4m3", count, error=error, words=words)
row(fpsim.unpack, b"ab", "float6_e2m3fn", 3, error=ValueError, words=["count=3", "2 codes of 6"])

# Stochastic, Stream, threads --------------------------------------------------------------------

for bits, variant, error, words in (
    (0, "A", ValueError, ["bits=0", "1 to 32", "None"]),
    (33, "A", ValueError, ["bits=33", "1 to 32", "None"]),
    (4.0, "A", TypeError, ["bits=4.0", "1 to 32"]),
    (True, "A", TypeError, ["bits=True", "1 to 32"]),
    ("4", "A", TypeError, ["bits='4'", "1 to 32"]),
    (4, "D", ValueError, ["variant='D'", "'A', 'B', 'C'"]),
    (4, "a", ValueError, ["variant='a'", "'A', 'B', 'C'"]),
    (4, None, ValueError, ["variant=None", "'A', 'B', 'C'"]),
    (None, "B", ValueError, ["variant='B'", "bits", "variant='A'"]),
    (None, "C", ValueError, ["variant='C'", "bits", "variant='A'"]),
):
    row(Stochastic, bits, variant, error=error, words=words)
for seed, offset, error, words in (
    (-1, 0, ValueError, ["seed=-1", "0 to 2**64-1"]),
    (OPEN_END, 0, ValueError, [f"seed={OPEN_END}", "0 to 2**64-1"]),
    (1.0, 0, TypeError, ["seed=1.0", "integer"]),
    (None, 0, TypeError, ["seed=None", "integer"]),
    (1, -1, ValueError, ["offset=-1", "0 to 2**64-1"]),
    (1, "2", TypeError, ["offset='2'", "integer"]),
):
    row(Stream, seed, offset, error=error, words=words)
for shape, where, error, words in (
    ((3, 4), (slice(0, 1),), ValueError, ["where=", "(3, 4)", "a slice", "each axis"]),
    ((3,), (slice(0, 3, 2),), ValueError, ["where=", "slice(0, 3, 2)", "without step"]),
    ((3,), (slice(2, 0, -1),), ValueError, ["where=", "without step"]),
    ((3,), (1,), ValueError, ["where=", "a slice"]),
    ((3,), ("0:1",), ValueError, ["where=", "a slice"]),
    ((-3,), (slice(0, 1),), ValueError, ["shape=-3", "the whole"]),
    ((3.0,), (slice(0, 1),), TypeError, ["shape=3.0", "the whole"]),
):
    row(Stream(1).part, shape, where, error=error, words=words)
for size, error in ((-1, ValueError), (1.5, TypeError), ("3", TypeError), ((2, 3), TypeError)):
    row(Stream(1).words, size, error=error, words=[f"size={size!r}"])
for n, error in ((0, ValueError), (-2, ValueError), (1.5, TypeError), ("2", TypeError)):
    row(fpsim.set_num_threads, n, error=error, words=[f"n={n!r}", "number of threads", "1 "])
for n in (True, None):
    row(fpsim.set_num_threads, n, error=TypeError, words=[f"n={n!r}", "number of threads", "1 "])
for text in ("0", "-1", "two", "1.5", "1 2", "0x2"):
    words = ["FPSIM_NUM_THREADS=", text, "number of threads", "1 "]
    row(threads_of_environment, text, error=ValueError, words=words)

# Operations, accumulation, arrays of a format ----------------------------------------------------

for function, operands in (
    (fpsim.add, 2),
    (fpsim.subtract, 2),
    (fpsim.multiply, 2),
    (fpsim.divide, 2),
    (fpsim.sqrt, 1),
    (fpsim.fma, 3),
    (fpsim.faa, 3),
):
    values = [X] * operands
    for data, error, words in NOT_REAL:
        row(function, data, *values[1:], "e4m3", error=error, words=["x", *words])
    row(function, *values, "e4m", error=ValueError, words=["fmt='e4m'", "fpsim.formats()"])
    row(function, *values, FAR, error=ValueError, words=[FAR, "binary64"])
    row(function, *values, "e4m3", error=ValueError, words=["rounding='up'"], rounding="up")
    row(function, *values, "e4m3", error=ValueError, words=["tininess='never'"], tininess="never")
    row(
        function,
        *values,
        "e4m3",
        error=TypeError,
        words=["out", "float64", "float32"],
        out=blank(3, np.float64),
    )
row(fpsim.count_flags, [0.5], error=TypeError, words=["flags", "float64", "uint8"])
row(fpsim.count_flags, [32], error=ValueError, words=["flags=32", "0 to 31"])
for data, error, words in NOT_REAL:
    row(fpsim.dot, data, X, SUM, error=error, words=["a", *words])
    row(fpsim.matmul, [[1.0]], data, SUM, error=error, words=["b", *words])
    row(fpsim.array, data, "e4m3", error=error, words=["x", *words])
row(fpsim.dot, X, X, "e4m3", error=TypeError, words=["accumulator", "str", "fpsim.Accumulator"])
row(fpsim.matmul, X, X, SUM, error=ValueError, words=["a (3,)", "(…, rows, depth)"])
for function in (fpsim.dot_error, fpsim.matmul_error):
    square = np.eye(2)
    row(function, square, square, "e4m3", error=TypeError, words=["accumulator", "str"])
    for chance in (0, 1.0, float("nan")):
        row(function, X, X, SUM, error=ValueError, words=["probability="], probability=chance)
row(fpsim.ulp_error, X, X, "e4m", error=ValueError, words=["fmt='e4m'"])
row(fpsim.ulp_error, X, [1.0, 2.0], "e4m3", error=ValueError, words=["computed (3,)", "exact (2,)"])
row(fpsim.ulp_error, 1j, X, "e4m3", error=TypeError, words=["computed", "complex"])
row(fpsim.array, [1.0], error=TypeError, words=["list", "fmt="])
row(enter, fpsim.result, "e4m", error=ValueError, words=["fmt='e4m'"])

# Sketch, Lognormal, measured_error --------------------------------------------------------------

row(Sketch.of([1.0]).power_sums, 3, error=ValueError, words=["power=3", "-1, 1, 2"])
row(Sketch.of([1.0]).merge, [1.0], error=TypeError, words=["other", "list", "Sketch"])
for mu in ("0", None, 1j):
    row(Lognormal, mu, 1.0, error=TypeError, words=[f"mu={mu!r}"])
    row(Lognormal, 0.0, mu, error=TypeError, words=[f"sigma={mu!r}"])
row(Lognormal, 0.0, 1.0, error=TypeError, words=["count=1.5", "integer"], count=1.5)
row(Lognormal.fit, WIDE, error=TypeError, words=["truncated_below='a'"], truncated_below="a")
row(FIT.pruning_threshold, "half", error=TypeError, words=["sparsity='half'"])
row(FIT.sparsity, "much", error=(TypeError, ValueError), words=["threshold='much'"])
row(FIT.expected_error, "e4m", error=ValueError, words=["fmt='e4m'", "fpsim.formats()"])
row(FIT.best_scale, "e4m3", kind="any", error=ValueError, words=["kind='any'", "'continuous'"])
for function in (FIT.expected_error, fpsim.measured_error):
    lead = () if function == FIT.expected_error else (WIDE,)
    for scale, error in (
        (0, ValueError),
        (-2.0, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**400, ValueError),
        ("2", TypeError),
        (None, TypeError),
        (2j, TypeError),
        (np.ones(3), TypeError),
    ):
        words = ["scale=" if isinstance(scale, int) else f"scale={scale!r}", "finite and positive"]
        row(function, *lead, "e4m3", scale, error=error, words=words)
    row(
        function,
        *lead,
        "e4m3",
        metric="mse",
        error=ValueError,
        words=["metric='mse'", "'nmse'", "'relative'", "'sqnr'", "'cosine'", "'bias'"],
    )
    row(function, *lead, "e4m3", overflow="clip", error=ValueError, words=["overflow='clip'"])
row(fpsim.measured_error, WIDE, FAR, error=ValueError, words=[FAR, "binary64"])
row(fpsim.measured_error, WIDE, "e4m3", rounding="up", error=ValueError, words=["rounding='up'"])
row(
    fpsim.measured_error,
    WIDE,
    "e4m3",
    rounding="stochastic",
    rng="seed",
    error=TypeError,
    words=["rng='seed'", "fpsim.Stream"],
)
for nothing, size in (([], 0), ([0.0, np.nan], 2), (np.array([np.inf, -np.inf, 0]), 3)):
    words = ["x ", "no finite nonzero element", f"{size} elements", "at least one"]
    row(fpsim.measured_error, nothing, "e4m3", error=ValueError, words=words)
    row(fpsim.recommend, nothing, 8, error=ValueError, words=words)
    row(Lognormal.fit, nothing, error=ValueError, words=words)

# recommend --------------------------------------------------------------------------------------

for bits, error, words in (
    (2, ValueError, ["bits=2", "3 to 16"]),
    (17, ValueError, ["bits=17", "3 to 16"]),
    (-8, ValueError, ["bits=-8", "3 to 16"]),
    (8.0, TypeError, ["bits=8.0", "integer", "3 to 16"]),
    ("8", TypeError, ["bits='8'", "integer", "3 to 16"]),
    (True, TypeError, ["bits=True", "integer"]),
    (None, TypeError, ["bits=None", "integer"]),
    ([], ValueError, ["bits=[]", "3 to 16"]),
    ([8, "x"], TypeError, ["bits='x'", "3 to 16"]),
    (range(15, 18), ValueError, ["bits=17", "3 to 16"]),
    (np.array(8), TypeError, ["bits=array(8)", "3 to 16"]),
):
    row(fpsim.recommend, WIDE, bits, error=error, words=words)
for options, error, words in (
    ({"metric": "mse"}, ValueError, ["metric='mse'", "'relative'", "'nmse'"]),
    ({"scale": "free"}, ValueError, ["scale='free'", "'power_of_two'", "'continuous'", "'none'"]),
    ({"scale": 2.0}, ValueError, ["scale=2.0", "'power_of_two'"]),
    ({"specials": "ocp"}, ValueError, ["specials='ocp'", "'fn'", "'ieee'", "'p3109'"]),
    ({"specials": ["fn"]}, (ValueError, TypeError), ["specials=['fn']", "'fn'", "'ieee'"]),
    ({"specials": None}, ValueError, ["specials=None", "'none'"]),
    ({"basis": "data"}, ValueError, ["basis='data'", "'auto'", "'fit'", "'sketch'"]),
    ({"overflow": "clip"}, ValueError, ["overflow='clip'", "'saturate'"]),
    ({"sparsity": 1.0}, ValueError, ["sparsity=1.0", "0 to below 1"]),
    ({"sparsity": -0.1}, ValueError, ["sparsity=-0.1", "0 to below 1"]),
    ({"sparsity": float("nan")}, ValueError, ["sparsity=nan", "0 to below 1"]),
    ({"sparsity": "most"}, (ValueError, TypeError), ["sparsity='most'", "0 to below 1"]),
    ({"sparsity": [0.5]}, TypeError, ["sparsity=[0.5]", "0 to below 1"]),
    ({"subnormals": "no"}, TypeError, ["subnormals='no'", "True or False"]),
    ({"signed": None}, TypeError, ["signed=None", "True or False"]),
    ({"signed": 2}, TypeError, ["signed=2", "True or False"]),
):
    row(fpsim.recommend, WIDE, 8, error=error, words=words, **options)
row(fpsim.recommend, {}, 8, error=ValueError, words=["x is an empty mapping", "at least one"])
row(fpsim.recommend, {"a": [0.0], "b": []}, 8, error=ValueError, words=["x", "2 tensors"])
row(fpsim.recommend, Sketch(), 8, error=ValueError, words=["no finite nonzero element"])
row(
    fpsim.recommend,
    {"fine": WIDE, "conv1": np.array([1j])},
    8,
    error=TypeError,
    words=["tensor 'conv1'", "complex128", REAL],
)
row(
    fpsim.recommend,
    {"\x1b[31m\n": np.array([1j])},
    8,
    error=TypeError,
    words=[r"'\x1b[31m\n'", "complex128"],
)

# Pictures and panels ----------------------------------------------------------------------------

for picture in (plot.number_line, plot.relative_error):
    row(picture, [], error=ValueError, words=["formats=[]", "at least one"])
    row(picture, "e99", error=ValueError, words=["e99", "fpsim.formats()"])
for picture in (plot.number_line, plot.step_function, plot.cast_error):
    row(picture, "e4m3", ax="here", error=TypeError, words=["ax='here'", "Axes", "None"])
    row(picture, "binary32", error=ValueError, words=["binary32", "2**32", "16 bits"])
    for limits in ((3, 1), (1, float("nan")), (0,), 7, "ab", (1, 2, 3)):
        row(picture, "e4m3", limits=limits, error=ValueError, words=["limits=", "smaller first"])
row(plot.number_line, "e4m3", log=True, limits=(-1, 2), error=ValueError, words=["positive"])
row(plot.number_line, "e4m3", log=1, error=TypeError, words=["log=1", "bool"])
row(plot.number_line, FAR, error=ValueError, words=["leave binary64"])
row(plot.step_function, "e4m3", rounding="up", error=ValueError, words=ROUNDINGS)
row(plot.cast_error, "e4m3", overflow="clip", error=ValueError, words=["'clip'", "'saturate'"])
row(plot.relative_error, "binary64", error=ValueError, words=["64 bits", "32 bits"])
row(plot.relative_error, FAR, error=ValueError, words=[FAR, "2**1000"])
row(plot.relative_error, "e4m3", scale=0, error=ValueError, words=["scale=0", "positive"])
for picture in (plot.coverage, plot.fits, plot.sparsity):
    more = ("e4m3",) if picture is plot.coverage else ()
    row(picture, [0.0, np.nan], *more, error=ValueError, words=["2 elements", "at least one"])
    row(picture, [1j], *more, error=TypeError, words=["complex128", REAL])
row(plot.coverage, X, "e4m3", scale=-1.0, error=ValueError, words=["scale=-1.0", "positive"])
row(plot.coverage, X, FAR, error=ValueError, words=["leave binary64"])
for picture in (plot.fits, plot.sparsity):
    row(picture, X, fit=0.5, error=TypeError, words=["fit is of type float", "Lognormal"])
row(plot.coverage, X, "e4m3", fit=0.5, error=TypeError, words=["fit is of type float"])
for target in (0, 1, -0.1, np.nan):
    row(plot.sparsity, X, target=target, error=ValueError, words=["target=", "between 0 and 1"])
row(plot.error_by_sigma, 2, error=ValueError, words=["bits=2", "3 to 16"])
row(plot.error_by_sigma, 4, at=0, error=ValueError, words=["at=0", "positive"])
row(plot.error_by_sigma, 4, metric="mse", error=ValueError, words=["metric='mse'", "'nmse'"])
row(plot.error_by_sigma, 4, specials="x", error=ValueError, words=["specials='x'", "'ieee'"])
for sigmas in ([2.0, 1.0], [0.0, 1.0], [1.0], "ab", [[1.0, 2.0]], [1.0, np.inf], [[1], [1, 2]]):
    row(plot.error_by_sigma, 4, sigmas=sigmas, error=ValueError, words=["sigmas", "ascending"])
row(plot.candidates, 5, error=TypeError, words=["int", "fpsim.recommend"])
row(plot.accumulation, X, X, [], error=ValueError, words=["accumulators=[]", "at least one"])
row(plot.accumulation, X, X, "e9", error=ValueError, words=["e9", "fpsim.formats()"])
row(plot.accumulation, X, WIDE[:2], SUM, error=ValueError, words=["a (3,)", "b (2,)"])
row(plot.accumulation, [], [], SUM, error=ValueError, words=["one product"])
row(plot.accumulation, 1.0, 1.0, SUM, error=ValueError, words=["one axis"])
row(plot.accumulation, [1j], [1.0], SUM, error=TypeError, words=["complex128", REAL])
for lengths in ([0], [4], [2, 1], [1.5], [], 3, "a"):
    row(plot.accumulation, X, X, SUM, lengths=lengths, error=ValueError,
        words=["lengths=", "1 to 3"])  # fmt: skip
for rows, error, words in (
    (5, TypeError, ["int", "dict"]),
    ("ab", TypeError, ["str", "dict"]),
    ([], ValueError, ["no column 'bits'"]),
    ([3], TypeError, ["no mapping"]),
    ({"bits": [1]}, ValueError, ["no column 'error'", "['bits']"]),
    ({"bits": [1], "error": []}, ValueError, ["unequal length"]),
    ({"bits": [], "error": []}, ValueError, ["a row or more"]),
    ({"bits": ["a"], "error": [1]}, ValueError, ["'bits'", "no finite number"]),
    ({"bits": [1], "error": [float("inf")]}, ValueError, ["'error'", "no finite number"]),
    ([{"bits": 1, "error": 2}, {"bits": 1}], ValueError, ["'error'", "no finite number"]),
):
    row(plot.pareto, rows, error=error, words=words)
row(fpsim.explore, [1j], error=TypeError, words=["complex128", REAL])
row(fpsim.explore, [0.0], error=ValueError, words=["no finite nonzero"])
row(fpsim.explore, X, 2, error=ValueError, words=["bits=2", "3 to 16"])
row(fpsim.explore, X, 8.0, error=TypeError, words=["bits=8.0", "integer"])
row(fpsim.explore, X, specials="x", error=ValueError, words=["specials='x'", "'ieee'"])
ONE_SET = fpsim.recommend({"a": X}, 4)
row(report.page, fpsim.recommend(X, 4), error=TypeError, words=["without a name", "mapping"])
row(report.page, {}, error=TypeError, words=["type dict", "fpsim.recommend"])
row(report.page, {4: X}, error=TypeError, words=["type dict", "fpsim.recommend"])
row(report.page, ONE_SET, pictures=-1, error=ValueError, words=["pictures=-1", "0 or more"])
row(report.page, ONE_SET, pictures=True, error=TypeError, words=["pictures=True", "integer"])

# certify ----------------------------------------------------------------------------------------

CERTIFY = fpsim.certify.certify
QUICK: dict[str, Any] = {"modes": (Rounding.to_odd,), "exponents": (127, 127)}
row(CERTIFY, "e4m", error=ValueError, words=["fmt='e4m'", "fpsim.formats()"], **QUICK)
row(CERTIFY, "binary32", error=ValueError, words=["binary32", "32 bits", "16 bits"], **QUICK)
row(CERTIFY, "e4m3b1000", error=ValueError, words=["e4m3b1000", "float32"], **QUICK)
row(CERTIFY, FAR, error=ValueError, words=[FAR, "float32"], **QUICK)
for exponents in ((-1, 3), (0, 256), (5, 4), (1.0, 2.0), (3,), 7):
    row(
        CERTIFY,
        "float4_e2m1fn",
        error=(ValueError, TypeError),
        words=[f"exponents={exponents!r}", "0", "255"],
        modes=(Rounding.to_odd,),
        exponents=exponents,
    )
row(
    CERTIFY,
    "float4_e2m1fn",
    error=ValueError,
    words=["'up'", "'to_odd'"],
    modes=("up",),
    exponents=(127, 127),
)
row(
    CERTIFY,
    "float4_e2m1fn",
    error=ValueError,
    words=["'clip'", "'saturate'"],
    modes=(Rounding.ties_to_even,),
    overflows=("clip",),
    exponents=(127, 127),
)


@contextlib.contextmanager
def unwritten(*values: Any) -> Iterator[None]:
    """Nothing is written to those of these that are arrays."""
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    before = [a.tobytes() for a in arrays]
    yield
    assert [a.tobytes() for a in arrays] == before


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_argument_validation(row: Row) -> None:
    with unwritten(*row.args, *row.kwargs.values()), pytest.raises(Exception) as caught:  # noqa: PT011 - its type is checked below
        row.function(*row.args, **row.kwargs)
    error, message = caught.value, str(caught.value)
    allowed = row.error if isinstance(row.error, tuple) else (row.error,)
    assert type(error) in allowed, f"{type(error).__name__}: {message}"
    missing = [word for word in row.words if word not in message]
    assert not missing, f"no {missing} in: {message}"
    assert "\n" not in message, "a message is one line"
    assert ". " not in message, f"a message is one sentence: {message}"
    assert not message.endswith("."), message
    assert len(message) < 500, f"{len(message)} characters: {message}"
    files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    assert not [f for f in files if "numba" in f or "/fpsim/kernels/" in f], files


def test_the_table_reaches_every_public_function() -> None:
    called = {getattr(row.function, "__name__", "") for row in ROWS}
    called |= {"get_num_threads", "result"}  # the last by `enter`
    functions = [
        name
        for name in fpsim.__all__
        if callable(getattr(fpsim, name)) and not isinstance(getattr(fpsim, name), type)
    ]
    assert set(functions) - {"formats", "sample_gradients"} <= called


@pytest.mark.parametrize("function", [fpsim.round, fpsim.encode])
def test_nothing_is_written_where_only_the_last_element_is_wrong(
    function: Callable[..., Any],
) -> None:
    """Far more elements than a thread takes at a time: the first would be done by then."""
    x = np.linspace(-3, 3, 700_000, dtype=np.float32).reshape(700, 1000)
    x[699, 999] = np.nan
    flags = blank(x.shape, np.uint8)
    out = blank(x.shape, np.float32 if function is fpsim.round else np.uint8)
    with unwritten(x, out, flags), pytest.raises(ValueError, match=r"1 NaN.*\(699, 999\)"):
        function(x, "float4_e2m1fn", out=out, flags=flags)
    if function is fpsim.round:
        with unwritten(x), pytest.raises(ValueError, match=r"1 NaN.*\(699, 999\)"):
            function(x, "float4_e2m1fn", out=x)
    random_bits = np.zeros(x.shape, np.uint8)
    random_bits[-1, -1] = 16
    x[699, 999] = 0.0
    with unwritten(out, flags), pytest.raises(ValueError, match="random_bits=16"):
        function(
            x,
            "float4_e2m1fn",
            rounding=Stochastic(bits=4),
            random_bits=random_bits,
            out=out,
            flags=flags,
        )


def test_a_wrong_number_of_threads_in_the_environment_is_one_clear_error() -> None:
    code = "import fpsim; fpsim.round([0.3], 'e4m3')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"FPSIM_NUM_THREADS": "all"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "ValueError: FPSIM_NUM_THREADS='all'" in run.stderr.splitlines()[-1]
