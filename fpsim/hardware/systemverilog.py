"""systemverilog: decoder, encoders, multiplier, fma and their benches, for any format.

Imports arguments, catalog, format, rounding; jinja2 when called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from fpsim.arguments import shown
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.rounding import Overflow, Rounding, Stochastic

BINARY32 = Format(8, 23, name="binary32")
STOCHASTIC = Stochastic(bits=8)


@dataclass(frozen=True)
class Unit:
    """A module that computes, and what its bench reads.

    Attributes
    ----------
    module : str
        Its name; the file is ``<module>.sv``, its bench ``<module>_bench.sv``.
    kind : str
        The name without the design's: ``to_binary32``, ``from_<source>``, ``multiply``, ``fma``.
    operation : str
        What its vectors are of: ``cast``, ``mul`` or ``fma``.
    operands : tuple of Format
        Of the ports x, y and z, as many as there are.
    result : Format
    files : tuple of str
        What it is compiled from, in order.
    """

    module: str
    kind: str
    operation: str
    operands: tuple[Format, ...]
    result: Format
    files: tuple[str, ...]

    @property
    def ports(self) -> tuple[str, ...]:
        """The operands' names."""
        return ("x", "y", "z")[: len(self.operands)]

    @property
    def bench(self) -> str:
        """The file of its bench."""
        return f"{self.module}_bench.sv"

    @property
    def rounds(self) -> bool:
        """Whether it has ports for a rounding mode and an overflow rule."""
        return self.kind != "to_binary32"

    @property
    def stem(self) -> str:
        """How the names of its vector files begin: ``mul``, ``fma``, ``cast_<source>``."""
        if self.operation != "cast":
            return self.operation
        return re.sub(r"[^a-z0-9]+", "_", f"cast_{self.operands[0]}".lower())


@dataclass(frozen=True)
class Design:
    """The SystemVerilog of a format.

    Attributes
    ----------
    fmt : Format
    name : str
        What the names of its modules begin with.
    stochastic : Stochastic or None
        What mode 8 is.
    files : mapping of str to str
        Texts by file name; packages before what uses them.
    units : tuple of Unit
    """

    fmt: Format
    name: str
    stochastic: Stochastic | None
    files: Mapping[str, str] = field(repr=False)
    units: tuple[Unit, ...] = field(repr=False)

    def unit(self, kind: str) -> Unit:
        """The unit of a kind, such as ``'multiply'``, ``'fma'`` or ``'from_binary32'``."""
        for unit in self.units:
            if unit.kind == kind:
                return unit
        allowed = ", ".join(repr(unit.kind) for unit in self.units)
        raise ValueError(f"kind={shown(kind)} is not one of {allowed}")


def systemverilog(
    fmt: Any,
    *,
    sources: Iterable[Any] = (BINARY32,),
    stochastic: Stochastic | None = STOCHASTIC,
    name: str | None = None,
) -> Design:
    """SystemVerilog of a format: package, decoder, rounder, encoders, multiplier, fma, benches.

    The modules are combinational. Rounding mode and overflow rule are ports, with the numbers of
    ``fpsim_pkg``; a port that is tied to a constant costs nothing once it is synthesised.

    Parameters
    ----------
    fmt : Format, str or dtype
    sources : iterable of Format, str or dtype
        The formats to encode from, each by an encoder of its own; not from `fmt` itself.
    stochastic : Stochastic or None
        What mode 8 is, with `bits`; None leaves it out, and the port for random bits with it.
    name : str, optional
        What names of modules begin with; the format's name when left out.

    Returns
    -------
    Design

    Raises
    ------
    ValueError, TypeError
        For a name that SystemVerilog does not take, two formats of one name, and stochastic
        rounding without `bits`.

    Examples
    --------
    >>> from fpsim.hardware.systemverilog import systemverilog
    >>> design = systemverilog("float4_e2m1fn")
    >>> [unit.kind for unit in design.units]
    ['to_binary32', 'from_binary32', 'multiply', 'fma']
    >>> list(design.unit("multiply").files)  # doctest: +NORMALIZE_WHITESPACE
    ['fpsim_pkg.sv', 'float4_e2m1fn_pkg.sv', 'float4_e2m1fn_decode.sv', 'float4_e2m1fn_round.sv',
     'float4_e2m1fn_multiply.sv']
    """
    fmt = parse(fmt)
    _require_bits(stochastic)
    own = _Named(fmt, identifier(str(fmt)) if name is None else _validated_name(name))
    encoded = [
        _Named(s, identifier(str(s))) for s in dict.fromkeys(map(parse, sources)) if s != fmt
    ]
    _require_distinct([own, *encoded])

    context = _context(own, stochastic)
    files: dict[str, str] = {}
    units: list[Unit] = []

    def write(file: str, template: str, **more: Any) -> str:
        if file not in files:
            files[file] = _render(template, context | more)
        return file

    def parts_of(named: _Named) -> tuple[str, str]:
        about = named.about()
        return (
            write(f"{named.id}_pkg.sv", "pkg", **about),
            write(f"{named.id}_decode.sv", "decode", **about),
        )

    def unit(
        template: str, kind: str, operation: str, operands: list[_Named], parts: list[str]
    ) -> None:
        module = f"{own.id}_{kind}"
        result = BINARY32 if kind == "to_binary32" else fmt
        file = write(f"{module}.sv", template, source=operands[0].about())
        formats = tuple(operand.fmt for operand in operands)
        made = Unit(module, kind, operation, formats, result, (*parts, file))
        write(made.bench, "bench", unit=made)
        units.append(made)

    common = write("fpsim_pkg.sv", "fpsim_pkg")
    package, decoder = parts_of(own)
    rounder = write(f"{own.id}_round.sv", "round")
    if fits_binary32(fmt):
        unit("to_binary32", "to_binary32", "cast", [own], [common, package, decoder])
    for source in encoded:
        parts = [common, package, *parts_of(source), rounder]
        unit("from", f"from_{source.id}", "cast", [source], parts)
    unit("multiply", "multiply", "mul", [own] * 2, [common, package, decoder, rounder])
    unit("fma", "fma", "fma", [own] * 3, [common, package, decoder, rounder])
    return Design(fmt, own.id, stochastic, files, tuple(units))


def fits_binary32(fmt: Format) -> bool:
    """Whether binary32 holds every value of a format, and is another one."""
    return fmt != BINARY32 and BINARY32.contains(fmt)


def identifier(text: str) -> str:
    """A name that SystemVerilog takes, from that of a format.

    Examples
    --------
    >>> from fpsim.hardware.systemverilog import identifier
    >>> identifier("ue3m2b-4f,subnormals=false")
    'ue3m2bminus4f_subnormals_false'
    """
    text = re.sub(r"[^A-Za-z0-9_]+", "_", text.replace("-", "minus")).strip("_")
    return text if re.match(r"[A-Za-z_]", text) else f"f{text}"


@dataclass(frozen=True)
class _Named:
    fmt: Format
    id: str

    @property
    def top_exponent(self) -> int:
        """The exponent of the highest code, special or not."""
        return (1 << self.fmt.exponent_bits) - 1 - self.fmt.bias

    def about(self) -> dict[str, Any]:
        """What templates say of a format."""
        return {
            "fmt": self.fmt,
            "id": self.id,
            "title": str(self.fmt),
            "top_exponent": self.top_exponent,
            "exponent_width": _signed_bits(self.fmt.emin, self.top_exponent, self.fmt.bias),
        }


def _context(own: _Named, stochastic: Stochastic | None) -> dict[str, Any]:
    fmt = own.fmt
    random_bits = 0 if stochastic is None else stochastic.bits or 0
    top = max(fmt.emax - fmt.emin, 0)

    def signed_bits(exponents: list[int], width: int) -> int:
        """Bits of the rounder's X for these exponents and a significand of `width` bits."""
        distances = [exponent - fmt.emin for exponent in exponents]
        return _signed_bits(*exponents, *distances, fmt.emin, width, -width, top)

    return own.about() | {
        "stochastic": stochastic,
        # Discarded bits that a decision looks at: the first or N random bits' places, the next,
        # and whether any is left; and one more, for the same question one binade below.
        "guard": random_bits + 3,
        "gap": random_bits + 2,
        "low": _bits_below_product(fmt, random_bits),
        "signed_bits": signed_bits,
        "roundings": list(Rounding),
        "overflows": list(Overflow),
    }


def _bits_below_product(fmt: Format, random_bits: int) -> int:
    """How far below the product's last place an fma looks at the addend bit by bit.

    In units of the product's last place the product of two normal numbers is 4**mantissa_bits or
    more, that of a normal and a subnormal one 2**mantissa_bits, of two subnormal ones 1. What of
    the addend falls out below is less than one unit, so that it may cost the product no more
    than its leading bit, and the last place of the result is then `mantissa_bits` + 1 below the
    product's leading bit. A decision looks `random_bits` + 2 places further.
    """
    beyond = random_bits + 3
    if not fmt.subnormals:
        return max(1, beyond - fmt.mantissa_bits)
    if fmt.quantum_exponent <= beyond:
        # Two subnormal numbers: their product's last place is so low that no addend's is lower.
        return beyond
    return min(fmt.quantum_exponent, fmt.mantissa_bits + beyond)


def _signed_bits(*values: int) -> int:
    """Bits of a signed number that takes all these values."""
    return 1 + max((value if value >= 0 else ~value).bit_length() for value in values)


def _require_bits(stochastic: Any) -> None:
    if stochastic is None:
        return
    if not isinstance(stochastic, Stochastic):
        raise TypeError(f"stochastic={shown(stochastic)} is not a Stochastic or None")
    if stochastic.bits is None:
        raise ValueError(
            f"stochastic={stochastic} looks at every discarded bit, of which circuits have "
            "different numbers; give Stochastic(bits=N)"
        )


def _validated_name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            f"name={shown(name)} is no name of SystemVerilog; give letters, digits and _, with no "
            "digit in front"
        )
    return name


def _require_distinct(named: list[_Named]) -> None:
    by_id: dict[str, Format] = {"fpsim": None}  # type: ignore[dict-item]  # fpsim_pkg is taken
    for one in named:
        if by_id.setdefault(one.id, one.fmt) != one.fmt:
            raise ValueError(
                f"two formats, or a format and a package, would both be called {one.id}; give a "
                "name= of your own, or formats with different names"
            )


# Templates ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _environment() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "SystemVerilog is written with jinja2, which is not installed; "
            "pip install 'fpsim[hardware]'"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fpsim.hardware"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["hexadecimal"] = lambda value, bits: f"{bits}'h{value:0{-(-bits // 4)}x}"
    return environment


def _render(template: str, context: dict[str, Any]) -> str:
    text = _environment().get_template(f"{template}.sv.jinja").render(context)
    return str(text)
