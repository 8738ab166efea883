"""A real floating-point unit as a judge of casts and operations: CVFPU, compiled from its RTL.

Its answers come from circuits that were designed by others and that run in silicon; `fpu/cvfpu.py`
builds them, in half a minute, and asks them known questions first. The unit has five formats of
IEEE 754's kind, and six modes: round to odd beside IEEE 754's five.

Values must agree, −0 from +0 included, and NaN by being NaN; so must the flags, save underflow. The
unit sees tininess in the rounded result, so that what rounds up to the smallest normal number
is not tiny to its casts, and to its fma only sometimes: `test_arithmetic.py` judges that flag by
SoftFloat and by exact rationals. How often it differs is printed with the number of vectors;
``-rP`` shows it.

Infinities are not asked of the unit's casts. `fpnew_cast_multi` sends them down the path of numbers
that overflow, so that it flags them inexact, and where the mode points back turns them into the
largest finite number; IEEE 754-2019 (6.1, 7.4) has their conversion exact. What fpsim makes of them
is compared with that rule.

The test vectors that `fpsim.hardware` writes are judged too, read back from their files.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fpu import cvfpu

import fpsim
from fpsim import Flag
from fpsim.hardware.vector_files import write
from fpsim.hardware.vectors import vectors

pytestmark = pytest.mark.fpu

Array = np.ndarray[Any, Any]
JUDGED = Flag.invalid | Flag.divide_by_zero | Flag.overflow | Flag.inexact
STATUS = {  # the unit's exception bits as fpsim's
    cvfpu.INVALID: Flag.invalid,
    cvfpu.DIVIDE_BY_ZERO: Flag.divide_by_zero,
    cvfpu.OVERFLOW: Flag.overflow,
    cvfpu.UNDERFLOW: Flag.underflow,
    cvfpu.INEXACT: Flag.inexact,
}
MANTISSA_BITS = {"binary32": 23, "binary16": 10, "bfloat16": 7, "float8_e5m2": 2}
NARROW = ["float8_e5m2", "binary16", "bfloat16"]
DRAWS = 1 << 20

every_mode = pytest.mark.parametrize("mode", cvfpu.MODES)


@pytest.fixture(scope="module")
def fpu(tmp_path_factory: pytest.TempPathFactory) -> cvfpu.Fpu:
    lacking = cvfpu.missing()
    if lacking is not None:
        pytest.skip(f"the real FPU cannot be built: {lacking}")
    unit = cvfpu.build(tmp_path_factory.mktemp("cvfpu"))
    unit.self_test()
    return unit


# Codes and values, without fpsim: these formats are the heads of float32's and float16's ----------


def values_of(codes: Any, fmt: str) -> Array:
    """Codes as float32, which holds them all; signalling NaN stay signalling."""
    codes = np.asarray(codes, np.uint32)
    if fmt == "binary32":
        return codes.view(np.float32)
    if fmt == "bfloat16":
        return (codes << np.uint32(16)).view(np.float32)
    halves = codes << np.uint32(8) if fmt == "float8_e5m2" else codes
    with np.errstate(invalid="ignore"):
        values = halves.astype(np.uint16).view(np.float16).astype(np.float32)
    payload = (halves & np.uint32(0x3FF)) << np.uint32(13)
    nan = (halves & np.uint32(0x8000)) << np.uint32(16) | np.uint32(0x7F800000) | payload
    return np.where(values != values, nan, values.view(np.uint32)).view(np.float32)


def every_code(fmt: str) -> Array:
    return np.arange(1 << cvfpu.BITS[fmt], dtype=np.uint32)


def boundary_codes(fmt: str) -> Array:
    """Exponents at the ends and about one, times significands at the ends and the middle."""
    mantissa_bits = MANTISSA_BITS[fmt]
    highest = (1 << (cvfpu.BITS[fmt] - 1 - mantissa_bits)) - 1  # of infinity and NaN
    bias, half, ones = highest // 2, 1 << (mantissa_bits - 1), (1 << mantissa_bits) - 1
    exponents = [0, 1, 2, 3, highest - 3, highest - 2, highest - 1, highest]
    exponents += [bias + step for step in (-mantissa_bits - 2, -mantissa_bits - 1, -mantissa_bits)]
    exponents += [bias + step for step in (-2, -1, 0, 1, 2, mantissa_bits, mantissa_bits + 1)]
    exponents = [exponent for exponent in exponents if 0 <= exponent <= highest]
    mantissas = [0, 1, 2, 3, half - 1, half, half + 1, ones - 1, ones]
    codes = {
        exponent << mantissa_bits | mantissa for exponent in exponents for mantissa in mantissas
    }
    sign = 1 << (cvfpu.BITS[fmt] - 1)
    return np.array(sorted(codes | {sign | code for code in codes}), np.uint32)


def drawn_codes(fmt: str, count: int, rng: np.random.Generator) -> Array:
    """Half from the boundary, half from everywhere."""
    anywhere = rng.integers(0, 1 << cvfpu.BITS[fmt], count, dtype=np.uint32)
    return np.where(rng.random(count) < 0.5, rng.choice(boundary_codes(fmt), count), anywhere)


def opposite(values: Array, fmt: str, rng: np.random.Generator) -> Array:
    """Codes within three of minus the values, so that a sum cancels."""
    codes = fpsim.encode(-values, fmt, overflow="saturate").astype(np.int64)
    codes += rng.integers(-3, 4, codes.size)
    return codes.astype(np.uint32) & np.uint32((1 << cvfpu.BITS[fmt]) - 1)


def drawn_operands(name: str, fmt: str, count: int, seed: int) -> list[Array]:
    """Operands at the boundaries, at random, and, a third of them, with sums that cancel."""
    rng = np.random.default_rng(seed)
    operands = [drawn_codes(fmt, count, rng) for _ in range(3 if name == "fma" else 2)]
    if name == "multiply":
        return operands
    with np.errstate(all="ignore"):
        x, *y = (values_of(codes, fmt) for codes in operands[:-1])
        cancelling = opposite(x * y[0] if y else x, fmt, rng)
    operands[-1] = np.where(rng.random(count) < 1 / 3, cancelling, operands[-1])
    return operands


# The comparison -----------------------------------------------------------------------------------


def assert_agrees(
    question: str, operands: list[Array], computed: Array, flags: Array, answer: Any, fmt: str
) -> None:
    """Compare values and flags of fpsim with the unit's codes and status."""
    codes, status = answer
    expected = values_of(codes, fmt)
    same = (computed.astype(np.float32).view(np.uint32) == expected.view(np.uint32)) | (
        np.isnan(computed) & np.isnan(expected)
    )
    raised = np.zeros(codes.size, np.uint8)
    for bit, flag in STATUS.items():
        raised[status & bit != 0] |= np.uint8(flag)
    same_flags = (flags ^ raised) & np.uint8(JUDGED) == 0
    other_underflow = np.count_nonzero((flags ^ raised) & np.uint8(Flag.underflow))
    wrong = np.flatnonzero(~(same & same_flags))
    print(
        f"{question}: {codes.size} vectors, {np.count_nonzero(~same)} values and "
        f"{np.count_nonzero(~same_flags)} flags differ; underflow, not judged: {other_underflow}"
    )
    if wrong.size:
        i = wrong[0]
        raise AssertionError(
            f"{question}: {wrong.size} of {codes.size} differ, the first at codes "
            f"{[hex(int(operand[i])) for operand in operands]}: fpsim {computed[i]!r} with "
            f"{Flag(int(flags[i]))!r}, the FPU {expected[i]!r} with {Flag(int(raised[i]))!r}"
        )


def judge(fpu: cvfpu.Fpu, name: str, operands: list[Array], fmt: str, mode: str) -> None:
    flags = np.zeros(operands[0].size, np.uint8)
    computed = getattr(fpsim, name)(
        *(values_of(codes, fmt) for codes in operands),
        fmt,
        rounding=mode,
        overflow="infinity",
        flags=flags,
    )
    answer = fpu.operate(name, operands, fmt, mode)
    assert_agrees(f"{name} {fmt} {mode}", operands, computed, flags, answer, fmt)


def judge_cast(fpu: cvfpu.Fpu, codes: Array, source: str, fmt: str, mode: str) -> None:
    codes = codes[~np.isinf(values_of(codes, source))]
    x, flags = values_of(codes, source), np.zeros(codes.size, np.uint8)
    rounded = fpsim.round(x, fmt, rounding=mode, overflow="infinity", flags=flags)
    answer = fpu.cast(codes, source, fmt, mode)
    assert_agrees(f"round {source} to {fmt} {mode}", [codes], rounded, flags, answer, fmt)
    encoded = fpsim.encode(x, fmt, rounding=mode, overflow="infinity", flags=flags)
    values = values_of(encoded.astype(np.uint32), fmt)
    assert_agrees(f"encode {source} to {fmt} {mode}", [codes], values, flags, answer, fmt)


# The tests ----------------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("name", ["add", "multiply"])
def test_every_pair_of_e5m2(fpu: cvfpu.Fpu, name: str, mode: str) -> None:
    x, y = np.meshgrid(every_code("float8_e5m2"), every_code("float8_e5m2"), indexing="ij")
    judge(fpu, name, [x.ravel(), y.ravel()], "float8_e5m2", mode)


@pytest.mark.parametrize("mode", ["ties_to_even", "to_odd"])
def test_every_triple_of_e5m2(fpu: cvfpu.Fpu, mode: str) -> None:
    judge(fpu, "fma", triples_of_e5m2(), "float8_e5m2", mode)


def triples_of_e5m2() -> list[Array]:
    triples, byte = np.arange(1 << 24, dtype=np.uint32), np.uint32(0xFF)
    return [triples >> np.uint32(16), triples >> np.uint32(8) & byte, triples & byte]


@pytest.mark.parametrize(("name", "differ"), [("multiply", 120), ("fma", 6188)])
def test_underflow_where_the_unit_differs(fpu: cvfpu.Fpu, name: str, differ: int) -> None:
    """Exact rationals decide whether E5M2's result is tiny once rounded to three bits.

    A magnitude rounds to 2^-14 or above, with no end to the exponents, from the middle between it
    and the number before it, 7·2^-17: the tie goes to the even significand, which is 2^-14's.
    """
    operands = triples_of_e5m2()
    if name == "multiply":
        operands = [codes[: 1 << 16] for codes in operands[1:]]
    values = [values_of(codes, "float8_e5m2") for codes in operands]
    flags = np.zeros(operands[0].size, np.uint8)
    getattr(fpsim, name)(*values, "float8_e5m2", overflow="infinity", flags=flags)
    _, status = fpu.operate(name, operands, "float8_e5m2", "ties_to_even")
    claimed = flags & np.uint8(Flag.underflow) != 0
    places = np.flatnonzero(claimed != (status & cvfpu.UNDERFLOW != 0))
    assert places.size == differ  # of this version: as the documentation says
    for i in places:
        x, y, *z = (Fraction(float(array[i])) for array in values)
        magnitude = abs(x * y + sum(z))
        assert claimed[i] == (magnitude < Fraction(15, 2**18)), (x, y, z)


@every_mode
@pytest.mark.parametrize("fmt", cvfpu.FORMATS)
@pytest.mark.parametrize("source", NARROW)
def test_every_code_converted(fpu: cvfpu.Fpu, source: str, fmt: str, mode: str) -> None:
    judge_cast(fpu, every_code(source), source, fmt, mode)


@every_mode
@pytest.mark.parametrize("fmt", cvfpu.FORMATS)
def test_infinities_of_casts(fpu: cvfpu.Fpu, fmt: str, mode: str) -> None:
    """Exact in fpsim; inexact in the unit, and there only by this may they be left out above."""
    infinities = np.array([0x7F800000, 0xFF800000], np.uint32)
    x, flags = values_of(infinities, "binary32"), np.ones(2, np.uint8)
    rounded = fpsim.round(x, fmt, rounding=mode, overflow="infinity", flags=flags)
    np.testing.assert_array_equal(rounded, x)
    np.testing.assert_array_equal(flags, 0)
    _, status = fpu.cast(infinities, "binary32", fmt, mode)
    np.testing.assert_array_equal(status, cvfpu.INEXACT)


@every_mode
@pytest.mark.parametrize("fmt", NARROW)
def test_binary32_converted(fpu: cvfpu.Fpu, fmt: str, mode: str) -> None:
    """Boundaries, draws, and the format's values and midpoints with what is next to them."""
    values = np.unique(values_of(every_code(fmt), fmt)).astype(np.float64)
    values = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        points = np.concatenate([values, (values[1:] + values[:-1]) / 2]).astype(np.float32)
    around = points.view(np.uint32)[:, None] + np.array([-2, -1, 0, 1, 2]).astype(np.uint32)
    drawn = drawn_codes("binary32", DRAWS, np.random.default_rng(32))
    codes = np.concatenate([around.ravel(), boundary_codes("binary32"), drawn])
    judge_cast(fpu, codes, "binary32", fmt, mode)


@every_mode
@pytest.mark.parametrize("name", cvfpu.OPERATIONS)
@pytest.mark.parametrize("fmt", ["binary16", "bfloat16", "binary32"])
def test_boundary_and_drawn_operands(fpu: cvfpu.Fpu, fmt: str, name: str, mode: str) -> None:
    judge(fpu, name, drawn_operands(name, fmt, DRAWS, 754), fmt, mode)


# Test vectors -------------------------------------------------------------------------------------


def vectors_read(folder: Path, *arguments: Any, **options: Any) -> tuple[list[Array], Array, Array]:
    """(operands, results, flags) of the lines of a file."""
    tests = vectors(*arguments, overflow="infinity", seed=754, **options)
    entry = write(tests, folder)
    with (folder / entry["files"][0]).open() as file:
        lines = [[int(number, 16) for number in line.split(" ")] for line in file]
    *operands, results, flags = np.array(lines, np.uint32).T
    return operands, results, flags.astype(np.uint8)


@every_mode
@pytest.mark.parametrize("name", cvfpu.OPERATIONS)
@pytest.mark.parametrize("fmt", cvfpu.FORMATS)
def test_vectors_are_accepted(
    fpu: cvfpu.Fpu, fmt: str, name: str, mode: str, tmp_path: Path
) -> None:
    op = "mul" if name == "multiply" else name
    operands, results, flags = vectors_read(tmp_path, fmt, op, rounding=mode, count=1 << 16)
    answer = fpu.operate(name, operands, fmt, mode)
    assert_agrees(
        f"vectors {name} {fmt} {mode}", operands, values_of(results, fmt), flags, answer, fmt
    )


@every_mode
@pytest.mark.parametrize("source", cvfpu.FORMATS)
@pytest.mark.parametrize("fmt", cvfpu.FORMATS)
def test_vectors_of_casts_are_accepted(
    fpu: cvfpu.Fpu, fmt: str, source: str, mode: str, tmp_path: Path
) -> None:
    (codes,), results, flags = vectors_read(
        tmp_path, fmt, "cast", source=source, rounding=mode, count=1 << 16
    )
    finite = ~np.isinf(values_of(codes, source))
    answer = fpu.cast(codes[finite], source, fmt, mode)
    values = values_of(results[finite], fmt)
    question = f"vectors cast {source} to {fmt} {mode}"
    assert_agrees(question, [codes[finite]], values, flags[finite], answer, fmt)
