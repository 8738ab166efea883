"""formats: of every kind. Imports arguments, catalog, format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fpsim.arguments import boolean, choice, shown
from fpsim.catalog import families
from fpsim.format import MAX_BIAS, MAX_BITS, MAX_EXPONENT_BITS, MAX_MANTISSA_BITS, Format, NaNs
from fpsim.strategies.calls import one_flag, one_format, pick, shown_as_called, some_integers

_SMALL = 8  # bits of a code without its sign, up to which formats are drawn more often
_WIDTHS = range(1, MAX_BITS + 1)
_NEAR = 4  # biases so near to IEEE 754's are drawn more often


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
        value = pick(draw, [default] * (default in options) + options)
        kinds = tuple(kind for kind in kinds if getattr(kind, name) == value)
    widths = _widths(wanted, kinds[0])
    small = [width for width in widths if width <= _SMALL]
    width = pick(draw, pick(draw, [small or widths, widths]))
    splits = _splits(wanted, kinds[0], width)
    mantissa_bits = pick(draw, list(splits))
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
        bias = pick(
            draw,
            [nearest, near[further % len(near)], usual + further, (low, high)[further % 2]],
        )
    else:
        allowed = [bias for bias in wanted.bias if low <= bias <= high]
        bias = pick(draw, sorted(allowed, key=lambda bias: (abs(bias - usual), bias)))
    return kinds[0].with_widths(exponent_bits, mantissa_bits, bias)


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
