"""Format: derived constants, validation at birth, values, ulp and containment.

Judged by NumPy's and ml_dtypes' ``finfo`` and casts, by tables worked out by hand, and by brute
force over sets of values.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle
import warnings
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import fpsim
from fpsim.format import Format, NaNs

FINITE: dict[str, Any] = {"infinities": False, "nans": "none"}
FN: dict[str, Any] = {"infinities": False, "nans": "all_ones"}
FNUZ: dict[str, Any] = {"infinities": False, "nans": "negative_zero"}

E4M3FN = Format(4, 3, **FN)
E5M2 = Format(5, 2)
E2M1 = Format(2, 1, **FINITE)
E8M0 = Format(8, 0, signed=False, zero=False, **FN)
BINARY16 = Format(5, 10)
BINARY32 = Format(8, 23)
BINARY64 = Format(11, 52)

ML_DTYPES: list[tuple[Any, Format]] = [
    (ml_dtypes.bfloat16, Format(8, 7)),
    (ml_dtypes.float8_e3m4, Format(3, 4)),
    (ml_dtypes.float8_e4m3, Format(4, 3)),
    (ml_dtypes.float8_e4m3b11fnuz, Format(4, 3, 11, **FNUZ)),
    (ml_dtypes.float8_e4m3fn, E4M3FN),
    (ml_dtypes.float8_e4m3fnuz, Format(4, 3, 8, **FNUZ)),
    (ml_dtypes.float8_e5m2, E5M2),
    (ml_dtypes.float8_e5m2fnuz, Format(5, 2, 16, **FNUZ)),
    (ml_dtypes.float8_e8m0fnu, E8M0),
    (ml_dtypes.float6_e2m3fn, Format(2, 3, **FINITE)),
    (ml_dtypes.float6_e3m2fn, Format(3, 2, **FINITE)),
    (ml_dtypes.float4_e2m1fn, E2M1),
]
NUMPY: list[tuple[Any, Format]] = [
    (np.float16, BINARY16),
    (np.float32, BINARY32),
    (np.float64, BINARY64),
]


def brief(value: Any) -> str | None:
    """A test's id: formats and dtypes by name, the rest as pytest has it."""
    if isinstance(value, Format):
        return repr(value)
    return value.__name__ if isinstance(value, type) else None


def small_formats(max_bits: int) -> list[Format]:
    """Every valid combination of parameters of up to `max_bits` bits, with IEEE's bias."""
    found = []
    for exponent_bits, mantissa_bits, signed in itertools.product(
        range(1, max_bits + 1), range(max_bits), (True, False)
    ):
        if signed + exponent_bits + mantissa_bits > max_bits:
            continue
        for nans, infinities, subnormals, zero in itertools.product(
            NaNs, (True, False), (True, False), (True, False)
        ):
            if subnormals and not zero:
                continue  # the same format as with subnormals=False
            try:
                fmt = Format(
                    exponent_bits,
                    mantissa_bits,
                    signed=signed,
                    subnormals=subnormals,
                    infinities=infinities,
                    nans=nans,
                    zero=zero,
                )
            except ValueError:
                continue
            found.append(fmt)
    return found


def magnitudes(fmt: Format) -> list[float]:
    """The finite values without a sign, in order and once each."""
    values = fmt.values()
    return sorted(set(np.abs(values[np.isfinite(values)]).tolist()))


def assert_same(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    """Equal values, NaN in the same places, and the same signs of zero."""
    np.testing.assert_array_equal(actual, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[number]), np.signbit(expected[number]))


# Derived constants ----------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "fmt"), NUMPY + ML_DTYPES, ids=brief)
def test_constants_are_those_of_finfo(dtype: Any, fmt: Format) -> None:
    info = ml_dtypes.finfo(dtype)  # NumPy's finfo for NumPy's dtypes
    assert fmt.bits == info.bits
    assert fmt.mantissa_bits == info.nmant
    assert fmt.exponent_bits == info.nexp
    assert fmt.emin == info.minexp
    assert fmt.emax == info.maxexp - 1  # maxexp is the first power of two that overflows
    assert fmt.max == float(info.max)
    assert fmt.min_normal == float(info.smallest_normal)
    assert fmt.eps == float(info.eps)
    assert fmt.unit_roundoff == float(info.eps) / 2
    if fmt.zero:  # ml_dtypes reports E8M0's smallest normal once more
        assert fmt.min_subnormal == float(info.smallest_subnormal)
    assert fmt.smallest == float(info.smallest_subnormal)


# Worked out by hand from the parameters. Columns: bits, bias, emin, emax, largest value, smallest
# normal, smallest subnormal; codes of the largest value, infinity and NaN; whether −0 has a code.
CONSTANTS = [
    pytest.param(E4M3FN, (8, 7, -6, 8, 448, 2**-6, 2**-9, 0x7E, None, 0x7F, True), id="e4m3fn"),
    pytest.param(E5M2, (8, 15, -14, 15, 57344, 2**-14, 2**-16, 0x7B, 0x7C, 0x7E, True), id="e5m2"),
    pytest.param(
        Format(5, 2, 16, **FNUZ),
        (8, 16, -15, 15, 57344, 2**-15, 2**-17, 0x7F, None, 0x80, False),
        id="e5m2fnuz",
    ),
    pytest.param(E2M1, (4, 1, 0, 2, 6, 1, 0.5, 7, None, None, True), id="e2m1"),
    pytest.param(
        E8M0, (8, 127, -127, 127, 2.0**127, 2**-127, None, 254, None, 255, False), id="e8m0"
    ),
    pytest.param(
        Format(3, 0), (4, 3, -2, 3, 8, 0.25, None, 6, 7, None, True), id="ieee-no-mantissa"
    ),
    pytest.param(
        Format(1, 2), (4, 0, 1, 0, 1.5, 2, 0.5, 3, 4, 6, True), id="only-subnormals-are-finite"
    ),
    pytest.param(
        Format(1, 0, **FINITE), (2, 0, 1, 1, 2, 2, None, 1, None, None, True), id="two-bits"
    ),
    pytest.param(
        Format(1, 0, signed=False, **FINITE),
        (1, 0, 1, 1, 2, 2, None, 1, None, None, False),
        id="one-bit",
    ),
    pytest.param(
        Format(6, 2, 32, signed=False, nans="all_ones"),
        (8, 32, -31, 31, 1.25 * 2.0**31, 2**-31, 2**-33, 253, 254, 255, False),
        id="unsigned-extended",
    ),
    pytest.param(
        Format(4, 3, nans="none"),
        (8, 7, -6, 8, 448, 2**-6, 2**-9, 0x7E, 0x7F, None, True),
        id="infinity-without-nan",
    ),
    pytest.param(
        Format(4, 3, 8, nans="negative_zero"),
        (8, 8, -7, 7, 224, 2**-7, 2**-10, 0x7E, 0x7F, 0x80, False),
        id="infinity-and-nan-at-minus-zero",
    ),
    pytest.param(
        Format(4, 3, nans="all_ones"),
        (8, 7, -6, 8, 416, 2**-6, 2**-9, 0x7D, 0x7E, 0x7F, True),
        id="infinity-below-all-ones",
    ),
    pytest.param(
        Format(4, 3, subnormals=False, **FINITE),
        (8, 7, -6, 8, 480, 2**-6, None, 0x7F, None, None, True),
        id="no-subnormals",
    ),
    pytest.param(
        Format(3, 1, zero=False, **FINITE),
        (5, 3, -3, 4, 24, 0.125, None, 15, None, None, False),
        id="signed-without-zero",
    ),
    pytest.param(
        Format(4, 3, -5),
        (8, -5, 6, 19, 1.875 * 2.0**19, 64, 8, 0x77, 0x78, 0x7C, True),
        id="negative-bias",
    ),
]


@pytest.mark.parametrize(("fmt", "expected"), CONSTANTS)
def test_constants_worked_out_by_hand(fmt: Format, expected: tuple[Any, ...]) -> None:
    derived = (
        fmt.bits,
        fmt.bias,
        fmt.emin,
        fmt.emax,
        fmt.max,
        fmt.min_normal,
        fmt.min_subnormal,
        fmt.max_code,
        fmt.infinity_code,
        fmt.nan_code,
        fmt.has_negative_zero,
    )
    assert derived == expected
    assert fmt.smallest == (fmt.min_normal if fmt.min_subnormal is None else fmt.min_subnormal)
    assert fmt.precision == fmt.mantissa_bits + 1
    assert fmt.magnitude_bits == fmt.bits - fmt.signed


@pytest.mark.parametrize("fmt", small_formats(5), ids=brief)
def test_constants_are_those_of_the_values(fmt: Format) -> None:
    values = fmt.values()
    positive = values[: 1 << fmt.magnitude_bits]
    finite = positive[np.isfinite(positive)]
    assert fmt.max == finite.max() == values[fmt.max_code]
    assert fmt.smallest == finite[finite > 0].min()
    assert math.frexp(finite.max())[1] - 1 == fmt.emax
    assert (0 in finite) == fmt.zero
    if fmt.infinity_code is not None:
        assert values[fmt.infinity_code] == math.inf
    if fmt.nan_code is not None:
        assert math.isnan(values[fmt.nan_code])
    assert np.all(np.diff(finite) >= 0), "codes are in the order of values"

    signs = 1 + fmt.signed
    infinities = signs * fmt.infinities
    nans = {
        NaNs.ieee: signs * ((1 << fmt.mantissa_bits) - 1),
        NaNs.all_ones: signs,
        NaNs.negative_zero: 1,
        NaNs.none: 0,
    }[NaNs(fmt.nans)]
    assert np.isinf(values).sum() == infinities
    assert np.isnan(values).sum() == nans
    assert (fmt.nan_code is None) == (nans == 0)


@pytest.mark.parametrize("fmt", small_formats(4), ids=brief)
def test_minus_zero_is_a_value_only_where_the_format_says_so(fmt: Format) -> None:
    values = fmt.values()
    assert np.any((values == 0) & np.signbit(values)) == fmt.has_negative_zero


@pytest.mark.parametrize(
    ("bits", "dtype"),
    [
        (8, np.uint8),
        (9, np.uint16),
        (16, np.uint16),
        (17, np.uint32),
        (32, np.uint32),
        (33, np.uint64),
        (64, np.uint64),
    ],
)
def test_code_dtype_is_the_smallest_that_holds_a_code(bits: int, dtype: Any) -> None:
    fmt = Format(min(11, bits - 1), max(0, bits - 12))
    assert fmt.bits == bits
    assert fmt.code_dtype == dtype


# Validation -----------------------------------------------------------------------------

INTEGER = "is not an integer"
RANGE = "is out of range"
TOO_FEW = ["no code for a nonzero finite value", "more bits", "nans='none'", "infinities=False"]
INVALID: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], list[str]]] = [
    ((0, 3), {}, ValueError, ["exponent_bits=0", RANGE, "1 to 16"]),
    ((17, 3), {}, ValueError, ["exponent_bits=17", RANGE, "1 to 16"]),
    ((4.0, 3), {}, TypeError, ["exponent_bits=4.0", INTEGER, "1 to 16"]),
    (("4", 3), {}, TypeError, ["exponent_bits='4'", INTEGER]),
    ((True, 3), {}, TypeError, ["exponent_bits=True", INTEGER]),
    ((np.True_, 3), {}, TypeError, ["exponent_bits=", INTEGER]),
    ((4, -1), {}, ValueError, ["mantissa_bits=-1", RANGE, "0 to 52"]),
    ((4, 53), {}, ValueError, ["mantissa_bits=53", RANGE, "0 to 52"]),
    ((4, None), {}, TypeError, ["mantissa_bits=None", INTEGER, "0 to 52"]),
    ((4, 3, 1.5), {}, TypeError, ["bias=1.5", INTEGER, "-65536 to 65536"]),
    ((4, 3, 65537), {}, ValueError, ["bias=65537", RANGE, "-65536 to 65536"]),
    ((4, 3, -65537), {}, ValueError, ["bias=-65537", RANGE, "-65536 to 65536"]),
    ((4, 3), {"signed": 1}, TypeError, ["signed=1", "not a bool", "True or False"]),
    ((4, 3), {"subnormals": "no"}, TypeError, ["subnormals='no'", "not a bool"]),
    ((4, 3), {"infinities": None}, TypeError, ["infinities=None", "not a bool"]),
    ((4, 3), {"zero": 0.0}, TypeError, ["zero=0.0", "not a bool"]),
    (
        (4, 3),
        {"nans": "quiet"},
        ValueError,
        ["nans='quiet'", "'ieee'", "'all_ones'", "'negative_zero'", "'none'"],
    ),
    ((4, 3), {"nans": None}, ValueError, ["nans=None", "'none'"]),
    ((4, 3), {"nans": ["ieee"]}, ValueError, ["nans=['ieee']", "'ieee'"]),
    ((4, 3), {"name": 43}, TypeError, ["name=43", "str"]),
    ((16, 52), {}, ValueError, ["exponent_bits=16", "mantissa_bits=52", "69 bits", "at most 64"]),
    ((12, 52), {}, ValueError, ["65 bits", "at most 64"]),
    (
        (4, 3),
        {"infinities": False},
        ValueError,
        ["infinities=False", "nans='ieee'", "'all_ones'", "'negative_zero'", "'none'"],
    ),
    (
        (4, 3),
        {"signed": False, **FNUZ},
        ValueError,
        ["nans='negative_zero'", "signed=True", "zero=True", "'all_ones'", "'none'"],
    ),
    ((4, 3), {"zero": False, **FNUZ}, ValueError, ["nans='negative_zero'", "zero=True"]),
    ((1, 0), {}, ValueError, TOO_FEW),  # 0 and infinity
    ((1, 0), {"nans": "none"}, ValueError, TOO_FEW),  # 0 and infinity
    ((1, 0), FN, ValueError, TOO_FEW),  # 0 and NaN
    ((1, 1), {"subnormals": False}, ValueError, TOO_FEW),  # 0, a flushed subnormal, infinity, NaN
    ((1, 3), {"subnormals": False}, ValueError, TOO_FEW),
    ((1, 0), {"zero": False, "nans": "all_ones"}, ValueError, TOO_FEW),  # infinity and NaN
]


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "words"),
    INVALID,
    ids=[f"{a}-{k}".replace(" ", "") for a, k, _, _ in INVALID],
)
def test_invalid_formats_are_never_born(
    arguments: tuple[Any, ...], keywords: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        Format(*arguments, **keywords)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "fmt",
    [
        Format(16, 47),
        Format(12, 52, signed=False),
        Format(1, 0, **FINITE),
        Format(1, 0, signed=False, zero=False, **FN),
        Format(1, 1),
        Format(2, 0, signed=False, nans="all_ones"),
        Format(4, 3, 65536),
        Format(4, 3, -65536),
    ],
    ids=brief,
)
def test_extremes_are_valid(fmt: Format) -> None:
    assert fmt.max > 0


def test_numpy_scalars_settle_as_python_values() -> None:
    fmt = Format(np.int64(4), np.uint8(3), np.int16(9), subnormals=np.False_)  # type: ignore[arg-type]
    assert fmt == Format(4, 3, 9, subnormals=False)
    assert [type(v) for v in dataclasses.astuple(fmt)[:5]] == [int, int, int, bool, bool]


def test_without_a_zero_there_are_no_subnormals() -> None:
    assert Format(3, 2, zero=False, **FINITE) == Format(
        3, 2, zero=False, subnormals=False, **FINITE
    )


# A format is a value --------------------------------------------------------------------


@pytest.mark.parametrize("attribute", [f.name for f in dataclasses.fields(Format)] + ["max", "new"])
def test_immutable(attribute: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Format(4, 3), attribute, 1)


def test_equality_and_hash_leave_the_name_out() -> None:
    plain, named = Format(4, 3, **FN), Format(4, 3, **FN, name="ours")
    assert plain == named
    assert hash(plain) == hash(named)
    assert {plain: 1}[named] == 1
    assert Format(4, 3, nans=NaNs.ieee) == Format(4, 3, nans="ieee")
    assert Format(4, 3) == Format(4, 3, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"exponent_bits": 5},
        {"mantissa_bits": 2},
        {"bias": 8},
        {"signed": False},
        {"subnormals": False},
        {"infinities": True},
        {"nans": "none"},
        {"zero": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_parameter_but_the_name_is_part_of_equality(change: dict[str, Any]) -> None:
    base = {"exponent_bits": 4, "mantissa_bits": 3, "bias": 7, **FN}
    assert Format(**base) != Format(**(base | change))


ROUND_TRIPPED = [
    *small_formats(4),
    E4M3FN,
    E8M0,
    BINARY64,
    Format(4, 3, 9, name="nine"),
    Format(16, 47, -65536, signed=False, subnormals=False),
    Format(5, 2, 16, **FNUZ, name='it\'s "quoted"'),
]


@pytest.mark.parametrize("fmt", ROUND_TRIPPED, ids=brief)
def test_repr_is_code(fmt: Format) -> None:
    again = eval(repr(fmt), {"Format": Format})
    assert again == fmt
    assert again.name == fmt.name


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (Format(4, 3), "Format(4, 3)"),
        (Format(4, 3, 7), "Format(4, 3)"),
        (Format(4, 3, 8), "Format(4, 3, bias=8)"),
        (E4M3FN, "Format(4, 3, infinities=False, nans='all_ones')"),
        (E8M0, "Format(8, 0, signed=False, infinities=False, nans='all_ones', zero=False)"),
    ],
)
def test_repr_leaves_defaults_out(fmt: Format, text: str) -> None:
    assert repr(fmt) == text


def test_names_of_choices_are_code() -> None:
    for word in (NaNs.all_ones, fpsim.Rounding.to_odd, fpsim.Overflow.nan, fpsim.Order.kahan):
        assert eval(repr(word), vars(fpsim)) is word
        assert repr(word) == f"{type(word).__name__}.{word}"


@pytest.mark.parametrize("fmt", ROUND_TRIPPED[-6:], ids=brief)
def test_copies_are_equal(fmt: Format) -> None:
    _ = fmt.max, fmt.emax, fmt.max_code  # fill the caches first
    for again in (pickle.loads(pickle.dumps(fmt)), copy.deepcopy(fmt), dataclasses.replace(fmt)):
        assert again == fmt
        assert hash(again) == hash(fmt)
        assert again.name == fmt.name
        assert again.max == fmt.max


def test_replace_derives_anew() -> None:
    _ = E4M3FN.max
    assert dataclasses.replace(E4M3FN, bias=8).max == 224.0


# Codes and values -----------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "fmt"), [NUMPY[0], *ML_DTYPES], ids=brief)
def test_values_are_those_of_the_dtype(dtype: Any, fmt: Format) -> None:
    with np.errstate(invalid="ignore"):  # signalling NaNs
        expected = fmt.codes().view(dtype).astype(np.float64)
    assert_same(fmt.values(), expected)


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("fmt", "expected"),
    [
        (Format(1, 1), [0, 1, INF, NAN, -0.0, -1, -INF, NAN]),
        (Format(2, 0), [0, 1, 2, INF, -0.0, -1, -2, -INF]),
        (Format(1, 1, **FINITE), [0, 1, 2, 3, -0.0, -1, -2, -3]),
        (Format(1, 1, nans="none"), [0, 1, 2, INF, -0.0, -1, -2, -INF]),
        (Format(1, 1, **FN), [0, 1, 2, NAN, -0.0, -1, -2, NAN]),
        (Format(1, 1, nans="all_ones"), [0, 1, INF, NAN, -0.0, -1, -INF, NAN]),
        (Format(1, 1, **FNUZ), [0, 1, 2, 3, NAN, -1, -2, -3]),
        (Format(1, 1, nans="negative_zero"), [0, 1, 2, INF, NAN, -1, -2, -INF]),
        (Format(1, 1, zero=False, **FINITE), [1, 1.5, 2, 3, -1, -1.5, -2, -3]),
        (Format(1, 1, subnormals=False, **FINITE), [0, 0, 2, 3, -0.0, -0.0, -2, -3]),
        (Format(2, 1, signed=False), [0, 0.5, 1, 1.5, 2, 3, INF, NAN]),
        (Format(2, 1, signed=False, zero=False, **FN), [0.5, 0.75, 1, 1.5, 2, 3, 4, NAN]),
    ],
    ids=brief,
)
def test_values_worked_out_by_hand(fmt: Format, expected: list[float]) -> None:
    assert_same(fmt.values(), np.array(expected))


def test_codes_are_in_order_and_in_the_code_dtype() -> None:
    codes = Format(5, 4).codes()
    assert codes.dtype == np.uint16
    np.testing.assert_array_equal(codes, np.arange(1024))


@pytest.mark.parametrize("method", ["codes", "values"])
def test_too_many_codes_to_list(method: str) -> None:
    fmt = Format(8, 16)
    with pytest.raises(ValueError, match=r"2\*\*25 codes.*24 bits.*decode the codes"):
        getattr(fmt, method)()
    assert len(Format(2, 21).codes()) == 1 << 24


@pytest.mark.parametrize("fmt", [Format(11, 4), Format(11, 0), Format(4, 3, -1009)], ids=brief)
def test_values_at_the_top_of_binary64_come_without_warnings(fmt: Format) -> None:
    assert fmt.emax == 1023
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = fmt.values()
    assert values[fmt.max_code] == fmt.max


# ulp ------------------------------------------------------------------------------------


def test_ulp_is_numpys_spacing_in_binary16() -> None:
    # NumPy's spacing of a negative power of two is the gap below it: ask for positive ones.
    values = np.arange(BINARY16.max_code, dtype=np.uint16).view(np.float16)
    spacing = np.spacing(values).astype(np.float64)
    np.testing.assert_array_equal(BINARY16.ulp(values), spacing)
    np.testing.assert_array_equal(BINARY16.ulp(-values), spacing)


def test_ulp_is_numpys_spacing_in_binary32() -> None:
    patterns = np.random.default_rng(32).integers(0, 1 << 32, 20_000, dtype=np.uint32)
    edges = np.array([0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0x3F800000, 0x7F7FFFFE], np.uint32)
    x = np.concatenate([patterns, edges, edges | 0x80000000]).view(np.float32)
    x = x[np.isfinite(x)]
    spacing = np.abs(np.spacing(x)).astype(np.float64)
    np.testing.assert_array_equal(BINARY32.ulp(x), spacing)


def test_ulp_is_mathulp_in_binary64() -> None:
    x = np.random.default_rng(64).integers(0, 1 << 64, 5_000, dtype=np.uint64).view(np.float64)
    x = np.concatenate([x[np.isfinite(x)], [0.0, 5e-324, 2.0**-1022, 1.0, BINARY64.max]])
    np.testing.assert_array_equal(BINARY64.ulp(x), [math.ulp(v) for v in x.tolist()])


@pytest.mark.parametrize("fmt", small_formats(5), ids=brief)
def test_ulp_is_the_gap_between_neighbours(fmt: Format) -> None:
    values = magnitudes(fmt)
    for low, high in itertools.pairwise(values):
        inside = [low, low + (high - low) / 4, (low + high) / 2, np.nextafter(high, 0)]
        np.testing.assert_array_equal(fmt.ulp(inside), high - low)
    # From the largest value on, the gap of its binade, as though the exponents went on.
    exponent = max(math.frexp(values[-1])[1] - 1, int(fmt.zero) - fmt.bias)
    beyond = [values[-1], values[-1] * 1.01, values[-1] * 100, INF, -INF]
    np.testing.assert_array_equal(fmt.ulp(beyond), 2.0 ** (exponent - fmt.mantissa_bits))


def test_ulp_of_an_array_keeps_its_shape_signs_do_not_matter_and_nan_stays() -> None:
    result = E4M3FN.ulp([[1.0, -1.0, NAN], [0.0, -0.0, 447.0]])
    np.testing.assert_array_equal(result, [[0.125, 0.125, NAN], [2**-9, 2**-9, 32.0]])
    assert result.dtype == np.float64
    assert np.ndim(E4M3FN.ulp(3)) == 0
    assert E4M3FN.ulp(3) == 0.25


def test_ulp_below_the_smallest_value_without_subnormals_is_that_value() -> None:
    fmt = Format(4, 3, subnormals=False)
    np.testing.assert_array_equal(fmt.ulp([0, 1e-9, 0.015, 2.0**-6]), [2**-6] * 3 + [2**-9])
    np.testing.assert_array_equal(E8M0.ulp([0, 1e-300, 1.0]), [2.0**-127, 2.0**-127, 1.0])


# contains -------------------------------------------------------------------------------


def value_set(fmt: Format) -> set[float | str]:
    """Its values as a set: 0 whatever its sign, the infinities, and 'nan'."""
    return {"nan" if math.isnan(v) else v for v in fmt.values().tolist()}


def with_biases(formats: list[Format], shifts: tuple[int, ...]) -> list[Format]:
    return [dataclasses.replace(f, bias=f.bias + shift) for f in formats for shift in shifts]


def assert_contains_is_set_inclusion(outers: list[Format], inners: list[Format]) -> None:
    inner_sets = [(fmt, value_set(fmt)) for fmt in inners]
    wrong = []
    for outer in outers:
        outer_set = value_set(outer)
        for inner, inner_set in inner_sets:
            if outer.contains(inner) != (inner_set <= outer_set):
                wrong.append(f"{outer!r} contains {inner!r}: {inner_set <= outer_set}")
    assert not wrong, f"{len(wrong)} wrong, the first: " + "; ".join(wrong[:3])


def usual(fmt: Format) -> bool:
    """Without the oddities that leave a format fewer significands than its precision tells."""
    return fmt.exponent_bits > 1


def test_contains_is_set_inclusion() -> None:
    formats = [fmt for fmt in small_formats(4) if usual(fmt)]
    assert_contains_is_set_inclusion(with_biases(formats, (-1, 0, 1)), formats)


def test_contains_is_set_inclusion_where_a_format_has_few_binades() -> None:
    formats = small_formats(4)
    odd = [fmt for fmt in formats if not usual(fmt)]
    assert_contains_is_set_inclusion(with_biases(formats, (-1, 0, 1)), odd)
    assert_contains_is_set_inclusion(odd, with_biases(formats, (-1, 0, 1)))


@pytest.mark.slow
def test_contains_is_set_inclusion_up_to_5_bits() -> None:
    formats = small_formats(5)
    assert_contains_is_set_inclusion(with_biases(formats, (-2, -1, 0, 1, 2)), formats)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (Format(8, 7), E5M2, True),
        (Format(8, 7), E4M3FN, True),
        (Format(8, 7), BINARY16, False),  # three bits of precision short
        (BINARY16, E5M2, True),
        (BINARY16, E4M3FN, True),
        (BINARY16, Format(8, 7), False),
        (BINARY32, BINARY16, True),
        (BINARY64, BINARY32, True),
        (BINARY32, BINARY64, False),
        (BINARY32, E8M0, True),  # 2**-127 is one of its subnormals
        (Format(8, 7), E8M0, True),
        (Format(8, 7, subnormals=False), E8M0, False),
        (E4M3FN, E2M1, True),
        (E2M1, E4M3FN, False),
        (E5M2, E4M3FN, False),
        (E4M3FN, Format(4, 3), False),  # no infinity
        (Format(16, 40), BINARY32, True),
        (BINARY64, Format(16, 40), False),
        (BINARY64, Format(4, 3, 2000), False),
    ],
    ids=brief,
)
def test_contains_by_name(outer: Format, inner: Format, expected: bool) -> None:
    assert outer.contains(inner) is expected
    assert outer.contains(outer)


# Formats that leave binary64 ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmt", "largest", "min_normal", "smallest"),
    [
        # exponent field up to 2**16 - 2 less the bias 2**15 - 1
        (Format(16, 3), Fraction(15, 8) * 2**32767, Fraction(1, 2**32766), Fraction(1, 2**32769)),
        (
            Format(12, 51),
            (2 - Fraction(1, 2**51)) * 2**2047,
            Fraction(1, 2**2046),
            Fraction(1, 2**2097),
        ),
        (Format(4, 3, 1000), 15 * 2.0**-989, 2.0**-999, 2.0**-1002),
        (Format(4, 3, -1000), 15 * 2.0**1011, 2.0**1001, 2.0**998),
        (Format(4, 3, -1010), Fraction(15 * 2**1021), 2.0**1011, 2.0**1008),
        (Format(4, 3, 1072), 15 * 2.0**-1061, 2.0**-1071, 2.0**-1074),
        (Format(4, 3, 1073), 15 * 2.0**-1062, 2.0**-1072, Fraction(1, 2**1075)),
        (Format(1, 0, 65536, **FINITE), *[Fraction(1, 2**65535)] * 3),
    ],
    ids=brief,
)
def test_constants_are_exact_far_out(
    fmt: Format, largest: Any, min_normal: Any, smallest: Any
) -> None:
    assert (fmt.max, fmt.min_normal, fmt.smallest) == (largest, min_normal, smallest)
    for value in (fmt.max, fmt.min_normal, fmt.smallest):
        assert isinstance(value, (float, Fraction))
        inside = Fraction(2) ** -1074 <= value <= Fraction(BINARY64.max)
        assert isinstance(value, float) == inside


@pytest.mark.parametrize(
    ("fmt", "leaves"),
    [
        (Format(4, 3, 1000), False),
        (Format(4, 3, -1000), False),
        (Format(4, 3, -1009), False),  # the top binade is 2**1023
        (Format(4, 3, -1010), True),
        (Format(4, 3, 1072), False),  # the smallest value is 2**-1074
        (Format(4, 3, 1073), True),
        (Format(11, 4), False),
        (Format(12, 4), True),
        (Format(16, 3), True),
    ],
    ids=brief,
)
def test_formats_that_leave_binary64_say_so(fmt: Format, leaves: bool) -> None:
    if not leaves:
        fmt.require_binary64()
        finite = magnitudes(fmt)
        assert (finite[1], finite[-1]) == (fmt.smallest, fmt.max)
        return
    for ask in (fmt.values, fmt.require_binary64, lambda: fmt.ulp(1.0)):
        with pytest.raises(ValueError, match=r"leave binary64 \(2\*\*-1074 to 2\*\*1023\)"):
            ask()


def test_sixty_four_bits() -> None:
    fmt = Format(11, 52)
    assert fmt.bits == 64
    assert fmt.infinity_code == 0x7FF0_0000_0000_0000
    assert fmt.nan_code == 0x7FF8_0000_0000_0000
    assert fmt.max_code == 0x7FEF_FFFF_FFFF_FFFF
    assert fmt.max == np.finfo(np.float64).max
    with pytest.raises(ValueError, match=r"2\*\*64 codes"):
        fmt.codes()
