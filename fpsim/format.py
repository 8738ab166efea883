"""Format: which real numbers a floating-point format holds, and under which codes.

Imports arguments, reprs (``parse`` and ``str`` reach up to the catalog when called).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fpsim import reprs
from fpsim.arguments import Choice, boolean, choice, integer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_EXPONENT_BITS = 16
MAX_MANTISSA_BITS = 52
MAX_BITS = 64
MAX_BIAS = 1 << 16
MAX_ENUMERATED_BITS = 24


class NaNs(Choice):
    """Which codes of a format are NaN."""

    ieee = "ieee"  # top exponent with a nonzero mantissa; infinity is the zero mantissa
    all_ones = "all_ones"  # the highest magnitude code (of either sign)
    negative_zero = "negative_zero"  # the code that would be −0; the format has no −0
    none = "none"  # no code


@dataclass(frozen=True, repr=False)
class Format:
    """A binary floating-point format of up to 64 bits.

    A code is, from the top, a sign bit (when `signed`), `exponent_bits` of biased exponent
    and `mantissa_bits` of stored significand. Exponent field 0 holds zero and the subnormals.

    Parameters
    ----------
    exponent_bits : int
        Width of the exponent field, 1 to 16.
    mantissa_bits : int
        Stored bits of the significand, 0 to 52; the precision is one more.
    bias : int, optional
        Subtracted from the exponent field; IEEE 754's ``2**(exponent_bits - 1) - 1`` when None.
    signed : bool
        Whether there is a sign bit.
    subnormals : bool
        False: the values are 0 and those from `min_normal` up, rounding is to that set,
        and the codes of subnormals read as zero.
    infinities : bool
        Whether a code stands for infinity: the top exponent with a zero mantissa when `nans`
        is ``'ieee'``, else the highest magnitude code that is not NaN.
    nans : {'ieee', 'all_ones', 'negative_zero', 'none'}
        Which codes are NaN; see `NaNs`.
    zero : bool
        False: exponent field 0 is an ordinary binade, so that there is neither zero nor
        subnormal (scale formats such as E8M0).
    name : str, optional
        What to call it. Not part of equality.

    Raises
    ------
    ValueError, TypeError
        Where a parameter is out of range or two contradict each other.

    Examples
    --------
    >>> from fpsim import Format
    >>> e4m3fn = Format(4, 3, infinities=False, nans="all_ones")
    >>> e4m3fn.max, e4m3fn.min_normal, e4m3fn.min_subnormal
    (448.0, 0.015625, 0.001953125)
    >>> e4m3fn == Format.parse("float8_e4m3fn")
    True
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int = cast(int, None)
    _: KW_ONLY
    signed: bool = True
    subnormals: bool = True
    infinities: bool = True
    nans: NaNs | str = NaNs.ieee
    zero: bool = True
    name: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        def settle(parameter: str, value: Any) -> None:
            object.__setattr__(self, parameter, value)

        settle("exponent_bits", integer("exponent_bits", self.exponent_bits, 1, MAX_EXPONENT_BITS))
        settle("mantissa_bits", integer("mantissa_bits", self.mantissa_bits, 0, MAX_MANTISSA_BITS))
        if self.bias is None:
            settle("bias", (1 << (self.exponent_bits - 1)) - 1)
        settle("bias", integer("bias", self.bias, -MAX_BIAS, MAX_BIAS))
        for parameter in ("signed", "subnormals", "infinities", "zero"):
            settle(parameter, boolean(parameter, getattr(self, parameter)))
        settle("nans", choice("nans", self.nans, NaNs))
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"name={self.name!r} is not a str or None")
        if self.bits > MAX_BITS:
            raise ValueError(
                f"exponent_bits={self.exponent_bits} and mantissa_bits={self.mantissa_bits} make "
                f"{self.bits} bits; a format has at most {MAX_BITS}"
            )
        if self.nans is NaNs.ieee and not self.infinities:
            raise ValueError(
                "infinities=False contradicts nans='ieee', where the top exponent with a zero "
                "mantissa is infinity; use nans='all_ones', 'negative_zero' or 'none'"
            )
        if self.nans is NaNs.negative_zero and not (self.signed and self.zero):
            raise ValueError(
                "nans='negative_zero' takes the code of −0, which needs signed=True and zero=True; "
                "use nans='all_ones' or 'none'"
            )
        if not self.zero:
            settle("subnormals", False)  # exponent field 0 is a binade: none are left
        if self.max_code < (1 if self.zero else 0) or self.max == 0:
            raise ValueError(
                f"{self!r} leaves no code for a nonzero finite value; give it more bits, or "
                "nans='none' and infinities=False"
            )

    # Codes ------------------------------------------------------------------------------

    @property
    def bits(self) -> int:
        """Width of a code in bits."""
        return int(self.signed) + self.exponent_bits + self.mantissa_bits

    @property
    def precision(self) -> int:
        """Bits of the significand, the leading one counted: ``mantissa_bits + 1``."""
        return self.mantissa_bits + 1

    @property
    def magnitude_bits(self) -> int:
        """Bits of a code without the sign bit."""
        return self.exponent_bits + self.mantissa_bits

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """The smallest unsigned NumPy dtype that holds a code."""
        return np.min_scalar_type((1 << self.bits) - 1)

    @property
    def infinity_code(self) -> int | None:
        """Code of +infinity, or None."""
        if not self.infinities:
            return None
        if self.nans is NaNs.ieee:
            return ((1 << self.exponent_bits) - 1) << self.mantissa_bits
        return (1 << self.magnitude_bits) - 1 - (self.nans is NaNs.all_ones)

    @property
    def nan_code(self) -> int | None:
        """The code written for NaN (positive and quiet where there are several), or None."""
        if self.nans is NaNs.ieee and self.mantissa_bits:
            top = ((1 << self.exponent_bits) - 1) << self.mantissa_bits
            return top | 1 << (self.mantissa_bits - 1)
        if self.nans is NaNs.all_ones:
            return (1 << self.magnitude_bits) - 1
        if self.nans is NaNs.negative_zero:
            return 1 << self.magnitude_bits
        return None

    @cached_property
    def max_code(self) -> int:
        """Code of `max`."""
        if self.nans is NaNs.ieee:
            return (((1 << self.exponent_bits) - 1) << self.mantissa_bits) - 1
        top = (1 << self.magnitude_bits) - 1
        return top - (self.nans is NaNs.all_ones) - self.infinities

    @property
    def has_negative_zero(self) -> bool:
        """Whether −0 has a code of its own."""
        return self.signed and self.zero and self.nans is not NaNs.negative_zero

    # Values -----------------------------------------------------------------------------

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal binade: `min_normal` is ``2**emin``."""
        return int(self.zero) - self.bias

    @cached_property
    def emax(self) -> int:
        """Exponent of the binade of `max`."""
        significand, exponent = self._max_parts
        return exponent + significand.bit_length() - 1

    @property
    def max(self) -> float | Fraction:
        """Largest finite value (a Fraction where binary64 does not hold it)."""
        significand, exponent = self._max_parts
        return _real(significand, exponent)

    @property
    def min_normal(self) -> float | Fraction:
        """Smallest normal value, ``2**emin`` (above `max` where all values are subnormal)."""
        return _real(1, self.emin)

    @property
    def min_subnormal(self) -> float | Fraction | None:
        """Smallest positive subnormal, or None where the format has no subnormals."""
        return _real(1, self.quantum_exponent) if self.subnormals and self.mantissa_bits else None

    @property
    def smallest(self) -> float | Fraction:
        """Smallest positive value."""
        subnormal = self.min_subnormal
        return self.min_normal if subnormal is None else subnormal

    @property
    def eps(self) -> float:
        """Distance from 1 to the next larger number of this precision: ``2**-mantissa_bits``."""
        return 2.0**-self.mantissa_bits

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding to nearest in the normal range: ``eps / 2``."""
        return self.eps / 2

    @property
    def quantum_exponent(self) -> int:
        """Every finite value is an integer times two to this: ``emin - mantissa_bits``."""
        return self.emin - self.mantissa_bits

    @cached_property
    def _max_parts(self) -> tuple[int, int]:
        """`max` as (integer significand, exponent)."""
        field_, mantissa = divmod(self.max_code, 1 << self.mantissa_bits)
        if field_ == 0 and self.zero:
            return (mantissa if self.subnormals else 0), self.quantum_exponent
        leading = 1 << self.mantissa_bits
        return leading + mantissa, field_ - self.bias - self.mantissa_bits

    def contains(self, other: Format) -> bool:
        """Whether every value of `other` (its infinities and NaN too) is a value of this format.

        Examples
        --------
        >>> import fpsim
        >>> fpsim.Format.parse("bfloat16").contains(fpsim.Format.parse("float8_e5m2"))
        True
        """
        # The longest significand in `other`: all of its bits, unless the codes end at or before
        # the first normal value; then that of the largest odd multiple of the quantum, if any.
        longest, unit = other.precision, other.quantum_exponent
        if other.max_code <= (1 << other.mantissa_bits if other.zero else 0):
            if other.subnormals:
                longest = ((other.max_code - 1) | 1).bit_length()
            else:
                longest, unit = 1, other.emin
        lowest = Fraction(self.smallest if self.subnormals else self.min_normal)
        return (
            longest <= self.precision
            and unit >= self.quantum_exponent
            and Fraction(other.smallest) >= lowest
            and Fraction(other.max) <= Fraction(self.max)
            and other.signed <= self.signed
            and other.zero <= self.zero
            and other.infinities <= self.infinities
            and (other.nan_code is None or self.nan_code is not None)
        )

    def codes(self) -> NDArray[Any]:
        """All codes in order, in `code_dtype`: shape ``(2**bits,)``.

        Examples
        --------
        >>> from fpsim import Format
        >>> Format(2, 0, nans="none", infinities=False).codes()
        array([0, 1, 2, 3, 4, 5, 6, 7], dtype=uint8)
        """
        if self.bits > MAX_ENUMERATED_BITS:
            raise ValueError(
                f"{self} has 2**{self.bits} codes, too many to list; codes() and values() serve "
                f"formats of up to {MAX_ENUMERATED_BITS} bits: decode the codes that you need"
            )
        return np.arange(1 << self.bits, dtype=self.code_dtype)

    def values(self) -> NDArray[np.float64]:
        """The value of every code, in the order of `codes`, as float64.

        Raises
        ------
        ValueError
            For formats of more than 24 bits, or whose values leave binary64.

        Examples
        --------
        >>> from fpsim import Format
        >>> Format(2, 0, nans="none", infinities=False).values()
        array([ 0.,  1.,  2.,  4., -0., -1., -2., -4.])
        """
        codes = self.codes().astype(np.int64)
        self.require_binary64()
        negative = codes >> self.magnitude_bits != 0
        magnitude = codes & ((1 << self.magnitude_bits) - 1)
        exponent = magnitude >> self.mantissa_bits
        mantissa = magnitude & ((1 << self.mantissa_bits) - 1)
        below = (exponent == 0) & self.zero
        leading = np.where(below, 0, 1 << self.mantissa_bits)
        if not self.subnormals:
            mantissa = np.where(below, 0, mantissa)
        power = np.where(below, self.emin, exponent - self.bias) - self.mantissa_bits
        with np.errstate(over="ignore"):  # of codes that are infinity or NaN
            values = np.ldexp((leading + mantissa).astype(np.float64), power)
        values[magnitude > self.max_code] = np.inf if self.infinities else np.nan
        if self.infinity_code is not None:
            values[magnitude > self.infinity_code] = np.nan
        values[negative] *= -1.0
        if self.nans is NaNs.negative_zero:
            values[values == 0] = 0.0  # subnormals that are read as zero
            values[1 << self.magnitude_bits] = np.nan
        return np.asarray(values, np.float64)

    def ulp(self, x: ArrayLike) -> Any:
        """Distance between the neighbouring values of this format at magnitude `|x|`.

        Within ``[2**e, 2**(e+1))`` it is ``2**(max(e, emin) - mantissa_bits)``; past `max`,
        that of `max`; below `min_normal` without subnormals, `min_normal`. NaN gives NaN.

        Parameters
        ----------
        x : array_like of real numbers

        Returns
        -------
        float64 scalar or array of x's shape

        Examples
        --------
        >>> import fpsim
        >>> float(fpsim.Format.parse("binary16").ulp(1000.0))
        0.5
        """
        self.require_binary64()
        magnitude = np.abs(np.asarray(x, dtype=np.float64))
        finite = np.where(np.isfinite(magnitude), magnitude, float(self.max))
        exponent = np.frexp(finite)[1].astype(np.int64) - 1
        top = max(self.emin, self.emax)  # emin is the larger where all values are subnormal
        exponent = np.where(finite == 0, self.emin, np.clip(exponent, self.emin, top))
        step = np.ldexp(1.0, exponent - self.mantissa_bits)
        if not self.subnormals:
            step = np.where(finite < float(self.min_normal), float(self.min_normal), step)
        return np.where(np.isnan(magnitude), np.nan, step)[()]

    def require_binary64(self) -> None:
        """Raise ValueError unless binary64 holds every value of this format."""
        if self.emax > 1023 or self.quantum_exponent < -1074:
            raise ValueError(
                f"{self} has values from 2**{self.quantum_exponent} to 2**{self.emax}, which leave "
                "binary64 (2**-1074 to 2**1023); only fpsim.spec, in exact rationals, handles it"
            )

    # Names ------------------------------------------------------------------------------

    @classmethod
    def parse(cls, name: Any) -> Format:
        """The format that a name, a NumPy or ml_dtypes dtype, or a `Format` stands for.

        Parameters
        ----------
        name : str, dtype or Format
            A name of `fpsim.formats`, a P3109 name (``'binary8p3se'``), a shorthand
            (``'e4m3'`` and ``'1-4-3'`` are IEEE-like; ``'e4m3fn'``, ``'e4m3fnuz'``, ``'e4m3f'``),
            each optionally followed by parameters: ``'e4m3fn,bias=9'``.

        Examples
        --------
        >>> from fpsim import Format
        >>> Format.parse("e5m2,bias=20").max
        1792.0
        """
        from fpsim import catalog

        return catalog.parse(name)

    def __str__(self) -> str:
        from fpsim import catalog

        return catalog.spell(self)

    def _repr_html_(self) -> str:
        return reprs.format_(self)

    def __repr__(self) -> str:
        words = [str(self.exponent_bits), str(self.mantissa_bits)]
        defaults = {f.name: f.default for f in fields(self)} | {
            "bias": (1 << (self.exponent_bits - 1)) - 1
        }
        if not self.zero:
            defaults["subnormals"] = False
        for parameter in ("bias", "signed", "subnormals", "infinities", "nans", "zero", "name"):
            value = getattr(self, parameter)
            if value != defaults[parameter]:
                value = value.value if isinstance(value, NaNs) else value
                words.append(f"{parameter}={value!r}")
        return f"Format({', '.join(words)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # IPython's and Hypothesis'
        printer.text(repr(self))


def _real(significand: int, exponent: int) -> float | Fraction:
    """``significand * 2**exponent`` as a float where that is exact, else as a Fraction."""
    exact = Fraction(significand) * Fraction(2) ** exponent
    try:
        approximate = float(exact)
    except OverflowError:
        return exact
    return approximate if Fraction(approximate) == exact else exact
