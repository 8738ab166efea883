"""operands: numbers for an operation, at which its implementations go wrong.

Imports format, spec.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fpsim import spec
from fpsim.arguments import shown
from fpsim.format import Format
from fpsim.strategies.calls import one_format, shown_as_called
from fpsim.strategies.decisions import decision_points
from fpsim.strategies.numbers import extremes, number, values

# The operands that make an exact result t of others, none of which is zero: how many, and which.
_SOLVED: dict[str, tuple[int, Callable[..., tuple[Fraction, ...]]]] = {
    "add": (2, lambda t, x: (x, t - x)),
    "subtract": (2, lambda t, x: (x, x - t)),
    "multiply": (2, lambda t, x: (x, t / x)),
    "divide": (2, lambda t, y: (t * y, y)),
    "sqrt": (1, lambda t: (t * t,)),
    "fma": (3, lambda t, x, y: (x, y, t - x * y)),
    "faa": (3, lambda t, x, y: (x, y, t - x - y)),
}
_MODES = ("ties_to_even", "toward_negative", "toward_positive")


@st.composite
def _value(draw: st.DrawFn, source: Format, low: int, high: int) -> Fraction:
    """A nonzero value, its exponent from low to high as far as there are such."""
    top = max(source.emin, source.emax)
    low, high = (min(max(exponent, source.emin), top) for exponent in (low, high))
    binade = draw(st.integers(low, high)) - source.emin + source.zero
    mantissa = draw(st.integers(0, (1 << source.mantissa_bits) - 1))
    place = min((binade << source.mantissa_bits) + mantissa, source.max_code)
    value = spec.value_at(place, source)
    return -value if source.signed and draw(st.booleans()) else value


@st.composite
def _held(draw: st.DrawFn, source: Format, *several: Fraction) -> tuple[float | Fraction, ...]:
    """Values, and of other real numbers one of their two neighbours."""
    mode = draw(st.sampled_from(_MODES))
    return tuple(number(source, spec.project(x, source, mode, "saturate")[0]) for x in several)


@st.composite
def _aimed(draw: st.DrawFn, fmt: Format, source: Format, name: str) -> tuple[Any, ...]:
    """Operands whose exact result is as near to where rounding changes as the last one lets it.

    Others may be far larger, and cancel, or far smaller; where results overflow and underflow
    counts as well.
    """
    point, _ = draw(decision_points(fmt, fmt.max_code, False, None))
    if name != "sqrt" and fmt.signed and draw(st.booleans()):
        point = -point
    exponent = spec.floor_log2(abs(point)) if point else fmt.emin
    count, solve = _SOLVED[name]
    low, high, reach = source.emin, source.emax, fmt.precision + 2
    others: list[Fraction] = []
    if name in ("add", "subtract", "faa"):
        near = _value(source, exponent - reach, exponent + reach)
        others = [draw(near) for _ in range(count - 1)]
    elif name == "multiply":
        others = [draw(_value(source, max(low, exponent - high), min(high, exponent - low)))]
    elif name == "divide":
        others = [draw(_value(source, max(low, low - exponent), min(high, high - exponent)))]
    elif name == "fma":
        x = draw(_value(source, max(low, exponent - high), min(high, exponent - low)))
        e = exponent - spec.floor_log2(abs(x))
        others = [x, draw(_value(source, e - reach, e + reach))]
    return draw(_held(source, *solve(point, *others)))


def _tails(fmt: Format, source: Format) -> list[int]:
    """How many last bits of a product of significands are rounded away, which a factor can set."""
    most = 2 * source.precision - fmt.precision  # a product may have a bit less
    return [n for n in (most, most - 1) if 1 <= n <= source.precision]


@st.composite
def _nearest_products(draw: st.DrawFn, fmt: Format, source: Format) -> tuple[Any, ...]:
    """Factors whose product is a tie, or the nearest to one that there is.

    The product of significands m and k ends in given n bits where k is the inverse of m modulo
    2**n, times these bits.
    """
    p, n = source.precision, draw(st.sampled_from(_tails(fmt, source)))
    m = draw(st.integers(1 << (p - 1), (1 << p) - 1)) | 1
    bits = (1 << (n - 1)) + draw(st.sampled_from((0, 1, -1)))
    k = draw(_significand(p, bits * pow(m, -1, 1 << n) % (1 << n), n))
    exponent = draw(st.integers(fmt.emin, max(fmt.emin, fmt.emax))) - 2 * (p - 1)
    shift = draw(st.integers(source.emin, max(source.emin, source.emax))) - (p - 1)
    x, y = m * Fraction(2) ** shift, k * Fraction(2) ** (exponent - shift)
    sign = draw(st.sampled_from((1, -1))) if source.signed else 1
    return draw(_held(source, sign * x, y))


@st.composite
def _nearest_quotients(draw: st.DrawFn, fmt: Format, source: Format) -> tuple[Any, ...]:
    """Operands whose quotient is as near to a tie as any that is none.

    The tie's significand t, of a bit more than the format has, times the divisor's is one more, or
    one less, than a multiple of 2**n, which is the dividend.
    """
    p = source.precision
    n = fmt.precision + draw(st.integers(0, 1))
    t = draw(st.integers(1 << fmt.precision, (2 << fmt.precision) - 1)) | 1
    beside = draw(st.sampled_from((1, -1)))
    divisor = draw(_significand(p, beside * pow(t, -1, 1 << n) % (1 << n), n))
    dividend = Fraction(t * divisor - beside, 1 << n)
    shift = draw(st.integers(source.emin, max(source.emin, source.emax))) - (p - 1)
    exponent = draw(st.integers(fmt.emin, max(fmt.emin, fmt.emax)))
    sign = draw(st.sampled_from((1, -1))) if source.signed else 1
    # The tie is t * 2**exponent, up to the bits of t.
    x, y = dividend * Fraction(2) ** (exponent + shift), divisor * Fraction(2) ** shift
    return draw(_held(source, sign * x, y))


@st.composite
def _significand(draw: st.DrawFn, p: int, tail: int, n: int) -> int:
    """An integer of p bits that ends in n given ones, or in those of its negative, if there is."""
    lowest = 1 << (p - 1)
    if n < p:
        return lowest | draw(st.integers(0, (1 << (p - 1 - n)) - 1)) << n | tail
    return max(min(max(tail, (1 << n) - tail), 2 * lowest - 1), lowest)


@st.composite
def _and_little(draw: st.DrawFn, first: SearchStrategy[Any], source: Format) -> tuple[Any, ...]:
    """Two operands, and a third that is far smaller than their result."""
    x, y = draw(first)
    little = _value(source, source.emin, source.emin + source.precision)
    smallest = st.just(Fraction(source.smallest))
    (z,) = draw(_held(source, draw(smallest | little)))
    return x, y, -z if source.signed and draw(st.booleans()) else z


@shown_as_called
def operands(
    fmt: Any,
    op: str | Callable[..., Any],
    *,
    source: Any = None,
    allow_nan: bool | None = None,
    allow_infinity: bool | None = None,
) -> SearchStrategy[tuple[float | Fraction, ...]]:
    """Operands of an operation that rounds into a format: any, and such as are hard to get right.

    Hard are exact results at and beside ties and values of the format, also where it overflows and
    underflows, and above all those that lie nearer to a tie than a wider format can tell; sums
    that cancel; operands that are far apart; zeros, infinities and NaN.

    Parameters
    ----------
    fmt : Format, str or dtype
        The format of the result.
    op : str or function
        ``'add'``, ``'subtract'``, ``'multiply'``, ``'divide'``, ``'sqrt'``, ``'fma'`` (x·y + z) or
        ``'faa'`` (x + y + z), or fpsim's function of that name.
    source : Format, str or dtype, optional
        The format of the operands; None: that of the result.
    allow_nan, allow_infinity : bool, optional
        As of `values`.

    Returns
    -------
    strategy of tuple
        One, two or three values of `source`, as `values` draws them.

    Notes
    -----
    Examples of plain operands shrink as those of `values` do, and are the simplest. For the others,
    the result shrinks toward ties above 0, 1, 2, …, and operands toward powers of two near 1.

    Examples
    --------
    Whoever rounds to binary32 on the way loses what z decides:

    >>> from fractions import Fraction
    >>> from hypothesis import find
    >>> from fpsim import spec
    >>> from fpsim.strategies import operands
    >>> def fma(x, y, z, fmt):
    ...     return spec.round(Fraction(x) * Fraction(y) + Fraction(z), fmt)
    >>> x, y, z = find(
    ...     operands("float8_e5m2", "fma", allow_nan=False, allow_infinity=False),
    ...     lambda xyz: spec.round(fma(*xyz, "binary32"), "e5m2") != fma(*xyz, "e5m2"),
    ... )
    >>> fma(x, y, 0, "binary32") == fma(x, y, z, "binary32")
    True
    """
    chosen = one_format("fmt", fmt)
    held = chosen if source is None else one_format("source", source)
    name = op if isinstance(op, str) else getattr(op, "__name__", "")
    if name not in _SOLVED:
        allowed = ", ".join(repr(name) for name in _SOLVED)
        raise ValueError(f"op={shown(op)} is not one of {allowed}, or a function of that name")
    count, _ = _SOLVED[name]
    any_value = values(held, allow_nan=allow_nan, allow_infinity=allow_infinity)
    extreme = extremes(held, allow_nan, allow_infinity)
    several: list[SearchStrategy[tuple[Any, ...]]] = [
        st.tuples(*[any_value] * count),
        st.tuples(*[any_value | extreme] * count),
        _aimed(chosen, held, name),
    ]
    if name in ("multiply", "fma") and _tails(chosen, held):
        products = _nearest_products(chosen, held)
        several.append(products if name == "multiply" else _and_little(products, held))
    if name == "divide":
        several.append(_nearest_quotients(chosen, held))
    if count == 3:
        two = "multiply" if name == "fma" else "add"
        several.append(_and_little(_aimed(chosen, held, two), held))
    return st.one_of(several)
