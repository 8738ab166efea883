"""The report: self-contained, escaped everywhere, right in its numbers; and ``fpsim plot``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

import fpsim
from fpsim import plot, report, reprs
from fpsim.cli import main

RNG = np.random.default_rng(0)
X = np.exp(RNG.normal(-3, 1, 3000))
HOSTILE = (
    "<script>document.title='owned'</script><img src=http://x.test/a.png onerror=alert(1)>"
    "\"'&{{7*7}}{% raw %}]]>--><!--\x00\x1b[31m\u202e$x$\n\udc80"
)
TENSORS = {
    HOSTILE: X,
    "b" * 300: X**3,
    "</script></style></svg>": np.append(X, [np.nan, np.inf, 0.0]),
    "zeros": np.zeros(3),
    'ünïcode "quoted"': RNG.normal(size=500),
}
ANSWERS = fpsim.recommend(TENSORS, [4, 6], sparsity=0.4)
OPTIONS: dict[str, Any] = {"source": HOSTILE, "command": f"fpsim recommend {HOSTILE}"}
PAGE = report.page(ANSWERS, pictures=2, **OPTIONS)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Elements, attributes, text by element; tags must match."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:60]}")

    def words(self) -> str:
        return " ".join(text.strip() for tag, text in self.text if tag not in ("style", "script"))


@pytest.fixture(scope="module")
def parsed() -> Page:
    return Page(PAGE)


# Somebody else's text ---------------------------------------------------------------------------


def test_names_are_text_and_nothing_else(parsed: Page) -> None:
    assert parsed.tags["script"] == 1
    assert parsed.tags["style"] == 1
    assert parsed.tags["img"] == 0
    shown = reprs.printable(HOSTILE)
    assert "<script>" in shown
    assert "{{7*7}}" in shown
    assert "\n" not in shown
    assert parsed.words().count(shown) >= 5  # title, source, tables, heading, command
    labels = [v for tag, key, v in parsed.attributes if (tag, key) == ("svg", "aria-label")]
    assert any(shown in label for label in labels)
    assert not [c for c in PAGE if not c.isprintable() and c not in "\n\N{NO-BREAK SPACE}"]


def test_names_in_pictures_are_text(tmp_path: Path) -> None:
    rows = [{"format": HOSTILE, "bits": 4, "error": 0.1}, {"format": "b", "bits": 8, "error": 0.01}]
    drawing = report._Drawing()
    source = drawing.svg(HOSTILE, HOSTILE, lambda ax: plot.pareto(rows, ax))
    page = Page(source)
    allowed = "svg g path defs use text tspan rect clippath"
    assert set(page.tags) <= set(allowed.split())
    texts = [text for tag, text in page.text if tag in ("text", "tspan")]
    assert texts.count(reprs.printable(HOSTILE)) == 2  # the title, and the point's name
    # As files, too.
    ax = Figure().add_subplot()
    plot.pareto(rows, ax).figure.savefig(tmp_path / "x.svg")
    elements = ElementTree.parse(tmp_path / "x.svg").iter()
    assert "script" not in {element.tag.split("}")[1] for element in elements}


# Self-contained ---------------------------------------------------------------------------------


def test_nothing_is_fetched(parsed: Page) -> None:
    keys = ("src", "href", "xlink:href", "action")
    places = [v for _, key, v in parsed.attributes if key in keys]
    assert places
    assert all(place.startswith("#") for place in places)
    assert not [v for _, _, v in parsed.attributes if re.search(r"url\((?!#)", v)]
    css = next(text for tag, text in parsed.text if tag == "style")
    assert "url(" not in css
    assert "@import" not in css


def test_the_policy_allows_the_one_script_alone(parsed: Page) -> None:
    (policy,) = [v for tag, key, v in parsed.attributes if (tag, key) == ("meta", "content")
                 and "default-src" in v]  # fmt: skip
    script = re.search(r"<script>(.*?)</script>", PAGE, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
    }


def test_parts_have_names_of_their_own(parsed: Page) -> None:
    names = Counter(v for _, key, v in parsed.attributes if key == "id")
    assert max(names.values()) == 1
    used = {v[1:] for _, key, v in parsed.attributes if key in ("href", "xlink:href")}
    used |= {name for _, _, v in parsed.attributes for name in re.findall(r"url\(#([^)]*)\)", v)}
    assert used <= set(names)
    assert any("fill: url(#" in v for _, _, v in parsed.attributes)  # hatches are there


def test_it_is_the_same_text_every_time() -> None:
    assert report.page(ANSWERS, pictures=2, **OPTIONS) == PAGE


# What it says -----------------------------------------------------------------------------------


def rows_of(page: str, table: int) -> list[list[str]]:
    """The text of a table's cells."""
    found = re.findall(r"<table class=\"sortable\".*?</table>", page, re.S)[table]
    rows = re.findall(r"<tr.*?</tr>", found, re.S)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


def test_the_answer_comes_first() -> None:
    first = PAGE[PAGE.index("<main>") : PAGE.index('id="tensors"')]
    for answer in ANSWERS.values():
        assert f'<strong class="answer">{answer.format}</strong>' in first
    assert PAGE.index('id="answer"') < PAGE.index('id="t0"') < PAGE.index('id="caveats"')
    assert PAGE.index('id="caveats"') < PAGE.index('id="reproduce"')


def test_numbers_of_every_tensor() -> None:
    header, *rows = rows_of(PAGE, 0)
    table = {
        (bits, name): r for bits, answer in ANSWERS.items() for name, r in answer.tensors.items()
    }
    assert len(rows) == len(table) == 8
    expected = [
        (bits, name) for name in ANSWERS[4].tensors for bits in (4, 6)
    ]  # both widths of a tensor beside each other
    for row, key in zip(rows, expected, strict=True):
        r = table[key]
        cells = dict(zip(header, row, strict=True))
        assert cells["bits"] == str(key[0])
        assert cells["best"] == str(r.format)
        assert cells["predicted"] == reprs.short(r.expected)
        assert cells["measured"] == reprs.short(r.measured)
        assert cells["clipped"] == reprs.percent(r.best.overflow)
        assert cells["D"] == f"{r.fit.ks:.3f}"
    header, *rows = rows_of(PAGE, 1)
    candidates = ANSWERS[4].tensors[HOSTILE].candidates
    assert [row[0] for row in rows] == [str(c.format) for c in candidates]
    assert [row[header.index("sketch")] for row in rows] == [
        reprs.short(c.sketch) for c in candidates
    ]
    assert [row[header.index("measured")] for row in rows][2:] == ["–"]


def test_what_was_left_out_and_what_to_know(parsed: Page) -> None:
    words = parsed.words()
    assert "zeros : none of 3 elements is finite and nonzero" in words
    assert "1 NaN and 1 infinite of 3003 elements were left out" in words
    assert f"fpsim {fpsim.__version__}, Python" in words
    assert f"NumPy {np.__version__}" in words
    assert "no seed" in words
    assert "Stochastic pruning to 40.00" in words


def test_tensors_have_pictures_and_those_without_are_counted() -> None:
    sections = PAGE.split('<section class="tensor"')[1:]
    assert [section.count("<svg") for section in sections] == [2 + 2 * 2, 2 + 2 * 2, 0, 0]
    assert "drawn for the first 2 tensors; 2 are without" in PAGE
    one = report.page(fpsim.recommend({"a": X}, 4))
    assert one.count("<svg") == 3  # fits, coverage, candidates: nothing is pruned
    assert "are without" not in one


@pytest.mark.parametrize("metric", ["sqnr", "nmse", "cosine", "bias"])
def test_other_metrics(metric: str) -> None:
    answer = fpsim.recommend({"a": X, "b": X**2}, 5, metric)
    page = Page(report.page(answer, pictures=1))
    assert fpsim.Metric(metric).words in page.words()
    assert (" dB at worst" in page.words().replace("  ", " ")) == (metric == "sqnr")


def test_one_tensor() -> None:
    answer = fpsim.recommend({"only": X}, 6)
    words = Page(report.page(answer, source="x.npy", pictures=0)).words()
    r = answer.tensors["only"]
    words = words.replace(" ,", ",")
    assert f"predicted {reprs.short(r.expected)}, measured {reprs.short(r.measured)}" in words
    assert "at worst" not in words
    assert "1 tensor, 3,000 elements" in words


def test_a_point_mass_and_a_sketch() -> None:
    answer = fpsim.recommend({"same": np.full(5, 3.0), "sketch": fpsim.Sketch.of(X)}, 4)
    words = Page(report.page(answer)).words()
    assert "all nonzero magnitudes are equal" in words


# The command line -------------------------------------------------------------------------------


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_html_of_the_command_line(tmp_path: Path) -> None:
    """As a process, from a file whose name and tensors have the worst names."""
    data = tmp_path / "<b>$x$.npz"
    np.savez(data, **{"<script>alert(1)</script>": X, "b": X**2})
    out = tmp_path / "report.html"
    arguments = ["recommend", str(data), "--bits", "5", "--html", str(out), "--json"]
    start = "from fpsim.cli import main; main(prog_name='fpsim')"
    done = subprocess.run([sys.executable, "-c", start, *arguments], capture_output=True,
                          text=True, timeout=240, check=True)  # fmt: skip
    assert done.stderr == ""
    page = Page(out.read_text(encoding="utf-8"))
    assert page.tags["script"] == 1
    assert page.tags["b"] == 0
    assert shlex.join(["fpsim", *arguments]) in page.words()
    assert "<b>$x$.npz: 2 tensors, 6,000 elements" in page.words()
    tensors = json.loads(done.stdout)["widths"][0]["tensors"]
    for name, tensor in tensors.items():
        assert name in page.words()
        assert tensor["candidates"][0]["format"]["name"] in page.words()


@pytest.mark.parametrize("place", ["no/such/folder/x.html", "."])
def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fpsim, "recommend", lambda *a, **k: pytest.fail("it began to work"))
    result = run("recommend", "--html", place)
    assert result.exit_code == 2
    assert place in result.output
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("absent", ["jinja2", "matplotlib"])
def test_without_the_extra_the_remedy_is_named(absent: str) -> None:
    code = f"""
import sys
sys.modules[{absent!r}] = None
from fpsim.cli import main
main(["recommend", "--html", "x.html"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "pip install 'fpsim[report]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    np.savez(tmp_path / "two.npz", a=X, b=X**2)
    (tmp_path / "t.csv").write_text("format,bits,gates,error\na,4,867,0.1\nb,8,2107,0.02\n")
    return {name: str(tmp_path / name) for name in ("x.npy", "two.npz", "t.csv")}


COMMANDS = {
    "numberline e4m3": "The values of e4m3",
    "number-line e2m1f e3m0f --limits 0 8": "The values of 2 formats",
    "number_line e2m1f --log": "The positive values of e2m1f",
    "step-function e2m1f --rounding toward_zero --overflow saturate": "toward zero",
    "cast-error e2m1f --limits -1 1": "Error of rounding to e2m1f",
    "relative-error e4m3fn e5m2 --rounding stochastic": "stochastic",
    "coverage e4m3fn": "10,000 nonzero elements in e4m3fn",
    "coverage e4m3fn x.npy --scale 16": "3,000 nonzero elements",
    "coverage e4m3fn two.npz --tensor b": "3,000 nonzero elements",
    "fits x.npy": "Magnitudes of 3,000",
    "sparsity x.npy --target 0.5": "Stochastic pruning of 3,000",
    "error-by-sigma 3 --at 1.5": "Splits of 3 bits",
    "candidates 5 x.npy --metric sqnr": "Splits of 5 bits",
    "accumulation binary16 nvidia-h100/float8_e4m3fn --length 32 --rows 4 --positive": "4 of each",
    "pareto t.csv --cost gates": "error against gates",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_plot_commands_draw(command: str, data: dict[str, str], tmp_path: Path) -> None:
    arguments = [data.get(word, word) for word in command.split()]
    out = tmp_path / "out.svg"
    result = run("plot", *arguments, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.output == ""
    text = out.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    title = COMMANDS[command]
    assert title in text  # matplotlib says in a comment what a path of letters is


def test_every_picture_has_a_command() -> None:
    commands = main.commands["plot"].commands
    assert {name.replace("-", "_") for name in commands} == set(plot.__all__)
    for name in commands:
        text = run("plot", name, "--help").output
        assert f"fpsim plot {name} " in text
        example = text.split("Example:")[1].split("\n")[1].strip()
        assert example.startswith("fpsim plot")
        assert "--out" in example


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("number-line e99 --out x.svg", ["e99", "fpsim.formats()"]),
        ("number-line e2m1f --out x.bmpp", ["x.bmpp", ".svg", ".png"]),
        ("number-line e2m1f --out no/x.svg", ["no/x.svg", "folder"]),
        ("number-line --out x.svg", ["FORMAT"]),
        ("number-line e2m1f", ["--out"]),
        ("coverage e4m3 two.npz --out x.svg", ["--tensor", "a, b"]),
        ("coverage e4m3 two.npz --tensor c --out x.svg", ["'c'", "a, b"]),
        ("coverage e4m3 --tensor c --out x.svg", ["embedded sample", "step000/conv1"]),
        ("coverage e4m3 no.npy --out x.svg", ["no.npy", "no such file"]),
        ("accumulation a100 --out x.svg", ["a100"]),
        ("accumulation nvidia-x/binary16 --out x.svg", ["nvidia-x", "nvidia-h100"]),
        ("pareto t.csv --cost area --out x.svg", ["'area'", "gates"]),
        ("numberlime e2m1f --out x.svg", ["numberlime"]),
    ],
)
def test_plot_commands_refuse(
    arguments: str,
    words: list[str],
    data: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    result = run("plot", *arguments.split())
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.output
    assert sorted(os.listdir(tmp_path)) == before


# In a browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Any:
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=options
        )
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    """The page, and what it said and asked for."""
    path = tmp_path / "report.html"
    path.write_text(PAGE, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: page.said.append(dialog.message))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()


@pytest.mark.browser
def test_browser_runs_nothing_of_the_names_and_asks_for_nothing(opened: Any) -> None:
    opened.wait_for_timeout(300)
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("file:")] == []
    assert len(opened.asked) == 1
    assert opened.title().startswith("Which format?")
    assert opened.locator("script").count() == 1
    assert opened.locator("img").count() == 0


@pytest.mark.browser
def test_browser_would_refuse_what_slipped_through(opened: Any) -> None:
    """The policy holds even if markup of a name got in."""
    markup = '<img src="http://x.test/a.png" onerror="document.title = 1">'
    opened.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", markup)
    opened.wait_for_timeout(300)
    assert not [url for url in opened.asked if url.startswith("http") and "x.test" not in url]
    assert any("Content Security Policy" in text for text in opened.said)
    assert opened.title().startswith("Which format?")


@pytest.mark.browser
def test_browser_sorts_tables(opened: Any) -> None:
    def column(k: int) -> list[str]:
        return opened.locator(f"#tensors tbody tr td:nth-child({k + 1})").all_text_contents()

    header, *rows = rows_of(PAGE, 0)
    k = header.index("measured")
    values = [float(row[k]) for row in rows]
    button = opened.locator("#tensors th button").nth(k)
    button.click()
    assert [float(v) for v in column(k)] == sorted(values)
    assert opened.locator("#tensors th").nth(k).get_attribute("aria-sort") == "ascending"
    best = [row[header.index("best")] for row in sorted(rows, key=lambda row: float(row[k]))]
    assert column(header.index("best")) == best  # whole rows move
    button.press("Enter")
    assert [float(v) for v in column(k)] == sorted(values, reverse=True)
    names = header.index("tensor")
    opened.locator("#tensors th button").nth(names).click()
    up = column(names)
    assert [up[i] for i in range(0, 8, 2)] == [up[i] for i in range(1, 8, 2)]  # by tensor
    opened.locator("#tensors th button").nth(names).click()
    assert column(names) == up[::-1] != up
    assert opened.locator("#tensors th[aria-sort]").count() == 1
    # Candidates that were not measured come last, either way.
    table = opened.locator("table.sortable").nth(1)
    measured = rows_of(PAGE, 1)[0].index("measured")
    for _ in range(2):
        table.locator("th button").nth(measured).click()
        cells = table.locator(f"tbody tr td:nth-child({measured + 1})").all_text_contents()
        assert cells[-1] == "–"
    scale = rows_of(PAGE, 0)[0].index("scale")
    opened.locator("#tensors th button").nth(scale).click()
    powers = [float(v) for v in opened.locator(f"#tensors td:nth-child({scale + 1})")
              .evaluate_all("cells => cells.map(c => c.dataset.value)")]  # fmt: skip
    assert powers == sorted(powers)


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_browser_shows_it_on_any_width(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    svg = opened.locator(".pictures svg").first.bounding_box()
    assert 300 < svg["width"] <= width
    size = opened.evaluate("""() => { const t = document.querySelector('.pictures svg text');
      return t.getBoundingClientRect().height }""")
    assert size > 7  # still to be read


@pytest.mark.browser
def test_browser_prints_all_of_it(opened: Any, tmp_path: Path) -> None:
    opened.emulate_media(media="print")
    opened.set_viewport_size({"width": 680, "height": 1000})  # A4 within its margins
    assert opened.evaluate("document.documentElement.scrollWidth") <= 680
    ends = opened.locator("table").evaluate_all(
        "tables => tables.map(table => table.getBoundingClientRect().right)"
    )
    assert max(ends) <= 680
    opened.pdf(path=tmp_path / "x.pdf", format="A4")
    assert (tmp_path / "x.pdf").stat().st_size > 50_000
