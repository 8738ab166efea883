"""Recommendations as rows and columns of plain data, for JSON, CSV, pandas and polars.

Imports nothing of fpsim: what it is given has the attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fpsim.analysis.recommend import Candidate, Pruning, Recommendation, SetRecommendation

Row = dict[str, Any]


def candidate_row(candidate: Candidate) -> Row:
    """Scale, errors and losses of one split."""
    return {
        "scale": candidate.scale,
        "bias_without_scale": candidate.bias,
        "closed_form": candidate.closed_form,
        "fit": candidate.fit,
        "sketch": candidate.sketch,
        "measured": candidate.measured,
        "underflow": candidate.underflow,
        "overflow": candidate.overflow,
    }


def data_row(r: Recommendation) -> Row:
    """What was counted in a tensor, and its fit."""
    return {
        "count": r.sketch.size,
        "zeros": r.sketch.zeros,
        "nans": r.sketch.nans,
        "infinities": r.sketch.infinities,
        "smallest": r.sketch.smallest,
        "largest": r.sketch.largest,
        "mu": r.fit.mu,
        "sigma": r.fit.sigma,
        "sigma_log2": r.fit.sigma_log2,
        "ks": r.fit.ks,
        "basis": str(r.basis),
    }


def pruning_row(pruning: Pruning | None) -> Row:
    """Threshold and sparsity of pruning; None throughout where it was not asked for."""
    names = ("target", "threshold", "expected", "actual")
    return {name: getattr(pruning, name, None) for name in names}


def candidate_rows(r: Recommendation) -> list[Row]:
    """A row for each candidate, best first."""
    return [
        {
            "format": str(c.format),
            "exponent_bits": c.format.exponent_bits,
            "mantissa_bits": c.format.mantissa_bits,
            "bias": c.format.bias,
            **candidate_row(c),
        }
        for c in r.candidates
    ]


def tensor_rows(answer: SetRecommendation) -> list[Row]:
    """A row for each tensor, with its best candidate."""
    return [
        {
            "bits": r.format.bits,
            "tensor": name,
            **data_row(r),
            "metric": str(r.metric),
            "format": str(r.format),
            **candidate_row(r.best),
            "runner_up": str(r.runner_up.format) if r.runner_up else None,
            "shared_format": str(answer.format),
            "shared_regret": answer.by_worst.regrets[name],
            **{f"pruning_{key}": value for key, value in pruning_row(r.pruning).items()},
        }
        for name, r in answer.tensors.items()
    ]


def columns(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Rows that all have the same names, as a list for each name.

    Examples
    --------
    >>> from fpsim.analysis.table import columns
    >>> columns([{"bits": 4, "error": 0.1}, {"bits": 8, "error": 0.01}])
    {'bits': [4, 8], 'error': [0.1, 0.01]}
    """
    every = list(rows)
    names = every[0] if every else ()
    return {name: [row[name] for row in every] for name in names}
