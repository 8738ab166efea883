"""The report: recommendations as one self-contained HTML file (extra ``report``).

Imports analysis, arguments, plot, reprs. Names of tensors and files are somebody else's text: the
template escapes whatever is not `Markup`, and the page's own policy lets a browser run nothing but
the one script that it carries, nor fetch anything.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import platform
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from fpsim import reprs
from fpsim.analysis.error import Metric
from fpsim.analysis.recommend import Basis, Recommendation, SetRecommendation, Shared
from fpsim.arguments import integer

try:
    import jinja2
    import matplotlib
    from markupsafe import Markup
except ImportError:
    raise ImportError("the report needs an extra; pip install 'fpsim[report]'") from None

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpsim import plot

PICTURES = 24  # tensors that get pictures unless told otherwise
_SIZE = (5.2, 3.4)  # of a picture, in inches
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"


def page(
    answers: Mapping[int, SetRecommendation] | SetRecommendation,
    *,
    source: str = "the data",
    command: str = "",
    pictures: int = PICTURES,
) -> str:
    """Recommendations as the text of one HTML file that needs nothing else.

    The answer comes first; then, for each tensor, its fit, the candidates by their predicted and
    measured errors, and pictures; then caveats, and how to reproduce it. It is the same text
    whenever the recommendations are.

    Parameters
    ----------
    answers : SetRecommendation, or dict of them by width
        What `fpsim.recommend` returns for a mapping of tensors.
    source : str
        What the data are, for the title.
    command : str
        What made the recommendations, for the last section.
    pictures : int
        How many tensors get pictures, which take a quarter of a second and 30 KB each.

    Returns
    -------
    str

    Examples
    --------
    >>> import fpsim
    >>> from fpsim import report
    >>> answer = fpsim.recommend({"weights": [0.5, 1.0, -3.0]}, bits=4)
    >>> text = report.page(answer, source="three numbers", pictures=0)
    >>> text.count("e1m2f") > 2, "<script src" in text
    (True, False)
    """
    sets = _by_width(answers)
    pictures = integer("pictures", pictures, 0, 1 << 31, "give how many tensors, 0 or more")
    first = next(iter(sets.values()))
    drawing = _Drawing()
    tensors = []
    for k, name in enumerate(first.tensors):
        of_tensor = {bits: answer.tensors[name] for bits, answer in sets.items()}
        tensors.append(_tensor(k, name, of_tensor, drawing if k < pictures else None))
    some = next(iter(first.tensors.values()))
    script = _text("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page: str = _template().render(
        source=source,
        command=command,
        metric=some.metric,
        tensors=tensors,
        elements=sum(r.sketch.size for r in first.tensors.values()),
        widths=[_width(bits, answer) for bits, answer in sets.items()],
        skipped=first.skipped,
        without_pictures=max(len(tensors) - pictures, 0),
        version=_own_version(),
        python=platform.python_version(),
        numpy=np.__version__,
        style=Markup(_text("report.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
    return page


def write(path: str | Path, answers: Any, **options: Any) -> None:
    """Write `page` to a file.

    Parameters
    ----------
    path : path-like
    answers, **options
        As for `page`.

    Examples
    --------
    >>> import fpsim, pathlib, tempfile
    >>> from fpsim import report
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "report.html")
    ...     report.write(path, fpsim.recommend({"x": [1.0, 3.0]}, bits=4), pictures=0)
    ...     path.read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    Path(path).write_text(page(answers, **options), encoding="utf-8")


def _by_width(answers: Any) -> dict[int, SetRecommendation]:
    remedy = "give what fpsim.recommend returns for a mapping of names to tensors"
    if isinstance(answers, Recommendation):
        raise TypeError(f"answers is of one tensor without a name; {remedy}")
    if isinstance(answers, SetRecommendation):
        answers = {answers.format.bits: answers}
    if not (
        isinstance(answers, Mapping)
        and answers
        and all(isinstance(answer, SetRecommendation) for answer in answers.values())
    ):
        raise TypeError(
            f"answers of type {type(answers).__name__} are no recommendations; {remedy}"
        )
    return dict(answers)


def _own_version() -> str:
    try:
        return version("fpsim")
    except ModuleNotFoundError:  # run from its folder
        return "of an unknown version"


# What the template shows ------------------------------------------------------------------------


def _text(name: str) -> str:
    return (files("fpsim") / "templates" / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    filters: dict[str, Callable[..., Any]] = {
        "printable": reprs.printable,
        "short": reprs.short,
        "percent": reprs.percent,
        "factor": reprs.factor,
        "sortable": _sortable,
    }
    environment.filters.update(filters)
    return environment.from_string(_text("report.html"))


def _sortable(value: float | None) -> str:
    """A number for the script, nothing for what is none."""
    if value is None or math.isnan(value):
        return ""
    return repr(float(value)).replace("inf", "Infinity")


def _width(bits: int, answer: SetRecommendation) -> dict[str, Any]:
    some = next(iter(answer.tensors.values()))

    def regrets(shared: Shared) -> dict[str, Any]:
        return {
            "format": shared.format,
            "worst": _regret(some.metric, shared.worst),
            "mean": _regret(some.metric, shared.mean),
        }

    other = answer.by_mean
    return {
        "bits": bits,
        **regrets(answer.by_worst),
        "layout": Markup(reprs.layout(answer.format)),
        "only": some,
        "other": regrets(other) if other.format != answer.format else None,
    }


def _regret(metric: Metric, regret: float) -> str:
    if metric is Metric.sqnr:
        return f"{regret:.2f} dB"
    return f"{100 * regret:.1f}\N{NO-BREAK SPACE}%" if math.isfinite(regret) else "infinite"


def _tensor(
    index: int, name: str, answers: dict[int, Recommendation], drawing: _Drawing | None
) -> dict[str, Any]:
    some = next(iter(answers.values()))
    fit, sketch = some.fit, some.sketch
    rival = min(fit.alternatives.items(), key=lambda item: item[1], default=None)
    own = []
    if drawing is not None:
        own.append(
            drawing.svg(
                "Magnitudes and fits",
                f"Distribution of the magnitudes of {name}, beside the fits",
                lambda ax: plot.fits(sketch, ax, fit=fit),
            )
        )
        if some.pruning is not None:
            target = some.pruning.target or None
            own.append(
                drawing.svg(
                    "Stochastic pruning",
                    f"Share of zeros of {name} against the threshold of pruning",
                    lambda ax: plot.sparsity(sketch, ax, target=target, fit=fit),
                )
            )
    rows = []
    for bits, r in answers.items():
        drawn = []
        if drawing is not None:
            drawn = [
                drawing.svg(
                    f"Where the elements lie in {r.format}",
                    f"Histogram of {name} by binade, and the range of {r.format}",
                    partial(_coverage, r),
                ),
                drawing.svg(
                    "Predicted and measured",
                    f"Error of every split of {bits} bits on {name}, predicted and measured",
                    partial(plot.candidates, r),
                ),
            ]
        rows.append({"bits": bits, "r": r, "pictures": drawn, "agreement": _agreement(r)})
    return {
        "index": index,
        "name": name,
        "fit": fit,
        "sketch": sketch,
        "rival": rival and (rival[0].replace("_", " "), rival[1]),
        "pictures": own,
        "answers": rows,
    }


def _coverage(r: Recommendation, ax: Axes) -> Axes:
    return plot.coverage(r.sketch, r.format, ax, scale=r.scale, fit=r.fit)


def _agreement(r: Recommendation) -> str:
    """How far the prediction is from what emulation measured."""
    if r.measured is None or not (math.isfinite(r.measured) and math.isfinite(r.expected)):
        return ""
    by = "the data's own sketch" if r.basis is Basis.sketch else "the lognormal fit"
    text = f"Predicted {reprs.short(r.expected)} by {by}, measured {reprs.short(r.measured)}"
    if r.metric is Metric.sqnr:
        return f"{text}: {abs(r.expected - r.measured):.2f} dB apart."
    if not r.measured:
        return f"{text}."
    apart = 100 * abs(r.expected / r.measured - 1)
    return f"{text}: {f'{apart:.2g}' if apart >= 0.01 else 'less than 0.01'} % apart."


# Pictures ---------------------------------------------------------------------------------------


class _Drawing:
    """Makes pictures whose names for their parts do not meet in one page."""

    def __init__(self) -> None:
        self.count = 0

    def svg(self, title: str, label: str, draw: Callable[[Axes], object]) -> Markup:
        """What `draw` draws, as an element for the page, with text as text."""
        self.count += 1
        figure = Figure(figsize=_SIZE)
        ax = figure.add_axes((0.15, 0.15, 0.83, 0.76))
        draw(ax)
        ax.set_title(reprs.printable(title).replace("$", r"\$"), loc="left", fontsize="medium")
        stream = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fpsim"}):
            figure.savefig(stream, format="svg")
        return _element(stream.getvalue(), f"p{self.count}", label)


def _element(source: str, prefix: str, label: str) -> Markup:
    """An SVG file as an element: no header, size, metadata or style of its own; a label."""
    ElementTree.register_namespace("", _SVG[1:-1])
    ElementTree.register_namespace("xlink", _XLINK[1:-1])
    root = ElementTree.fromstring(source)
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", reprs.printable(label))
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if "url(#" in value:  # of fonts and hatches, in attributes and in styles
                used.update(_REFERENCE.findall(value))
                element.set(key, _REFERENCE.sub(rf"url(#{prefix}\1)", value))
            elif key == f"{_XLINK}href":
                used.add(value[1:])
                element.set(key, f"#{prefix}{value[1:]}")
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}metadata" or child.tag == f"{_SVG}style":
                parent.remove(child)
            else:
                child.tail = None
        if parent.tag != f"{_SVG}text" and parent.tag != f"{_SVG}tspan":
            parent.text = None
        if "d" in parent.attrib:
            parent.set("d", " ".join(parent.attrib["d"].split()))
        name = parent.attrib.pop("id", "")
        if name in used:
            parent.set("id", f"{prefix}{name}")
    # The serialiser has escaped every text and attribute.
    return Markup(ElementTree.tostring(root, encoding="unicode"))
