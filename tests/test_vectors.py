"""Test vectors, read back from their files: against exact rationals and SoftFloat; which units
they catch, what they cover, and how the files look.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import softfloatpy as sf

import fpsim
from fpsim import Accumulator, Flag, Format, Overflow, Rounding, Stochastic, spec
from fpsim.hardware.coverage import Coverage
from fpsim.hardware.vector_files import size, write
from fpsim.hardware.vectors import DEFAULT_COUNT, EXHAUSTIVE, Vectors, vectors

NAN = math.nan
Row = tuple[int, ...]


def read_text(tests: Vectors, path: Path) -> list[Row]:
    """What the docstring of `fpsim.hardware.vectors` says, in a pattern, and nothing else."""
    pattern = " ".join(f"([0-9A-F]{{{-(-field.bits // 4)}}})" for field in tests.fields)
    rows = []
    for line in path.read_text("ascii").split("\n")[:-1]:
        match = re.fullmatch(pattern, line)
        assert match, line
        rows.append(tuple(int(text, 16) for text in match.groups()))
        assert all(n >> field.bits == 0 for n, field in zip(rows[-1], tests.fields, strict=True))
    return rows


def written(tests: Vectors, folder: Path) -> list[Row]:
    entry = write(tests, folder)
    rows = read_text(tests, folder / f"{tests.name}.txt")
    assert entry["tests"] == len(rows)
    return rows


# The definition, in exact rational arithmetic ----------------------------------------------------


def signals(code: int, fmt: Format) -> bool:
    """Whether a code is a signalling NaN: IEEE 754-2019, 6.2.1."""
    is_nan = isinstance(value := spec.decode(code, fmt), float) and math.isnan(value)
    return is_nan and fmt.nans == "ieee" and code >> (fmt.mantissa_bits - 1) & 1 == 0


def negative(x: Any) -> bool:
    return math.copysign(1, x) < 0 if isinstance(x, float) else x < 0


def plus(x: Any, y: Any, rounding: Any) -> Any:
    """x + y with IEEE 754's signs of zero (6.3); None where it is invalid."""
    if any(isinstance(v, float) and math.isnan(v) for v in (x, y)):
        return NAN
    if any(isinstance(v, float) and math.isinf(v) for v in (x, y)):
        infinite = {v for v in (x, y) if isinstance(v, float) and math.isinf(v)}
        return None if len(infinite) == 2 else infinite.pop()
    if x == 0 and y == 0 and negative(x) == negative(y):
        return x
    exact = Fraction(x) + Fraction(y)
    return -0.0 if exact == 0 and rounding is Rounding.toward_negative else exact


def times(x: Any, y: Any) -> Any:
    if any(isinstance(v, float) and math.isnan(v) for v in (x, y)):
        return NAN
    sign = -1 if negative(x) != negative(y) else 1
    if any(isinstance(v, float) and math.isinf(v) for v in (x, y)):
        return None if x == 0 or y == 0 else sign * math.inf
    exact = Fraction(x) * Fraction(y)
    return -0.0 if exact == 0 and sign < 0 else exact


def expected(tests: Vectors, codes: Row, random: int) -> tuple[int, int]:
    """The code and the flags of a result."""
    x, *more = (spec.decode(c, fmt) for c, fmt in zip(codes, tests.formats, strict=True))
    if tests.operation == "cast":
        exact = x
    elif tests.operation == "add":
        exact = plus(x, more[0], tests.rounding)
    else:
        exact = times(x, more[0])
        if tests.operation == "fma" and exact is not None:
            exact = plus(exact, more[1], tests.rounding)
    invalid = any(signals(c, fmt) for c, fmt in zip(codes, tests.formats, strict=True))
    if exact is None or invalid:
        assert tests.fmt.nan_code is not None
        return tests.fmt.nan_code, Flag.invalid
    return spec.project(exact, tests.fmt, tests.rounding, tests.overflow, random, tests.tininess)


def assert_right(tests: Vectors, rows: list[Row]) -> None:
    for row in rows:
        codes, (*random, result, flags) = row[: len(tests.formats)], row[len(tests.formats) :]
        want = expected(tests, codes, *(random or [0]))
        assert (result, Flag(flags)) == want, ([hex(n) for n in row], want)


SMALL = [
    "float4_e2m1fn",
    "e2m1",
    "e1m2f",
    "e3m0",
    "e2m1fnuz",
    "binary4p2se",
    "ue2m2fn",
    "binary4p2uf",
    Format(2, 1, bias=0, nans="none"),  # infinity and no NaN
    Format(2, 1, nans="all_ones", subnormals=False),
    Format(3, 1, signed=False, zero=False, infinities=False, nans="all_ones"),
]
MODES: list[Any] = [*Rounding, *(Stochastic(1, variant) for variant in "ABC")]
CASES: list[tuple[Any, Any]] = [(mode, Overflow.nan) for mode in MODES]
CASES += [(mode, rule) for mode in ("ties_to_even", "toward_negative") for rule in [*Overflow][:1]]
CASES += [("ties_to_away", rule) for rule in [*Overflow][2:]]


@pytest.mark.parametrize("op", ["add", "mul"])
@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_every_pair_of_small_formats(fmt: Any, op: str, tmp_path: Path) -> None:
    fmt = Format.parse(fmt)
    for rounding, overflow in CASES:
        tests = vectors(fmt, op, rounding=rounding, overflow=overflow)
        rows = written(tests, tmp_path)
        assert tests.exhaustive
        inputs = [row[:-2] for row in rows]
        assert inputs == sorted(set(inputs))
        integers = 2 if isinstance(rounding, Stochastic) else 1
        left_out = (integers << 2 * fmt.bits) - len(rows)
        # Opposite infinities added, infinity times zero: where a format has no NaN.
        lacking = {"add": 2, "mul": 8}[op] if fmt.infinities and fmt.nan_code is None else 0
        assert left_out == lacking * integers
        assert_right(tests, rows)


@pytest.mark.parametrize("fmt", ["e2m1", "e2m0f", "binary3p2se"])
def test_every_triple_of_small_formats(fmt: str, tmp_path: Path) -> None:
    for rounding in MODES[-4:] if fmt == "e2m1" else MODES:
        tests = vectors(fmt, "fma", rounding=rounding)
        assert tests.exhaustive
        assert_right(tests, written(tests, tmp_path))


@pytest.mark.parametrize(
    ("source", "fmt"),
    [
        ("e4m3", "float4_e2m1fn"),
        ("e5m2", "ue2m2fn"),
        ("float8_e4m3fn", "e3m2,subnormals=false"),
        ("float8_e8m0fnu", "float8_e5m2fnuz"),
        ("e3m2", "float8_e8m0fnu"),
        ("e2m1", "binary16"),
        ("binary8p3se", "binary6p3sf"),
    ],
)
def test_every_cast_of_small_formats(source: str, fmt: str, tmp_path: Path) -> None:
    for rounding, overflow in CASES:
        tests = vectors(fmt, "cast", source=source, rounding=rounding, overflow=overflow)
        rows = written(tests, tmp_path)
        assert tests.exhaustive
        assert_right(tests, rows)


@pytest.mark.parametrize("tininess", ["after", "before"])
@pytest.mark.parametrize("fmt", ["float8_e5m2", "binary16", "bfloat16", "binary32", "binary64"])
@pytest.mark.parametrize("op", ["cast", "add", "mul", "fma"])
def test_aimed_at_faults_and_right(op: str, fmt: str, tininess: str, tmp_path: Path) -> None:
    source = {"cast": "binary64" if fmt == "binary32" else None}.get(op)
    for rounding in ("ties_to_even", "to_odd", Stochastic(5, "C"), Stochastic()):
        tests = vectors(
            fmt, op, rounding=rounding, tininess=tininess, count=300, seed=7, source=source
        )
        rows = written(tests, tmp_path)
        assert len(rows) == 300
        assert_right(tests, rows)


def test_sums_are_folded_as_the_accumulator_says(tmp_path: Path) -> None:
    for rounding in (Rounding.ties_to_even, Rounding.toward_negative, Stochastic(3, "B")):
        accumulator = Accumulator("e4m3", rounding=rounding, overflow="infinity")
        tests = vectors("e3m2", "dot", accumulator=accumulator, terms=3, count=1500)
        assert len(tests.fields) == 8 + 3 * isinstance(rounding, Stochastic)
        for row in written(tests, tmp_path):
            a, b, c, random = row[:3], row[3:6], row[6], row[7:-1] or (0, 0, 0)
            total = c
            for k in range(3):
                x, y = (spec.decode(side[k], tests.fmt) for side in (a, b))
                z = spec.decode(total, accumulator.fmt)
                exact = times(x, y)
                exact = NAN if exact is None else plus(exact, z, rounding)
                exact = NAN if exact is None else exact
                total, _ = spec.project(
                    exact, accumulator.fmt, rounding, accumulator.overflow, random[k]
                )
            assert row[-1] == total, [hex(n) for n in row]


def test_sums_rounded_once(tmp_path: Path) -> None:
    accumulator = Accumulator("e4m3f", order="exact", rounding=Stochastic(4))
    tests = vectors("e3m2", "dot", accumulator=accumulator, terms=2, count=1000)
    rows = written(tests, tmp_path)
    assert len(rows) < 1000  # what is not finite has no sum here
    for a0, a1, b0, b1, c, random, result in rows:
        x, y, z, w = (spec.decode(code, tests.fmt) for code in (a0, b0, a1, b1))
        products = plus(times(x, y), times(z, w), None)
        exact = plus(products, spec.decode(c, accumulator.fmt), None)
        assert result == spec.project(exact, accumulator.fmt, Stochastic(4), "nan", random)[0]


def test_sums_of_a_matrix_unit() -> None:
    h100 = Accumulator.preset("nvidia-h100", "float8_e4m3fn")
    tests = vectors("float8_e4m3fn", "dot", accumulator=h100, count=500)
    assert tests.terms == 32
    chunk = all_columns(tests)
    a, b = (
        np.stack([fpsim.decode(chunk[f"{s}{k}"], tests.fmt) for k in range(32)], 1) for s in "ab"
    )
    sums = fpsim.dot(a, b, h100, fpsim.decode(chunk["c"], h100.fmt))
    np.testing.assert_array_equal(chunk["result"], fpsim.encode(sums, h100.fmt))
    assert Counter(np.isfinite(sums).tolist())[True] > 300


# SoftFloat ---------------------------------------------------------------------------------------

SOFTFLOAT_MODES = {
    "ties_to_even": sf.RoundingMode.NEAR_EVEN,
    "toward_zero": sf.RoundingMode.MIN_MAG,
    "toward_negative": sf.RoundingMode.MIN,
    "toward_positive": sf.RoundingMode.MAX,
    "ties_to_away": sf.RoundingMode.NEAR_MAX_MAG,
}
SOFTFLOAT_NAMES = {"add": "add", "mul": "mul", "fma": "mul_add"}
NUMBERS = {"binary16": sf.Float16, "binary32": sf.Float32, "binary64": sf.Float64}


@pytest.fixture
def softfloat_state() -> Iterator[None]:
    """SoftFloat's modes and flags are global: put them back."""
    state = sf.get_rounding_mode(), sf.get_tininess_mode(), sf.get_exception_flags()
    yield
    sf.set_rounding_mode(state[0])
    sf.set_tininess_mode(state[1])
    sf.set_exception_flags(state[2])


def softfloat(tests: Vectors, codes: Row) -> tuple[int, int]:
    prefix = {"binary16": "f16", "binary32": "f32", "binary64": "f64"}
    if tests.operation == "cast":
        name = f"{prefix[str(tests.source)]}_to_{prefix[str(tests.fmt)]}"
    else:
        name = f"{prefix[str(tests.fmt)]}_{SOFTFLOAT_NAMES[tests.operation]}"
    numbers = [
        NUMBERS[str(fmt)].from_bytes(code.to_bytes(fmt.bits // 8, "big"))
        for code, fmt in zip(codes, tests.formats, strict=True)
    ]
    sf.set_rounding_mode(SOFTFLOAT_MODES[str(tests.rounding)])
    sf.set_tininess_mode(
        sf.TininessMode.AFTER_ROUNDING
        if tests.tininess == "after"
        else sf.TininessMode.BEFORE_ROUNDING
    )
    sf.set_exception_flags(0)
    result = getattr(sf, name)(*numbers)
    return int.from_bytes(result.to_bytes(), "big"), int(sf.get_exception_flags())


def is_nan(code: int, fmt: Format) -> bool:
    return isinstance(value := spec.decode(code, fmt), float) and math.isnan(value)


@pytest.mark.usefixtures("softfloat_state")
@pytest.mark.parametrize("rounding", SOFTFLOAT_MODES)
@pytest.mark.parametrize(
    ("fmt", "op", "source"),
    [
        ("binary16", "cast", "binary32"),
        ("binary32", "cast", "binary16"),
        ("binary32", "cast", "binary64"),
        *itertools.product(["binary16", "binary32"], SOFTFLOAT_NAMES, [None]),
    ],
)
def test_softfloat_agrees(
    fmt: str, op: str, source: str | None, rounding: str, tmp_path: Path
) -> None:
    """Signalling NaN included; a NaN is one, whatever its payload."""
    for tininess in ("after", "before"):
        tests = vectors(
            fmt, op, source=source, rounding=rounding, overflow="infinity", tininess=tininess,
            count=2500, seed=11,
        )  # fmt: skip
        rows = written(tests, tmp_path)
        seen = Flag(0)
        for *codes, result, flags in rows:
            code, raised = softfloat(tests, tuple(codes))
            if is_nan(code, tests.fmt):
                code = tests.fmt.nan_code or 0
            assert (result, flags) == (code, raised), [hex(n) for n in codes]
            seen |= Flag(flags)
        (tmp_path / f"{tests.name}.txt").unlink()
        narrows = source != "binary16"
        flags_met = Flag.invalid | (Flag.inexact | Flag.overflow if narrows else Flag(0))
        assert flags_met in seen


# Which units the tests catch ------------------------------------------------------------------


def values_of(tests: Vectors, columns: Any) -> list[Any]:
    names = [field.name for field in tests.fields]
    return [
        fpsim.decode(columns[name], fmt, np.float64)
        for name, fmt in zip(names, tests.formats, strict=False)
    ]


def kept_bits(x: Any, precision: int, toward: str = "toward_zero") -> Any:
    """Cut to so many bits, with no end to the exponents but float64's."""
    return fpsim.round(x, Format(11, precision - 1), rounding=toward)


def wrong_casts(tests: Vectors, x: Any, codes: Any) -> Iterator[tuple[str, Any]]:
    """Codes as units with one fault each would give them."""
    fmt, mode = tests.fmt, str(tests.rounding)
    for other in ("ties_to_away", "ties_to_zero", "toward_zero", "to_odd"):
        yield other, fpsim.encode(x, fmt, rounding=other)
    for bit in range(tests.formats[0].mantissa_bits):
        without = codes & ~np.uint32(1 << bit)
        y = without.view(np.float32).astype(np.float64)
        y = np.where(np.isfinite(x), y, x)
        yield f"bit {bit} not connected", fpsim.encode(y, fmt, rounding=mode)
    yield "rounded twice", fpsim.encode(kept_bits(x, fmt.precision + 4, mode), fmt, rounding=mode)
    small = np.abs(x) < float(fmt.min_normal)
    yield "subnormals flushed", fpsim.encode(np.where(small, 0 * x, x), fmt, rounding=mode)
    lowest = np.abs(x) < float(fmt.smallest)
    yield "below the smallest flushed", fpsim.encode(np.where(lowest, 0 * x, x), fmt, rounding=mode)
    yield "sign of zero lost", fpsim.encode(np.where(x == 0, 0.0, x), fmt, rounding=mode)
    for overflow in ("saturate", "saturate_infinities"):
        yield overflow, fpsim.encode(x, fmt, rounding=mode, overflow=overflow)
    top = np.abs(x) <= float(fmt.max)
    early = np.where(top, x, np.copysign(np.inf, x))
    early = np.where(np.isnan(x), x, early)
    yield "early overflow", fpsim.encode(early, fmt, rounding=mode)


@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2", "binary16", "bfloat16", "e6m5"])
def test_wrong_casts_are_caught(fmt: str) -> None:
    tests = vectors(fmt, "cast")
    assert tests.tests == DEFAULT_COUNT
    columns = all_columns(tests)
    (x,) = values_of(tests, columns)
    with np.errstate(invalid="ignore"):
        for fault, wrong in wrong_casts(tests, x, columns["x"]):
            assert np.count_nonzero(wrong != columns["result"]) >= 2, fault


def all_columns(tests: Vectors) -> dict[str, Any]:
    chunks = list(tests)
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def wrong_operations(tests: Vectors, x: Any, y: Any, z: Any) -> Iterator[tuple[str, Any]]:
    """Values as units with one fault each would give them, and those of the wrong mode."""
    fmt, p, mode = tests.fmt, tests.fmt.precision, str(tests.rounding)
    product = x * y  # exact: float64 has bits and range enough
    for precision in range(p + 1, 2 * p):
        cut = kept_bits(product, precision)
        if tests.operation == "mul":
            yield f"product cut to {precision} bits", fpsim.round(cut, fmt, rounding=mode)
        elif tests.operation == "fma":
            yield f"product cut to {precision} bits", fpsim.add(cut, z, fmt, rounding=mode)
            rounded = kept_bits(product, precision, "ties_to_even")
            yield f"product rounded to {precision}", fpsim.add(rounded, z, fmt, rounding=mode)
    if tests.operation == "add":
        larger = np.where(np.abs(x) < np.abs(y), y, x)
        smaller = np.where(np.abs(x) < np.abs(y), x, y)
        finite = np.isfinite(x) & np.isfinite(y)
        unit = fmt.ulp(larger)
        for guard in range(p + 1):  # bits of the smaller one kept, and none for the rest
            kept = np.trunc(smaller / unit * 2.0**guard) * unit * 2.0**-guard
            kept = np.where(finite, kept, smaller)
            yield f"{guard} guard bits", fpsim.add(larger, kept, fmt, rounding=mode)
    if tests.operation != "mul":
        total = fpsim.faa(product, z, 0.0, fmt, rounding=mode) if tests.operation == "fma" else (
            fpsim.add(x, y, fmt, rounding=mode)
        )  # fmt: skip
        yield "zero of a cancelled sum", np.where(total == 0, -total, total)
    operate = {"add": fpsim.add, "mul": fpsim.multiply, "fma": fpsim.fma}[str(tests.operation)]
    operands = [x, y, z] if tests.operation == "fma" else [x, y]
    for k in range(len(operands)):
        small = np.abs(operands[k]) < float(fmt.min_normal)
        flushed = [v if i != k else np.where(small, 0 * v, v) for i, v in enumerate(operands)]
        yield f"subnormals of operand {k} flushed", operate(*flushed, fmt, rounding=mode)
    for other in {"ties_to_even", "ties_to_away", "ties_to_zero", "toward_zero"} - {mode}:
        yield other, operate(*operands, fmt, rounding=other)


@pytest.mark.parametrize("rounding", ["ties_to_even", "toward_positive"])
@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "binary16", "bfloat16", "binary32"])
@pytest.mark.parametrize("op", ["add", "mul", "fma"])
def test_wrong_operations_are_caught(op: str, fmt: str, rounding: str) -> None:
    tests = vectors(fmt, op, rounding=rounding, count=DEFAULT_COUNT)
    columns = all_columns(tests)
    operands = values_of(tests, columns)
    with np.errstate(all="ignore"):
        for fault, wrong in wrong_operations(tests, *operands, *operands[-1:][: 3 - len(operands)]):
            codes = fpsim.encode(wrong, tests.fmt)
            assert np.count_nonzero(codes != columns["result"]) >= 2, fault


@pytest.mark.parametrize("variant", "ABC")
def test_random_integers_stand_on_both_sides_of_decisions(variant: str) -> None:
    """A unit that adds one too many, or too few, is caught; so is one with another variant."""
    tests = vectors("float8_e5m2", "cast", rounding=Stochastic(12, variant))
    columns = all_columns(tests)
    random, result = columns["random"].astype(np.int64), columns["result"]
    values = fpsim.decode(columns["x"], "binary32")

    def caught(integers: Any, which: str) -> int:
        mode = Stochastic(12, which)
        codes = fpsim.encode(values, tests.fmt, rounding=mode, random_bits=integers)
        return int(np.count_nonzero(codes != result))

    assert caught(random, variant) == 0
    few, many = np.maximum(random, 1) - 1, np.minimum(random, 4094) + 1
    assert min(caught(few, variant), caught(many, variant)) > 1000
    assert all(caught(random, other) > 10 for other in set("ABC") - {variant})


# What they cover ---------------------------------------------------------------------------------


def position(exact: Any, fmt: Format) -> str:
    """Where an exact result lies among a format's values, from the definition."""
    if exact is None:
        return "invalid"
    if isinstance(exact, float) and (math.isnan(exact) or math.isinf(exact)):
        return "special"
    magnitude = abs(Fraction(exact))
    values = [spec.value_at(k, fmt) for k in range(fmt.max_code + 2)]
    if magnitude >= values[-1]:
        return "past_range"
    below = max(k for k, value in enumerate(values) if value <= magnitude)
    middle = (values[below] + values[below + 1]) / 2
    if magnitude == values[below]:
        return "exact"
    if magnitude == middle:
        return "half_above_odd" if below % 2 else "half_above_even"
    return "below_half" if magnitude < middle else "above_half"


@pytest.mark.parametrize("fmt", ["float4_e2m1fn", "e2m1", "binary4p2se", "e3m2"])
@pytest.mark.parametrize("op", ["add", "mul"])
def test_coverage_is_that_of_exact_rationals(op: str, fmt: str) -> None:
    tests = vectors(fmt, op, rounding="ties_to_away")
    columns = all_columns(tests)
    names: Counter[str] = Counter()
    rounded: Counter[str] = Counter()
    for x, y, result, _ in zip(*(columns[f.name].tolist() for f in tests.fields), strict=True):
        a, b = spec.decode(x, tests.fmt), spec.decode(y, tests.fmt)
        exact = None if signals(x, tests.fmt) or signals(y, tests.fmt) else (
            plus(a, b, None) if op == "add" else times(a, b)
        )  # fmt: skip
        where = position(exact, tests.fmt)
        names[where] += 1
        if where not in ("exact", "past_range", "special", "invalid"):
            value = spec.decode(result, tests.fmt)
            away = isinstance(value, float) or abs(value) > abs(Fraction(exact))  # infinity, or far
            rounded["away_from_zero" if away and value != 0 else "toward_zero"] += 1
    found = Coverage.of(tests).summary()
    assert found["position"] == {name: names[name] for name in found["position"]}
    assert found["rounded"] == {name: rounded[name] for name in found["rounded"]}
    flags = Counter(columns["flags"].tolist())
    assert sum(found["flags"].values()) == tests.tests
    assert found["flags"]["inexact"] == flags[1]
    assert found["flags"].get("inexact+overflow", 0) == flags[5]


@pytest.mark.parametrize(
    "fmt", ["float8_e4m3fn", "float8_e5m2", "e3m2fnuz", "e3m4,subnormals=false"]
)
def test_classes_and_binades_are_those_of_the_codes(fmt: str) -> None:
    tests = vectors(fmt, "add")
    found = Coverage.of(tests).summary()
    classes: Counter[str] = Counter()
    binades: Counter[str] = Counter()
    for code in range(1 << tests.fmt.bits):
        value = spec.decode(code, tests.fmt)
        sign = "-" if code >> (tests.fmt.bits - 1) else "+"
        below = code % (1 << tests.fmt.magnitude_bits) >> tests.fmt.mantissa_bits == 0
        if isinstance(value, float) and math.isnan(value):
            kind = "signalling_nan" if signals(code, tests.fmt) else "quiet_nan"
        elif isinstance(value, float) and math.isinf(value):
            kind = "infinity"
        elif value == 0:
            kind = "flushed" if code % (1 << tests.fmt.magnitude_bits) else "zero"
        else:
            kind = "subnormal" if below and tests.fmt.zero else "normal"
            binades[str(spec.floor_log2(abs(Fraction(value))))] += 1
        classes[sign + kind] += 1
    assert {k: n >> tests.fmt.bits for k, n in found["classes"]["y"].items()} == classes
    assert {k: n >> tests.fmt.bits for k, n in found["binades"]["x"].items()} == binades


@pytest.mark.parametrize("fmt", ["binary16", "bfloat16", "binary32"])
@pytest.mark.parametrize("op", ["cast", "add", "mul", "fma"])
def test_large_formats_lack_no_class(op: str, fmt: str) -> None:
    source = "binary32" if fmt == "binary16" else "binary64"  # which go far past the range
    source = source if op == "cast" else None
    tests = vectors(fmt, op, source=source)
    assert not tests.exhaustive
    found = Coverage.of(tests).summary()
    missing = [what for what in found["unhit"] if "2^" not in what]
    assert missing == (["flag underflow"] if op == "add" else [])  # a tiny sum is exact
    assert min(found["position"].values()) > (5 if op == "cast" else 50)
    classes = found["classes"]["result" if op == "cast" else "x"]
    assert min(classes["+subnormal"], classes["-subnormal"]) > 250


@pytest.mark.parametrize("op", ["add", "mul", "fma"])
def test_every_subnormal_is_there_in_every_place(op: str) -> None:
    columns = all_columns(vectors("binary16", op, count=1 << 17))
    for name in ("x", "y", "z")[: 3 if op == "fma" else 2]:
        met = np.unique(columns[name])
        assert np.isin(np.arange(1, 1 << 10), met).all()
        assert np.isin(np.arange(1, 1 << 10) | 1 << 15, met).all()


def test_every_decision_of_a_cast_is_there() -> None:
    """All values and middles of an 8-bit format, and binary32's neighbours of each."""
    x = np.unique(all_columns(vectors("float8_e4m3fn", "cast"))["x"]).astype(np.int64)
    values = [spec.value_at(k, Format.parse("float8_e4m3fn")) for k in range(0x7F + 1)]
    points = values[:-1] + [(low + high) / 2 for low, high in itertools.pairwise(values)]
    at = np.array([float(point) for point in points], np.float32).view(np.uint32).astype(np.int64)
    for sign, beside in itertools.product((0, 1 << 31), (-1, 0, 1)):
        assert np.isin(np.maximum(at + beside, 0) | sign, x).all()


# Files -------------------------------------------------------------------------------------------


def test_the_three_files_say_the_same(tmp_path: Path) -> None:
    tests = vectors("e4m5", "fma", rounding=Stochastic(7), count=3000)
    entry = write(tests, tmp_path, ["txt", "mem", "csv"])
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == size(
        tests, ["txt", "mem", "csv"]
    )
    assert sorted(entry["files"]) == sorted(path.name for path in tmp_path.iterdir())
    rows = read_text(tests, tmp_path / f"{tests.name}.txt")
    assert len(rows) == 3000
    with (tmp_path / f"{tests.name}.csv").open(newline="") as file:
        heading, *lines = csv.reader(file)
    assert heading == ["x", "y", "z", "random", "result", "flags"]
    assert all(text.startswith("0x") for line in lines for text in line)
    assert [tuple(int(text, 16) for text in line) for line in lines] == rows
    comment, *words = (tmp_path / f"{tests.name}.mem").read_text().splitlines()
    assert comment.startswith("// fma_stochastic_a7_nan, e4m5: words of 64 bits: x [61:52], ")
    for word, row in zip(words, rows, strict=True):
        number = int(word.replace("_", ""), 16)
        assert number >> tests.word_bits == 0
        for field, value in zip(tests.fields, row, strict=True):
            assert number >> field.low & ((1 << field.bits) - 1) == value
    for field, described in zip(tests.fields, entry["fields"], strict=True):
        assert described["low"] == field.low
        assert described["digits"] == -(-described["bits"] // 4)


def test_icarus_reads_the_words(tmp_path: Path) -> None:
    """$readmemh, as the standard has it: the underscores, the comment and the places of fields."""
    if shutil.which("iverilog") is None or shutil.which("vvp") is None:
        pytest.skip("no Icarus Verilog; apt-get install iverilog")
    tests = vectors("e4m5", "mul", rounding=Stochastic(3), count=500)
    write(tests, tmp_path, ["txt", "mem"])
    shown = " ".join(f"%0{field.digits}h" for field in tests.fields)
    parts = ", ".join(f"m[i][{field.low} +: {field.bits}]" for field in tests.fields)
    (tmp_path / "read.v").write_text(
        f"""module read;
  reg [{tests.word_bits - 1}:0] m [0:499];
  integer i;
  initial begin
    $readmemh("{tmp_path / tests.name}.mem", m);
    for (i = 0; i < 500; i = i + 1) $display("{shown}", {parts});
  end
endmodule
"""
    )
    for command in (["iverilog", "-o", "read", "read.v"], ["vvp", "-n", "read"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    assert done.stdout.upper() == (tmp_path / f"{tests.name}.txt").read_text()


def test_nothing_is_overwritten_and_nothing_half_done_stays(tmp_path: Path) -> None:
    tests = vectors("float4_e2m1fn", "add")
    path = tmp_path / f"{tests.name}.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write(tests, tmp_path, ["mem", "txt"])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "mine"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        write(tests, tmp_path / "nowhere")


def test_the_seed_says_it_all(tmp_path: Path) -> None:
    """Whatever the threads; and the files are streamed: no chunk is large."""
    texts = []
    before = fpsim.get_num_threads()
    for seed, threads in ((3, 1), (3, 2), (4, 2)):
        fpsim.set_num_threads(threads)
        folder = tmp_path / f"{seed}{threads}"
        folder.mkdir()
        tests = vectors("bfloat16", "fma", rounding=Stochastic(), count=200_000, seed=seed)
        write(tests, folder)
        texts.append((folder / f"{tests.name}.txt").read_bytes())
        assert max(chunk["result"].size for chunk in tests) <= 1 << 16
    fpsim.set_num_threads(before)
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


@pytest.mark.parametrize(
    ("fmt", "op", "options", "name"),
    [
        ("e4m3", "cast", {}, "cast_binary32_ties_to_even_nan"),
        ("e4m3", "cast", {"source": "bf16"}, "cast_bfloat16_ties_to_even_nan"),
        ("e4m3", "cast", {"source": "e3m2f,bias=9"}, "cast_e3m2b9f_ties_to_even_nan"),
        ("e4m3", "mul", {"overflow": "infinity"}, "mul_ties_to_even_infinity"),
        ("e4m3", "add", {"rounding": "stochastic"}, "add_stochastic_nan"),
        ("e4m3", "add", {"rounding": Stochastic(8, "C")}, "add_stochastic_c8_nan"),
        ("e4m3", "dot", {"accumulator": Accumulator("binary32")}, "dot4_ties_to_even_nan"),
    ],
)
def test_names(fmt: str, op: str, options: dict[str, Any], name: str) -> None:
    assert vectors(fmt, op, **options).name == name


@pytest.mark.parametrize(
    ("fmt", "op", "options", "tests", "exhaustive"),
    [
        ("e2m3", "fma", {}, EXHAUSTIVE, True),
        ("e3m3", "fma", {}, DEFAULT_COUNT, False),
        ("e4m3", "cast", {"source": "binary16"}, 1 << 16, True),
        ("e4m3", "mul", {"count": (1 << 16) - 1}, (1 << 16) - 1, False),
        ("e4m3", "mul", {"count": 10**9}, 1 << 16, True),
        ("e4m3", "mul", {"rounding": Stochastic(2)}, 1 << 18, True),
        ("e4m3", "mul", {"rounding": Stochastic(3)}, 1 << 16, False),  # each pair with one R
        ("e4m3", "mul", {"rounding": Stochastic(3), "count": 200_000}, 3 << 16, False),
        ("e2m1", "dot", {"accumulator": Accumulator("e2m1"), "terms": 1}, 1 << 12, True),
        ("e4m3", "add", {"count": 1}, 1, False),
    ],
)
def test_how_many(fmt: str, op: str, options: Any, tests: int, exhaustive: bool) -> None:
    plan = vectors(fmt, op, **options)
    assert (plan.tests, plan.exhaustive) == (tests, exhaustive)
    assert sum(chunk["result"].size for chunk in plan) == tests


def test_each_pair_comes_with_several_random_integers() -> None:
    tests = vectors("e2m1", "mul", rounding=Stochastic(16), count=2560)
    columns = all_columns(tests)
    pairs = Counter(zip(columns["x"].tolist(), columns["y"].tolist(), strict=True))
    assert set(pairs.values()) == {10}
    assert len(pairs) == 256
