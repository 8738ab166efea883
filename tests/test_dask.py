"""Dask arrays: what NumPy's arrays give, bit for bit, for any chunks, lazily, in bounded memory."""

from __future__ import annotations

import gc
import itertools
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsim
from fpsim import Rounding, Stochastic, Stream
from fpsim.analysis.measure import measured_summary

da = pytest.importorskip(
    "dask.array", reason="dask is not installed; pip install 'fpsim[dask]' has it"
)

SHAPE = (23, 14, 9)
CHUNKINGS: list[Any] = [
    SHAPE,  # one chunk
    (5, 14, 9),  # in the order of memory
    (23, 14, 4),
    (6, 5, 2),
    (1, 1, 9),
    ((2, 20, 1), (13, 1), (1, 6, 2)),
    ((0, 11, 0, 12), (14,), (9, 0)),  # with empty ones
]
MODES: list[Any] = [
    *Rounding,
    Stochastic(),
    *(Stochastic(bits, variant) for bits in (1, 8, 32) for variant in "ABC"),
]


def normal(shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> Any:
    """Numbers over many binades, with zeros."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=shape) * np.exp2(rng.integers(-12, 9, shape))
    return np.where(rng.random(shape) < 0.05, 0.0, x).astype(dtype)


def same(got: Any, want: Any) -> None:
    """`got`, of dask, is lazy, and computes to `want`, of NumPy: values, dtype, shape, signs."""
    assert isinstance(got, da.Array)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    computed = np.asarray(got.compute())
    assert computed.dtype == want.dtype
    assert computed.tobytes() == want.tobytes()


# The same bits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKINGS, ids=str)
@pytest.mark.parametrize("rounding", MODES, ids=repr)
def test_casts_in_every_mode(rounding: Any, chunks: Any) -> None:
    x = normal()
    split = da.from_array(x, chunks=chunks)
    for cast, fmt in ((fpsim.round, "float8_e4m3fn"), (fpsim.encode, "e3m2")):
        options = {"rounding": rounding, "rng": Stream(5, 2**64 - 999), "overflow": "saturate"}
        same(cast(split, fmt, **options), cast(x, fmt, **options))


@pytest.mark.parametrize("chunks", CHUNKINGS, ids=str)
@pytest.mark.parametrize("fmt", ["float4_e2m1fn", "e4m3", "binary16", "float8_e8m0fnu", "e11m30"])
def test_codes_there_and_back(fmt: str, chunks: Any) -> None:
    x = np.abs(normal(dtype=np.float64))
    codes = fpsim.encode(x, fmt)
    same(fpsim.encode(da.from_array(x, chunks=chunks), fmt), codes)
    split = da.from_array(codes, chunks=chunks)
    for dtype in (None, np.float64):
        same(fpsim.decode(split, fmt, dtype), fpsim.decode(codes, fmt, dtype))


@pytest.mark.parametrize("overflow", list(fpsim.Overflow))
@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, ">f4", np.int32, bool, ml_dtypes.bfloat16]
)
def test_dtypes(dtype: Any, overflow: Any) -> None:
    x = normal(dtype=dtype)
    split = da.from_array(x, chunks=(6, 5, 2))
    same(fpsim.round(split, "e3m2", overflow=overflow), fpsim.round(x, "e3m2", overflow=overflow))
    random = {"rounding": Stochastic(4, "C"), "rng": 3, "overflow": overflow}
    same(fpsim.encode(split, "e3m2", **random), fpsim.encode(x, "e3m2", **random))


METHODS: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    # (the function, its arguments, how often it reads the data)
    "round": (fpsim.round, {"fmt": "e4m3", "rounding": "stochastic"}, 1),
    "luq": (fpsim.luq, {}, 2),
    "luq of two samples": (fpsim.luq, {"samples": 2, "exponent_bits": 2}, 2),
    "luq to a maximum": (fpsim.luq, {"maximum": 3.0, "levels": "paper"}, 1),
    "luq by powers of two": (fpsim.luq, {"power_of_two": True}, 2),
    "prune": (fpsim.prune, {"threshold": 0.7}, 1),
    "prune to a share": (fpsim.prune, {"sparsity": 0.6}, 2),
    "prune to no more": (fpsim.prune, {"sparsity": 0.01}, 2),
    "prune by a fit": (fpsim.prune, {"sparsity": 0.6, "fit": fpsim.Lognormal(-1.0, 3.0)}, 1),
    "prune for certain": (fpsim.prune, {"sparsity": 0.6, "method": "deterministic"}, 2),
    "dither": (fpsim.dither, {"step": 0.375}, 1),
    "dither to a scale": (fpsim.dither, {"scale": 0.2}, 3),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int16])
def test_methods(name: str, dtype: Any) -> None:
    function, options, _ = METHODS[name]
    x = normal(dtype=dtype)
    want = function(x, rng=11, **options)
    for chunks in CHUNKINGS:
        same(function(da.from_array(x, chunks=chunks), rng=11, **options), want)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "round"])
@pytest.mark.parametrize("rule", ["propagate", "skip"])
def test_methods_where_not_all_is_finite(name: str, rule: str) -> None:
    function, options, _ = METHODS[name]
    x = normal()
    x[3, 4, 5], x[20, 0, 0], x[20, 0, 1] = np.nan, np.inf, -np.inf
    want = function(x, rng=11, nonfinite=rule, **options)
    for chunks in CHUNKINGS:
        same(function(da.from_array(x, chunks=chunks), rng=11, nonfinite=rule, **options), want)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value", [0.0, -0.0, 3.0, 1 + 2**-20])
def test_methods_where_all_is_equal(name: str, value: float) -> None:
    """Among them: a maximum of 0, and a standard deviation of 0."""
    function, options, _ = METHODS[name]
    x = np.full((6, 7), value, np.float32)
    want = function(x, rng=11, **options)
    same(function(da.from_array(x, chunks=(4, 3)), rng=11, **options), want)


def test_a_standard_deviation_that_the_whole_does_not_see() -> None:
    """Next to 1 the others are equal, to the units that it is counted in; among themselves not."""
    x = np.full((8, 5), 1 - 2.0**-40)
    x[0], x[1, 1] = 1.0, 1 - 2.0**-42
    want = fpsim.dither(x, scale=0.5, rng=1)
    assert np.array_equal(want, x)
    same(fpsim.dither(da.from_array(x, chunks=(1, 5)), scale=0.5, rng=1), want)


@st.composite
def chunked(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """A shape and chunks of it."""
    chunks = draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=4))
    return tuple(map(sum, chunks)), tuple(map(tuple, chunks))


@given(chunked(), st.sampled_from([n for n, m in METHODS.items() if m[2] == 1]), st.data())
@settings(max_examples=60, deadline=None)
def test_any_chunks(layout: tuple[tuple[int, ...], Any], name: str, data: st.DataObject) -> None:
    shape, chunks = layout
    function, options, _ = METHODS[name]
    x = normal(shape)
    split = da.from_array(x, chunks=chunks)
    got = function(split, rng=3, **options)
    want = np.asarray(function(x, rng=3, **options))
    same(got, want)
    assert got.chunks == split.chunks
    assert fpsim.Sketch.of(split) == fpsim.Sketch.of(x)
    if x.size:  # any one block, without the others
        block = tuple(data.draw(st.integers(0, n - 1)) for n in got.numblocks)
        edges = [np.cumsum([0, *lengths]) for lengths in chunks]
        where = tuple(slice(e[b], e[b + 1]) for e, b in zip(edges, block, strict=True))
        assert np.array_equal(got.blocks[block].compute(), want[where])


def test_blocks_in_any_order_and_slices_of_them() -> None:
    x = normal()
    split = da.from_array(x, chunks=(6, 5, 2))
    want = fpsim.luq(x, rng=4)
    got = fpsim.luq(split, rng=4)
    blocks = list(itertools.product(*map(range, got.numblocks)))
    random.Random(1).shuffle(blocks)
    for block in blocks[:25]:
        where = tuple(
            slice(sum(lengths[:b]), sum(lengths[: b + 1]))
            for lengths, b in zip(got.chunks, block, strict=True)
        )
        assert np.array_equal(got.blocks[block].compute(), want[where])
    same(got[5:19:3, ::-1, 4], want[5:19:3, ::-1, 4])
    same(got.rechunk((23, 2, 9)).T, want.T)
    assert float(got.sum().compute()) == pytest.approx(float(want.sum(dtype=np.float64)), rel=1e-5)


def test_layouts() -> None:
    x = normal((31, 17))
    for split in (
        da.from_array(np.asfortranarray(x), chunks=(8, 6)),
        da.from_array(np.ascontiguousarray(x.T), chunks=(6, 8)).T,
        da.from_array(np.repeat(x, 2, axis=1), chunks=(8, 7))[:, ::2],
        da.from_array(x, chunks=(31, 3)).rechunk((5, 17)),
        da.from_array(x, chunks=(8, 6)).persist(),
        da.concatenate([da.from_array(x[:9], chunks=4), da.from_array(x[9:], chunks=(22, 5))]),
    ):
        for function, options, _ in METHODS.values():
            same(function(split, rng=2, **options), function(x, rng=2, **options))


def test_single_numbers_and_none() -> None:
    for function, options, _ in METHODS.values():
        for x in (np.float64(0.3), np.array(0.3), np.zeros((0, 4)), np.zeros((3, 0, 2))):
            want = np.asarray(function(x, rng=8, **options))
            same(function(da.asarray(x), rng=8, **options), want)
    assert fpsim.Sketch.of(da.asarray(np.float32(0.3))) == fpsim.Sketch.of(np.float32(0.3))
    assert fpsim.Sketch.of(da.zeros((0, 3))) == fpsim.Sketch()


# Random bits ------------------------------------------------------------------------------------


def test_random_bits_are_drawn_once() -> None:
    """What is computed again, such as what a dead worker had, comes out as it was."""
    x = da.from_array(normal(), chunks=(6, 5, 2))
    for function, options, _ in METHODS.values():
        got = function(x, **options)
        assert np.array_equal(got.compute(), got.compute())
    one, other = (
        fpsim.round(x, "e2m1", rounding="stochastic", overflow="saturate", rng=i) for i in (1, 2)
    )
    assert one.name != other.name
    assert not np.array_equal(*da.compute(one, other))


def test_a_generator_is_drawn_from_as_by_numpy() -> None:
    x = normal()
    for function, options, _ in METHODS.values():
        one, two = np.random.default_rng(6), np.random.default_rng(6)
        same(
            function(da.from_array(x, chunks=8), rng=one, **options),
            function(x, rng=two, **options),
        )
        assert one.bit_generator.state == two.bit_generator.state
    untouched = np.random.default_rng(6)
    fpsim.round(da.from_array(x, chunks=8), "e4m3", rng=untouched)
    assert untouched.bit_generator.state == np.random.default_rng(6).bit_generator.state


# What is computed, and when ---------------------------------------------------------------------


class Source:
    """A dask array that counts how often its chunks are made, and how many are alive."""

    def __init__(self, count: int = 48, length: int = 1000) -> None:
        self.lock = threading.Lock()
        self.made = self.alive = self.most = 0
        self.array = da.map_blocks(
            self._chunk, chunks=((length,) * count,), dtype=np.float64, meta=np.empty(0)
        )
        self.whole = np.concatenate([self._values((i,)) for i in range(count)])

    def _values(self, block_id: tuple[int, ...]) -> Any:
        return np.random.default_rng(block_id).normal(size=1000) * 2.0 ** (block_id[0] % 5)

    def _chunk(self, block_id: Any = None) -> Any:
        chunk = self._values(block_id)
        with self.lock:
            self.made += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(chunk, self._gone)
        return chunk

    def _gone(self) -> None:
        with self.lock:
            self.alive -= 1


@pytest.fixture
def two_workers() -> Iterator[None]:
    import dask

    gc.collect()
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


READERS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "sketch": (fpsim.Sketch.of, 1),
    "fit": (fpsim.Lognormal.fit, 1),
    "fit with options": (lambda x: fpsim.Lognormal.fit(x, truncated_below=0.5), 1),
    "recommend": (lambda x: fpsim.recommend(x, 6), 2),
    "recommend for several widths": (lambda x: fpsim.recommend(x, [4, 6, 8]), 2),
    "measured error": (lambda x: fpsim.measured_error(x, "e4m3"), 1),
    "hindsight": (lambda x: fpsim.HindsightMax().update(x), 1),
}
for _name, (_function, _options, _reads) in METHODS.items():
    READERS[_name] = (
        lambda x, f=_function, o=_options: f(x, rng=1, **o).sum().compute(),
        _reads,
    )


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("name", READERS)
def test_chunks_come_and_go(name: str) -> None:
    """However many there are, few are in memory at a time; each is read as often as documented."""
    function, reads = READERS[name]
    source = Source()
    function(source.array)
    assert source.made == reads * 48
    assert source.most <= 6


@pytest.mark.usefixtures("two_workers")
@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_read_before_it_must_be(name: str) -> None:
    function, options, reads = METHODS[name]
    source = Source()
    got = function(source.array, rng=1, **options)
    assert source.made == (reads - 1) * 48
    same(got, function(source.whole, rng=1, **options))


def test_each_chunk_is_the_work_of_one_thread() -> None:
    """Of dask's: fpsim's own would only get in their way."""
    code = """
import dask.array as da, fpsim, threading
fpsim.set_num_threads(8)
x = da.ones(4_000_000, chunks=2_000_000)
y = fpsim.luq(fpsim.round(x, "e4m3"), rng=1).sum().compute(scheduler="synchronous")
fpsim.recommend(da.ones(4_000_000, chunks=2_000_000).compute(), 6)
"""
    end = "print(sum(thread.name.startswith('fpsim') for thread in threading.enumerate()))"
    lines = code.splitlines()
    assert python("\n".join([*lines[:-1], end])) == "0"
    assert int(python("\n".join([*lines, end]))) > 0


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_progress() -> None:
    done: list[int] = []
    x = da.from_array(normal((4000,)), chunks=100)
    fpsim.recommend(x, [4, 6], progress=done.append)
    assert sum(done) == 4000 * (1 + 2 * 2)
    assert len(done) > 40
    assert min(done) > 0


# Sketches and recommendations -------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKINGS, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sketches(dtype: Any, chunks: Any) -> None:
    x = normal(dtype=dtype)
    x[3, 4, 5], x[20, 0, 0] = np.nan, np.inf
    split = da.from_array(x, chunks=chunks)
    assert fpsim.Sketch.of(split) == fpsim.Sketch.of(x)
    for options in ({}, {"truncated_below": 0.1}, {"quantized_by": "e4m3", "scale": 2.0}):
        got, want = (fpsim.Lognormal.fit(array, **options) for array in (split, x))
        assert got == want
        assert got.ks == want.ks
        assert got.alternatives == want.alternatives


@pytest.mark.parametrize("metric", list(fpsim.Metric))
def test_recommend(metric: Any) -> None:
    x = normal((40, 50)) * np.float32(1e-3)
    for chunks in ((40, 50), (7, 11), ((39, 1), (20, 30))):
        split = da.from_array(x, chunks=chunks)
        options = {"metric": metric, "sparsity": 0.5}
        got, want = (fpsim.recommend(a, [4, 6], **options) for a in (split, x))
        for bits, answer in want.items():
            assert got[bits].fit == answer.fit
            assert got[bits].sketch == answer.sketch
            assert got[bits].pruning == answer.pruning
            for mine, theirs in zip(got[bits].candidates, answer.candidates, strict=True):
                # What was measured are sums of float64, whose rounding goes by the parts.
                measured = mine.measured
                assert measured == pytest.approx(theirs.measured, rel=1e-12, abs=1e-12)
                assert repr(mine).replace(repr(measured), "") == repr(theirs).replace(
                    repr(theirs.measured), ""
                )


def test_recommend_for_a_set() -> None:
    tensors = {name: x[:500] for name, x in list(fpsim.sample_gradients().items())[:4]}
    split = {name: da.from_array(x, chunks=99) for name, x in tensors.items()}
    got, want = fpsim.recommend(split, 6), fpsim.recommend(tensors, 6)
    assert got.shared == want.shared
    assert [str(s.format) for s in got.shared] == [str(s.format) for s in want.shared]


@pytest.mark.parametrize("rounding", ["ties_to_even", "stochastic", Stochastic(3, "C")])
def test_measured_errors(rounding: Any) -> None:
    x = normal()
    want = measured_summary(x, "e3m2", 2.0, rounding=rounding, rng=5)
    for chunks in CHUNKINGS:
        split = da.from_array(x, chunks=chunks)
        got = measured_summary(split, "e3m2", 2.0, rounding=rounding, rng=5)
        for name in ("relative", "nmse", "cosine", "bias", "underflow", "overflow"):
            assert getattr(got, name) == pytest.approx(getattr(want, name), rel=1e-12), name


# Errors -----------------------------------------------------------------------------------------


def never(block_id: Any = None) -> Any:
    raise AssertionError("the data were read")


def unread(dtype: Any = np.float32) -> Any:
    return da.map_blocks(never, chunks=((5, 5), (4,)), dtype=dtype, meta=np.empty((0, 0), dtype))


@pytest.mark.parametrize(
    ("function", "options", "error", "words"),
    [
        (fpsim.round, {"fmt": "no such"}, ValueError, ["no such"]),
        (fpsim.round, {"fmt": "binary64"}, ValueError, ["float32", "convert x to float64"]),
        (fpsim.round, {"fmt": "e4m3", "rounding": "up"}, ValueError, ["rounding='up'"]),
        (fpsim.round, {"fmt": "e4m3", "overflow": "wrap"}, ValueError, ["overflow='wrap'"]),
        (fpsim.round, {"fmt": "e4m3", "tininess": "now"}, ValueError, ["tininess='now'"]),
        (
            fpsim.round,
            {"fmt": "e4m3", "rounding": "stochastic", "rng": "seed"},
            TypeError,
            ["rng='seed'"],
        ),
        (
            fpsim.encode,
            {"fmt": "e4m3", "rounding": "stochastic", "rng": Stream(1).part((9, 9), np.s_[:, :4])},
            ValueError,
            ["part", "of the whole"],
        ),
        (fpsim.round, {"fmt": "e4m3", "out": np.empty((10, 4))}, ValueError, ["out", "dask"]),
        (
            fpsim.encode,
            {"fmt": "e4m3", "flags": np.empty((10, 4), np.uint8)},
            ValueError,
            ["flags", "dask", "map_blocks"],
        ),
        (
            fpsim.encode,
            {"fmt": "e4m3", "rounding": Stochastic(2), "random_bits": 1},
            ValueError,
            ["random_bits", "dask", "map_blocks"],
        ),
        (fpsim.decode, {"fmt": "e4m3"}, TypeError, ["codes", "float32"]),
        (fpsim.decode, {"fmt": "e11m30", "dtype": "f4"}, ValueError, ["dtype=float32"]),
        (fpsim.luq, {"exponent_bits": 5}, ValueError, ["exponent_bits=5"]),
        (fpsim.luq, {"levels": "all"}, ValueError, ["levels='all'"]),
        (fpsim.luq, {"samples": 0}, ValueError, ["samples=0"]),
        (fpsim.luq, {"maximum": -1.0}, ValueError, ["maximum=-1.0"]),
        (fpsim.luq, {"maximum": 1e-44}, ValueError, ["maximum", "float32"]),
        (fpsim.luq, {"rng": 1.5}, TypeError, ["rng=1.5"]),
        (fpsim.luq, {"full": True}, ValueError, ["full", "dask"]),
        (fpsim.prune, {}, ValueError, ["threshold=None", "sparsity=None"]),
        (fpsim.prune, {"threshold": 1e39}, ValueError, ["threshold=1e+39", "float32"]),
        (fpsim.prune, {"sparsity": 1.0}, ValueError, ["sparsity=1.0"]),
        (fpsim.prune, {"sparsity": 0.5, "fit": 3}, TypeError, ["fit"]),
        (fpsim.prune, {"threshold": 1.0, "method": "soft"}, ValueError, ["method='soft'"]),
        (fpsim.prune, {"threshold": 1.0, "full": True}, ValueError, ["full", "dask"]),
        (fpsim.dither, {"step": 0.0}, ValueError, ["step=0.0"]),
        (fpsim.dither, {"step": 1.0, "scale": 1.0}, ValueError, ["step=1.0", "scale=1.0"]),
        (fpsim.dither, {"step": 1e39}, ValueError, ["step=1e+39", "float32"]),
        (fpsim.dither, {"scale": 1.0, "nonfinite": "no"}, ValueError, ["nonfinite='no'"]),
        (fpsim.dither, {"scale": 1.0, "full": True}, ValueError, ["full", "dask"]),
        (fpsim.recommend, {"bits": 99}, ValueError, ["bits=99"]),
        (fpsim.recommend, {"bits": 8, "metric": "best"}, ValueError, ["metric='best'"]),
        (fpsim.measured_error, {"fmt": "e4m3", "scale": -1.0}, ValueError, ["scale=-1.0"]),
    ],
)
def test_errors_before_anything_is_read(
    function: Any, options: dict[str, Any], error: Any, words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        function(unread(), **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("dtype", [complex, "M8[s]", "S3", object])
def test_dtypes_that_are_no_real_numbers(dtype: Any) -> None:
    x = unread(dtype)
    functions = [function for function, _, _ in METHODS.values()]
    for function, options in zip(functions, (o for _, o, _ in METHODS.values()), strict=True):
        with pytest.raises(TypeError, match="real numbers"):
            function(x, rng=1, **options)
    for function in (fpsim.Sketch.of, fpsim.Lognormal.fit, lambda x: fpsim.recommend(x, 6)):
        with pytest.raises(TypeError, match="real numbers"):
            function(x)


def test_dtypes_without_sign() -> None:
    for function, options, _ in METHODS.values():
        if function is not fpsim.round:
            with pytest.raises(TypeError, match="sign or zero"):
                function(unread(ml_dtypes.float8_e8m0fnu), rng=1, **options)


def test_other_collections() -> None:
    from dask import bag, delayed

    for x in (delayed(np.ones)(3), bag.from_sequence([1.0, 2.0])):
        for call in (
            lambda x: fpsim.round(x, "e4m3"),
            lambda x: fpsim.decode(x, "e4m3"),
            lambda x: fpsim.prune(x, 1.0),
            fpsim.Sketch.of,
        ):
            with pytest.raises(TypeError, match=r"x is of type dask\..*give an Array"):
                call(x)


def test_chunks_of_unknown_size() -> None:
    x = normal((50,))
    unknown = da.from_array(x, chunks=7)
    unknown = unknown[unknown > 0]
    assert np.isnan(unknown.shape[0])
    want = x[x > 0]
    assert np.array_equal(fpsim.round(unknown, "e4m3").compute(), fpsim.round(want, "e4m3"))
    assert np.array_equal(
        fpsim.prune(unknown, sparsity=0.5, method="deterministic").compute(),
        fpsim.prune(want, sparsity=0.5, method="deterministic"),
    )
    assert fpsim.Sketch.of(unknown, print) == fpsim.Sketch.of(want)
    assert fpsim.recommend(unknown, 6).fit == fpsim.recommend(want, 6).fit
    for function, options, _ in METHODS.values():
        if options.get("method") != "deterministic":
            with pytest.raises(ValueError, match=r"unknown size.*compute_chunk_sizes"):
                function(unknown, rng=1, **options)
    unknown.compute_chunk_sizes()
    for function, options, _ in METHODS.values():
        same(function(unknown, rng=1, **options), function(want, rng=1, **options))


def test_errors_of_the_data_name_the_chunk() -> None:
    x = normal((20, 30))
    x[11, 25], x[11, 27] = np.nan, np.nan
    split = da.from_array(x, chunks=(5, 10))
    rounded = fpsim.round(split, "float4_e2m1fn", overflow="saturate")
    with pytest.raises(ValueError, match=r"^x\.blocks\[2, 2\]: x has 2 NaN.*\(1, 5\).*float4"):
        rounded.compute()
    assert np.isnan(split.blocks[2, 2].compute()[1, 5])
    assert np.isfinite(rounded.blocks[:2].compute()).all()
    for name, (function, options, reads) in METHODS.items():
        if name != "round":
            with pytest.raises(ValueError, match=r"^x\.blocks\[2, 2\]: x has 2 NaN.*\(1, 5\)"):  # noqa: PT012 - either may raise
                got = function(split, rng=1, **options)  # where it looks at all of x: here
                assert reads == 1
                got.compute()
    codes = da.from_array(np.array([3, 70, 200, 255], np.uint8), chunks=2)
    with pytest.raises(ValueError, match=r"^x\.blocks\[1\]: codes=255 is out of range"):
        fpsim.decode(codes, "e3m2").compute()
    with pytest.raises(ValueError, match=r"^x\.blocks\[1\]: x has the integer .* past 2\*\*53"):
        fpsim.Sketch.of(da.from_array(np.array([1, 2, 3, 2**60]), chunks=2))
    with pytest.raises(ValueError, match=r"^x\.blocks\[1\]: step=1e\+31.*leaves"):
        fpsim.dither(da.from_array(np.array([1.0, 3.4e38], np.float32), chunks=1), 1e31).compute()


def test_errors_of_the_whole() -> None:
    tiny = da.from_array(np.array([1e-45, 0.0], np.float32), chunks=1)
    with pytest.raises(ValueError, match="range of x's dtype float32"):
        fpsim.luq(tiny)
    for zeros in (da.zeros(10, chunks=3), da.zeros((0,)), da.full(4, np.nan, chunks=2)):
        for call in (fpsim.Lognormal.fit, lambda x: fpsim.recommend(x, 6)):
            with pytest.raises(ValueError, match="no finite nonzero element"):
                call(zeros)
    with pytest.raises(ValueError, match=r"no finite nonzero element \(10 elements\)"):
        fpsim.measured_error(da.zeros(10, chunks=3), "e4m3")
