"""Arrays of every shape, layout and dtype in and out, and dense packing.

What a cast does to one element is `test_cast.py`'s. Here every layout is judged by the plain case:
the same values in a contiguous native array of the same dtype.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Format, Stochastic, Stream

RNG = np.random.default_rng(20240)
VALUES = np.concatenate(
    [
        RNG.normal(0, 1, 100) * 2.0 ** RNG.integers(-14, 11, 100),
        [0.0, -0.0, np.inf, -np.inf, np.nan, 448.0, 464.0, 2.0**-10, -(2.0**-10), 1e30],
        RNG.normal(0, 300, 10),
    ]
)
assert VALUES.size == 120
E4M3 = Format.parse("float8_e4m3fn")
STOCHASTIC = Stochastic(bits=8)


def unaligned(x: np.ndarray) -> np.ndarray:
    """A copy that starts one byte off."""
    storage = np.empty(x.nbytes + 1, np.uint8)
    shifted = storage[1:].view(x.dtype).reshape(x.shape)
    shifted[...] = x
    assert not shifted.flags.aligned or x.dtype.itemsize == 1
    return shifted


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def strided(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((*x.shape[:-1], 3 * x.shape[-1]), x.dtype)
    wide[..., 1::3] = x
    return wide[..., 1::3]


def big_endian(x: np.ndarray) -> np.ndarray:
    return x.astype(x.dtype.newbyteorder(">"))


# Arrays that hold the same values in other ways, as (4, 5, 6).
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda x: x,
    "fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0),
    "backwards": lambda x: np.ascontiguousarray(x[::-1, :, ::-1])[::-1, :, ::-1],
    "strided": strided,
    "unaligned": unaligned,
    "unaligned fortran": lambda x: unaligned(x.transpose()).transpose(),
    "read-only": read_only,
    "read-only strided": lambda x: strided(read_only(x)),
    "big-endian": big_endian,
    "big-endian strided": lambda x: strided(big_endian(x)),
    "big-endian unaligned": lambda x: unaligned(big_endian(x)),
    "inner of larger": lambda x: np.pad(x, 1)[1:-1, 1:-1, 1:-1],
}


def same(a: Any, b: Any) -> bool:
    """The same bits, whatever the byte order; all NaN are alike."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.newbyteorder("=") != b.dtype.newbyteorder("=") or a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        nan = np.isnan(a)
        equal = (a == b) & (np.signbit(a) == np.signbit(b))
        return bool(np.array_equal(nan, np.isnan(b)) and equal[~nan].all())
    return bool(np.array_equal(a, b))


@pytest.fixture(params=[np.float32, np.float64])
def plain(request: pytest.FixtureRequest) -> np.ndarray:
    return VALUES.astype(request.param).reshape(4, 5, 6)


# Layouts of the input ---------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_the_input_changes_nothing(plain: np.ndarray, layout: str) -> None:
    x = LAYOUTS[layout](plain)
    assert same(x, plain)
    before = x.tobytes()
    for rounding in ("ties_to_even", STOCHASTIC):
        for function, want in (
            (fpsim.round, fpsim.round(plain, E4M3, rounding=rounding, rng=5)),
            (fpsim.encode, fpsim.encode(plain, E4M3, rounding=rounding, rng=5)),
        ):
            flags, plain_flags = np.empty((2, *plain.shape), np.uint8)
            function(plain, E4M3, rounding=rounding, rng=5, flags=plain_flags)
            got = function(x, E4M3, rounding=rounding, rng=5)
            assert same(got, want)
            assert got.dtype == want.dtype  # native byte order
            assert got.flags.writeable
            assert same(function(x, E4M3, rounding=rounding, rng=5, flags=flags), want)
            assert same(flags, plain_flags)
    assert x.tobytes() == before


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", ["float8_e4m3fn", "binary32"])
def test_layout_of_codes_changes_nothing(layout: str, fmt: str) -> None:
    parsed = Format.parse(fmt)
    codes = RNG.integers(0, 1 << parsed.bits, (4, 5, 6), parsed.code_dtype)
    x = LAYOUTS[layout](codes)
    want = fpsim.decode(codes, fmt)
    assert same(fpsim.decode(x, fmt), want)
    assert same(fpsim.decode(x, fmt, np.float64), want.astype(np.float64))
    assert same(fpsim.pack(x, fmt), fpsim.pack(codes, fmt))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (1, 1, 1, 1), (2, 3, 4, 5)])
def test_shapes(shape: tuple[int, ...]) -> None:
    x = np.resize(VALUES, shape).astype(np.float32)
    flags = np.zeros(shape, np.uint8)
    for rounding in ("to_odd", STOCHASTIC):
        assert fpsim.round(x, E4M3, rounding=rounding, rng=1, flags=flags).shape == shape
        codes = fpsim.encode(x, E4M3, rounding=rounding, rng=1)
        assert codes.shape == shape
        assert fpsim.decode(codes, E4M3).shape == shape
    assert fpsim.unpack(fpsim.pack(codes, E4M3), E4M3, x.size).shape == (x.size,)


def test_broadcast_input() -> None:
    row = np.array([0.3, -1.06, 500.0], np.float32)
    x = np.broadcast_to(row, (50, 3))
    assert x.strides[0] == 0
    assert same(fpsim.round(x, E4M3), np.tile(fpsim.round(row, E4M3), (50, 1)))
    assert same(fpsim.encode(x, E4M3), np.tile(fpsim.encode(row, E4M3), (50, 1)))
    # Each element has its own random bits, although all are one in memory.
    x = np.broadcast_to(np.float32(1.0625), (4000,))  # a half of the gap between 1 and 1.125
    share = np.mean(fpsim.round(x, E4M3, rounding="stochastic", rng=1) == 1.125)
    assert 0.45 < share < 0.55


def test_subclasses_come_back_as_plain_arrays() -> None:
    class Tagged(np.ndarray):
        pass

    x = VALUES.view(Tagged)
    assert type(fpsim.round(x, E4M3)) is np.ndarray
    assert same(fpsim.round(x, E4M3), fpsim.round(VALUES, E4M3))


def test_memory_mapped_input(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", VALUES)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert same(fpsim.round(x, E4M3), fpsim.round(VALUES, E4M3))


# dtypes of the input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [
        np.float16,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e8m0fnu,
        ml_dtypes.float6_e2m3fn,
        ml_dtypes.float4_e2m1fn,
    ],
)
@np.errstate(invalid="ignore")  # signalling NaN are among them
def test_every_code_of_a_narrow_dtype(dtype: Any) -> None:
    """Values are those of the dtype, and the result comes in it where it can."""
    source = Format.parse(dtype)
    codes = np.arange(1 << source.bits, dtype=f"u{np.dtype(dtype).itemsize}")
    x = codes.view(dtype)
    wide = x.astype(np.float64)
    if np.isnan(wide).any():
        wide = np.where(np.isnan(wide), np.nan, wide)
    assert same(fpsim.encode(x, "float8_e4m3fn"), fpsim.encode(wide, "float8_e4m3fn"))
    own = fpsim.round(x, source)
    assert own.dtype == np.dtype(dtype)
    assert same(own.astype(np.float64), wide)
    if source.contains(Format.parse("float4_e2m1fn")):
        number = ~np.isnan(wide)
        got = fpsim.round(x[number], "float4_e2m1fn")
        assert got.dtype == np.dtype(dtype)
        want = fpsim.round(wide[number], "float4_e2m1fn")
        if not source.has_negative_zero:
            want += 0.0  # what the dtype cannot say
        assert same(got.astype(np.float64), want)


@np.errstate(over="ignore")
def test_narrow_dtypes_in_odd_layouts() -> None:
    x = VALUES.astype(np.float16).reshape(10, 12)
    want = fpsim.round(x, E4M3)
    assert want.dtype == np.float16
    for odd in (x.T.copy().T, big_endian(x), strided(x), unaligned(x), read_only(x)):
        assert same(fpsim.round(odd, E4M3), want)
    b = VALUES.astype(ml_dtypes.bfloat16).reshape(10, 12)
    want = fpsim.round(b, "float8_e5m2")
    for odd in (b.T.copy().T, strided(b), read_only(b), b[::-1][::-1]):
        assert same(fpsim.round(odd, "float8_e5m2").astype(float), want.astype(float))


def test_bfloat16_rounds_once() -> None:
    # 1 + 2^-3 + 2^-7 is a bfloat16 just above the middle between 1 and 1.25 of e5m2.
    x = np.array([1 + 2**-3 + 2**-7, 1 + 2**-3], ml_dtypes.bfloat16)
    assert fpsim.round(x, "float8_e5m2").astype(float).tolist() == [1.25, 1.0]


@pytest.mark.parametrize("name", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u2"])
def test_integers(name: str) -> None:
    dtype = np.dtype(name)
    info = np.iinfo(dtype)
    bound = min(info.max, 2**53)
    x = np.array([0, 1, 7, 100, bound, max(info.min, -(2**53))], dtype)
    got = fpsim.round(x, "bfloat16")
    assert got.dtype == np.float64
    assert same(got, fpsim.round(x.astype(np.float64), "bfloat16"))
    assert same(fpsim.encode(x, "bfloat16"), fpsim.encode(x.astype(np.float64), "bfloat16"))


def test_what_else_is_taken() -> None:
    assert same(fpsim.round([True, False], E4M3), np.array([1.0, 0.0]))
    assert same(fpsim.round([[1, 2.3], [-7, 0]], E4M3), np.array([[1, 2.25], [-7, 0.0]]))
    assert same(fpsim.round((0.3, 17), E4M3), np.array([0.3125, 16.0]))
    assert same(fpsim.round([], E4M3), np.array([], np.float64))
    assert same(fpsim.encode([], E4M3), np.array([], np.uint8))
    assert same(fpsim.decode([], E4M3), np.array([], np.float32))
    assert same(fpsim.pack([], E4M3), np.array([], np.uint8))

    class Array:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.array([0.3, 17.0], np.float32)

    assert same(fpsim.round(Array(), E4M3), np.array([0.3125, 16.0], np.float32))
    assert same(fpsim.round(memoryview(np.array([0.3])), E4M3), np.array([0.3125]))


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (0.3, np.float64),
        (3, np.float64),
        (True, np.float64),
        (np.float32(0.3), np.float32),
        (np.float16(0.3), np.float16),
        (np.int8(3), np.float64),
        (np.array(0.3, np.float32), np.float32),
        (np.array(0.3, ">f4"), np.float32),
        (ml_dtypes.bfloat16(0.3), ml_dtypes.bfloat16),
    ],
)
def test_scalars_give_scalars(x: Any, dtype: Any) -> None:
    value, code = fpsim.round(x, E4M3), fpsim.encode(x, E4M3)
    assert not isinstance(value, np.ndarray)
    assert np.asarray(value).dtype == np.dtype(dtype)
    assert isinstance(code, np.uint8)
    # 0.3 lies between 0.28125 and 0.3125 (steps of 2^-5), nearer to the latter.
    assert float(value) == (0.3125 if float(x) < 1 else float(x))
    decoded = fpsim.decode(code, E4M3)
    assert isinstance(decoded, np.float32)
    assert float(decoded) == float(value)


# out --------------------------------------------------------------------------------------------

OUTS: dict[str, Callable[[tuple[int, ...], Any], np.ndarray]] = {
    "contiguous": lambda shape, dtype: np.empty(shape, dtype),
    "fortran": lambda shape, dtype: np.empty(shape, dtype, order="F"),
    "transposed": lambda shape, dtype: np.empty((6, 4, 5), dtype).transpose(1, 2, 0),
    "strided": lambda shape, dtype: np.empty((4, 5, 18), dtype)[..., 1::3],
    "backwards": lambda shape, dtype: np.empty(shape, dtype)[::-1, :, ::-1],
    "unaligned": lambda shape, dtype: unaligned(np.empty(shape, dtype)),
}


@pytest.mark.parametrize("layout", ["contiguous", "fortran", "strided", "big-endian", "unaligned"])
@pytest.mark.parametrize("out_layout", OUTS)
def test_out_and_flags_of_any_layout(plain: np.ndarray, layout: str, out_layout: str) -> None:
    x = LAYOUTS[layout](plain)
    for rounding in ("ties_to_even", STOCHASTIC):
        for function in (fpsim.round, fpsim.encode):
            options: dict[str, Any] = {"rounding": rounding, "rng": 9}
            want_flags = np.empty(plain.shape, np.uint8)
            want = function(plain, E4M3, flags=want_flags, **options)
            out = OUTS[out_layout](x.shape, want.dtype)
            assert function(x, E4M3, out=out, **options) is out
            assert same(out, want)
            for flags_layout in OUTS.values():
                out[...] = 99
                flags = flags_layout(x.shape, np.uint8)
                function(x, E4M3, out=out, flags=flags, **options)
                assert same(out, want)
                assert same(flags, want_flags)


@pytest.mark.parametrize("layout", ["contiguous", "fortran", "strided", "backwards", "unaligned"])
def test_in_place(plain: np.ndarray, layout: str) -> None:
    for rounding in ("ties_to_even", STOCHASTIC):
        x = LAYOUTS[layout](plain.copy())
        want = fpsim.round(plain, E4M3, rounding=rounding, rng=2)
        assert fpsim.round(x, E4M3, rounding=rounding, rng=2, out=x) is x
        assert same(x, want)


def test_in_place_in_the_other_byte_order_is_refused_or_right() -> None:
    x = big_endian(VALUES)
    want = fpsim.round(VALUES, E4M3)
    try:
        fpsim.round(x, E4M3, out=x)
    except TypeError as error:
        assert "out has dtype >f8" in str(error)  # noqa: PT017 - either is right
        assert same(x, VALUES)
    else:
        assert same(x, want)


@pytest.mark.parametrize("size", [10, 5000, 300_000])
@pytest.mark.parametrize("rounding", ["ties_to_even", STOCHASTIC])
def test_out_overlaps_the_input(size: int, rounding: Any) -> None:
    values = np.resize(VALUES, size).astype(np.float32)
    pairs: list[Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = [
        lambda a: (a[1:], a[:-1]),
        lambda a: (a[:-1], a[1:]),
        lambda a: (a, a[::-1]),
        lambda a: (a[::2][: size // 2 - 1], a[1 : size // 2]),
        lambda a: (a[: size // 10 * 10].reshape(10, -1).T, a[: size // 10 * 10].reshape(-1, 10)),
    ]
    for pair in pairs:
        memory = values.copy()
        x, out = pair(memory)
        want = fpsim.round(x.copy(), E4M3, rounding=rounding, rng=3)
        fpsim.round(x, E4M3, rounding=rounding, rng=3, out=out)
        assert same(out, want)


def test_codes_over_the_memory_of_the_input() -> None:
    values = np.resize(VALUES, 10_000)
    want = fpsim.encode(values, E4M3)
    for start in (0, 10_000, 8 * 10_000 - 10_000):
        memory = values.copy()
        out = memory.view(np.uint8)[start : start + 10_000]
        fpsim.encode(memory, E4M3, out=out)
        assert same(out, want)


def test_flags_over_the_memory_of_the_input() -> None:
    """Both are read and written element by element: overlapping must not mix them up."""
    x = np.arange(200, dtype=np.uint8)
    want, want_flags = fpsim.round(x, "float4_e2m1fn"), np.empty(200, np.uint8)
    fpsim.round(x, "float4_e2m1fn", flags=want_flags)
    memory = x.copy()
    got = fpsim.round(memory, "float4_e2m1fn", flags=memory[::-1])
    assert same(got, want)
    assert same(memory[::-1], want_flags)


def test_random_bits_over_the_memory_of_out() -> None:
    x = np.resize(VALUES, 1000)
    bits = RNG.integers(0, 256, 1000).astype(np.uint8)
    want = fpsim.encode(x, E4M3, rounding=STOCHASTIC, random_bits=bits.copy())
    fpsim.encode(x, E4M3, rounding=STOCHASTIC, random_bits=bits, out=bits)
    assert same(bits, want)


def test_random_bits_of_any_layout() -> None:
    x = VALUES.reshape(4, 5, 6)
    bits = RNG.integers(0, 256, (4, 5, 6))
    want = fpsim.round(x, E4M3, rounding=STOCHASTIC, random_bits=bits)
    for layout in LAYOUTS.values():
        assert same(fpsim.round(x, E4M3, rounding=STOCHASTIC, random_bits=layout(bits)), want)
    for dtype in (np.uint8, np.int16, np.uint64):
        got = fpsim.round(x, E4M3, rounding=STOCHASTIC, random_bits=bits.astype(dtype))
        assert same(got, want)
    assert same(fpsim.round(x, E4M3, rounding=STOCHASTIC, random_bits=bits.tolist()), want)
    row = bits[0, 0]
    want = fpsim.round(x, E4M3, rounding=STOCHASTIC, random_bits=np.tile(row, (4, 5, 1)))
    assert same(fpsim.round(x, E4M3, rounding=STOCHASTIC, random_bits=row), want)
    assert fpsim.round([], E4M3, rounding=STOCHASTIC, random_bits=[]).size == 0


# Large arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_chunks_on_several_threads_are_as_one_small_chunk_each(threads: int) -> None:
    size = 1_000_003  # several times what a thread takes at a time, and no multiple of anything
    x = np.resize(VALUES, size).astype(np.float32) * np.float32(1.01)
    before = fpsim.get_num_threads()
    try:
        fpsim.set_num_threads(threads)
        flags = np.empty(size, np.uint8)
        values, codes = fpsim.round(x, E4M3, flags=flags), fpsim.encode(x, E4M3)
        backwards = fpsim.round(x[::-1], E4M3)
        drawn = fpsim.encode(x, E4M3, rounding="stochastic", rng=8)
        decoded = fpsim.decode(codes, E4M3)
    finally:
        fpsim.set_num_threads(before)
    step = 4321
    part_flags = np.empty(step, np.uint8)
    for start in range(0, size, step):
        part = x[start : start + step].copy()
        mine = part_flags[: part.size]
        assert same(fpsim.round(part, E4M3, flags=mine), values[start : start + step])
        assert same(mine, flags[start : start + step])
        want = fpsim.encode(part, E4M3, rounding="stochastic", rng=Stream(8, start))
        assert same(want, drawn[start : start + step])
    assert same(backwards, values[::-1])
    assert same(fpsim.encode(values, E4M3)[~np.isnan(values)], codes[~np.isnan(values)])
    assert same(decoded, values)


# decode -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">u2", ">i4"])
def test_codes_in_any_integer_dtype(dtype: str) -> None:
    codes = np.arange(0, 100)
    for fmt in ("float8_e4m3fn", "e5m2", "binary16", "binary32"):
        want = fpsim.decode(codes.astype(Format.parse(fmt).code_dtype), fmt)
        assert same(fpsim.decode(codes.astype(dtype), fmt), want)
    assert same(fpsim.pack(codes.astype(dtype), "e4m3"), codes.astype(np.uint8))


def test_dtype_of_decoded_values() -> None:
    assert fpsim.decode([1], E4M3).dtype == np.float32
    assert fpsim.decode([1], "binary32").dtype == np.float32
    assert fpsim.decode([1], "binary64").dtype == np.float64
    assert fpsim.decode([1], "e4m3b200").dtype == np.float64  # below float32's range
    assert fpsim.decode([1], "e8m24").dtype == np.float64
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ml_dtypes.float8_e4m3fn):
        codes = np.arange(256, dtype=np.uint8)
        decoded = fpsim.decode(codes, E4M3, dtype)
        assert decoded.dtype == np.dtype(dtype)
        want = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
        number = ~np.isnan(want)
        assert np.array_equal(decoded.astype(np.float64)[number], want[number])
        assert np.isnan(decoded.astype(np.float64)[~number]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wide_formats_decode_to_the_float_of_the_same_bits(dtype: Any) -> None:
    bits = 8 * np.dtype(dtype).itemsize
    codes = RNG.integers(0, 1 << bits, 100_000, f"u{bits // 8}", endpoint=False)
    codes[:4] = 0, 1, 1 << (bits - 1), (1 << (bits - 1)) + 1
    assert same(fpsim.decode(codes, f"binary{bits}"), codes.view(dtype))
    number = ~np.isnan(codes.view(dtype))
    assert same(fpsim.encode(codes.view(dtype), f"binary{bits}")[number], codes[number])
    assert same(fpsim.round(codes.view(dtype), f"binary{bits}"), codes.view(dtype))


# pack and unpack --------------------------------------------------------------------------------


def packed_by_hand(codes: list[int], bits: int) -> bytes:
    """One long string of bits, the last code's first: little-endian read as one integer."""
    text = "".join(f"{code:0{bits}b}" for code in reversed(codes))
    return int(text or "0", 2).to_bytes(-(-len(codes) * bits // 8), "little")


def format_of(bits: int) -> Format:
    exponent_bits = max(1, min(11, bits - 2), bits - 53)
    return Format(exponent_bits, bits - 1 - exponent_bits, nans="none", infinities=False)


@pytest.mark.parametrize("bits", range(2, 65))
def test_packing_every_width(bits: int) -> None:
    fmt = format_of(bits)
    assert fmt.bits == bits
    rng = np.random.default_rng(bits)
    for count in (0, 1, 2, 7, 8, 9, 67):
        codes = rng.integers(0, 1 << bits, count, np.uint64)
        codes[-2:] = (1 << bits) - 1
        codes = codes.astype(fmt.code_dtype)
        packed = fpsim.pack(codes, fmt)
        assert packed.dtype == np.uint8
        assert packed.tobytes() == packed_by_hand([int(c) for c in codes], bits)
        for buffer in (packed, packed.tobytes(), bytearray(packed), memoryview(packed)):
            assert same(fpsim.unpack(buffer, fmt, count), codes)


def test_packing_one_bit() -> None:
    fmt = Format(1, 0, signed=False, nans="none", infinities=False)
    assert fmt.bits == 1
    codes = np.array([1, 0, 1, 1, 0, 0, 0, 0, 1], np.uint8)
    assert fpsim.pack(codes, fmt).tolist() == [0b00001101, 1]
    assert same(fpsim.unpack(b"\x0d\x01", fmt, 9), codes)


@pytest.mark.parametrize("bits", [3, 5, 8, 13, 31, 64])
def test_packing_more_codes_than_go_in_one_piece(bits: int) -> None:
    fmt = format_of(bits)
    codes = RNG.integers(0, 1 << bits, 40_001, np.uint64).astype(fmt.code_dtype)
    packed = fpsim.pack(codes, fmt)
    assert packed.tobytes() == packed_by_hand([int(c) for c in codes], bits)
    assert same(fpsim.unpack(packed, fmt, codes.size), codes)
    assert same(fpsim.unpack(packed, fmt, 20_003), codes[:20_003])


def test_unpacking_odd_buffers() -> None:
    codes = np.arange(16, dtype=np.uint8)
    packed = fpsim.pack(codes, "float4_e2m1fn")
    spread = np.zeros(16, np.uint8)
    spread[::2] = packed
    longer = np.append(packed, np.uint8(255))
    for buffer in (spread[::2], packed.reshape(2, 4), longer, read_only(packed)):
        assert same(fpsim.unpack(buffer, "float4_e2m1fn", 16), codes)
    odd = np.append(np.uint8(0), fpsim.pack(np.arange(5, dtype=np.uint32), "binary32"))[1:]
    assert same(fpsim.unpack(odd, "binary32", 5), np.arange(5, dtype=np.uint32))


@pytest.mark.parametrize("fmt", ["float4_e2m1fn", "e4m3", "binary16", "binary32", "binary64"])
def test_packed_and_unpacked_arrays_are_the_callers_own(fmt: str) -> None:
    codes = np.arange(8, dtype=Format.parse(fmt).code_dtype)
    packed = fpsim.pack(codes, fmt)
    assert not np.shares_memory(packed, codes)
    assert packed.flags.writeable
    for buffer in (packed, packed.tobytes()):
        unpacked = fpsim.unpack(buffer, fmt, 8)
        assert not np.shares_memory(unpacked, packed)
        assert unpacked.flags.writeable


@given(
    data=st.data(),
    bits=st.integers(3, 64),
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_packing_round_trip(data: st.DataObject, bits: int, shape: list[int]) -> None:
    fmt = format_of(bits)
    size = int(np.prod(shape))
    drawn = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=size, max_size=size))
    codes = np.array(drawn, fmt.code_dtype).reshape(shape)
    packed = fpsim.pack(codes.T, fmt)  # in C order of the transposed
    assert packed.tobytes() == packed_by_hand([int(c) for c in codes.T.ravel()], bits)
    assert same(fpsim.unpack(packed, fmt, size), codes.T.ravel())


# Memory -----------------------------------------------------------------------------------------

MIB = 1 << 20


def extra_memory(call: Callable[[], Any]) -> int:
    call()  # compiled, and pools and caches filled
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        _, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("rounding", ["ties_to_even", STOCHASTIC])
def test_memory_beside_the_output(rounding: Any) -> None:
    size = 1 << 24
    x = np.resize(VALUES.astype(np.float32), size)
    options: dict[str, Any] = {"rounding": rounding, "rng": 1}
    out, flags = np.empty(size, np.uint8), np.empty(size, np.uint8)
    limit = 8 * MIB
    assert extra_memory(lambda: fpsim.round(x, E4M3, **options)) < 4 * size + limit
    assert extra_memory(lambda: fpsim.encode(x, E4M3, **options)) < size + limit
    assert extra_memory(lambda: fpsim.encode(x, E4M3, out=out, flags=flags, **options)) < limit
    assert extra_memory(lambda: fpsim.decode(out, E4M3)) < 4 * size + limit
    square = x.reshape(4096, 4096)
    assert extra_memory(lambda: fpsim.encode(square.T, E4M3, **options)) < size + limit
    assert extra_memory(lambda: fpsim.encode(square[:, ::-1], E4M3, **options)) < size + limit
    assert extra_memory(lambda: fpsim.round(x, E4M3, out=x, **options)) < limit
    half = x[: size // 2].astype(np.float16)
    assert extra_memory(lambda: fpsim.round(half, E4M3, **options)) < 2 * half.size + limit
    assert extra_memory(lambda: fpsim.round(half, E4M3, out=half, **options)) < limit
    assert extra_memory(lambda: fpsim.Sketch.of(x)) < 2 * limit
    assert extra_memory(lambda: fpsim.measured_error(x, E4M3, overflow="saturate")) < limit


def test_memory_of_packing() -> None:
    size = 1 << 22
    codes = np.resize(np.arange(16, dtype=np.uint8), size)
    assert extra_memory(lambda: fpsim.pack(codes, "float4_e2m1fn")) < size // 2 + 8 * MIB
    packed = fpsim.pack(codes, "float4_e2m1fn")
    assert extra_memory(lambda: fpsim.unpack(packed, "float4_e2m1fn", size)) < size + 8 * MIB
