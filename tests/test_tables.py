"""Tables of functions: against mpmath, as exact bounds, and the specification; and their files."""

from __future__ import annotations

import csv
import itertools
import math
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

import fpsim
from fpsim import Format, Overflow, Rounding, spec
from fpsim.hardware import tables
from fpsim.hardware.tables import FUNCTIONS, Table, table, write

NAN, INF = math.nan, math.inf

# Exact results: at the points where they are rational, and at infinities.
EXACT: dict[str, dict[float, Any]] = {
    "rsqrt": {0.0: INF, INF: 0},
    "exp": {0.0: 1, -INF: 0, INF: INF},
    "exp2": {-INF: 0, INF: INF},
    "expm1": {0.0: 0.0, -INF: -1, INF: INF},
    "log": {0.0: -INF, 1.0: 0, INF: INF},
    "log2": {0.0: -INF, INF: INF},
    "log1p": {0.0: 0.0, -1.0: -INF, INF: INF},
    "sin": {0.0: 0.0},
    "cos": {0.0: 1},
    "tanh": {0.0: 0.0, INF: 1, -INF: -1},
    "erf": {0.0: 0.0, INF: 1, -INF: -1},
    "sigmoid": {0.0: Fraction(1, 2), -INF: 0, INF: 1},
}
ODD = {"rsqrt", "expm1", "log1p", "sin", "tanh", "erf"}  # with their signs of zero
UNARY = ["reciprocal", "sqrt", *EXACT]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def root(x: Fraction) -> Any:
    """The square root where it is rational, else None."""
    n, d = math.isqrt(x.numerator), math.isqrt(x.denominator)
    return Fraction(n, d) if n * n == x.numerator and d * d == x.denominator else None


def exactly(function: str, x: float) -> Any:
    """A rational or special result; None where it is irrational, NaN where there is none."""
    if math.isnan(x):
        return NAN
    if (x < 0 and function in ("sqrt", "rsqrt", "log", "log2")) or (function == "log1p" and x < -1):
        return NAN
    if math.isinf(x) and function in ("sin", "cos"):
        return NAN
    if function in ("reciprocal", "sqrt"):
        if x == 0:
            return x if function == "sqrt" else math.copysign(INF, x)
        if math.isinf(x):
            return x if function == "sqrt" else math.copysign(0.0, x)
        return 1 / Fraction(x) if function == "reciprocal" else root(Fraction(x))
    if x in EXACT[function]:
        value = EXACT[function][x]
        return math.copysign(value, x) if x == 0 and function in ODD else value
    if function == "rsqrt":
        found = root(Fraction(x))
        return None if found is None else 1 / found
    if function == "exp2" and x == int(x):
        return Fraction(2) ** int(x) if abs(x) < 5000 else None
    if function == "log2" and math.frexp(x)[0] == 0.5:
        return math.frexp(x)[1] - 1
    return None


def bounds(function: str, x: float) -> tuple[Fraction, Fraction]:
    """Rationals on both sides of an irrational result, from mpmath at 400 bits and more."""
    name = {"rsqrt": "rsqrt", "log2": "log2"}.get(function, function)
    precision = 600 + 4 * abs(math.frexp(x)[1])
    if near_its_limit(function, x):
        return beyond(function, x)
    with mpmath.workprec(precision):
        exact = mpmath.mpf(x)
        functions = {
            "rsqrt": lambda v: 1 / mpmath.sqrt(v),
            "exp2": lambda v: mpmath.power(2, v),
            "log2": lambda v: mpmath.log(v, 2),
            "sigmoid": sigmoid,
        }
        value = functions.get(name, getattr(mpmath, name, None))(exact)
        man, exp = value.man_exp
        middle = Fraction(int(man)) * Fraction(2) ** int(exp) * (-1 if value < 0 else 1)
    margin = abs(middle) * Fraction(1, 2 ** (precision - 100))
    return middle - margin, middle + margin


def near_its_limit(function: str, x: float) -> bool:
    if function in ("erf", "tanh"):
        return abs(x) > 10 if function == "erf" else abs(x) > 100
    if function in ("expm1", "sigmoid") and (x < 0) == (function == "expm1"):
        return abs(x) > 100
    return function in ("exp", "exp2", "expm1", "sigmoid") and abs(x) > 1e4


def beyond(function: str, x: float) -> tuple[Fraction, Fraction]:
    """Where nothing but the limit counts: a bit inside of it, and inside of all formats' ends."""
    tiny = Fraction(1, 2**3000)
    if function in ("exp", "exp2", "expm1") and x > 0:
        return Fraction(2) ** 3000, Fraction(2) ** 3001
    if function == "expm1":
        return tiny - 1, 2 * tiny - 1
    if function in ("exp", "exp2", "sigmoid") and x < 0:
        return tiny, 2 * tiny
    sign = 1 if x > 0 else -1
    return tuple(sorted((sign * (1 - tiny), sign * (1 - 2 * tiny))))  # type: ignore[return-value]


def expected(made: Table, x: float) -> int:
    """The code of a result by the specification."""
    exact = exactly(made.function, x)
    if exact is None:
        codes = {
            spec.project(bound, made.result, made.rounding, made.overflow)[0]
            for bound in bounds(made.function, x)
        }
        assert len(codes) == 1, (made.function, x)
        return codes.pop()
    if isinstance(exact, float) and math.isnan(exact) and made.result.nan_code is None:
        return made.result.max_code
    return spec.project(exact, made.result, made.rounding, made.overflow)[0]


def assert_right(made: Table, codes: Any) -> None:
    values = fpsim.decode(codes, made.fmt, np.float64)
    for code, x in zip(codes.tolist(), values.tolist(), strict=True):
        assert int(made.words[code]) == expected(made, x), (made.name, x)


@pytest.mark.parametrize("function", UNARY)
@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2", "binary8p4se", "float4_e2m1fn"])
def test_every_code_of_small_formats(fmt: str, function: str) -> None:
    for rounding, overflow in zip(Rounding, itertools.cycle(Overflow), strict=False):
        made = table(fmt, function, rounding=rounding, overflow=overflow)
        assert_right(made, made.fmt.codes())


@pytest.mark.parametrize("function", UNARY)
@pytest.mark.parametrize("fmt", ["binary16", "bfloat16", "e11m4"])
def test_wide_formats(fmt: str, function: str) -> None:
    made = table(fmt, function)
    rng = np.random.default_rng(5)
    codes = np.concatenate([rng.integers(0, 1 << 16, 300), np.arange(8), (1 << 15) + np.arange(8)])
    assert_right(made, codes.astype(np.uint16))


@pytest.mark.parametrize("function", ["sqrt", "exp", "log2", "tanh", "sigmoid"])
def test_into_another_format(function: str) -> None:
    for result in ("e5m10", "ue4m4fn", "e2m1", "e3m2,subnormals=false"):
        made = table("float6_e3m2fn", function, result=result, rounding="toward_positive")
        assert_right(made, made.fmt.codes())


def test_no_double_rounding_where_double_is_closest() -> None:
    """Near middles of binary16: what rounds twice, through double to nearest, is not accepted.

    tanh(x) = x − x³/3 lies far nearer to x than a double's ulp, and x half way between two values
    of the target: to nearest in double it would be a tie.
    """
    target = Format.parse("e7m8")
    made = table("e7m8b100", "tanh", result="e7m7b100")
    x = fpsim.decode(np.arange(1 << 16, dtype=np.uint16), "e7m8b100", np.float64)
    ties = (np.arange(1 << 16) & 1 == 1) & (np.abs(x) < 2.0**-30) & (x != 0)
    assert target.bits == 16
    assert ties.sum() > 1000
    nearest = fpsim.encode(np.tanh(x), made.result)
    assert np.count_nonzero((nearest != made.words)[ties]) > 500
    toward_zero = fpsim.encode(x, made.result, rounding="ties_to_zero")
    np.testing.assert_array_equal(made.words[ties], toward_zero[ties])


@pytest.mark.parametrize("function", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("fmt", ["float4_e2m1fn", "e2m2", "binary5p3se"])
def test_two_operands(fmt: str, function: str) -> None:
    made = table(fmt, function, rounding="ties_to_away", overflow="infinity")
    assert made.words.size == 1 << 2 * made.fmt.bits
    for x, y in itertools.product(range(1 << made.fmt.bits), repeat=2):
        a, b = spec.decode(x, made.fmt), spec.decode(y, made.fmt)
        word = int(made.words[x << made.fmt.bits | y])
        u, v = float(a), float(b)
        if u != u or v != v:
            exact: Any = NAN
        elif math.isinf(u) or math.isinf(v) or (function == "divide" and v == 0):
            with np.errstate(all="ignore"):
                exact = float(getattr(np, function)(u, v))
        else:
            sign = math.copysign(1, u) * math.copysign(1, v)
            exact = {
                "add": lambda p, q: p + q,
                "subtract": lambda p, q: p - q,
                "multiply": lambda p, q: p * q,
                "divide": lambda p, q: p / q,
            }[function](Fraction(u), Fraction(v))
            if exact == 0:  # double has the zeros' signs right
                exact = u + v if function == "add" else u - v if function == "subtract" else None
                exact = math.copysign(0.0, sign) if exact is None else exact
        if isinstance(exact, float) and math.isnan(exact) and made.result.nan_code is None:
            assert word == made.result.max_code
        else:
            want = spec.project(exact, made.result, made.rounding, made.overflow)[0]
            assert word == want, (u, v)


def test_decode() -> None:
    made = table("float8_e4m3fn", "decode")
    assert made.result == Format.parse("binary32")
    values = made.words.view(np.float32)
    np.testing.assert_array_equal(values, Format.parse("float8_e4m3fn").values())
    assert np.signbit(values[0x80])
    assert table("e3m2", "decode", result="bfloat16").words[1] == 0x3D80


def test_every_function_is_listed_and_explained() -> None:
    text = table.__doc__ or ""
    assert set(re.findall(r"``'(\w+)'``", text.split("result :")[0])) == set(FUNCTIONS)
    assert set(UNARY) | {"decode", "add", "subtract", "multiply", "divide"} == set(FUNCTIONS)


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmt", "function", "options"),
    [
        ("float8_e4m3fn", "sqrt", {}),
        ("float6_e3m2fn", "exp", {"result": "binary16"}),
        ("float4_e2m1fn", "multiply", {"overflow": "saturate"}),
        ("e3m2", "decode", {}),
    ],
)
def test_files_say_the_same(fmt: str, function: str, options: Any, tmp_path: Path) -> None:
    made = table(fmt, function, **options)
    entry = write(made, tmp_path)
    assert sorted(entry["files"]) == sorted(path.name for path in tmp_path.iterdir())
    comment, *lines = (tmp_path / f"{made.name}.mem").read_text().splitlines()
    assert comment.startswith(f"// {function} of {made.fmt}, ")
    assert [int(line, 16) for line in lines] == made.words.tolist()
    assert {len(line) for line in lines} == {-(-made.result.bits // 4)}
    with (tmp_path / f"{made.name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["result"], 16) for row in rows] == made.words.tolist()
    for row in rows:
        for name, source in [("x", made.fmt), ("result", made.result)]:
            value = float(spec.decode(int(row[name], 16), source))
            assert float(row[f"{name}_value"]) == value or math.isnan(value)
        if made.operands == 2:
            address = int(row["x"], 16) << made.fmt.bits | int(row["y"], 16)
            assert made.words[address] == int(row["result"], 16)
    assert entry["address_bits"] == made.operands * made.fmt.bits
    assert 1 << entry["address_bits"] == len(lines)
    text = (tmp_path / f"{made.name}.h").read_text()
    body = text[text.index("{") :]
    assert [int(word, 16) for word in re.findall(r"0x([0-9a-f]+)", body)] == made.words.tolist()


def test_arrays_of_c_compile(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the arrays with; apt-get install gcc")
    includes = []
    for made in (table("e3m2", "sqrt"), table("e3m2", "decode", result="binary64")):
        includes += [f'#include "{n}"' for n in write(made, tmp_path, ["h"])["files"]]
    source = "\n".join([*includes, "int main(void) { return e3m2_sqrt_ties_to_even_nan[9]; }", ""])
    (tmp_path / "main.c").write_text(source)
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "main"]
    done = subprocess.run([*command, "main.c"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = subprocess.run(["./main"], cwd=tmp_path)
    assert run.returncode == int(table("e3m2", "sqrt").words[9])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    made = table("e3m2", "sqrt")
    write(made, tmp_path, ["csv"])
    with pytest.raises(FileExistsError):
        write(made, tmp_path, ["csv"])


def test_bits_of_doubles_rounded_to_odd() -> None:
    """The middle of the way: exact doubles stay, others have their last bit set."""
    odd = tables._to_odd("exp2", np.array([3.0, -1074.0, 0.5, -2000.0, 2000.0]))
    assert odd[:2].tolist() == [8.0, 5e-324]
    assert odd[3:].tolist() == [5e-324, np.finfo(float).max]
    assert odd[2:3].view(np.uint64)[0] & 1
    assert abs(odd[2] - math.sqrt(2)) <= 2.0**-52
