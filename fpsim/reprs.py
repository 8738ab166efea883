"""What notebooks show of fpsim's objects: small pieces of HTML, self-contained and escaped.

Imports nothing of fpsim: what it is given has the attributes. Names of formats and tensors are
somebody else's text, so everything that is shown passes `escape`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

# Tints of the colours that colour-blind readers tell apart, under black text.
_SIGN, _EXPONENT, _MANTISSA = "#f3b48c", "#9fd0ee", "#f6dd9a"
_GOOD = {"good": "#009E73", "usable": "#8a6d00", "poor": "#D55E00"}
_CELL = "padding:1px 8px;text-align:right;white-space:nowrap"
_MOST_ROWS = 100
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def escape(text: Any) -> str:
    """Text as HTML, with what is not printable spelled out.

    Examples
    --------
    >>> from fpsim.reprs import escape
    >>> escape("<b>&\\x07")
    '&lt;b&gt;&amp;\\\\x07'
    """
    return html.escape(printable(text))


def printable(text: Any) -> str:
    """Text on one line, with what is not printable spelled out.

    Examples
    --------
    >>> from fpsim.reprs import printable
    >>> printable("x\\n\\u202e")
    'x\\\\n\\\\u202e'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def power_of_two(exponent: float) -> str:
    """2 to an exponent, in superscripts where it is an integer.

    Examples
    --------
    >>> from fpsim.reprs import power_of_two
    >>> power_of_two(-14), power_of_two(0.5)
    ('2⁻¹⁴', '2^0.5')
    """
    if not float(exponent).is_integer():
        return f"2^{exponent:g}".replace("-", "−")
    return "2" + str(int(exponent)).translate(_SUPERSCRIPTS)


def number(value: Any) -> str:
    """A dyadic rational: in decimal, and as an odd integer times a power of two.

    Examples
    --------
    >>> from fpsim.reprs import number
    >>> number(448.0), number(2.0**-9), number(3)
    ('448 = 7 × 2⁶', '0.001953125 = 2⁻⁹', '3')
    """
    fraction = Fraction(value)
    exponent = (fraction.numerator & -fraction.numerator).bit_length() - 1
    exponent -= fraction.denominator.bit_length() - 1
    odd = fraction / Fraction(2) ** exponent
    binary = power_of_two(exponent) if odd == 1 else f"{odd} × {power_of_two(exponent)}"
    try:
        decimal = f"{float(fraction):.8g}".replace("-", "−")
    except OverflowError:
        return binary
    if not float(fraction):
        return binary
    return decimal if exponent == 0 else f"{decimal} = {binary}"


def factor(scale: float) -> str:
    """A scale: as a power of two where it is one."""
    significand, exponent = math.frexp(scale)
    return power_of_two(exponent - 1) if significand == 0.5 else f"{scale:.5g}"


def short(value: float | None) -> str:
    """Four digits; a dash for what was not worked out."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.4g}".replace("-", "−")


def percent(share: float) -> str:
    """A share with two decimals, on one line."""
    return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values; the values are HTML already."""
    lines = [
        f'<tr><th style="text-align:left;padding:1px 12px 1px 0">{escape(name)}</th>'
        f'<td style="text-align:left;padding:1px 0">{value}</td></tr>'
        for name, value in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], bold: int | None = None) -> str:
    """A table with a header; the cells are HTML already, the first of a row its name."""
    head = "".join(
        f'<th style="{_CELL if i else _CELL.replace("right", "left")}">{escape(name)}</th>'
        for i, name in enumerate(header)
    )
    lines = []
    for k, row in enumerate(rows):
        weight = ";font-weight:bold" if k == bold else ""
        cells = "".join(
            f'<td style="{(_CELL if i else _CELL.replace("right", "left")) + weight}">{cell}</td>'
            for i, cell in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


# Formats ----------------------------------------------------------------------------------------


def layout(fmt: Any) -> str:
    """The bits of a code, coloured by field, most significant first."""
    fields = [
        ("s", int(fmt.signed), _SIGN, "sign"),
        ("e", fmt.exponent_bits, _EXPONENT, f"exponent, bias {fmt.bias}".replace("-", "−")),
        ("m", fmt.mantissa_bits, _MANTISSA, "mantissa"),
    ]
    bits, names, bit = [], [], fmt.bits
    for letter, width, colour, name in fields:
        style = f"background:{colour};color:#000;border:1px solid #555"
        for _ in range(width):
            bit -= 1
            bits.append(
                f'<td title="bit {bit}" style="{style};width:1.2em;padding:2px 0;'
                f'text-align:center;font-family:monospace">{letter}</td>'
            )
        if width:
            names.append(
                f'<span style="white-space:nowrap"><span style="{style};padding:0 4px">{letter}'
                f"</span> {width} {name}</span>"
            )
    return (
        '<table style="border-collapse:collapse;margin:4px 0">'
        f"<tr>{''.join(bits)}</tr></table>"
        f'<div style="font-size:85%;margin:2px 0 6px">{" &ensp; ".join(names)}</div>'
    )


def format_(fmt: Any) -> str:
    """A `Format`: its bits, and the numbers that tell it from others."""
    special = []
    if not fmt.zero:
        special.append("no zero")
    elif not fmt.has_negative_zero and fmt.signed:
        special.append("one zero")
    special.append("infinity" if fmt.infinities else "no infinity")
    special.append(f"NaN: {str(fmt.nans).replace('_', ' ')}" if fmt.nan_code is not None
                   else "no NaN")  # fmt: skip
    subnormal = fmt.min_subnormal
    rows = [
        ("bits", f"{fmt.bits}, precision {fmt.precision}"),
        ("largest", number(fmt.max)),
        ("smallest normal", number(fmt.min_normal)),
        ("smallest subnormal", "none" if subnormal is None else number(subnormal)),
        ("unit roundoff", power_of_two(-fmt.precision)),
        ("special", ", ".join(special)),
    ]
    return f"<div><strong>{escape(fmt)}</strong>{layout(fmt)}{pairs(rows)}</div>"


# Fits -------------------------------------------------------------------------------------------


def lognormal(fit: Any) -> str:
    """A `Lognormal`: its parameters in both logarithms, and how far to trust it."""
    middle, spread = fit.mu_log2, fit.sigma_log2
    rows = [
        ("mean of ln |x|", short(fit.mu)),
        ("standard deviation", f"{short(fit.sigma)}, in binades {short(spread)}"),
        (
            "two thirds lie within",
            f"2^{middle - spread:.1f} to 2^{middle + spread:.1f}".replace("-", "−"),
        ),
        ("zeros", percent(fit.zero_fraction)),
    ]
    if fit.count:
        rows.append(("fitted to", f"{fit.count:,} nonzero elements"))
    if not math.isnan(fit.ks):
        quality = fit.quality
        rows.append(
            (
                "distance D",
                f'{fit.ks:.3f}, <span style="color:{_GOOD[quality]};font-weight:bold">{quality}'
                "</span>",
            )
        )
    if fit.alternatives:
        name, distance = min(fit.alternatives.items(), key=lambda item: item[1])
        rows.append(("best alternative", f"{escape(name.replace('_', ' '))}, D = {distance:.3f}"))
    return f"<div><strong>lognormal magnitudes</strong>{pairs(rows)}</div>"


# Recommendations --------------------------------------------------------------------------------


def candidates(r: Any) -> str:
    """The candidates of a `Recommendation`, best first."""
    header = ["format", "scale", "bias*", "closed form", "fit", "sketch", "measured", "flushed",
              "clipped"]  # fmt: skip
    rows = [
        [
            escape(c.format),
            factor(c.scale),
            f"{c.bias:g}".replace("-", "−"),
            short(c.closed_form),
            short(c.fit),
            short(c.sketch),
            short(c.measured),
            percent(c.underflow),
            percent(c.overflow),
        ]
        for c in r.candidates
    ]
    return grid(header, rows, bold=0)


def _notes(notes: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<ul>{lines}</ul>" if lines else ""


_FOOTNOTE = '<div style="font-size:85%">* the bias that makes the scale unnecessary</div>'


def recommendation(r: Any) -> str:
    """A `Recommendation`: the answer, then the candidates by their errors."""
    measured = "" if r.measured is None else f", measured {short(r.measured)}"
    head = (
        f"<strong>{escape(r.format)}</strong> with scale {factor(r.scale)}: "
        f"{escape(r.metric.words)} {short(r.expected)} predicted by the {escape(r.basis)}{measured}"
    )
    return f"<div>{head}{candidates(r)}{_FOOTNOTE}{_notes(r.notes)}</div>"


def set_recommendation(answer: Any) -> str:
    """A `SetRecommendation`: the one format for all, then each tensor's own."""
    worst = answer.by_worst
    head = f"<strong>{escape(answer.format)}</strong> for all {len(answer.tensors)} tensors"
    some = next(iter(answer.tensors.values()))
    regret = f"{worst.worst:.2f} dB" if some.metric == "sqnr" else percent(worst.worst)
    head += f": {escape(some.metric.words)} worse than each tensor's own best by at most {regret}"
    header = ["tensor", "best", "scale", "predicted", "measured", "flushed", "clipped"]
    rows = [
        [
            escape(name),
            escape(r.format),
            factor(r.scale),
            short(r.expected),
            short(r.measured),
            percent(r.best.underflow),
            percent(r.best.overflow),
        ]
        for name, r in list(answer.tensors.items())[:_MOST_ROWS]
    ]
    more = len(answer.tensors) - len(rows)
    rest = f"<div>… and {more} more; table() has them all</div>" if more else ""
    return f"<div>{head}{grid(header, rows)}{rest}{_skipped(answer.skipped)}</div>"


def _skipped(skipped: Mapping[str, str]) -> str:
    return _notes(f"skipped {name}: {reason}" for name, reason in skipped.items())


# Sums -------------------------------------------------------------------------------------------


def accumulator(a: Any) -> str:
    """An `Accumulator`: where sums are rounded, step by step."""
    how = escape(str(a.rounding).replace("_", " "))
    rows = [("sum in", f"{escape(a.fmt)}, {how}, overflow: {escape(a.overflow)}")]
    if a.alignment_bits is not None:
        rows += [
            ("terms at once", f"{a.block} products and the sum so far"),
            (
                "aligned to",
                f"{a.alignment_bits} bits of fraction, cut {escape(a.alignment)}".replace("_", " "),
            ),
        ]
    else:
        product = "exact" if a.product is None else f"rounded to {escape(a.product)}"
        if a.product is None and a.order == "pairwise":
            product = f"rounded to {escape(a.fmt)}"
        rows += [("products", product), ("order", escape(a.order))]
        if a.block is not None:
            inner = a.fmt if a.block_fmt is None else a.block_fmt
            rows.append(("blocks", f"{a.block} terms, {escape(a.block_order)}, in {escape(inner)}"))
    if a.operands is not None:
        rows.append(("operands", escape(a.operands)))
    return f"<div><strong>accumulator</strong>{layout(a.fmt)}{pairs(rows)}</div>"
