"""Faults that other libraries have, or had, each as a case that the fast casts must get right.

Versions in which they were seen: pychop 0.6.2, ml_dtypes 0.6.0, gfloat 0.5.2, apytypes 0.5.1,
CPFloat of June 2026, QPyTorch, mptorch, microxcaling and numcodecs of the same time. Values were
worked out by hand; how stands beside each.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim import Flag, Format

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
MODES = list(fpsim.Rounding)


def rounded(x: Any, fmt: Any, dtype: Any = np.float64, **options: Any) -> list[float]:
    """`round`, and `encode` followed by `decode`, which must say the same, zeros' signs too."""
    array = np.atleast_1d(np.asarray(x, dtype))
    values = fpsim.round(array, fmt, **options)
    codes = fpsim.encode(array, fmt, **options)
    decoded = fpsim.decode(codes, fmt, np.float64)
    assert np.array_equal(values.astype(np.float64), decoded, equal_nan=True)
    number = ~np.isnan(decoded)
    assert np.array_equal(np.signbit(values[number]), np.signbit(decoded[number]))
    return [float(v) for v in values]


def sign(x: float) -> float:
    return math.copysign(1.0, x)


# pychop -----------------------------------------------------------------------------------------


@DTYPES
def test_pychop_65520_overflows_binary16(dtype: Any) -> None:
    """pychop gives 65536, which is no binary16.

    The largest value is (2 - 2^-10) * 2^15 = 65504, the next would be 65536; 65520 is halfway and
    65536 has the even significand, so ties go there: to infinity. Just below, to 65504.
    """
    assert rounded([65520, -65520, 65519], "binary16", dtype) == [math.inf, -math.inf, 65504]
    # Ties to zero stay in range; so does toward zero up to where the numbers end.
    assert rounded(65520, "binary16", dtype, rounding="ties_to_zero") == [65504]
    assert rounded(65520, "binary16", dtype, rounding="ties_to_away") == [math.inf]


@DTYPES
def test_pychop_values_past_binary16_do_not_vanish(dtype: Any) -> None:
    """pychop gives 0 for 65536 to 131071."""
    x = [65536, 80000, 131071, -131071]
    assert rounded(x, "binary16", dtype) == [math.inf] * 3 + [-math.inf]
    assert rounded(x, "binary16", dtype, overflow="saturate") == [65504] * 3 + [-65504]
    assert rounded(x, "binary16", dtype, rounding="toward_zero") == [65504] * 3 + [-65504]


@DTYPES
@pytest.mark.parametrize("fmt", ["binary16", "float8_e5m2", "float6_e3m2fn"])
def test_pychop_to_odd_leaves_values_of_the_format(dtype: Any, fmt: str) -> None:
    """pychop moves values that are in the format, even ones, to their odd neighbours."""
    values = Format.parse(fmt).values()
    values = values[np.isfinite(values)]
    flags = np.full(values.shape, 0xFF, np.uint8)
    got = fpsim.round(values.astype(dtype), fmt, rounding="to_odd", flags=flags)
    assert np.array_equal(got, values)
    assert np.array_equal(np.signbit(got), np.signbit(values))
    assert not flags.any()


@DTYPES
def test_pychop_ties(dtype: Any) -> None:
    """pychop takes a third of such probes to the wrong side.

    Values of E4M3 in [1, 2) are 1 + k/8. 1.0625 lies halfway between 1 (k even) and 1.125 (odd);
    1.1875 between 1.125 (odd) and 1.25 (even).
    """
    ties = [1.0625, 1.1875, -1.0625, -1.1875]
    even, away = [1, 1.25, -1, -1.25], [1.125, 1.25, -1.125, -1.25]
    zero, odd = [1, 1.125, -1, -1.125], [1.125, 1.125, -1.125, -1.125]
    assert rounded(ties, "e4m3", dtype, rounding="ties_to_even") == even
    assert rounded(ties, "e4m3", dtype, rounding="ties_to_away") == away
    assert rounded(ties, "e4m3", dtype, rounding="ties_to_zero") == zero
    assert rounded(ties, "e4m3", dtype, rounding="to_odd") == odd


@DTYPES
def test_pychop_near_ties_of_subnormals(dtype: Any) -> None:
    """Subnormals of E4M3 are multiples of 2^-9; k + 1/2 of them are ties, and neighbours are not.

    pychop takes neighbours of ties for ties.
    """
    step = 2.0**-9
    for k in range(7):
        tie = dtype((k + 0.5) * step)
        below, above = np.nextafter(tie, dtype(0)), np.nextafter(tie, dtype(1))
        nearest_even = k if k % 2 == 0 else k + 1
        want = [k * step, nearest_even * step, (k + 1) * step]
        assert rounded([below, tie, above], "e4m3", dtype) == want
        assert rounded([below, tie, above], "e4m3", dtype, rounding="ties_to_zero") == [
            k * step,
            k * step,
            (k + 1) * step,
        ]


@DTYPES
@pytest.mark.parametrize("rounding", [*MODES, "stochastic"])
@pytest.mark.parametrize("fmt", ["binary16", "e4m3", "float4_e2m1fn", "e3m0"])
def test_pychop_and_microxcaling_keep_minus_zero(dtype: Any, rounding: Any, fmt: str) -> None:
    """Both lose the sign of -0."""
    (value,) = rounded(-0.0, fmt, dtype, rounding=rounding, rng=1)
    assert value == 0
    assert sign(value) == -1
    (value,) = rounded(0.0, fmt, dtype, rounding=rounding, rng=1)
    assert sign(value) == 1
    # Where a tiny negative number goes to zero, it keeps its sign as well.
    if rounding in ("toward_zero", "ties_to_even", "toward_positive"):
        (value,) = rounded(-1e-30, fmt, dtype, rounding=rounding)
        assert value == 0
        assert sign(value) == -1


# ml_dtypes --------------------------------------------------------------------------------------


def test_ml_dtypes_float64_is_rounded_once() -> None:
    """ml_dtypes takes float64 through float32 and gives -384.

    E4M3FN has steps of 32 in [256, 512): -400 is a tie between -384 and -416, and
    -400.00000000000006, by an ulp of float64, is past it. float32 has -400 only.
    """
    assert rounded(-400.00000000000006, "float8_e4m3fn") == [-416]
    assert rounded(-400.0, "float8_e4m3fn") == [-384]  # 384 = 12 * 32 is even, 416 = 13 * 32 odd
    assert rounded(-399.99999999999994, "float8_e4m3fn") == [-384]


@pytest.mark.parametrize(
    ("fmt", "tie", "below", "above"),
    [
        ("bfloat16", 1 + 2.0**-8, 1.0, 1 + 2.0**-7),
        ("float8_e5m2", 1.125, 1.0, 1.25),
        ("float6_e2m3fn", 1.0625, 1.0, 1.125),
        ("float6_e3m2fn", 1.125, 1.0, 1.25),
        ("float4_e2m1fn", 1.25, 1.0, 1.5),
        ("float4_e2m1fn", 0.25, 0.0, 0.5),
        ("float8_e4m3fn", 2.0**-10, 0.0, 2.0**-9),
        ("binary16", 1 + 2.0**-11, 1.0, 1 + 2.0**-10),
    ],
)
def test_ml_dtypes_one_ulp_of_float64_beside_a_tie(
    fmt: str, tie: float, below: float, above: float
) -> None:
    assert rounded(np.nextafter(tie, 0), fmt) == [below]
    assert rounded(tie, fmt) == [below]  # which is even in all of these
    assert rounded(np.nextafter(tie, 2), fmt) == [above]


@DTYPES
@pytest.mark.parametrize("overflow", list(fpsim.Overflow))
def test_ml_dtypes_nan_into_a_format_without_nan(dtype: Any, overflow: Any) -> None:
    """ml_dtypes makes -0 of it."""
    x = np.array([1, math.nan], dtype)
    for function in (fpsim.round, fpsim.encode):
        with pytest.raises(ValueError, match=r"1 NaN, the first at index \(1,\)"):
            function(x, "float4_e2m1fn", overflow=overflow)


# gfloat -----------------------------------------------------------------------------------------


@DTYPES
def test_gfloat_an_unsigned_format_has_no_minus_five(dtype: Any) -> None:
    """gfloat lets -5 through."""
    fmt = Format(4, 3, signed=False, infinities=False, nans="all_ones")
    assert math.isnan(rounded(-5, fmt, dtype)[0])
    assert rounded([-5, 5], fmt, dtype, overflow="saturate") == [0, 5]
    flags = np.empty(3, np.uint8)
    fpsim.round(np.array([-5, -1e-30, 5], dtype), fmt, flags=flags)
    # What rounds to zero is no more wrong than zero is: inexact and tiny, not invalid.
    assert flags.tolist() == [Flag.invalid, Flag.inexact | Flag.underflow, 0]


@DTYPES
def test_gfloat_e8m0_has_powers_of_two_only(dtype: Any) -> None:
    """gfloat gives values such as 3 and 0, which E8M0 has not."""
    # 3 lies halfway between 2 (exponent field 128, even) and 4 (129, odd); 1.5 between 1 (127, odd)
    # and 2 (128, even).
    assert rounded([1, 3, 1.5, 0.75], "float8_e8m0fnu", dtype) == [1, 2, 2, 0.5]
    assert rounded([2.9, 3.1], "float8_e8m0fnu", dtype) == [2, 4]
    # No zero, no negative value: NaN, or the smallest value, 2^-127, where asked to saturate.
    assert all(math.isnan(v) for v in rounded([0, -3], "float8_e8m0fnu", dtype))
    assert rounded([0, -3], "float8_e8m0fnu", dtype, overflow="saturate") == [2.0**-127] * 2
    x = np.abs(np.random.default_rng(0).normal(size=1000)).astype(dtype)
    for rounding in MODES:
        values = fpsim.round(x, "float8_e8m0fnu", rounding=rounding)
        assert (np.frexp(values)[0] == 0.5).all()


@DTYPES
def test_gfloat_finite_p3109_formats_overflow_to_the_largest_value(dtype: Any) -> None:
    """gfloat answers NaN, where P3109's SatNone in a finite domain answers the largest value.

    binary8p3sf: precision 3, 5 exponent bits, bias 16, no infinity: the largest code 0x7f is
    1.75 * 2^(31 - 16) = 57344.
    """
    fmt = Format.parse("binary8p3sf")
    assert fmt.max == 57344
    x = [1e6, -1e6, math.inf]
    assert rounded(x, fmt, dtype, overflow="infinity") == [57344, -57344, 57344]
    # By default NaN stands in for the missing infinity, as in OCP's formats.
    assert all(math.isnan(v) for v in rounded(x, fmt, dtype))


def test_gfloat_emax_of_binary64() -> None:
    """gfloat takes a logarithm in floating point of the largest value, which rounds to 1024."""
    assert Format.parse("binary64").emax == 1023
    largest = np.finfo(np.float64).max
    assert rounded([largest, -largest], "binary64") == [largest, -largest]
    assert rounded([largest, math.inf], "e11m51") == [math.inf, math.inf]


# apytypes ---------------------------------------------------------------------------------------


@DTYPES
def test_apytypes_between_the_largest_subnormal_and_min_normal(dtype: Any) -> None:
    """apytypes gave 0 there.

    E4M3: the largest subnormal is 7/8 * 2^-6, min_normal 2^-6; 15/16 * 2^-6 is halfway, and
    min_normal has the even code 8.
    """
    unit = 2.0**-6
    x = [0.875 * unit, 0.9 * unit, 0.9375 * unit, 0.97 * unit, unit]
    want = [0.875 * unit, 0.875 * unit, unit, unit, unit]
    assert rounded(x, "e4m3", dtype) == want
    assert rounded(x, "e4m3", dtype, rounding="toward_zero") == [0.875 * unit] * 4 + [unit]
    assert rounded([-v for v in x], "e4m3", dtype) == [-v for v in want]


# QPyTorch, mptorch ------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("fmt", ["binary16", "e4m3", "float8_e4m3fn", "float8_e5m2fnuz"])
def test_qpytorch_nan_and_infinity_are_no_numbers(dtype: Any, fmt: str) -> None:
    """QPyTorch makes large finite numbers of both."""
    has_infinity = Format.parse(fmt).infinities
    nan, positive, negative = rounded([math.nan, math.inf, -math.inf], fmt, dtype)
    assert math.isnan(nan)
    if has_infinity:
        assert (positive, negative) == (math.inf, -math.inf)
    else:
        assert math.isnan(positive)
        assert math.isnan(negative)


@DTYPES
def test_qpytorch_nearest_even_is_not_nearest_away(dtype: Any) -> None:
    """Its "nearest" takes ties away. 2.5 of E2M1's 2, 3 goes to 2, 3.5 of 3, 4 to 4, 5 to 4."""
    assert rounded([2.5, 3.5, 5, -2.5, 0.25], "float4_e2m1fn", dtype) == [2, 4, 4, -2, 0]


@DTYPES
def test_mptorch_without_subnormals_the_nearest_of_zero_and_min_normal(dtype: Any) -> None:
    """mptorch gives 0 for 0.6 min_normal, which is nearer to min_normal; 0.5 is a tie: to 0."""
    fmt = Format(4, 3, subnormals=False)
    unit = 2.0**-6
    x = [0.4 * unit, 0.5 * unit, 0.6 * unit, 0.99 * unit]
    assert rounded(x, fmt, dtype) == [0, 0, unit, unit]
    assert rounded(x, fmt, dtype, rounding="ties_to_away") == [0, unit, unit, unit]
    assert rounded(x, fmt, dtype, rounding="toward_zero") == [0, 0, 0, 0]
    assert rounded(x, fmt, dtype, rounding="away_from_zero") == [unit] * 4
    assert rounded(-np.array(x), fmt, dtype) == [0, 0, -unit, -unit]


# microxcaling -----------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize(("fmt", "smallest"), [("float4_e2m1fn", 0.5), ("e4m3", 2.0**-9)])
def test_microxcaling_the_number_below_the_smallest_tie(
    dtype: Any, fmt: str, smallest: float
) -> None:
    """floor(|x| + 0.5) takes the number just below 1/2 to 1, for the sum rounds to 1."""
    tie = dtype(smallest / 2)
    below = np.nextafter(tie, dtype(0))
    assert rounded([below, -below], fmt, dtype) == [0, 0]
    assert rounded([below, -below], fmt, dtype, rounding="ties_to_away") == [0, 0]
    assert rounded([tie, -tie], fmt, dtype, rounding="ties_to_away") == [smallest, -smallest]
    above = np.nextafter(tie, dtype(1))
    assert rounded([above, -above], fmt, dtype) == [smallest, -smallest]


# CPFloat ----------------------------------------------------------------------------------------


@DTYPES
def test_cpfloat_precision_and_emax_do_not_define_a_format(dtype: Any) -> None:
    """CPFloat's "E4M3" with emax 8 ends at 480; that of OCP, whose top code is NaN, at 448.

    And with the top binade for infinity and NaN, as in IEEE 754, it ends at 240; with all codes
    numbers at 480.
    """
    largest = {"float8_e4m3": 240, "float8_e4m3fn": 448, "e4m3f": 480, "float8_e4m3fnuz": 240}
    for fmt, value in largest.items():
        assert Format.parse(fmt).max == value
        assert rounded(1e6, fmt, dtype, overflow="saturate") == [value]
    # 464 is halfway from 448 to 480: to 448 (even) in E4M3FN, and more is past the range.
    assert rounded(464, "float8_e4m3fn", dtype) == [448]
    assert math.isnan(rounded(465, "float8_e4m3fn", dtype)[0])
    assert rounded(465, "e4m3f", dtype) == [480]


# numcodecs --------------------------------------------------------------------------------------


@DTYPES
def test_numcodecs_every_nan_stays_nan(dtype: Any) -> None:
    """Adding to the bits of a NaN carries into the sign and makes -0 of it."""
    uint = np.uint32 if dtype is np.float32 else np.uint64
    top = np.array(-1, np.int64).astype(uint)  # all ones: the NaN of largest payload
    infinity = np.array(np.inf, dtype).view(uint)
    sign_bit = uint(1) << uint(8 * np.dtype(dtype).itemsize - 1)
    payloads = np.array(
        [top, top ^ sign_bit, infinity | uint(1), infinity | uint(1) | sign_bit, top - uint(1)],
        uint,
    )
    x = payloads.view(dtype)
    assert np.isnan(x).all()
    for fmt in ("binary16", "bfloat16", "e4m3", "float8_e4m3fn", "float8_e4m3fnuz", "tf32"):
        for rounding in (*MODES, "stochastic"):
            assert np.isnan(fpsim.round(x, fmt, rounding=rounding, rng=1)).all()
            codes = fpsim.encode(x, fmt, rounding=rounding, rng=1)
            assert set(codes.tolist()) == {Format.parse(fmt).nan_code}
