"""Hypothesis strategies."""

from fpsim.strategies.decisions import around, near_ties
from fpsim.strategies.numbers import arrays, codes, values
from fpsim.strategies.parameters import accumulators, formats, overflows, roundings

__all__ = [
    "accumulators",
    "around",
    "arrays",
    "codes",
    "formats",
    "near_ties",
    "overflows",
    "roundings",
    "values",
]
