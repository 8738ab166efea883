"""Presets: how the matrix units of real processors sum, as accumulators.

Imports accumulator, catalog, format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fpsim.accumulator import Accumulator, Carry, Order
from fpsim.arguments import shown
from fpsim.catalog import parse
from fpsim.format import Format

_XIE = "Xie, Wang, Yang, Yang: MMA-Sim (arXiv:2511.10909)"
_RECORDED = "1,000 recorded dot products, all equal"
_LITERATURE = "from the literature, not checked against outputs"
_BINARY32 = Format(8, 23)
_FLOAT8 = Format(8, 13)  # what the 8-bit modes of Ada and Hopper keep of a sum


@dataclass(frozen=True)
class Unit:
    """One mode of a matrix unit.

    Parameters
    ----------
    name : str
        The processor.
    operands : str
        The format of the factors.
    accumulator : Accumulator
    source : str
        Where the parameters are from.
    status : str
        Whether they were checked against outputs of the processor.
    note : str
        What else there is to know.
    """

    name: str
    operands: str
    accumulator: Accumulator
    source: str
    status: str
    note: str = ""


def _aligned(operands: str, block: int, bits: int, fmt: Any = "binary32") -> Accumulator:
    return Accumulator(
        fmt,
        rounding="toward_zero",  # type: ignore[arg-type]  # parsed at birth
        overflow="infinity",  # type: ignore[arg-type]
        block=block,
        alignment_bits=bits,
        operands=operands,  # type: ignore[arg-type]
    )


def _amd() -> Iterator[tuple[str, str, Accumulator, str]]:
    """(unit, format of the operands, accumulator, note)."""
    options: dict[str, Any] = {"overflow": "infinity"}
    for operands, block in (("float16", 4), ("bfloat16", 2)):
        exact = Accumulator(_BINARY32, order=Order.exact, block=block, **options)
        yield "amd-cdna1", operands, exact, ""
    for operands in ("float16", "bfloat16"):
        pairs = Accumulator(
            _BINARY32,
            product=_BINARY32,
            order=Order.blocked,
            block=4,
            block_order=Order.pairwise,
            operands=parse(operands),
            flush_subnormals=True,
            **options,
        )
        note = "of instructions with the suffix _1k; older ones take blocks of 2"
        yield "amd-cdna2", operands, pairs, note if operands == "bfloat16" else ""
    for operands, block in (
        ("float16", 8),
        ("bfloat16", 8),
        ("tf32", 4),
        ("float8_e4m3fnuz", 16),
        ("float8_e5m2fnuz", 16),
    ):
        two_stage = Accumulator(
            _BINARY32,
            block=block,
            alignment_bits=24,
            carry=Carry.two_stage,
            carry_bits=31,
            interleaved=2 if block == 16 else 1,
            operands=parse(operands),
            **options,
        )
        yield "amd-cdna3", operands, two_stage, ""


def _units() -> dict[tuple[str, str], Unit]:
    rows: list[tuple[str, str, Accumulator, str, str, str]] = []

    def aligned(
        names: str, operands: str, block: int, bits: int, status: str, fmt: Any = "binary32"
    ) -> None:
        for name in names.split():
            verified = status == _RECORDED and name == names.split()[0]
            rows.append(
                (
                    name,
                    operands,
                    _aligned(operands, block, bits, fmt),
                    _XIE,
                    status if verified else _LITERATURE,
                    "",
                )
            )

    aligned("nvidia-v100", "float16", 4, 23, _RECORDED)
    for operands in ("float16", "bfloat16"):
        aligned("nvidia-a100 nvidia-a2", operands, 8, 24, _RECORDED)
        aligned("nvidia-ada nvidia-l40s", operands, 8, 24, _LITERATURE)
        aligned("nvidia-h100 nvidia-h200", operands, 16, 25, _RECORDED)
        aligned("nvidia-b200", operands, 16, 25, _LITERATURE)
    aligned("nvidia-a100 nvidia-a2", "tf32", 4, 24, _RECORDED)
    aligned("nvidia-ada nvidia-l40s", "tf32", 4, 24, _LITERATURE)
    aligned("nvidia-h100 nvidia-h200", "tf32", 4, 25, _RECORDED)
    aligned("nvidia-b200", "tf32", 8, 25, _LITERATURE)
    for operands in ("float8_e4m3fn", "float8_e5m2"):
        aligned("nvidia-ada nvidia-l40s", operands, 16, 13, _LITERATURE, _FLOAT8)
        aligned("nvidia-h100 nvidia-h200", operands, 32, 13, _RECORDED, _FLOAT8)
        aligned("nvidia-b200", operands, 32, 25, _LITERATURE)
    for name, operands, accumulator, note in _amd():
        rows.append((name, operands, accumulator, _XIE, _LITERATURE, note))
    return {(row[0], row[1]): Unit(*row) for row in rows}


def units() -> list[Unit]:
    """Every preset there is.

    Examples
    --------
    >>> from fpsim.units import units
    >>> [unit.operands for unit in units() if unit.name == "nvidia-h100"]
    ['float16', 'bfloat16', 'tf32', 'float8_e4m3fn', 'float8_e5m2']
    """
    return list(_units().values())


def unit(name: str, operands: Any) -> Unit:
    """The preset of a processor and a format of its operands; see `Accumulator.preset`."""
    every = _units()
    named = [u for u in every.values() if u.name == name]
    if not named:
        names = ", ".join(repr(n) for n in dict.fromkeys(u.name for u in every.values()))
        raise ValueError(f"unit={shown(name)} is not known; there are {names}")
    wanted = parse(operands)
    for u in named:
        if parse(u.operands) == wanted:
            return u
    allowed = ", ".join(repr(u.operands) for u in named)
    raise ValueError(
        f"operands={shown(str(operands))} of unit={name!r} are not known; there are {allowed}"
    )
