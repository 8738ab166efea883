"""measured_error: what rounding really did to an array, by emulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim import kernels
from fpsim.analysis.error import ErrorSummary, Metric, parse_metric
from fpsim.arguments import positive
from fpsim.cast import round
from fpsim.format import Format
from fpsim.inputs import chunks, real_array
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
    fmt, mode, rule = Format.parse(fmt), parse_rounding(rounding), parse_overflow(overflow)
    fmt.require_binary64()
    scale = positive("scale", scale)
    array, _ = real_array("x", x)
    stream = Stream.of(rng, array.shape) if isinstance(mode, Stochastic) else None
    limit = float(fmt.max)
    past = limit + float(fmt.ulp(limit)) / 2 if mode in _NEAREST else limit
    parts: list[tuple[int, NDArray[np.float64]]] = []

    def work(start: int, stop: int) -> None:
        for (values,), first in chunks([(array, _F64)], start, stop):
            draw = None if stream is None else Stream(stream.seed, stream.offset + first)
            with np.errstate(over="ignore", invalid="ignore"):
                parts.append(_sums(values, fmt, scale, mode, rule, draw, past))

    over_chunks(array.size, work, chunk=_CHUNK)
    return _summary(parts, array)


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
    return _summary(parts, array)


def _sums(
    x: NDArray[np.float64],
    fmt: Format,
    scale: float,
    mode: Rounding | Stochastic,
    rule: Overflow,
    draw: Stream | None,
    past: float,
) -> tuple[int, NDArray[np.float64]]:
    """(k, sums) of one chunk: the sums of `statistics.error_sums` in units of 2**k."""
    # Elements that are left out become 0, so that random bits keep their places and a format
    # without NaN takes no offence.
    y = np.empty_like(x)
    kernels.compiled(statistics.scaled, _F64, _F64)(x, y, scale)
    q = round(y, fmt, rounding=mode, overflow=rule, rng=draw)
    k = int(np.frexp(max(np.max(y), -np.min(y)))[1])
    sums = np.zeros(10)
    kernels.compiled(statistics.error_sums, _F64, _F64)(x, y, q, past, k, sums)
    return k, sums


def _summary(parts: list[tuple[int, NDArray[np.float64]]], array: NDArray[Any]) -> ErrorSummary:
    parts = [(k, sums) for k, sums in parts if sums[0]]
    if not parts:
        raise ValueError(
            f"x has no finite nonzero element ({array.size} elements); give data with at least one"
        )
    top = max(k for k, _ in parts)
    # Sums of first powers carry 2**k, of second powers 4**k; counts and ratios nothing.
    powers = np.array([0, 0, 1, 1, 2, 2, 2, 2, 0, 0])
    scaled = [np.ldexp(sums, powers * (k - top)) for k, sums in parts]
    count, relative, y, error, yy, ee, qy, qq, flushed, past = (
        math.fsum(column) for column in zip(*scaled, strict=True)
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
