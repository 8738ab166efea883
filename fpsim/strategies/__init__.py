"""Hypothesis strategies: formats, their codes and values, and numbers that are hard to round.

`formats`, `roundings`, `overflows` and `accumulators` draw what a computation is set up with;
`codes`, `values` and `arrays` what a format holds; `near_ties` and `around` the real numbers next
to those where rounding changes, and `operands` numbers for an operation. Arguments are checked when
a strategy is made, and examples print as code.

Importing this package, which needs the extra ``hypothesis``, also tells
`hypothesis.strategies.from_type` about `fpsim.Format`, `fpsim.Stochastic`, `fpsim.Accumulator` and
`fpsim.FloatArray`.
"""

try:
    import hypothesis.strategies as _st
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fpsim.strategies needs Hypothesis; pip install 'fpsim[hypothesis]'", name=error.name
    ) from None

from hypothesis.extra.numpy import array_shapes as _array_shapes

from fpsim.accumulator import Accumulator as _Accumulator
from fpsim.array import FloatArray as _FloatArray
from fpsim.format import Format as _Format
from fpsim.rounding import Stochastic as _Stochastic
from fpsim.strategies.decisions import around, near_ties
from fpsim.strategies.kinds import formats
from fpsim.strategies.numbers import arrays, codes, values
from fpsim.strategies.operations import operands
from fpsim.strategies.parameters import accumulators, overflows, roundings

__all__ = [
    "accumulators",
    "around",
    "arrays",
    "codes",
    "formats",
    "near_ties",
    "operands",
    "overflows",
    "roundings",
    "values",
]

_st.register_type_strategy(_Format, formats())
_st.register_type_strategy(_Stochastic, roundings(deterministic=False))
_st.register_type_strategy(_Accumulator, accumulators())
_st.register_type_strategy(_FloatArray, arrays(formats(), _array_shapes(max_dims=3, max_side=4)))
