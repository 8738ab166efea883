"""table: ROM contents of decoders, functions and operations, correctly rounded, as files.

Imports arguments, catalog, format, rounding, cast, arithmetic, rendering; gmpy2 when called.

A function's exact value goes into double rounded to odd by MPFR, and from there into the format in
any mode: rounding twice so cannot err where the double has two bits more than the format, which it
has for formats of up to 16 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import arithmetic
from fpsim.arguments import shown
from fpsim.cast import decode, encode
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.hardware.rendering import identifier
from fpsim.rounding import Overflow, Rounding, Stochastic, parse_overflow, parse_rounding

MAX_ADDRESS_BITS = 16
KINDS = ("mem", "h", "csv")


def _reciprocal(x: Any, fmt: Any, **options: Any) -> Any:
    return arithmetic.divide(1.0, x, fmt, **options)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": arithmetic.add,
    "subtract": arithmetic.subtract,
    "multiply": arithmetic.multiply,
    "divide": arithmetic.divide,
}
# What fpsim rounds by itself.
_ROUNDED: dict[str, Callable[..., Any]] = {
    "reciprocal": _reciprocal,
    "sqrt": arithmetic.sqrt,
    **_OPERATIONS,
}
# Those that MPFR has, and what they are called there. Infinities, zeros and NaN are as in
# IEEE 754-2019, 9.2.1, which MPFR follows but for rsqrt(−0).
_FUNCTIONS = {
    "rsqrt": "rec_sqrt",
    "exp": "exp",
    "exp2": "exp2",
    "expm1": "expm1",
    "log": "log",
    "log2": "log2",
    "log1p": "log1p",
    "sin": "sin",
    "cos": "cos",
    "tanh": "tanh",
    "erf": "erf",
}
# Functions of NumPy's that are NaN where one of these has no value.
_DEFINED: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "sqrt": np.sqrt,
    "rsqrt": np.sqrt,
    "log": np.log,
    "log2": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.sin,
}
FUNCTIONS = ("decode", "reciprocal", "sqrt", *_FUNCTIONS, "sigmoid", *_OPERATIONS)
_ON_A_LINE = 16


@dataclass(frozen=True)
class Table:
    """What a ROM holds: at the address of a code, or of x's code and below it y's, the result's."""

    function: str
    fmt: Format
    result: Format
    rounding: Rounding
    overflow: Overflow
    words: NDArray[Any] = field(repr=False, compare=False)

    @property
    def operands(self) -> int:
        """How many codes make an address."""
        return 2 if self.function in _OPERATIONS else 1

    @property
    def name(self) -> str:
        """What its files are called."""
        to = "" if self.result == self.fmt else f"_to_{identifier(str(self.result))}"
        exact = self.function == "decode" and self.result.contains(self.fmt)
        return f"{self.function}{to}" + ("" if exact else f"_{self.rounding}_{self.overflow}")


def table(
    fmt: Any,
    function: str,
    *,
    result: Any = None,
    rounding: Rounding | str = "ties_to_even",
    overflow: Overflow | str = "nan",
) -> Table:
    """The codes of a function's results, for every code of a format.

    Every result is the exact one, rounded once. Where it is no number, and the format of the
    result has no NaN, its largest value stands for it.

    Parameters
    ----------
    fmt : Format, str or dtype
        The format of the operands: up to 16 bits, or 8 where there are two.
    function : str
        ``'decode'`` (into another format), ``'reciprocal'``, ``'sqrt'``, ``'rsqrt'``, ``'exp'``,
        ``'exp2'``, ``'expm1'``, ``'log'``, ``'log2'``, ``'log1p'``, ``'sin'``, ``'cos'``,
        ``'tanh'``, ``'erf'``, ``'sigmoid'``, and of two operands ``'add'``, ``'subtract'``,
        ``'multiply'``, ``'divide'``.
    result : Format, str or dtype, optional
        The format of the results: fmt by default, binary32 for ``'decode'``.
    rounding : Rounding or str
        No stochastic mode: a ROM has one answer.
    overflow : Overflow or str

    Returns
    -------
    Table

    Examples
    --------
    >>> from fpsim.hardware.tables import table
    >>> roots = table("float8_e4m3fn", "sqrt")
    >>> hex(roots.words[0x48])  # the root of 4 is 2
    '0x40'
    >>> products = table("float4_e2m1fn", "multiply", overflow="saturate")
    >>> int(products.words[1 << 4 | 7])  # 0.5 × 6 = 3
    5
    """
    fmt = parse(fmt)
    fmt.require_binary64()
    if not isinstance(function, str) or function not in FUNCTIONS:
        allowed = ", ".join(repr(name) for name in FUNCTIONS)
        raise ValueError(f"function={shown(function)} is not one of {allowed}")
    default = parse("binary32") if function == "decode" else fmt
    target = default if result is None else parse(result)
    target.require_binary64()
    mode, rule = parse_rounding(rounding), parse_overflow(overflow)
    if isinstance(mode, Stochastic):
        raise ValueError(
            f"rounding={shown(mode)} has many answers, and a ROM one; give a deterministic mode"
        )
    made = Table(function, fmt, target, mode, rule, np.zeros(0, target.code_dtype))
    address_bits = made.operands * fmt.bits
    if address_bits > MAX_ADDRESS_BITS:
        most = MAX_ADDRESS_BITS // made.operands
        raise ValueError(
            f"fmt={fmt} has {fmt.bits} bits, too many for a table of {function!r}, which has "
            f"2**{address_bits} words; give a format of up to {most} bits"
        )
    if target.precision > MAX_ADDRESS_BITS and function not in ("decode", *_ROUNDED):
        raise ValueError(
            f"result={target} has a precision of {target.precision} bits; functions are tabulated "
            f"for up to {MAX_ADDRESS_BITS}: give a narrower format"
        )
    codes = np.arange(1 << address_bits, dtype=np.uint32)
    parts = [codes >> fmt.bits, codes & ((1 << fmt.bits) - 1)][-made.operands :]
    values = [np.asarray(decode(part, fmt, np.float64)) for part in parts]
    words = _results(function, values, target, {"rounding": mode, "overflow": rule})
    return Table(function, fmt, target, mode, rule, words)


def _results(
    function: str, values: list[NDArray[np.float64]], target: Format, options: dict[str, Any]
) -> NDArray[Any]:
    """Codes of results; the largest value for a NaN that the format lacks."""
    with np.errstate(all="ignore"):
        numbers = ~np.isnan(_DEFINED.get(function, np.abs)(*values))
    operands = [np.where(numbers, value, 1.0) for value in values]
    if function == "decode":
        words = encode(operands[0], target, **options)
    elif function in _ROUNDED:
        words = encode(_ROUNDED[function](*operands, target, **options), target)
    else:
        words = encode(_to_odd(function, operands[0]), target, **options)
    no_number = target.max_code if target.nan_code is None else target.nan_code
    codes: NDArray[Any] = np.where(numbers, words, words.dtype.type(no_number))
    return codes


# Exact values in double, rounded to odd ---------------------------------------------------------


def _to_odd(function: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact values as doubles: those between two doubles as the one whose last bit is set."""
    try:
        import gmpy2
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "tables of functions are computed by gmpy2, which is not installed; "
            "pip install 'fpsim[hardware]'"
        ) from None
    # Double's precision and range, toward zero; the last bit then says whether anything was cut.
    double = gmpy2.context(
        precision=53, emin=-1073, emax=1024, subnormalize=True, round=gmpy2.RoundToZero
    )

    def rounded(compute: Callable[[Any], Any], x: Any) -> float:
        double.clear_flags()
        value = float(compute(x))
        return _last_bit_set(value) if double.inexact else value

    if function == "sigmoid":
        return np.array([_sigmoid(x, partial(rounded, double.plus)) for x in values.tolist()])
    compute = getattr(double, _FUNCTIONS[function])
    made = np.array([rounded(compute, gmpy2.mpfr(x)) for x in values.tolist()])
    if function == "rsqrt":
        made[values == 0] = np.copysign(np.inf, values[values == 0])
    return made


def _sigmoid(x: float, rounded: Callable[[Any], float]) -> float:
    """1 / (1 + exp(−x)), between bounds that are narrowed until both round alike."""
    import gmpy2

    if abs(x) < 2.0**-52:  # x / 4 is less than a place from a half
        return 0.5 if x == 0 else math.nextafter(0.5, math.copysign(1.0, x))
    if x > 37:  # exp(−x) is less than a place below 1
        return 1.0 if x == math.inf else 1.0 - 2.0**-53
    if x < -746:
        return 0.0 if x == -math.inf else 2.0**-1074
    precision = 64
    while True:
        precision *= 2
        down = gmpy2.context(precision=precision, round=gmpy2.RoundDown)
        up = gmpy2.context(precision=precision, round=gmpy2.RoundUp)
        argument = gmpy2.mpfr(-x)
        low = rounded(down.div(1, up.add(1, up.exp(argument))))
        if low == rounded(up.div(1, down.add(1, down.exp(argument)))):
            return low


def _last_bit_set(x: float) -> float:
    bits = np.array(x).view(np.uint64) | np.uint64(1)
    return float(bits.view(np.float64))


# Files ------------------------------------------------------------------------------------------


def write(
    made: Table, directory: str | Path, kinds: Iterable[str] = ("mem", "h", "csv")
) -> dict[str, Any]:
    """Write a table to files, and say what is in them.

    ``.mem`` is for ``$readmemh``: a comment, then a word a line, in the order of addresses. ``.h``
    is an array of C, ``.csv`` has the codes and the values of operands and result.

    Parameters
    ----------
    made : Table
    directory : path
        An existing folder.
    kinds : iterable of {'mem', 'h', 'csv'}

    Returns
    -------
    dict
        What the manifest says of it.

    Raises
    ------
    FileExistsError
        Where a file is there already; it is left as it is.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fpsim.hardware.tables import table, write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     entry = write(table("float4_e2m1fn", "reciprocal"), folder, ["mem"])
    ...     lines = (Path(folder) / entry["files"][0]).read_text().splitlines()
    >>> lines[0], lines[1 + 6]  # 1 / 4 lies in the middle of 0 and 0.5, whose codes are 0 and 1
    ('// reciprocal of float4_e2m1fn, ties_to_even, overflow nan: float4_e2m1fn by address', '0')
    """
    if not isinstance(made, Table):
        raise TypeError(f"made={shown(made)} is no Table; give what table(…) makes")
    chosen = list(dict.fromkeys(kinds))
    for kind in chosen:
        if kind not in KINDS:
            allowed = ", ".join(repr(k) for k in KINDS)
            raise ValueError(f"kinds={shown(kind)} is not one of {allowed}")
    paths = {kind: Path(directory) / f"{made.name}.{kind}" for kind in chosen}
    for kind, path in paths.items():
        with path.open("x", encoding="ascii") as file:
            file.write({"mem": _as_mem, "h": _as_c, "csv": _as_csv}[kind](made))
    return {
        "name": made.name,
        "function": made.function,
        "format": str(made.fmt),
        "result": str(made.result),
        "rounding": str(made.rounding),
        "overflow": str(made.overflow),
        "address_bits": made.operands * made.fmt.bits,
        "word_bits": made.result.bits,
        "files": [path.name for path in paths.values()],
    }


def _title(made: Table) -> str:
    return (
        f"{made.function} of {made.fmt}, {made.rounding}, overflow {made.overflow}: "
        f"{made.result} by address"
    )


def _hexadecimal(made: Table) -> list[str]:
    digits = -(-made.result.bits // 4)
    return [f"{word:0{digits}X}" for word in made.words.tolist()]


def _as_mem(made: Table) -> str:
    return "\n".join([f"// {_title(made)}", *_hexadecimal(made), ""])


def _as_c(made: Table) -> str:
    name = identifier(f"{made.fmt}_{made.name}").lower()
    bits = 8 * made.words.dtype.itemsize
    suffix = "ull" if bits == 64 else "u"
    words = [f"0x{text.lower()}{suffix}" for text in _hexadecimal(made)]
    lines = [f"/* {_title(made)} */", f"#ifndef {name.upper()}_H", f"#define {name.upper()}_H", ""]
    lines += ["#include <stdint.h>", ""]
    lines.append(f"static const uint{bits}_t {name}[{len(words)}] = {{")
    for start in range(0, len(words), _ON_A_LINE):
        lines.append(f"    {', '.join(words[start : start + _ON_A_LINE])},")
    return "\n".join([*lines, "};", "", "#endif", ""])


def _as_csv(made: Table) -> str:
    names = ["x", "y"][: made.operands]
    heading = [*names, "result", *(f"{name}_value" for name in names), "result_value"]
    codes = np.arange(made.words.size)
    parts = [codes >> made.fmt.bits, codes & ((1 << made.fmt.bits) - 1)][-made.operands :]
    columns: list[list[str]] = []
    for part, fmt in [*((part, made.fmt) for part in parts), (made.words, made.result)]:
        digits = -(-fmt.bits // 4)
        columns.append([f"0x{code:0{digits}X}" for code in part.tolist()])
    for part, fmt in [*((part, made.fmt) for part in parts), (made.words, made.result)]:
        values = decode(part.astype(fmt.code_dtype), fmt, np.float64)
        columns.append([repr(value) for value in values.tolist()])
    rows = [",".join(heading), *(",".join(row) for row in zip(*columns, strict=True)), ""]
    return "\n".join(rows)
