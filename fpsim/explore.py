"""explore: a panel of sliders in a notebook that shows what a format does to one's own data.

Imports analysis, arguments, format, inputs, reprs, rounding; plot and ipywidgets (extra
``notebook``) when called.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim import reprs
from fpsim.analysis.error import best_scale
from fpsim.analysis.measure import measured_summary
from fpsim.analysis.recommend import MAX_BITS, MIN_BITS, recommend, splits
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import integer
from fpsim.format import Format
from fpsim.inputs import real_array
from fpsim.rounding import Overflow, Rounding

_EMULATED = 1 << 18  # elements that are rounded again whenever a slider moves
_REACH = 40  # binades that the bias can be moved from its best


def explore(x: ArrayLike, bits: int = 8, *, specials: str = "none") -> Explorer:
    """Sliders for a format, and what it does to the data: coverage and error, redrawn at once.

    It starts from `fpsim.recommend`'s answer. The bias follows the split until *best bias* is
    switched off. Of arrays of more than 262,144 elements, as many are emulated, evenly spread;
    the histogram counts all.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape, at least one of them finite and nonzero.
    bits : int
        Width to start with, 3 to 16.
    specials : {'none', 'fn', 'ieee', 'p3109'}
        Special codes of the formats, as for `fpsim.recommend`.

    Returns
    -------
    Explorer
        Which a notebook shows; its `format` is what the sliders say.

    Raises
    ------
    ImportError
        Without the extra ``notebook``.

    Warns
    -----
    UserWarning
        Outside a notebook, where there is nothing to show sliders on.

    Examples
    --------
    >>> import fpsim, warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # this is no notebook
    ...     panel = fpsim.explore(fpsim.sample_gradients()["step119/conv5"], bits=6)
    >>> panel.rounding.value = "toward_zero"
    >>> str(panel.format)
    'e4m1b30f'
    """
    try:
        import ipywidgets  # noqa: F401 - asked for before any work
        from IPython import get_ipython

        from fpsim import plot  # noqa: F401
    except ImportError:
        raise ImportError("fpsim.explore needs an extra; pip install 'fpsim[notebook]'") from None
    bits = integer("bits", bits, MIN_BITS, MAX_BITS, f"give a width of {MIN_BITS} to {MAX_BITS}")
    splits(bits, specials)  # settles that there are some
    explorer = Explorer(x, bits, specials)
    if not hasattr(get_ipython(), "kernel"):
        warnings.warn(
            "fpsim.explore shows its sliders in a Jupyter notebook, and this is none; here, "
            "fpsim.plot.coverage(x, fmt) and fpsim.plot.relative_error(fmt) draw the same",
            stacklevel=2,
        )
    return explorer


class Explorer:
    """The panel that `explore` makes: its sliders, and what they say.

    Attributes
    ----------
    bits, split, bias, best_bias, rounding, overflow : ipywidgets
        What to move, by hand or by ``.value =``.
    picture, numbers : ipywidgets
        What is shown.
    panel : ipywidgets.VBox
        All of it.
    """

    def __init__(self, x: ArrayLike, bits: int, specials: str) -> None:
        import ipywidgets

        data, _ = real_array("x", x)
        self._sketch = Sketch.of(data)
        self._sample = _spread(data)
        self._specials = specials
        best = recommend(self._sketch, bits, specials=specials).format
        slim = {"description_width": "5em"}
        whole = ipywidgets.Layout(width="26em")
        self.bits = ipywidgets.IntSlider(
            bits, MIN_BITS, MAX_BITS, description="bits", style=slim, layout=whole,
            continuous_update=False)  # fmt: skip
        options = self._options(bits)
        self.split = ipywidgets.SelectionSlider(
            options=options, value=dict(options)[_name(best)], description="split", style=slim,
            layout=whole, continuous_update=False)  # fmt: skip
        self.bias = ipywidgets.IntSlider(
            0, description="bias", style=slim, layout=whole, continuous_update=False)  # fmt: skip
        self.best_bias = ipywidgets.Checkbox(True, description="best bias", indent=False)
        self.rounding = ipywidgets.Dropdown(
            options=[*(mode.value for mode in Rounding), "stochastic"], description="rounding",
            style=slim, layout=whole)  # fmt: skip
        self.overflow = ipywidgets.Dropdown(
            options=[rule.value for rule in Overflow], value="saturate", description="overflow",
            style=slim, layout=whole)  # fmt: skip
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%"))
        self.numbers = ipywidgets.HTML()
        left = [self.bits, self.split, self.bias, self.best_bias, self.rounding, self.overflow]
        controls = ipywidgets.HBox(
            [ipywidgets.VBox(left), self.numbers],
            layout=ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start"),
        )
        self.panel = ipywidgets.VBox([controls, self.picture])
        self._settling = False
        for widget in left:
            widget.observe(self._moved, "value")
        self._settle()

    @property
    def format(self) -> Format:
        """The format that the sliders say."""
        split: Format = self.split.value
        return replace(split, bias=self.bias.value)

    def __repr__(self) -> str:
        return f"<Explorer of {self._sketch.size:,} elements in {self.format}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.panel._repr_mimebundle_(**options)

    def _options(self, bits: int) -> list[tuple[str, Format]]:
        return [(_name(fmt), fmt) for fmt in splits(bits, self._specials)]

    def _moved(self, change: Any) -> None:
        """A slider was moved: by hand, or by this class while it settles the others."""
        if not self._settling:
            self._settle(change["owner"])

    def _settle(self, moved: Any = None) -> None:
        """Bring the sliders in line with the one that was moved, and redraw."""
        self._settling = True
        try:
            if moved is self.bits:
                self._change_width()
            elif moved is self.bias:
                self.best_bias.value = False
            if moved not in (self.bias, self.rounding, self.overflow):
                self._place_bias()
        finally:
            self._settling = False
        self._draw()

    def _change_width(self) -> None:
        """Splits of another width; the exponent keeps its bits where it can."""
        options = self._options(self.bits.value)
        wanted = self.split.value.exponent_bits
        self.split.options = options
        self.split.value = min(
            (fmt for _, fmt in options), key=lambda fmt: abs(fmt.exponent_bits - wanted)
        )

    def _place_bias(self) -> None:
        """The slider of the bias around the best one, and on it if so wished."""
        scale, _ = best_scale(self._sketch, self.split.value)
        best = self.split.value.bias + round(math.log2(scale))
        wanted = best if self.best_bias.value else self.bias.value
        low, high = min(best - _REACH, wanted), max(best + _REACH, wanted)
        # In an order that never has the lower end above the upper one.
        self.bias.max = max(high, self.bias.max)
        self.bias.min, self.bias.max = low, high
        self.bias.value = wanted

    def _draw(self) -> None:
        fmt = self.format
        try:
            self.numbers.value = self._measured(fmt)
            self.picture.value = self._drawn(fmt)
        except ValueError as error:  # of formats that reach past binary64
            self.numbers.value = f"<p>{reprs.escape(error)}</p>"
            self.picture.value = b""

    def _measured(self, fmt: Format) -> str:
        summary = measured_summary(
            self._sample, fmt, rounding=self.rounding.value, overflow=self.overflow.value, rng=0
        )
        rows = [
            ("mean relative error", reprs.short(summary.relative)),
            ("SQNR", f"{summary.sqnr:.1f} dB"),
            ("flushed to zero", reprs.percent(summary.underflow)),
            ("past the range", reprs.percent(summary.overflow)),
        ]
        if self._sample.size < self._sketch.size:
            rows.append(("measured on", f"{self._sample.size:,} elements"))
        name = f"<strong>{reprs.escape(fmt)}</strong>"
        return f"<div>{name}{reprs.layout(fmt)}{reprs.pairs(rows)}</div>"

    def _drawn(self, fmt: Format) -> bytes:
        from matplotlib.figure import Figure

        from fpsim import plot

        figure = Figure(figsize=(8, 6.4))
        figure.subplots_adjust(left=0.1, right=0.98, bottom=0.09, top=0.95, hspace=0.3)
        top, bottom = figure.subplots(2, sharex=True)
        plot.coverage(self._sketch, fmt, top)
        limits = top.get_xlim()
        options = {"rounding": self.rounding.value, "overflow": self.overflow.value}
        plot.relative_error(fmt, bottom, **options)
        bottom.set_xlim(*limits)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=100)
        return stream.getvalue()


def _name(fmt: Format) -> str:
    return f"e{fmt.exponent_bits}m{fmt.mantissa_bits}"


def _spread(x: NDArray[Any]) -> NDArray[Any]:
    """At most `_EMULATED` elements, evenly spread."""
    if x.size <= _EMULATED:
        return x
    places = np.linspace(0, x.size - 1, _EMULATED).astype(np.int64)
    return np.asarray(x.reshape(-1)[places] if x.flags.c_contiguous else x.flat[places])
