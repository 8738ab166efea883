"""Stream: counter-based random bits, the same for any threads, chunks and splits.

Imports arguments, kernels, threads.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import kernels
from fpsim.arguments import integer
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
        of their first elements gives the bits of rounding it whole.

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
    def of(cls, rng: Any) -> Stream:
        """The stream that an ``rng`` argument stands for.

        None: one of fresh entropy; an int: its seed; a `numpy.random.Generator` or
        `RandomState`: seeded by one draw from it; a `Stream`: itself.
        """
        if rng is None:
            return cls(secrets.randbits(64))
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
            first = (self.offset + start) % (1 << 64)
            kernel(words[start:stop], np.uint64(self.seed), np.uint64(first))

        over_chunks(words.size, work)
        return words
