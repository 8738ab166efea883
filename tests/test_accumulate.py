"""dot and matmul: every order of summation against sums in exact rationals, step by step."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpsim
import fpsim.accumulate
from fpsim import Accumulator, Format, Stochastic, spec
from fpsim.units import units

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "gpu_dot_products.npz"


def drawn(
    rng: np.random.Generator, shape: tuple[int, ...], fmt: Any, spread: int = 3, dtype: Any = None
) -> np.ndarray:
    """Values of a format over some binades, zeros among them."""
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-spread, spread + 1, shape)
    x[rng.random(shape) < 0.05] = 0
    return fpsim.round(x.astype(dtype or np.float32), fmt, overflow="saturate")


def rounded(x: Fraction, fmt: Format, accumulator: Accumulator) -> Fraction:
    code, _ = spec.project(x, fmt, accumulator.rounding, accumulator.overflow)
    value = Fraction(spec.decode(code, fmt))
    return Fraction(0) if accumulator.flush_subnormals and abs(value) < fmt.min_normal else value


class Exactly:
    """An accumulator's steps, each an exact sum projected by the specification."""

    def __init__(self, accumulator: Accumulator) -> None:
        self.accumulator = accumulator

    def round(self, x: Fraction, fmt: Format) -> Fraction:
        return rounded(x, fmt, self.accumulator)

    def product(self, x: Fraction, y: Fraction) -> Fraction:
        fmt = self.accumulator.product
        return x * y if fmt is None else self.round(x * y, fmt)

    def sequential(self, terms: list[Fraction], start: Fraction, fmt: Format) -> Fraction:
        for term in terms:
            start = self.round(start + term, fmt)
        return start

    def kahan(self, terms: list[Fraction], start: Fraction, fmt: Format) -> Fraction:
        correction = Fraction(0)
        for term in terms:
            corrected = self.round(term - correction, fmt)
            total = self.round(start + corrected, fmt)
            correction = self.round(self.round(total - start, fmt) - corrected, fmt)
            start = total
        return start

    def pairwise(self, terms: list[Fraction], start: Fraction | None, fmt: Format) -> Fraction:
        if self.accumulator.product is None:
            terms = [self.round(term, fmt) for term in terms]
        while len(terms) > 1:
            pairs = [self.round(a + b, fmt) for a, b in zip(terms[::2], terms[1::2], strict=False)]
            terms = pairs + terms[len(pairs) * 2 :]
        if start is None:
            return terms[0]
        return self.round(start + terms[0], fmt) if terms else start

    def __call__(self, a: np.ndarray, b: np.ndarray, c: float) -> Fraction:
        accumulator = self.accumulator
        fmt = accumulator.fmt
        if accumulator.flush_subnormals and accumulator.operands is not None:
            least = float(accumulator.operands.min_normal)
            a, b = (np.where(np.abs(x) < least, 0, x) for x in (a, b))
        terms = [self.product(spec.exact(x), spec.exact(y)) for x, y in zip(a, b, strict=True)]
        start = self.round(spec.exact(c), fmt)
        if accumulator.order == "exact":
            block = accumulator.block or len(terms)
            for first in range(0, len(terms), block):
                start = self.round(start + sum(terms[first : first + block]), fmt)
            return start
        if accumulator.order != "blocked":
            return getattr(self, accumulator.order)(terms, start, fmt)
        for first in range(0, len(terms), accumulator.block):
            block = terms[first : first + accumulator.block]
            inner = accumulator.block_fmt or fmt
            empty = None if accumulator.block_order == "pairwise" else Fraction(0)
            total = getattr(self, accumulator.block_order)(block, empty, inner)
            start = self.round(start + total, fmt)
        return start


ORDERS: list[dict[str, Any]] = [
    {},
    {"product": "bfloat16"},
    {"product": "e4m3", "rounding": "toward_zero"},
    {"rounding": "toward_negative"},
    {"rounding": "to_odd"},
    {"order": "pairwise"},
    {"order": "pairwise", "product": "e5m4", "rounding": "away_from_zero"},
    {"order": "kahan"},
    {"order": "kahan", "product": "bfloat16", "rounding": "toward_positive"},
    {"order": "blocked", "block": 4},
    {"order": "blocked", "block": 8, "block_fmt": "e5m4", "block_order": "pairwise"},
    {"order": "blocked", "block": 5, "block_order": "kahan", "product": "e5m7"},
    {"flush_subnormals": True, "product": "e4m3"},
    {"flush_subnormals": True, "order": "blocked", "block": 4, "block_order": "pairwise"},
    {"order": "exact"},
    {"order": "exact", "rounding": "toward_positive"},
    {"order": "exact", "block": 4},
    {"order": "exact", "block": 7, "flush_subnormals": True},
]
EXACT = [options for options in ORDERS if options.get("order") == "exact"]


@pytest.mark.parametrize("options", ORDERS, ids=str)
@pytest.mark.parametrize(
    ("operands", "fmt", "dtype"),
    [
        ("float8_e4m3fn", "binary16", np.float32),  # in float32
        ("binary16", "binary32", np.float32),  # in float64
        ("e6m9", "e6m5f", np.float64),
        ("e5m2b200", "e8m22b100", np.float64),
        ("e8m40", "e6m5f", np.float64),  # products that float64 does not hold
        ("binary16", "binary64", np.float64),
    ],
)
def test_every_order_against_exact_steps(
    options: dict[str, Any], operands: str, fmt: str, dtype: Any
) -> None:
    accumulator = Accumulator(fmt, overflow="saturate", **options)
    rng = np.random.default_rng(len(str(options)))
    depth = 19
    spread = 3 if "b200" not in operands else 0
    a = drawn(rng, (3, depth), operands, spread, dtype)
    b = drawn(rng, (depth, 4), operands, spread, dtype)
    a[1], b[:, 1] = np.where(np.arange(depth) % 2, 1, -1) * a[0], b[:, 0]  # sums that cancel
    c = drawn(rng, (3, 4), fmt, spread, dtype)
    got = fpsim.matmul(a, b, accumulator, c)
    exactly = Exactly(accumulator)
    want = [[exactly(a[i], b[:, j], c[i, j]) for j in range(4)] for i in range(3)]
    assert np.array_equal(got, np.array(want, np.float64))
    rows = fpsim.dot(a[:, None, :], b.T[None], accumulator, c)
    assert np.array_equal(rows, got)


@pytest.mark.parametrize("fmt", ["binary16", "bfloat16", "binary32"])
def test_sequential_is_a_loop_of_fma(fmt: str) -> None:
    rng = np.random.default_rng(3)
    a, b = drawn(rng, (40, 300), "binary16"), drawn(rng, (300, 50), "binary16")
    total = np.zeros((40, 50), np.float32)
    for k in range(300):
        total = fpsim.fma(a[:, k, None], b[None, k], total, fmt)
    assert np.array_equal(fpsim.matmul(a, b, Accumulator(fmt)), total)


RANDOM = [
    {"rounding": Stochastic(8)},
    {"rounding": Stochastic(8, "C"), "order": "pairwise"},
    {"rounding": Stochastic(12, "B"), "order": "kahan", "product": "bfloat16"},
    {"rounding": Stochastic(4), "order": "blocked", "block": 7, "block_order": "pairwise"},
]


@pytest.mark.parametrize("options", [*(o for o in ORDERS if o not in EXACT), *RANDOM], ids=str)
def test_both_paths_take_the_same_steps_and_words(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels, and one operation on whole arrays after the other."""
    rng = np.random.default_rng(5)
    accumulator = Accumulator("binary16", **options, overflow="saturate")
    a, b = drawn(rng, (2, 3, 21), "float8_e5m2"), drawn(rng, (21, 140), "float8_e5m2")
    c = drawn(rng, (140,), "binary16")
    fast = fpsim.matmul(a, b, accumulator, c, rng=11)
    monkeypatch.setattr(fpsim.accumulate, "_fits", lambda *_: False)
    assert np.array_equal(fpsim.matmul(a, b, accumulator, c, rng=11), fast, equal_nan=True)
    rows = fpsim.dot(a[:, :, None, :], b.T, accumulator, c, rng=11)
    assert np.array_equal(rows, fast, equal_nan=True)


def test_random_words_are_those_of_the_stream() -> None:
    """Rounding r of output o takes word r * outputs + o."""
    rng = np.random.default_rng(6)
    a, b = drawn(rng, (2, 9), "binary16"), drawn(rng, (9, 3), "binary16")
    got = fpsim.matmul(a, b, Accumulator("e5m3", rounding=Stochastic(16)), rng=21)
    words = fpsim.Stream(21).words(9 * 6).reshape(9, 2, 3) >> np.uint64(48)
    total = np.zeros((2, 3))
    for k in range(9):
        total = fpsim.fma(
            a[:, k, None], b[None, k], total, "e5m3", rounding=Stochastic(16), random_bits=words[k]
        )
    assert np.array_equal(got, total)


@pytest.mark.parametrize("options", [{}, {"rounding": Stochastic(8)}, {"order": "exact"}], ids=str)
def test_threads_change_nothing(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    a, b = drawn(rng, (70, 33), "float8_e4m3fn"), drawn(rng, (33, 1500), "float8_e4m3fn")
    before = fpsim.get_num_threads()
    results = []
    try:
        for n in (1, 2, 5):
            fpsim.set_num_threads(n)
            results.append(fpsim.matmul(a, b, Accumulator("binary16", **options), rng=1))
    finally:
        fpsim.set_num_threads(before)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


# Multi-term units -------------------------------------------------------------------------------


def aligned_sum(a: np.ndarray, b: np.ndarray, c: float, accumulator: Accumulator) -> float:
    """What a multi-term unit gives, in exact rationals."""

    def exponent(x: Fraction, emin: int) -> int:
        return emin if x == 0 else max(spec.floor_log2(abs(x)), emin)

    def cut(x: Fraction, place: int, rule: Any) -> Fraction:
        return rule(x / Fraction(2) ** place) * Fraction(2) ** place

    rule = {"toward_zero": math.trunc, "toward_negative": math.floor, "ties_to_even": round}[
        accumulator.alignment
    ]
    total = rounded(Fraction(float(c)), accumulator.fmt, accumulator)
    fmt, operands, bits = accumulator.fmt, accumulator.operands, accumulator.alignment_bits
    if accumulator.flush_subnormals:
        a, b = (np.where(np.abs(x) < float(operands.min_normal), 0, x) for x in (a, b))
    for first in range(0, len(a), accumulator.block):
        mine = (total, exponent(total, fmt.emin))
        products = []
        for x, y in zip(a[first:], b[first : first + accumulator.block], strict=False):
            p, q = Fraction(float(x)), Fraction(float(y))
            e = exponent(p, operands.emin) + exponent(q, operands.emin)
            products.append((p * q, e if p * q else fmt.emin))
        if accumulator.carry == "two_stage":
            parts = [products[k :: accumulator.interleaved] for k in range(accumulator.interleaved)]
            parts = [part for part in parts if part]
            tops = [max(e for _, e in part) for part in parts]
            sums = [
                sum(cut(x, top - bits, rule) for x, _ in part)
                for part, top in zip(parts, tops, strict=True)
            ]
            inner = sum(cut(x, max(tops) - bits, math.floor) for x in sums)
            top = max(*tops, mine[1])
            kept = cut(total, top - bits, math.floor)
            if accumulator.interleaved == 2 and mine[1] < top - bits - 1:
                kept = 0
            exact = cut(inner, top - accumulator.carry_bits, math.floor) + kept
        else:
            terms = [product for product in products if product[0]]
            terms.append(mine if accumulator.carry == "joins" else (Fraction(0), fmt.emin))
            top = max(e for _, e in terms)
            exact = sum(cut(x, top - bits, rule) for x, _ in terms)
            if accumulator.carry == "after":
                exact = total + rounded(exact, accumulator.block_fmt or fmt, accumulator)
        total = rounded(exact, fmt, accumulator)
    return float(total)


@pytest.mark.parametrize("alignment", ["toward_zero", "toward_negative", "ties_to_even"])
@pytest.mark.parametrize("bits", [0, 3, 13, 24, 35])
@pytest.mark.parametrize("operands", ["float8_e5m2", "float8_e4m3fn", "e3m2f"])
def test_aligned_sums_against_exact_rationals(alignment: str, bits: int, operands: str) -> None:
    """Subnormal operands, sums that cancel, blocks that the depth does not fill."""
    rng = np.random.default_rng(bits)
    accumulator = Accumulator(
        "binary32",
        rounding="toward_zero" if bits % 2 else "ties_to_even",
        alignment_bits=bits,
        alignment=alignment,
        block=8,
        operands=operands,
    )
    a, b = drawn(rng, (12, 21), operands, 12), drawn(rng, (5, 21), operands, 12)
    a[0, 1::2], b[0] = -a[0, :-1:2], b[0, 0]
    c = rng.standard_normal((12, 5)).astype(np.float32) * np.float32(2.0) ** rng.integers(-9, 9)
    c[1] = 0
    got = fpsim.dot(a[:, None], b[None], accumulator, c)
    want = [[aligned_sum(x, y, c[i, j], accumulator) for j, y in enumerate(b)]
            for i, x in enumerate(a)]  # fmt: skip
    assert np.array_equal(got, np.array(want, np.float32))
    assert np.array_equal(fpsim.matmul(a, b.T, accumulator, c), got)


@pytest.mark.parametrize(
    "options",
    [
        {"carry": "after"},
        {"carry": "after", "block_fmt": "e8m13", "rounding": "toward_zero"},
        {"carry": "after", "flush_subnormals": True, "block_fmt": "e5m4"},
        {"carry": "two_stage", "carry_bits": 20},
        {"carry": "two_stage", "carry_bits": 13, "interleaved": 2},
        {"carry": "two_stage", "carry_bits": 16, "interleaved": 2, "alignment": "ties_to_even"},
        {"flush_subnormals": True},
    ],
    ids=str,
)
@pytest.mark.parametrize(("operands", "spread"), [("float8_e5m2", 12), ("bfloat16", 70)])
def test_how_a_sum_meets_a_block(options: dict[str, Any], operands: str, spread: int) -> None:
    rng = np.random.default_rng(len(str(options)))
    accumulator = Accumulator(
        "e8m16" if "after" in str(options) else "binary32",
        **options,
        overflow="saturate",
        alignment_bits=13,
        block=8,
        operands=operands,
    )
    a, b = drawn(rng, (12, 37), operands, spread), drawn(rng, (5, 37), operands, 12)
    a[0, 1::2], b[0] = -a[0, :-1:2], b[0, 0]
    b[4] = np.abs(b[4])
    c = rng.standard_normal((12, 5)) * 2.0 ** rng.integers(-40, 40, (12, 5))
    c = fpsim.round(c.astype(np.float32), accumulator.fmt)
    c[1] = 0
    c[2] = -np.abs(c[2])
    got = fpsim.dot(a[:, None], b[None], accumulator, c)
    want = [[aligned_sum(x, y, c[i, j], accumulator) for j, y in enumerate(b)]
            for i, x in enumerate(a)]  # fmt: skip
    assert np.array_equal(got, np.array(want, np.float32))
    assert np.array_equal(fpsim.matmul(a, b.T, accumulator, c), got)


@pytest.mark.parametrize("unit", units(), ids=lambda unit: f"{unit.name}-{unit.operands}")
def test_every_preset_against_exact_rationals(unit: Any) -> None:
    rng = np.random.default_rng(len(unit.operands))
    accumulator = unit.accumulator
    a, b = (drawn(rng, (8, 40), unit.operands, 9) for _ in range(2))
    a[:2] *= np.float32(2.0**-16)  # subnormal in some formats
    a = fpsim.round(a, unit.operands)
    a[3, 1::2], b[3] = -a[3, :-1:2], b[3, 0]
    c = fpsim.round(rng.standard_normal(8).astype(np.float32) * 300, accumulator.fmt)
    one = aligned_sum if accumulator.alignment_bits is not None else Exactly(accumulator)
    options = (accumulator,) if one is aligned_sum else ()
    want = [float(one(x, y, z, *options)) for x, y, z in zip(a, b, c, strict=True)]
    assert np.array_equal(fpsim.dot(a, b, accumulator, c), np.array(want, np.float32))


def test_in_two_stages_products_past_the_range_are_infinite() -> None:
    cdna3 = Accumulator.preset("amd-cdna3", "bfloat16")
    x = np.float32([2.0**64, -(2.0**64), 1])
    assert np.isnan(fpsim.dot(x, np.abs(x), cdna3))
    assert fpsim.dot(x * np.float32(0.5), np.abs(x), cdna3) == 0  # and 0.5 falls off


def test_in_two_stages_a_zero_product_has_the_smallest_exponent() -> None:
    """So that it, too, can push tiny products off."""
    unit = Accumulator(
        "binary32",
        alignment_bits=13,
        block=2,
        carry="two_stage",
        carry_bits=20,
        operands="bfloat16",
    )
    tiny = np.float32([2.0**-70, 0])
    assert fpsim.dot(tiny[:1], tiny[:1], unit) == 2.0**-140
    assert fpsim.dot(tiny, tiny, unit) == 0
    assert aligned_sum(tiny, tiny, 0.0, unit) == 0
    after = Accumulator("binary32", alignment_bits=13, block=2, carry="after", operands="bfloat16")
    assert fpsim.dot(tiny, tiny, after) == 0  # below the smallest normal sum's last bit that stays


def test_stochastic_steps_after_a_block_use_two_words() -> None:
    accumulator = Accumulator(
        "e5m3", alignment_bits=20, block=2, carry="after", rounding=Stochastic(16)
    )
    rng = np.random.default_rng(0)
    a, b = drawn(rng, (3, 6), "e4m3"), drawn(rng, (3, 6), "e4m3")
    words = fpsim.Stream(5).words(6 * 3).reshape(6, 3) >> np.uint64(48)
    total = np.zeros(3)
    for k in range(3):
        pair = (a.astype(float) * b)[:, 2 * k : 2 * k + 2].sum(axis=1)
        pair = fpsim.round(pair, "e5m3", rounding=Stochastic(16), random_bits=words[2 * k])
        total = fpsim.add(
            total, pair, "e5m3", rounding=Stochastic(16), random_bits=words[2 * k + 1]
        )
    assert np.array_equal(fpsim.dot(a, b, accumulator, rng=5), total)


def test_exact_blocks_draw_a_word_each() -> None:
    accumulator = Accumulator("e5m3", order="exact", block=2, rounding=Stochastic(16))
    rng = np.random.default_rng(0)
    a, b = drawn(rng, (3, 6), "e4m3"), drawn(rng, (3, 6), "e4m3")
    words = fpsim.Stream(5).words(3 * 3).reshape(3, 3) >> np.uint64(48)
    total = np.zeros(3)
    for k in range(3):
        more = (a.astype(float) * b)[:, 2 * k : 2 * k + 2].sum(axis=1)
        total = fpsim.round(total + more, "e5m3", rounding=Stochastic(16), random_bits=words[k])
    assert np.array_equal(fpsim.dot(a, b, accumulator, rng=5), total)


def test_flushing_keeps_the_sign_of_results_but_not_of_operands() -> None:
    flushing = Accumulator("binary32", flush_subnormals=True)
    half = Accumulator("binary32", operands="binary16", flush_subnormals=True)
    tiny = np.float32([2.0**-20])  # subnormal in binary16
    assert fpsim.dot(tiny, np.float32([1.0]), flushing) == tiny[0]
    got = fpsim.dot(-tiny, np.float32([1.0]), half)
    assert got == 0
    assert not np.signbit(got)
    least = np.float32(2.0**-126)
    got = fpsim.dot(least[None], np.float32([0.5]), flushing, -least)
    assert got == 0
    assert np.signbit(got)


def test_aligned_sums_of_tiny_products_are_aligned_to_the_smallest_sum() -> None:
    """A zero sum has the exponent of the smallest normal one."""
    unit = Accumulator.preset("nvidia-h100", "bfloat16")
    tiny = np.float32([2.0**-80, 2.0**-75, 1.0])
    got = fpsim.dot(tiny, tiny, unit)
    assert got == 1.0
    got = fpsim.dot(tiny[:2], tiny[:2], unit)
    assert got == aligned_sum(tiny[:2], tiny[:2], 0.0, unit) == 2.0**-150 + 0 or got == 0


def test_special_values() -> None:
    inf, nan = np.inf, np.nan
    rows = np.array([[inf, 1], [inf, -inf], [0, inf], [nan, 1], [3, 4]], np.float32)
    ones = np.ones(2, np.float32)
    want = np.array([inf, nan, inf, nan, 7], np.float32)
    for accumulator in (
        Accumulator("binary32"),
        Accumulator("binary64"),
        Accumulator("binary16", order="pairwise"),
        Accumulator("binary32", order="kahan"),
        Accumulator("binary32", order="exact"),
        Accumulator.preset("nvidia-h100", "float16"),
    ):
        got = fpsim.dot(rows, ones, accumulator)
        # Kahan's correction after infinity is ∞ − ∞.
        expected = np.array([nan, *want[1:]]) if accumulator.order == "kahan" else want
        assert np.array_equal(got, expected, equal_nan=True), accumulator
        assert np.isnan(fpsim.dot(rows[:1], np.zeros(2, np.float32), accumulator))


def test_the_sign_of_sums_that_cancel() -> None:
    a = np.array([1.0, -1.0])
    for fmt in ("binary16", "binary64"):
        for order in ("sequential", "pairwise", "exact"):
            up = fpsim.dot(a, np.ones(2), Accumulator(fmt, order=order))
            down = fpsim.dot(
                a, np.ones(2), Accumulator(fmt, order=order, rounding="toward_negative")
            )
            assert not np.signbit(up)
            assert np.signbit(down)


def test_shapes() -> None:
    unit = Accumulator("binary32")
    assert fpsim.matmul(np.ones((2, 0)), np.ones((0, 3)), unit).tolist() == [[0] * 3] * 2
    assert fpsim.matmul(np.ones((0, 2)), np.ones((2, 3)), unit).shape == (0, 3)
    assert fpsim.dot(np.ones((4, 0)), np.ones(0), unit, c=2.0).tolist() == [2.0] * 4
    assert fpsim.dot(np.ones(3), np.ones(3), unit).shape == ()
    a = np.arange(24.0).reshape(2, 3, 4)
    assert np.array_equal(fpsim.matmul(a, a.transpose(0, 2, 1), unit), a @ a.transpose(0, 2, 1))
    assert np.array_equal(fpsim.matmul(a[:, ::-1], a[0].T, unit), a[:, ::-1] @ a[0].T)
    assert fpsim.matmul(a.astype(np.float32), a[0].T.astype(np.float16), unit).dtype == np.float32


@pytest.mark.parametrize(
    ("accumulator", "text"),
    [
        (Accumulator("e4m3"), "Accumulator(Format(4, 3, name='e4m3'))"),
        (
            Accumulator("e4m3", Stochastic(4), order="blocked", block=8, block_order="kahan"),
            "Accumulator(Format(4, 3, name='e4m3'), rounding=Stochastic(bits=4, variant='A'), "
            "order='blocked', block=8, block_order='kahan')",
        ),
        (
            Accumulator("e4m3", "to_odd", alignment_bits=3, block=2, overflow="saturate"),
            "Accumulator(Format(4, 3, name='e4m3'), rounding='to_odd', block=2, "
            "overflow='saturate', alignment_bits=3)",
        ),
    ],
)
def test_repr_is_code(accumulator: Accumulator, text: str) -> None:
    assert repr(accumulator) == text
    assert eval(text, vars(fpsim)) == accumulator


# Presets ----------------------------------------------------------------------------------------

CASES = {
    "V100_fp16": ("nvidia-v100", "float16"),
    "A100_fp16": ("nvidia-a100", "float16"),
    "A100_bf16": ("nvidia-a100", "bfloat16"),
    "A100_tf32": ("nvidia-a100", "tf32"),
    "H100_fp16": ("nvidia-h100", "float16"),
    "H100_bf16": ("nvidia-h100", "bfloat16"),
    "H100_tf32": ("nvidia-h100", "tf32"),
    "H100_E4M3": ("nvidia-h100", "float8_e4m3fn"),
    "H100_E5M2": ("nvidia-h100", "float8_e5m2"),
}


@pytest.mark.parametrize("case", CASES)
def test_presets_reproduce_recorded_outputs(case: str) -> None:
    if not RECORDED.exists():
        pytest.skip("the recorded outputs of GPUs are not here")
    recorded = np.load(RECORDED)
    a, b, c, d = (recorded[f"{case}_{name}"] for name in "abcd")
    eight_bits = "_E" in case  # recorded without c
    unit = Accumulator.preset(*CASES[case])
    got = fpsim.dot(a, b, unit, None if eight_bits else c)
    assert np.array_equal(got, d)


def test_presets_say_where_they_are_from() -> None:
    every = units()
    assert {u.name for u in every} >= {
        *("nvidia-v100", "nvidia-a100", "nvidia-a2", "nvidia-ada", "nvidia-l40s"),
        *("nvidia-h100", "nvidia-h200", "nvidia-b200", "amd-cdna1"),
    }
    checked = {(u.name, u.operands) for u in every if "recorded" in u.status}
    assert checked == set(CASES.values())
    for u in every:
        assert u.source
        assert Accumulator.preset(u.name, u.operands) == u.accumulator


# Bad input --------------------------------------------------------------------------------------

ONE = np.ones((2, 2))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Accumulator("nothing"), ValueError, "nothing"),
        (lambda: Accumulator("ue3m2"), ValueError, "fmt=.*sign.*signed format with zero"),
        (lambda: Accumulator("e4m3", product="float8_e8m0fnu"), ValueError, "product=.*sign"),
        (lambda: Accumulator("e4m3", order="random"), ValueError, "order='random'.*'pairwise'"),
        (lambda: Accumulator("e4m3", order="blocked"), ValueError, "needs block="),
        (lambda: Accumulator("e4m3", block=4), ValueError, "order='blocked'"),
        (lambda: Accumulator("e4m3", order="blocked", block=0), ValueError, "block=0.*1 or more"),
        (
            lambda: Accumulator("e4m3", order="blocked", block=2, block_order="exact"),
            ValueError,
            "block_order='exact'.*'kahan'",
        ),
        (lambda: Accumulator("e4m3", block_fmt="e3m2"), ValueError, "block_fmt=.*no blocks"),
        (lambda: Accumulator("e4m3", order="exact", product="e4m3"), ValueError, "product="),
        (lambda: Accumulator("e4m3", alignment_bits=8), ValueError, "block=None.*take block="),
        (lambda: Accumulator("e4m3", alignment_bits=99, block=4), ValueError, "0 to 40"),
        (lambda: Accumulator("e4m3", carry="after"), ValueError, "carry=.*give alignment_bits"),
        (lambda: Accumulator("e4m3", interleaved=2), ValueError, "interleaved=2.*alignment_bits"),
        (
            lambda: Accumulator("e4m3", alignment_bits=8, block=4, carry="two_stage"),
            ValueError,
            "needs carry_bits=",
        ),
        (
            lambda: Accumulator("e4m3", alignment_bits=8, block=4, carry_bits=9),
            ValueError,
            "carry_bits=9.*'two_stage' needs",
        ),
        (
            lambda: Accumulator("e4m3", alignment_bits=8, block=4, carry="two_stage", carry_bits=7),
            ValueError,
            "carry_bits=7.*alignment_bits=8 or more",
        ),
        (
            lambda: Accumulator("e4m3", alignment_bits=8, block=4, interleaved=2),
            ValueError,
            "interleaved=2.*give 1",
        ),
        (
            lambda: Accumulator("e4m3", alignment_bits=8, block=4, block_fmt="e4m3"),
            ValueError,
            "block_fmt=.*carry='after'",
        ),
        (lambda: Accumulator("e4m3", flush_subnormals=1), TypeError, "flush_subnormals=1"),
        (
            lambda: Accumulator("binary16", product="bfloat16"),
            ValueError,
            "product=bfloat16.*fmt=binary16, up to 65504.*overflow='saturate'",
        ),
        (
            lambda: Accumulator("e4m3", order="blocked", block=2, block_fmt="e5m2"),
            ValueError,
            "block_fmt=.*cannot hold",
        ),
        (
            lambda: Accumulator("e4m3", alignment_bits=8, block=4, alignment="to_odd"),
            ValueError,
            "alignment='to_odd'.*'toward_zero'",
        ),
        (
            lambda: Accumulator.preset("nvidia-k80", "float16"),
            ValueError,
            "there are 'nvidia-v100'",
        ),
        (lambda: Accumulator.preset("nvidia-v100", "bfloat16"), ValueError, "there are 'float16'"),
        (lambda: fpsim.dot(ONE, ONE, "binary16"), TypeError, "give a fpsim.Accumulator"),
        (lambda: fpsim.dot(ONE, np.ones(3), Accumulator("e4m3")), ValueError, "last axis"),
        (
            lambda: fpsim.dot(np.ones((2, 3)), np.ones((4, 3)), Accumulator("e4m3")),
            ValueError,
            "leading axes.*broadcast",
        ),
        (lambda: fpsim.matmul(ONE, np.ones((3, 2)), Accumulator("e4m3")), ValueError, "multiply"),
        (lambda: fpsim.matmul(ONE, np.ones(2), Accumulator("e4m3")), ValueError, "no matrices"),
        (
            lambda: fpsim.matmul(ONE, ONE, Accumulator("e4m3"), np.ones(3)),
            ValueError,
            "c has shape",
        ),
        (
            lambda: fpsim.matmul(ONE * 1j, ONE, Accumulator("e4m3")),
            TypeError,
            "a has dtype complex",
        ),
        (
            lambda: fpsim.dot(ONE * 1.001, ONE, Accumulator.preset("nvidia-v100", "float16")),
            ValueError,
            "a has 4 elements that are not .*1.001.*round them first",
        ),
        (
            lambda: fpsim.dot(
                ONE + 2.0**-50, ONE, Accumulator("binary64", alignment_bits=8, block=2)
            ),
            ValueError,
            "alignment_bits=8 and products of 52 bits",
        ),
    ],
)
def test_bad_input_is_named(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
