"""Names that hardware languages take, and the templates' environment. jinja2 when called."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any


def identifier(text: str) -> str:
    """A name that C, SystemVerilog and file systems take, from that of a format.

    Examples
    --------
    >>> from fpsim.hardware.rendering import identifier
    >>> identifier("ue3m2b-4f,subnormals=false")
    'ue3m2bminus4f_subnormals_false'
    """
    text = re.sub(r"[^A-Za-z0-9_]+", "_", text.replace("-", "minus")).strip("_")
    return text if re.match(r"[A-Za-z_]", text) else f"f{text}"


def hex_float(value: float) -> str:
    """A finite double as C99 writes it in hexadecimal, exactly.

    Examples
    --------
    >>> from fpsim.hardware.rendering import hex_float
    >>> hex_float(448.0), hex_float(0.0), hex_float(-5e-324)
    ('0x1.cp+8', '0.0', '-0x1p-1074')
    """
    if value == 0:
        return str(value)
    significand, power = value.hex().split("p")
    exponent = int(power)
    if significand.lstrip("-").startswith("0x0."):  # a subnormal: give it its leading one
        digits = significand.partition(".")[2]
        fraction = int(digits, 16)
        exponent += fraction.bit_length() - 1 - 4 * len(digits)
        bits = fraction << (4 * len(digits) + 1 - fraction.bit_length())
        digits = f"{bits - (1 << 4 * len(digits)):0{len(digits)}x}"
        significand = f"{'-' if value < 0 else ''}0x1.{digits}"
    return f"{significand.rstrip('0').rstrip('.')}p{exponent:+d}"


@lru_cache(maxsize=1)
def environment() -> Any:
    """Jinja's environment for the templates beside this module."""
    try:
        import jinja2
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "hardware files are written with jinja2, which is not installed; "
            "pip install 'fpsim[hardware]'"
        ) from None
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("fpsim.hardware"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what is made is code, not HTML
    )
    made.filters["hex_float"] = hex_float
    return made
