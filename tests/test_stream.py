"""Stream: the published generator, its layout, and what stochastic rounding makes of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Stochastic, Stream
from fpsim.analysis.measure import measured_summary

MASK = (1 << 32) - 1


def philox4x32(
    counter: tuple[int, int, int, int], key: tuple[int, int], rounds: int
) -> tuple[int, int, int, int]:
    """Philox4x32 as its authors define it (Salmon et al., SC 2011, and Random123)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        first, second = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            (second >> 32) ^ c1 ^ k0,
            second & MASK,
            (first >> 32) ^ c3 ^ k1,
            first & MASK,
        )
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


# Random123's kat_vectors: rounds, counter, key, result.
KNOWN_ANSWERS = [
    (7, "00000000 00000000 00000000 00000000", "00000000 00000000", "5f6fb709 0d893f64 4f121f81 4f730a48"),  # noqa: E501 - as published
    (7, "ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "5207ddc2 45165e59 4d8ee751 8c52f662"),  # noqa: E501
    (7, "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "4dfccaba 190a87f0 c47362ba b6b5242a"),  # noqa: E501
    (10, "00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),  # noqa: E501
    (10, "ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),  # noqa: E501
    (10, "243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),  # noqa: E501
]  # fmt: skip


def words_by_hand(seed: int, offset: int, size: int) -> list[int]:
    """What the docstring of `Stream` says."""
    key = seed & MASK, seed >> 32
    words = []
    for i in range(offset, offset + size):
        block = (i % (1 << 64)) // 4
        halves = [
            philox4x32((block & MASK, block >> 32, half, 0), key, 7)[i % 4] for half in (0, 1)
        ]
        words.append(halves[0] << 32 | halves[1])
    return words


# The generator ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rounds", "counter", "key", "result"), KNOWN_ANSWERS)
def test_the_generator_of_this_file_by_known_answers(
    rounds: int, counter: str, key: str, result: str
) -> None:
    numbers = [tuple(int(word, 16) for word in text.split()) for text in (counter, key, result)]
    assert philox4x32(numbers[0], numbers[1], rounds) == numbers[2]  # type: ignore[arg-type]


def test_the_first_word_by_known_answer() -> None:
    """Counter 0, key 0: the upper half of word i < 4 is word i of the published block."""
    upper = Stream(0).words(4) >> np.uint64(32)
    assert [f"{word:08x}" for word in upper] == ["5f6fb709", "0d893f64", "4f121f81", "4f730a48"]


@pytest.mark.parametrize(
    ("seed", "offset"),
    [(0, 0), (1, 0), (2**64 - 1, 0), (0x299F31D0A4093822, 3), (5, 2**34 - 2), (5, 2**63 + 1)],
)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 67])
def test_words(seed: int, offset: int, size: int) -> None:
    words = Stream(seed, offset).words(size)
    assert words.dtype == np.uint64
    assert words.tolist() == words_by_hand(seed, offset, size)


def test_words_past_the_end_start_anew() -> None:
    words = Stream(3, 2**64 - 5).words(9).tolist()
    assert words == words_by_hand(3, 2**64 - 5, 5) + words_by_hand(3, 0, 4)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 100), st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_any_words(seed: int, offset: int, size: int) -> None:
    assert Stream(seed, offset).words(size).tolist() == words_by_hand(seed, offset, size)


def test_words_at_a_distance() -> None:
    """Across tiles and chunks: any window of a long stream."""
    words = Stream(9).words(400_000)
    for offset in (1, 4095, 4096, 4097, 131_071, 131_073, 262_143, 399_990):
        assert words[offset : offset + 10].tolist() == words_by_hand(9, offset, 10)
        assert np.array_equal(Stream(9, offset).words(399_999 - offset), words[offset:-1])


# Parts of arrays ----------------------------------------------------------------------------------


@st.composite
def parts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    """A shape, and a part of it in slices of every kind."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    ends = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
    kinds = [
        draw(
            st.sampled_from(
                [slice(a, b), slice(a, b, 1), slice(a - n, b) if a < n else slice(a, b)]
            )
        )
        for (a, b), n in zip(ends, shape, strict=True)
    ]
    return shape, tuple(draw(st.sampled_from([kind, slice(None)])) for kind in kinds)


@given(parts(), st.sampled_from([0, 3, 2**64 - 7]))
@settings(max_examples=300, deadline=None)
def test_words_of_parts(part: tuple[tuple[int, ...], tuple[slice, ...]], offset: int) -> None:
    """Those that their elements have in the whole."""
    shape, where = part
    size = int(np.prod(shape))
    whole = np.array([*words_by_hand(11, offset, size)], np.uint64).reshape(shape)[where]
    stream = Stream(11, offset).part(shape, where)
    assert stream.words(whole.size).tolist() == whole.ravel().tolist()
    assert [int(stream.word_of(i)) for i in range(whole.size)] == [
        (offset + int(i)) % 2**64 for i in np.arange(size).reshape(shape)[where].flat
    ]


@pytest.mark.parametrize(
    ("shape", "where", "stretch"),
    [
        ((), (), None),
        ((9,), np.s_[2:7,], None),
        ((8, 9), np.s_[2:7, :], None),
        ((8, 9), np.s_[2:3, 4:6], None),
        ((8, 9), np.s_[2:7, 4:6], 2),
        ((8, 9), np.s_[:, 4:5], 1),
        ((5, 8, 9), np.s_[1:3, :, :], None),
        ((5, 8, 9), np.s_[1:3, 2:8, :], 54),
        ((5, 8, 9), np.s_[1:3, :, 2:8], 6),
        ((5, 8, 9), np.s_[2:3, 2:8, :], None),
        ((5, 1, 9), np.s_[1:3, :, :], None),
        ((5, 8, 9), np.s_[1:1, 2:4, 2:8], None),
    ],
)
def test_stretches_are_as_long_as_can_be(shape: Any, where: Any, stretch: int | None) -> None:
    assert Stream(1).part(shape, where).stretch == stretch


def of_all_kinds(x: Any, rng: Any) -> list[np.ndarray]:
    """Results of everything that takes the stream of a part."""
    a, b = np.empty(x.shape, np.uint8), np.empty(x.shape, np.uint8)
    return [
        fpsim.round(x, "e4m3", rounding="stochastic", rng=rng, flags=a),
        fpsim.encode(x, "e3m2", rounding=Stochastic(32, "C"), rng=rng, flags=b),
        fpsim.multiply(x, x, "e4m3", rounding=Stochastic(7), rng=rng),
        fpsim.luq(x, rng=rng, maximum=4.0, samples=2),
        fpsim.prune(x, 0.7, rng=rng),
        fpsim.dither(x, 0.3, rng),
        a,
        b,
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(40, 50), (7, 11, 13), (3000, 300)])
def test_parts_get_the_bits_of_the_whole(shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    whole = of_all_kinds(x, Stream(5, 2**64 - 200))
    for where in (
        tuple(slice(n // 3, n // 2 + 1) for n in shape),
        (*[slice(None)] * (x.ndim - 1), slice(2, None)),
        (slice(1, None), *[slice(None)] * (x.ndim - 1)),
    ):
        stream = Stream(5, 2**64 - 200).part(shape, where)
        for part in (x[where], x[where].copy(), np.asfortranarray(x[where])):
            for got, want in zip(of_all_kinds(part, stream), whole, strict=True):
                assert np.array_equal(got, want[where])
    error = measured_summary(x[where], "e4m3", rounding="stochastic", rng=stream)
    rounded = fpsim.round(
        x.astype(np.float64), "e4m3", rounding="stochastic", rng=Stream(5, 2**64 - 200)
    )
    lost = np.abs(rounded - x)[where] / np.abs(x[where])
    assert error.relative == pytest.approx(lost.mean(), rel=1e-9)


def test_a_part_serves_its_own_shape_alone() -> None:
    part = Stream(1).part((8, 9), np.s_[:, 2:4])
    with pytest.raises(ValueError, match=r"rng.*shape \(8, 2\).*\(2, 8\)"):
        fpsim.round(np.ones((2, 8)), "e4m3", rounding="stochastic", rng=part)
    for call in (
        lambda: fpsim.nm_sparsify(np.ones((8, 2)), 1, 2, rng=part),
        lambda: fpsim.matmul(
            np.ones((8, 2)), np.ones((2, 2)), fpsim.Accumulator("e4m3", "stochastic"), rng=part
        ),
        lambda: fpsim.result(rounding="stochastic", rng=part).__enter__(),
        lambda: part.part((8, 2), np.s_[:, :1]),
    ):
        with pytest.raises(ValueError, match="part"):
            call()


# Stochastic rounding uses these words -----------------------------------------------------------


def data(size: int, dtype: Any = np.float32) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=size) * 2.0 ** rng.integers(-16, 9, size)
    x[::17] = 0
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bits", [None, 1, 3, 8, 16, 31, 32])
@pytest.mark.parametrize("variant", "ABC")
def test_seed_or_its_words(dtype: Any, bits: int | None, variant: str) -> None:
    if bits is None and variant != "A":
        return
    rounding = Stochastic(bits, variant)
    x = data(10_000, dtype)
    for offset in (0, 3):
        words = Stream(77, offset).words(x.size) >> np.uint64(64 - (bits or 64))
        for function in (fpsim.round, fpsim.encode):
            flags, given_flags = np.empty((2, x.size), np.uint8)
            drawn = function(
                x, "float8_e4m3fn", rounding=rounding, rng=Stream(77, offset), flags=flags
            )
            given_ = function(
                x, "float8_e4m3fn", rounding=rounding, random_bits=words, flags=given_flags
            )
            assert drawn.tobytes() == given_.tobytes()
            assert flags.tobytes() == given_flags.tobytes()


@pytest.mark.parametrize("rounding", [Stochastic(), Stochastic(8), Stochastic(32, "C")])
def test_same_bits_for_float32_and_float64(rounding: Stochastic) -> None:
    x = data(50_000)
    for fmt in ("float8_e4m3fn", "e5m2", "binary16", "float4_e2m1fn"):
        narrow = fpsim.encode(x, fmt, rounding=rounding, rng=5)
        wide = fpsim.encode(x.astype(np.float64), fmt, rounding=rounding, rng=5)
        assert np.array_equal(narrow, wide)
        assert np.array_equal(
            fpsim.round(x, fmt, rounding=rounding, rng=5), fpsim.decode(narrow, fmt), equal_nan=True
        )


@pytest.mark.parametrize("rounding", [Stochastic(), Stochastic(8, "B")])
def test_same_bits_for_any_threads_split_and_order(rounding: Stochastic) -> None:
    x = data(600_000).reshape(600, 1000)
    want = fpsim.encode(x, "e4m3", rounding=rounding, rng=5)
    before = fpsim.get_num_threads()
    try:
        for threads in (1, 2, 5):
            fpsim.set_num_threads(threads)
            assert np.array_equal(fpsim.encode(x, "e4m3", rounding=rounding, rng=5), want)
    finally:
        fpsim.set_num_threads(before)
    for other in (np.asfortranarray(x), np.ascontiguousarray(x.T).T, x[:, :].copy()[::1]):
        assert np.array_equal(fpsim.encode(other, "e4m3", rounding=rounding, rng=5), want)
    flat = x.ravel()
    for cuts in ([1], [3, 4097], [131_071, 131_073, 500_001]):
        parts = np.split(flat, cuts)
        offsets = [0, *cuts]
        got = [
            fpsim.encode(part, "e4m3", rounding=rounding, rng=Stream(5, offset))
            for part, offset in zip(parts, offsets, strict=True)
        ]
        assert np.array_equal(np.concatenate(got), want.ravel())
    # The place of an element in C order decides, wherever it lies in memory.
    assert np.array_equal(
        fpsim.encode(x.T, "e4m3", rounding=rounding, rng=5).ravel(),
        fpsim.encode(x.T.copy(), "e4m3", rounding=rounding, rng=5).ravel(),
    )


def test_the_offset_goes_round() -> None:
    x = data(100)
    want = fpsim.encode(x[60:], "e4m3", rounding="stochastic", rng=Stream(5, 0))
    got = fpsim.encode(x, "e4m3", rounding="stochastic", rng=Stream(5, 2**64 - 60))
    assert np.array_equal(got[60:], want)


# Where the seed comes from ----------------------------------------------------------------------


def test_seeds_of_all_kinds() -> None:
    x = data(1000)

    def cast(rng: Any) -> bytes:
        return fpsim.encode(x, "e4m3", rounding="stochastic", rng=rng).tobytes()

    assert cast(5) == cast(5) == cast(np.int64(5)) == cast(np.uint8(5)) == cast(Stream(5))
    assert cast(5) != cast(6)
    assert cast(0) != cast(2**64 - 1)
    # A generator gives one draw a call: the same from the same state, another from the next.
    one, two = np.random.default_rng(1), np.random.default_rng(1)
    first = cast(one)
    assert first == cast(two)
    assert cast(one) != first
    legacy = np.random.RandomState(1)
    assert cast(legacy) == cast(np.random.RandomState(1))
    # None: fresh every time.
    assert len({cast(None) for _ in range(5)}) == 5
    # A Stream is a place, not a state: using it does not move it.
    stream = Stream(5, 10)
    assert cast(stream) == cast(stream) == cast(Stream(5, 10))


def test_a_generator_is_drawn_from_once() -> None:
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    assert Stream.of(rng) == Stream(int(twin.integers(1 << 64, dtype=np.uint64)))
    assert rng.random() == twin.random()


def test_deterministic_modes_draw_nothing() -> None:
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    fpsim.round(data(100), "e4m3", rng=rng)
    assert rng.random() == twin.random()


def test_is_a_value() -> None:
    assert Stream(5) == Stream(5, 0)
    assert hash(Stream(5)) == hash(Stream(np.int64(5), np.int64(0)))  # type: ignore[arg-type]
    assert Stream(5) != Stream(5, 1)
    assert type(Stream(np.uint64(5)).seed) is int  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Stream(5).seed = 6  # type: ignore[misc]


# Statistics -------------------------------------------------------------------------------------

DRAWS = 10_000_000


@pytest.mark.parametrize(
    ("x", "low", "high"),
    [
        # E4M3: steps of 1/8 in [1, 2), of 2^-9 below 2^-6; min_subnormal 2^-9.
        (1.0 + 0.3 / 8, 1.0, 1.125),
        (-(1.0 + 0.9 / 8), -1.0, -1.125),
        (2.0**-9 * 3.25, 2.0**-9 * 3, 2.0**-9 * 4),
        (2.0**-9 * 0.001, 0.0, 2.0**-9),
        (2.0**-26, 0.0, 2.0**-9),
        (2.0**-9 * 0.99999, 0.0, 2.0**-9),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unbiased(x: float, low: float, high: float, dtype: Any) -> None:
    """The frequency of going up is the fraction, within five standard errors of 10^7 draws."""
    array = np.broadcast_to(dtype(x), (DRAWS,))
    up = 0
    step = DRAWS // 10
    for i in range(10):
        part = array[i * step : (i + 1) * step]
        values = fpsim.round(part, "e4m3", rounding="stochastic", rng=Stream(2024, i * step))
        ups = int(np.count_nonzero(values == high))
        assert ups + int(np.count_nonzero(values == low)) == step
        up += ups
    fraction = (float(dtype(x)) - low) / (high - low)
    error = max(np.sqrt(fraction * (1 - fraction) / DRAWS), 1 / DRAWS)
    assert abs(up / DRAWS - fraction) < 5 * error


@pytest.mark.parametrize("variant", "ABC")
@pytest.mark.parametrize("bits", [1, 4])
def test_few_bits_round_up_as_often_as_their_rule_says(variant: str, bits: int) -> None:
    """By counting the integers R that go up, from P3109's rules; mean over 10^6 draws."""
    size = 1_000_000
    fraction = 0.3  # of the gap from 1 to 1.125
    whole = 1 << bits
    nu = ((1 + fraction / 8) - 1) * 8  # as the float has it
    if variant == "A":
        ups = sum(int(nu * whole) + r >= whole for r in range(whole))
    elif variant == "B":
        ups = sum(int(nu * 2 * whole) + 2 * r + 1 >= 2 * whole for r in range(whole))
    else:
        ups = sum(round(nu * whole) + r >= whole for r in range(whole))
    values = fpsim.round(
        np.full(size, 1 + fraction / 8), "e4m3", rounding=Stochastic(bits, variant), rng=8
    )
    p = ups / whole
    error = np.sqrt(max(p * (1 - p), 1e-12) / size)
    assert abs(np.mean(values == 1.125) - p) <= 5 * error


def test_every_bit_is_fair_and_no_two_agree() -> None:
    size = 1 << 20
    words = Stream(12345).words(size)
    five = 5 * np.sqrt(0.25 / size)
    columns = [(words >> np.uint64(k)) & np.uint64(1) for k in range(64)]
    for column in columns:
        assert abs(column.mean() - 0.5) < five
    for k in range(63):  # neighbours, and the two halves of a word
        assert abs(np.mean(columns[k] ^ columns[k + 1]) - 0.5) < five
        assert abs(np.mean(columns[k] ^ columns[(k + 32) % 64]) - 0.5) < five
    for lag in (1, 2, 3, 4, 8, 4096):  # from element to element
        for k in (0, 31, 32, 63):
            agree = np.mean(columns[k][lag:] ^ columns[k][:-lag])
            assert abs(agree - 0.5) < five * 1.01
    # Bytes are equally frequent: chi-squared with 255 degrees of freedom, mean 255, deviation 22.6.
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert np.sum((counts - expected) ** 2) / expected < 255 + 5 * 22.6
    assert np.unique(words).size == size


def test_streams_of_neighbouring_seeds_are_unlike() -> None:
    size = 1 << 18
    one, two = Stream(1).words(size), Stream(2).words(size)
    differing = np.unpackbits((one ^ two).view(np.uint8)).mean()
    assert abs(differing - 0.5) < 5 * np.sqrt(0.25 / (64 * size))
