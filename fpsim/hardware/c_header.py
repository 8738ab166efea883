"""c_header: a C99 header of a format, with constants, encode, decode and tables.

Imports catalog, format, rendering; jinja2 when called.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from fpsim.arguments import shown
from fpsim.catalog import parse
from fpsim.format import Format, NaNs
from fpsim.hardware.rendering import environment, hex_float, identifier

TABLE_BITS = 8  # formats of up to this many bits are decoded by a table
_BINARY32 = Format(8, 23)
_ON_A_LINE = 8


def c_header(fmt: Any, name: str | None = None) -> str:
    """The text of a C99 header that encodes and decodes a format.

    It needs nothing but C's own headers, and rounds from float and double in every mode and
    overflow rule, flags included; formats of up to 8 bits are decoded by a table. Several of
    these headers may be included together.

    Parameters
    ----------
    fmt : Format, str or dtype
        Up to 64 bits, its values within binary64's.
    name : str, optional
        What its functions' names begin with; the format's name when left out.

    Returns
    -------
    str

    Examples
    --------
    >>> from fpsim.hardware.c_header import c_header
    >>> text = c_header("float8_e4m3fn")
    >>> "static inline float8_e4m3fn_t float8_e4m3fn_from_float(float x)" in text
    True
    """
    fmt = parse(fmt)
    fmt.require_binary64()
    chosen = identifier(str(fmt)).lower() if name is None else _validated(name)
    bits = next(width for width in (8, 16, 32, 64) if width >= fmt.bits)
    outside = "0"
    if fmt.nan_code is not None:
        saturates = "overflow == FPSIM_OVERFLOW_SATURATE"
        saturates += f" || {saturates}_INFINITIES"
        outside = f"{saturates} ? 0 : {chosen.upper()}_NAN"
    text: str = (
        environment()
        .get_template("format.h.jinja")
        .render(
            fmt=fmt,
            code=lambda value: _literal(value, fmt.bits),
            id=chosen,
            ID=chosen.upper(),
            title=str(fmt),
            version=_version(),
            specials=_specials(fmt),
            code_type=f"uint{bits}_t",
            fits_float=_BINARY32.contains(fmt),
            table=_table(fmt) if fmt.bits <= TABLE_BITS else None,
            outside=outside,
        )
    )
    return text


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fpsim")
    except PackageNotFoundError:  # run from its sources
        return "(not installed)"


def _validated(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            f"name={shown(name)} is no name of C's; give letters, digits and _, with no digit in "
            "front"
        )
    return name


def _literal(value: int, bits: int) -> str:
    digits = f"0x{value:0{-(-bits // 4)}x}"
    return f"UINT64_C({digits})" if bits > 32 else f"{digits}u"


def _specials(fmt: Format) -> list[str]:
    """What the heading says of zeros, subnormals, infinities and NaN."""
    zero = "no zero" if not fmt.zero else "+0 and -0" if fmt.has_negative_zero else "one zero"
    subnormals = "subnormals" if fmt.subnormals and fmt.mantissa_bits else "no subnormals"
    nans = {
        NaNs.ieee: "NaN as in IEEE 754",
        NaNs.all_ones: "NaN in the highest code",
        NaNs.negative_zero: "NaN in the place of -0",
        NaNs.none: "no NaN",
    }[NaNs(fmt.nans)]
    return [zero, subnormals, "infinity" if fmt.infinities else "no infinity", nans]


def _table(fmt: Format) -> list[str]:
    """The values of all codes as literals of C, some on a line."""
    suffix = "f" if _BINARY32.contains(fmt) else ""
    literals = []
    for value in fmt.values().tolist():
        if np.isnan(value):
            literals.append("NAN")
        elif np.isinf(value):
            literals.append("INFINITY" if value > 0 else "-INFINITY")
        else:
            literals.append(hex_float(value) + suffix)
    width = max(len(literal) for literal in literals)
    return [
        ", ".join(literal.rjust(width) for literal in literals[start : start + _ON_A_LINE])
        for start in range(0, len(literals), _ON_A_LINE)
    ]
