"""measured_error: what rounding really did to an array, by emulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim import kernels
from fpsim.analysis.error import ErrorSummary, Metric, parse_metric
from fpsim.arguments import positive
from fpsim.cast import round
from fpsim.format import Format
from fpsim.inputs import chunks, is_dask, real_array
from fpsim.kernels import statistics
from fpsim.rounding import Overflow, Rounding, Stochastic, parse_overflow, parse_rounding
from fpsim.stream import Stream
from fpsim.threads import over_chunks

_F64 = np.dtype(np.float64)
_CHUNK = 1 << 16
_NEAREST = (Rounding.ties_to_even, Rounding.ties_to_away, Rounding.ties_to_zero)


def measured_error(
    x: ArrayLike,
    fmt: Any,
    scale: float = 1.0,
    metric: Metric | str = "relative",
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "saturate",
    rng: Any = None,
) -> float:
    """Round ``x * scale`` to a format, divide by `scale`, and measure the error.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape. Zeros change no metric; NaN and infinities are left out.
    fmt : Format, str or dtype
    scale : float
        Positive. The product is taken in float64: exact for a power of two.
    metric : {'relative', 'nmse', 'sqnr', 'cosine', 'bias'}
        See `Metric`.
    rounding, overflow, rng
        As for `fpsim.round`; an element that becomes infinite or NaN makes the error infinite.

    Returns
    -------
    float

    Examples
    --------
    >>> import fpsim
    >>> fpsim.measured_error([1.0, 1.25, -3.0, 0.0], "float4_e2m1fn")  # 1.25 goes to 1
    0.06666666666666667
    """
    metric = parse_metric(metric)
    summary = measured_summary(x, fmt, scale, rounding=rounding, overflow=overflow, rng=rng)
    return summary.value(metric)


def measured_summary(
    x: ArrayLike,
    fmt: Any,
    scale: float = 1.0,
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "saturate",
    rng: Any = None,
) -> ErrorSummary:
    """Every metric of `measured_error` from one pass.

    Examples
    --------
    >>> from fpsim.analysis.measure import measured_summary
    >>> measured_summary([0.1, 1.0, 100.0], "float4_e2m1fn").underflow
    0.3333333333333333
    """
    (summary,) = measured_summaries(
        x, [(fmt, scale)], rounding=rounding, overflow=overflow, rng=rng
    )
    return summary


def measured_summaries(
    x: ArrayLike,
    choices: Sequence[tuple[Any, float]],
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "saturate",
    rng: Any = None,
    progress: Callable[[int], object] | None = None,
) -> list[ErrorSummary]:
    """`measured_summary` for several pairs of format and scale, from one pass.

    `progress` is called with the number of elements done since the last call, for every pair.

    Examples
    --------
    >>> from fpsim.analysis.measure import measured_summaries
    >>> pair = measured_summaries([0.1, 1.0, 100.0], [("e2m1f", 1.0), ("e3m0f", 2.0)])
    >>> [summary.underflow for summary in pair]
    [0.3333333333333333, 0.0]
    """
    mode, rule = parse_rounding(rounding), parse_overflow(overflow)
    trials = [_Trial.of(fmt, scale, mode, rule) for fmt, scale in choices]
    size, totals = _totals(x, trials, rng, progress)
    return [_summary(total, size) for total in totals]


_Sums = tuple[int, "NDArray[np.float64]"]  # (k, sums of `statistics.error_sums` in units of 2**k)
# Sums of first powers carry 2**k, of second powers 4**k; counts and ratios nothing.
_POWERS = np.array([0, 0, 1, 1, 2, 2, 2, 2, 0, 0])


@dataclass(frozen=True)
class _Trial:
    """A format to be tried, and how."""

    fmt: Format
    scale: float
    mode: Rounding | Stochastic
    rule: Overflow
    past: float  # magnitudes above it round past the range

    @classmethod
    def of(cls, fmt: Any, scale: Any, mode: Rounding | Stochastic, rule: Overflow) -> _Trial:
        fmt = Format.parse(fmt)
        fmt.require_binary64()
        limit = float(fmt.max)
        past = limit + float(fmt.ulp(limit)) / 2 if mode in _NEAREST else limit
        return cls(fmt, positive("scale", scale), mode, rule, past)

    def sums(self, x: NDArray[np.float64], draw: Stream | None) -> _Sums:
        """The sums over a part of an array."""
        # Elements that are left out become 0, so that random bits keep their places and a
        # format without NaN takes no offence.
        y = np.empty_like(x)
        kernels.compiled(statistics.scaled, _F64, _F64)(x, y, self.scale)
        q = round(y, self.fmt, rounding=self.mode, overflow=self.rule, rng=draw)
        k = int(np.frexp(max(np.max(y), -np.min(y)))[1])
        sums = np.zeros(10)
        kernels.compiled(statistics.error_sums, _F64, _F64)(x, y, q, self.past, k, sums)
        return k, sums


def _totals(
    x: ArrayLike,
    trials: Sequence[_Trial],
    rng: Any = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[int, list[_Sums]]:
    """(the size of an array, the sums over all of it for each trial)."""
    random = isinstance(trials[0].mode, Stochastic)
    if is_dask(x):
        from fpsim.dask import reduce_chunks

        every = progress and (lambda done: progress(done * len(trials)))
        whole = Stream.of(rng) if random else None
        size, totals = reduce_chunks(_totals, x, _both, whole, every, trials=trials)
        return size, totals
    array, _ = real_array("x", x)
    stream = Stream.of(rng, array.shape) if random else None
    stretch = None if stream is None else stream.stretch
    parts: list[list[_Sums]] = [[] for _ in trials]

    def work(start: int, stop: int) -> None:
        for (values,), first in chunks([(array, _F64)], start, stop, stretch=stretch):
            draw = None if stream is None else Stream(stream.seed, int(stream.word_of(first)))
            with np.errstate(over="ignore", invalid="ignore"):
                for trial, sums in zip(trials, parts, strict=True):
                    sums.append(trial.sums(values, draw))
        if progress is not None:
            progress((stop - start) * len(trials))

    over_chunks(array.size, work, chunk=_CHUNK)
    return array.size, [_total(sums) for sums in parts]


def summary_between(x: ArrayLike, q: ArrayLike, past: float = math.inf) -> ErrorSummary:
    """Every metric of a method that made `q` of `x`, whatever it was.

    Parameters
    ----------
    x, q : array_like of one shape
        Elements whose x is zero, NaN or infinite are left out.
    past : float
        The share of the magnitudes in x above it is the overflow.

    Examples
    --------
    >>> from fpsim.analysis.measure import summary_between
    >>> summary = summary_between([1.0, -2.0, 4.0, 0.0], [0.0, -2.0, 3.0, 0.0], past=3.0)
    >>> summary.underflow, summary.overflow, summary.bias
    (0.3333333333333333, 0.3333333333333333, -0.2857142857142857)
    """
    array, _ = real_array("x", x)
    results, _ = real_array("q", q)
    if array.shape != results.shape:
        raise ValueError(f"x {array.shape} and q {results.shape} differ in shape; give one of both")
    parts: list[tuple[int, NDArray[np.float64]]] = []
    kernel = kernels.compiled(statistics.error_sums, _F64, _F64)

    def work(start: int, stop: int) -> None:
        pair = [(array, _F64), (results, _F64)]
        for (values, rounded), _ in chunks(pair, start, stop, read=2):
            finite = np.where(np.isfinite(values), values, 0.0)
            k = int(np.frexp(max(np.max(finite), -np.min(finite)))[1])
            sums = np.zeros(10)
            kernel(finite, finite, rounded, past, k, sums)
            parts.append((k, sums))

    over_chunks(array.size, work, chunk=_CHUNK)
    return _summary(_total(parts), array.size)


def _total(parts: list[_Sums]) -> _Sums:
    parts = [(k, sums) for k, sums in parts if sums[0]]
    top = max((k for k, _ in parts), default=0)
    scaled = [np.ldexp(sums, _POWERS * (k - top)) for k, sums in parts] or [np.zeros(10)]
    return top, np.array([math.fsum(column) for column in zip(*scaled, strict=True)])


def _both(one: tuple[int, list[_Sums]], other: tuple[int, list[_Sums]]) -> tuple[int, list[_Sums]]:
    totals = [_total(list(pair)) for pair in zip(one[1], other[1], strict=True)]
    return one[0] + other[0], totals


def _summary(total: _Sums, size: int) -> ErrorSummary:
    count, relative, y, error, yy, ee, qy, qq, flushed, past = total[1].tolist()
    if not count:
        raise ValueError(
            f"x has no finite nonzero element ({size} elements); give data with at least one"
        )
    if not math.isfinite(error):
        nmse, cosine, bias, relative = math.inf, math.nan, math.inf, math.inf
    elif yy == 0:  # every product with the scale underflowed: all is lost
        nmse, cosine, bias = 1.0, 0.0, -1.0
    else:
        nmse, bias = ee / yy, error / y
        cosine = qy / (math.sqrt(yy) * math.sqrt(qq)) if qq else 0.0
    return ErrorSummary(
        relative=relative / count,
        nmse=nmse,
        cosine=cosine,
        bias=bias,
        underflow=flushed / count,
        overflow=past / count,
    )
