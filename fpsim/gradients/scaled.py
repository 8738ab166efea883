"""ScaledRounding and Chain: formats whose scale follows the gradients, and methods in a row.

Both are called like the functions beside them, ``transform(x, rng=…)``; the first remembers what
it has seen, so that every layer needs one of its own. Imports arguments, cast, format, rounding,
stream, analysis.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim.analysis.error import Metric, best_scale
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.recommend import OF_THE_LARGEST, Basis
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import choice, integer, positive, shown
from fpsim.cast import round as round_to
from fpsim.format import Format
from fpsim.inputs import real_array
from fpsim.rounding import Overflow, Rounding, Stochastic, parse_overflow, parse_rounding
from fpsim.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

MAXIMUM = "maximum"
_SCALES = (*(metric.value for metric in Metric), MAXIMUM)
_MOST = 1 << 40


class ScaledRounding:
    """Rounding to a format with a scale that is fitted to what comes, again and again.

    ``x * scale`` is rounded and divided by `scale` again. The scale is the power of two that is
    best for a metric, under a lognormal fitted to the magnitudes seen lately or over their sketch.
    It is fitted to the 1st, 2nd, 4th, 8th … array, then to every `refit`-th.

    Results have x's dtype, and are exact where it holds them. A scale that is given and no power
    of two multiplies and divides in float64.

    Parameters
    ----------
    fmt : Format, str or dtype
    scale : str or float
        ``'relative'``, ``'nmse'``, ``'sqnr'``, ``'cosine'`` or ``'bias'``: the scale at which this
        `Metric` is best; ``'maximum'``: the largest at which the largest magnitude does not
        overflow; a number: that scale, always.
    basis : {'auto', 'fit', 'sketch'}
        Whether the lognormal fit or the sketch itself decides, as for `fpsim.recommend`.
    refit : int
    window : int
        How many of the last sketches count.
    rounding : Rounding, Stochastic or str
    overflow : Overflow or str

    Attributes
    ----------
    current : float or None
        The scale in use; None before the first array.

    Examples
    --------
    >>> import fpsim
    >>> to_e4m1 = fpsim.ScaledRounding("e4m1f")
    >>> rounded = to_e4m1(fpsim.sample_gradients()["step030/conv3"])
    >>> rounded[0] * to_e4m1.current, to_e4m1.current
    (np.float32(-1.5), 8388608.0)
    """

    def __init__(
        self,
        fmt: Any,
        scale: str | float = "relative",
        *,
        basis: Basis | str = "auto",
        refit: int = 100,
        window: int = 4,
        rounding: Rounding | Stochastic | str = "ties_to_even",
        overflow: Overflow | str = "saturate",
    ) -> None:
        self.fmt = Format.parse(fmt)
        self.fmt.require_binary64()
        if isinstance(scale, str):
            if scale not in _SCALES:
                allowed = ", ".join(repr(name) for name in _SCALES)
                raise ValueError(f"scale={shown(scale)} is not one of {allowed}, or a number")
            self.scale: str | float = scale
        else:
            self.scale = positive("scale", scale)
        self.basis = choice("basis", basis, Basis)
        self.refit = integer("refit", refit, 1, _MOST, "give after how many arrays to fit again")
        remedy = "give how many sketches count, 1 or more"
        self.window: deque[Sketch] = deque(maxlen=integer("window", window, 1, 1 << 16, remedy))
        self.rounding = parse_rounding(rounding)
        self.overflow = parse_overflow(overflow)
        self.seen = 0
        self.current: float | None = None if isinstance(self.scale, str) else self.scale

    def __repr__(self) -> str:
        return f"ScaledRounding({str(self.fmt)!r}, {self.scale!r})"

    def __call__(self, x: ArrayLike, rng: Any = None) -> Any:
        """Round an array, after fitting the scale to it where its turn has come."""
        array, own = real_array("x", x)
        self.seen += 1
        early = self.seen < self.refit and self.seen & (self.seen - 1) == 0
        due = early or self.seen % self.refit == 0 or self.current is None
        if due and isinstance(self.scale, str):
            self._fit(Sketch.of(array), self.scale)
        scale = 1.0 if self.current is None else self.current  # so far there was only zero
        options = {"rounding": self.rounding, "overflow": self.overflow, "rng": rng}
        fraction, exponent = math.frexp(scale)
        wide = array if own.itemsize >= 4 else array.astype(np.float32)
        if fraction == 0.5:  # a power of two: the format with another bias
            shifted = replace(self.fmt, bias=self.fmt.bias + exponent - 1, name=None)
            return round_to(wide, shifted, **options).astype(own, copy=False)
        scaled = wide.astype(np.float64)
        scaled *= scale
        round_to(scaled, self.fmt, out=scaled, **options)
        scaled /= scale
        return scaled.astype(own, copy=False)

    def _fit(self, sketch: Sketch, scale: str) -> None:
        if sketch.nonzero == 0:
            return
        self.window.append(sketch)
        seen = reduce(Sketch.merge, self.window)
        if scale == MAXIMUM:
            room = float(self.fmt.max) / seen.largest
            self.current = 2.0 ** (math.frexp(room)[1] - 1)
            return
        metric = Metric(scale)
        source: Sketch | Lognormal = seen
        if self.basis is not Basis.sketch:
            fit = Lognormal.fit(seen)
            usable = fit.quality in ("good", "usable") and metric not in OF_THE_LARGEST
            if usable or self.basis is Basis.fit:
                source = fit
        self.current, _ = best_scale(source, self.fmt, metric, overflow=self.overflow)


class Chain:
    """Transforms one after the other, each with random bits of its own.

    Parameters
    ----------
    *transforms : callable
        Each ``transform(x, rng=…)``, such as ``functools.partial(fpsim.luq, exponent_bits=3)``.

    Examples
    --------
    >>> import fpsim
    >>> from functools import partial
    >>> both = fpsim.Chain(partial(fpsim.nm_sparsify, n=1, m=2), fpsim.ScaledRounding("e2m1f"))
    >>> both([1.0, 2.0, -5.0, 0.0], rng=0)
    array([ 0.,  3., -4.,  0.])
    """

    def __init__(self, *transforms: Callable[..., Any]) -> None:
        for i, transform in enumerate(transforms):
            if not callable(transform):
                raise TypeError(
                    f"transforms[{i}]={shown(transform)} cannot be called; give functions of "
                    "(x, rng=…)"
                )
        self.transforms = transforms

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.transforms))})"

    def __call__(self, x: ArrayLike, rng: Any = None) -> Any:
        """Pass an array through all of them."""
        stream = Stream.of(rng)
        for i, transform in enumerate(self.transforms):
            x = transform(x, rng=stream.derive(i))
        return x
