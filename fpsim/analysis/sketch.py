"""Sketch: exact counts and sums of |x| per cell of (exponent, leading mantissa bits)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpsim import kernels
from fpsim.inputs import chunks, is_dask, real_array
from fpsim.kernels import statistics
from fpsim.threads import get_num_threads, over_chunks

CELL_BITS = 7  # a cell is one of 2**7 equal parts of a binade
UNIT_BITS = 31  # offsets within a binade are counted in units of 2**-31 of its lower edge

_BLOCK = 1 << 31  # elements summed up in 64-bit integers before they go into a Sketch
_CHUNK = 1 << 22  # elements handed to a thread at a time
_LEAST = 1 << 18  # … and how few are worth one


@dataclass(frozen=True, eq=False)
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
    zeros, nans, infinities : int
        How many of them.
    smallest, largest : float
        Extremes of the finite nonzero magnitudes (inf and 0 where there are none).
    keys : int64 array, sorted
        ``e * 128 + j``: part j of the binade with exponent e.
    counts : int64 array
    offsets_high, offsets_low, squares_high, squares_low : uint64 arrays
        The two 64-bit limbs of the sum of the offsets, and of that of their squares.

    Examples
    --------
    >>> import fpsim
    >>> sketch = fpsim.Sketch.of([1.0, 1.001, -4.0])
    >>> sketch.counts, sketch.lower_edges
    (array([2, 1]), array([1., 4.]))
    """

    size: int = 0
    zeros: int = 0
    nans: int = 0
    infinities: int = 0
    smallest: float = np.inf
    largest: float = 0.0
    keys: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    offsets_high: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    offsets_low: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    squares_high: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    squares_low: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    @classmethod
    def of(cls, x: ArrayLike, progress: Callable[[int], object] | None = None) -> Sketch:
        """Sketch an array of any shape in one pass, on all threads.

        Parameters
        ----------
        x : array_like
            Real numbers, as `fpsim.round` takes them; memory-mapped arrays are read once.
        progress : callable, optional
            Called with the number of elements done since the last call.

        Examples
        --------
        >>> import fpsim
        >>> sketch = fpsim.Sketch.of([0.0, 1.0, -3.0, float("nan")])
        >>> sketch.size, sketch.zeros, sketch.nans, sketch.smallest, sketch.largest
        (4, 1, 1, 1.0, 3.0)
        """
        if is_dask(x):
            from fpsim.dask import reduce_chunks

            return reduce_chunks(cls.of, x, cls.merge, progress=progress)  # type: ignore[no-any-return]
        array, dtype = real_array("x", x)
        if array.flags.f_contiguous:
            array = array.T  # the order does not matter
        lanes = np.dtype(np.float64 if dtype == np.float64 else np.float32)
        blocks = range(0, array.size, _BLOCK)
        return reduce(
            Sketch.merge,
            (_sketch(array, lanes, b, min(b + _BLOCK, array.size), progress) for b in blocks),
            cls(),
        )

    def merge(self, other: Sketch) -> Sketch:
        """The sketch of both data sets together; exactly that of one pass over both.

        Examples
        --------
        >>> import fpsim
        >>> one, two = fpsim.Sketch.of([1.0, 2.0]), fpsim.Sketch.of([3.0])
        >>> one.merge(two) == fpsim.Sketch.of([1.0, 2.0, 3.0])
        True
        """
        if not isinstance(other, Sketch):
            raise TypeError(
                f"other is of type {type(other).__name__}; give a Sketch, such as Sketch.of(x)"
            )
        keys = np.union1d(self.keys, other.keys)
        mine, theirs = np.searchsorted(keys, self.keys), np.searchsorted(keys, other.keys)

        def total(name: str) -> NDArray[Any]:
            ours = getattr(self, name)
            result = np.zeros(keys.size, ours.dtype)
            result[mine] += ours
            result[theirs] += getattr(other, name)
            return result

        def limbs(name: str) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
            high, low = total(f"{name}_high"), total(f"{name}_low")
            before = np.zeros(keys.size, np.uint64)
            before[mine] = getattr(self, f"{name}_low")
            return high + (low < before).astype(np.uint64), low  # the carry between the limbs

        offsets_high, offsets_low = limbs("offsets")
        squares_high, squares_low = limbs("squares")
        return Sketch(
            size=self.size + other.size,
            zeros=self.zeros + other.zeros,
            nans=self.nans + other.nans,
            infinities=self.infinities + other.infinities,
            smallest=min(self.smallest, other.smallest),
            largest=max(self.largest, other.largest),
            keys=keys,
            counts=total("counts"),
            offsets_high=offsets_high,
            offsets_low=offsets_low,
            squares_high=squares_high,
            squares_low=squares_low,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        extremes = f", |x| from {self.smallest:.3g} to {self.largest:.3g}" if self.nonzero else ""
        return (
            f"<Sketch of {self.size} elements: {self.zeros} zero, {self.nans} NaN, "
            f"{self.infinities} infinite, {self.keys.size} cells{extremes}>"
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
        edges: NDArray[np.float64] = np.ldexp(significand, self.exponents)
        return edges

    @property
    def upper_edges(self) -> NDArray[np.float64]:
        """Per cell, its upper edge."""
        significand = 1 + ((self.keys & ((1 << CELL_BITS) - 1)) + 1) * 2.0**-CELL_BITS
        edges: NDArray[np.float64] = np.ldexp(significand, self.exponents)
        return edges

    @property
    def means(self) -> NDArray[np.float64]:
        """Per cell, the mean of ``|x| / 2**e``, in [1, 2)."""
        base = 1 + (self.keys & ((1 << CELL_BITS) - 1)) * 2.0**-CELL_BITS
        return base + self._mean_offsets * 2.0**-UNIT_BITS

    @property
    def variances(self) -> NDArray[np.float64]:
        """Per cell, the variance (ddof 0) of ``|x| / 2**e``."""
        squares = self.squares_high * 2.0**64 + self.squares_low
        variance = np.maximum(squares / self.counts - self._mean_offsets**2, 0)
        return np.asarray(variance * 4.0**-UNIT_BITS, np.float64)

    @property
    def _mean_offsets(self) -> NDArray[np.float64]:
        offsets = self.offsets_high * 2.0**64 + self.offsets_low
        return np.asarray(offsets / self.counts, np.float64)

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


def _sketch(
    array: NDArray[Any],
    lanes: np.dtype[Any],
    start: int,
    stop: int,
    progress: Callable[[int], object] | None,
) -> Sketch:
    """The sketch of elements `start` to `stop` (at most `_BLOCK`) of an array."""
    wide = lanes == np.float64
    lowest = -1074 if wide else -149  # the exponent of the first cell
    cells = (1024 - lowest if wide else 128 - lowest) << CELL_BITS
    uint = np.dtype(np.uint64 if wide else np.uint32)
    kernel = kernels.compiled(statistics.sketch64 if wide else statistics.sketch32, uint, uint)
    mine = threading.local()
    every: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]] = []

    def work(first: int, last: int) -> None:
        if not hasattr(mine, "table"):
            mine.table = np.zeros((cells, 4), np.uint64)
            mine.totals = np.array([0, 0, 0, (1 << 64) - 1, 0], np.uint64)
            mine.scratch = () if wide else (np.empty((1 << 15, 2), np.uint64),)
            every.append((mine.table, mine.totals))
        for (values,), _ in chunks([(array, lanes)], start + first, start + last, buffer=_LEAST):
            kernel(values.view(uint), *mine.scratch, mine.table, lowest, mine.totals)
        if progress is not None:
            progress(last - first)

    rounds = -(-(stop - start) // (get_num_threads() * _CHUNK))
    share = -(-(stop - start) // (get_num_threads() * rounds))  # the same for every thread
    over_chunks(stop - start, work, chunk=max(share, _LEAST))
    table = reduce(np.add, (t for t, _ in every))
    totals = np.array([t for _, t in every])
    rows = np.flatnonzero(table[:, 0])
    counts, offsets, low, middle = table[rows].T
    squares_low = low + (middle << np.uint64(32))
    zeros, infinities, nans = (int(n) for n in totals[:, :3].sum(axis=0))
    extremes = np.array([totals[:, 3].min(), totals[:, 4].max()]).view(np.float64)
    return Sketch(
        size=stop - start,
        zeros=zeros,
        nans=nans,
        infinities=infinities,
        smallest=float(extremes[0]) if rows.size else np.inf,
        largest=float(extremes[1]),
        keys=rows + (lowest << CELL_BITS),
        counts=counts.astype(np.int64),
        offsets_high=np.zeros(rows.size, np.uint64),
        offsets_low=offsets.copy(),
        squares_high=(middle >> np.uint64(32)) + (squares_low < low).astype(np.uint64),
        squares_low=squares_low,
    )
