"""The catalogue: every name means what its standard says, and names and formats round-trip.

Judged by the OCP tables, by P3109's rules and published values, and by ml_dtypes.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fpsim import catalog, spec
from fpsim.format import Format, NaNs

FINITE: dict[str, Any] = {"infinities": False, "nans": "none"}
FN: dict[str, Any] = {"infinities": False, "nans": "all_ones"}
FNUZ: dict[str, Any] = {"infinities": False, "nans": "negative_zero"}

NAMES = list(catalog.formats())
ML_DTYPES_NAMES = [
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float4_e2m1fn",
]

many = settings(deadline=None, derandomize=True, max_examples=600)


# Names ----------------------------------------------------------------------------------


def test_every_name_parses_to_its_format() -> None:
    for name, fmt in catalog.formats().items():
        assert fmt.name == name
        assert str(fmt) == name
        assert Format.parse(name) is catalog.parse(name)
        assert Format.parse(name) == fmt
        assert Format.parse(name).name == name
        assert Format.parse(name.upper()) == fmt
        assert Format.parse(fmt) is fmt


def test_families_partition_the_names() -> None:
    families = catalog.families()
    assert sorted(name for members in families.values() for name in members) == sorted(NAMES)
    assert {"IEEE 754", "Machine learning", "ml_dtypes", "OCP", "P3109"} <= set(families)
    assert set(families["ml_dtypes"]) == set(ML_DTYPES_NAMES)


def test_the_catalogue_cannot_be_changed_through_what_it_returns() -> None:
    catalog.formats().clear()
    catalog.families()["OCP"].clear()
    assert list(catalog.formats()) == NAMES
    assert catalog.families()["OCP"]


def test_every_float_of_ml_dtypes_has_a_name() -> None:
    theirs = [n for n in dir(ml_dtypes) if n.startswith(("float", "bfloat"))]
    assert sorted(theirs) == sorted([*ML_DTYPES_NAMES, "bfloat16"])
    for name in theirs:
        fmt = catalog.parse(name)
        with np.errstate(invalid="ignore"):  # signalling NaNs
            expected = fmt.codes().view(getattr(ml_dtypes, name)).astype(np.float64)
        np.testing.assert_array_equal(fmt.values(), expected, err_msg=name)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("half", "binary16"),
        ("float16", "binary16"),
        ("fp16", "binary16"),
        ("single", "binary32"),
        ("float32", "binary32"),
        ("fp32", "binary32"),
        ("double", "binary64"),
        ("float64", "binary64"),
        ("fp64", "binary64"),
        ("bf16", "bfloat16"),
        ("BF16", "bfloat16"),
        (" Float8_E4M3FN ", "float8_e4m3fn"),
        ("Binary8P3SE", "binary8p3se"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert catalog.parse(alias) == catalog.parse(name)
    assert str(catalog.parse(alias)) == name


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float16, "binary16"),
        (np.float32, "binary32"),
        (np.float64, "binary64"),
        (float, "binary64"),
        (np.dtype("float16"), "binary16"),
        (np.dtype(">f4"), "binary32"),
        (np.dtype("<f8"), "binary64"),
        (np.dtype("=f2"), "binary16"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.dtype(ml_dtypes.bfloat16), "bfloat16"),
        *[(getattr(ml_dtypes, name), name) for name in ML_DTYPES_NAMES],
        *[(np.dtype(getattr(ml_dtypes, name)), name) for name in ML_DTYPES_NAMES],
    ],
    ids=str,
)
def test_dtypes(dtype: Any, name: str) -> None:
    assert str(catalog.parse(dtype)) == name


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("binary16", Format(5, 10)),
        ("binary32", Format(8, 23)),
        ("binary64", Format(11, 52)),
        ("bfloat16", Format(8, 7)),
        ("tf32", Format(8, 10)),
        ("hfp8_e4m3", Format(4, 3, 11, **FINITE)),
        ("hfp8_e5m2", Format(5, 2)),
        # shorthand: IEEE-like without a suffix
        ("e4m3", Format(4, 3)),
        ("E4M3", Format(4, 3)),
        ("1-4-3", Format(4, 3)),
        ("0-4-3", Format(4, 3, signed=False)),
        ("ue4m3", Format(4, 3, signed=False)),
        ("e4m3b9", Format(4, 3, 9)),
        ("e4m3b-3", Format(4, 3, -3)),
        # 'fn': finite, NaN in the all-ones code from 8 bits on, none below
        ("e4m3fn", Format(4, 3, **FN)),
        ("e5m10fn", Format(5, 10, **FN)),
        ("e3m3fn", Format(3, 3, **FINITE)),
        ("e2m1fn", Format(2, 1, **FINITE)),
        ("ue4m4fn", Format(4, 4, signed=False, **FN)),
        ("ue4m3fn", Format(4, 3, signed=False, **FN)),
        ("e4m3b9fn", Format(4, 3, 9, **FN)),
        # 'fnuz': NaN in the place of −0, bias one above IEEE's unless given
        ("e4m3fnuz", Format(4, 3, 8, **FNUZ)),
        ("e5m2fnuz", Format(5, 2, 16, **FNUZ)),
        ("e1m3fnuz", Format(1, 3, 1, **FNUZ)),
        ("e4m3b11fnuz", Format(4, 3, 11, **FNUZ)),
        # 'f': finite, every code a number
        ("e4m3f", Format(4, 3, **FINITE)),
        ("e4m3b9f", Format(4, 3, 9, **FINITE)),
        ("ue3m1f", Format(3, 1, signed=False, **FINITE)),
        # parameters after commas
        ("e4m3,bias=9", Format(4, 3, 9)),
        (" e4m3 , bias = 9 ", Format(4, 3, 9)),
        ("e4m3,bias=+9", Format(4, 3, 9)),
        ("e4m3,bias=-9", Format(4, 3, -9)),
        ("e4m3fn,bias=9,subnormals=false", Format(4, 3, 9, subnormals=False, **FN)),
        ("e4m3,subnormals=FALSE", Format(4, 3, subnormals=False)),
        ("e4m3,nans=all_ones", Format(4, 3, nans="all_ones")),
        ("e4m3fn,infinities=true", Format(4, 3, nans="all_ones")),
        ("e4m3,nans=none,infinities=false", Format(4, 3, **FINITE)),
        ("e4m3,infinities=false,nans=none", Format(4, 3, **FINITE)),
        ("bfloat16,mantissa_bits=8", Format(8, 8)),
        ("e4m3,exponent_bits=5", Format(5, 3, 7)),  # a bias stays when the field grows
        ("float8_e8m0fnu,bias=100", Format(8, 0, 100, signed=False, zero=False, **FN)),
        ("float8_e4m3fn,signed=false", Format(4, 3, signed=False, **FN)),
        ("binary8p4se,subnormals=false", Format(4, 3, 8, nans="negative_zero", subnormals=False)),
        ("e4m3,bias=8,bias=9", Format(4, 3, 9)),
    ],
)
def test_what_a_name_means(name: str, fmt: Format) -> None:
    assert catalog.parse(name) == fmt


@pytest.mark.parametrize(
    ("given_", "error", "words"),
    [
        ("", ValueError, ["fmt=''", "names no format", "fpsim.formats()", "'e4m3'"]),
        ("float9", ValueError, ["fmt='float9'", "names no format", "'binary8p3se'"]),
        ("4-3", ValueError, ["fmt='4-3'", "'1-4-3'"]),
        ("2-4-3", ValueError, ["fmt='2-4-3'", "'1-4-3'"]),
        ("e4m3fnz", ValueError, ["fmt='e4m3fnz'", "'e4m3fn'"]),
        ("e4m3 fn", ValueError, ["fmt='e4m3 fn'"]),
        ("e0m3", ValueError, ["exponent_bits=0", "1 to 16"]),
        ("e17m3", ValueError, ["exponent_bits=17", "1 to 16"]),
        ("e4m60", ValueError, ["mantissa_bits=60", "0 to 52"]),
        ("e4m3b99999", ValueError, ["bias=99999", "-65536 to 65536"]),
        ("ue4m3fnuz", ValueError, ["nans='negative_zero'", "signed=True"]),
        ("e1m0", ValueError, ["no code for a nonzero finite value", "more bits"]),
        ("binary2p1se", ValueError, ["binary2p1se", "K from 3 to 16"]),
        ("binary17p3se", ValueError, ["binary17p3se", "K from 3 to 16"]),
        ("binary8p8se", ValueError, ["binary8p8se", "P from 1 to K-1"]),
        ("binary8p9ue", ValueError, ["binary8p9ue", "K when unsigned"]),
        ("binary8p0se", ValueError, ["binary8p0se", "P from 1"]),
        ("binary8p3xe", ValueError, ["fmt='binary8p3xe'"]),
        ("e4m3,", ValueError, ["fmt='e4m3,'", "bias=…", "zero=…"]),
        ("e4m3,bias", ValueError, ["'bias'", "bias=…"]),
        ("e4m3,name=mine", ValueError, ["'name=mine'", "exponent_bits=…", "nans=…"]),
        ("e4m3,bias=nine", ValueError, ["bias=nine", "not an integer"]),
        ("e4m3,bias=", ValueError, ["bias=", "not an integer"]),
        ("e4m3,bias=1.5", ValueError, ["bias=1.5", "not an integer"]),
        ("e4m3,subnormals=1", ValueError, ["subnormals=1", "true or false"]),
        ("e4m3,nans=quiet", ValueError, ["nans='quiet'", "'all_ones'"]),
        ("e4m3,infinities=false", ValueError, ["infinities=False", "nans='ieee'"]),
        (np.int8, ValueError, ["int8", "not a floating-point format", "fpsim.formats()"]),
        (np.complex64, ValueError, ["complex64", "not a floating-point format"]),
        (bool, ValueError, ["bool", "not a floating-point format"]),
        (ml_dtypes.int4, ValueError, ["int4", "not a floating-point format"]),
        (8, TypeError, ["fmt=8", "not a format", "fpsim.formats()"]),
        (1.5, TypeError, ["fmt=1.5", "not a format"]),
        ([4, 3], TypeError, ["fmt=[4, 3]", "not a format"]),
        (None, TypeError, ["fmt=None", "not a format"]),  # NumPy would take it for float64
    ],
    ids=lambda value: repr(value) if not isinstance(value, (list, type)) else None,
)
def test_what_names_no_format(given_: Any, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        catalog.parse(given_)
    for word in words:
        assert word in str(caught.value)


# Spelling -------------------------------------------------------------------------------


@st.composite
def drawn_formats(draw: st.DrawFn) -> Format:
    """Any valid nameless format."""
    exponent_bits = draw(st.integers(1, 16))
    mantissa_bits = draw(st.integers(0, 52))
    usual = (1 << (exponent_bits - 1)) - 1
    bias = draw(st.one_of(st.sampled_from([usual, usual + 1]), st.integers(-65536, 65536)))
    try:
        return Format(
            exponent_bits,
            mantissa_bits,
            bias,
            signed=draw(st.booleans()),
            subnormals=draw(st.booleans()),
            infinities=draw(st.booleans()),
            nans=draw(st.sampled_from(NaNs)),
            zero=draw(st.booleans()),
        )
    except ValueError:
        assume(False)
        raise


@many
@given(drawn_formats())
@example(Format(1, 0, zero=False, **FN))  # whose shorthand alone, e1m0, is no valid format
@example(Format(1, 0, 5, zero=False, infinities=True, nans="none"))
@example(Format(1, 1, subnormals=False, nans="none"))
def test_spelling_and_parsing_round_trip(fmt: Format) -> None:
    text = str(fmt)
    again = catalog.parse(text)
    assert again == fmt
    assert str(again).split(",")[0] == text.split(",")[0]


@many
@given(drawn_formats(), drawn_formats())
def test_two_formats_are_never_spelled_alike(one: Format, other: Format) -> None:
    assert (str(one) == str(other)) == (one == other)


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (Format(4, 3), "e4m3"),
        (Format(4, 3, 9), "e4m3b9"),
        (Format(4, 3, -9), "e4m3b-9"),
        (Format(4, 3, signed=False), "ue4m3"),
        (Format(4, 3, **FN), "e4m3fn"),
        (Format(4, 3, 8, **FNUZ), "e4m3fnuz"),
        (Format(4, 3, 7, **FNUZ), "e4m3b7fnuz"),
        (Format(4, 3, **FINITE), "e4m3f"),
        (Format(2, 1, **FINITE), "e2m1f"),
        (Format(3, 2, 9, subnormals=False, **FINITE), "e3m2b9f,subnormals=false"),
        (Format(4, 3, nans="all_ones"), "e4m3,nans=all_ones"),
        (Format(4, 3, name="float8_e4m3"), "float8_e4m3"),
    ],
    ids=str,
)
def test_spelled_as_short_as_can_be(fmt: Format, text: str) -> None:
    assert str(fmt) == text


# Open Compute Project: OFP8 revision 1.0 and MX version 1.0 -----------------------------

OCP = [
    # name, bits, bias, emax, largest, smallest normal, smallest subnormal, infinities, NaNs
    ("ocp_e4m3", 8, 7, 8, 448, 2**-6, 2**-9, 0, 2),  # largest S.1111.110, NaN S.1111.111
    ("ocp_e5m2", 8, 15, 15, 57344, 2**-14, 2**-16, 2, 6),  # infinity S.11111.00
    ("ocp_e3m2", 6, 3, 4, 28, 0.25, 0.0625, 0, 0),  # largest S.111.11
    ("ocp_e2m3", 6, 1, 2, 7.5, 1, 0.125, 0, 0),  # largest S.11.111
    ("ocp_e2m1", 4, 1, 2, 6, 1, 0.5, 0, 0),  # largest S.11.1
    ("ocp_e8m0", 8, 127, 127, 2.0**127, 2**-127, None, 0, 1),  # NaN 11111111, neither 0 nor ∞
]


@pytest.mark.parametrize("row", OCP, ids=lambda row: row[0])
def test_ocp_tables(row: tuple[Any, ...]) -> None:
    name, bits, bias, emax, largest, min_normal, min_subnormal, infinities, nans = row
    fmt = catalog.parse(name)
    assert (fmt.bits, fmt.bias, fmt.emax, fmt.max) == (bits, bias, emax, largest)
    assert (fmt.min_normal, fmt.min_subnormal) == (min_normal, min_subnormal)
    values = fmt.values()
    assert np.isinf(values).sum() == infinities
    assert np.isnan(values).sum() == nans


def test_ocp_e2m1_is_this_table() -> None:
    positive = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    values = catalog.parse("ocp_e2m1").values()
    np.testing.assert_array_equal(values, positive + [-v for v in positive])
    assert np.signbit(values[8])


def test_ocp_e8m0_is_the_powers_of_two() -> None:
    values = catalog.parse("ocp_e8m0").values()
    np.testing.assert_array_equal(values[:255], 2.0 ** np.arange(-127, 128))
    assert math.isnan(values[255])


# P3109, interim report 4.0 --------------------------------------------------------------


def p3109_names() -> list[tuple[str, int, int, bool, bool]]:
    """Name, K, P, signed, extended for K from 3 to 16."""
    return [
        (f"binary{k}p{p}{'s' if signed else 'u'}{'e' if extended else 'f'}", k, p, signed, extended)
        for k in range(3, 17)
        for signed in (True, False)
        for p in range(1, k + (not signed))
        for extended in (True, False)
    ]


P3109 = p3109_names()


def test_p3109_is_complete() -> None:
    assert set(catalog.families()["P3109"]) == {name for name, *_ in P3109}


def p3109_max(k: int, p: int, signed: bool, extended: bool) -> Fraction:
    """M^hi, the largest finite value, as the report's table of format parameters gives it."""
    two = Fraction(2)
    if signed:
        bias = 2 ** (k - p - 1)
        if p == 1:
            return two ** (2 ** (k - 1) - bias - (2 if extended else 1))
        top = 2 - two ** (2 - p) if extended else 2 - two ** (1 - p)
        return two ** (2 ** (k - p) - bias - 1) * top
    bias = 2 ** (k - p)
    if p == 1:
        return two ** (2**k - bias - (3 if extended else 2))
    if extended and p == 2:
        return two ** (2 ** (k - p + 1) - bias - 2) * (2 - two ** (1 - p))
    top = 2 - two ** (2 - p) - two ** (1 - p) if extended else 2 - two ** (2 - p)
    return two ** (2 ** (k - p + 1) - bias - 1) * top


@pytest.mark.parametrize(("name", "k", "p", "signed", "extended"), P3109)
def test_p3109_rules(name: str, k: int, p: int, signed: bool, extended: bool) -> None:
    fmt = catalog.parse(name)
    # "K bits, precision P, signed or unsigned, extended (has infinity) or finite"
    assert (fmt.bits, fmt.precision, fmt.signed, fmt.infinities) == (k, p, signed, extended)
    # "Bias 2^(K−P−1) signed, 2^(K−P) unsigned"
    bias = 2 ** (k - p - 1) if signed else 2 ** (k - p)
    assert fmt.bias == bias
    # "NaN is the code 2^(K−1) when signed and 2^K−1 when unsigned"
    nan = 2 ** (k - 1) if signed else 2**k - 1
    assert fmt.nan_code == nan
    assert math.isnan(spec.decode(nan, fmt))
    # "+infinity is 2^(K−1)−1 signed, 2^K−2 unsigned, −infinity 2^K−1"
    top = 2 ** (k - 1) - 1 if signed else 2**k - 2
    assert fmt.infinity_code == (top if extended else None)
    if extended:
        assert spec.decode(top, fmt) == math.inf
        assert not signed or spec.decode(2**k - 1, fmt) == -math.inf
    # the largest finite value is the code just below, or that code in a finite format
    largest = p3109_max(k, p, signed, extended)
    assert fmt.max == largest == spec.decode(top - extended, fmt)
    # "subnormals always": the smallest is 2^(2−P−B), or 2^(1−B) when P = 1
    assert fmt.subnormals
    assert fmt.smallest == Fraction(2) ** (2 - p - bias if p > 1 else 1 - bias)
    # "one zero, no −0"
    assert spec.decode(0, fmt) == 0
    assert not fmt.has_negative_zero
    # The value 1 has the code in the middle: 2^(K−2) signed, 2^(K−1) unsigned.
    assert spec.decode(2 ** (k - 2) if signed else 2 ** (k - 1), fmt) == 1


@pytest.mark.parametrize("name", [n for n, k, *_ in P3109 if k <= 8])
def test_p3109_has_one_nan_one_zero_and_its_infinities(name: str) -> None:
    fmt = catalog.parse(name)
    values = fmt.values()
    assert np.isnan(values).sum() == 1
    assert (values == 0).sum() == 1
    assert np.isinf(values).sum() == fmt.infinities * (1 + fmt.signed)
    assert len(set(values[~np.isnan(values)].tolist())) == len(values) - 1, "no value has two codes"


# Published values: the working group's value tables and gfloat's table of formats.
@pytest.mark.parametrize(
    ("name", "largest", "min_normal", "smallest"),
    [
        ("binary8p1se", 2.0**62, 2.0**-63, 2.0**-63),
        ("binary8p1sf", 2.0**63, 2.0**-63, 2.0**-63),
        ("binary8p2se", 2.0**31, 2.0**-31, 2.0**-32),
        ("binary8p3se", 49152, 3.0517578125e-05, 7.62939453125e-06),
        ("binary8p4se", 224, 0.0078125, 0.0009765625),
        ("binary8p5se", 15, 0.125, 0.0078125),
        ("binary8p6se", 3.875, 0.5, 0.015625),
        ("binary8p7se", 1.96875, 1, 0.015625),
        ("binary8p3sf", 57344, 3.0517578125e-05, 7.62939453125e-06),
        ("binary8p4sf", 240, 0.0078125, 0.0009765625),
        ("binary8p5sf", 15.5, 0.125, 0.0078125),
        ("binary10p3ue", 1.25 * 2.0**127, 2.0**-127, 2.0**-129),
        ("binary10p3uf", 1.5 * 2.0**127, 2.0**-127, 2.0**-129),
    ],
)
def test_p3109_published_values(
    name: str, largest: float, min_normal: float, smallest: float
) -> None:
    fmt = catalog.parse(name)
    assert (fmt.max, fmt.min_normal, fmt.smallest) == (largest, min_normal, smallest)


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("binary3p1se", [0, 0.5, 1, INF, NAN, -0.5, -1, -INF]),
        ("binary3p1sf", [0, 0.5, 1, 2, NAN, -0.5, -1, -2]),
        ("binary3p1ue", [0, 0.125, 0.25, 0.5, 1, 2, INF, NAN]),
        ("binary3p1uf", [0, 0.125, 0.25, 0.5, 1, 2, 4, NAN]),
        ("binary3p2se", [0, 0.5, 1, INF, NAN, -0.5, -1, -INF]),
        ("binary3p2sf", [0, 0.5, 1, 1.5, NAN, -0.5, -1, -1.5]),
        ("binary3p2ue", [0, 0.25, 0.5, 0.75, 1, 1.5, INF, NAN]),
        ("binary3p2uf", [0, 0.25, 0.5, 0.75, 1, 1.5, 2, NAN]),
        ("binary3p3ue", [0, 0.25, 0.5, 0.75, 1, 1.25, INF, NAN]),
        ("binary3p3uf", [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, NAN]),
    ],
)
def test_p3109_of_three_bits(name: str, values: list[float]) -> None:
    np.testing.assert_array_equal(catalog.parse(name).values(), values)
