"""Accumulator: how a dot product is summed, as data.

Imports arguments, reprs, catalog, format, rounding, projection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from fpsim import reprs
from fpsim.arguments import Choice, boolean, choice, integer, shown
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.projection import parse_projection
from fpsim.rounding import Overflow, Rounding, Stochastic

_MOST_ALIGNMENT_BITS = 40
_MOST_ALIGNED = 4096  # terms in a block: their sum and its carries fit in 64 bits
ALIGNMENTS = (Rounding.toward_zero, Rounding.toward_negative, Rounding.ties_to_even)


class Order(Choice):
    """In which order the terms of a dot product are added."""

    sequential = "sequential"  # one after the other onto c
    pairwise = "pairwise"  # neighbours, then their sums, and so on; c last
    blocked = "blocked"  # blocks by themselves, and their sums one after the other onto c
    kahan = "kahan"  # one after the other, with a correction for what the last step lost
    exact = "exact"  # without error, rounded once, or once a block (Kulisch)


class Carry(Choice):
    """How the sum so far meets a block of aligned terms.

    Examples
    --------
    DeepSeek-V3 adds what Hopper's 8-bit unit makes of 128 terms to a sum in binary32:

    >>> import fpsim
    >>> fpsim.Accumulator("binary32", alignment_bits=13, block=128, carry="after").block_fmt
    """

    joins = "joins"  # as one more term, aligned with the others
    after = "after"  # the block's sum is rounded by itself, then added with one more rounding
    two_stage = "two_stage"  # the block's sum is not rounded; both are aligned, toward negative


# What only says something of aligned terms, and what it is where there are none.
_OF_ALIGNMENT = {
    "alignment": Rounding.toward_zero,
    "carry": Carry.joins,
    "carry_bits": None,
    "interleaved": 1,
}


@dataclass(frozen=True, repr=False)
class Accumulator:
    """How a dot product is summed.

    Parameters
    ----------
    fmt : Format, str or dtype
        The format of the sum, and of c.
    rounding : Rounding, Stochastic or str
        How every step rounds.
    product : Format, str or dtype, optional
        The format to which products are rounded before they are added. None: they enter the
        sum exactly, as in a fused multiply-add (pairwise sums round them to `fmt`, for there they
        are the first partial sums).
    order : Order or str
        ``'sequential'``, ``'pairwise'``, ``'blocked'``, ``'kahan'`` or ``'exact'``.
    block : int, optional
        Terms in a block: for ``order='blocked'``; where terms are aligned; and for
        ``order='exact'``, which then rounds after every block.
    block_fmt : Format, str or dtype, optional
        The format in which a block is summed; `fmt` by default.
    block_order : Order or str
        In which order a block is summed: from +0 on, but for pairwise.
    overflow : Overflow or str
        What becomes of products and sums past the range.
    alignment_bits : int, optional
        For a multi-term unit as matrix units have it, which adds the products of a block and the
        sum so far at once: all are aligned to the largest of their exponents (those of products
        are the sums of their factors' exponents), cut to this many bits of fraction, added
        exactly, and rounded to `fmt` once. Blocks follow each other.
    alignment : {'toward_zero', 'toward_negative', 'ties_to_even'}
        How terms are cut.
    carry : Carry or str
        How the sum so far meets a block of aligned terms: ``'joins'`` it as described;
        ``'after'``: the block's sum is rounded to `block_fmt`, and that is added; or in
        ``'two_stage'``: products are aligned among themselves, and their sum is aligned with the
        sum so far, the one cut to `carry_bits` of fraction below the larger exponent and the other
        to `alignment_bits`, both toward negative.
    carry_bits : int, optional
        For ``carry='two_stage'``: `alignment_bits` or more.
    interleaved : int
        For ``carry='two_stage'``: 2 aligns and adds the even and the odd products of a block by
        themselves, then aligns and cuts (toward negative) these two, and a sum so far that lies
        wholly below what is kept is left out.
    operands : Format, str or dtype, optional
        The format that a and b have to be in. Where terms are aligned, its subnormals have the
        exponent of its smallest normal values; None: every operand counts as normal.
    flush_subnormals : bool
        Subnormal operands (of the format `operands`, where that is given) and c count as +0, and
        what rounds to a subnormal value, at any step, becomes a zero of its sign.

    Examples
    --------
    A sum of many small terms stalls in a narrow accumulator, and less so in blocks (Wang et al.:
    Training deep neural networks with 8-bit floating point numbers, NeurIPS 2018):

    >>> import fpsim
    >>> import numpy as np
    >>> a, b = np.ones(4096, np.float32), np.full(4096, 0.125, np.float32)
    >>> plain = fpsim.Accumulator("e6m9")
    >>> blocks = fpsim.Accumulator("e6m9", order="blocked", block=64)
    >>> float(fpsim.dot(a, b, plain)), float(fpsim.dot(a, b, blocks))
    (128.0, 512.0)
    """

    fmt: Format
    rounding: Rounding | Stochastic = Rounding.ties_to_even
    product: Format | None = None
    order: Order = Order.sequential
    block: int | None = None
    block_fmt: Format | None = None
    block_order: Order = Order.sequential
    overflow: Overflow = Overflow.nan
    alignment_bits: int | None = None
    alignment: Rounding = Rounding.toward_zero
    carry: Carry = Carry.joins
    carry_bits: int | None = None
    interleaved: int = 1
    operands: Format | None = None
    flush_subnormals: bool = False

    def __post_init__(self) -> None:
        # A frozen dataclass is set up through object's own __setattr__.
        def settle(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        projection = parse_projection(self.fmt, self.rounding, self.overflow, "after")
        settle("fmt", projection.fmt)
        settle("rounding", projection.rounding)
        settle("overflow", projection.overflow)
        settle("order", choice("order", self.order, Order))
        settle("block_order", choice("block_order", self.block_order, Order))
        settle("alignment", choice("alignment", self.alignment, Rounding))
        for name in ("product", "block_fmt", "operands"):
            value = getattr(self, name)
            settle(name, None if value is None else parse(value))
        for name in ("fmt", "product", "block_fmt"):
            fmt = getattr(self, name)
            if fmt is not None and not (fmt.signed and fmt.zero):
                raise ValueError(
                    f"{name}={fmt} has no {'zero' if fmt.signed else 'sign'}, which sums need; "
                    "give a signed format with zero"
                )
        settle("carry", choice("carry", self.carry, Carry))
        settle("flush_subnormals", boolean("flush_subnormals", self.flush_subnormals))
        for name in ("product", "block_fmt"):
            self._check_range(name)
        if self.alignment_bits is not None:
            self._check_alignment(settle)
        else:
            self._check_order(settle)

    def _check_range(self, name: str) -> None:
        """The sum has at least the range of what is added, or saturates."""
        fmt = getattr(self, name)
        saturates = self.overflow in (Overflow.saturate, Overflow.saturate_infinities)
        if fmt is not None and fmt.emax > self.fmt.emax and not saturates:
            raise ValueError(
                f"{name}={fmt} has values up to {shown(float(fmt.max))}, which fmt={self.fmt}, up "
                f"to {shown(float(self.fmt.max))}, cannot hold; give a fmt of at least that range, "
                "or overflow='saturate'"
            )

    def _check_order(self, settle: Callable[[str, Any], None]) -> None:
        """What goes with an order, where terms are not aligned."""
        for name, default in _OF_ALIGNMENT.items():
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name}={shown(getattr(self, name))} says how terms are aligned, but "
                    "alignment_bits=None aligns nothing; give alignment_bits, or leave it out"
                )
        blocks = self.order is Order.blocked
        if self.order is not Order.exact and blocks != (self.block is not None):
            raise ValueError(
                f"order={str(self.order)!r} and block={shown(self.block)} do not go together: "
                "order='blocked' needs block=, the terms in a block, order='exact' may have it, "
                "and no other order takes it"
            )
        if self.block is not None:
            remedy = "give how many terms a block has, 1 or more"
            settle("block", integer("block", self.block, 1, 1 << 40, remedy))
        if self.block_order not in (Order.sequential, Order.pairwise, Order.kahan):
            raise ValueError(
                f"block_order={str(self.block_order)!r} is not one of 'sequential', 'pairwise', "
                "'kahan'"
            )
        if self.block_fmt is not None and not blocks:
            raise ValueError(
                f"block_fmt={self.block_fmt} was given, but order={str(self.order)!r} has no "
                "blocks; leave it out, or give order='blocked' and block="
            )
        if self.order is Order.exact and self.product is not None:
            raise ValueError(
                f"product={self.product} was given, but order='exact' rounds nothing before the "
                "end; leave it out, or choose another order"
            )

    def __repr__(self) -> str:
        words = [repr(self.fmt)]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                value = str(value) if isinstance(value, Choice) else value
                words.append(f"{field.name}={value!r}")
        return f"Accumulator({', '.join(words)})"

    def _repr_html_(self) -> str:
        return reprs.accumulator(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # IPython's and Hypothesis'
        printer.text(repr(self))

    @classmethod
    def preset(cls, unit: str, operands: Any) -> Accumulator:
        """How a real matrix unit sums, by processor and format of the operands.

        `fpsim.units.units` lists them, with the source of the parameters and whether they were
        checked against outputs of the processor.

        Parameters
        ----------
        unit : str
            Such as ``'nvidia-h100'``.
        operands : Format, str or dtype

        Examples
        --------
        >>> import fpsim
        >>> h100 = fpsim.Accumulator.preset("nvidia-h100", "float8_e4m3fn")
        >>> h100.block, h100.alignment_bits, str(h100.fmt)
        (32, 13, 'e8m13')
        >>> float(fpsim.dot([16.0, 2.0**-8], [16.0, 2.0**-6], h100))  # 2**-14 falls off
        256.0
        """
        from fpsim.units import unit as found  # which imports this module

        return found(unit, operands).accumulator

    def _check_alignment(self, settle: Callable[[str, Any], None]) -> None:
        """What goes with aligned terms."""
        remedy = f"give how many bits of fraction aligned terms keep, 0 to {_MOST_ALIGNMENT_BITS}"
        bits = integer("alignment_bits", self.alignment_bits, 0, _MOST_ALIGNMENT_BITS, remedy)
        settle("alignment_bits", bits)
        if self.order is not Order.sequential or self.block is None:
            raise ValueError(
                f"alignment_bits={bits} with order={str(self.order)!r} and block="
                f"{shown(self.block)}: units that align terms take block=, 1 to {_MOST_ALIGNED} "
                "terms, and blocks one after the other (order='sequential')"
            )
        remedy = f"give how many terms are aligned at a time, 1 to {_MOST_ALIGNED}"
        settle("block", integer("block", self.block, 1, _MOST_ALIGNED, remedy))
        if self.product is not None:
            raise ValueError(
                f"product={self.product} was given, but aligned products are exact; leave it out"
            )
        if self.alignment not in ALIGNMENTS:
            allowed = ", ".join(repr(str(rule)) for rule in ALIGNMENTS)
            raise ValueError(f"alignment={str(self.alignment)!r} is not one of {allowed}")
        if self.block_fmt is not None and self.carry is not Carry.after:
            raise ValueError(
                f"block_fmt={self.block_fmt} was given, but carry={str(self.carry)!r} rounds no "
                "sums of blocks; leave it out, or give carry='after'"
            )
        two_stage = self.carry is Carry.two_stage
        if two_stage != (self.carry_bits is not None):
            raise ValueError(
                f"carry={str(self.carry)!r} and carry_bits={shown(self.carry_bits)} do not go "
                "together: carry='two_stage' needs carry_bits=, and no other takes it"
            )
        if two_stage:
            remedy = f"give alignment_bits={bits} or more, up to {_MOST_ALIGNMENT_BITS}"
            carried = integer("carry_bits", self.carry_bits, bits, _MOST_ALIGNMENT_BITS, remedy)
            settle("carry_bits", carried)
        remedy = "give 1, or with carry='two_stage' 2"
        settle("interleaved", integer("interleaved", self.interleaved, 1, 1 + two_stage, remedy))
