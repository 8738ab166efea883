"""Heterogeneous sparsity: how much to prune in each layer, for a total that is given.

Imports arguments, analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import scipy

from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.pruning import (
    checked_source,
    exponential,
    log_mean_square,
    nmse_of_cosine,
    pruned_share,
    pruning_nmse,
    threshold_for_nmse,
    threshold_for_share,
)
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import choice, real, shown

TOP = 2.71  # standard deviations of ln|x| that one in 300 lies above

_Layers = dict[str, Lognormal | Sketch]


class Allocation(StrEnum):
    """How a total sparsity is spread over layers."""

    optimal = "optimal"  # least squared error: thresholds proportional to the layers' rms
    equal_cosine = "equal_cosine"  # every layer keeps the same cosine similarity
    protected = "protected"  # some keep a cosine similarity of their own, the rest makes up for it
    homogeneous = "homogeneous"  # every layer has the same sparsity


class Weighting(StrEnum):
    """What the squared error of a layer counts for in `Allocation.optimal`."""

    normalised = "normalised"  # over the mean square of its layer
    absolute = "absolute"  # as it is: then one threshold serves all layers


@dataclass(frozen=True)
class LayerSparsity:
    """What one layer is to have.

    Attributes
    ----------
    threshold : float
        For `fpsim.prune`; 0 where the zeros that are there suffice.
    sparsity : float
        The share of zeros that it gives, those already there included.
    cosine : float
        Cosine similarity that is left, truncated as asked for.
    elements : int
    """

    threshold: float
    sparsity: float
    cosine: float
    elements: int


@dataclass(frozen=True)
class SparsityAllocation:
    """What `allocate_sparsity` answers.

    Attributes
    ----------
    layers : dict of str to LayerSparsity
    sparsity : float
        The total share of zeros. It misses the target where a rule cannot reach it: where layers
        have more zeros already, or a cap is in the way.
    """

    layers: dict[str, LayerSparsity]
    sparsity: float


def allocate_sparsity(
    fits: Mapping[str, Lognormal | Sketch],
    target: float,
    rule: Allocation | str = "optimal",
    *,
    weighting: Weighting | str = "normalised",
    protect: Mapping[str, float] | None = None,
    cap: float | None = None,
    truncated_at: float | None = TOP,
) -> SparsityAllocation:
    """Spread a total sparsity over layers.

    ``'optimal'`` minimises the sum of the layers' squared errors. Raising a threshold alpha
    changes the variance by ``alpha**2`` times what it changes the sparsity by, so that with
    weights w all ``w alpha**2`` are equal (derived, with one Lagrange multiplier): one threshold
    for all layers where errors count as they are, thresholds proportional to the root mean
    square where they are normalised.

    ``'protected'`` is the rule of the reference implementation of Chmiel et al. (arXiv
    2006.08173): a layer of `protect` gets the target sparsity, or less where its cosine
    similarity would fall below its goal; all others get the one sparsity that makes up for it,
    up to `cap`.

    Parameters
    ----------
    fits : mapping of str to Lognormal or Sketch
        A fit needs its `count`, which `Lognormal.fit` gives.
    target : float
        From 0 to below 1: the share of zeros in all layers together.
    rule : {'optimal', 'equal_cosine', 'protected', 'homogeneous'}
        See `Allocation`.
    weighting : {'normalised', 'absolute'}
        For ``'optimal'``; see `Weighting`.
    protect : mapping of str to float
        For ``'protected'``: the least cosine similarity of layers, by their names.
    cap : float, optional
        For ``'protected'``: the most sparsity that the other layers may get, 0.9 if not given.
    truncated_at : float or None
        Standard deviations of ln|x| beyond which a layer that is given as a `Lognormal` holds
        nothing; None for a population, whose cosine is governed by elements that no tensor has.

    Returns
    -------
    SparsityAllocation

    Examples
    --------
    >>> import fpsim
    >>> fits = {
    ...     "conv1": fpsim.Lognormal(-9.0, 1.2, count=4_000),
    ...     "conv2": fpsim.Lognormal(-8.0, 2.5, count=16_000),
    ... }
    >>> result = fpsim.allocate_sparsity(fits, 0.85)
    >>> {name: round(layer.sparsity, 3) for name, layer in result.layers.items()}
    {'conv1': 0.673, 'conv2': 0.894}
    >>> round(result.sparsity, 6)
    0.85
    """
    how = choice("rule", rule, Allocation)
    weights = choice("weighting", weighting, Weighting)
    layers = _checked_layers(fits)
    target = real("target", target, "from 0 to below 1", lambda share: 0 <= share < 1)
    goals, most = _checked_protection(how, protect, cap, layers)
    allowed = "finite, in standard deviations of ln|x|, or None"
    k = None if truncated_at is None else real("truncated_at", truncated_at, allowed, math.isfinite)
    if how is Allocation.homogeneous:
        thresholds = {name: threshold_for_share(fit, target) for name, fit in layers.items()}
    elif how is Allocation.protected:
        thresholds = _protected(layers, target, goals, most, k)
    elif how is Allocation.equal_cosine:
        thresholds = _with_total(
            layers,
            target,
            lambda t: {
                name: threshold_for_nmse(fit, exponential(t), k) for name, fit in layers.items()
            },
        )
    else:
        rms = dict.fromkeys(layers, 0.0)
        if weights is Weighting.normalised:
            rms = {name: log_mean_square(fit, k) / 2 for name, fit in layers.items()}
        thresholds = _with_total(
            layers, target, lambda t: {name: exponential(t + rms[name]) for name in layers}
        )
    return _allocation(layers, thresholds, k)


# Arguments ----------------------------------------------------------------------------------------


def _checked_layers(fits: Any) -> _Layers:
    remedy = "give a mapping of layer names to Lognormal or Sketch"
    if not isinstance(fits, Mapping):
        raise TypeError(f"fits is of type {type(fits).__name__}; {remedy}")
    if not fits:
        raise ValueError(f"fits is an empty mapping; {remedy}, with at least one")
    layers = {name: checked_source(f"fits[{name!r}]", fit) for name, fit in fits.items()}
    for name, fit in layers.items():
        if isinstance(fit, Lognormal) and (fit.count == 0 or fit.zero_fraction == 1):
            raise ValueError(
                f"fits[{name!r}] has count={fit.count} and zero_fraction={fit.zero_fraction}, "
                "which do not say how many elements the layer has; give count=…, how many are "
                "not zero, as Lognormal.fit does"
            )
    return layers


def _checked_protection(
    how: Allocation, protect: Any, cap: Any, layers: _Layers
) -> tuple[dict[str, float], float]:
    """(cosine goals by layer, cap)."""
    if how is not Allocation.protected:
        for name, value in (("protect", protect), ("cap", cap)):
            if value is not None:
                raise ValueError(
                    f"{name}={shown(value)} has no meaning with rule={str(how)!r}; leave it out, "
                    "or give rule='protected'"
                )
        return {}, 1.0
    remedy = "give a mapping of layer names to the cosine similarity that they are to keep"
    if not isinstance(protect, Mapping):
        raise TypeError(f"protect={shown(protect)} with rule='protected'; {remedy}")
    unknown = [name for name in protect if name not in layers]
    if unknown:
        raise ValueError(
            f"protect names {shown(unknown)}, which fits does not have; its layers are "
            f"{shown(list(layers))}"
        )
    goals = {
        name: real(f"protect[{name!r}]", goal, "above 0 and up to 1", lambda c: 0 < c <= 1)
        for name, goal in protect.items()
    }
    most = 0.9 if cap is None else real("cap", cap, "from 0 to below 1", lambda c: 0 <= c < 1)
    return goals, most


# Rules --------------------------------------------------------------------------------------------


def _elements(fit: Lognormal | Sketch) -> int:
    if isinstance(fit, Sketch):
        return fit.zeros + fit.nonzero
    return round(fit.count / (1 - fit.zero_fraction))


def _zeros(layers: _Layers, thresholds: Mapping[str, float]) -> float:
    """How many elements become zero, those that are there included."""
    return math.fsum(
        _elements(layers[name]) * pruned_share(layers[name], threshold)
        for name, threshold in thresholds.items()
    )


def _protected(
    layers: _Layers, target: float, goals: dict[str, float], cap: float, k: float | None
) -> dict[str, float]:
    thresholds = {}
    for name, goal in goals.items():
        same = threshold_for_share(layers[name], target)
        enough = threshold_for_nmse(layers[name], nmse_of_cosine(goal), k)
        thresholds[name] = min(same, enough)  # the cosine falls with the threshold
    others = {name: fit for name, fit in layers.items() if name not in goals}
    size = sum(map(_elements, others.values()))
    missing = target * sum(map(_elements, layers.values())) - _zeros(layers, thresholds)
    share = min(max(missing / size, 0.0), cap) if size else 0.0
    thresholds |= {name: threshold_for_share(fit, share) for name, fit in others.items()}
    return {name: thresholds[name] for name in layers}


def _with_total(
    layers: _Layers, target: float, at: Callable[[float], dict[str, float]]
) -> dict[str, float]:
    """The thresholds, which all grow with one parameter, that give a total sparsity."""
    elements = sum(map(_elements, layers.values()))

    def excess(parameter: float) -> float:
        return _zeros(layers, at(parameter)) / elements - target

    nothing = dict.fromkeys(layers, 0.0)
    if _zeros(layers, nothing) >= target * elements:
        return nothing
    low, high, stride = 0.0, 0.0, 1.0
    while excess(high) < 0:
        low, high, stride = high, high + stride, 2 * stride
    stride = 1.0
    while excess(low) > 0:
        low, high, stride = low - stride, low, 2 * stride
    return at(scipy.optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14))


def _allocation(
    layers: _Layers, thresholds: Mapping[str, float], k: float | None
) -> SparsityAllocation:
    answers = {
        name: LayerSparsity(
            threshold=thresholds[name],
            sparsity=pruned_share(fit, thresholds[name]),
            cosine=(1 + pruning_nmse(fit, thresholds[name], k)) ** -0.5,
            elements=_elements(fit),
        )
        for name, fit in layers.items()
    }
    total = sum(answer.elements for answer in answers.values())
    return SparsityAllocation(answers, _zeros(layers, thresholds) / total)
