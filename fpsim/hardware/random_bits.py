"""Random bits as circuits make them, for stochastic rounding, and the bias that few of them leave.

Imports arguments, rounding, kernels.
"""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim import kernels
from fpsim.arguments import integer, shown
from fpsim.kernels import registers
from fpsim.rounding import MAX_RANDOM_BITS, Stochastic

MAX_WIDTH = 64
MAX_COUNT = 1 << 40
MAX_STEPS = 1 << 16
_WALKED_WIDTH = 32  # up to which a period is found by going round
_WORD = np.dtype(np.uint64)
_FORMS = ("fibonacci", "galois")

# Taps of registers of the longest period, 2**width − 1, by width: Peter Alfke, Efficient Shift
# Registers, LFSR Counters, and Long Pseudo-Random Sequence Generators, Xilinx application note
# XAPP052 (1996), table 3; of width 2, there is one choice.
TAPS: dict[int, tuple[int, ...]] = {
    2: (2, 1),
    3: (3, 2),
    4: (4, 3),
    5: (5, 3),
    6: (6, 5),
    7: (7, 6),
    8: (8, 6, 5, 4),
    9: (9, 5),
    10: (10, 7),
    11: (11, 9),
    12: (12, 6, 4, 1),
    13: (13, 4, 3, 1),
    14: (14, 5, 3, 1),
    15: (15, 14),
    16: (16, 15, 13, 4),
    17: (17, 14),
    18: (18, 11),
    19: (19, 6, 2, 1),
    20: (20, 17),
    21: (21, 19),
    22: (22, 21),
    23: (23, 18),
    24: (24, 23, 22, 17),
    25: (25, 22),
    26: (26, 6, 2, 1),
    27: (27, 5, 2, 1),
    28: (28, 25),
    29: (29, 27),
    30: (30, 6, 4, 1),
    31: (31, 28),
    32: (32, 22, 2, 1),
    33: (33, 20),
    34: (34, 27, 2, 1),
    35: (35, 33),
    36: (36, 25),
    37: (37, 5, 4, 3, 2, 1),
    38: (38, 6, 5, 1),
    39: (39, 35),
    40: (40, 38, 21, 19),
    41: (41, 38),
    42: (42, 41, 20, 19),
    43: (43, 42, 38, 37),
    44: (44, 43, 18, 17),
    45: (45, 44, 42, 41),
    46: (46, 45, 26, 25),
    47: (47, 42),
    48: (48, 47, 21, 20),
    49: (49, 40),
    50: (50, 49, 24, 23),
    51: (51, 50, 36, 35),
    52: (52, 49),
    53: (53, 52, 38, 37),
    54: (54, 53, 18, 17),
    55: (55, 31),
    56: (56, 55, 35, 34),
    57: (57, 50),
    58: (58, 39),
    59: (59, 58, 38, 37),
    60: (60, 59),
    61: (61, 60, 46, 45),
    62: (62, 61, 6, 5),
    63: (63, 62),
    64: (64, 63, 61, 60),
}


@dataclass(frozen=True)
class Lfsr:
    """A linear feedback shift register; a random integer is its lowest N bits.

    Its stages are numbered from 1, bit 0 of the state, to `width`. In Fibonacci's form a step moves
    every bit to the next higher stage, and the parity of the taps into stage 1. In Galois's form it
    moves them to the next lower one, and where stage 1 held a one inverts the taps. The first
    integer is the seed's.

    Parameters
    ----------
    width : int
        Stages, 2 to 64.
    taps : tuple of int, optional
        The last stage among them; by default some that give the longest period, `TAPS`.
    form : {'fibonacci', 'galois'}
    seed : int
        The first state, 1 to ``2**width - 1``: from 0 there is no way out.
    steps : int
        Steps from one integer to the next. With 1, as in the cheapest circuits, successive
        integers share all bits but one; with N or more they share none.

    Examples
    --------
    >>> from fpsim.hardware.random_bits import Lfsr
    >>> register = Lfsr(16, seed=0xACE1, steps=8)
    >>> register.period
    65535
    >>> register.integers(8, 4)
    array([225, 138, 134, 161], dtype=uint64)
    >>> import fpsim
    >>> mode = fpsim.Stochastic(bits=8)
    >>> fpsim.round([1.2] * 4, "e3m1", rounding=mode, random_bits=register.integers(8, 4))
    array([1.5, 1. , 1. , 1.5])
    """

    width: int
    taps: tuple[int, ...] = ()
    form: str = "fibonacci"
    seed: int = 1
    steps: int = 1

    def __post_init__(self) -> None:
        width = integer("width", self.width, 2, MAX_WIDTH, f"give 2 to {MAX_WIDTH} stages")
        object.__setattr__(self, "width", width)
        taps = self.taps if not isinstance(self.taps, tuple) or self.taps else TAPS[width]
        try:
            numbers = sorted({integer("taps", tap, 1, width) for tap in taps}, reverse=True)
        except (TypeError, ValueError):
            numbers = []
        if not numbers or numbers[0] != width:
            raise ValueError(
                f"taps={shown(self.taps)} are no stages from 1 to {width} with the last among "
                f"them; give such a tuple, or leave it out for {TAPS[width]}"
            )
        object.__setattr__(self, "taps", tuple(numbers))
        if self.form not in _FORMS:
            raise ValueError(f"form={shown(self.form)} is not one of 'fibonacci', 'galois'")
        remedy = f"give a state from 1 to 2**{width}-1"
        seed = integer("seed", self.seed, 1, (1 << width) - 1, remedy)
        object.__setattr__(self, "seed", seed)
        remedy = f"give how many steps lie between integers, 1 to {MAX_STEPS}"
        object.__setattr__(self, "steps", integer("steps", self.steps, 1, MAX_STEPS, remedy))

    @property
    def longest(self) -> bool:
        """Whether its taps are those of `TAPS`, so that it goes through all states but 0."""
        return self.taps == TAPS[self.width]

    @property
    def period(self) -> int:
        """After how many integers they begin again.

        Raises ValueError for more than 32 stages with taps that are not in `TAPS`.
        """
        states = (1 << self.width) - 1
        if not self.longest:
            if self.width > _WALKED_WIDTH:
                raise ValueError(
                    f"taps={self.taps} are not in TAPS, and {self.width} stages are too many to go "
                    f"round; give up to {_WALKED_WIDTH}, or taps={TAPS[self.width]}"
                )
            walk = kernels.compiled(registers.cycle_length, _WORD, _WORD)
            states = walk(*self._start(), np.int64(states))
        return states // math.gcd(states, self.steps)

    def integers(self, bits: int, count: int) -> NDArray[np.uint64]:
        """The first `count` random integers of `bits` bits, for ``random_bits=``.

        Parameters
        ----------
        bits : int
            1 to `width`.
        count : int

        Returns
        -------
        uint64 array, (count,)
        """
        remedy = f"give 1 to {self.width}, as many as the register has, or a wider register"
        bits = integer("bits", bits, 1, self.width, remedy)
        states, _ = self._states(count)
        states &= np.uint64((1 << bits) - 1)
        return states

    def advanced(self, count: int) -> Lfsr:
        """The register after `count` integers, to go on from.

        Examples
        --------
        >>> from fpsim.hardware.random_bits import Lfsr
        >>> register = Lfsr(16)
        >>> bool((register.integers(8, 9)[5:] == register.advanced(5).integers(8, 4)).all())
        True
        """
        return replace(self, seed=self._states(count)[1])

    def _start(self) -> tuple[np.uint64, np.uint64, np.bool_, np.uint64]:
        mask = sum(1 << (tap - 1) for tap in self.taps)
        numbers = np.uint64(self.seed), np.uint64(mask)
        return *numbers, np.bool_(self.form == "galois"), np.uint64(self.width)

    def _states(self, count: int) -> tuple[NDArray[np.uint64], int]:
        states = np.empty(_checked_count(count), np.uint64)
        run = kernels.compiled(registers.shift_register, _WORD, _WORD)
        return states, int(run(states, *self._start(), np.int64(self.steps)))


@dataclass(frozen=True)
class Xoshiro:
    """xoshiro128++ or xoshiro256++; a random integer is the highest N bits of an output.

    Blackman and Vigna: Scrambled linear pseudorandom number generators (ACM TOMS 47, 2021).
    Shifts, rotations, two additions: 4 registers of 32 or 64 bits.

    Parameters
    ----------
    name : {'xoshiro128++', 'xoshiro256++'}
    state : tuple of four int, or int
        The four words, not all of them 0, or a seed, from which SplitMix64 makes them.

    Examples
    --------
    >>> from fpsim.hardware.random_bits import Xoshiro
    >>> Xoshiro("xoshiro128++", (1, 2, 3, 4)).integers(32, 3)
    array([       641,    1573767, 3222811527], dtype=uint64)
    >>> Xoshiro("xoshiro256++", 7).integers(8, 4)
    array([ 14,  44, 183, 109], dtype=uint64)
    """

    name: str = "xoshiro128++"
    state: tuple[int, int, int, int] | int = 1

    def __post_init__(self) -> None:
        if self.name not in ("xoshiro128++", "xoshiro256++"):
            raise ValueError(
                f"name={shown(self.name)} is not one of 'xoshiro128++', 'xoshiro256++'"
            )
        remedy = f"give a seed from 0 to 2**64-1, or four words of {self.bits} bits"
        if not isinstance(self.state, tuple):
            seed = integer("state", self.state, 0, (1 << 64) - 1, remedy)
            object.__setattr__(self, "state", _seeded(seed, self.bits))
            return
        top = (1 << self.bits) - 1
        words = tuple(integer("state", word, 0, top, remedy) for word in self.state)
        if len(words) != 4 or not any(words):
            raise ValueError(f"state={shown(self.state)} are not four words, one not 0; {remedy}")
        object.__setattr__(self, "state", words)

    @property
    def bits(self) -> int:
        """Bits of an output: 32 or 64."""
        return 64 if self.name == "xoshiro256++" else 32

    @property
    def period(self) -> int:
        """After how many integers they begin again."""
        return (1 << 4 * self.bits) - 1

    def integers(self, bits: int, count: int) -> NDArray[np.uint64]:
        """The first `count` random integers of `bits` bits, for ``random_bits=``: uint64."""
        bits = integer("bits", bits, 1, self.bits, f"give 1 to {self.bits}")
        words, _ = self._words(count)
        words >>= np.uint64(self.bits - bits)
        return words

    def advanced(self, count: int) -> Xoshiro:
        """The generator after `count` integers, to go on from."""
        a, b, c, d = (int(word) for word in self._words(count)[1])
        return replace(self, state=(a, b, c, d))

    def _words(self, count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        words = np.empty(_checked_count(count), np.uint64)
        state = np.array(self.state, np.uint64)
        run = kernels.compiled(registers.xoshiro, _WORD, _WORD)
        run(words, state, np.bool_(self.bits == 32))
        return words, state


def _checked_count(count: Any) -> int:
    return integer("count", count, 0, MAX_COUNT, "give how many integers, 0 or more")


def _seeded(seed: int, bits: int) -> tuple[int, ...]:
    """Words from SplitMix64 (Steele, Lea, Flood 2014), as xoshiro's authors advise."""
    ones = (1 << 64) - 1
    words: list[int] = []
    for _ in range(4 * bits // 64):
        seed = (seed + 0x9E3779B97F4A7C15) & ones
        z = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) & ones
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & ones
        z ^= z >> 31
        words += [z] if bits == 64 else [z & 0xFFFFFFFF, z >> 32]
    return tuple(words)


# What few random bits do --------------------------------------------------------------------------


def rounding_probability(
    fraction: float | Fraction, mode: Stochastic, register: Lfsr | None = None
) -> Fraction:
    """How often a value that lies `fraction` up the gap of its neighbours goes up, exactly.

    Of 2**N random integers R that are equally likely these go up: of variant A floor(ν·2^N), of B
    the integer nearest to ν·2^N (upward from the middle; ν cut to N + 1 bits first), of C the
    nearest, ties to even. Derived from the rules of `fpsim.Stochastic`.

    Parameters
    ----------
    fraction : float or Fraction
        ν, 0 to below 1.
    mode : Stochastic
        With `bits`.
    register : Lfsr, optional
        Where R comes from over a whole period, in which 0 comes up once less than the others: one
        that goes through all states, with at least as many stages as the mode has bits.

    Returns
    -------
    Fraction

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.hardware.random_bits import Lfsr, rounding_probability
    >>> rounding_probability(0.3, fpsim.Stochastic(4))
    Fraction(1, 4)
    >>> rounding_probability(0.3, fpsim.Stochastic(4, "C"))
    Fraction(5, 16)
    >>> rounding_probability(0.3, fpsim.Stochastic(4), Lfsr(8))
    Fraction(64, 255)
    """
    bits = _checked_bits(mode)
    exact = _checked_fraction(fraction)
    scaled = exact * 2**bits
    if mode.variant == "A":
        up = math.floor(scaled)
    elif mode.variant == "B":
        up = (math.floor(2 * scaled) + 1) // 2
    else:
        up = builtins.round(scaled)  # a Fraction's ties go to even
    if register is None:
        return Fraction(up, 2**bits)
    if not isinstance(register, Lfsr) or register.width < bits:
        raise ValueError(
            f"register={shown(register)} is no Lfsr of at least {bits} stages; give one, or None "
            "for integers that are equally likely"
        )
    if register.period != (1 << register.width) - 1:
        raise ValueError(
            f"register={shown(register)} goes through {register.period} states, not all; give "
            "taps of TAPS, and steps without a factor in common with 2**width - 1"
        )
    # R = 0 stands for 2**(width − N) states, one of which never comes up; it goes up with all.
    of_each = 1 << (register.width - bits)
    return Fraction(up * of_each - (up == 1 << bits), (1 << register.width) - 1)


def rounding_bias(
    fraction: float | Fraction, mode: Stochastic, register: Lfsr | None = None
) -> Fraction:
    """The mean error of rounding a value that lies `fraction` up its gap, in gaps.

    `rounding_probability` less `fraction`: from −2^−N to 0 for variant A, within 2^−(N+1) for B and
    C; parameters as there.

    Examples
    --------
    >>> import fpsim
    >>> from fractions import Fraction
    >>> from fpsim.hardware.random_bits import rounding_bias
    >>> [str(rounding_bias(Fraction(3, 10), fpsim.Stochastic(4, variant))) for variant in "ABC"]
    ['-1/20', '1/80', '1/80']
    """
    return rounding_probability(fraction, mode, register) - _checked_fraction(fraction)


def mean_bias(mode: Stochastic, discarded_bits: int) -> Fraction:
    """The mean error of rounding, in gaps, over all fractions of so many bits.

    What accumulates where many values are rounded whose discarded bits are as good as random. With
    m discarded bits and N < m random ones it is −(2^−N − 2^−m)/2 for variant A, 2^−(m+1) for B
    and 0 for C; with N ≥ m it is 0. (Derived: the fractions that share their first N bits err
    by −j·2^−m, j = 0 … 2^(m−N) − 1, in A; B's ties, one in 2^(m−N), all go up, by 2^−(N+1).)

    Parameters
    ----------
    mode : Stochastic
        With `bits`.
    discarded_bits : int
        m, 1 to 2**16: of a product of two p-bit numbers that is rounded to p bits, p.

    Examples
    --------
    >>> import fpsim
    >>> from fpsim.hardware.random_bits import mean_bias
    >>> [str(mean_bias(fpsim.Stochastic(8, variant), 20)) for variant in "ABC"]
    ['-4095/2097152', '1/2097152', '0']
    """
    bits = _checked_bits(mode)
    m = integer("discarded_bits", discarded_bits, 1, 1 << 16)
    if bits >= m or mode.variant == "C":
        return Fraction(0)
    if mode.variant == "B":
        return Fraction(1, 2 << m)
    return -(Fraction(1, 1 << bits) - Fraction(1, 1 << m)) / 2


def _checked_bits(mode: Any) -> int:
    if not isinstance(mode, Stochastic) or mode.bits is None:
        raise ValueError(
            f"mode={shown(mode)} is no stochastic mode with bits; give fpsim.Stochastic(bits=N), "
            f"N from 1 to {MAX_RANDOM_BITS}"
        )
    return mode.bits


def _checked_fraction(fraction: Any) -> Fraction:
    try:
        exact = Fraction(fraction)
    except (TypeError, ValueError, OverflowError):
        exact = Fraction(-1)
    if not 0 <= exact < 1:
        raise ValueError(
            f"fraction={shown(fraction)} is no part of a gap; give a number from 0 to below 1"
        )
    return exact
