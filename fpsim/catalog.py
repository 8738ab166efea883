"""The named formats (data) and the parser of names. Imports format."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from fpsim.format import Format, NaNs

# Parameters shared by a family, so that a row below says only what is special.
_FN: dict[str, Any] = {"infinities": False, "nans": "all_ones"}
_FNUZ: dict[str, Any] = {"infinities": False, "nans": "negative_zero"}
_FINITE: dict[str, Any] = {"infinities": False, "nans": "none"}
_SCALE: dict[str, Any] = {"signed": False, "zero": False, **_FN}

# family, name, exponent bits, mantissa bits, parameters
_ROWS: tuple[tuple[str, str, int, int, dict[str, Any]], ...] = (
    ("IEEE 754", "binary16", 5, 10, {}),
    ("IEEE 754", "binary32", 8, 23, {}),
    ("IEEE 754", "binary64", 11, 52, {}),
    ("Machine learning", "bfloat16", 8, 7, {}),
    ("Machine learning", "tf32", 8, 10, {}),
    # Names and meanings of the ml_dtypes package (and of LLVM's APFloat).
    ("ml_dtypes", "float8_e3m4", 3, 4, {}),
    ("ml_dtypes", "float8_e4m3", 4, 3, {}),
    ("ml_dtypes", "float8_e4m3b11fnuz", 4, 3, {"bias": 11, **_FNUZ}),
    ("ml_dtypes", "float8_e4m3fn", 4, 3, _FN),
    ("ml_dtypes", "float8_e4m3fnuz", 4, 3, {"bias": 8, **_FNUZ}),
    ("ml_dtypes", "float8_e5m2", 5, 2, {}),
    ("ml_dtypes", "float8_e5m2fnuz", 5, 2, {"bias": 16, **_FNUZ}),
    ("ml_dtypes", "float8_e8m0fnu", 8, 0, _SCALE),
    ("ml_dtypes", "float6_e2m3fn", 2, 3, _FINITE),
    ("ml_dtypes", "float6_e3m2fn", 3, 2, _FINITE),
    ("ml_dtypes", "float4_e2m1fn", 2, 1, _FINITE),
    # Open Compute Project: OFP8 revision 1.0 and Microscaling (MX) version 1.0.
    ("OCP", "ocp_e5m2", 5, 2, {}),
    ("OCP", "ocp_e4m3", 4, 3, _FN),
    ("OCP", "ocp_e3m2", 3, 2, _FINITE),
    ("OCP", "ocp_e2m3", 2, 3, _FINITE),
    ("OCP", "ocp_e2m1", 2, 1, _FINITE),
    ("OCP", "ocp_e8m0", 8, 0, _SCALE),
    # Hybrid FP8 (Sun et al., NeurIPS 2019): 1-4-3 with bias 11 (largest value 30) forward,
    # 1-5-2 backward.
    ("HFP8", "hfp8_e4m3", 4, 3, {"bias": 11, **_FINITE}),
    ("HFP8", "hfp8_e5m2", 5, 2, {}),
)

_ALIASES = {
    "half": "binary16",
    "float16": "binary16",
    "fp16": "binary16",
    "single": "binary32",
    "float32": "binary32",
    "fp32": "binary32",
    "double": "binary64",
    "float64": "binary64",
    "fp64": "binary64",
    "bf16": "bfloat16",
}

# What a shorthand with this suffix means. The 4- and 6-bit formats of ml_dtypes and OCP are 'fn'
# without NaN.
SUFFIXES: dict[str, str] = {
    "": "IEEE-like: infinity, NaN and subnormals as in IEEE 754",
    "fn": "finite, NaN in the all-ones code (no NaN in formats of 7 bits and fewer with the sign)",
    "fnuz": "finite, NaN in the place of −0, bias one above IEEE's unless given",
    "f": "finite, every code a number",
}

P3109_BITS = range(3, 17)
_P3109 = re.compile(r"binary(\d+)p(\d+)(s|u)(e|f)")
_SHORTHAND = re.compile(r"(u?)e(\d+)m(\d+)(?:b(-?\d+))?(fnuz|fn|f|)")
_DASHED = re.compile(r"([01])-(\d+)-(\d+)")
_FLAGS = {"true": True, "false": False}


def _p3109(match: re.Match[str]) -> Format:
    bits, precision = int(match[1]), int(match[2])
    signed, extended = match[3] == "s", match[4] == "e"
    exponent_bits = bits - precision + (not signed)
    if bits not in P3109_BITS or precision < 1 or exponent_bits < 1:
        raise ValueError(
            f"{match[0]!r} is no P3109 format known here: binary{{K}}p{{P}}{{s|u}}{{e|f}} takes "
            f"K from {P3109_BITS[0]} to {P3109_BITS[-1]} and P from 1 to K-1 (K when unsigned)"
        )
    return Format(
        exponent_bits,
        precision - 1,
        bias=1 << (exponent_bits - 1),
        signed=signed,
        infinities=extended,
        nans="negative_zero" if signed else "all_ones",
        name=match[0],
    )


def _p3109_names() -> list[str]:
    """Every P3109 name that leaves at least one nonzero finite value."""
    names: list[str] = []
    for bits in P3109_BITS:
        for sign in "su":
            for precision in range(1, bits + (sign == "u")):
                names.extend(f"binary{bits}p{precision}{sign}{domain}" for domain in "ef")
    return names


@lru_cache(maxsize=1)
def _families() -> dict[str, dict[str, Format]]:
    families: dict[str, dict[str, Format]] = {}
    for family, name, exponent_bits, mantissa_bits, parameters in _ROWS:
        fmt = Format(exponent_bits, mantissa_bits, name=name, **parameters)
        families.setdefault(family, {})[name] = fmt
    p3109 = families.setdefault("P3109", {})
    for name in _p3109_names():
        match = _P3109.fullmatch(name)
        assert match is not None
        p3109[name] = _p3109(match)
    return families


def families() -> dict[str, dict[str, Format]]:
    """The named formats by family."""
    return {family: dict(members) for family, members in _families().items()}


def formats() -> dict[str, Format]:
    """All named formats, by name.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.formats()["ocp_e4m3"].max
    448.0
    """
    return {name: fmt for members in _families().values() for name, fmt in members.items()}


def parse(name: Any) -> Format:
    """The format that a name, dtype or `Format` stands for; see `Format.parse`."""
    if isinstance(name, Format):
        return name
    return _parse_text(name if isinstance(name, str) else _dtype_name(name))


def _dtype_name(dtype: Any) -> str:
    remedy = "give a fpsim.Format, a name (see fpsim.formats()) or a floating-point dtype"
    try:
        if dtype is None:  # which NumPy takes for float64
            raise TypeError
        name: str = np.dtype(dtype).name
    except TypeError:
        raise TypeError(f"fmt={dtype!r} is not a format; {remedy}") from None
    if name not in _ALIASES and name not in formats():
        raise ValueError(f"fmt={dtype!r} is dtype {name}, not a floating-point format; {remedy}")
    return name


@lru_cache(maxsize=1024)
def _parse_text(text: str) -> Format:
    base, *overrides = [part.strip() for part in text.split(",")]
    parameters = _base_parameters(base.lower(), text)
    parameters.setdefault("bias", (1 << max(parameters["exponent_bits"] - 1, 0)) - 1)
    for override in overrides:
        key, equals, value = (part.strip() for part in override.partition("="))
        if not equals or key not in _PARAMETERS:
            allowed = ", ".join(f"{p}=…" for p in _PARAMETERS)
            raise ValueError(f"fmt={text!r}: {override!r} is not one of {allowed}")
        parameters[key] = _value(text, key, value.lower())
        parameters["name"] = None
    return Format(**parameters)


_PARAMETERS = (
    "exponent_bits",
    "mantissa_bits",
    "bias",
    "signed",
    "subnormals",
    "infinities",
    "nans",
    "zero",
)


def _parameters(fmt: Format) -> dict[str, Any]:
    return {key: getattr(fmt, key) for key in _PARAMETERS}


def _value(text: str, key: str, value: str) -> Any:
    if key == "nans":
        return value
    if key in ("exponent_bits", "mantissa_bits", "bias"):
        if not re.fullmatch(r"[+-]?\d{1,9}", value):
            raise ValueError(f"fmt={text!r}: {key}={value} is not an integer")
        return int(value)
    if value not in _FLAGS:
        raise ValueError(f"fmt={text!r}: {key}={value} is not true or false")
    return _FLAGS[value]


def _base_parameters(base: str, text: str) -> dict[str, Any]:
    """What a name without overrides says about `Format`'s parameters."""
    base = _ALIASES.get(base, base)
    for members in (m for family, m in _families().items() if family != "P3109"):
        if base in members:
            return _parameters(members[base]) | {"name": base}
    if match := _P3109.fullmatch(base):
        return _parameters(_p3109(match)) | {"name": base}
    if match := _SHORTHAND.fullmatch(base):
        return _shorthand(match)
    if match := _DASHED.fullmatch(base):
        sign, exponent_bits, mantissa_bits = (int(group) for group in match.groups())
        return {
            "exponent_bits": exponent_bits,
            "mantissa_bits": mantissa_bits,
            "signed": bool(sign),
            "name": base,
        }
    raise ValueError(
        f"fmt={text!r} names no format; give one of fpsim.formats(), a P3109 name such as "
        "'binary8p3se', or a shorthand such as 'e4m3' or '1-4-3' (IEEE-like), 'e4m3fn', "
        "'e4m3fnuz', 'e4m3b9f', with parameters after commas if need be: 'e4m3fn,bias=9'"
    )


def _shorthand(match: re.Match[str]) -> dict[str, Any]:
    exponent_bits, mantissa_bits = int(match[2]), int(match[3])
    signed, suffix = not match[1], match[5]
    special: dict[str, Any] = {}
    if suffix == "fn":
        special = _FN if exponent_bits + mantissa_bits >= 7 else _FINITE
    elif suffix == "fnuz":
        special = {"bias": 1 << max(exponent_bits - 1, 0), **_FNUZ}
    elif suffix == "f":
        special = _FINITE
    if match[4] is not None:
        special = special | {"bias": int(match[4])}
    return {
        "exponent_bits": exponent_bits,
        "mantissa_bits": mantissa_bits,
        "signed": signed,
        "name": match[0],
        **special,
    }


def spell(fmt: Format) -> str:
    """Its name, or the shortest text that `parse` turns into this format.

    Examples
    --------
    >>> import fpsim
    >>> str(fpsim.Format(3, 2, bias=9, infinities=False, nans="none", subnormals=False))
    'e3m2b9f,subnormals=false'
    """
    if fmt.name is not None:
        return fmt.name
    specials = (fmt.infinities, NaNs(fmt.nans))
    suffix = {
        (True, NaNs.ieee): "",
        (False, NaNs.none): "f",
        (False, NaNs.negative_zero): "fnuz",
        (False, NaNs.all_ones): "fn" if fmt.magnitude_bits >= 7 else "",
    }.get(specials, "")
    usual = 1 << (fmt.exponent_bits - 1)
    usual -= suffix != "fnuz"
    bias = "" if fmt.bias == usual else f"b{fmt.bias}"
    unsigned = "" if fmt.signed else "u"
    base = f"{unsigned}e{fmt.exponent_bits}m{fmt.mantissa_bits}{bias}{suffix}"
    # Only what the shorthand leaves unsaid, or says otherwise, follows it.
    said = {"bias": fmt.bias, "infinities": True, "nans": NaNs.ieee, "zero": True}
    said |= {"subnormals": fmt.zero} | _base_parameters(base, base)
    parts = [base]
    for key, value in _parameters(fmt).items():
        if value != said[key]:
            parts.append(f"{key}={str(value).lower()}")
    return ",".join(parts)
