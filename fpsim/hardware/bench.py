"""bench: vectors that the benches of a design read. Imports systemverilog, vectors, vector_files.

A bench reads a file for every rounding mode and overflow rule, and passes over those that are not
there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fpsim.hardware import vector_files
from fpsim.hardware.systemverilog import Design, Unit
from fpsim.hardware.vectors import Vectors, vectors
from fpsim.rounding import Overflow, Rounding, Stochastic

COUNT = 1 << 12  # tests of a mode and a rule


def unit_vectors(
    design: Design,
    unit: Unit,
    *,
    count: int = COUNT,
    tininess: str = "after",
    seed: int = 0,
) -> Iterator[Vectors]:
    """The tests of a unit, in the order of the numbers of ``fpsim_pkg``.

    Parameters
    ----------
    design : Design
    unit : Unit
        One of the design's.
    count : int
        The most tests of a mode and a rule; where there are no more inputs, all of them are
        tests. Decoders are tested on every code, up to 16 bits.
    tininess : {'after', 'before'}
        What the benches' parameter ``TINY_BEFORE`` says.
    seed : int

    Examples
    --------
    >>> from fpsim.hardware.bench import unit_vectors
    >>> from fpsim.hardware.systemverilog import systemverilog
    >>> design = systemverilog("float4_e2m1fn")
    >>> names = [tests.name for tests in unit_vectors(design, design.unit("fma"))]
    >>> len(names), names[0], names[-1]
    (36, 'fma_ties_to_even_infinity', 'fma_stochastic_a8_saturate_infinities')
    """
    options: dict[str, Any] = {"tininess": tininess, "seed": seed}
    if unit.operation == "cast":
        options["source"] = unit.operands[0]
    if not unit.rounds:
        yield vectors(unit.result, "cast", count=1 << 16, **options)
        return
    modes: list[Rounding | Stochastic] = list(Rounding)
    if design.stochastic is not None:
        modes.append(design.stochastic)
    for mode in modes:
        for rule in Overflow:
            yield vectors(
                design.fmt, unit.operation, rounding=mode, overflow=rule, count=count, **options
            )


def write_vectors(design: Design, directory: str | Path, **options: Any) -> list[dict[str, Any]]:
    """Write all tests of a design into an existing folder; options as of `unit_vectors`.

    Returns
    -------
    list of dict
        What `vector_files.write` says of each file.
    """
    return [
        vector_files.write(tests, directory)
        for unit in design.units
        for tests in unit_vectors(design, unit, **options)
    ]
