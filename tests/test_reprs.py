"""What notebooks show: well-formed, escaped, and the numbers that it says; tables for frames."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from fractions import Fraction
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import fpsim
from fpsim import Accumulator, Format, Lognormal, Stochastic, reprs
from fpsim.cli import main

HOSTILE = "<script>alert(1)</script>&\"'\n\x1b[31m</td>"
X = np.exp(np.random.default_rng(0).normal(-3, 2, 2000))
SET = fpsim.recommend({HOSTILE: X, "b": X**2, "none": np.zeros(3)}, 6, sparsity=0.5)
ONE = fpsim.recommend(X, 6)

THINGS: dict[str, Any] = {
    "format": Format.parse("float8_e4m3fn"),
    "binary64": Format.parse("binary64"),
    "wide": Format.parse("binary14p1se"),
    "unsigned": Format.parse("float8_e8m0fnu"),
    "named": Format(4, 3, name=HOSTILE),
    "fit": Lognormal.fit(np.append(X, 0.0)),
    "given": Lognormal(0.0, 1.0),
    "point": Lognormal.fit([2.0, 2.0]),
    "recommendation": ONE,
    "sketched": fpsim.recommend(fpsim.Sketch.of(X), 4),
    "set": SET,
    "accumulator": Accumulator("binary32", order="blocked", block=4, block_fmt="bfloat16"),
    "unit": Accumulator.preset("nvidia-h100", "float8_e4m3fn"),
    "stochastic": Accumulator("binary16", rounding=Stochastic(8), order="pairwise"),
    "array": fpsim.array(X[:4], Format(4, 3, name=HOSTILE)),
}


class Page(HTMLParser):
    """Tags that match, the text between them, and every attribute."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("name", THINGS)
def test_html_is_well_formed_self_contained_and_escaped(name: str) -> None:
    page = Page(THINGS[name]._repr_html_())
    allowed = "div table thead tbody tr th td strong span ul li pre"
    assert set(page.tags) <= set(allowed.split())
    assert {key for key, _ in page.attributes} <= {"style", "title"}
    assert not [v for _, v in page.attributes if v and ("url" in v or "script" in v)]
    if name in ("named", "set", "array"):
        text = "".join(page.text)
        assert r"<script>alert(1)</script>&" in text
        assert "\x1b" not in text


@pytest.mark.parametrize("name", [n for n, t in THINGS.items() if isinstance(t, Format)])
def test_bits_of_a_format_are_drawn(name: str) -> None:
    fmt = THINGS[name]
    source = fmt._repr_html_()
    cells = re.findall(r'<td title="bit (\d+)" style="background:(#\w+);[^"]*">(.)</td>', source)
    assert [int(bit) for bit, _, _ in cells] == list(range(fmt.bits))[::-1]
    letters = "s" * fmt.signed + "e" * fmt.exponent_bits + "m" * fmt.mantissa_bits
    assert "".join(letter for _, _, letter in cells) == letters
    assert len({(colour, letter) for _, colour, letter in cells}) == len(set(letters))
    assert len({colour for _, colour, _ in cells}) == len(set(letters))
    text = " ".join(Page(source).text)
    assert f"bias {fmt.bias}" in text
    for value in (fmt.max, fmt.min_normal):
        assert reprs.number(value) in text


SUPERSCRIPTS = {ord(c): d for c, d in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True)}


@given(st.integers(1, 1 << 53), st.integers(-5000, 5000))
def test_numbers_are_exact(significand: int, exponent: int) -> None:
    value = Fraction(significand) * Fraction(2) ** exponent
    text = reprs.number(value)
    decimal, _, binary = text.rpartition(" = ")
    if "2" in text and any(ord(c) in SUPERSCRIPTS for c in text):
        odd, _, power = binary.rpartition(" × ")
        assert power[0] == "2"
        exact = int(odd or 1) * Fraction(2) ** int(power[1:].translate(SUPERSCRIPTS))
        assert exact == value
        assert int(odd or 1) % 2 == 1
        assert odd != "1"
        if decimal:
            assert float(decimal.replace("−", "-")) == pytest.approx(float(value), rel=1e-7)
    else:
        assert float(text) == pytest.approx(float(value), rel=1e-7)


def test_a_fit_says_how_far_to_trust_it() -> None:
    near = np.exp(np.random.default_rng(1).normal(0, 1, 20_000))
    for x, word in ((near, "good"), (np.random.default_rng(1).normal(size=20_000), "poor")):
        text = " ".join(Page(Lognormal.fit(x)._repr_html_()).text)
        assert word in text
    assert "distance" not in Lognormal(0.0, 1.0)._repr_html_()


def test_a_recommendation_shows_its_numbers() -> None:
    text = Page(ONE._repr_html_()).text
    assert text[0] == str(ONE.format)
    for candidate in ONE.candidates:
        assert str(candidate.format) in text
        assert reprs.short(candidate.sketch) in text
    assert "–" in text  # what was not emulated


def test_long_sets_are_cut_and_say_so() -> None:
    answer = fpsim.recommend({f"t{i}": [1.0 + i, 2.0] for i in range(103)}, 4)
    text = "".join(Page(answer._repr_html_()).text)
    assert "t99" in text
    assert "t100" not in text
    assert "3 more; table() has them all" in text


@pytest.mark.parametrize("shape", [(5000,), (7, 1000), (1001, 1), (3, 4, 500), (2000, 2), (1001,)])
def test_large_arrays_print_as_numpy_does(shape: tuple[int, ...]) -> None:
    x = fpsim.round(np.random.default_rng(3).normal(size=shape), "e4m3")
    array = fpsim.array(x, "e4m3")
    whole = np.array2string(x, separator=", ", prefix="array(", floatmode="unique")
    assert repr(array) == f"array({whole}, fmt='e4m3')"
    assert np.array2string(x) in array._repr_html_()


def test_printing_a_large_array_decodes_little() -> None:
    array = fpsim.FloatArray(np.zeros((4000, 5000), np.uint8), "e4m3")
    tracemalloc.start()
    repr(array), array._repr_html_()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


# Tables -----------------------------------------------------------------------------------------


def test_table_of_candidates() -> None:
    table = ONE.table()
    assert table["format"] == [str(c.format) for c in ONE.candidates]
    assert table["measured"] == [c.measured for c in ONE.candidates]
    assert table["measured"][2] is None
    assert table["bias_without_scale"][0] == ONE.format.bias + np.log2(ONE.scale)
    assert len({len(column) for column in table.values()}) == 1
    plain = (str, int, float, type(None))
    assert all(type(v) in plain for column in table.values() for v in column)


def test_table_of_a_set() -> None:
    table = SET.table()
    assert table["tensor"] == [HOSTILE, "b"]
    assert table["format"] == [str(r.format) for r in SET.tensors.values()]
    assert table["shared_regret"] == [SET.by_worst.regrets[n] for n in SET.tensors]
    assert table["pruning_threshold"] == [r.pruning.threshold for r in SET.tensors.values()]
    assert table["metric"] == ["relative", "relative"]
    plain = (str, int, float, type(None))
    assert all(type(v) in plain for column in table.values() for v in column)
    assert fpsim.recommend({"a": X}, 4).table()["pruning_threshold"] == [None]


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("answer", [ONE, SET])
def test_frames(library: str, answer: Any) -> None:
    frame = pytest.importorskip(library).DataFrame(answer.table())
    table = answer.table()
    assert list(frame.columns) == list(table)
    assert list(frame["fit"]) == table["fit"]


def test_the_command_line_has_the_same_columns() -> None:
    table = fpsim.recommend(fpsim.sample_gradients(), 4).table()
    text = CliRunner().invoke(main, ["recommend", "--bits", "4", "--csv"]).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(table)
    for name, column in table.items():
        assert [row[name] for row in rows] == ["" if v is None else str(v) for v in column]
    data = json.loads(CliRunner().invoke(main, ["recommend", "--bits", "4", "--json"]).stdout)
    tensors = data["widths"][0]["tensors"]
    for i, (name, tensor) in enumerate(tensors.items()):
        assert table["tensor"][i] == name
        for key in ("count", "mu", "ks", "smallest"):
            assert tensor[key] == table[key][i]
        for key in ("scale", "fit", "sketch", "measured", "underflow"):
            assert tensor["candidates"][0][key] == table[key][i]
