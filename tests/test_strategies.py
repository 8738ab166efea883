"""fpsim.strategies: each keeps its promises, draws what it says, and shrinks as it says."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from random import Random
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis.strategies import SearchStrategy

import fpsim
from fpsim import Format, NaNs, spec
from fpsim.strategies import (
    around,
    codes,
    formats,
    near_ties,
    values,
)

T = TypeVar("T")
HALF = Fraction(1, 2)
INF = math.inf
BINARY64 = Format.parse("binary64")

# One of each kind, also of those that lack something, or have little.
KINDS = {
    str(fmt): fmt
    for fmt in (
        *map(Format.parse, ("binary16", "bfloat16", "float8_e5m2", "float8_e4m3fn", "binary64")),
        *map(Format.parse, ("float8_e4m3fnuz", "float4_e2m1fn", "float8_e8m0fnu", "hfp8_e4m3")),
        *map(Format.parse, ("binary8p3se", "binary8p1uf", "binary8p8ue", "binary4p2sf")),
        Format(4, 3, subnormals=False),
        Format(3, 0, nans="none"),
        Format(1, 3),
        Format(2, 2, zero=False),
        Format(2, 1, signed=False, zero=False, infinities=False, nans="none"),
        Format(1, 0, signed=False, infinities=False, nans="none"),
        Format(3, 2, bias=900, nans="all_ones"),
        Format(11, 51, bias=1024, nans="none", infinities=False),
    )
}
every_kind = pytest.mark.parametrize("fmt", KINDS.values(), ids=KINDS)
SMALL = {name: fmt for name, fmt in KINDS.items() if fmt.bits <= 6}
every_small = pytest.mark.parametrize("fmt", SMALL.values(), ids=SMALL)


def drawn(strategy: SearchStrategy[T], count: int = 200) -> list[T]:
    """Examples, the same in every run."""
    seen: list[T] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: T) -> None:
        seen.append(example)

    collect()
    return seen


def simplest(
    strategy: SearchStrategy[T], condition: Callable[[T], Any] = lambda _: True, starts: int = 4
) -> T:
    """What examples shrink to, wherever they start."""
    quiet = settings(max_examples=5000, database=None, deadline=None)
    found = [
        find(strategy, condition, settings=quiet, random=Random(seed)) for seed in range(starts)
    ]
    assert len({repr(example) for example in found}) == 1, found
    return found[0]


def is_nan(x: Any) -> bool:
    return bool(x != x)


# Formats ----------------------------------------------------------------------------------------

CONSTRAINTS: list[tuple[dict[str, Any], Callable[[Format], bool]]] = [
    ({"bits": 8}, lambda f: f.bits == 8),
    ({"bits": range(4, 7)}, lambda f: 4 <= f.bits <= 6),
    ({"bits": [3, 64]}, lambda f: f.bits in (3, 64)),
    ({"exponent_bits": 5, "mantissa_bits": (2, 10)}, lambda f: f.exponent_bits == 5),
    ({"mantissa_bits": 0}, lambda f: f.precision == 1),
    ({"bias": [-3, 70]}, lambda f: f.bias in (-3, 70)),
    ({"signed": False}, lambda f: not f.signed),
    ({"subnormals": False, "zero": True}, lambda f: f.zero and not f.subnormals),
    ({"subnormals": True}, lambda f: f.subnormals),
    ({"infinities": False}, lambda f: f.infinity_code is None),
    ({"nans": "none"}, lambda f: f.nan_code is None),
    ({"nans": [NaNs.ieee, "all_ones"]}, lambda f: f.nans in ("ieee", "all_ones")),
    ({"zero": False}, lambda f: not f.zero),
    ({"within": "binary32"}, lambda f: Format.parse("binary32").contains(f)),
    ({"within": "binary16"}, lambda f: Format.parse("binary16").contains(f)),
    ({"within": "float8_e5m2"}, lambda f: Format.parse("float8_e5m2").contains(f)),
    ({"within": Format(5, 10, subnormals=False)}, lambda f: f.emin >= -14),
    ({"within": "binary12p1se"}, lambda f: f.precision == 1),
]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("constraints", "holds"), CONSTRAINTS, ids=[str(c) for c, _ in CONSTRAINTS]
)
def test_formats_are_as_asked_for(
    constraints: dict[str, Any], holds: Callable[[Format], bool], named: bool
) -> None:
    if constraints.get("bias") and named:
        constraints = {"bias": [11]}
        holds = lambda f: f.bias == 11  # noqa: E731
    found = drawn(formats(named=named, **constraints))
    assert all(holds(fmt) for fmt in found)
    assert len(set(found)) > (5 if named else 20)
    if named:
        assert {fmt.name for fmt in found} <= set(fpsim.formats())
    if "within" not in constraints:
        for fmt in found:
            fmt.require_binary64()


def test_formats_of_every_kind() -> None:
    found = drawn(formats(), 400)
    kinds = Counter((fmt.nans, fmt.infinities) for fmt in found)
    assert len(kinds) == 7
    for name in ("signed", "zero", "subnormals"):
        assert min(Counter(getattr(fmt, name) for fmt in found).values()) > 60
    assert sum(fmt.bits <= 8 for fmt in found) > 120
    assert sum(fmt.bits > 32 for fmt in found) > 40
    offsets = [fmt.bias - ((1 << (fmt.exponent_bits - 1)) - 1) for fmt in found]
    assert sum(offset == 0 for offset in offsets) > 80
    assert sum(0 < abs(offset) < 5 for offset in offsets) > 20
    # To the edges of binary64, and not past them.
    for fmt in found:
        fmt.require_binary64()
    assert sum(fmt.emax == 1023 for fmt in found) > 5
    assert sum(fmt.quantum_exponent == -1074 for fmt in found) > 5


def test_formats_past_binary64() -> None:
    found = drawn(formats(within=None))
    assert max(fmt.exponent_bits for fmt in found) == 16
    assert max(fmt.bits for fmt in found) == 64
    assert sum(fmt.emax > 1023 or fmt.quantum_exponent < -1074 for fmt in found) > 50


def test_every_small_format_is_drawn() -> None:
    """All that `Format` takes with 3 magnitude bits and few biases, and no others."""
    flags = itertools.product((True, False), repeat=4)
    expected = set()
    for (signed, subnormals, infinities, zero), nans in itertools.product(flags, NaNs):
        for mantissa_bits, bias in itertools.product(range(3), (0, 1)):
            try:
                fmt = Format(
                    3 - mantissa_bits, mantissa_bits, bias, signed=signed, zero=zero,
                    subnormals=subnormals, infinities=infinities, nans=nans,
                )  # fmt: skip
            except ValueError:
                continue
            expected.add(fmt)
    assert len(expected) > 100
    strategy = formats(bits=(3, 4), exponent_bits=range(1, 4), bias=range(2))
    found = {fmt for fmt in drawn(strategy, 8000) if fmt.magnitude_bits == 3}
    assert found == expected


def test_named_formats_are_all_drawn() -> None:
    assert {fmt.name for fmt in drawn(formats(named=True, bits=4), 300)} == {
        name for name, fmt in fpsim.formats().items() if fmt.bits == 4
    }
    found = drawn(formats(named=True, within=None), 300)
    assert (
        sum("p" in (fmt.name or "").removeprefix("ocp_").removeprefix("hfp8_") for fmt in found)
        > 50
    )
    assert len({fmt.name for fmt in found} & {"binary16", "bfloat16", "ocp_e4m3", "hfp8_e5m2"}) > 1


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (lambda f: True, "Format(2, 0)"),
        (lambda f: not f.signed, "Format(2, 0, signed=False)"),
        (lambda f: f.precision >= 5, "Format(1, 4)"),
        (lambda f: f.nan_code is not None, "Format(1, 1)"),
        (lambda f: f.nans == "none", "Format(2, 0, nans='none')"),
        (lambda f: not f.infinities, "Format(2, 0, infinities=False, nans='all_ones')"),
        (lambda f: not f.zero, "Format(1, 0, zero=False)"),
        (lambda f: f.bits > 24, "Format(11, 13)"),
        (lambda f: f.bias == 9, "Format(2, 0, bias=9)"),
        (
            lambda f: f.mantissa_bits and not f.subnormals and f.zero,
            "Format(2, 1, subnormals=False)",
        ),
    ],
)
def test_formats_shrink_to_few_words_and_few_bits(
    condition: Callable[[Format], Any], expected: str
) -> None:
    found = simplest(formats(), condition)
    assert repr(found) == expected
    assert eval(expected, {"Format": Format}) == found


def test_formats_shrink_within_constraints() -> None:
    assert simplest(formats(bits=8)) == Format(7, 0)
    assert simplest(formats(bits=[9, 6], mantissa_bits=range(2, 20))) == Format(3, 2)
    assert simplest(formats(exponent_bits=4, mantissa_bits=3, bias=[11, 8])) == Format(4, 3, 8)
    assert simplest(formats(exponent_bits=11, mantissa_bits=52)) == BINARY64
    assert simplest(formats(named=True), lambda f: f.bits > 8).name == "bfloat16"


def test_impossible_formats_are_refused_at_once() -> None:
    for constraints, words in (
        ({"bits": 2, "nans": "negative_zero", "infinities": True}, "bits=2"),
        ({"exponent_bits": 12}, "exponent_bits=12, within='binary64'"),
        ({"bits": 8, "bias": 2000}, "bias=2000"),
        ({"bits": 20, "named": True}, "named=True"),
        ({"zero": False, "subnormals": True}, "subnormals=True, zero=False"),
        ({"nans": "ieee", "infinities": False}, "infinities=False, nans='ieee'"),
        ({"within": "float8_e8m0fnu", "signed": True}, "signed=True"),
    ):
        with pytest.raises(ValueError, match="no format is all of") as caught:
            formats(**constraints)
        assert words in str(caught.value)


# Codes and values -------------------------------------------------------------------------------


@every_small
def test_every_code_is_drawn(fmt: Format) -> None:
    found = drawn(codes(fmt), 3000)
    assert set(found) == set(range(1 << fmt.bits))
    assert all(type(code) is int for code in found)


@every_kind
def test_codes_of_every_class(fmt: Format) -> None:
    found = [spec.decode(code, fmt) for code in drawn(codes(fmt), 300)]
    classes = Counter(kind for x in found for kind in classes_of(x, fmt))
    assert not expected_classes(fmt) - classes.keys()


def classes_of(x: Any, fmt: Format) -> list[str]:
    """What is special about a value."""
    if is_nan(x):
        return ["nan"]
    if abs(x) == INF:
        return [f"{x}"]
    sign = "-" if x < 0 or (x == 0 and math.copysign(1, x) < 0) else "+"
    if x == 0:
        return [f"{sign}0"]
    magnitude = Fraction(abs(x))
    found = []
    if magnitude < Fraction(2) ** fmt.emin:
        found.append("subnormal")
    if magnitude == fmt.max:
        found.append(f"{sign}max")
    if magnitude == fmt.smallest:
        found.append(f"{sign}smallest")
    if magnitude == fmt.min_normal:
        found.append("min normal")
    if Fraction(2) ** spec.floor_log2(magnitude) == magnitude:
        found.append("power of two")
    return found


def expected_classes(fmt: Format) -> set[str]:
    found = {kind for code in ends(fmt) for kind in classes_of(spec.decode(code, fmt), fmt)}
    return found | {"power of two"}


def ends(fmt: Format) -> list[int]:
    """The first and last codes of everything, by the layout alone."""
    top = (1 << fmt.magnitude_bits) - 1
    normal = 1 << fmt.mantissa_bits
    exponent = top - normal + 1
    magnitudes = {
        0,
        1,
        normal - 1,
        normal,
        exponent - 1,
        exponent,
        exponent + 1,
        top - 2,
        top - 1,
        top,
    }
    magnitudes = {code for code in magnitudes if 0 <= code <= top}
    signs = (0, top + 1) if fmt.signed else (0,)
    return [code + sign for code in magnitudes for sign in signs]


@every_kind
def test_values_of_every_class(fmt: Format) -> None:
    found = drawn(values(fmt), 400)
    classes = Counter(kind for x in found for kind in classes_of(x, fmt))
    assert not expected_classes(fmt) - classes.keys()
    in_binary64 = fmt.emax <= 1023 and fmt.quantum_exponent >= -1074
    assert {type(x) for x in found} <= ({float} if in_binary64 else {float, Fraction})
    for x in found:
        if is_nan(x):
            continue
        code, flags = spec.project(x, fmt, overflow="saturate")
        assert not flags
        assert spec.decode(code, fmt) == x
        assert math.copysign(1, spec.decode(code, fmt)) == math.copysign(1, x)


@every_small
def test_every_value_is_drawn(fmt: Format) -> None:
    expected = {repr(float(spec.decode(code, fmt))) for code in range(1 << fmt.bits)}
    assert {repr(x) for x in drawn(values(fmt), 2000)} == expected


def test_values_within_bounds() -> None:
    fmt = Format.parse("float8_e4m3")
    every = [float(spec.decode(code, fmt)) for code in range(256)]
    bounds: list[tuple[Any, Any]] = [
        (3, 100), (-7.3, 0.3), (None, -1), (100, None), (0.0, 1), (-1, -0.0), (-0.0, 0.0), (0, 0),
        (Fraction(1, 3), 0.4), (-INF, INF), (240, 1e9), (-240, -239), (2.0**-9, 2.0**-8),
        (-(2.0**-9), 2.0**-9), (INF, None), (None, -INF),
    ]  # fmt: skip
    for low, high in bounds:
        least, most = (-INF if low is None else low), (INF if high is None else high)
        expected = {
            repr(x)
            for x in every
            if least <= x <= most
            and not (least == 0 and repr(x) == "-0.0" and math.copysign(1, least) > 0)
            and not (most == 0 and repr(x) == "0.0" and math.copysign(1, most) < 0)
        }
        expected |= {"nan"} if (least, most) == (-INF, INF) else set()
        found = {repr(x) for x in drawn(values(fmt, min_value=low, max_value=high), 1500)}
        assert found == expected, (low, high)


def test_values_without_some() -> None:
    fmt = Format(4, 3)
    assert not any(map(is_nan, drawn(values(fmt, allow_nan=False))))
    assert all(math.isfinite(x) or is_nan(x) for x in drawn(values(fmt, allow_infinity=False)))
    normal = drawn(values(fmt, allow_subnormal=False), 500)
    assert all(x == 0 or abs(x) >= 2.0**-6 for x in normal if not is_nan(x))
    assert 2.0**-6 in normal
    assert any(map(is_nan, drawn(values(fmt, min_value=1, allow_nan=True))))
    finite = drawn(codes(fmt, allow_nan=False, allow_infinity=False), 500)
    assert all(code & 0x7F < 0x78 for code in finite)
    for fmt in (Format.parse("float8_e4m3fnuz"), Format.parse("binary6p2se")):
        found = {spec.decode(code, fmt) for code in drawn(codes(fmt, allow_nan=False), 500)}
        assert not any(map(is_nan, found))
    # Without zero and subnormals, the smallest value is a normal one.
    assert 1.0 not in drawn(values(Format(2, 1, zero=False), allow_subnormal=False, max_value=0.9))


def test_values_shrink_to_small_integers() -> None:
    e4m3 = values("float8_e4m3")
    assert repr(simplest(e4m3)) == "0.0"
    assert simplest(e4m3, lambda x: x > 0) == 1.0
    assert simplest(e4m3, lambda x: x > 5 and math.isfinite(x)) == 6.0
    assert simplest(e4m3, lambda x: x < 0) == -1.0
    assert simplest(e4m3, lambda x: 0 < x < 1) == 2.0**-9
    assert simplest(e4m3, lambda x: x == INF) == INF
    assert is_nan(simplest(e4m3, is_nan))
    assert repr(simplest(e4m3, lambda x: x == 0 and math.copysign(1, x) < 0)) == "-0.0"
    assert simplest(values("float8_e8m0fnu")) == 1.0  # there is no zero
    assert simplest(values("float8_e4m3", min_value=-3, max_value=-0.7)) == -1.0
    assert simplest(values("binary14p1se")) == Fraction(0)


def test_codes_shrink_to_small_codes() -> None:
    assert simplest(codes("float8_e4m3fn")) == 0
    assert simplest(codes("float8_e4m3fn"), lambda code: code > 10) == 11
    assert simplest(codes("float8_e4m3fn"), lambda code: code & 0x80 and code & 7) == 0x81
    assert (
        simplest(codes("binary32"), lambda code: is_nan(spec.decode(code, "binary32")))
        == 0x7FC00000
    )


# Decision points --------------------------------------------------------------------------------


def ties(fmt: Format) -> list[Fraction]:
    """The middles of neighbouring magnitudes, and where nearest rounding overflows.

    Found by sorting the values; what would follow the largest is a step of its binade above.
    """
    found = {
        abs(x) for x in map(fraction, range(1 << fmt.bits), itertools.repeat(fmt)) if x is not None
    }
    ordered = sorted(found)
    top = ordered[-1]
    step = Fraction(2) ** (max(spec.floor_log2(top), fmt.emin) - fmt.mantissa_bits)
    if top < Fraction(2) ** fmt.emin and not fmt.subnormals:
        step = Fraction(2) ** fmt.emin
    ordered.append(top + step)
    return [(a + b) / 2 for a, b in itertools.pairwise(ordered)]


def fraction(code: int, fmt: Format) -> Fraction | None:
    x = spec.decode(code, fmt)
    return None if is_nan(x) or abs(x) == INF else Fraction(x)


def beside(x: Fraction, dtype: Any = np.float64) -> set[float]:
    """The float that a number is, and its neighbours."""
    here = dtype(float(x))
    assert Fraction(float(here)) == x
    return {
        float(y) for y in (here, np.nextafter(here, dtype(INF)), np.nextafter(here, dtype(-INF)))
    }


@every_small
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_near_ties_are_ties_and_their_neighbours(fmt: Format, dtype: Any) -> None:
    expected = set().union(*(beside(tie, dtype) for tie in ties(fmt)))
    source = np.dtype(dtype)
    found = drawn(near_ties(fmt, source=source), 3000)
    positive = {x for x in found if x > 0}
    negative = {-x for x in found if x < 0}
    assert positive == expected
    # Below zero, an unsigned format has no more than the first tie or two.
    assert negative == expected if fmt.signed else negative <= set(sorted(expected)[:6])
    assert negative
    assert all(type(x) is float for x in found)


@every_small
def test_around_is_at_values_too(fmt: Format) -> None:
    smallest_normal = Fraction(2) ** fmt.emin
    points = set(ties(fmt)) | {Fraction(0)}
    points |= {
        abs(x) for x in (fraction(code, fmt) for code in range(1 << fmt.bits)) if x is not None
    }
    if smallest_normal <= fmt.max or not fmt.zero:
        points |= {smallest_normal * (1 - Fraction(1, k << fmt.precision)) for k in (1, 2)}
    expected = set().union(*map(beside, points))
    found = drawn(around(fmt), 6000)
    assert {x for x in found if x > 0} == {x for x in expected if x > 0}
    assert {x for x in found if x < 0 and fmt.signed} == {
        -x for x in expected if x > 0 and fmt.signed
    }
    assert {repr(x) for x in found if x == 0} == {"0.0", "-0.0"}


@every_kind
def test_beside_by_no_more_than_an_ulp(fmt: Format) -> None:
    """Between the values that enclose it, half way, a number is within an ulp of float64."""
    for strategy in (near_ties(fmt), around(fmt)):
        found = drawn(strategy, 300)
        sides = Counter(side_of_tie(x, fmt) for x in found)
        assert {"below", "above"} <= sides.keys()
        exact = fmt.mantissa_bits < 52 and fmt.quantum_exponent > -1074
        assert ("tie" in sides) == exact
        if strategy is near_ties(fmt):
            assert "else" not in sides


def side_of_tie(x: float, fmt: Format) -> str:
    magnitude = abs(Fraction(x))
    for place in spec.neighbours(magnitude, fmt) if magnitude else (0,):
        low, high = spec.value_at(place, fmt), spec.value_at(place + 1, fmt)
        tie = (low + high) / 2
        if magnitude == tie:
            return "tie"
        if abs(magnitude - tie) <= Fraction(math.ulp(x)):
            return "below" if magnitude < tie else "above"
    return "else"
