"""Rounding, Stochastic, Overflow, Flag: how a number meets a format. Imports arguments."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fpsim.arguments import Choice, array, choice, integer, shown

MAX_RANDOM_BITS = 32


class Rounding(Choice):
    """Which neighbour an inexact value takes. "Even" and "odd" speak of the code."""

    ties_to_even = "ties_to_even"  # the nearest; of two, the one whose code is even
    ties_to_away = "ties_to_away"  # the nearest; of two, the one of larger magnitude
    ties_to_zero = "ties_to_zero"  # the nearest; of two, the one of smaller magnitude
    toward_zero = "toward_zero"  # the neighbour of smaller magnitude
    toward_positive = "toward_positive"  # the larger neighbour
    toward_negative = "toward_negative"  # the smaller neighbour
    away_from_zero = "away_from_zero"  # the neighbour of larger magnitude
    to_odd = "to_odd"  # the neighbour whose code is odd


@dataclass(frozen=True)
class Stochastic:
    """Rounding away from zero with a probability that grows with the discarded fraction.

    With ν the discarded fraction of the gap, N = `bits` and a random integer 0 ≤ R < 2^N,
    the value goes away from zero when (IEEE P3109, interim report 4.0)

    - variant A: ``floor(ν·2^N) + R >= 2^N``
    - variant B: ``floor(ν·2^(N+1)) + 2·R + 1 >= 2^(N+1)``
    - variant C: ``ties_to_even(ν·2^N) + R >= 2^N``

    Parameters
    ----------
    bits : int, optional
        N, 1 to 32. None: every discarded bit counts, down to 2^-64 of the gap, which is
        what N = 64 would be.
    variant : {'A', 'B', 'C'}
        Which rule; without `bits` it must be 'A'.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.round([1.25] * 4, "float4_e2m1fn", rounding=fpsim.Stochastic(bits=2),
    ...             random_bits=[0, 1, 2, 3])
    array([1. , 1. , 1.5, 1.5])
    """

    bits: int | None = None
    variant: str = "A"

    def __post_init__(self) -> None:
        if self.bits is not None:
            remedy = f"give 1 to {MAX_RANDOM_BITS}, or None to let every discarded bit count"
            bits = integer("bits", self.bits, 1, MAX_RANDOM_BITS, remedy)
            object.__setattr__(self, "bits", bits)
        if not isinstance(self.variant, str) or self.variant not in ("A", "B", "C"):
            raise ValueError(f"variant={shown(self.variant)} is not one of 'A', 'B', 'C'")
        if self.bits is None and self.variant != "A":
            raise ValueError(
                f"variant={self.variant!r} needs bits=N: the variants differ in how they cut the "
                "discarded fraction to N bits, and None cuts nothing; give bits, or variant='A'"
            )


class Overflow(Choice):
    """What becomes of values past the range, and of infinities the format lacks.

    An unsigned format takes a value that rounds below zero to NaN under `infinity` and `nan`
    (to 0 where it has no NaN), and to 0 under the saturating rules. A format without a zero
    treats zero alike, with its smallest value in the place of 0.
    """

    # IEEE 754: to infinity, or to the largest finite value where the direction of rounding
    # points back; a format without infinity answers with its largest finite value. (P3109: SatNone)
    infinity = "infinity"
    # The same, but a format without infinity answers NaN where it has one. (OCP FP8, ml_dtypes)
    nan = "nan"
    # Finite values clamp to the largest; infinities stay where the format has them. (SatPropagate)
    saturate = "saturate"
    # Infinities clamp too. (SatFinite)
    saturate_infinities = "saturate_infinities"

    @property
    def saturates(self) -> bool:
        """Whether finite values clamp."""
        return self in (Overflow.saturate, Overflow.saturate_infinities)


class Flag(IntFlag):
    """IEEE 754's exceptions, with SoftFloat's numbers."""

    inexact = 1  # the result differs from the exact value
    underflow = 2  # inexact, and tiny: below min_normal once rounded (or before, by option)
    overflow = 4  # past the largest finite value once rounded
    divide_by_zero = 8  # an exact infinity from finite operands
    invalid = 16  # no useful value: a signalling NaN, a sign or a zero the format lacks, inf − inf


def parse_rounding(value: Any) -> Rounding | Stochastic:
    """A `Rounding` from its name, or a `Stochastic` as it is (``'stochastic'``: every bit)."""
    if isinstance(value, Stochastic):
        return value
    if isinstance(value, str) and value == "stochastic":
        return Stochastic()
    try:
        return choice("rounding", value, Rounding)
    except ValueError as error:
        raise ValueError(f"{error}, 'stochastic' or a fpsim.Stochastic") from None


def parse_overflow(value: Any) -> Overflow:
    """An `Overflow` from its name."""
    return choice("overflow", value, Overflow)


def parse_tininess(value: Any) -> bool:
    """Whether tininess, which underflow needs, is detected before rounding."""
    if not isinstance(value, str) or value not in ("after", "before"):
        raise ValueError(
            f"tininess={shown(value)} is not one of 'after', 'before': whether a result is tiny, "
            "and so may underflow, is seen after or before it is rounded"
        )
    return value == "before"


def count_flags(flags: ArrayLike) -> dict[str, int]:
    """Count how many elements raised each flag.

    Parameters
    ----------
    flags : array_like of uint8
        What casts and operations wrote to their ``flags=``.

    Returns
    -------
    dict
        By the names of `Flag`, in their order, zeros included.

    Examples
    --------
    >>> import fpsim
    >>> import numpy as np
    >>> flags = np.zeros(4, np.uint8)
    >>> _ = fpsim.round([0.3, 1e6, 2.0**-11, 1.5], "float8_e4m3fn", flags=flags)
    >>> fpsim.count_flags(flags)
    {'inexact': 3, 'underflow': 1, 'overflow': 1, 'divide_by_zero': 0, 'invalid': 0}
    """
    every = sum(Flag)
    allowed = f"give a uint8 array of flags, 0 to {every}"
    values = array("flags", flags, allowed)
    if values.dtype.kind not in "iu" and values.size:
        raise TypeError(f"flags have dtype {values.dtype}; {allowed}")
    if values.size and (values.min() < 0 or values.max() > every):
        wrong = int(values.min() if values.min() < 0 else values.max())
        raise ValueError(f"flags={wrong} is out of range; {allowed}")
    counts = np.bincount(values.ravel().astype(np.int64), minlength=every + 1)
    return {
        str(flag.name): int(counts[[k for k in range(every + 1) if k & flag]].sum())
        for flag in Flag
    }
