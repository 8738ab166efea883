"""The C header: compiled as strict C99, asked through ctypes, compared with the kernels and, on
small formats, with exact rationals.
"""

from __future__ import annotations

import ctypes
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import Flag, Format, Overflow, Rounding, Stochastic, spec
from fpsim.hardware.c_header import c_header
from fpsim.hardware.rendering import hex_float, identifier
from fpsim.hardware.vectors import vectors

STRICT = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]
MODES: list[Any] = [*Rounding]
RANDOM: list[Any] = [Stochastic(n, v) for n in (1, 5, 32) for v in "ABC"]
RULES = [*Overflow]
NUMBERS = {mode: number for number, mode in enumerate([*Rounding, "A", "B", "C"])}

DRIVER = """
#include <stddef.h>
#include "format.h"

#define FILL(name, type, function) \\
    void name(size_t n, const type *x, int rounding, int overflow, unsigned bits, \\
        const uint64_t *random, uint64_t *codes, unsigned char *flags) \\
    { \\
        size_t i; \\
        for (i = 0; i < n; i++) { \\
            unsigned raised = 0; \\
            codes[i] = function(x[i], (enum fpsim_rounding)rounding, \\
                (enum fpsim_overflow)overflow, bits, random[i], &raised); \\
            flags[i] = (unsigned char)raised; \\
        } \\
    }
FILL(encode, double, f_encode)
FILL(encode_float, float, f_encode_float)
FILL(encode_bits, uint64_t, f_encode_bits)

void nearest(size_t n, const double *x, uint64_t *codes)
{
    size_t i;
    for (i = 0; i < n; i++)
        codes[i] = f_from_double(x[i]);
}

void decode(size_t n, const uint64_t *codes, double *x)
{
    size_t i;
    for (i = 0; i < n; i++)
        x[i] = f_to_double((f_t)codes[i]);
}
"""

ALL: list[Any] = [
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e8m0fnu",
    "float6_e3m2fn",
    "float4_e2m1fn",
    "e2m1",
    "e3m0",
    "binary8p3se",
    "binary8p1uf",
    "binary6p3ue",
    "ue3m2f",
    "e3m2b9f,subnormals=false",
    "e4m0fn,subnormals=false",
    "bfloat16",
    "binary16",
    "tf32",
    "binary32",
    "binary64",
    "e11m20",
    Format(3, 2, nans="none"),
    Format(3, 2, nans="all_ones"),
    Format(2, 3, signed=False, nans="none", infinities=False, subnormals=False),
    Format(3, 1, zero=False, infinities=False, nans="none"),
    Format(3, 2, zero=False, nans="all_ones"),
    Format(2, 6, bias=1075 - 6, infinities=False, nans="none"),  # below binary64's normal range
    Format(1, 4, infinities=False, nans="none"),
]


class Compiled:
    """A header's functions on arrays."""

    def __init__(self, fmt: Format, folder: Path, *options: str) -> None:
        self.fmt = fmt
        (folder / "format.h").write_text(c_header(fmt, name="f"))
        (folder / "driver.c").write_text(DRIVER)
        library = folder / "driver.so"
        command = [*STRICT, *options, "-shared", "-fPIC", "-o", str(library), "driver.c"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        self._library = ctypes.CDLL(str(library))

    def encode(
        self, x: Any, rounding: Any, overflow: Any, random: Any = 0
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        stochastic = rounding if isinstance(rounding, Stochastic) else None
        number = NUMBERS[stochastic.variant if stochastic else rounding]
        bits = (stochastic.bits or 64) if stochastic else 0
        names = {"float64": "encode", "float32": "encode_float", "uint64": "encode_bits"}
        words = np.ascontiguousarray(np.broadcast_to(random, x.shape), np.uint64)
        codes, flags = np.empty(x.size, np.uint64), np.empty(x.size, np.uint8)
        getattr(self._library, names[x.dtype.name])(
            ctypes.c_size_t(x.size), _at(x), number, RULES.index(overflow),
            bits, _at(words), _at(codes), _at(flags),
        )  # fmt: skip
        return codes, flags

    def call(self, name: str, x: Any, dtype: Any) -> np.ndarray[Any, Any]:
        out = np.empty(x.size, dtype)
        getattr(self._library, name)(ctypes.c_size_t(x.size), _at(x), _at(out))
        return out


def _at(array: Any) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


@pytest.fixture
def compiled(tmp_path: Path) -> Any:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the header with; apt-get install gcc")
    return lambda fmt, *options: Compiled(Format.parse(fmt), tmp_path, *options)


def points(fmt: Format) -> np.ndarray[Any, Any]:
    """Values, middles and quarters with their neighbours, and what lies at the ends of doubles."""
    if fmt.bits <= 16:
        codes = fmt.codes()[:: 1 << max(fmt.bits - 9, 0)]
    else:  # the ends of subnormals and of normals
        near = range(1 << 11)
        ends = {*near, *(fmt.max_code - k for k in near)}
        ends |= {(1 << fmt.mantissa_bits) + k - 1024 for k in near}
        codes = np.array(sorted(k for k in ends if 0 <= k <= fmt.max_code), np.uint64)
    values = fpsim.decode(codes.astype(fmt.code_dtype), fmt, np.float64)
    values = np.unique(np.abs(values[np.isfinite(values)]))
    with np.errstate(over="ignore"):
        top = values[-1] + float(fmt.ulp(values[-1]))
        values = np.append(values, top if np.isfinite(top) else [])
        gaps = np.diff(values)
        inner = [values[:-1] + gaps * part for part in (0.25, 0.5, 0.75)]
        x = np.concatenate([values, *inner])
        x = np.concatenate([x, np.nextafter(x, 0), np.nextafter(x, np.inf)])
    ends = [0.0, 5e-324, 2.2e-308, 1.7e308, np.inf, np.nan, 1e-300, 3.0]
    x = np.concatenate([x, ends])
    return np.unique(np.concatenate([x, -x, [0.0, -0.0]]).view(np.uint64)).view(np.float64)


def numbers_for(x: Any, fmt: Format) -> Any:
    return x[~np.isnan(x)] if fmt.nan_code is None else x


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_encode_is_fpsims_in_every_mode(compiled: Any, fmt: Any) -> None:
    header = compiled(fmt)
    fmt = header.fmt
    x = numbers_for(points(fmt), fmt)
    flags = np.empty(x.size, np.uint8)
    rng = np.random.default_rng(1)
    for rounding in [*MODES, *RANDOM, Stochastic()]:
        random: Any = None
        if isinstance(rounding, Stochastic):
            high = (1 << (rounding.bits or 64)) - 1
            random = rng.integers(0, high, x.size, np.uint64, endpoint=True)
            random[rng.random(x.size) < 0.3] = high
        for overflow in RULES if rounding in MODES[:6] else RULES[1:2]:
            codes = fpsim.encode(
                x, fmt, rounding=rounding, overflow=overflow, random_bits=random, flags=flags
            )
            got, raised = header.encode(x, rounding, overflow, 0 if random is None else random)
            wrong = np.flatnonzero((got != codes) | (raised != flags))
            assert not wrong.size, (
                rounding, overflow, x[wrong[0]].hex(), got[wrong[0]], codes[wrong[0]],
                raised[wrong[0]], flags[wrong[0]],
            )  # fmt: skip
    nearest = fpsim.encode(x, fmt)
    np.testing.assert_array_equal(header.call("nearest", x, np.uint64), nearest)


@pytest.mark.parametrize("fmt", ALL, ids=str)
def test_decode_is_the_specifications(compiled: Any, fmt: Any) -> None:
    header = compiled(fmt)
    fmt = header.fmt
    if fmt.bits <= 16:
        codes = np.arange(1 << fmt.bits, dtype=np.uint64)
    else:
        rng = np.random.default_rng(2)
        ends = np.arange(40, dtype=np.uint64)
        top = np.uint64(fmt.max_code)
        codes = rng.integers(0, (1 << fmt.bits) - 1, 2000, np.uint64, endpoint=True)
        leading = np.uint64(1 << fmt.mantissa_bits)
        codes = np.concatenate([codes, ends, top - ends, top + ends, leading - ends - 1])
    values = header.call("decode", codes, np.float64)
    for code, value in zip(codes.tolist(), values.tolist(), strict=True):
        want = float(spec.decode(code, fmt))
        same = value == want and math.copysign(1, value) == math.copysign(1, want)
        assert same or (math.isnan(value) and math.isnan(want)), hex(code)


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "binary8p4se"])
@pytest.mark.parametrize("source", ["bfloat16", "binary16"])
def test_every_narrow_input(compiled: Any, fmt: str, source: str) -> None:
    """All of bfloat16 and binary16, from float, signalling NaN included."""
    header = compiled(fmt)
    codes = np.arange(1 << 16, dtype=np.uint16)
    values = fpsim.decode(codes, source, np.float32)
    if source == "bfloat16":
        values = (codes.astype(np.uint32) << 16).view(np.float32)  # NaN as they are
    values = numbers_for(values, header.fmt)
    flags = np.empty(values.size, np.uint8)
    for rounding in MODES:
        for overflow in RULES:
            want = fpsim.encode(values, fmt, rounding=rounding, overflow=overflow, flags=flags)
            got, raised = header.encode(values, rounding, overflow)
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(raised, flags)


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "binary16", "bfloat16", "binary32"])
def test_floats_at_the_boundaries(compiled: Any, fmt: str) -> None:
    """The inputs of test vectors: specials, subnormals and signalling NaN of float among them."""
    header = compiled(fmt)
    for rounding in ("ties_to_even", "toward_negative", Stochastic(8)):
        tests = vectors(fmt, "cast", rounding=rounding, count=40_000)
        for columns in tests:
            random = columns.get("random", 0)
            x = columns["x"].view(np.float32)
            mode = tests.rounding
            codes, flags = header.encode(x, mode, "nan", random)
            np.testing.assert_array_equal(codes, columns["result"])
            np.testing.assert_array_equal(flags, columns["flags"])


@pytest.mark.parametrize("fmt", ["e2m1", "ue2m2fn", "binary4p2se", "e2m1fnuz,subnormals=false"])
def test_small_formats_by_exact_rationals(compiled: Any, fmt: str) -> None:
    """The specification, which shares nothing with the header."""
    header = compiled(fmt)
    x = numbers_for(points(header.fmt), header.fmt)
    for rounding in [*MODES, Stochastic(3, "A"), Stochastic(3, "B"), Stochastic(3, "C")]:
        for overflow, random in zip(RULES, (0, 3, 4, 7), strict=True):
            codes, flags = header.encode(x, rounding, overflow, random)
            for value, code, raised in zip(x.tolist(), codes.tolist(), flags.tolist(), strict=True):
                want = spec.project(value, header.fmt, rounding, overflow, random)
                assert (code, Flag(raised)) == want, (value, rounding, overflow, random)


def test_tininess_before_rounding(compiled: Any) -> None:
    header = compiled("e4m3", "-DFPSIM_TINY_BEFORE_ROUNDING=1")
    x = points(header.fmt)
    flags = np.empty(x.size, np.uint8)
    for rounding in MODES:
        fpsim.encode(x, "e4m3", rounding=rounding, flags=flags, tininess="before")
        np.testing.assert_array_equal(header.encode(x, rounding, "nan")[1], flags)


def test_nan_without_a_code(compiled: Any) -> None:
    header = compiled("float4_e2m1fn")
    codes, flags = header.encode(np.array([np.nan, -np.nan]), Rounding.to_odd, "nan")
    assert codes.tolist() == [7, 7]
    assert flags.tolist() == [Flag.invalid] * 2


def test_nothing_undefined_is_done(tmp_path: Path) -> None:
    """Under the sanitizer for undefined behaviour: shifts, above all."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the header with; apt-get install gcc")
    for number, fmt in enumerate(["float8_e4m3fn", "binary64", "e3m2f,subnormals=false", "e3m0"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "format.h").write_text(c_header(fmt, name="f"))
        (folder / "main.c").write_text(
            """#include "format.h"
int main(void)
{
    static const unsigned bits[] = {1, 31, 32, 64};
    unsigned i, flags = 0;
    int rounding, e;
    for (e = 0; e < 2048; e++)
        for (rounding = 0; rounding <= 10; rounding++)
            for (i = 0; i < 4; i++) {
                uint64_t x = (uint64_t)e << 52 | UINT64_C(0x8000000000001) >> (e % 8);
                if (bits[i] == 64 && rounding > 8)
                    continue;
                f_to_double(f_encode_bits(x, (enum fpsim_rounding)rounding,
                    FPSIM_OVERFLOW_NAN, bits[i], 1, &flags));
                f_encode_bits(x | UINT64_C(1) << 63, (enum fpsim_rounding)rounding,
                    FPSIM_OVERFLOW_NAN, bits[i], 0, &flags);
            }
    return 0;
}
"""
        )
        command = [*STRICT, "-fsanitize=undefined", "-fno-sanitize-recover=all", "-o", "main"]
        done = subprocess.run(
            [*command, "main.c"], cwd=folder, capture_output=True, text=True, timeout=60
        )
        if "ubsan" in done.stderr:
            pytest.skip("gcc's sanitizer library is not installed")
        assert done.returncode == 0, done.stderr
        done = subprocess.run(["./main"], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_headers_go_together(tmp_path: Path) -> None:
    """Those of several formats in one file, in C and in C++, with the names that they have."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the header with; apt-get install gcc")
    names = ["float8_e4m3fn", "e3m2b-4f,subnormals=false", "1-4-3", "binary32"]
    lines = ["#include <stdio.h>"]
    for name in names:
        (tmp_path / f"{identifier(name)}.h").write_text(c_header(name))
        lines.append(f'#include "{identifier(name)}.h"')
    calls = ", ".join(f"(double){identifier(name)}_from_float(1.25f)" for name in names)
    lines.append(f'int main(void) {{ printf("%g %g %g %g\\n", {calls}); return 0; }}')
    (tmp_path / "main.c").write_text("\n".join(lines) + "\n")
    expected = [f"{float(fpsim.encode(1.25, name)):g}" for name in names]
    compilers = [STRICT]
    if shutil.which("g++"):
        compilers.append(["g++", "-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-Werror"])
    for compiler in compilers:
        done = subprocess.run(
            [*compiler, "-o", "main", "main.c"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        run = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert run.stdout.split() == expected


def test_constants_are_the_formats() -> None:
    for name in ("float8_e4m3fn", "bfloat16", "binary64", "ue3m2b-4f"):
        fmt = Format.parse(name)
        text = c_header(fmt)
        macros = dict(re.findall(r"#define [A-Z0-9_]+?_([A-Z_]+) (\S+)", text))
        for macro, value in (("MAX", fmt.max), ("SMALLEST", fmt.smallest), ("EPSILON", fmt.eps)):
            assert float.fromhex(macros[macro]) == value
        assert int(macros["BITS"]) == fmt.bits
        assert macros["BIAS"] == f"({fmt.bias})"
        code = macros["MAX_CODE"].removeprefix("UINT64_C(").rstrip("u)")
        assert int(code, 16) == fmt.max_code


def test_literals() -> None:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 1 << 63, 2000).view(np.float64)
    subnormals = rng.integers(0, 1 << 52, 500).view(np.float64)
    for value in [*patterns[np.isfinite(patterns)].tolist(), *subnormals.tolist(), 5e-324, 0.0]:
        text = hex_float(value)
        assert float.fromhex(text) == value
        assert re.fullmatch(r"0\.0|0x1(\.[0-9a-f]*[1-9a-f])?p[+-]\d+", text)


def test_a_name_of_its_own() -> None:
    assert "static inline my8_t my8_from_double(double x)" in c_header("e4m3", name="my8")
