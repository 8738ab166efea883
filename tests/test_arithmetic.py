"""add, subtract, multiply, divide, sqrt, fma, faa against exact rationals, SoftFloat and MPFR.

The oracle takes exact results from the operations' definitions: Fractions, and the rules of
IEEE 754-2019 (6.1 to 6.3, 7.2, 7.3) for zeros, infinities and NaN. `spec.project`, which
`test_spec.py` judges, rounds them. The tables of special values and of double rounding are by hand.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from typing import Any

import gmpy2
import ml_dtypes
import numpy as np
import pytest
import softfloatpy as sf
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Flag, Format, Overflow, Rounding, Stochastic, Stream, spec

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
INF, NAN = math.inf, math.nan
NOTHING = Flag(0)
MODES = list(Rounding)
RULES = list(Overflow)
OPERANDS = {"add": 2, "subtract": 2, "multiply": 2, "divide": 2, "sqrt": 1, "fma": 3, "faa": 3}

Real = Fraction | float  # a float where no Fraction will do: -0.0, inf, -inf, nan
Outcome = tuple[Real, Flag]

every_operation = pytest.mark.parametrize("name", OPERANDS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

# The oracle: exact results ----------------------------------------------------------------------


def is_nan(x: Real) -> bool:
    return isinstance(x, float) and math.isnan(x)


def is_infinite(x: Real) -> bool:
    return isinstance(x, float) and math.isinf(x)


def is_negative(x: Real) -> bool:
    return x < 0 or (isinstance(x, float) and math.copysign(1, x) < 0)


def with_sign(magnitude: Real, negative: bool) -> Real:
    if magnitude == 0:
        return -0.0 if negative else Fraction(0)
    return -magnitude if negative else magnitude


def negated(x: Real) -> Real:
    return with_sign(abs(x), not is_negative(x))


def exact_sum(terms: tuple[Real, ...], downward: bool) -> Outcome:
    """A sum; `downward` says that it is rounded toward_negative, where what cancels is −0."""
    infinities = {term for term in terms if is_infinite(term)}
    if infinities:
        return (NAN, Flag.invalid) if len(infinities) > 1 else (infinities.pop(), NOTHING)
    total = sum(map(Fraction, terms))
    if total == 0:
        signs = {is_negative(term) for term in terms}
        return with_sign(0, signs == {True} or (True in signs and downward)), NOTHING
    return total, NOTHING


def exact_product(x: Real, y: Real) -> Real:
    negative = is_negative(x) != is_negative(y)
    if is_infinite(x) or is_infinite(y):
        return with_sign(INF, negative)
    return with_sign(abs(Fraction(x) * Fraction(y)), negative)


def exact_quotient(x: Real, y: Real) -> Outcome:
    negative = is_negative(x) != is_negative(y)
    if is_infinite(x):
        return (NAN, Flag.invalid) if is_infinite(y) else (with_sign(INF, negative), NOTHING)
    if is_infinite(y):
        return with_sign(0, negative), NOTHING
    if y == 0:
        return (NAN, Flag.invalid) if x == 0 else (with_sign(INF, negative), Flag.divide_by_zero)
    return with_sign(abs(Fraction(x) / Fraction(y)), negative), NOTHING


def exact_root(x: Real) -> Outcome:
    """A square root, or what rounds like it: 220 bits of it, and half a bit more for the rest."""
    if x == 0 or (is_infinite(x) and x > 0):
        return x, NOTHING
    if x < 0:
        return NAN, Flag.invalid
    places = max(0, 220 - spec.floor_log2(Fraction(x)) // 2)
    square = Fraction(x) * 4**places
    assert square.denominator == 1  # of a float
    root = math.isqrt(int(square))
    return Fraction(2 * root + (root * root != square), 2 << places), NOTHING


def exact_result(name: str, numbers: tuple[Real, ...], downward: bool = False) -> Outcome:
    """The exact result of an operation, and the flags of the operation itself."""
    if name in ("multiply", "fma"):
        x, y = numbers[:2]
        if (x == 0 and is_infinite(y)) or (y == 0 and is_infinite(x)):
            return NAN, Flag.invalid  # whatever z is
    if any(map(is_nan, numbers)):
        return NAN, NOTHING
    match name:
        case "add" | "faa":
            return exact_sum(numbers, downward)
        case "subtract":
            return exact_sum((numbers[0], negated(numbers[1])), downward)
        case "multiply":
            return exact_product(*numbers), NOTHING
        case "divide":
            return exact_quotient(*numbers)
        case "sqrt":
            return exact_root(*numbers)
        case "fma":
            return exact_sum((exact_product(*numbers[:2]), numbers[2]), downward)
    raise AssertionError(name)


@lru_cache(maxsize=1 << 16)
def decoded(code: int, fmt: Format) -> float:
    return float(spec.decode(code, fmt))


def operate(name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(fpsim, name)(*arguments, **options)


# The judge --------------------------------------------------------------------------------------


class Case:
    """Operands of one operation, whose exact results are worked out once and judged in any mode.

    `dtypes`: those in which the operands are handed over; their own unless given.
    """

    def __init__(self, name: str, *operands: Any, dtypes: tuple[Any, ...] | None = None) -> None:
        arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x)) for x in operands))
        self.name = name
        self.operands = [array.ravel() for array in arrays]
        self.dtypes = dtypes
        exact = [list(map(spec.exact, x.tolist())) for x in self.operands]
        self.numbers: list[tuple[Real, ...]] = list(zip(*exact, strict=True))
        self._outcomes: dict[bool, tuple[np.ndarray, list[Outcome]]] = {}

    def outcomes(self, downward: bool) -> tuple[np.ndarray, list[Outcome]]:
        """Exact results, each once, and for every element which of them is its."""
        if downward not in self._outcomes:
            places: dict[Any, int] = {}
            outcomes: list[Outcome] = []
            index = np.empty(len(self.numbers), np.int64)
            for i, numbers in enumerate(self.numbers):
                value, flags = exact_result(self.name, numbers, downward)
                key = (value, is_negative(value), flags)  # NaN is always the same object
                place = places.setdefault(key, len(outcomes))
                if place == len(outcomes):
                    outcomes.append((value, flags))
                index[i] = place
            self._outcomes[downward] = index, outcomes
        return self._outcomes[downward]

    def expected(
        self, fmt: Format, rounding: Any, overflow: Any, words: Any, tininess: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values and flags by the specification; NaN, too, where the format has none."""
        index, outcomes = self.outcomes(rounding == "toward_negative")
        pairs = [(place, 0) for place in range(len(outcomes))]
        if words is not None:
            pairs = [(int(p), int(w)) for p, w in zip(index, words, strict=True)]
            index = np.arange(index.size)
        values, raised = np.empty(len(pairs)), np.empty(len(pairs), np.uint8)
        for i, (place, word) in enumerate(pairs):
            exact, flags = outcomes[place]
            value = NAN
            if not (is_nan(exact) and fmt.nan_code is None):
                code, more = spec.project(exact, fmt, rounding, overflow, word, tininess)
                value, flags = decoded(code, fmt), flags | more
            values[i], raised[i] = value, flags
        return values[index], raised[index]

    def check(
        self,
        fmt: Any,
        rounding: Any = "ties_to_even",
        overflow: Any = "nan",
        *,
        words: Any = None,
        tininess: str = "after",
    ) -> None:
        """Compare values, signs, flags, dtypes; where the format has no NaN, the errors."""
        fmt = Format.parse(fmt)
        want, want_flags = self.expected(fmt, rounding, overflow, words, tininess)
        options = {"rounding": rounding, "overflow": overflow, "tininess": tininess}
        missing = np.isnan(want) if fmt.nan_code is None else np.zeros(want.shape, bool)
        kept = np.flatnonzero(~missing)
        chosen = {} if words is None else {"random_bits": np.asarray(words, np.uint64)}
        kept_words = {key: value[kept] for key, value in chosen.items()}
        for dtype in self.dtypes or (None,):
            operands = [x if dtype is None else x.astype(dtype) for x in self.operands]
            if missing.any():
                message = (
                    f"{missing.sum()} results are NaN, the first at index ({missing.argmax()},), "
                )
                with pytest.raises(ValueError, match=re.escape(message)):
                    operate(self.name, *operands, fmt, **options, **chosen)
            flags = np.full(kept.size, 0xFF, np.uint8)
            operands = [x[kept] for x in operands]
            got = operate(self.name, *operands, fmt, flags=flags, **options, **kept_words)
            narrow = all(x.dtype.itemsize <= 4 for x in operands) and Format(8, 23).contains(fmt)
            assert got.dtype == (F32 if narrow else F64)
            # Nothing goes another way where no flags are asked for.
            assert (
                operate(self.name, *operands, fmt, **options, **kept_words).tobytes()
                == got.tobytes()
            )
            self._compare(got, flags, want[kept], want_flags[kept], operands, (fmt, options))

    def _compare(
        self,
        got: np.ndarray,
        flags: np.ndarray,
        want: np.ndarray,
        want_flags: np.ndarray,
        operands: list[np.ndarray],
        about: Any,
    ) -> None:
        same = np.where(np.isnan(want), np.isnan(got), got == want)
        same &= (np.signbit(got) == np.signbit(want)) | np.isnan(want)
        same &= flags == want_flags
        if not same.all():
            i = int(np.argmin(same))
            raise AssertionError(
                f"{np.count_nonzero(~same)} of {same.size} wrong, the first at index {i}: "
                f"{self.name}{tuple(x[i] for x in operands)!r} is {got[i]!r}, "
                f"{Flag(int(flags[i]))!r}; right is {want[i]!r}, {Flag(int(want_flags[i]))!r} "
                f"({about})"
            )


def modes_and_rules() -> Iterator[dict[str, Any]]:
    """Every mode, every rule in three of them, and both kinds of tininess in each."""
    for i, rounding in enumerate(MODES):
        yield {
            "rounding": rounding,
            "overflow": RULES[i % 4],
            "tininess": ("after", "before")[i % 2],
        }
    for i, overflow in enumerate(RULES):
        yield {"rounding": "ties_to_even", "overflow": overflow, "tininess": "before"}
        yield {"rounding": MODES[3 + i], "overflow": overflow}


def all_modes_and_rules() -> Iterator[dict[str, Any]]:
    for rounding, overflow, tininess in itertools.product(MODES, RULES, ("after", "before")):
        yield {"rounding": rounding, "overflow": overflow, "tininess": tininess}


# Every operand of small formats -----------------------------------------------------------------

# Signed and not; with and without −0, a zero, infinities, NaN, subnormals; precision 1 to 4.
TINY_FORMATS = [
    "ue2m1",
    "e2m1",
    "float4_e2m1fn",
    "binary4p2sf",
    "binary4p1ue",
    "e3m0",
    "e3m0f",
    "e1m2",
    "e2m1fnuz",
    "e2m1f,zero=false",
    "ue3m1fn,zero=false",
]
SMALL_FORMATS = [
    *TINY_FORMATS,
    "e2m2,subnormals=false",
    "ue3m2f,zero=false",
    "binary5p1se",
    "binary5p2ue",
    "e3m2",
    "e2m3f",
    "binary6p3se",
]
# Operands of one or two formats, and the result's.
MIXED = [
    (("e3m2", "e3m2"), "e2m1"),
    (("e3m2", "e2m3f"), "binary6p3se"),
    (("binary6p3se", "binary4p1ue"), "e3m0"),
    (("e3m2", "e2m1"), "ue2m1"),
    (("e2m3f", "e2m3f"), "ue3m1fn,zero=false"),
    (("e3m0", "e2m1"), "float6_e2m3fn"),
    (("binary5p2ue", "binary5p1se"), "e2m2,subnormals=false"),
    (("e2m1", "binary4p2sf"), "float8_e8m0fnu"),
    (("e2m1fnuz", "e3m2"), "binary64"),
    (("float4_e2m1fn", "e3m2"), "binary5p1se"),
]


@lru_cache(maxsize=4)
def exhaustive(name: str, formats: tuple[str, ...]) -> Case:
    """Every combination of the formats' values, in both dtypes."""
    values = [
        np.array([decoded(c, f) for c in range(1 << f.bits)]) for f in map(Format.parse, formats)
    ]
    grids = np.meshgrid(*values, indexing="ij")
    return Case(name, *grids, dtypes=(np.float32, np.float64))


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "sqrt"])
@pytest.mark.parametrize("fmt", SMALL_FORMATS)
def test_every_pair_of_a_small_format(name: str, fmt: str) -> None:
    case = exhaustive(name, (fmt,) * OPERANDS[name])
    for options in modes_and_rules():
        case.check(fmt, **options)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize(("formats", "fmt"), MIXED)
def test_every_pair_of_other_formats(name: str, formats: tuple[str, str], fmt: str) -> None:
    case = exhaustive(name, formats)
    for options in modes_and_rules():
        case.check(fmt, **options)


@pytest.mark.parametrize("fmt", ["e2m1", "binary5p2ue", "ue3m1fn,zero=false", "e2m3f"])
@pytest.mark.parametrize("operands", ["e3m2", "e4m3", "binary6p3se"])
def test_every_root_of_other_formats(operands: str, fmt: str) -> None:
    case = exhaustive("sqrt", (operands,))
    for options in all_modes_and_rules():
        case.check(fmt, **options)


@pytest.mark.parametrize("name", ["fma", "faa"])
@pytest.mark.parametrize("fmt", [*TINY_FORMATS, "e2m2"])
def test_every_triple_of_a_tiny_format(name: str, fmt: str) -> None:
    case = exhaustive(name, (fmt,) * 3)
    for options in modes_and_rules():
        case.check(fmt, **options)


@pytest.mark.parametrize("name", ["fma", "faa"])
@pytest.mark.parametrize(
    ("formats", "fmt"),
    [
        (("e2m1", "binary4p2sf", "e3m0"), "e3m2"),
        (("float4_e2m1fn", "float4_e2m1fn", "e3m2"), "e2m1"),
        (("e3m0", "e3m0", "e2m1"), "ue2m1"),
        (("e2m1", "e2m1", "e2m1"), "ue3m1fn,zero=false"),
        (("e3m0", "binary4p1ue", "e2m1"), "binary5p1se"),
    ],
)
def test_every_triple_of_other_formats(name: str, formats: tuple[str, ...], fmt: str) -> None:
    case = exhaustive(name, formats)
    for options in modes_and_rules():
        case.check(fmt, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERANDS)
@pytest.mark.parametrize("fmt", [f for f in SMALL_FORMATS if Format.parse(f).bits <= 5])
def test_small_formats_in_every_mode_with_every_rule(name: str, fmt: str) -> None:
    case = exhaustive(name, (fmt,) * OPERANDS[name])
    for options in all_modes_and_rules():
        case.check(fmt, **options)


# Special values, by hand ------------------------------------------------------------------------

INVALID, BY_ZERO = Flag.invalid, Flag.divide_by_zero
INEXACT = Flag.inexact
OVERFLOWS = Flag.overflow | Flag.inexact
DOWN, UP = {"rounding": "toward_negative"}, {"rounding": "toward_positive"}

SPECIAL = [
    # Signs of zero sums: those of the terms where they agree, else +0, or −0 downward.
    ("add", (1.5, -1.5), {}, 0.0, NOTHING),
    ("add", (1.5, -1.5), DOWN, -0.0, NOTHING),
    ("add", (1.5, -1.5), UP, 0.0, NOTHING),
    ("add", (0.0, -0.0), {}, 0.0, NOTHING),
    ("add", (0.0, -0.0), DOWN, -0.0, NOTHING),
    ("add", (0.0, 0.0), DOWN, 0.0, NOTHING),
    ("add", (-0.0, -0.0), {}, -0.0, NOTHING),
    ("add", (-0.0, -0.0), UP, -0.0, NOTHING),
    ("subtract", (-0.0, 0.0), {}, -0.0, NOTHING),
    ("subtract", (0.0, 0.0), {}, 0.0, NOTHING),
    ("subtract", (0.0, 0.0), DOWN, -0.0, NOTHING),
    ("subtract", (-0.0, -0.0), {}, 0.0, NOTHING),
    ("subtract", (3.0, 3.0), DOWN, -0.0, NOTHING),
    ("fma", (2.0, 3.0, -6.0), {}, 0.0, NOTHING),
    ("fma", (2.0, 3.0, -6.0), DOWN, -0.0, NOTHING),
    ("fma", (2.0, -3.0, 6.0), DOWN, -0.0, NOTHING),
    ("fma", (0.0, -2.0, -0.0), {}, -0.0, NOTHING),
    ("fma", (-0.0, -2.0, -0.0), {}, 0.0, NOTHING),
    ("fma", (-0.0, -2.0, -0.0), DOWN, -0.0, NOTHING),
    ("fma", (-0.0, -2.0, 0.0), DOWN, 0.0, NOTHING),
    ("fma", (0.0, 5.0, 0.0), DOWN, 0.0, NOTHING),
    ("faa", (-0.0, -0.0, -0.0), {}, -0.0, NOTHING),
    ("faa", (-0.0, 0.0, -0.0), {}, 0.0, NOTHING),
    ("faa", (-0.0, -0.0, 0.0), DOWN, -0.0, NOTHING),
    ("faa", (0.0, 0.0, 0.0), DOWN, 0.0, NOTHING),
    ("faa", (4.0, 1.0, -5.0), {}, 0.0, NOTHING),
    ("faa", (4.0, 1.0, -5.0), DOWN, -0.0, NOTHING),
    ("faa", (1.0, -1.0, -0.0), {}, 0.0, NOTHING),
    # Of products and quotients: that of the factors', however small.
    ("multiply", (-0.0, 3.0), {}, -0.0, NOTHING),
    ("multiply", (-0.0, -3.0), DOWN, 0.0, NOTHING),
    ("multiply", (2.0**-60, -(2.0**-60)), {}, -0.0, INEXACT | Flag.underflow),
    ("multiply", (2.0**-60, -(2.0**-60)), DOWN, -(2.0**-16), INEXACT | Flag.underflow),
    ("divide", (0.0, -3.0), {}, -0.0, NOTHING),
    ("divide", (-1.0, INF), {}, -0.0, NOTHING),
    ("divide", (-0.0, -INF), {}, 0.0, NOTHING),
    ("divide", (-(2.0**-60), 2.0**60), {}, -0.0, INEXACT | Flag.underflow),
    ("sqrt", (-0.0,), {}, -0.0, NOTHING),
    ("sqrt", (0.0,), DOWN, 0.0, NOTHING),
    # Infinities.
    ("add", (INF, -3.0), {}, INF, NOTHING),
    ("add", (INF, INF), {}, INF, NOTHING),
    ("add", (INF, -INF), {}, NAN, INVALID),
    ("subtract", (INF, INF), {}, NAN, INVALID),
    ("subtract", (-INF, INF), {}, -INF, NOTHING),
    ("multiply", (INF, -0.5), {}, -INF, NOTHING),
    ("multiply", (0.0, -INF), {}, NAN, INVALID),
    ("divide", (INF, -0.0), {}, -INF, NOTHING),
    ("divide", (INF, -INF), {}, NAN, INVALID),
    ("sqrt", (INF,), {}, INF, NOTHING),
    ("sqrt", (-INF,), {}, NAN, INVALID),
    ("fma", (INF, 1.0, -INF), {}, NAN, INVALID),
    ("fma", (INF, -1.0, -INF), {}, -INF, NOTHING),
    ("fma", (2.0, 1.0, -INF), {}, -INF, NOTHING),
    ("fma", (INF, 0.0, 1.0), {}, NAN, INVALID),
    ("fma", (-0.0, INF, INF), {}, NAN, INVALID),
    ("fma", (INF, 0.0, NAN), {}, NAN, INVALID),
    ("fma", (0.0, -INF, NAN), {}, NAN, INVALID),
    ("faa", (INF, 1.0, -INF), {}, NAN, INVALID),
    ("faa", (1.0, INF, -INF), {}, NAN, INVALID),
    ("faa", (INF, -INF, 1.0), {}, NAN, INVALID),
    ("faa", (-INF, -1.0, -INF), {}, -INF, NOTHING),
    # Division by zero, and nothing by nothing.
    ("divide", (1.0, 0.0), {}, INF, BY_ZERO),
    ("divide", (-1.0, 0.0), {}, -INF, BY_ZERO),
    ("divide", (2.0**-60, -0.0), {"rounding": "toward_zero"}, -INF, BY_ZERO),
    ("divide", (0.0, -0.0), {}, NAN, INVALID),
    ("divide", (1.0, 0.0), {"overflow": "saturate"}, INF, BY_ZERO),
    ("divide", (1.0, 0.0), {"overflow": "saturate_infinities"}, 57344.0, BY_ZERO | OVERFLOWS),
    # Roots of what is below zero.
    ("sqrt", (-1.0,), {}, NAN, INVALID),
    ("sqrt", (-(2.0**-100),), {}, NAN, INVALID),
    # Quiet NaN.
    ("add", (NAN, 1.0), {}, NAN, NOTHING),
    ("subtract", (INF, NAN), {}, NAN, NOTHING),
    ("multiply", (0.0, NAN), {}, NAN, NOTHING),
    ("divide", (NAN, 0.0), {}, NAN, NOTHING),
    ("divide", (0.0, NAN), {}, NAN, NOTHING),
    ("sqrt", (NAN,), {}, NAN, NOTHING),
    ("sqrt", (-NAN,), {}, NAN, NOTHING),
    ("fma", (1.0, NAN, INF), {}, NAN, NOTHING),
    ("fma", (INF, 1.0, NAN), {}, NAN, NOTHING),
    ("faa", (INF, -INF, NAN), {}, NAN, NOTHING),
    # Past the range.
    ("multiply", (256.0, 256.0), {}, INF, OVERFLOWS),
    ("multiply", (256.0, -256.0), {"rounding": "toward_zero"}, -57344.0, OVERFLOWS),
    ("add", (57344.0, 4096.0), {}, INF, OVERFLOWS),
    ("add", (57344.0, 4095.0), {}, 57344.0, INEXACT),
    ("fma", (256.0, 256.0, -INF), {}, -INF, NOTHING),
    ("divide", (2.0**100, -(2.0**-20)), UP, -57344.0, OVERFLOWS),
]  # fmt: skip


@every_dtype
@pytest.mark.parametrize(("name", "numbers", "options", "want", "raised"), SPECIAL)
def test_special_values(
    name: str, numbers: Any, options: Any, want: float, raised: Flag, dtype: Any
) -> None:
    """Into E5M2, which has all of them: largest 57344, min_subnormal 2^-16."""
    flags = np.zeros(1, np.uint8)
    arrays = [np.array([x], dtype) for x in numbers]
    got = operate(name, *arrays, "float8_e5m2", flags=flags, **options)
    assert np.array_equal(got, np.array([want]), equal_nan=True)
    assert np.isnan(want) or np.signbit(got[0]) == np.signbit(want)
    assert Flag(int(flags[0])) == raised
    Case(name, *arrays).check("float8_e5m2", **options)  # the oracle says the same


@every_operation
@every_dtype
def test_every_combination_of_special_values(name: str, dtype: Any) -> None:
    info = np.finfo(dtype)
    ends = [0.0, info.smallest_subnormal, info.smallest_normal, 1.0, 1.5, info.max, INF]
    points = np.array([*ends, *(-x for x in ends), NAN], dtype)
    case = Case(name, *np.meshgrid(*[points] * OPERANDS[name]))
    for fmt in ("float8_e5m2", "float8_e4m3fn", "binary32", "binary64", "ue3m2f,zero=false"):
        for rounding in ("ties_to_even", "toward_negative", "away_from_zero"):
            case.check(fmt, rounding)


@pytest.mark.parametrize("fmt", ["float8_e4m3fnuz", "binary8p3se"])
def test_formats_without_a_negative_zero(fmt: str) -> None:
    flags = np.zeros(5, np.uint8)
    got = [
        fpsim.add(1.0, -1.0, fmt, rounding="toward_negative"),
        fpsim.multiply(-0.0, 1.0, fmt),
        fpsim.sqrt(-0.0, fmt),
        fpsim.divide(-1.0, INF, fmt),
        *fpsim.multiply([-(2.0**-60)] * 5, [2.0**-60] * 5, fmt, flags=flags),
    ]
    assert got == [0.0] * 9
    assert not np.signbit(got).any()
    assert (flags == INEXACT | Flag.underflow).all()


@pytest.mark.parametrize(
    ("overflow", "want", "raised"),
    [
        ("nan", NAN, INVALID | BY_ZERO),
        ("infinity", 448.0, OVERFLOWS | BY_ZERO),
        ("saturate", 448.0, OVERFLOWS | BY_ZERO),
        ("saturate_infinities", 448.0, OVERFLOWS | BY_ZERO),
    ],
)
def test_division_by_zero_without_infinities(overflow: str, want: float, raised: Flag) -> None:
    flags = np.zeros(2, np.uint8)
    got = fpsim.divide([1.0, -1.0], 0.0, "float8_e4m3fn", overflow=overflow, flags=flags)
    assert np.array_equal(got, [want, -want], equal_nan=True)
    assert [Flag(int(flag)) for flag in flags] == [raised] * 2


def test_results_below_an_unsigned_format() -> None:
    flags = np.zeros(3, np.uint8)
    x, y = [1.0, 1.0, 1.0], [3.0, 1.0, 1.0 + 2.0**-52]
    got = fpsim.subtract(x, y, "binary8p3ue", flags=flags)
    assert np.array_equal(got, [NAN, 0.0, 0.0], equal_nan=True)
    assert flags.tolist() == [INVALID, NOTHING, INEXACT | Flag.underflow]
    got = fpsim.subtract(x, y, "binary8p3ue", overflow="saturate", flags=flags)
    assert got.tolist() == [0.0, 0.0, 0.0]


def signalling(dtype: Any) -> np.ndarray:
    """NaN of a dtype, [quiet, signalling, signalling of the other sign and every payload bit]."""
    uint, bits = {2: (np.uint16, 10), 4: (np.uint32, 23), 8: (np.uint64, 52)}[
        np.dtype(dtype).itemsize
    ]
    top = np.array([1], uint) << uint(8 * np.dtype(dtype).itemsize - 1)
    quiet, infinity = 1 << (bits - 1), int(np.array([INF], dtype).view(uint)[0])
    codes = [infinity | quiet, infinity | 1, infinity | (quiet - 1)]
    x = np.array(codes, uint)
    x[2:] |= top
    return x.view(dtype)


@every_operation
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "float8_e5m2"])
def test_signalling_nan_is_invalid_in_every_place(name: str, dtype: Any, fmt: str) -> None:
    nans = signalling(dtype)
    for place in range(OPERANDS[name]):
        for other in (1.5, 0.0, INF, NAN):
            operands = [np.full(3, other, dtype) for _ in range(OPERANDS[name])]
            operands[place] = nans
            flags = np.zeros(3, np.uint8)
            got = operate(name, *operands, fmt, flags=flags)
            assert np.isnan(got).all()
            assert flags.tolist()[1:] == [INVALID, INVALID], (place, other)
            assert flags[0] == NOTHING, (place, other)  # no infinity times zero among these


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("fmt", ["binary32", "binary64", "e8m22"])
@every_operation
def test_signalling_nan_is_invalid_where_float64_does_the_work(
    name: str, fmt: str, dtype: Any
) -> None:
    """A processor's conversion of float32 to float64 makes a signalling NaN a quiet one."""
    operands = [np.ones(3, dtype) for _ in range(OPERANDS[name])]
    operands[0] = signalling(dtype)
    flags = np.zeros(3, np.uint8)
    assert np.isnan(operate(name, *operands, fmt, flags=flags)).all()
    assert flags.tolist() == [NOTHING, INVALID, INVALID]
    if len(operands) > 1:
        operands[1] = np.ones(3, np.float64)
        operate(name, *operands, "float8_e4m3fn", flags=flags)
        assert flags.tolist() == [NOTHING, INVALID, INVALID]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("contiguous", [True, False])
def test_nan_that_the_format_lacks_writes_nothing(dtype: Any, contiguous: bool) -> None:
    """The error counts and locates results that are NaN, over chunks and pieces too."""
    shape = (300, 1001)
    x = np.ones(shape, dtype)
    x[7, 500] = x[299, 1000] = -1.0
    x[200, 1] = NAN
    out = np.full(shape, 77, dtype)
    flags = np.full(shape, 99, np.uint8)
    if not contiguous:
        x, out, flags = (np.asfortranarray(array) for array in (x, out, flags))
    with pytest.raises(ValueError, match=r"3 results are NaN, the first at index \(7, 500\), but"):
        fpsim.sqrt(x, "float4_e2m1fn", out=out, flags=flags)
    assert (out == 77).all()
    assert (flags == 99).all()
    # In place, too.
    before = x.copy()
    with pytest.raises(ValueError, match="choose a format with NaN, or operands whose results"):
        fpsim.sqrt(x, "float4_e2m1fn", out=x)
    assert np.array_equal(x, before, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("add", (INF, -INF)),
        ("subtract", (NAN, 1.0)),
        ("multiply", (0.0, INF)),
        ("divide", (0.0, 0.0)),
        ("sqrt", (-1.0,)),
        ("fma", (INF, 0.0, 1.0)),
        ("faa", (1.0, INF, -INF)),
    ],
)
def test_nan_that_the_format_lacks_of_scalars(name: str, numbers: Any) -> None:
    with pytest.raises(ValueError, match=r"1 results are NaN, the first at index \(\), but"):
        operate(name, *numbers, "float6_e2m3fn")
    # What is lacking is NaN: infinities are past the range.
    assert fpsim.divide(-1.0, 0.0, "float6_e2m3fn") == -7.5


# Boundaries -------------------------------------------------------------------------------------

Arrays = tuple[np.ndarray, ...]


def quiet() -> Any:
    return np.errstate(all="ignore")


class Operands:
    """Operands of an operation whose results lie where rounding into a format is decided.

    Every method but `of` gives `n` in one way, in a dtype.
    """

    def __init__(self, name: str, fmt: Format, dtype: Any, n: int, seed: int) -> None:
        self.name, self.fmt, self.dtype, self.n = name, fmt, np.dtype(dtype), n
        self.count = OPERANDS[name]
        self.info = np.finfo(dtype)
        self.rng = np.random.default_rng([seed, fmt.bits, sum(map(ord, name)), self.dtype.itemsize])

    @classmethod
    @np.errstate(all="ignore")
    def of(cls, name: str, fmt: Any, dtype: Any, n: int = 24, seed: int = 0) -> Arrays:
        """Of all ways together."""
        made = cls(name, Format.parse(fmt), dtype, n, seed)
        ways = [made.unrelated(), made.aimed(), made.parts(), made.cancelling(), made.ends()]
        return tuple(np.concatenate(arrays).astype(dtype) for arrays in zip(*ways, strict=True))

    def pick(self, choices: Any) -> np.ndarray:
        return self.rng.choice(np.array(list(choices)), self.n)

    def exponents(self) -> np.ndarray:
        """Of results: the ends of the format's range, 0, and others."""
        fmt = self.fmt
        edges = [
            *range(fmt.quantum_exponent - 2, fmt.quantum_exponent + 2),
            *range(fmt.emin - 2, fmt.emin + 2),
            *range(fmt.emax - 1, fmt.emax + 2),
        ]
        low, high = min(edges), max(edges)
        anywhere = self.rng.integers(low, high + 1, self.n)
        return np.where(self.rng.random(self.n) < 0.7, self.pick(edges), anywhere)

    def significands(self) -> np.ndarray:
        """Few bits; next to a power of two; any."""
        eps = float(self.info.eps)
        few = 1 + self.rng.integers(0, 16, self.n) / 16
        near = 1 + self.rng.integers(-4, 5, self.n) * eps
        any_ = 1 + self.rng.random(self.n)
        signs = self.pick([1, 1, -1])
        return signs * np.choose(self.rng.integers(0, 3, self.n), [few, near, any_])

    def scaled(self, exponents: np.ndarray) -> np.ndarray:
        return np.ldexp(self.significands(), exponents).astype(self.dtype)

    def nudged(self, x: np.ndarray, most: int = 2) -> np.ndarray:
        """Up to so many units in the last place away; no further than zero and infinity."""
        ints = np.dtype(f"i{self.dtype.itemsize}")
        bits = x.astype(self.dtype).view(ints)
        sign, magnitude = bits & np.iinfo(ints).min, bits & np.iinfo(ints).max
        infinity = np.array(INF, self.dtype).view(ints)
        moved = magnitude + self.rng.integers(-most, most + 1, x.size).astype(ints)
        moved = np.where(magnitude > infinity, magnitude, np.clip(moved, 0, infinity))
        return (moved | sign).view(self.dtype)

    def split(self, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exponents of two factors."""
        span = min(abs(self.info.minexp), self.info.maxexp) // 2
        one = exponents // 2 + self.rng.integers(-span // 4, span // 4, self.n)
        return one, exponents - one

    def unrelated(self) -> list[np.ndarray]:
        """Anything that makes results of about the right size."""
        e = self.exponents()
        gaps = [self.pick([0, 0, 1, 2, 5, 12, 24, 40, 60]) for _ in range(3)]
        first, second = self.split(e)
        match self.name:
            case "sqrt":
                return [np.abs(self.scaled(2 * e + self.pick([0, 1])))]
            case "multiply":
                return [self.scaled(first), self.scaled(second)]
            case "divide":
                return [self.scaled(first), self.scaled(-second)]
            case "fma":
                first, second = self.split(e - gaps[0])
                return [self.scaled(first), self.scaled(second), self.scaled(e - gaps[1])]
        return [self.scaled(e - gap) for gap in gaps[: self.count]]

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Values of the format, most of them next to the ends of its range; shares of the gap."""
        fmt, m = self.fmt, self.fmt.mantissa_bits
        edges = [0, 1, 2, fmt.max_code - 1, fmt.max_code, fmt.max_code + 1]
        edges += [max(0, (1 << m) + k) for k in range(-2, 3)]
        places = [
            int(edge) if odds < 0.6 else int(self.rng.integers(0, fmt.max_code + 1))
            for edge, odds in zip(
                self.rng.choice(edges, self.n), self.rng.random(self.n), strict=True
            )
        ]
        shares = self.pick([0, 0.5, 0.5, 0.25, 0.75, 2.0**-20, 1 - 2.0**-20])
        values, offsets = np.empty(self.n), np.empty(self.n)
        for i, place in enumerate(places):
            low, high = spec.value_at(place, fmt), spec.value_at(place + 1, fmt)
            values[i], offsets[i] = _clamped(low), _clamped((high - low) * Fraction(shares[i]))
        signs = self.pick([1, -1])
        return signs * values, signs * offsets

    def aimed(self) -> list[np.ndarray]:
        """The last operand solves for a value, or a middle; then it is moved a little."""
        value, offset = self.points()
        aim = value + offset
        x = self.scaled(np.frexp(aim)[1] - self.pick([0, 1, 3, 30]))
        factor = self.scaled(self.split(np.frexp(aim)[1])[0])
        match self.name:
            case "add":
                return [x, self.nudged(aim - x)]
            case "subtract":
                return [x, self.nudged(x - aim)]
            case "multiply":
                return [factor, self.nudged(aim / factor)]
            case "divide":
                return [self.nudged(aim * factor), factor]
            case "sqrt":
                return [np.abs(self.nudged(aim * aim))]
            case "fma":
                return [factor, x / factor, self.nudged(aim - x)]
        y = self.nudged(x, 9)
        return [x, -y, self.nudged(aim - (x - y))]

    def parts(self) -> list[np.ndarray]:
        """A value, half the gap above it, and next to nothing, as the operands of a sum.

        Products are of short factors, which have one bit more than the format; quotients and
        roots come of multiplying.
        """
        value, offset = self.points()
        tiny = self.pick([0, 1, -1]) * np.ldexp(offset, -self.pick([1, 10, 50, 100, 300]))
        bits = self.fmt.precision + 1
        short = bits // 2
        a = self.rng.integers(1 << short >> 1, 1 << short, self.n) | 1
        b = self.rng.integers(1 << (bits - short) >> 1, 1 << (bits - short), self.n) | 1
        first, second = self.split(self.exponents() - bits)
        x, y = np.ldexp(a.astype(float), first), np.ldexp(b.astype(float), second)
        match self.name:
            case "add":
                return [value, self.nudged(offset, 1)]
            case "subtract":
                return [self.nudged(offset, 1), value]
            case "multiply":
                return [x, -y]
            case "divide":
                return [self.nudged(x * y, 1), -y]
            case "sqrt":
                return [self.nudged(np.abs(x * x), 1)]
            case "fma":
                one = self.significands()
                mixed = self.rng.random(self.n) < 0.5
                return [
                    np.where(mixed, offset / one, x),
                    np.where(mixed, one, y),
                    np.where(mixed, value, tiny),
                ]
        return [self.nudged(offset, 1), value, tiny]

    def cancelling(self) -> list[np.ndarray]:
        """Sums of what nearly cancels; next to 1 where nothing can."""
        e = self.exponents() + self.pick([0, 1, 5, 20, 23, 24, 52, 53])
        first, second = self.split(e)
        x, y = self.scaled(first), self.scaled(second)
        match self.name:
            case "add" | "subtract":
                x = self.scaled(e)
                return [x, (-1 if self.name == "add" else 1) * self.nudged(x)]
            case "fma":
                return [x, y, self.nudged(-(x.astype(float) * y))]
            case "faa":
                x, y = self.scaled(e), self.scaled(e - self.pick([0, 1, 30]))
                return [x, y, self.nudged(-(x.astype(float) + y))]
        x = self.nudged(np.ones(self.n), 9)
        return [x, self.nudged(x)][: self.count]

    def ends(self) -> list[np.ndarray]:
        """Ends of the dtype's own range, where rounding errors are lost, and specials."""
        info = self.info
        tiny, small, largest = map(float, (info.smallest_subnormal, info.smallest_normal, info.max))
        ends = [
            tiny,
            3 * tiny,
            small,
            small - tiny,
            largest,
            largest / 2,
            float(info.eps) * largest,
        ]
        rest = [1.0, 1.5, float(info.eps), 0.0, INF, NAN]
        return [
            self.nudged(self.pick([1, -1]) * self.pick([*ends, *ends, *rest]))
            for _ in range(self.count)
        ]


def _clamped(x: Fraction) -> float:
    """The nearest finite float64."""
    return float(min(x, Fraction(np.finfo(np.float64).max)))


# Formats for float32 and float64 operands: those with which float32 has just enough bits (e8m21,
# e5m21, e8m19b129), and not (e8m22, binary32); precision 1; no subnormals; no zero; no sign.
TARGETS = [
    "binary16",
    "bfloat16",
    "binary32",
    "tf32",
    "e8m22",
    "e8m21",
    "e8m20",
    "e5m21",
    "e8m19b129",
    "e4m3b146",
    "e3m0b150",
    "float8_e4m3fn",
    "float8_e5m2",
    "binary8p3se",
    "binary8p1ue",
    "float8_e8m0fnu",
    "float4_e2m1fn",
    "e8m10,subnormals=false",
    "e5m9f,zero=false",
    "ue6m12",
]
# For float64 operands: those with which float64 has too few bits, and biases far off.
WIDE_TARGETS = [
    "binary64",
    "e11m51",
    "e11m50",
    "e11m49",
    "e9m30",
    "e4m3b-900",
    "e4m3b900",
    "e4m3b1000",
    "e5m50b900",
    "e3m0b1070",
    "e11m20,subnormals=false",
    "e10m51b1020f,zero=false",
]


@pytest.mark.parametrize("fmt", TARGETS)
@every_operation
@every_dtype
def test_boundaries(name: str, fmt: str, dtype: Any) -> None:
    case = Case(name, *Operands.of(name, fmt, dtype))
    for i, rounding in enumerate(MODES):
        case.check(fmt, rounding, RULES[i % 4], tininess=("after", "before")[i // 2 % 2])


@pytest.mark.parametrize("fmt", WIDE_TARGETS)
@every_operation
def test_boundaries_of_float64(name: str, fmt: str) -> None:
    case = Case(name, *Operands.of(name, fmt, np.float64))
    for i, rounding in enumerate(MODES):
        case.check(fmt, rounding, RULES[i % 4], tininess=("after", "before")[i // 2 % 2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("fmt", [*TARGETS, *WIDE_TARGETS])
@every_operation
def test_boundaries_at_length(name: str, fmt: str, seed: int) -> None:
    for dtype in (np.float32, np.float64):
        case = Case(name, *Operands.of(name, fmt, dtype, 60, seed))
        for rounding, tininess in itertools.product(MODES, ("after", "before")):
            case.check(fmt, rounding, tininess=tininess)


@every_operation
def test_operands_of_two_widths(name: str) -> None:
    """A float32 beside a float64 is as good as the float64 that it is."""
    if OPERANDS[name] == 1:
        return
    for fmt in ("float8_e4m3fn", "e8m21", "e11m50"):
        narrow = Operands.of(name, fmt, np.float32)
        wide = Operands.of(name, fmt, np.float64)
        for place in range(OPERANDS[name]):
            mixed = [*narrow]
            mixed[place] = wide[place]
            case = Case(name, *mixed)
            for rounding in ("ties_to_even", "toward_negative", "to_odd"):
                case.check(fmt, rounding)


# Where rounding to odd is at its limits, by hand ------------------------------------------------


@pytest.mark.parametrize("name", ["add", "subtract", "faa"])
def test_sums_with_the_largest_float(name: str) -> None:
    """Knuth's sum overflows on its way if the second term is the largest float.

    −1.5 units of the last place: s = largest − 1 unit, s − x = largest + half a unit, infinite.
    """
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        ulp, largest = info.max - np.nextafter(info.max, dtype(0)), info.max
        amounts = np.array([k * ulp / 2 for k in range(-9, 10)], dtype)
        x = np.concatenate([amounts, np.full(19, largest)])
        y = np.concatenate([np.full(19, largest), amounts])
        rest = [np.zeros(38, dtype)] if name == "faa" else []
        for signs in itertools.product((1, -1), repeat=2):
            case = Case(name, dtype(signs[0]) * x, dtype(signs[1]) * y, *rest)
            fmts = ("e8m21", "e8m20", "e8m22") if dtype is np.float32 else ("e11m50", "e11m51")
            for fmt, rounding in itertools.product(fmts, MODES):
                case.check(fmt, rounding)


@pytest.mark.parametrize(
    ("name", "numbers", "want"),
    [
        ("fma", (1e200, 1e200, -INF), -INF),
        ("fma", (-1e200, 1e200, INF), INF),
        ("faa", (1.7e308, 1.7e308, -INF), -INF),
        ("faa", (1.7e308, -INF, 1.7e308), -INF),
        ("faa", (INF, -1.7e308, -1.7e308), INF),
        ("faa", (-1.7e308, -1.7e308, INF), INF),
    ],
)
@pytest.mark.parametrize("fmt", ["binary64", "float8_e5m2"])
def test_infinity_and_what_is_finite_past_float64(
    name: str, numbers: Any, want: float, fmt: str
) -> None:
    """The product, or the sum of two, is a finite number: it is no infinity of the other sign."""
    flags = np.zeros(1, np.uint8)
    got = operate(name, *([x] for x in numbers), fmt, flags=flags)
    assert got.tolist() == [want]
    assert flags.tolist() == [NOTHING]


@pytest.mark.parametrize(
    ("name", "numbers", "want"),
    [
        ("faa", (-1.7e308, 1.7e308, 1.7e308), 6.0),
        ("faa", (1.7e308, 1.7e308, -1.7e308), 6.0),
        ("faa", (1.7e308, 1.7e308, 1.7e308), 6.0),
        ("fma", (1e200, 1e200, 1.0), 6.0),
        ("fma", (1e200, -1e200, 1e308), -6.0),
        ("fma", (1e200, 1e200, -1.7e308), 6.0),
        ("multiply", (1e200, 1e200), 6.0),
        ("divide", (1e200, -1e-200), -6.0),
        ("add", (1.7e308, 1.7e308), 6.0),
        ("subtract", (1.7e308, -1.7e308), 6.0),
    ],
)
def test_numbers_past_float64_are_not_nan_on_the_way(name: str, numbers: Any, want: float) -> None:
    """A format without NaN has an answer to every finite result."""
    flags = np.zeros(1, np.uint8)
    assert operate(name, *([x] for x in numbers), "float4_e2m1fn", flags=flags).tolist() == [want]
    assert flags.tolist() == [OVERFLOWS]


PAST_FLOAT32: list[tuple[str, tuple[float, ...]]] = [
    ("add", (2.0**127, 1.5 * 2.0**127)),
    ("subtract", (-(2.0**127), 2.0**127)),
    ("multiply", (2.0**64, 2.0**64)),
    ("multiply", (2.0**127, -(2.0**127))),
    ("divide", (2.0**127, 2.0**-1)),
    ("divide", (-(2.0**127), 2.0**-149)),
    ("fma", (2.0**64, 2.0**63, 2.0**127)),
    ("fma", (2.0**127, 2.0**127, 0.0)),
    ("faa", (2.0**127, 1.0, 2.0**127)),
    ("faa", (2.0**127, 2.0**127, 2.0**127)),
]


@pytest.mark.parametrize("fmt", ["bfloat16", "tf32", "e8m21", "e8m0", "float8_e8m0fnu"])
@pytest.mark.parametrize(("name", "numbers"), PAST_FLOAT32)
def test_what_is_past_float32_is_past_formats_of_its_range(
    name: str, numbers: Any, fmt: str
) -> None:
    """2**128 and more overflow in every mode, whatever the random word.

    Float32's largest value, between a format's largest and 2**128, does not stand for it.
    """
    case = Case(name, *(np.array([x], np.float32) for x in numbers))
    for rounding, overflow in itertools.product(MODES, RULES):
        case.check(fmt, rounding, overflow)
    for overflow in RULES:
        for word in (0, 1, 3):
            case.check(fmt, Stochastic(2), overflow, words=[word])
    if Format.parse(fmt).signed:
        flags = np.zeros(1, np.uint8)
        x = [np.array([x], np.float32) for x in numbers]
        operate(name, *x, fmt, rounding="toward_zero", flags=flags)
        assert Flag(int(flags[0])) == OVERFLOWS
        got = operate(name, *x, fmt, rounding=Stochastic(2), random_bits=0)
        assert np.isinf(got).all()


@pytest.mark.parametrize("fmt", ["e8m21", "e8m20b128", "e4m3b145", "e3m0b148", "e8m19b129"])
@pytest.mark.parametrize("name", ["multiply", "divide", "fma"])
def test_underflow_where_float32_ends(name: str, fmt: str) -> None:
    """Below these formats' min_normal float32's subnormals have one bit more than the format.

    Tininess after rounding looks at the format's precision there, with no end to the exponents,
    and asks for two: the last, and one that stands for all that follow.
    """
    parsed = Format.parse(fmt)
    assert parsed.quantum_exponent == -147
    steps = np.arange(1, 33) / 8  # of float32's smallest subnormal, below min_normal
    exact = 2.0**parsed.emin - steps * 2.0**-149
    factor = np.float32(2.0**-60)
    x = (exact / factor).astype(np.float32)
    assert np.unique(x).size > 4
    operands: dict[str, list[Any]] = {
        "multiply": [x, factor],
        "divide": [x, 1 / factor],
        "fma": [x, factor, np.float32(0)],
    }
    y = np.array([1, -1], np.float32)[:, None]
    case = Case(name, operands[name][0] * y, *operands[name][1:])
    for rounding, tininess in itertools.product(MODES, ("after", "before")):
        case.check(fmt, rounding, tininess=tininess)


# Hardware, SoftFloat, MPFR ----------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "sqrt"])
def test_processors_own_arithmetic(name: str, dtype: Any) -> None:
    """binary32 and binary64 of any bit patterns, and of some with few bits, as NumPy has them."""
    rng = np.random.default_rng(5)
    uint, n = (np.uint32, 60_000) if dtype is np.float32 else (np.uint64, 60_000)
    bits = np.dtype(uint).itemsize * 8
    operands = []
    for _ in range(OPERANDS[name]):
        x = rng.integers(0, 1 << bits, n, dtype=uint)
        x[::3] &= ~uint((1 << (bits // 3)) - 1)
        x[1::3] = (x[1::3] & uint((1 << (bits - 4)) - 1)) | np.array([1.0], dtype).view(uint)
        operands.append(x.view(dtype))
    with quiet():
        want = getattr(np, name)(*operands)
    got = operate(name, *operands, np.dtype(dtype))
    assert got.dtype == dtype
    same = (got.view(uint) == want.view(uint)) | (np.isnan(got) & np.isnan(want))
    assert same.all(), [x[np.argmin(same)] for x in operands]


@every_operation
def test_float16_of_numpy(name: str) -> None:
    """NumPy computes float16 in float32 and rounds again, which is harmless for these."""
    if OPERANDS[name] == 3:
        return
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = x[~np.isnan(x)]
    rng = np.random.default_rng(6)
    operands = [x, *(rng.permutation(x) for _ in range(OPERANDS[name] - 1))]
    with quiet():
        want = getattr(np, name)(*operands)
    got = operate(name, *operands, "binary16").astype(np.float16)
    same = (got.view(np.uint16) == want.view(np.uint16)) | (np.isnan(got) & np.isnan(want))
    assert same.all(), [a[np.argmin(same)] for a in operands]


SOFTFLOAT_MODES = {
    Rounding.ties_to_even: sf.RoundingMode.NEAR_EVEN,
    Rounding.toward_zero: sf.RoundingMode.MIN_MAG,
    Rounding.toward_negative: sf.RoundingMode.MIN,
    Rounding.toward_positive: sf.RoundingMode.MAX,
    Rounding.ties_to_away: sf.RoundingMode.NEAR_MAX_MAG,
}
SOFTFLOAT_TININESS = {
    "before": sf.TininessMode.BEFORE_ROUNDING,
    "after": sf.TininessMode.AFTER_ROUNDING,
}
SOFTFLOAT_NAMES = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "sqrt": "sqrt",
    "fma": "mul_add",
}
IEEE = {
    np.float16: ("f16", sf.Float16),
    np.float32: ("f32", sf.Float32),
    np.float64: ("f64", sf.Float64),
}


@contextmanager
def softfloat(rounding: Rounding, tininess: str) -> Iterator[None]:
    """SoftFloat's modes and flags are global: put them back."""
    state = sf.get_rounding_mode(), sf.get_tininess_mode(), sf.get_exception_flags()
    try:
        sf.set_rounding_mode(SOFTFLOAT_MODES[rounding])
        sf.set_tininess_mode(SOFTFLOAT_TININESS[tininess])
        yield
    finally:
        sf.set_rounding_mode(state[0])
        sf.set_tininess_mode(state[1])
        sf.set_exception_flags(state[2])


def operands_in(name: str, dtype: Any, n: int, seed: int) -> list[np.ndarray]:
    """Adversarial and random operands in an IEEE dtype; NaN are quiet."""
    fmt = Format.parse(np.dtype(dtype))
    source = dtype if dtype is not np.float16 else np.float32
    with quiet():
        made = [x.astype(dtype) for x in Operands.of(name, fmt, source, n, seed)]
    rng = np.random.default_rng(seed)
    patterns = []
    for _ in made:
        raw = rng.integers(0, 256, (n, np.dtype(dtype).itemsize), np.uint8).view(dtype).ravel()
        patterns.append(np.where(np.isnan(raw), dtype(NAN), raw))
    return [np.concatenate(pair) for pair in zip(made, patterns, strict=True)]


def assert_softfloat_agrees(name: str, dtype: Any, n: int, seed: int) -> None:
    prefix, number = IEEE[dtype]
    size = np.dtype(dtype).itemsize
    function: Callable[..., Any] = getattr(sf, f"{prefix}_{SOFTFLOAT_NAMES[name]}")
    uint = np.dtype(f"u{size}")
    operands = operands_in(name, dtype, n, seed)
    codes = [x.view(uint).tolist() for x in operands]
    numbers = [[number.from_bytes(code.to_bytes(size, "big")) for code in x] for x in codes]
    for rounding, tininess in itertools.product(SOFTFLOAT_MODES, SOFTFLOAT_TININESS):
        flags = np.zeros(operands[0].size, np.uint8)
        got = operate(
            name, *operands, prefix.replace("f", "binary"),
            rounding=rounding, overflow="infinity", flags=flags, tininess=tininess,
        ).astype(dtype)  # fmt: skip
        with softfloat(rounding, tininess):
            for i, row in enumerate(zip(*numbers, strict=True)):
                sf.set_exception_flags(0)
                code = int.from_bytes(function(*row).to_bytes(), "big")
                raised = Flag(int(sf.get_exception_flags()))
                want = np.array(code, uint).view(dtype)
                about = [x[i] for x in operands], rounding, tininess, got[i], want
                same = int(got[i : i + 1].view(uint)[0]) == code
                assert same or (np.isnan(got[i]) and np.isnan(want)), about
                assert Flag(int(flags[i])) == raised, (about, flags[i], raised)


@pytest.mark.parametrize("dtype", IEEE)
@pytest.mark.parametrize("name", SOFTFLOAT_NAMES)
def test_softfloat(name: str, dtype: Any) -> None:
    assert_softfloat_agrees(name, dtype, 40, 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", IEEE)
@pytest.mark.parametrize("name", SOFTFLOAT_NAMES)
def test_softfloat_at_length(name: str, dtype: Any) -> None:
    for seed in range(2, 6):
        assert_softfloat_agrees(name, dtype, 1500, seed)


MPFR_MODES = {
    Rounding.ties_to_even: gmpy2.RoundToNearest,
    Rounding.toward_zero: gmpy2.RoundToZero,
    Rounding.toward_positive: gmpy2.RoundUp,
    Rounding.toward_negative: gmpy2.RoundDown,
    Rounding.away_from_zero: gmpy2.RoundAwayZero,
}
MPFR_NAMES = {
    "add": gmpy2.add,
    "subtract": gmpy2.sub,
    "multiply": gmpy2.mul,
    "divide": gmpy2.div,
    "sqrt": gmpy2.sqrt,
    "fma": gmpy2.fma,
}


def assert_mpfr_agrees(name: str, fmt: Format, n: int, seed: int) -> None:
    """Operands are values of the format, for MPFR's must be in its range of exponents.

    MPFR's significands lie in [1/2, 1), so its exponents are one more; its emin is that of the
    smallest subnormal. Its underflow flag, if inexact too, is IEEE's after rounding.
    """
    operands = Operands.of(name, fmt, np.float64, n, seed)
    operands = tuple(fpsim.round(x, fmt, overflow="saturate") for x in operands)
    operands = tuple(np.where(np.isnan(x), 1.0, x) for x in operands)
    for rounding, mode in MPFR_MODES.items():
        flags = np.zeros(operands[0].size, np.uint8)
        got = operate(name, *operands, fmt, rounding=rounding, overflow="infinity", flags=flags)
        context = gmpy2.context(
            precision=fmt.precision,
            emax=fmt.emax + 1,
            emin=fmt.quantum_exponent + 1,
            subnormalize=True,
            round=mode,
        )
        with context as active:
            for i, row in enumerate(zip(*(x.tolist() for x in operands), strict=True)):
                numbers = [gmpy2.mpfr(x) for x in row]
                active.clear_flags()
                want = float(MPFR_NAMES[name](*numbers))
                raised = Flag.inexact if active.inexact else NOTHING
                raised |= Flag.overflow if active.overflow else NOTHING
                raised |= Flag.underflow if active.underflow and active.inexact else NOTHING
                raised |= Flag.divide_by_zero if active.divzero else NOTHING
                raised |= Flag.invalid if active.invalid else NOTHING
                same = got[i] == want and np.signbit(got[i]) == np.signbit(want)
                assert same or (np.isnan(want) and np.isnan(got[i])), (row, rounding, got[i], want)
                assert flags[i] == raised, (row, rounding, flags[i], raised)


MPFR_FORMATS = ["binary16", "bfloat16", "tf32", "binary32", "binary64", "e8m21", "e5m2", "e9m30"]


@pytest.mark.parametrize("fmt", MPFR_FORMATS)
@pytest.mark.parametrize("name", MPFR_NAMES)
def test_mpfr(name: str, fmt: str) -> None:
    assert_mpfr_agrees(name, Format.parse(fmt), 60, 1)


@pytest.mark.slow
@pytest.mark.parametrize("fmt", MPFR_FORMATS)
@pytest.mark.parametrize("name", MPFR_NAMES)
def test_mpfr_at_length(name: str, fmt: str) -> None:
    assert_mpfr_agrees(name, Format.parse(fmt), 5000, 2)


# At random --------------------------------------------------------------------------------------


def critical_words(case: Case, fmt: Format, bits: int, rng: np.random.Generator) -> np.ndarray:
    """Random words next to the one from which on a result goes up; a few others."""
    index, outcomes = case.outcomes(downward=False)
    first = []
    for value, _ in outcomes:
        share = Fraction(0)
        if not (is_nan(value) or is_infinite(value) or value == 0):
            below, above = spec.neighbours(abs(Fraction(value)), fmt)
            low, high = spec.value_at(below, fmt), spec.value_at(above, fmt)
            share = (abs(Fraction(value)) - low) / (high - low) if high > low else share
        first.append((1 << bits) - math.floor(share * (1 << bits)))
    nudges = rng.integers(-2, 2, index.size)
    words = [first[i] + int(k) for i, k in zip(index, nudges, strict=True)]
    words[::7] = [random.Random(i).getrandbits(bits) for i in range(len(words[::7]))]
    return np.array([min(max(word, 0), (1 << bits) - 1) for word in words], np.uint64)


@every_operation
@pytest.mark.parametrize("bits", [1, 8, 31, 32, None])
@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "e8m15", "e11m21"])
def test_stochastic_by_given_words(name: str, bits: int | None, fmt: str) -> None:
    parsed = Format.parse(fmt)
    rng = np.random.default_rng(bits or 64)
    for dtype in (np.float32, np.float64):
        case = Case(name, *Operands.of(name, fmt, dtype, 14, 3))
        for variant in "ABC" if bits else "A":
            words = critical_words(case, parsed, bits or 64, rng)
            case.check(fmt, Stochastic(bits, variant), words=words)
            case.check(fmt, Stochastic(bits, variant), "saturate", words=words, tininess="before")


@pytest.mark.parametrize("variant", "ABC")
@pytest.mark.parametrize("width", [21, 22, 23, 24, 25, 50, 51, 52, 53, 54])
@pytest.mark.parametrize("name", ["add", "multiply", "divide", "sqrt", "fma"])
def test_random_words_that_end_where_the_float_does(name: str, width: int, variant: str) -> None:
    """Decisions on as many bits as float32 or float64 has, one more, or fewer.

    The odd bit of a float stands for all that follows: no decision may take it for what it is.
    """
    rng = np.random.default_rng(width)
    dtype = np.float32 if width <= 25 else np.float64
    for bits in (5, 18) if width <= 25 else (18, 32):
        fmt = Format(8, width - bits - 1)
        case = Case(name, *Operands.of(name, fmt, dtype, 16, width))
        words = critical_words(case, fmt, bits, rng)
        case.check(fmt, Stochastic(bits, variant), words=words)


@pytest.mark.parametrize("variant", "ABC")
@pytest.mark.parametrize("quantum", [-149, -148, -147, -146, -145, -144, -143, -142, -141])
def test_random_words_below_float32(quantum: int, variant: str) -> None:
    """The same at the other end: decisions on bits down to float32's last, and past it."""
    fmt = Format(5, 3, bias=1 - 3 - quantum)
    assert fmt.quantum_exponent == quantum
    rng = np.random.default_rng(-quantum)
    for bits in (1, 2, 4, 5):
        for name in ("multiply", "divide"):
            case = Case(name, *Operands.of(name, fmt, np.float32, 16, bits))
            words = critical_words(case, fmt, bits, rng)
            case.check(fmt, Stochastic(bits, variant), words=words)
            case.check(fmt, Stochastic(bits, variant), words=words, tininess="before")


@pytest.fixture
def _threads() -> Iterator[None]:
    before = fpsim.get_num_threads()
    yield
    fpsim.set_num_threads(before)


def plain_operands(
    name: str, shape: Any, dtype: Any = np.float32, seed: int = 0
) -> list[np.ndarray]:
    """Operands of every size, some of them special, that no operation makes trouble with."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(OPERANDS[name]):
        x = np.abs(rng.normal(size=shape)) * 2.0 ** rng.integers(-12, 12, shape)
        x.reshape(-1)[::37] = 0
        x.reshape(-1)[5::97] = INF
        made.append(x.astype(dtype))
    if name != "sqrt":
        made[-1] *= rng.choice(np.array([1, -1], dtype), shape)
    return made


@every_operation
@every_dtype
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("rounding", [Stochastic(), Stochastic(8, "B"), Stochastic(32, "C")])
def test_stochastic_by_a_seed(name: str, dtype: Any, rounding: Stochastic) -> None:
    """The words of the stream, whatever the threads, pieces and layout."""
    operands = plain_operands(name, (400, 700), dtype)
    options = {"rounding": rounding, "overflow": "saturate"}
    words = Stream(77, 3).words(280_000) >> np.uint64(64 - (rounding.bits or 64))
    want_flags = np.empty((400, 700), np.uint8)
    want = operate(
        name, *operands, "e4m3", random_bits=words.reshape(400, 700), flags=want_flags, **options
    )
    for threads in (1, 2):
        fpsim.set_num_threads(threads)
        flags = np.empty((400, 700), np.uint8)
        got = operate(name, *operands, "e4m3", rng=Stream(77, 3), flags=flags, **options)
        assert got.tobytes() == want.tobytes()
        assert flags.tobytes() == want_flags.tobytes()
    strided = [np.asfortranarray(x) for x in operands]
    assert np.array_equal(
        operate(name, *strided, "e4m3", rng=Stream(77, 3), **options), want, equal_nan=True
    )
    # A part of the array, from its place in the stream on.
    rows = [x[123:200] for x in operands]
    part = operate(name, *rows, "e4m3", rng=Stream(77, 3 + 123 * 700), **options)
    assert part.tobytes() == want[123:200].tobytes()


def test_stochastic_takes_seeds_and_generators() -> None:
    x = np.linspace(1, 2, 1000)
    options = {"rounding": "stochastic"}
    one = fpsim.multiply(x, x, "e4m3", rng=5, **options)
    assert np.array_equal(one, fpsim.multiply(x, x, "e4m3", rng=Stream(5), **options))
    assert not np.array_equal(one, fpsim.multiply(x, x, "e4m3", rng=6, **options))
    first = fpsim.multiply(x, x, "e4m3", rng=np.random.default_rng(1), **options)
    assert np.array_equal(
        first, fpsim.multiply(x, x, "e4m3", rng=np.random.default_rng(1), **options)
    )
    # Random bits broadcast like the operands.
    one = fpsim.add(x, 2.0**-5, "e4m3", rounding=Stochastic(3), random_bits=7)
    many = fpsim.add(x, 2.0**-5, "e4m3", rounding=Stochastic(3), random_bits=np.full(1000, 7))
    assert np.array_equal(one, many)


# Shapes, layouts, dtypes ------------------------------------------------------------------------


def assert_same(got: Any, want: np.ndarray) -> None:
    assert np.shape(got) == want.shape
    assert np.asarray(got).dtype == want.dtype
    assert np.array_equal(got, want, equal_nan=True)
    number = ~np.isnan(want)
    assert np.array_equal(np.signbit(got)[number], np.signbit(want)[number])


@every_operation
def test_broadcasting(name: str) -> None:
    shapes = [(4, 1, 6), (5, 1), (6,)][: OPERANDS[name]]
    operands = [plain_operands(name, shape)[0] for shape in shapes]
    whole = [x.copy() for x in np.broadcast_arrays(*operands)]
    want_flags = np.empty(whole[0].shape, np.uint8)
    want = operate(name, *whole, "e4m3", flags=want_flags)
    flags = np.empty_like(want_flags)
    out = np.empty(want.shape, np.float32)
    assert operate(name, *operands, "e4m3", flags=flags, out=out) is out
    assert_same(out, want)
    assert np.array_equal(flags, want_flags)
    assert_same(operate(name, *operands, "e4m3"), want)


@every_operation
def test_scalars(name: str) -> None:
    numbers = (6.0, 1.5, -0.25)[: OPERANDS[name]]
    one = operate(name, *(np.array([x]) for x in numbers), "e4m3")[0]
    for kind in (float, np.float64, np.array):
        got = operate(name, *map(kind, numbers), "e4m3")
        assert type(got) is np.float64
        assert got == one
    for kind in (np.float32, np.float16, ml_dtypes.bfloat16):
        got = operate(name, *map(kind, numbers), "e4m3")
        assert type(got) is np.float32
        assert got == one
    flags, out = np.empty((), np.uint8), np.empty(())
    assert operate(name, *numbers, "e4m3", flags=flags, out=out) is out
    assert out == one


@every_operation
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (0, 5)])
def test_empty(name: str, shape: tuple[int, ...]) -> None:
    x = np.empty(shape, np.float32)
    flags = np.empty(shape, np.uint8)
    got = operate(name, *[x] * OPERANDS[name], "float4_e2m1fn", flags=flags)
    assert got.shape == shape
    assert got.dtype == np.float32
    assert operate(name, *[[]] * OPERANDS[name], "e4m3", rounding="stochastic").shape == (0,)
    if OPERANDS[name] == 2:
        assert operate(name, np.ones((3, 1)), np.empty((1, 0)), "e4m3").shape == (3, 0)


def unaligned(x: np.ndarray) -> np.ndarray:
    storage = np.empty(x.nbytes + 1, np.uint8)
    shifted = storage[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    return shifted


def every_third(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((*x.shape[:-1], 3 * x.shape[-1]), x.dtype)
    wide[..., 1::3] = x
    return wide[..., 1::3]


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0),
    "backwards": lambda x: np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1],
    "every third": every_third,
    "unaligned": unaligned,
    "read-only": read_only,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
}


@every_operation
@every_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(name: str, dtype: Any, layout: str) -> None:
    """Of all operands, of the last alone, and of what is written to."""
    change = LAYOUTS[layout]
    operands = plain_operands(name, (20, 30, 40), dtype)
    words = np.random.default_rng(1).integers(0, 256, (20, 30, 40))
    options = {"rounding": Stochastic(8), "random_bits": words, "overflow": "saturate"}
    want_flags = np.empty(operands[0].shape, np.uint8)
    want = operate(name, *operands, "e4m3", flags=want_flags, **options)
    for changed in ([change(x) for x in operands], [*operands[:-1], change(operands[-1])]):
        flags = np.empty(want.shape, np.uint8)
        assert_same(operate(name, *changed, "e4m3", flags=flags, **options), want)
        assert np.array_equal(flags, want_flags)
    if layout in ("read-only", "big-endian"):
        return
    out = change(np.zeros(want.shape, dtype))
    flags = change(np.full(want.shape, 0xFF, np.uint8))
    options["random_bits"] = change(words)
    assert operate(name, *operands, "e4m3", out=out, flags=flags, **options) is out
    assert_same(out, want)
    assert np.array_equal(flags, want_flags)


@every_operation
@pytest.mark.parametrize(
    "dtype",
    [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
     ml_dtypes.float4_e2m1fn, np.int8, np.int64, np.uint16, np.bool_],
)  # fmt: skip
def test_operands_of_other_dtypes(name: str, dtype: Any) -> None:
    """Short floats go with float32, integers with float64."""
    numbers = np.array([0, 1, 1, 2, 3, 3, 2, 4, 4, 1.0])
    operands = [np.roll(numbers, k).astype(dtype) for k in range(OPERANDS[name])]
    short = np.dtype(dtype).kind not in "iub"
    want = operate(name, *(x.astype(np.float32 if short else np.float64) for x in operands), "e4m3")
    assert_same(operate(name, *operands, "e4m3"), want)
    assert_same(operate(name, operands[0], *(x.astype(float) for x in operands[1:]), "e4m3"),
                want if name == "sqrt" else want.astype(float))  # fmt: skip


@pytest.mark.parametrize(
    ("x", "y", "fmt", "dtype"),
    [
        (np.float32([1]), np.float32([1]), "e4m3", np.float32),
        (np.float32([1]), np.float32([1]), "binary32", np.float32),
        (np.float32([1]), np.float32([1]), "e9m3", np.float64),
        (np.float32([1]), np.float32([1]), "e8m24", np.float64),
        (np.float32([1]), np.float64([1]), "e4m3", np.float64),
        (np.float16([1]), np.float32([1]), "e4m3", np.float32),
        (np.float32([1]), np.int8([1]), "e4m3", np.float64),
        (np.float32([1]), [1], "e4m3", np.float64),
        # Plain numbers beside arrays do not widen, if float32 holds them.
        (np.float32([1]), 1, "e4m3", np.float32),
        (np.float32([1]), -0.5, "e4m3", np.float32),
        (2.0**-149, np.float32([1]), "e4m3", np.float32),
        (np.float32([1]), NAN, "e4m3", np.float32),
        (np.float32([1]), -INF, "e4m3", np.float32),
        (np.float32([1]), True, "e4m3", np.float32),
        (np.float32([1]), 0.1, "e4m3", np.float64),
        (np.float32([1]), 1e300, "e4m3", np.float64),
        (np.float32([1]), 2**24 + 1, "e4m3", np.float64),
        (np.float32([1]), np.float64(0.5), "e4m3", np.float64),
        (np.float32([1]), np.float32(0.5), "e4m3", np.float32),
        (np.float64([1]), 1.0, "e4m3", np.float64),
        (1.0, 1.0, "e4m3", np.float64),
    ],
)
def test_dtype_of_results(x: Any, y: Any, fmt: str, dtype: Any) -> None:
    for name in ("add", "multiply"):
        got = operate(name, x, y, fmt)
        assert got.dtype == dtype
        operate(name, x, y, fmt, out=np.empty(got.shape, dtype))
        other = np.float64 if dtype is np.float32 else np.float32
        with pytest.raises(TypeError, match="out has dtype"):
            operate(name, x, y, fmt, out=np.empty(got.shape, other))


def test_a_plain_number_counts_in_full() -> None:
    """0.1 is not float32: were it taken as one, this would round the other way."""
    x = np.float32([1.0])
    tie = 0.0625 + 2.0**-40
    assert fpsim.add(x, tie, "float8_e4m3fn").tolist() == [1.125]


@every_operation
@every_dtype
@pytest.mark.parametrize("place", [0, 1, 2])
def test_results_in_the_place_of_an_operand(name: str, dtype: Any, place: int) -> None:
    if place >= OPERANDS[name]:
        return
    formats = ["e4m3", "e5m3,zero=false", "e8m22"] + ["ue3m2b300"] * (dtype is np.float64)
    for fmt, rounding in zip(
        formats, ["ties_to_even", "to_odd", "toward_zero", "ties_to_away"], strict=False
    ):
        operands = plain_operands(name, 70_000, dtype)
        want_flags = np.empty(70_000, np.uint8)
        want = operate(name, *operands, fmt, rounding=rounding, flags=want_flags)
        flags = np.empty(70_000, np.uint8)
        x = operands[place]
        assert operate(name, *operands, fmt, rounding=rounding, out=x, flags=flags) is x
        assert_same(x, want)
        assert np.array_equal(flags, want_flags)
    # All operands, and the result, in one place.
    x = plain_operands("sqrt", 1000, dtype)[0]
    want = operate(name, *[x] * OPERANDS[name], "e4m3")
    operate(name, *[x] * OPERANDS[name], "e4m3", out=x)
    assert_same(x, want)


@every_operation
@every_dtype
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("offset", [1, -1, 1000, -150_000])
def test_results_next_to_an_operand(name: str, dtype: Any, offset: int) -> None:
    """Memory that overlaps at other places, in either direction, on two threads."""
    fpsim.set_num_threads(2)
    n = 300_000
    storage = plain_operands("sqrt", n + abs(offset), dtype)[0]
    x, out = storage[max(-offset, 0) :][:n], storage[max(offset, 0) :][:n]
    others = plain_operands(name, n, dtype)[1:]
    want = operate(name, x.copy(), *others, "e4m3")
    operate(name, x, *others, "e4m3", out=out)
    assert_same(out, want)


def test_results_over_what_is_broadcast_or_turned_round() -> None:
    x = plain_operands("sqrt", (64, 64))[0]
    for view in (lambda x: x[:1], lambda x: x[:, 3:4], lambda x: x.T, lambda x: x[::-1]):
        y = x.copy()
        want = fpsim.add(y, view(y).copy(), "e4m3")
        assert fpsim.add(y, view(y), "e4m3", out=y) is y
        assert_same(y, want)
    y = x.copy()
    backwards = y[::-1, ::-1]
    want = fpsim.multiply(y, y, "e4m3")
    fpsim.multiply(y.copy(), y, "e4m3", out=backwards)
    assert_same(backwards, want)


@every_operation
@every_dtype
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "e8m22", "e11m52"])
def test_large_arrays_are_the_sum_of_their_pieces(name: str, dtype: Any, fmt: str) -> None:
    """Chunks of 2**17 on two threads, pieces of 2**16, buffers of 2**14."""
    n = (1 << 18) + 12_345
    operands = plain_operands(name, n, dtype)
    places = np.random.default_rng(3).integers(0, n, 40)
    operands[0][places] = np.resize(np.array([np.finfo(dtype).max, np.finfo(dtype).tiny]), 40)
    parts: list[Any] = []
    for i in range(0, n, 5003):
        flags = np.empty(min(5003, n - i), np.uint8)
        got = operate(name, *(x[i : i + 5003] for x in operands), fmt, flags=flags)
        parts.append((got, flags))
    want, want_flags = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    strided = [every_third(x) for x in operands]
    for threads in (1, 2):
        fpsim.set_num_threads(threads)
        for arrays in (operands, strided):
            flags = np.empty(n, np.uint8)
            assert_same(operate(name, *arrays, fmt, flags=flags), want)
            assert np.array_equal(flags, want_flags)


# Any format -------------------------------------------------------------------------------------


@st.composite
def formats(draw: st.DrawFn) -> Format | None:
    nans = draw(st.sampled_from(["ieee", "all_ones", "negative_zero", "none"]))
    exponent_bits = draw(st.integers(1, 11))
    try:
        fmt = Format(
            exponent_bits,
            draw(st.integers(0, 52) | st.sampled_from([19, 20, 21, 22, 49, 50, 51])),
            bias=draw(st.none() | st.integers(-1000, 1000) | st.integers(100, 150)),
            signed=draw(st.booleans()),
            subnormals=draw(st.booleans()),
            infinities=nans == "ieee" or draw(st.booleans()),
            nans=nans,
            zero=draw(st.booleans()),
        )
        fmt.require_binary64()
    except ValueError:
        return None
    return fmt


@given(st.data(), formats(), st.sampled_from(list(OPERANDS)), st.integers(0, 2**32))
@settings(max_examples=250, deadline=None)
def test_any_format_any_operands(
    data: st.DataObject, fmt: Format | None, name: str, seed: int
) -> None:
    """Operands as drawn, and such as suit the format."""
    if fmt is None:
        return
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    width = 32 if dtype is np.float32 else 64
    drawn = data.draw(
        st.lists(
            st.tuples(*[st.floats(width=width)] * OPERANDS[name]),
            min_size=1, max_size=4,
        )
    )  # fmt: skip
    columns = [np.array(column, dtype) for column in zip(*drawn, strict=True)]
    made = Operands.of(name, fmt, dtype, 2, seed)
    operands = [np.concatenate(pair) for pair in zip(columns, made, strict=True)]
    # Hypothesis draws signalling NaN, too, which are a matter of their own.
    case = Case(name, *(np.where(np.isnan(x), dtype(NAN), x) for x in operands))
    tininess = data.draw(st.sampled_from(["after", "before"]))
    rounding = data.draw(st.sampled_from(MODES))
    overflow = data.draw(st.sampled_from(RULES))
    case.check(fmt, rounding, overflow, tininess=tininess)
    bits = data.draw(st.none() | st.integers(1, 32))
    stochastic = (
        Stochastic() if bits is None else Stochastic(bits, data.draw(st.sampled_from("ABC")))
    )
    words = critical_words(case, fmt, bits or 64, np.random.default_rng(seed))
    case.check(fmt, stochastic, overflow, words=words, tininess=tininess)


# Double rounding --------------------------------------------------------------------------------

# E4M3 has 1.125 and 1.25, whose code is even; 1.1875 is their middle. Every exact result below lies
# under it by less than half a unit of the dtype, which takes it to 1.1875; the tie then goes up.
DOUBLE_ROUNDING: list[tuple[str, Callable[[float], tuple[float, ...]]]] = [
    # By the square of the dtype's unit u, to begin with: 1.1875 · (1 + d) · (1 − d), d² < u/4.
    ("multiply", lambda u: (1.1875 * (1 + _small(u)), 1 - _small(u))),
    ("add", lambda u: (1.1875, -u / 4)),
    ("subtract", lambda u: (1.1875, u / 4)),
    # 1.1875 · (1 + 11·u) = 1.1875 + 13·u + u/16, so that the quotient is 1.1875 less about u/16.
    ("divide", lambda u: (1.1875 + 13 * u, 1 + 11 * u)),
    # 1.1875 less about u / 2.375.
    ("sqrt", lambda u: (1.1875**2 - u,)),
    ("fma", lambda u: (1.1875 * (1 + _small(u)), 1 - _small(u), u * u)),
    ("fma", lambda u: (1.1875, 1.0, -u / 4)),
    ("faa", lambda u: (1.1875, -u / 4, -u / 8)),
    ("faa", lambda u: (-u / 4, 1000.0, -998.8125)),
]


def _small(u: float) -> float:
    """A power of two whose square is less than u / 4."""
    return 2.0 ** (math.frexp(u)[1] // 2 - 2)


@every_dtype
@pytest.mark.parametrize(("name", "operands"), DOUBLE_ROUNDING)
def test_rounded_once(name: str, operands: Any, dtype: Any) -> None:
    numbers = [dtype(x) for x in operands(float(np.finfo(dtype).eps))]
    first = operate(name, *numbers, np.dtype(dtype))
    assert first == 1.1875
    assert fpsim.round(first, "float8_e4m3fn") == 1.25
    assert operate(name, *numbers, "float8_e4m3fn") == 1.125
    Case(name, *numbers).check("float8_e4m3fn")


def test_a_product_is_not_rounded_before_its_sum() -> None:
    """fma keeps what the product has below the format's last place, and float32's."""
    x = np.float32(1 + 2.0**-12)  # its square: 1 + 2^-11 + 2^-24
    z = np.float32(-1 - 2.0**-11)
    assert fpsim.fma(x, x, z, "float8_e4m3fn", rounding="toward_positive") == 2.0**-9
    assert fpsim.fma(x, x, z, "e6m2") == 2.0**-24
    y = 1 + 2.0**-30
    assert fpsim.fma(y, y, -1 - 2.0**-29, "e8m2") == 2.0**-60


# Errors -----------------------------------------------------------------------------------------

ONE = np.ones(3)
WRONG_ARGUMENTS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    # Operands.
    ((np.ones(2), ONE), {}, ValueError, r"x \(2,\), y \(3,\); give shapes that agree, or are 1"),
    ((np.ones((3, 2)), ONE), {}, ValueError, r"shapes that do not broadcast: x \(3, 2\), y \(3,\)"),
    ((ONE + 1j, ONE), {}, TypeError, "x has dtype complex128; give real numbers"),
    ((ONE, ONE + 1j), {}, TypeError, "y has dtype complex128; give real numbers"),
    ((ONE, 1j), {}, TypeError, "y has dtype complex128; give real numbers"),
    ((ONE, "3"), {}, TypeError, "y has dtype <U1; give real numbers"),
    ((ONE, None), {}, TypeError, "y has dtype object; give real numbers"),
    ((ONE, np.array([1, None, 2])), {}, TypeError, "y has dtype object; give real numbers"),
    ((ONE, [1.0, "a", 2.0]), {}, TypeError, "y has dtype <U32; give real numbers"),
    ((np.ones(3, np.longdouble), ONE), {}, TypeError, "x has dtype (float128|longdouble); give"),
    ((ONE, np.ones(3, "M8[s]")), {}, TypeError, "y has dtype datetime64.*; give real numbers"),
    ((ONE, 2**53 + 1), {}, ValueError, r"y has the integer 9007199254740993, past 2\*\*53.*conv"),
    ((-(2**63), ONE), {}, ValueError, r"x has the integer -9223372036854775808, past 2\*\*53"),
    ((ONE, [1, 2**54, 3]), {}, ValueError, r"y has the integer 18014398509481984, past 2\*\*53"),
    ((10**400, ONE), {}, ValueError, r"x has the integer 1000+.*, past 2\*\*53"),
    # Formats, modes, rules.
    ((ONE, ONE), {"fmt": "fp8"}, ValueError, "fp8"),
    ((ONE, ONE), {"fmt": "e4m3b2000"}, ValueError, "which leave binary64"),
    ((ONE, ONE), {"fmt": None}, TypeError, "None"),
    ((ONE, ONE), {"rounding": "up"}, ValueError, "rounding='up' is not one of 'ties_to_even'"),
    ((ONE, ONE), {"rounding": None}, ValueError, "rounding=None is not one of 'ties_to_even'"),
    ((ONE, ONE), {"overflow": "wrap"}, ValueError, "overflow='wrap' is not one of 'infinity'"),
    ((ONE, ONE), {"tininess": "during"}, ValueError, "tininess='during' is not one of 'after'"),
    ((ONE, ONE), {"tininess": True}, ValueError, "tininess=True is not one of 'after'"),
    # Random bits.
    ((ONE, ONE), {"random_bits": 3}, ValueError, "random_bits were given, but.*leave them out"),
    ((ONE, ONE), {"rounding": Stochastic(4), "random_bits": 16}, ValueError,
     r"random_bits=16 is out of range; allowed is 0 to 2\*\*4-1"),
    ((ONE, ONE), {"rounding": Stochastic(4), "random_bits": [1, 2]}, ValueError,
     "random_bits have shape .*does not broadcast"),
    ((ONE, ONE), {"rounding": Stochastic(4), "random_bits": 3, "rng": 1}, ValueError,
     "random_bits and rng were both given; give one"),
    ((ONE, ONE), {"rounding": Stochastic(4), "random_bits": [0.5]}, TypeError,
     "random_bits have dtype float64; give integers"),
    ((ONE, ONE), {"rounding": "stochastic", "rng": "seed"}, TypeError, "rng='seed'.*give a seed"),
    # Outputs.
    ((ONE, ONE), {"out": np.ones(3, np.float32)}, TypeError, "out has dtype float32; .*float64"),
    ((np.float32([1, 2, 3]), np.float32([1])), {"out": np.ones(3)}, TypeError,
     "out has dtype float64; give .*float32"),
    ((ONE, ONE), {"out": np.ones(4)}, ValueError, r"out has shape \(4,\); give.*\(3,\)"),
    ((np.ones((2, 1)), ONE), {"out": np.ones((2, 1))}, ValueError, r"out has shape .*\(2, 3\)"),
    ((ONE, ONE), {"out": [1.0, 2.0, 3.0]}, TypeError, "out is of type list; give a NumPy array"),
    ((ONE, ONE), {"out": read_only(ONE)}, ValueError, "out is read-only; give an array"),
    ((ONE, ONE), {"flags": np.zeros(3, np.int8)}, TypeError, "flags has dtype int8; give.*uint8"),
    ((ONE, ONE), {"flags": np.zeros(3, bool)}, TypeError, "flags has dtype bool; give.*uint8"),
    ((ONE, ONE), {"flags": np.zeros((1, 3), np.uint8)}, ValueError, r"flags has shape \(1, 3\)"),
    ((ONE, ONE), {"flags": True}, TypeError, "flags is of type bool; give a NumPy array"),
    ((ONE, ONE), {"flags": read_only(np.zeros(3, np.uint8))}, ValueError, "flags is read-only; "),
]  # fmt: skip


@pytest.mark.parametrize(("operands", "options", "error", "message"), WRONG_ARGUMENTS)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
def test_wrong_arguments(
    name: str, operands: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    rest = {"fmt": "e4m3", **options}
    with pytest.raises(error, match=message):
        operate(name, *operands, **rest)


@pytest.mark.parametrize("name", ["fma", "faa"])
def test_wrong_third_operand(name: str) -> None:
    with pytest.raises(TypeError, match="z has dtype complex128; give real numbers"):
        operate(name, ONE, ONE, 1j, "e4m3")
    with pytest.raises(ValueError, match=r"x \(3,\), y \(1, 3\), z \(2,\); give shapes that agree"):
        operate(name, ONE, ONE[None], np.ones(2), "e4m3")


def test_wrong_operand_of_a_root() -> None:
    with pytest.raises(TypeError, match="x has dtype object; give real numbers"):
        fpsim.sqrt(None, "e4m3")
    with pytest.raises(ValueError, match=r"x has the integer 9007199254740993, past 2\*\*53"):
        fpsim.sqrt(2**53 + 1, "e4m3")


@every_operation
def test_flags_need_memory_of_their_own(name: str) -> None:
    storage = np.zeros(24, np.uint8)
    x = storage.view(np.float64)
    operands = [np.ones(3) for _ in range(OPERANDS[name])]
    operands[-1] = x
    with pytest.raises(
        ValueError, match=r"flags share memory with [xyz]; give an array of their own"
    ):
        operate(name, *operands, "e4m3", flags=storage[:3])
    with pytest.raises(ValueError, match="flags share memory with out; give an array of their own"):
        operate(name, *[np.ones(3)] * OPERANDS[name], "e4m3", out=x, flags=storage[:3])


@every_operation
def test_options_are_given_by_name(name: str) -> None:
    with pytest.raises(TypeError):
        operate(name, *[1.0] * OPERANDS[name], "e4m3", "toward_zero")


def test_flags_are_counted() -> None:
    flags = np.zeros(5, np.uint8)
    x, y = [1.0, 1.0, 0.0, 2.0**-16, 448.0], [3.0, 0.0, 0.0, 3.0, 2.0**-9]
    fpsim.divide(x, y, "float8_e5m2", flags=flags)
    assert fpsim.count_flags(flags) == {
        "inexact": 3,
        "underflow": 1,
        "overflow": 1,
        "divide_by_zero": 1,
        "invalid": 1,
    }
