"""explore: the panel's widgets, driven without a screen."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
import warnings
from fractions import Fraction
from typing import Any

import matplotlib.image
import numpy as np
import pytest

import fpsim
from fpsim import Format, spec
from fpsim.explore import Explorer

X = np.exp(np.random.default_rng(0).normal(-9, 2, 3000)).astype(np.float32)


def panel(x: Any = X, bits: int = 6, **options: Any) -> Explorer:
    with pytest.warns(UserWarning, match=r"Jupyter notebook.*fpsim\.plot\.coverage"):
        return fpsim.explore(x, bits, **options)


def shown(explorer: Explorer) -> dict[str, str]:
    """The numbers by name."""
    pairs = explorer.numbers.value.split("<tr><th")[1:]
    texts = [p.split(">", 1)[1].replace("</td></tr></table></div>", "") for p in pairs]
    split = [t.split("</th><td", 1) for t in texts]
    return {name: value.split(">", 1)[1].split("<")[0] for name, value in split}


def test_it_starts_from_the_recommendation() -> None:
    explorer = panel()
    best = fpsim.recommend(X, 6)
    assert explorer.format.exponent_bits == best.format.exponent_bits
    assert explorer.bias.value == best.best.bias
    # By what `recommend` measured, with the bias in place of the scale.
    assert float(shown(explorer)["mean relative error"]) == pytest.approx(best.measured, rel=1e-3)
    assert repr(explorer) == f"<Explorer of 3,000 elements in {explorer.format}>"
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in str(bundle)


def pixels(explorer: Explorer) -> np.ndarray:
    return np.asarray(matplotlib.image.imread(io.BytesIO(explorer.picture.value)))


@pytest.mark.parametrize(
    ("slider", "value"),
    [
        ("bits", 4),
        ("bias", 20),
        ("rounding", "toward_zero"),
        ("rounding", "stochastic"),
        ("overflow", "infinity"),
    ],
)
def test_moving_a_slider_redraws(slider: str, value: Any) -> None:
    explorer = panel(specials="ieee")
    if slider == "overflow":
        explorer.bias.value = 30
    before, numbers = pixels(explorer), explorer.numbers.value
    getattr(explorer, slider).value = value
    after = pixels(explorer)
    assert before.shape == after.shape
    assert (before != after).any()
    assert explorer.numbers.value != numbers


def test_the_numbers_are_those_of_the_specification() -> None:
    explorer = panel(X[:200])
    explorer.split.value = next(f for name, f in explorer.split.options if name == "e3m2")
    explorer.bias.value = 12
    explorer.rounding.value = "toward_negative"
    fmt = Format(3, 2, bias=12, infinities=False, nans="none")
    assert explorer.format == fmt
    exact = [Fraction(float(v)) for v in X[:200]]
    rounded = [Fraction(spec.round(v, fmt, "toward_negative", "saturate")) for v in exact]
    relative = sum(abs(q / v - 1) for q, v in zip(rounded, exact, strict=True)) / 200
    flushed = sum(q == 0 for q in rounded) / 200
    numbers = shown(explorer)
    assert float(numbers["mean relative error"]) == pytest.approx(float(relative), rel=1e-3)
    assert numbers["flushed to zero"] == f"{100 * flushed:.2f}\N{NO-BREAK SPACE}%"


def test_the_bias_follows_the_split_until_it_is_moved() -> None:
    explorer = panel()
    for name, fmt in explorer.split.options:
        explorer.split.value = fmt
        at = explorer.bias.value
        errors = {b: fpsim.measured_error(X, dataclasses.replace(fmt, bias=b))
                  for b in range(at - 6, at + 7)}  # fmt: skip
        assert errors[at] <= min(errors.values()) * (1 + 1e-6), name
    explorer.bias.value += 3
    assert not explorer.best_bias.value
    kept = explorer.bias.value
    explorer.split.value = explorer.split.options[0][1]
    assert explorer.bias.value == kept
    explorer.best_bias.value = True
    assert explorer.bias.value != kept


def test_another_width_brings_other_splits() -> None:
    explorer = panel(bits=6)
    assert [name for name, _ in explorer.split.options] == ["e1m4", "e2m3", "e3m2", "e4m1", "e5m0"]
    explorer.bits.value = 3
    assert [name for name, _ in explorer.split.options] == ["e1m1", "e2m0"]
    assert explorer.format.bits == 3
    explorer.bits.value = 16
    # From a few exponent bits to those with which a format nearly leaves binary64.
    for _, fmt in explorer.split.options[1::4] + explorer.split.options[-1:]:
        explorer.split.value = fmt
        assert explorer.format.bits == 16
        assert explorer.picture.value or "2**" in explorer.numbers.value


def test_special_codes() -> None:
    explorer = panel(specials="ieee")
    assert explorer.format.infinities
    explorer.overflow.value = "infinity"
    explorer.bias.value = explorer.bias.max
    assert shown(explorer)["mean relative error"] == "inf"


def test_a_part_of_a_large_array_is_emulated() -> None:
    x = np.sort(np.tile(X, 100)).reshape(300, 1000)  # its beginning would say something else
    explorer = panel(x)
    assert shown(explorer)["measured on"] == "262,144 elements"
    whole = fpsim.measured_error(x, explorer.format)
    assert float(shown(explorer)["mean relative error"]) == pytest.approx(whole, rel=2e-3)
    transposed = panel(np.asfortranarray(x))
    assert transposed.numbers.value == explorer.numbers.value


def test_in_a_notebook_there_is_no_warning() -> None:
    code = """
import warnings
warnings.simplefilter("error")
import IPython
class Shell:
    kernel = object()
IPython.get_ipython = lambda: Shell()
import fpsim
print(fpsim.explore([1.0, 2.0, 3.5], 4).format.bits)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "4", done.stderr


@pytest.mark.parametrize("absent", ["ipywidgets", "matplotlib.figure"])
def test_without_the_extra_the_remedy_is_named(absent: str) -> None:
    code = f"""
import sys
sys.modules[{absent!r}] = None
import fpsim
try:
    fpsim.explore([1.0])
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "fpsim.explore needs an extra; pip install 'fpsim[notebook]'"


def test_it_is_a_function_however_its_module_is_imported() -> None:
    code = """
import fpsim.explore
from fpsim.explore import Explorer
import fpsim
print(callable(fpsim.explore), Explorer.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True Explorer"


def test_nothing_else_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "fpsim.explore shows")
        explorer = fpsim.explore(X, 8)
        explorer.rounding.value = "away_from_zero"
