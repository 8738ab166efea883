"""near_ties, around: real numbers at and beside those where rounding changes.

Imports arguments, format, rounding, spec.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fpsim import spec
from fpsim.arguments import integer
from fpsim.format import Format
from fpsim.rounding import MAX_RANDOM_BITS
from fpsim.strategies.calls import one_format, shown_as_called
from fpsim.strategies.numbers import (
    first_magnitude,
    magnitudes,
    next_magnitude,
    number,
    one_of_codes,
)

_NEARNESS = st.integers(3, 100)  # rationals lie a gap times two to minus this away


def _next(x: Fraction, source: Format, up: bool) -> Fraction | None:
    """The nearest value above, or below, a real number; None where there is none."""
    if x < 0 or (x == 0 and not up):
        mirrored = _next(-x, source, not up) if source.signed else None
        return None if mirrored is None else -mirrored
    if x == 0:
        return spec.value_at(first_magnitude(source), source)
    place, above = spec.neighbours(x, source)
    if up:
        place = place if spec.value_at(place, source) > x else above
        return spec.value_at(place, source) if place <= source.max_code else None
    if spec.value_at(place, source) >= x:  # of all values, if the format has no zero
        if place <= first_magnitude(source):
            return Fraction(0) if source.zero else None
        place -= 1
    return spec.value_at(min(place, source.max_code), source)


def _is_value(x: Fraction, fmt: Format) -> bool:
    if x == 0:
        return fmt.zero
    place, _ = spec.neighbours(abs(x), fmt)
    return place <= fmt.max_code and spec.value_at(place, fmt) == abs(x)


@st.composite
def decision_points(
    draw: st.DrawFn, fmt: Format, largest: int, ties_only: bool, random_bits: int | None
) -> tuple[Fraction, Fraction]:
    """A magnitude at which rounding changes, and the gap between values there."""
    magnitude = draw(one_of_codes(magnitudes(fmt, 0, largest, first_magnitude(fmt))))
    low = spec.value_at(magnitude, fmt)
    high = spec.value_at(next_magnitude(magnitude, fmt), fmt)
    points = [(low + high) / 2]
    if not ties_only:
        points.append(low)
        lowest = magnitude == 0 and not fmt.zero
        if lowest or low < Fraction(2) ** fmt.emin <= min(high, Fraction(fmt.max)):
            # From here on, full precision takes numbers up to it, and they do not underflow.
            ulp = Fraction(2) ** (fmt.emin - fmt.precision)
            points += [Fraction(2) ** fmt.emin - ulp, Fraction(2) ** fmt.emin - ulp / 2]
        if lowest:
            points.append(Fraction(0))
    if random_bits is not None:
        parts = 1 << (random_bits + 1)
        points.append(low + (high - low) * draw(st.integers(1, parts - 1)) / parts)
    return draw(st.sampled_from(points)), high - low


@st.composite
def _beside(
    draw: st.DrawFn,
    fmt: Format,
    source: Format | None,
    ties_only: bool = False,
    random_bits: int | None = None,
) -> float | Fraction:
    negative = draw(st.booleans()) and (source is None or source.signed)
    side = draw(st.sampled_from((0, -1, 1)))
    # Below zero, nothing more happens to a format without a sign.
    largest = first_magnitude(fmt) if negative and not fmt.signed else fmt.max_code
    point, gap = draw(decision_points(fmt, largest, ties_only, random_bits))
    if source is None:
        beside = point + side * gap / 2 ** draw(_NEARNESS) if side else point
        return -beside if negative else beside
    here = point if _is_value(point, source) else None
    several = {0: here, -1: _next(point, source, up=False), 1: _next(point, source, up=True)}
    there = next(x for x in (several[side], *several.values()) if x is not None)
    code = spec.project(there, source)[0]
    if negative and (there or source.has_negative_zero):
        code |= 1 << source.magnitude_bits
    return number(source, code)


def _source(source: Any, fmt: Format) -> Format | None:
    if source is None:
        return None
    chosen = one_format("source", source)
    if not chosen.contains(fmt):
        raise ValueError(
            f"source={chosen} does not hold every value of {fmt}; give a wider one, or source=None "
            "for exact rationals"
        )
    return chosen


@shown_as_called
def near_ties(fmt: Any, *, source: Any = "binary64") -> SearchStrategy[float | Fraction]:
    """Real numbers at ties of a format, just below and just above.

    A tie is the middle of two neighbouring values. The last is the middle of the largest value and
    of what would come next, from which on nearest rounding overflows.

    Parameters
    ----------
    fmt : Format, str or dtype
    source : Format, str, dtype or None
        The format that the numbers are in: they are ties, where it has them, and the values of
        `source` next to ties. None: exact rationals, an eighth of the gap or less away.

    Returns
    -------
    strategy of float
        Of Fraction with ``source=None``, or where the values of `source` leave binary64.

    Notes
    -----
    Positive numbers are the simplest, then ties, before what is below and above them, and then, as
    for `values`, what is next to 0, 1, 2, …, and next to the values of small codes. Rationals
    shrink toward an eighth of the gap, and come nearer only as far as they need to.

    Examples
    --------
    >>> from hypothesis import find
    >>> from fpsim.strategies import near_ties
    >>> find(near_ties("float4_e2m1fn"), lambda x: x > 1)
    1.25
    >>> find(near_ties("float4_e2m1fn"), lambda x: 1 < x < 1.25)
    1.2499999999999998
    >>> find(near_ties("float4_e2m1fn", source=None), lambda x: 1.25 < x < 1.26)
    Fraction(161, 128)
    """
    chosen = one_format("fmt", fmt)
    return _beside(chosen, _source(source, chosen), ties_only=True)


@shown_as_called
def around(
    fmt: Any, *, source: Any = "binary64", random_bits: int | None = None
) -> SearchStrategy[float | Fraction]:
    """Real numbers at everything where rounding into a format may change, and just beside it.

    That is at ties, as `near_ties` has them, at values, from which on directed rounding goes
    further, and where numbers begin to count as tiny, and underflow.

    Parameters
    ----------
    fmt : Format, str or dtype
    source : Format, str, dtype or None
        As of `near_ties`.
    random_bits : int, optional
        Also at the ends of the parts, twice two to this many, into which stochastic rounding with
        so many random bits divides a gap.

    Notes
    -----
    Examples shrink as those of `near_ties` do; of what is in one gap, the tie is the simplest.

    Examples
    --------
    >>> from hypothesis import find
    >>> from fpsim.strategies import around
    >>> find(around("float4_e2m1fn"), lambda x: 1.25 < x < 1.4)
    1.2500000000000002
    >>> find(around("float4_e2m1fn"), lambda x: 1.4 < x < 1.6)
    1.5
    """
    chosen = one_format("fmt", fmt)
    if random_bits is not None:
        integer("random_bits", random_bits, 1, MAX_RANDOM_BITS)
    return _beside(chosen, _source(source, chosen), random_bits=random_bits)
