"""Pictures of formats, casts and data, with matplotlib (extra ``plot``).

Every function takes ``ax=``, the axes to draw on, and returns them. Without one it makes a figure
of its own, ``ax.figure``, through no global state: it works in notebooks, in threads and where
there is no display. ``ax.figure.savefig("picture.svg")`` writes it.
"""

try:
    import matplotlib.figure  # noqa: F401 - what the rest needs
except ImportError:
    raise ImportError("fpsim.plot needs an extra; pip install 'fpsim[plot]'") from None

from fpsim.plot.casts import cast_error, relative_error, step_function
from fpsim.plot.choice import candidates, error_by_sigma
from fpsim.plot.data import coverage, fits, sparsity
from fpsim.plot.formats import number_line
from fpsim.plot.sums import accumulation
from fpsim.plot.tradeoff import pareto

__all__ = [
    "accumulation",
    "candidates",
    "cast_error",
    "coverage",
    "error_by_sigma",
    "fits",
    "number_line",
    "pareto",
    "relative_error",
    "sparsity",
    "step_function",
]
