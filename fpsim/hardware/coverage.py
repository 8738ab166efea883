"""Coverage: which classes of operands and results a set of tests hits, and how often.

Imports format, rounding. It looks at the tests that were made, not at how they were meant.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fpsim.format import Format, NaNs
from fpsim.rounding import Flag, Rounding

if TYPE_CHECKING:
    from fpsim.hardware.vectors import Columns, Field, Vectors

CLASSES = (
    "zero",
    "flushed",  # a subnormal's code in a format without subnormals: it reads as zero
    "subnormal",
    "normal",
    "infinity",
    "quiet_nan",
    "signalling_nan",
)
# Where the exact result lies, seen from the format's values about it.
POSITIONS = (
    "exact",  # on one
    "below_half",  # between two, nearer to the one toward zero
    "half_above_even",  # in the middle, with an even code toward zero
    "half_above_odd",
    "above_half",
    "past_range",  # past the largest finite value, were the exponent to go on
    "special",  # infinity or NaN, from operands that say so
    "invalid",  # no number, or none that the format has a sign or a zero for
)
ROUNDED = ("toward_zero", "away_from_zero")


def classes_of(codes: NDArray[Any], fmt: Format) -> NDArray[np.uint8]:
    """The place of each code's class in `CLASSES`."""
    magnitudes = codes & codes.dtype.type((1 << fmt.magnitude_bits) - 1)
    classes = np.full(codes.shape, CLASSES.index("normal"), np.uint8)
    if fmt.zero:
        below = "subnormal" if fmt.subnormals else "flushed"
        classes[magnitudes < (1 << fmt.mantissa_bits)] = CLASSES.index(below)
        classes[magnitudes == 0] = CLASSES.index("zero")
    classes[magnitudes > fmt.max_code] = CLASSES.index("quiet_nan")
    if fmt.infinity_code is not None:
        classes[magnitudes == fmt.infinity_code] = CLASSES.index("infinity")
    if fmt.nans is NaNs.ieee and fmt.mantissa_bits > 1:
        quiet = codes & codes.dtype.type(1 << (fmt.mantissa_bits - 1)) != 0
        signals = (magnitudes > fmt.infinity_code) & ~quiet
        classes[signals] = CLASSES.index("signalling_nan")
    if fmt.nans is NaNs.negative_zero:
        classes[codes == fmt.nan_code] = CLASSES.index("quiet_nan")
    return classes


class Coverage:
    """Counts of the classes that tests hit.

    Parameters
    ----------
    tests : Vectors

    Examples
    --------
    >>> from fpsim.hardware.coverage import Coverage
    >>> from fpsim.hardware.vectors import vectors
    >>> sums = vectors("float4_e2m1fn", "add", overflow="saturate")
    >>> found = Coverage.of(sums).summary()
    >>> found["classes"]["x"]
    {'+zero': 16, '-zero': 16, '+subnormal': 16, '-subnormal': 16, '+normal': 96, '-normal': 96}
    >>> found["position"]["half_above_even"], found["position"]["past_range"], found["unhit"]
    (28, 16, ['flag underflow', 'flag invalid'])
    """

    def __init__(self, tests: Vectors) -> None:
        self._vectors = tests
        self._coded: list[tuple[Field, Format]] = [
            (field, field.fmt) for field in tests.fields if field.fmt is not None
        ]
        self._classes = {f.name: np.zeros(2 * len(CLASSES), np.int64) for f, _ in self._coded}
        self._binades = {
            field.name: np.zeros(max(fmt.emax, fmt.emin) - fmt.quantum_exponent + 1, np.int64)
            for field, fmt in self._coded
        }
        self._flags = np.zeros(sum(Flag) + 1, np.int64)
        self._positions = np.zeros(len(POSITIONS), np.int64)
        self._rounded = np.zeros(len(ROUNDED), np.int64)
        self.tests = 0  # how many there were

    @classmethod
    def of(cls, tests: Vectors) -> Coverage:
        """What all of these tests hit."""
        coverage = cls(tests)
        for columns in tests:
            coverage.add(columns)
        return coverage

    def add(self, columns: Columns) -> None:
        """Count the tests of a chunk."""
        self.tests += columns["result"].size
        for field, fmt in self._coded:
            codes = columns[field.name]
            classes = classes_of(codes, fmt)
            negative = codes >> codes.dtype.type(fmt.magnitude_bits) if fmt.signed else 0
            _count(self._classes[field.name], 2 * classes + negative)
            mantissas = codes & codes.dtype.type((1 << fmt.mantissa_bits) - 1)
            below = classes == CLASSES.index("subnormal")
            normal = classes == CLASSES.index("normal")
            fields = (codes >> codes.dtype.type(fmt.mantissa_bits)).astype(np.int64)
            fields &= (1 << fmt.exponent_bits) - 1
            _count(self._binades[field.name], fields[normal] + fmt.mantissa_bits - fmt.zero)
            _count(self._binades[field.name], np.frexp(mantissas[below].astype(float))[1] - 1)
        if "flags" in columns:
            _count(self._flags, columns["flags"])
            self._add_positions(columns)

    def _add_positions(self, columns: Columns) -> None:
        """By the results in three modes: which of them move tells where the exact result lies."""
        codes = [columns[field.name] for field, _ in self._coded[:-1]]
        results, flags = {}, {}
        for mode in (Rounding.toward_zero, Rounding.ties_to_zero, Rounding.ties_to_away):
            results[mode], flags[mode] = self._vectors.results(codes, mode, "infinity")
        down, down_flags = results[Rounding.toward_zero], flags[Rounding.toward_zero]

        def differ(a: Rounding, b: Rounding) -> NDArray[np.bool_]:
            past = (flags[a] ^ flags[b]) & np.uint8(Flag.overflow | Flag.invalid)
            different: NDArray[np.bool_] = (results[a] != results[b]) | (past != 0)
            return different

        tie = differ(Rounding.ties_to_zero, Rounding.ties_to_away)
        up = differ(Rounding.toward_zero, Rounding.ties_to_away)
        odd = down & down.dtype.type(1) != 0
        finite = classes_of(down, self._vectors.result) < CLASSES.index("infinity")
        inexact = down_flags & np.uint8(Flag.inexact) != 0
        first_that_holds = {
            "invalid": down_flags & np.uint8(Flag.invalid) != 0,
            "past_range": down_flags & np.uint8(Flag.overflow) != 0,
            "special": ~finite,
            "exact": ~inexact,
            "half_above_odd": tie & odd,
            "half_above_even": tie,
            "above_half": up,
        }
        places = [POSITIONS.index(name) for name in first_that_holds]
        rest = POSITIONS.index("below_half")
        _count(self._positions, np.select(list(first_that_holds.values()), places, rest))
        between = inexact & finite & (down_flags & np.uint8(Flag.overflow | Flag.invalid) == 0)
        _count(self._rounded, (columns["result"] != down)[between])

    def summary(self) -> dict[str, Any]:
        """Counts by name, and under ``unhit`` what the formats have and no test hits.

        ``classes`` and ``binades`` (by exponent) are of every operand and of the result, ``flags``
        of every combination, ``position`` says where exact results lie (see `POSITIONS`), and
        ``rounded`` which way those between two values went. dot has classes and binades only.
        """
        classes = {
            field.name: {
                f"{'+-'[k % 2]}{CLASSES[k // 2]}": int(n)
                for k, n in enumerate(self._classes[field.name])
                if n or k in _possible(fmt, field.name == "result")
            }
            for field, fmt in self._coded
        }
        binades = {
            field.name: {
                str(fmt.quantum_exponent + k): int(self._binades[field.name][k])
                for k in _binades(fmt)
            }
            for field, fmt in self._coded
        }
        summary: dict[str, Any] = {"classes": classes, "binades": binades}
        unhit = [
            f"{name} {which}"
            for name, hits in classes.items()
            for which, n in hits.items()
            if not n
        ]
        for name, hits in binades.items():
            unhit += _runs(f"{name} 2^", [int(e) for e, n in hits.items() if not n])
        if self._vectors.accumulator is None:
            flags = {_flag_names(k): int(n) for k, n in enumerate(self._flags) if n}
            position = dict(zip(POSITIONS, map(int, self._positions), strict=True))
            rounded = dict(zip(ROUNDED, map(int, self._rounded), strict=True))
            summary |= {"flags": flags, "position": position, "rounded": rounded}
            unhit += [f"position {name}" for name in POSITIONS[:6] if not position[name]]
            unhit += [
                f"flag {flag.name}"
                for flag in Flag
                if flag is not Flag.divide_by_zero
                and not any(n for k, n in enumerate(self._flags) if k & flag)
            ]
        return summary | {"unhit": unhit}


def _count(counts: NDArray[np.int64], indices: NDArray[Any]) -> None:
    counts += np.bincount(indices.astype(np.int64), minlength=counts.size)


def _possible(fmt: Format, result: bool) -> set[int]:
    """Classes, with their signs, that some code has; of a result: that is ever written."""
    top = (1 << fmt.magnitude_bits) - 1
    magnitudes = {0, 1 << fmt.mantissa_bits, fmt.max_code}
    if fmt.subnormals or not result:
        magnitudes.add(1)
    if fmt.infinity_code is not None:
        magnitudes.add(fmt.infinity_code)
    if fmt.nans is NaNs.ieee and not result:
        magnitudes |= {min(fmt.max_code + 2, top), top}
    sign = 1 << fmt.magnitude_bits if fmt.signed else 0
    codes = {m | s for m in magnitudes if m <= top for s in (0, sign)}
    if fmt.nan_code is not None:
        codes |= {fmt.nan_code} | (set() if result else {fmt.nan_code | sign})
    if fmt.nans is NaNs.ieee and fmt.mantissa_bits == 0:
        codes.discard(top)
    listed = np.array(sorted(codes), np.uint64)
    negative = listed >> np.uint64(fmt.magnitude_bits) if fmt.signed else np.zeros_like(listed)
    return {
        int(k) for k in 2 * classes_of(listed, fmt).astype(np.int64) + negative.astype(np.int64)
    }


def _binades(fmt: Format) -> range:
    """Exponents of the format's values, from the lowest on, counted from the quantum's."""
    first = 0 if fmt.subnormals else fmt.mantissa_bits
    return range(first, fmt.emax - fmt.quantum_exponent + 1)


def _flag_names(flags: int) -> str:
    return "+".join(str(flag.name) for flag in Flag if flag & flags) or "none"


def _runs(prefix: str, numbers: list[int]) -> list[str]:
    """Ascending integers as single ones and runs."""
    texts = []
    for _, run in groupby(enumerate(numbers), lambda item: item[1] - item[0]):
        members = [number for _, number in run]
        last = f" to {prefix.split()[-1]}{members[-1]}" if len(members) > 1 else ""
        texts.append(f"{prefix}{members[0]}{last}")
    return texts
