"""Sketch: exact counts and sums of |x| per cell of (exponent, leading mantissa bits)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CELL_BITS = 7  # a cell is one of 2**7 equal parts of a binade
UNIT_BITS = 31  # offsets within a binade are counted in units of 2**-31 of its lower edge


@dataclass(frozen=True)
class Sketch:
    """What a tensor's magnitudes look like, small, exact and mergeable.

    The magnitudes of the finite nonzero elements fall into cells, 128 equal parts of every
    binade ``[2**e, 2**(e+1))``. Each cell keeps the count and, as integers, the sum and the sum
    of squares of the offsets from its lower edge, in units of 2**-31 of the binade: exact for
    data of up to 32 significant bits (float32 and smaller formats), within 2**-32 for float64.
    Being integers, sketches of parts merge into exactly the sketch of the whole.

    Attributes
    ----------
    size : int
        Elements seen, of any kind.
    zeros, nans, infinities, negatives : int
        How many of them; `negatives` counts finite values below zero.
    smallest, largest : float
        Extremes of the finite nonzero magnitudes (inf and 0 where there are none).
    keys : int64 array, sorted
        ``e * 128 + j``: part j of the binade with exponent e.
    counts : int64 array
    offsets, squares_high, squares_low : uint64 arrays
        Sum of offsets, and the two 64-bit limbs of the sum of their squares.
    """

    size: int = 0
    zeros: int = 0
    nans: int = 0
    infinities: int = 0
    negatives: int = 0
    smallest: float = np.inf
    largest: float = 0.0
    keys: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    offsets: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    squares_high: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    squares_low: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    @classmethod
    def of(cls, x: ArrayLike) -> Sketch:
        """Sketch an array in one pass."""
        x = np.asarray(x, dtype=np.float64).ravel()
        finite = x[np.isfinite(x)]
        magnitude = np.abs(finite[finite != 0])
        fraction, exponent = np.frexp(magnitude)
        t = np.rint(np.ldexp(2 * fraction - 1, UNIT_BITS)).astype(np.int64)
        exact_j = np.ldexp(2 * fraction - 1, CELL_BITS).astype(np.int64)
        keys = (exponent.astype(np.int64) - 1) * (1 << CELL_BITS) + exact_j
        t -= exact_j << (UNIT_BITS - CELL_BITS)
        unique, inverse = np.unique(keys, return_inverse=True)
        squares: Any = np.zeros(len(unique), object)
        np.add.at(squares, inverse, t.astype(object) ** 2)
        offsets = np.zeros(len(unique), np.uint64)
        np.add.at(offsets, inverse, t.astype(np.uint64))
        return cls(
            size=x.size,
            zeros=int((finite == 0).sum()),
            nans=int(np.isnan(x).sum()),
            infinities=int(np.isinf(x).sum()),
            negatives=int((finite < 0).sum()),
            smallest=float(magnitude.min(initial=np.inf)),
            largest=float(magnitude.max(initial=0)),
            keys=unique,
            counts=np.bincount(inverse, minlength=len(unique)).astype(np.int64),
            offsets=offsets,
            squares_high=np.array([int(s) >> 64 for s in squares], np.uint64),
            squares_low=np.array([int(s) & (2**64 - 1) for s in squares], np.uint64),
        )

    @property
    def nonzero(self) -> int:
        """How many elements are finite and nonzero: those in the cells."""
        return self.size - self.zeros - self.nans - self.infinities

    @property
    def exponents(self) -> NDArray[np.int64]:
        """Per cell, the exponent e of its binade."""
        return self.keys >> CELL_BITS

    @property
    def lower_edges(self) -> NDArray[np.float64]:
        """Per cell, its lower edge; cells hold ``lower <= |x| < upper``."""
        significand = 1 + (self.keys & ((1 << CELL_BITS) - 1)) * 2.0**-CELL_BITS
        return np.ldexp(significand, self.exponents)

    @property
    def upper_edges(self) -> NDArray[np.float64]:
        """Per cell, its upper edge."""
        significand = 1 + ((self.keys & ((1 << CELL_BITS) - 1)) + 1) * 2.0**-CELL_BITS
        return np.ldexp(significand, self.exponents)

    @property
    def means(self) -> NDArray[np.float64]:
        """Per cell, the mean of ``|x| / 2**e``, in [1, 2)."""
        base = 1 + (self.keys & ((1 << CELL_BITS) - 1)) * 2.0**-CELL_BITS
        return base + self.offsets / self.counts * 2.0**-UNIT_BITS

    @property
    def variances(self) -> NDArray[np.float64]:
        """Per cell, the variance (ddof 0) of ``|x| / 2**e``."""
        squares = self.squares_high * 2.0**64 + self.squares_low
        offset = self.offsets / self.counts
        return np.maximum(squares / self.counts - offset**2, 0) * 4.0**-UNIT_BITS

    def power_sums(self, power: int, reference: int = 0) -> NDArray[np.float64]:
        """Per cell, the sum of ``(|x| / 2**reference)**power`` for a power of -1, 1 or 2.

        Exact up to float64's own rounding for 1 and 2; for -1 by the mean and variance within
        the cell, which leaves a relative error below 1e-7.
        """
        mean, variance = self.means, self.variances
        if power == 1:
            significand = mean
        elif power == 2:
            significand = mean**2 + variance
        elif power == -1:
            significand = (1 + variance / mean**2) / mean
        else:
            raise ValueError(f"power={power} is not one of -1, 1, 2")
        return np.ldexp(self.counts * significand, power * (self.exponents - reference))

    def log_moments(self) -> tuple[float, float]:
        """Mean and standard deviation (ddof 0) of ``ln |x|`` over the nonzero elements."""
        mean, variance = self.means, self.variances
        spread = variance / mean**2
        logs = self.exponents * np.log(2.0) + np.log(mean) - spread / 2
        weight = self.counts / self.nonzero
        average = float(np.sum(weight * logs))
        return average, float(np.sqrt(np.sum(weight * ((logs - average) ** 2 + spread))))
