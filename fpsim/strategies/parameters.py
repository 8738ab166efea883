"""formats, roundings, overflows, accumulators: what a computation is set up with.

Imports arguments, catalog, format, rounding, accumulate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fpsim.accumulator import Accumulator, Order
from fpsim.arguments import boolean, choice, shown
from fpsim.catalog import families
from fpsim.format import MAX_BIAS, MAX_BITS, MAX_EXPONENT_BITS, MAX_MANTISSA_BITS, Format, NaNs
from fpsim.rounding import MAX_RANDOM_BITS, Overflow, Rounding, Stochastic, parse_rounding
from fpsim.strategies.calls import one_flag, one_format, shown_as_called, some_integers

_SMALL = 8  # bits of a code without its sign, up to which formats are drawn more often
_WIDTHS = range(1, MAX_BITS + 1)
_NEAR = 4  # biases so near to IEEE 754's are drawn more often
_MOST_TERMS = 16  # in the blocks of an accumulator
# Bits that aligned terms keep, and of their factors' mantissas: all at once take 50 at most.
_MOST_KEPT = 30
_MOST_OPERAND = 9

_T = TypeVar("_T")

# Formats ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """What is left of a format without its widths and its bias."""

    nans: NaNs
    infinities: bool
    zero: bool
    signed: bool
    subnormals: bool

    def with_widths(self, exponent_bits: int, mantissa_bits: int, bias: int = 0) -> Format:
        return Format(exponent_bits, mantissa_bits, bias, **vars(self))


_DEFAULT = {"nans": NaNs.ieee} | dict.fromkeys(("infinities", "zero", "signed", "subnormals"), True)
_KINDS = tuple(
    _Kind(nans, infinities, zero, signed, subnormals)
    for nans in NaNs
    for infinities, zero, signed, subnormals in product((True, False), repeat=4)
    if (infinities or nans is not NaNs.ieee)
    and ((zero and signed) or nans is not NaNs.negative_zero)
    and (zero or not subnormals)
)


@dataclass(frozen=True)
class _Wanted:
    """What a format is to be like; None: whatever it is."""

    bits: frozenset[int] | None
    exponent_bits: frozenset[int] | None
    mantissa_bits: frozenset[int] | None
    bias: frozenset[int] | None
    signed: bool | None
    subnormals: bool | None
    infinities: bool | None
    nans: frozenset[NaNs] | None
    zero: bool | None
    within: Format | None

    def allows(self, fmt: Format) -> bool:
        return (
            self.allows_kind(fmt)
            and self.allows_widths(fmt.exponent_bits, fmt.mantissa_bits, fmt.signed)
            and (self.bias is None or fmt.bias in self.bias)
            and self.allows_values(fmt)
        )

    def allows_kind(self, kind: _Kind | Format) -> bool:
        return (self.nans is None or kind.nans in self.nans) and all(
            getattr(self, name) in (None, getattr(kind, name))
            for name in ("signed", "subnormals", "infinities", "zero")
        )

    def allows_widths(self, exponent_bits: int, mantissa_bits: int, signed: bool) -> bool:
        bits = signed + exponent_bits + mantissa_bits
        return (
            bits <= MAX_BITS
            and (self.bits is None or bits in self.bits)
            and (self.exponent_bits is None or exponent_bits in self.exponent_bits)
            and (self.mantissa_bits is None or mantissa_bits in self.mantissa_bits)
        )

    def allows_values(self, fmt: Format) -> bool:
        if self.within is None:
            return True
        return self.within.contains(fmt) and (in_binary64(fmt) or not in_binary64(self.within))

    def biases(self, fmt: Format) -> tuple[int, int] | None:
        """Lowest and highest bias that formats like `fmt`, which has bias 0, may have."""
        low, high = -MAX_BIAS, MAX_BIAS
        if self.within is not None:
            # A bias that is higher by one halves every value.
            high = min(high, fmt.quantum_exponent - self.within.quantum_exponent)
            if not self.within.subnormals:
                lowest = fmt.quantum_exponent if fmt.min_subnormal else fmt.emin
                high = min(high, lowest - self.within.emin)
            low = max(low, fmt.emax - self.within.emax)
            # At the lowest, largest values share a binade, and that of `fmt` may be the larger.
            if low <= high and not self.allows_values(_with_bias(fmt, low)):
                low += 1
            if low <= high and not self.allows_values(_with_bias(fmt, low)):
                return None
        if self.bias is not None and not any(low <= bias <= high for bias in self.bias):
            return None
        return (low, high) if low <= high else None

    def splits(self, kind: _Kind, width: int) -> Iterator[tuple[int, int, int]]:
        """(mantissa bits, lowest bias, highest bias) of all formats of a kind and a width."""
        widest = min(width - 1, MAX_MANTISSA_BITS)
        for mantissa_bits in range(widest, max(width - MAX_EXPONENT_BITS, 0) - 1, -1):
            if not self.allows_widths(width - mantissa_bits, mantissa_bits, kind.signed):
                continue
            try:
                fmt = kind.with_widths(width - mantissa_bits, mantissa_bits)
            except ValueError:  # no nonzero finite value is left
                continue
            if biases := self.biases(fmt):
                yield mantissa_bits, *biases


def in_binary64(fmt: Format) -> bool:
    """Whether binary64 holds every value."""
    try:
        fmt.require_binary64()
    except ValueError:
        return False
    return True


def _with_bias(fmt: Format, bias: int) -> Format:
    kind = {field.name: getattr(fmt, field.name) for field in fields(_Kind)}
    return Format(fmt.exponent_bits, fmt.mantissa_bits, bias, **kind)


# What there is, found out when it is needed. A width is the bits of a code without its sign.


@lru_cache(maxsize=64)
def _kinds(wanted: _Wanted) -> tuple[_Kind, ...]:
    return tuple(
        kind
        for kind in _KINDS
        if wanted.allows_kind(kind)
        and any(True for width in _WIDTHS for _ in wanted.splits(kind, width))
    )


@lru_cache(maxsize=256)
def _widths(wanted: _Wanted, kind: _Kind) -> tuple[int, ...]:
    return tuple(width for width in _WIDTHS if any(wanted.splits(kind, width)))


@lru_cache(maxsize=4096)
def _splits(wanted: _Wanted, kind: _Kind, width: int) -> dict[int, tuple[int, int]]:
    """Lowest and highest bias by mantissa bits, few of which come first."""
    return {bits: (low, high) for bits, low, high in sorted(wanted.splits(kind, width))}


@lru_cache(maxsize=64)
def _named(wanted: _Wanted) -> tuple[tuple[Format, ...], ...]:
    """The named formats, those of P3109, which are many, by themselves; simple ones first."""
    several: list[list[Format]] = [[], []]
    for family, members in families().items():
        several[family == "P3109"].extend(fmt for fmt in members.values() if wanted.allows(fmt))
    return tuple(
        tuple(sorted(some, key=lambda fmt: (fmt.bits, fmt.mantissa_bits)))
        for some in several
        if some
    )


@st.composite
def _any_format(draw: st.DrawFn, wanted: _Wanted) -> Format:
    kinds = _kinds(wanted)
    for name, default in _DEFAULT.items():
        options = list(dict.fromkeys(getattr(kind, name) for kind in kinds))
        value = _pick(draw, [default] * (default in options) + options)
        kinds = tuple(kind for kind in kinds if getattr(kind, name) == value)
    widths = _widths(wanted, kinds[0])
    small = [width for width in widths if width <= _SMALL]
    width = _pick(draw, _pick(draw, [small or widths, widths]))
    splits = _splits(wanted, kinds[0], width)
    mantissa_bits = _pick(draw, list(splits))
    exponent_bits = width - mantissa_bits
    low, high = splits[mantissa_bits]
    usual = (1 << (exponent_bits - 1)) - 1  # IEEE 754's
    if wanted.bias is None:
        nearest = min(max(usual, low), high)
        near = sorted(
            range(max(nearest - _NEAR, low), min(nearest + _NEAR, high) + 1),
            key=lambda bias: abs(bias - nearest),
        )
        further = draw(st.integers(low - usual, high - usual))
        bias = _pick(
            draw,
            [nearest, near[further % len(near)], usual + further, (low, high)[further % 2]],
        )
    else:
        allowed = [bias for bias in wanted.bias if low <= bias <= high]
        bias = _pick(draw, sorted(allowed, key=lambda bias: (abs(bias - usual), bias)))
    return kinds[0].with_widths(exponent_bits, mantissa_bits, bias)


def _pick(draw: st.DrawFn, options: Sequence[_T]) -> _T:
    """One of them, by one draw even if there is but one: to Hypothesis, fewer draws are simpler."""
    return options[draw(st.integers(0, max(len(options) - 1, 1))) % len(options)]


@shown_as_called
def formats(
    *,
    bits: int | Iterable[int] | None = None,
    exponent_bits: int | Iterable[int] | None = None,
    mantissa_bits: int | Iterable[int] | None = None,
    bias: int | Iterable[int] | None = None,
    signed: bool | None = None,
    subnormals: bool | None = None,
    infinities: bool | None = None,
    nans: NaNs | str | Iterable[NaNs | str] | None = None,
    zero: bool | None = None,
    named: bool = False,
    within: Any = "binary64",
) -> SearchStrategy[Format]:
    """Formats of every kind: by default, any whose values binary64 holds.

    Parameters
    ----------
    bits, exponent_bits, mantissa_bits, bias : int or iterable of int, optional
        One allowed value, or several: ``bits=8``, ``bits=range(4, 9)``, ``bias=[7, 11]``.
        `bits` counts all bits of a code.
    signed, subnormals, infinities, zero : bool, optional
        As of `fpsim.Format`. None: either.
    nans : {'ieee', 'all_ones', 'negative_zero', 'none'} or several of them, optional
        Which codes may be NaN; see `fpsim.NaNs`.
    named : bool
        True: formats of the catalogue, with their names, and no others.
    within : Format, str, dtype or None
        A format that holds every value; None: formats may leave binary64, so that only
        `fpsim.spec` handles them.

    Returns
    -------
    strategy of `fpsim.Format`

    Notes
    -----
    Examples shrink toward what `fpsim.Format` takes by default, then toward fewer bits, then
    toward fewer mantissa bits, and toward the bias of IEEE 754: what the repr of the simplest
    counterexample says beside the two widths is needed for it to fail.

    Examples
    --------
    >>> from hypothesis import find
    >>> from fpsim.strategies import formats
    >>> find(formats(), lambda fmt: True)
    Format(2, 0)
    >>> find(formats(bits=range(4, 9)), lambda fmt: not fmt.infinities)
    Format(3, 0, infinities=False, nans='all_ones')
    """
    wanted = _Wanted(
        some_integers("bits", bits, 1, MAX_BITS),
        some_integers("exponent_bits", exponent_bits, 1, MAX_EXPONENT_BITS),
        some_integers("mantissa_bits", mantissa_bits, 0, MAX_MANTISSA_BITS),
        some_integers("bias", bias, -MAX_BIAS, MAX_BIAS),
        one_flag("signed", signed),
        one_flag("subnormals", subnormals),
        one_flag("infinities", infinities),
        _some_nans(nans),
        one_flag("zero", zero),
        None if within is None else one_format("within", within),
    )
    if boolean("named", named):
        if known := _named(wanted):
            return st.one_of(*(st.sampled_from(some) for some in known))
    elif _kinds(wanted):
        return _any_format(wanted)
    given = {
        "bits": bits, "exponent_bits": exponent_bits, "mantissa_bits": mantissa_bits, "bias": bias,
        "signed": signed, "subnormals": subnormals, "infinities": infinities, "nans": nans,
        "zero": zero, "named": named or None, "within": within,
    }  # fmt: skip
    words = ", ".join(f"{name}={shown(v)}" for name, v in given.items() if v is not None)
    raise ValueError(f"no format is all of {words}; ask for less")


def _some_nans(nans: Any) -> frozenset[NaNs] | None:
    if nans is None:
        return None
    several = list(nans) if isinstance(nans, Iterable) and not isinstance(nans, str) else [nans]
    if not several:
        raise ValueError("nans is empty, which allows nothing; leave it out to allow any")
    return frozenset(choice("nans", one, NaNs) for one in several)


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
        several += [st.sampled_from(Rounding)] * 2
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

    order = _pick(draw, orders)
    fmt, rounding, overflow = draw(fmts), draw(roundings), draw(overflows())
    product = maybe(order not in (_ALIGNED, Order.exact), others)
    block, block_order = draw(st.integers(1, _MOST_TERMS)), draw(st.sampled_from(_BLOCK_ORDERS))
    block_fmt = maybe(order is Order.blocked, others)
    bits, alignment = draw(st.integers(0, _MOST_KEPT)), draw(st.sampled_from(_ALIGNMENTS))
    operands = maybe(order is _ALIGNED, narrow)
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
