"""Pictures: what the artists hold, against computations that share no code with the pictures."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib
import ml_dtypes
import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import fpsim
from fpsim import Accumulator, Format, Lognormal, Overflow, Rounding, Sketch, Stochastic, plot, spec
from fpsim.plot import style
from fpsim.plot.tradeoff import on_front

RNG = np.random.default_rng(0)
GRADIENTS = fpsim.sample_gradients()["step119/conv1"]
SMALL = ["float4_e2m1fn", "e3m0f", "e2m2", "e1m2", "ue2m2f", "e2m1f,subnormals=false",
         "binary5p2uf", "float6_e3m2fn", "e3m2fnuz"]  # fmt: skip
LN2 = math.log(2)


def line(ax: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """The data of the one line of this name."""
    (found,) = [drawn for drawn in ax.lines if drawn.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


# What all pictures have in common ---------------------------------------------------------------

ROWS = [{"format": "a", "bits": 4, "error": 0.1}, {"format": "b", "bits": 8, "error": 0.01}]
EVERY: dict[str, Callable[..., Axes]] = {
    "number_line": lambda ax=None: plot.number_line("e2m1f", ax),
    "step_function": lambda ax=None: plot.step_function("e2m1f", ax),
    "cast_error": lambda ax=None: plot.cast_error("e2m1f", ax),
    "relative_error": lambda ax=None: plot.relative_error("e2m1f", ax),
    "coverage": lambda ax=None: plot.coverage(GRADIENTS, "e4m3", ax),
    "candidates": lambda ax=None: plot.candidates(fpsim.recommend(GRADIENTS, 4), ax),
    "error_by_sigma": lambda ax=None: plot.error_by_sigma(3, ax, sigmas=[1, 2]),
    "fits": lambda ax=None: plot.fits(GRADIENTS, ax),
    "sparsity": lambda ax=None: plot.sparsity(GRADIENTS, ax),
    "accumulation": lambda ax=None: plot.accumulation(np.ones(4), np.full(4, 0.3), "e4m3", ax),
    "pareto": lambda ax=None: plot.pareto(ROWS, ax),
}


def test_every_picture_is_here() -> None:
    assert set(EVERY) == set(plot.__all__)


@pytest.mark.parametrize("name", EVERY)
def test_axes_come_back_with_title_and_names(name: str) -> None:
    own = EVERY[name]()
    assert isinstance(own, Axes)
    given_ = Figure().add_subplot()
    assert EVERY[name](given_) is given_
    for ax in (own, given_):
        assert len(ax.get_title(loc="left")) > 5
        assert ax.get_xlabel()
        assert ax.get_ylabel() or name == "number_line"  # where rows are named instead


@pytest.mark.parametrize("name", EVERY)
def test_every_picture_can_be_written_and_shown(name: str, tmp_path: Path) -> None:
    with matplotlib.rc_context():
        before = dict(matplotlib.rcParams)
        ax = EVERY[name]()
        for suffix in ("svg", "png"):
            ax.figure.savefig(tmp_path / f"x.{suffix}")
            assert (tmp_path / f"x.{suffix}").stat().st_size > 1000
        assert ax._repr_png_().startswith(b"\x89PNG")  # what notebooks show
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_left_alone() -> None:
    code = """
import sys, numpy as np
sys.argv = ["x"]
from fpsim import plot
plot.number_line("e2m1f").figure.savefig("/dev/null", format="svg")
plot.coverage(np.ones(4), "e4m3")._repr_png_()
print([name for name in ("matplotlib.pyplot", "tkinter") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_without_matplotlib_the_remedy_is_named() -> None:
    code = """
import sys
sys.modules["matplotlib"] = sys.modules["matplotlib.axes"] = None
import fpsim
try:
    from fpsim import plot
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "fpsim.plot needs an extra; pip install 'fpsim[plot]'"


# Machado, Oliveira, Fernandes: A physiologically-based model for simulation of color vision
# deficiency (2009), severity 1, on linear RGB.
VISIONS = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, white D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_can_be_told_apart(vision: str) -> None:
    """A difference of 10 in L*a*b* is seen at a glance; matplotlib's own cycle has 3 here."""

    def closest(colours: Any) -> float:
        seen = []
        for colour in colours:
            rgb = np.array(to_rgb(colour))
            linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
            seen.append(lab(np.array(VISIONS[vision]) @ linear))
        return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))

    assert closest(style.PALETTE) > 10


def test_lines_differ_in_more_than_colour() -> None:
    looks = [tuple(s.values()) for s in itertools.islice(style.styles(), 28)]
    assert len(set(looks)) == 28
    assert all(a[1] != b[1] for a, b in itertools.pairwise(looks))


def test_names_are_shown_as_they_are() -> None:
    """Neither as mathematics nor over several lines."""
    rows = [{"format": "$x_1$\n<b>", "bits": 1, "error": 1.0}]
    ax = plot.pareto(rows)
    (text,) = ax.texts
    ax.figure.canvas.draw()
    assert text._preprocess_math(text.get_text()) == (r"$x_1$\n<b>", False)


def test_pictures_of_the_docs_are_there() -> None:
    docs = Path(__file__).parent.parent / "docs"
    text = (docs / "plots.md").read_text() + (docs / "report.md").read_text()
    named = set(re.findall(r"images/([\w-]+\.png)", text))
    script = (docs / "pictures.py").read_text()
    drawn = {f"plot-{name}.png" for name in re.findall(r'^    "([\w-]+)": ', script, re.M)}
    assert named == drawn | {"explore.png", "report.png", "report-phone.png"}
    for name in named:
        assert (docs / "images" / name).stat().st_size > 5000
    for function in plot.__all__:
        assert f"`plot.{function}`" in text


# Number lines -----------------------------------------------------------------------------------


def marks(ax: Axes, row: int) -> dict[str, list[tuple[float, float]]]:
    """By kind, (position, half height) of the marks in a row."""
    found: dict[str, list[tuple[float, float]]] = {}
    for drawn in ax.collections:
        assert isinstance(drawn, LineCollection)
        for (x0, y0), (x1, y1) in drawn.get_segments():
            assert x0 == x1
            if (y0 + y1) / 2 == pytest.approx(row):
                found.setdefault(str(drawn.get_label()), []).append((x0, (y1 - y0) / 2))
    return found


@pytest.mark.parametrize("dtype", ["float4_e2m1fn", "float8_e4m3fn", "float8_e5m2"])
def test_number_line_has_every_value(dtype: str) -> None:
    bits = Format.parse(dtype).bits
    values = np.arange(1 << bits).astype(np.uint8).view(getattr(ml_dtypes, dtype)).astype(float)
    values = np.unique(values[np.isfinite(values)])
    tiny = float(ml_dtypes.finfo(dtype).smallest_normal)
    drawn = marks(plot.number_line(["e2m1f", dtype]), row=1)
    assert [x for x, _ in drawn["zero"]] == [0.0]
    assert sorted(x for x, _ in drawn["subnormal"]) == list(
        values[(abs(values) < tiny) & (values != 0)]
    )
    assert sorted(x for x, _ in drawn["normal"]) == list(values[abs(values) >= tiny])
    high = {x for kind in ("normal", "subnormal") for x, h in drawn[kind] if h > 0.3}
    assert high == {x for x in values[values != 0] if math.log2(abs(x)).is_integer()}


def test_number_line_on_powers_of_two() -> None:
    ax = plot.number_line("float6_e2m3fn", log=True, limits=(0.25, 2.0))
    values = [Fraction(n, 8) for n in (*range(2, 8), *range(8, 17))]
    drawn = sorted(x for kind in marks(ax, 0).values() for x, _ in kind)
    assert drawn == pytest.approx([math.log2(v) for v in values], abs=1e-15)
    ax.figure.canvas.draw()
    assert "2⁻¹" in [t.get_text() for t in ax.get_xticklabels()]


@pytest.mark.parametrize("fmt", SMALL)
def test_number_line_of_any_format(fmt: str) -> None:
    parsed = Format.parse(fmt)
    values = {spec.decode(code, fmt) for code in range(1 << parsed.bits)}
    finite = {float(v) for v in values if isinstance(v, Fraction) or v == 0}
    drawn = marks(plot.number_line(fmt), 0)
    assert {x for kind in drawn.values() for x, _ in kind} == finite
    labels = [t.get_text() for t in plot.number_line(fmt).texts]
    assert labels == (["∞", "−∞"][: 1 + parsed.signed] if parsed.infinities else [])


# Staircases and their errors --------------------------------------------------------------------


def at(x: np.ndarray, y: np.ndarray, where: float) -> float:
    """A line that jumps, in the one piece strictly around a place."""
    left, right = x[:-1], x[1:]
    (k,) = np.flatnonzero((left < where) & (where < right))
    slope = (y[k + 1] - y[k]) / (right[k] - left[k])
    return float(y[k] + slope * (where - left[k]))


def shaded(ax: Axes, where: float) -> set[str]:
    """The names, without an underscore, of shadings at a place."""
    return {
        str(p.get_label()).removeprefix("_")
        for p in ax.patches
        if isinstance(p, Rectangle) and p.get_x() < where < p.get_x() + p.get_width()
    }


MODES = [*Rounding]
RULES = [*Overflow]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(SMALL), st.sampled_from(MODES), st.sampled_from(RULES), st.data())
def test_staircase_is_the_specification(
    fmt: str, mode: Rounding, rule: Overflow, data: st.DataObject
) -> None:
    parsed = Format.parse(fmt)
    ulp = Fraction(float(parsed.ulp(parsed.max)))
    high = float(parsed.max + 2 * ulp)
    options: dict[str, Any] = {"rounding": mode, "overflow": rule, "limits": (-high, high)}
    ax = plot.step_function(fmt, **options)
    error = plot.cast_error(fmt, **options)
    # Near every value and every middle, on both sides.
    values = sorted({v for c in range(parsed.max_code + 1)
                     if isinstance(v := spec.decode(c, fmt), Fraction)})  # fmt: skip
    past = [parsed.max + ulp / 2, parsed.max + ulp, parsed.max + ulp * 3 / 2]
    ends = [*values, *((a + b) / 2 for a, b in itertools.pairwise(values)), *past]
    place = data.draw(st.sampled_from(ends)) * data.draw(st.sampled_from([1, -1]))
    x = Fraction(place) + data.draw(st.sampled_from([-1, 1])) * Fraction(1, 1 << 20)
    exact = spec.round(x, fmt, mode, rule)
    y, e = at(*line(ax, "result"), float(x)), at(*line(error, "error"), float(x))
    if isinstance(exact, float) and not math.isfinite(exact):
        assert math.isnan(y)
        assert math.isnan(e)
        assert shaded(ax, float(x)) == shaded(error, float(x)) == {
            "NaN" if math.isnan(exact) else "±∞"
        }  # fmt: skip
    else:
        assert y == float(exact)
        assert e == pytest.approx(float(Fraction(exact) - x), abs=1e-12)
        assert shaded(ax, float(x)) == shaded(error, float(x)) == set()


def test_staircases_show_the_whole_range_of_small_formats() -> None:
    for ax in (plot.step_function("e2m1f"), plot.cast_error("ue2m1f")):
        low, high = ax.get_xlim()
        assert high > 6
        assert low < (-6 if ax.get_ylabel() == "round(x)" else 0)
    assert plot.step_function("e4m3").get_xlim() == (-4 * 2.0**-6, 4 * 2.0**-6)


def test_stochastic_staircase_shows_both_neighbours() -> None:
    ax = plot.step_function("e2m1f", rounding=Stochastic(), overflow="saturate")
    for where in (0.3, 1.2, -2.7, 6.4):
        pair = {at(*line(ax, name), where) for name in ("toward zero", "away from zero")}
        low, high = (spec.round(where, "e2m1f", m, "saturate")
                     for m in ("toward_negative", "toward_positive"))  # fmt: skip
        assert pair == {float(low), float(high)}


def test_band_around_the_error_is_half_an_ulp() -> None:
    ax = plot.cast_error("e2m1f", limits=(0.0, 6.0))
    (band,) = [c for c in ax.collections if c.get_label() == "± ½ ulp"]
    x, y = band.get_paths()[0].vertices.T
    for low, high, half in ((0.01, 1.99, 0.25), (2.01, 3.99, 0.5), (4.01, 5.99, 1.0)):
        inside = (x > low) & (x < high)
        assert set(np.abs(y[inside])) == {half}


# Error against magnitude ------------------------------------------------------------------------


def largest_in_binade(fmt: str, exponent: int, mode: Any, rule: str) -> float:
    """By trying every decision point in a binade from both sides, in rationals."""
    parsed = Format.parse(fmt)
    start, stop = Fraction(2) ** exponent, Fraction(2) ** (exponent + 1)
    values = [v for c in range(1 << parsed.magnitude_bits)
              if isinstance(v := spec.decode(c, fmt), Fraction)]  # fmt: skip
    points = {start, stop, *values, *((a + b) / 2 for a, b in itertools.pairwise(values))}
    points |= {parsed.max + Fraction(float(parsed.ulp(parsed.max))) / k for k in (1, 2)}
    nudge = Fraction(1, 1 << 60)
    worst = Fraction(0)
    for point in points:
        for x in (point * (1 - nudge), point, point * (1 + nudge)):
            if start <= x < stop:
                worst = max(worst, abs(1 - Fraction(spec.round(x, fmt, mode, rule)) / x))
    return float(worst)


@pytest.mark.parametrize("mode", ["ties_to_even", "toward_zero", "away_from_zero", "to_odd"])
@pytest.mark.parametrize("fmt", ["float4_e2m1fn", "e3m0f", "e3m2,subnormals=false", "e2m4fnuz"])
def test_largest_relative_error_in_each_binade(fmt: str, mode: str) -> None:
    ax = plot.relative_error(fmt, rounding=mode)
    x, y = line(ax, f"{Format.parse(fmt)}: largest in each binade")
    assert len(x) > 8
    for start, stop, worst in zip(x[::2], x[1::2], y[::2], strict=True):
        assert stop == start + 1
        exact = largest_in_binade(fmt, int(start), mode, "saturate")
        if math.isnan(worst):  # as x goes to 0, away from it
            assert exact > 1
        else:
            assert worst == pytest.approx(exact, rel=1e-12)
    teeth, error = line(ax, "every x")
    inside = np.isfinite(error) & (error > 2.0 ** -(Format.parse(fmt).precision + 3))
    for where, e in list(zip(teeth[inside], error[inside], strict=True))[::7]:
        ends = np.exp2(where) * np.array([1 - 1e-9, 1 + 1e-9])
        near = [abs(1 - float(spec.round(v, fmt, mode, "saturate")) / v) for v in ends]
        assert min(abs(e - n) for n in near) < 1e-7


def test_relative_error_of_wide_formats() -> None:
    ax = plot.relative_error(["binary16", "bfloat16", "binary32"], scale=2.0**10)
    for name, u, emin in (("binary16", 2.0**-11, -14), ("bfloat16", 2.0**-8, -126),
                          ("binary32", 2.0**-24, -126)):  # fmt: skip
        x, y = (v[::2] for v in line(ax, name))
        assert y[list(x).index(0 - 10)] == pytest.approx(u / (1 + u), rel=1e-9)
        assert y[list(x).index(emin - 11)] == pytest.approx(2 * u / (1 + 2 * u), rel=1e-9)


def test_relative_error_of_stochastic_rounding_is_the_worse_of_two() -> None:
    ax = plot.relative_error("e4m3f", rounding="stochastic")
    x, y = (v[::2] for v in line(ax, "e4m3f: largest in each binade"))
    assert y[list(x).index(0.0)] == pytest.approx(2.0**-3)  # just above 1, up to 1.125


# Coverage ---------------------------------------------------------------------------------------


def bars(ax: Axes) -> dict[str, dict[int, float]]:
    """By what becomes of them, the shares in each binade."""
    found = {}
    for container in ax.containers:
        assert isinstance(container, BarContainer)
        name = str(container.get_label()).split(":")[0]
        found[name] = {round(p.get_x()): p.get_height() for p in container if p.get_height()}
        assert all(p.get_width() == 1.0 for p in container)
    return found


@pytest.mark.parametrize("scale", [1.0, 2.0**-9, 2.0**12])
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_coverage_is_what_casting_does(dtype: str, scale: float) -> None:
    x = np.exp(RNG.normal(1, 3, 20_000)).astype(np.float32) * RNG.choice([-1, 1], 20_000)
    x[:50] = 0
    scaled = (x[50:] * scale).astype(np.float32)
    cast = scaled.astype(getattr(ml_dtypes, dtype)).astype(np.float64)
    info = ml_dtypes.finfo(dtype)
    # ml_dtypes' float4 saturates: there the largest value's own half step is the end.
    over = ~np.isfinite(cast) | (np.abs(scaled) > 7 if dtype == "float4_e2m1fn" else False)
    fates = {
        "flushed to zero": cast == 0,
        "past the range": over,
        "normal": ~over & (np.abs(scaled) >= float(info.smallest_normal)),
    }
    fates["subnormal"] = ~np.logical_or.reduce([*fates.values()])
    binade = np.frexp(np.abs(scaled))[1] - 1
    ax = plot.coverage(x, dtype, scale=scale)
    drawn = bars(ax)
    for name, chosen in fates.items():
        exponents, counts = np.unique(binade[chosen], return_counts=True)
        expected = dict(zip(exponents.tolist(), counts / scaled.size, strict=True))
        assert drawn[name] == pytest.approx(expected, abs=1e-12), name
        (label,) = [text for text in legend(ax) if text.startswith(name)]
        shown = float(label.removeprefix(f"{name}: ").removesuffix(" %"))
        assert shown == pytest.approx(100 * chosen.mean(), abs=0.05)
    assert Sketch.of(x).nonzero == scaled.size


def test_coverage_shades_where_numbers_are_lost() -> None:
    ax = plot.coverage(np.float64(2.0) ** np.arange(-30, 30), "float8_e4m3fn")
    spans = [p for p in ax.patches if to_hex(p.get_facecolor()) in (style.ORANGE.lower(),
             style.PURPLE.lower()) and p.get_alpha()]  # fmt: skip
    low, high = sorted(spans, key=lambda p: p.get_x())
    assert low.get_x() + low.get_width() == -10  # half of 2**-9
    assert high.get_x() == pytest.approx(math.log2(464), abs=1e-12)


def test_coverage_shows_what_a_fit_expects() -> None:
    fit = Lognormal(0.3, 1.2)
    ax = plot.coverage(np.exp(RNG.normal(0.3, 1.2, 1000)), "e4m3", scale=4.0, fit=fit)
    x, y = line(ax, "expected by the lognormal fit")
    normal = scipy.stats.norm(0.3 / LN2 + 2, 1.2 / LN2)
    assert y == pytest.approx(normal.cdf(x + 0.5) - normal.cdf(x - 0.5), abs=1e-12)


def test_coverage_of_other_scales_and_formats() -> None:
    x = np.exp(RNG.normal(0, 1, 5000))
    drawn = bars(plot.coverage(x, "float8_e8m0fnu", scale=3.0))
    assert drawn["flushed to zero"] == {}
    assert sum(drawn["normal"].values()) == pytest.approx(1)
    exponents, counts = np.unique(np.frexp(3 * x)[1] - 1, return_counts=True)
    for e, share in zip(exponents, counts / 5000, strict=True):
        assert drawn["normal"][int(e)] == pytest.approx(share, abs=0.01)
    without = bars(plot.coverage([1.5 * 2.0**-7, 2.0**-7, 1.0], "e4m3,subnormals=false"))
    assert without["up to min_normal"] == {-7: 1 / 3}
    assert without["flushed to zero"] == {-7: 1 / 3}  # a tie, and 0 is even


# Error by sigma ---------------------------------------------------------------------------------


def test_error_by_sigma_at_published_anchors() -> None:
    """Errors at the best scale of the all-finite E2M1 and E3M0, found by quadrature elsewhere."""
    ax = plot.error_by_sigma(4, at=2.0, sigmas=[1.0, 2.0])
    assert line(ax, "e2m1f")[1] == pytest.approx([0.113631, 0.269586], abs=2e-6)
    assert line(ax, "e3m0f")[1][1] == pytest.approx(0.210746, abs=2e-6)
    assert ax.texts[0].get_text() == "e3m0f, 0.211"
    assert line(ax, "_at")[0] == [2.0]
    assert line(ax, "_at")[1] == pytest.approx([0.210746], abs=2e-6)


@pytest.mark.parametrize("metric", ["relative", "sqnr", "cosine"])
def test_the_best_split_is_the_thick_line(metric: str) -> None:
    ax = plot.error_by_sigma(5, metric=metric, sigmas=[0.5, 1.0, 2.0, 3.0])
    thin = np.array([drawn.get_ydata() for drawn in ax.lines if drawn.get_linewidth() < 4])
    thick = np.array([drawn.get_ydata() for drawn in ax.lines if drawn.get_linewidth() > 4])
    best = thin.max(axis=0) if metric == "sqnr" else thin.min(axis=0)
    assert np.nanmax(thick, axis=0) == pytest.approx(best)
    assert (np.isfinite(thick).sum(axis=0) == 1).all()


def test_error_by_sigma_takes_a_fit() -> None:
    ax = plot.error_by_sigma(4, at=Lognormal(-3.0, 2 * LN2), sigmas=[1.0, 2.0])
    assert line(ax, "_at")[0] == pytest.approx([2.0])


@pytest.mark.parametrize("metric", ["relative", "sqnr", "cosine"])
def test_candidates_are_those_of_the_recommendation(metric: str) -> None:
    answer = fpsim.recommend(GRADIENTS, 5, metric)
    ax = plot.candidates(answer)
    formats = [tick.get_text() for tick in ax.get_yticklabels()]
    assert formats == [str(c.format) for c in answer.candidates]
    assert ax.yaxis_inverted()  # the best on top
    drawn = {name: line(ax, name) for name in legend(ax)}
    for fmt, scale, row in zip(formats, answer.table()["scale"], itertools.count(), strict=False):
        for name, error in (
            ("measured", fpsim.measured_error(GRADIENTS, fmt, scale, metric)),
            ("lognormal fit", Lognormal.fit(GRADIENTS).expected_error(fmt, scale, metric)),
        ):
            x, y = drawn[name]
            assert y[row] == row
            expected = 1 - error if metric == "cosine" else error
            if name == "lognormal fit" or row < 2:
                assert x[row] == pytest.approx(expected, rel=1e-9)
            else:
                assert math.isnan(x[row])  # not emulated
    assert ("closed form" in drawn) == (metric == "relative")


# Fits -------------------------------------------------------------------------------------------


def test_fits_against_scipy() -> None:
    x = np.abs(RNG.standard_t(3, 4000))
    ax = plot.fits(np.where(RNG.random(4000) < 0.5, x, -x))
    at_data, shares = line(ax, "data")
    assert (np.diff(at_data) >= 0).all()
    assert (np.diff(shares) >= 0).all()
    sorted_x = np.sort(x)
    for where, share in list(zip(at_data, shares, strict=True))[::50]:
        # Within a cell, 1/128 of a binade, the sketch knows nothing.
        low, high = np.searchsorted(sorted_x, np.exp2(where) * np.array([1 - 0.008, 1 + 0.008]))
        assert low / 4000 <= share <= high / 4000
    log = np.log(x)
    rms, scale = math.sqrt(np.mean(x**2)), math.sqrt(3 * np.mean(x**2)) / math.pi
    spread = np.mean(np.abs(log - np.median(log)))
    exact = {
        "lognormal": scipy.stats.kstest(log, scipy.stats.norm(log.mean(), log.std()).cdf),
        "|normal|": scipy.stats.kstest(x, scipy.stats.halfnorm(scale=rms).cdf),
        "|Laplace|": scipy.stats.kstest(x, scipy.stats.expon(scale=x.mean()).cdf),
        "|logistic|": scipy.stats.kstest(x, scipy.stats.halflogistic(scale=scale).cdf),
        "|Cauchy|": scipy.stats.kstest(x, scipy.stats.halfcauchy(scale=np.median(x)).cdf),
        "log-Laplace": scipy.stats.kstest(log, scipy.stats.laplace(np.median(log), spread).cdf),
    }
    shown = dict(text.split(", D = ") for text in legend(ax)[1:])
    assert set(shown) == set(exact)
    for name, test in exact.items():
        assert float(shown[name]) == pytest.approx(test.statistic, abs=0.004), name


def test_fits_mark_the_distance_where_it_is() -> None:
    ax = plot.fits(GRADIENTS)
    (x, _), (a, b) = line(ax, "_distance")
    assert f"lognormal, D = {abs(a - b):.3f}" in legend(ax)
    at_data, shares = line(ax, "data")
    fit = Lognormal.fit(GRADIENTS)
    cdf = scipy.stats.norm(fit.mu_log2, fit.sigma_log2).cdf(at_data)
    assert abs(a - b) == pytest.approx(np.max(np.abs(shares - cdf)), abs=1e-9) == fit.ks
    assert x == at_data[np.argmax(np.abs(shares - cdf))]


def test_fits_of_equal_magnitudes() -> None:
    ax = plot.fits([2.0, -2.0, 2.0])
    assert "lognormal, D = 0.000" in legend(ax)
    x, y = line(ax, "lognormal, D = 0.000")
    assert set(y[x < 1]) == {0.0}
    assert set(y[x > 1]) == {1.0}


# Pruning ----------------------------------------------------------------------------------------


def test_sparsity_against_sums_and_quadrature() -> None:
    x = np.where(RNG.random(3000) < 0.2, 0.0, RNG.laplace(size=3000))
    ax = plot.sparsity(x, target=0.85)
    log2_threshold, measured = line(ax, "on the data")
    for t, share in zip(np.exp2(log2_threshold), measured, strict=True):
        assert share == pytest.approx(np.mean(np.maximum(1 - np.abs(x) / t, 0)), abs=2e-4)
    assert measured[0] == pytest.approx(0.8 * 0.005 + 0.2, abs=0.01)
    assert measured[-1] > 0.99
    fit = Lognormal.fit(x)
    curve, predicted = line(ax, "predicted by the fit")
    normal = scipy.stats.norm(fit.mu, fit.sigma)
    zeros = np.mean(x == 0)
    for t, share in list(zip(curve, predicted, strict=True))[::40]:
        ln_t = t * LN2
        pruned = scipy.integrate.quad(lambda y, end=ln_t: (1 - math.exp(y - end)) * normal.pdf(y),
                                      fit.mu - 12 * fit.sigma, ln_t)[0]  # fmt: skip
        assert share == pytest.approx(zeros + (1 - zeros) * pruned, abs=1e-8)
    # The band is as wide as D allows, and the data stay within.
    (band,) = [c for c in ax.collections if str(c.get_label()).startswith("prediction")]
    low, high = np.array([[y.min(), y.max()] for t in curve for y in
                          [band.get_paths()[0].vertices[:, 1][np.isclose(
                              band.get_paths()[0].vertices[:, 0], t)]]]).T  # fmt: skip
    d = fit.ks * (1 - zeros)
    assert low == pytest.approx(np.clip(predicted - d, 0, 1), abs=1e-9)
    assert high == pytest.approx(np.clip(predicted + d, 0, 1), abs=1e-9)
    assert (np.interp(log2_threshold, curve, low) <= measured + 1e-3).all()
    assert (measured - 1e-3 <= np.interp(log2_threshold, curve, high)).all()
    marked = {str(drawn.get_label()): drawn.get_xdata()[0] for drawn in ax.lines}
    (own,) = [v for k, v in marked.items() if "85.0 % on the data" in k]
    assert np.mean(np.maximum(1 - np.abs(x) / 2.0**own, 0)) == pytest.approx(0.85, abs=2e-4)
    (by_fit,) = [v for k, v in marked.items() if "85.0 % by the fit" in k]
    assert np.interp(by_fit, curve, predicted) == pytest.approx(0.85, abs=1e-3)


# Sums -------------------------------------------------------------------------------------------


def test_accumulation_against_rationals() -> None:
    a, b = fpsim.round(RNG.normal(size=(2, 3, 40)), "float8_e4m3fn")
    how = Accumulator("e5m4", rounding="toward_zero")
    ax = plot.accumulation(a, b, {"mine": how, "wide": "binary32"}, lengths=[1, 7, 40])
    n, drawn = line(ax, "mine")
    _, most = line(ax, "_largest of mine")
    assert list(n) == [1, 7, 40]
    for k, size in enumerate((1, 7, 40)):
        errors = []
        for row in range(3):
            s, exact, size_of_all = Fraction(0), Fraction(0), Fraction(0)
            for p, q in zip(a[row, :size], b[row, :size], strict=True):
                product = Fraction(float(p)) * Fraction(float(q))
                s = Fraction(spec.round(s + product, "e5m4", "toward_zero"))
                exact, size_of_all = exact + product, size_of_all + abs(product)
            errors.append(float(abs(s - exact) / size_of_all))
        assert drawn[k] == pytest.approx(math.sqrt(np.mean(np.square(errors))), rel=1e-9)
        assert most[k] == pytest.approx(max(errors), rel=1e-9)
    gammas = [d for d in ax.lines if "γₙ" in str(d.get_label())]
    assert len(gammas) == 2  # 2**-4 for the directed rounding, 2**-24 for binary32
    u = 2.0**-4
    (mine,) = [g for g in gammas if g.get_ydata()[0] > 1e-3]
    assert mine.get_ydata()[:2] == pytest.approx([u / (1 - u), 7 * u / (1 - 7 * u)])
    assert math.isnan(mine.get_ydata()[2])  # 40 u > 1: no bound
    (roots,) = [d for d in ax.lines if d.get_label() == "√n u" and d.get_ydata()[0] > 1e-3]
    assert roots.get_ydata() == pytest.approx([u, math.sqrt(7) * u, math.sqrt(40) * u])


def test_accumulation_names_what_it_sums_with() -> None:
    a = np.ones((2, 8))
    every = [
        "bfloat16",
        Accumulator("binary32", order="blocked", block=4, block_fmt="bfloat16"),
        Accumulator("binary16", rounding=Stochastic(), product="binary16"),
        Accumulator.preset("nvidia-h100", "float8_e4m3fn"),
        Accumulator("binary16", order="kahan", rounding="toward_zero"),
    ]
    assert legend(plot.accumulation(a, a, every))[:5] == [
        "bfloat16",
        "binary32, blocks of 4, in bfloat16",
        "binary16, products in binary16, stochastic",
        "e8m13, 32 terms aligned to 13 bits, toward zero",
        "binary16, kahan, toward zero",
    ]


# Pareto fronts ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_pareto_front_against_its_definition(points: list[tuple[int, int]]) -> None:
    def beats(p: tuple[int, int], q: tuple[int, int]) -> bool:
        return p[0] <= q[0] and p[1] <= q[1] and p != q

    x, y = np.array(points, float).T
    assert on_front(x, y).tolist() == [not any(beats(p, q) for p in points) for q in points]


@pytest.mark.parametrize("kind", ["columns", "rows", "pandas", "polars"])
def test_pareto_takes_any_table(kind: str) -> None:
    rows: Any = [
        {"format": "a", "gates": 10, "error": 0.5, "other": None},
        {"format": "b", "gates": 30, "error": 0.1, "other": None},
        {"format": "c", "gates": 40, "error": 0.2, "other": None},
    ]
    if kind == "columns":
        rows = {name: [row[name] for row in rows] for name in rows[0]}
    elif kind != "rows":
        rows = pytest.importorskip(kind).DataFrame(rows)
    ax = plot.pareto(rows, cost="gates")
    x, y = line(ax, "Pareto front")
    assert (list(x), list(y)) == ([10, 30], [0.5, 0.1])
    assert list(line(ax, "beaten in both")[0]) == [40]
    assert [text.get_text() for text in ax.texts] == ["a", "b"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("gates", "error")
