"""Stream: counter-based random bits, the same for any threads, chunks and splits.

Imports arguments, kernels, threads.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import kernels
from fpsim.arguments import integer, shown
from fpsim.kernels.words import random_words
from fpsim.threads import over_chunks

_WORD = np.dtype(np.uint64)
_REMEDY = "give an integer from 0 to 2**64-1"


@dataclass(frozen=True)
class Stream:
    """A sequence of 64-bit random words; element i of an array (in C order) uses word offset + i.

    The generator is Philox4x32 with 7 rounds (Salmon et al., "Parallel random numbers: as easy as
    1, 2, 3", SC 2011), keyed by the seed. Word i is made of the 32-bit words i % 4 of two blocks:
    its upper half from counter (i // 4, 0), its lower half from counter (i // 4, 1), where i // 4
    fills the counter's first two words and 0 or 1 its third.

    Parameters
    ----------
    seed : int
        0 to 2**64 - 1.
    offset : int
        Which word the first element uses. Rounding the parts of a split array with the offsets
        of their first elements gives the bits of rounding it whole; `part` does so for parts in
        several dimensions.

    Examples
    --------
    >>> import fpsim, numpy as np
    >>> x = np.linspace(0, 1, 1000)
    >>> whole = fpsim.round(x, "e4m3", rounding="stochastic", rng=7)
    >>> part = fpsim.round(x[600:], "e4m3", rounding="stochastic", rng=fpsim.Stream(7, offset=600))
    >>> bool((part == whole[600:]).all())
    True
    """

    seed: int
    offset: int = 0

    def __post_init__(self) -> None:
        for parameter in ("seed", "offset"):
            number = integer(parameter, getattr(self, parameter), 0, (1 << 64) - 1, _REMEDY)
            object.__setattr__(self, parameter, number)

    @classmethod
    def of(cls, rng: Any, shape: tuple[int, ...] | None = None) -> Stream:
        """The stream that an ``rng`` argument stands for.

        None: one of fresh entropy; an int: its seed; a `numpy.random.Generator` or
        `RandomState`: seeded by one draw from it; a `Stream`: itself. `shape` is that of the
        array whose elements draw from it, if they do so by `word_of`.
        """
        if rng is None:
            return cls(secrets.randbits(64))
        if isinstance(rng, _Part) and rng.shape != shape:
            use = "this operation" if shape is None else f"an array of shape {shape}"
            raise ValueError(
                f"rng is the stream of a part of shape {rng.shape}, which does not serve {use}; "
                "give the stream of the whole"
            )
        if isinstance(rng, Stream):
            return rng
        if isinstance(rng, np.random.Generator):
            return cls(int(rng.integers(1 << 64, dtype=np.uint64)))
        if isinstance(rng, np.random.RandomState):
            return cls(int(rng.randint(1 << 64, dtype=np.uint64)))
        remedy = "give a seed from 0 to 2**64-1, a numpy.random.Generator, a fpsim.Stream or None"
        return cls(integer("rng", rng, 0, (1 << 64) - 1, remedy))

    def derive(self, *labels: str | int) -> Stream:
        """A stream of its own for these labels, such as a layer's name and a step.

        Its seed is the start of the SHA-256 of this stream's numbers and the labels.

        Examples
        --------
        >>> import fpsim
        >>> fpsim.Stream(7).derive("conv1", 3) == fpsim.Stream(7).derive("conv1", 3)
        True
        >>> fpsim.Stream(7).derive("conv1", 3) == fpsim.Stream(7).derive("conv1", 4)
        False
        """
        text = repr((self.seed, self.offset, *labels))
        return Stream(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))

    def part(self, shape: Iterable[int], where: Iterable[slice]) -> Stream:
        """The stream by which a part of an array gets the bits that it gets within the whole.

        Casts, operations, `luq`, `prune` and `dither` take it. Elements whose words follow each
        other are done at a stretch; where stretches are short (the part is narrow along the last
        axes, and the whole is not) each costs some microseconds.

        Parameters
        ----------
        shape : sequence of int
            That of the whole array.
        where : sequence of slice
            The part, a slice without step for each axis, as `numpy.s_` makes them.

        Examples
        --------
        >>> import fpsim, numpy as np
        >>> x = np.linspace(0, 1, 1200).reshape(30, 40)
        >>> whole = fpsim.round(x, "e4m3", rounding="stochastic", rng=7)
        >>> there = np.s_[10:20, 25:]
        >>> mine = fpsim.Stream(7).part(x.shape, there)
        >>> part = fpsim.round(x[there], "e4m3", rounding="stochastic", rng=mine)
        >>> bool((part == whole[there]).all())
        True
        """
        whole = tuple(integer("shape", n, 0, 1 << 63, "give the shape of the whole") for n in shape)
        slices = tuple(where)
        if len(slices) != len(whole) or not all(
            isinstance(s, slice) and s.step in (None, 1) for s in slices
        ):
            raise ValueError(
                f"where={shown(where)} is no part of an array of shape {whole}; give a slice "
                "without step for each axis"
            )
        if isinstance(self, _Part):
            raise ValueError(f"{self} is the stream of a part; take parts of that of the whole")
        ends = [s.indices(n)[:2] for s, n in zip(slices, whole, strict=True)]
        inner = tuple(max(stop - start, 0) for start, stop in ends)
        strides = list(accumulate(whole[:0:-1], mul, initial=1))[::-1] if whole else []
        first = sum(start * stride for (start, _), stride in zip(ends, strides, strict=True))
        offset = (self.offset + first) % (1 << 64)
        # Axes with their strides; those that go on where the next one ends become one with it.
        axes: list[tuple[int, int]] = []
        for length, stride in zip(inner[::-1], strides[::-1], strict=True):
            if axes and stride == math.prod(axes[-1]):
                axes[-1] = (length * axes[-1][0], axes[-1][1])
            elif length != 1:
                axes.append((length, stride))
        if 0 in inner or not axes or axes == [(axes[0][0], 1)]:
            return Stream(self.seed, offset)
        return _Part(self.seed, offset, inner, tuple(axes))

    @property
    def stretch(self) -> int | None:
        """How many elements at a time have words that follow each other; None for all."""
        return None

    def word_of(self, element: int) -> np.uint64:
        """The number of the word that an element, counted in C order, uses."""
        return np.uint64((self.offset + element) % (1 << 64))

    def words(self, size: int) -> NDArray[np.uint64]:
        """The next `size` words: shape ``(size,)``, uint64.

        ``words(n) >> (64 - N)`` are the integers that ``Stochastic(bits=N)`` draws, and
        ``words(n)`` those of ``Stochastic()``.

        Examples
        --------
        >>> import fpsim
        >>> [hex(word) for word in fpsim.Stream(0).words(2)]  # published: 5f6fb709 0d893f64 …
        ['0x5f6fb7091a381a9a', '0xd893f64bc9649d4']
        """
        words = np.empty(integer("size", size, 0, 1 << 48, "give how many words, 0 or more"), _WORD)
        kernel = kernels.compiled(random_words, _WORD, _WORD)

        def work(start: int, stop: int) -> None:
            for first, last in stretches(start, stop, self.stretch):
                kernel(words[first:last], np.uint64(self.seed), self.word_of(first))

        over_chunks(words.size, work)
        return words


@dataclass(frozen=True)
class _Part(Stream):
    """The stream of a part of an array, between whose stretches lie words of the rest."""

    shape: tuple[int, ...] = ()
    axes: tuple[tuple[int, int], ...] = ()  # (length, words from one to the next), the last first

    @property
    def stretch(self) -> int:
        length, stride = self.axes[0]
        return length if stride == 1 else 1

    def word_of(self, element: int) -> np.uint64:
        word = self.offset
        for length, stride in self.axes:
            element, index = divmod(element, length)
            word += index * stride
        return np.uint64(word % (1 << 64))


def stretches(start: int, stop: int, length: int | None) -> Iterator[tuple[int, int]]:
    """The (start, stop) of the pieces of a range that end at the multiples of `length`."""
    while start < stop:
        end = stop if length is None else min(stop, start + length - start % length)
        yield start, end
        start = end
