"""Stochastic pruning of gradients, and its deterministic twin.

Imports arguments, inputs, cast, stream, threads, kernels, analysis,
nonfinite, dask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from fpsim import kernels
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.pruning import (
    checked_source,
    empirical_quantile,
    empirical_share_below,
    one_target,
    pruned_share,
    threshold_for_share,
)
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import boolean, choice
from fpsim.cast import round as round_to
from fpsim.gradients.nonfinite import NonFinite, nonfinite_error, settle
from fpsim.inputs import F32, F64, chunks, is_dask, real_array, signed_format
from fpsim.kernels import pruning as loops
from fpsim.stream import Stream
from fpsim.threads import over_chunks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Pruning(StrEnum):
    """What becomes of magnitudes below the threshold."""

    stochastic = "stochastic"  # the threshold with probability |x| / threshold, else zero
    deterministic = "deterministic"  # zero: biased


@dataclass(frozen=True)
class Pruned:
    """What `prune` made of an array.

    Attributes
    ----------
    values : array
        In x's shape and dtype.
    threshold : float
        The threshold used, a number of x's dtype.
    sparsity : float
        Share of zeros in `values`; NaN for an empty array. NaN and infinities that propagate are
        left out of all counts.
    predicted : float
        The same as the fit predicts, or the data's own sketch where no fit was given.
    zeros_before : int
        Zeros in x.
    nonfinite : int
        NaN and infinities in x.
    """

    values: Any
    threshold: float
    sparsity: float
    predicted: float
    zeros_before: int
    nonfinite: int


def prune(
    x: ArrayLike,
    threshold: float | None = None,
    sparsity: float | None = None,
    rng: Any = None,
    *,
    method: Pruning | str = "stochastic",
    fit: Lognormal | Sketch | None = None,
    nonfinite: NonFinite | str = "raise",
    full: bool = False,
) -> Any:
    """Make small elements zero, without bias.

    A magnitude below the threshold becomes the threshold with probability ``|x| / threshold``,
    else zero; the others stay. The mean stays, and the variance is ``|x| (threshold - |x|)``
    (Chmiel et al., arXiv 2006.08173).

    Parameters
    ----------
    x : array_like
        Real numbers of any shape, as `fpsim.round` takes them.
    threshold : float, optional
        At least 0. It is rounded up to a number of x's dtype, which leaves the same elements
        below it.
    sparsity : float, optional
        Instead of a threshold: the share of zeros to expect, from 0 to below 1, those that are
        there already included. The threshold then comes from `fit`, or from a sketch of x.
    rng : int, Generator, Stream or None
        Element i uses word ``offset + i`` of the `Stream`.
    method : {'stochastic', 'deterministic'}
        See `Pruning`.
    fit : Lognormal or Sketch, optional
        Where the threshold for a sparsity, and the prediction, come from.
    nonfinite : {'raise', 'propagate', 'skip'}
        See `NonFinite`.
    full : bool
        Return a `Pruned`, which has threshold and counts, and not its values alone.

    Returns
    -------
    array of x's shape and dtype (float64 for integers and lists), or Pruned
        Zeros are positive.

    Notes
    -----
    The probability is ``|x| / threshold``, compared with the random word without rounding: the mean
    is exact to 2**-64 of the threshold.

    Raises
    ------
    ValueError
        For NaN or infinity under ``nonfinite='raise'``, and for a threshold past the largest
        number of x's dtype.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.prune([0.3, -0.9, 5.0, 0.2], threshold=1.0, rng=1)
    array([ 0., -1.,  5.,  0.])
    >>> x = [0.1, -0.2, 0.4, 0.8, -1.6, 3.2, 6.4, -12.8]
    >>> result = fpsim.prune(x, sparsity=0.5, rng=1, full=True)
    >>> round(result.threshold, 6), result.sparsity
    (3.1, 0.5)
    """
    how = choice("method", method, Pruning)
    rule = choice("nonfinite", nonfinite, NonFinite)
    full = boolean("full", full)
    target, wanted = one_target(threshold=threshold, sparsity=sparsity)
    if fit is not None:
        fit = checked_source("fit", fit)
    if is_dask(x):
        from fpsim.dask import map_chunks, reduce_chunks, refuse, tried

        refuse(full=full)
        draw = None if how is Pruning.deterministic and rng is None else Stream.of(rng)
        sample = tried(prune, x, draw, threshold=threshold, sparsity=sparsity, method=how, fit=fit)
        if target == "sparsity":
            whole = fit or reduce_chunks(_seen, x, Sketch.merge, rule=rule)
            threshold = _threshold_of(whole, wanted, how, sample.dtype)
        return map_chunks(prune, x, draw, threshold=threshold, method=how, nonfinite=rule)
    array, own = real_array("x", x)
    signed_format("x", own)
    unused = how is Pruning.deterministic and rng is None
    stream = Stream.of(0 if unused else rng, array.shape)
    by_share = target == "sparsity"
    seen = _seen(array, rule) if full or (fit is None and by_share) else None
    source = seen if fit is None else fit
    if by_share:
        assert source is not None
        limit = _threshold_of(source, wanted, how, own)
    else:
        limit = _rounded(wanted, own, target)
    out = np.empty(array.shape, own)
    bad, zeros = _run(array, out, limit, how, rule, stream)
    if bad and rule is NonFinite.raise_:
        raise nonfinite_error(array)
    if not full:
        return out[()]
    assert seen is not None
    assert source is not None
    counted = array.size - (bad if rule is NonFinite.propagate else 0)
    return Pruned(
        values=out[()],
        threshold=limit,
        sparsity=zeros / counted if counted else math.nan,
        predicted=_predicted(source, limit, how),
        zeros_before=seen.zeros - (bad if rule is NonFinite.skip else 0),
        nonfinite=bad,
    )


def _seen(array: NDArray[Any], rule: NonFinite) -> Sketch:
    """The sketch of what counts."""
    sketch = Sketch.of(array)
    bad = sketch.nans + sketch.infinities
    if bad and rule is NonFinite.raise_:
        raise nonfinite_error(array)
    if bad and rule is NonFinite.skip:
        return replace(sketch, zeros=sketch.zeros + bad, nans=0, infinities=0)
    return sketch


def _rounded(threshold: float, own: np.dtype[Any], name: str) -> float:
    """The threshold, rounded up to a number of the dtype."""
    fmt = signed_format("x", own)
    if threshold > float(fmt.max):
        raise ValueError(
            f"{name}={threshold:.6g} is past {float(fmt.max):.6g}, the largest "
            f"number of x's dtype {own}; prune less, or convert x to a wider dtype first"
        )
    return float(round_to(threshold, fmt, rounding="toward_positive"))


def _run(
    array: NDArray[Any],
    out: NDArray[Any],
    threshold: float,
    how: Pruning,
    rule: NonFinite,
    stream: Stream,
) -> tuple[int, int]:
    """(NaN and infinities met, zeros written)."""
    lanes = F64 if out.dtype == F64 else F32
    infinity = int(np.array(np.inf, lanes).view(f"u{lanes.itemsize}"))
    limit = max(lanes.type(threshold), np.nextafter(lanes.type(0), lanes.type(1)))
    key = np.uint64(stream.seed)
    kernel: Any = None
    if how is Pruning.stochastic:
        kernel = kernels.compiled(loops.prune_at_random, lanes, lanes)
    found: list[tuple[int, int]] = []

    def work(start: int, stop: int) -> None:
        operands = [(array, lanes), (out, lanes)]
        for (values, results), first in chunks(operands, start, stop, stretch=stream.stretch):
            if kernel:
                index = stream.word_of(first)
                top, zeros = kernel(values, results, limit, key, index)
                finite = top < infinity
            else:
                magnitude = np.abs(values)
                np.copyto(results, values)
                results[magnitude < limit] = 0
                zeros = int(results.size - np.count_nonzero(results))
                finite = bool(np.isfinite(magnitude).all())
            bad = 0 if finite else settle(values, results, rule)
            found.append((bad, int(zeros) + (bad if rule is NonFinite.skip else 0)))

    over_chunks(array.size, work)
    return sum(bad for bad, _ in found), sum(zeros for _, zeros in found)


# Thresholds and shares ----------------------------------------------------------------------------


def _threshold_of(
    source: Lognormal | Sketch, sparsity: float, how: Pruning, own: np.dtype[Any]
) -> float:
    name = f"sparsity={sparsity!r}: threshold"
    return _rounded(_threshold_for(source, sparsity, how), own, name)


def _threshold_for(source: Lognormal | Sketch, sparsity: float, how: Pruning) -> float:
    if isinstance(source, Sketch) and not source.nonzero:
        return 0.0
    if how is Pruning.stochastic:
        return threshold_for_share(source, sparsity)
    if isinstance(source, Sketch):
        return empirical_quantile(source, sparsity)
    if sparsity <= source.zero_fraction:
        return 0.0
    share = (sparsity - source.zero_fraction) / (1 - source.zero_fraction)
    return math.exp(source.mu + source.sigma * float(scipy.special.ndtri(share)))


def _predicted(source: Lognormal | Sketch, threshold: float, how: Pruning) -> float:
    if isinstance(source, Sketch) and not source.nonzero:
        return 1.0 if source.zeros else math.nan
    if how is Pruning.stochastic:
        return pruned_share(source, threshold)
    if isinstance(source, Sketch):
        return empirical_share_below(source, threshold)
    distance = math.log(threshold) - source.mu if threshold else -math.inf
    below = scipy.special.ndtr(distance / source.sigma) if source.sigma else distance > 0
    return source.zero_fraction + (1 - source.zero_fraction) * float(below)
