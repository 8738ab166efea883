"""roundings, overflows, accumulators: how numbers are rounded and summed.

Imports arguments, format, rounding, accumulate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fpsim.accumulator import Accumulator, Order
from fpsim.arguments import boolean, choice
from fpsim.format import Format
from fpsim.rounding import MAX_RANDOM_BITS, Overflow, Rounding, Stochastic, parse_rounding
from fpsim.strategies.calls import one_flag, pick, shown_as_called
from fpsim.strategies.kinds import formats

_MOST_TERMS = 16  # in the blocks of an accumulator
# Bits that aligned terms keep, and of their factors' mantissas: all at once take 50 at most.
_MOST_KEPT = 30
_MOST_OPERAND = 9

_T = TypeVar("_T")

# Rounding, overflow -----------------------------------------------------------------------------


@shown_as_called
def roundings(
    *, deterministic: bool = True, stochastic: bool = True
) -> SearchStrategy[Rounding | Stochastic]:
    """Rounding modes: the deterministic ones, and stochastic ones of every variant and width.

    Parameters
    ----------
    deterministic : bool
        Whether to draw members of `fpsim.Rounding`.
    stochastic : bool
        Whether to draw `fpsim.Stochastic`.

    Notes
    -----
    Examples shrink toward ``ties_to_even`` and the order of `fpsim.Rounding`, then toward
    ``Stochastic()``, which counts every discarded bit, few bits, and variant A.

    Examples
    --------
    >>> from hypothesis import find
    >>> from fpsim.strategies import roundings
    >>> find(roundings(), lambda rounding: "even" not in str(rounding))
    Rounding.ties_to_away
    >>> find(roundings(deterministic=False), lambda rounding: rounding.variant != "A")
    Stochastic(bits=1, variant='B')
    """
    several: list[SearchStrategy[Any]] = []
    if boolean("deterministic", deterministic):
        several.append(st.sampled_from(Rounding))
    if boolean("stochastic", stochastic):
        several.append(_stochastic())
    if not several:
        raise ValueError(
            "deterministic=False and stochastic=False leave no rounding; let one of them be True"
        )
    return st.one_of(several)


@st.composite
def _stochastic(draw: st.DrawFn) -> Stochastic:
    bits, variant = draw(st.integers(0, MAX_RANDOM_BITS)), draw(st.sampled_from("ABC"))
    return Stochastic(bits, variant) if bits else Stochastic()


@shown_as_called
def overflows(*, saturate: bool | None = None) -> SearchStrategy[Overflow]:
    """Overflow rules.

    Parameters
    ----------
    saturate : bool, optional
        True: only rules by which finite values past the range become the largest of it; False:
        only the others.

    Notes
    -----
    Examples shrink toward ``nan``, the default of the functions that take a rule.

    Examples
    --------
    >>> from hypothesis import find
    >>> from fpsim.strategies import overflows
    >>> find(overflows(), lambda overflow: True)
    Overflow.nan
    """
    one_flag("saturate", saturate)
    rules = [Overflow.nan, *(rule for rule in Overflow if rule is not Overflow.nan)]
    return st.sampled_from([rule for rule in rules if saturate in (None, rule.saturates)])


# Accumulators -----------------------------------------------------------------------------------

_ALIGNMENTS = (Rounding.toward_zero, Rounding.toward_negative, Rounding.ties_to_even)
_BLOCK_ORDERS = (Order.sequential, Order.pairwise, Order.kahan)
_ALIGNED = None  # in the place of an order


@st.composite
def _accumulator(
    draw: st.DrawFn,
    fmts: SearchStrategy[Format],
    roundings: SearchStrategy[Any],
    orders: Sequence[Order | None],
    others: SearchStrategy[Format],
    narrow: SearchStrategy[Format],
) -> Accumulator:
    def maybe(applies: bool, strategy: SearchStrategy[_T]) -> _T | None:
        # Drawn in any case: examples of as many draws are simplified one draw after the other.
        there, example = draw(st.booleans()), draw(strategy)
        return example if there and applies else None

    order = pick(draw, orders)
    fmt, rounding, overflow = draw(fmts), draw(roundings), draw(overflows())
    product = maybe(order not in (_ALIGNED, Order.exact), others)
    block, block_order = draw(st.integers(1, _MOST_TERMS)), draw(st.sampled_from(_BLOCK_ORDERS))
    block_fmt = maybe(order is Order.blocked, others)
    bits, alignment = draw(st.integers(0, _MOST_KEPT)), draw(st.sampled_from(_ALIGNMENTS))
    operands = maybe(order is _ALIGNED, narrow)
    if any(f is not None and f.emax > fmt.emax for f in (product, block_fmt)):
        overflow = Overflow.saturate  # a sum that does not hold what it adds is refused otherwise
    shape: dict[str, Any] = {"order": order, "product": product}
    if order is _ALIGNED:
        shape = {"block": block, "alignment_bits": bits, "alignment": alignment}
        shape["operands"] = operands
    elif order is Order.blocked:
        shape |= {"block": block, "block_fmt": block_fmt, "block_order": block_order}
    return Accumulator(fmt, rounding, overflow=overflow, **shape)


@shown_as_called
def accumulators(
    fmt: Any = None,
    *,
    rounding: Any = None,
    order: Order | str | None = None,
    aligned: bool | None = None,
) -> SearchStrategy[Accumulator]:
    """Ways to sum a dot product.

    Parameters
    ----------
    fmt : Format, str, dtype or strategy of Format, optional
        The format of the sum. None: any signed format with zero that binary64 holds.
    rounding : Rounding, Stochastic, str or strategy of them, optional
        None: any.
    order : Order or str, optional
        None: any.
    aligned : bool, optional
        True: only multi-term units, which align their terms (``alignment_bits``); False: none.

    Notes
    -----
    Examples shrink toward sequential sums of products that are not rounded, and toward what
    formats, roundings and overflow rules shrink toward.

    Examples
    --------
    >>> from hypothesis import find
    >>> from fpsim.strategies import accumulators
    >>> find(accumulators("binary16"), lambda accumulator: accumulator.block_fmt is not None)
    Accumulator(Format(5, 10, name='binary16'), order='blocked', block=1, block_fmt=Format(2, 0))
    """
    one_flag("aligned", aligned)
    chosen = None if order is None else choice("order", order, Order)
    if aligned and chosen not in (None, Order.sequential):
        raise ValueError(
            f"order={str(chosen)!r} with aligned=True: units that align terms take blocks one "
            "after the other; leave order out, or give aligned=False"
        )
    orders: list[Order | None] = []
    if not aligned:
        orders += Order if chosen is None else [chosen]
    if aligned is not False and chosen in (None, Order.sequential):
        orders.append(_ALIGNED)
    if fmt is None:
        fmt = formats(signed=True, zero=True)
    elif not isinstance(fmt, SearchStrategy):
        fmt = st.just(Accumulator(fmt).fmt)  # whose errors are those of every accumulator
    if rounding is None:
        rounding = roundings()
    elif not isinstance(rounding, SearchStrategy):
        rounding = st.just(parse_rounding(rounding))
    others = formats(signed=True, zero=True)
    narrow = formats(signed=True, zero=True, mantissa_bits=range(_MOST_OPERAND + 1))
    return _accumulator(fmt, rounding, orders, others, narrow)
