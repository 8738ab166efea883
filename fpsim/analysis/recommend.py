"""recommend: which split of N bits, and which scale, a tensor or a set of tensors should have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from fpsim import reprs
from fpsim.analysis.error import (
    ErrorSummary,
    Metric,
    best_scale,
    closed_form_error,
    error_summary,
    parse_metric,
)
from fpsim.analysis.lognormal import (
    USABLE_KS,
    Lognormal,
)
from fpsim.analysis.measure import measured_summaries
from fpsim.analysis.pruning import empirical_pruning_threshold, empirical_sparsity
from fpsim.analysis.sketch import Sketch
from fpsim.analysis.table import candidate_rows, columns, tensor_rows
from fpsim.arguments import boolean, choice, integer, real, shown
from fpsim.format import Format
from fpsim.rounding import Overflow, parse_overflow

MIN_BITS, MAX_BITS = 3, 16
_WIDTHS = f"give widths from {MIN_BITS} to {MAX_BITS}"
# Metrics that the few largest elements decide, of which a fit to the bulk says little.
OF_THE_LARGEST = (Metric.nmse, Metric.sqnr, Metric.cosine)
_EMULATED = 2  # how many of the best candidates are emulated


class Scale(StrEnum):
    """What a candidate's scale may be."""

    power_of_two = "power_of_two"  # the same as a free choice of the bias
    continuous = "continuous"  # any positive number
    none = "none"  # 1: the bias is chosen instead


class Basis(StrEnum):
    """What decides between candidates."""

    # The fit where it is close to the data, else the sketch; for NMSE, SQNR and cosine, which the
    # few largest elements decide, always the sketch.
    auto = "auto"
    fit = "fit"  # the exact sum under the lognormal fit
    sketch = "sketch"  # the exact sum over the data's own sketch


# The special codes of candidate formats, by the names of `--specials`.
SPECIALS: dict[str, dict[str, Any]] = {
    "none": {"infinities": False, "nans": "none"},
    "fn": {"infinities": False, "nans": "all_ones"},
    "ieee": {"infinities": True, "nans": "ieee"},
    "p3109": {"infinities": True, "nans": "negative_zero"},
}


@dataclass(frozen=True)
class Candidate:
    """One split at its own best scale.

    Attributes
    ----------
    format : Format
    scale : float
        Multiplies x before rounding.
    closed_form : float
        The error by the idealised closed form; NaN unless the metric is the relative error.
    fit : float
        The error by the exact sum under the lognormal fit.
    sketch : float
        The error by the exact sum over the data's own sketch.
    measured : float or None
        The error by emulation on the data; None where it was not emulated (only the best two
        are, and only where the data are at hand).
    underflow, overflow : float
        Shares of the nonzero elements (by the sketch) that round to zero and past the range.
    """

    format: Format
    scale: float
    closed_form: float
    fit: float
    sketch: float
    underflow: float
    overflow: float
    measured: float | None = None

    @property
    def bias(self) -> float:
        """The bias that makes the scale unnecessary; an integer for powers of two."""
        return self.format.bias + math.log2(self.scale)


@dataclass(frozen=True)
class Pruning:
    """Stochastic pruning of a tensor to a target share of zeros.

    Attributes
    ----------
    target : float
        Share of zeros among the finite elements that was asked for.
    threshold : float
        Magnitudes below it are kept with probability ``|x| / threshold``, as the threshold.
    expected : float
        The sparsity that the fit predicts at this threshold.
    actual : float
        The sparsity on the data themselves (the mean over the random choices).
    basis : Basis
        Whether the fit or the sketch gave the threshold.
    """

    target: float
    threshold: float
    expected: float
    actual: float
    basis: Basis


@dataclass(frozen=True)
class Recommendation:
    """Which format a tensor should have.

    Attributes
    ----------
    format : Format
    scale : float
        Multiplies x before rounding; 1 where the bias takes its place.
    expected, measured : float
        The error predicted by what decided (`basis`), and that of emulation on the data
        (None for a `Sketch`).
    fit : Lognormal
    sketch : Sketch
    candidates : tuple of Candidate
        All splits, best first.
    metric : Metric
    basis : Basis
        What decided: the fit, or the sketch where the lognormal does not fit.
    pruning : Pruning or None
    notes : tuple of str
        What a reader should know before trusting this.
    """

    candidates: tuple[Candidate, ...]
    fit: Lognormal
    sketch: Sketch = field(repr=False)
    metric: Metric
    basis: Basis
    pruning: Pruning | None = None
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate:
        """The recommended candidate."""
        return self.candidates[0]

    @property
    def runner_up(self) -> Candidate | None:
        """The second best, or None where there is one candidate only."""
        return self.candidates[1] if len(self.candidates) > 1 else None

    @property
    def format(self) -> Format:
        """The recommended format."""
        return self.best.format

    @property
    def scale(self) -> float:
        """Its scale."""
        return self.best.scale

    @property
    def expected(self) -> float:
        """The error that the fit (or the sketch, see `basis`) predicts."""
        return self.best.sketch if self.basis is Basis.sketch else self.best.fit

    @property
    def measured(self) -> float | None:
        """The error of emulation, or None."""
        return self.best.measured

    def table(self) -> dict[str, list[Any]]:
        """The candidates, best first, as columns of plain data.

        What pandas and polars make a frame of. Errors and shares are those of `Candidate`; what
        was not emulated is None in ``measured``.

        Examples
        --------
        >>> import fpsim
        >>> table = fpsim.recommend([0.5, 1.0, 3.0, 40.0], bits=4).table()
        >>> table["format"], table["exponent_bits"]
        (['e3m0f', 'e2m1f', 'e1m2f'], [3, 2, 1])
        """
        return columns(candidate_rows(self))

    def _repr_html_(self) -> str:
        return reprs.recommendation(self)


@dataclass(frozen=True)
class Shared:
    """One candidate format for all tensors of a set, each with its own scale.

    Regret is the loss over that of a tensor's own best, less 1 (for SQNR: the difference in dB).
    """

    format: Format
    scales: Mapping[str, float]
    regrets: Mapping[str, float]

    @property
    def worst(self) -> float:
        """The largest regret."""
        return max(self.regrets.values())

    @property
    def mean(self) -> float:
        """The mean regret."""
        return math.fsum(self.regrets.values()) / len(self.regrets)


@dataclass(frozen=True)
class SetRecommendation:
    """Which formats a set of tensors should have, together and each.

    Attributes
    ----------
    tensors : mapping of str to Recommendation
    shared : tuple of Shared
        Every format as the one for all, least worst regret first.
    skipped : mapping of str to str
        Tensors that nothing can be said about, and why.
    """

    tensors: Mapping[str, Recommendation]
    shared: tuple[Shared, ...]
    skipped: Mapping[str, str]

    @property
    def by_worst(self) -> Shared:
        """The one format with the least worst regret."""
        return self.shared[0]

    @property
    def by_mean(self) -> Shared:
        """The one format with the least mean regret."""
        return min(self.shared, key=lambda shared: shared.mean)

    @property
    def format(self) -> Format:
        """The one format to pick for all: that of `by_worst`."""
        return self.by_worst.format

    def table(self) -> dict[str, list[Any]]:
        """The tensors, each with its best candidate, as columns of plain data.

        What pandas and polars make a frame of, and the columns of ``fpsim recommend --csv``.

        Examples
        --------
        >>> import fpsim
        >>> table = fpsim.recommend({"a": [0.5, 1.0], "b": [1e-9, 1.0]}, bits=4).table()
        >>> table["tensor"], table["format"], table["shared_format"]
        (['a', 'b'], ['e1m2f', 'e1m2f'], ['e1m2f', 'e1m2f'])
        """
        return columns(tensor_rows(self))

    def _repr_html_(self) -> str:
        return reprs.set_recommendation(self)


def recommend(
    x: Any,
    bits: Any,
    metric: Metric | str = "relative",
    *,
    scale: Scale | str = "power_of_two",
    specials: str = "none",
    subnormals: bool = True,
    signed: bool = True,
    overflow: Overflow | str = "saturate",
    sparsity: float | None = None,
    basis: Basis | str = "auto",
    progress: Callable[[int], object] | None = None,
) -> Any:
    """The exponent/mantissa split of N bits, and the scale, with the least error on data.

    Parameters
    ----------
    x : array_like, Sketch, or mapping of names to either
        Zeros change no metric; NaN and infinities are left out, counted and reported.
    bits : int, or iterable of int
        Width N of the formats, 3 to 16. Several are answered from one pass over the data.
    metric : {'relative', 'nmse', 'sqnr', 'cosine', 'bias'}
        What to make small (or large); see `Metric`.
    scale : {'power_of_two', 'continuous', 'none'}
        See `Scale`.
    specials : {'none', 'fn', 'ieee', 'p3109'}
        Special codes of the candidates: every code a number; NaN in the all-ones code; infinity
        and NaN as in IEEE 754; those of P3109, with its bias.
    subnormals, signed : bool
        Of the candidates.
    overflow : Overflow or str
        Past the range; see `Overflow`.
    sparsity : float, optional
        Also find the threshold of stochastic pruning for this share of zeros, 0 to 1.
    basis : {'auto', 'fit', 'sketch'}
        What decides; see `Basis`.
    progress : callable, optional
        Called with the number of elements done since the last call: each is sketched, and
        emulated twice.

    Returns
    -------
    Recommendation, or SetRecommendation for a mapping
        For several widths a dict of them by width.

    Raises
    ------
    ValueError, TypeError
        Where an argument is out of range, or no element is finite and nonzero.

    Examples
    --------
    >>> import fpsim, numpy as np
    >>> x = np.random.default_rng(0).lognormal(-14, 2.1, 100_000)
    >>> best = fpsim.recommend(x, bits=6)
    >>> str(best.format), best.scale, f"{best.expected:.3f} {best.measured:.3f}"
    ('e4m1f', 2097152.0, '0.093 0.094')
    """
    several = isinstance(bits, Iterable) and not (isinstance(bits, np.ndarray) and bits.ndim == 0)
    widths = bits if several else [bits]
    plans = [
        _Plan(
            bits=integer("bits", width, MIN_BITS, MAX_BITS, _WIDTHS),
            metric=parse_metric(metric),
            scale=choice("scale", scale, Scale),
            specials=_validated_specials(specials),
            subnormals=boolean("subnormals", subnormals),
            signed=boolean("signed", signed),
            overflow=parse_overflow(overflow),
            sparsity=_validated_sparsity(sparsity),
            basis=choice("basis", basis, Basis),
        )
        for width in widths
    ]
    if not plans:
        raise ValueError(f"bits={shown(bits)} names no width; {_WIDTHS}")
    for plan in plans:
        plan.formats()  # settles that there are candidates before any data are read
    report = progress if progress is not None else _no_progress
    if isinstance(x, Mapping):
        answers: list[Any] = _for_set(x, plans, report)
    else:
        answers = _for_tensor(x, plans, report)
    if not several:
        return answers[0]
    return {plan.bits: answer for plan, answer in zip(plans, answers, strict=True)}


def _no_progress(elements: int) -> None:
    pass


# Settling the arguments -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    bits: int
    metric: Metric
    scale: Scale
    specials: str
    subnormals: bool
    signed: bool
    overflow: Overflow
    sparsity: float | None
    basis: Basis

    def formats(self) -> list[Format]:
        return splits(self.bits, self.specials, subnormals=self.subnormals, signed=self.signed)


def splits(
    bits: int, specials: str = "none", *, subnormals: bool = True, signed: bool = True
) -> list[Format]:
    """Every split of N bits that leaves a nonzero value within binary64.

    Parameters
    ----------
    bits : int
    specials : {'none', 'fn', 'ieee', 'p3109'}
    subnormals, signed : bool
        As for `recommend`.

    Examples
    --------
    >>> from fpsim.analysis.recommend import splits
    >>> [str(fmt) for fmt in splits(4)]
    ['e1m2f', 'e2m1f', 'e3m0f']
    """
    bits = integer("bits", bits, MIN_BITS, MAX_BITS, _WIDTHS)
    specials = _validated_specials(specials)
    subnormals, signed = boolean("subnormals", subnormals), boolean("signed", signed)
    found = []
    for exponent_bits in range(1, bits - signed + 1):
        parameters = dict(SPECIALS[specials])
        if specials == "p3109":
            parameters["bias"] = 1 << (exponent_bits - 1)
            if not signed:
                parameters["nans"] = "all_ones"
        try:
            fmt = Format(
                exponent_bits,
                bits - signed - exponent_bits,
                signed=signed,
                subnormals=subnormals,
                **parameters,
            )
            fmt.require_binary64()
        except ValueError:
            continue  # no code for a nonzero finite value, or values past binary64
        found.append(fmt)
    if not found:
        raise ValueError(
            f"bits={bits} with specials={specials!r}, subnormals={subnormals} "
            f"and signed={signed} leaves no format; give more bits, or specials='none'"
        )
    return found


def _validated_specials(specials: Any) -> str:
    if not isinstance(specials, str) or specials not in SPECIALS:
        allowed = ", ".join(repr(name) for name in SPECIALS)
        raise ValueError(f"specials={shown(specials)} is not one of {allowed}")
    return specials


def _validated_sparsity(sparsity: Any) -> float | None:
    if sparsity is None:
        return None
    return real("sparsity", sparsity, "0 to below 1", lambda s: 0 <= s < 1)


# One tensor -----------------------------------------------------------------------------------


def _for_tensor(
    x: Any,
    plans: Sequence[_Plan],
    progress: Callable[[int], object],
    sketch: Sketch | None = None,
) -> list[Recommendation]:
    """One recommendation a plan, from one sketch."""
    if sketch is None:
        sketch = x if isinstance(x, Sketch) else Sketch.of(x, progress)
    fit = Lognormal.fit(sketch)
    answers = [_decided(fit, sketch, plan) for plan in plans]
    if isinstance(x, Sketch):
        return answers
    best = [candidate for answer in answers for candidate in answer.candidates[:_EMULATED]]
    choices = [(candidate.format, candidate.scale) for candidate in best]
    summaries = iter(measured_summaries(x, choices, overflow=plans[0].overflow, progress=progress))
    return [_emulated(answer, summaries) for answer in answers]


def _emulated(answer: Recommendation, summaries: Iterator[ErrorSummary]) -> Recommendation:
    """With the next summaries as what was measured of the best candidates."""
    best, others = answer.candidates[:_EMULATED], answer.candidates[_EMULATED:]
    measured = (replace(c, measured=next(summaries).value(answer.metric)) for c in best)
    return replace(answer, candidates=(*measured, *others))


def _decided(fit: Lognormal, sketch: Sketch, plan: _Plan) -> Recommendation:
    basis = plan.basis
    if basis is Basis.auto:
        fits = fit.quality in ("good", "usable") and plan.metric not in OF_THE_LARGEST
        basis = Basis.fit if fits else Basis.sketch
    source: Lognormal | Sketch = fit if basis is Basis.fit else sketch
    candidates = []
    for fmt in plan.formats():
        chosen, factor = _with_scale(source, fmt, plan)
        candidates.append(_evaluated(chosen, factor, fit, sketch, plan))

    def loss(candidate: Candidate) -> float:
        value = candidate.fit if basis is Basis.fit else candidate.sketch
        return plan.metric.loss(value)

    # Of equals the one with fewer exponent bits, which is cheaper in hardware.
    candidates.sort(key=lambda c: (loss(c), c.format.exponent_bits))
    return Recommendation(
        candidates=tuple(candidates),
        fit=fit,
        sketch=sketch,
        metric=plan.metric,
        basis=basis,
        pruning=None if plan.sparsity is None else _pruning(fit, sketch, basis, plan.sparsity),
        notes=_notes(fit, sketch, basis),
    )


def _with_scale(source: Lognormal | Sketch, fmt: Format, plan: _Plan) -> tuple[Format, float]:
    """The format and scale to use; without a scale, the bias moves instead."""
    kind = "continuous" if plan.scale is Scale.continuous else "power_of_two"
    factor, _ = best_scale(source, fmt, plan.metric, kind=kind, overflow=plan.overflow)
    if plan.scale is not Scale.none:
        return fmt, factor
    # As far as binary64 and the bounds of a bias let it move.
    for shift in _toward_zero(round(math.log2(factor))):
        try:
            biased = replace(fmt, bias=fmt.bias + shift)
            biased.require_binary64()
        except ValueError:
            continue
        return biased, 1.0
    return fmt, 1.0


def _toward_zero(shift: int) -> range:
    return range(shift, 0, -1) if shift > 0 else range(shift, 1)


def _evaluated(
    fmt: Format, factor: float, fit: Lognormal, sketch: Sketch, plan: _Plan
) -> Candidate:
    by_sketch = error_summary(sketch, fmt, factor, overflow=plan.overflow)
    closed = math.nan
    if plan.metric is Metric.relative and fit.sigma > 0:
        usual = (1 << (fmt.exponent_bits - 1)) - 1
        offset = fit.mu_log2 + math.log2(factor) + fmt.bias - usual
        closed = float(
            closed_form_error(fit.sigma_log2, fmt.exponent_bits, fmt.mantissa_bits, offset)
        )
    return Candidate(
        format=fmt,
        scale=factor,
        closed_form=closed,
        fit=fit.expected_error(fmt, factor, plan.metric, overflow=plan.overflow),
        sketch=by_sketch.value(plan.metric),
        underflow=by_sketch.underflow,
        overflow=by_sketch.overflow,
    )


def _pruning(fit: Lognormal, sketch: Sketch, basis: Basis, target: float) -> Pruning:
    if basis is Basis.fit:
        threshold = fit.pruning_threshold(target)
    else:
        threshold = empirical_pruning_threshold(sketch, target)
    return Pruning(
        target=target,
        threshold=threshold,
        expected=float(fit.sparsity(threshold)),
        actual=empirical_sparsity(sketch, threshold),
        basis=basis,
    )


def _notes(fit: Lognormal, sketch: Sketch, basis: Basis) -> tuple[str, ...]:
    notes = []
    if sketch.nans or sketch.infinities:
        notes.append(
            f"{sketch.nans} NaN and {sketch.infinities} infinite of {sketch.size} elements were "
            "left out"
        )
    if fit.sigma == 0:
        notes.append("all nonzero magnitudes are equal: every format with that value is exact")
    elif basis is Basis.sketch:
        notes.append(
            f"decided by the data's own sketch: the lognormal is at a distance of {fit.ks:.3f}"
            + (f" (it decides up to {USABLE_KS})" if fit.quality == "poor" else "")
        )
    if sketch.nonzero < 1000:
        notes.append(f"only {sketch.nonzero} nonzero elements: the choice may be chance")
    return tuple(notes)


# Sets of tensors ------------------------------------------------------------------------------


def _for_set(
    tensors: Mapping[str, Any], plans: Sequence[_Plan], progress: Callable[[int], object]
) -> list[SetRecommendation]:
    """One recommendation a plan; every tensor is looked up once."""
    if not tensors:
        raise ValueError("x is an empty mapping; give at least one tensor")
    answers: dict[str, list[Recommendation]] = {}
    skipped: dict[str, str] = {}
    for name in tensors:
        try:
            x = tensors[name]
            sketch = x if isinstance(x, Sketch) else Sketch.of(x, progress)
            if sketch.nonzero == 0:
                skipped[name] = f"none of {sketch.size} elements is finite and nonzero"
                continue
            answers[name] = _for_tensor(x, plans, progress, sketch)
        except (TypeError, ValueError) as error:
            raise type(error)(f"tensor {name!r}: {error}") from None
    if not answers:
        raise ValueError(f"x: none of the {len(tensors)} tensors has a finite nonzero element")
    found = []
    for i, plan in enumerate(plans):
        tensor_answers = {name: per_plan[i] for name, per_plan in answers.items()}
        found.append(SetRecommendation(tensor_answers, _shared(tensor_answers, plan), skipped))
    return found


def _shared(tensors: Mapping[str, Recommendation], plan: _Plan) -> tuple[Shared, ...]:
    """Every candidate as the format for all; with a common bias where there is no scale."""
    options: dict[Format, dict[str, Candidate]] = {}
    for name, recommendation in tensors.items():
        for candidate in recommendation.candidates:
            options.setdefault(candidate.format, {})[name] = candidate
    if plan.scale is Scale.none:
        options = {fmt: {} for fmt in _common_biases(options)}
        for fmt, row in options.items():
            for name, r in tensors.items():
                row[name] = _evaluated(fmt, 1.0, r.fit, r.sketch, plan)
    shared = []
    for fmt, row in options.items():
        regrets = {}
        for name, recommendation in tensors.items():
            by_fit = recommendation.basis is Basis.fit
            best, this = recommendation.best, row[name]
            pair = (best.fit, this.fit) if by_fit else (best.sketch, this.sketch)
            regrets[name] = _regret(plan.metric, *pair)
        shared.append(Shared(fmt, {name: c.scale for name, c in row.items()}, regrets))
    return tuple(sorted(shared, key=lambda s: (s.worst, s.mean, s.format.exponent_bits)))


def _common_biases(formats: Sequence[Format] | Mapping[Format, Any]) -> list[Format]:
    """Every bias from the least to the largest that a tensor chose, for every split."""
    by_split: dict[tuple[int, int], list[Format]] = {}
    for fmt in formats:
        by_split.setdefault((fmt.exponent_bits, fmt.mantissa_bits), []).append(fmt)
    common: list[Format] = []
    for group in by_split.values():
        biases = [fmt.bias for fmt in group]
        every = range(min(biases), max(biases) + 1)
        common.extend(replace(group[0], bias=bias) for bias in every)
    return common


def _regret(metric: Metric, best: float, this: float) -> float:
    if metric is Metric.sqnr:
        return best - this
    least, loss = metric.loss(best), metric.loss(this)
    if least == 0:
        return 0.0 if loss == 0 else math.inf
    return loss / least - 1
