"""Random bits as circuits make them: definitions bit by bit, published numbers, primitivity, and
the bias of few bits by going through every case.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import gmpy2
import numpy as np
import pytest

import fpsim
from fpsim import Stochastic
from fpsim.hardware.random_bits import (
    TAPS,
    Lfsr,
    Xoshiro,
    mean_bias,
    rounding_bias,
    rounding_probability,
)

# Shift registers as lists of bits ----------------------------------------------------------------


def fibonacci(stages: list[int], taps: tuple[int, ...]) -> list[int]:
    """Stage k to stage k + 1; the taps' parity into stage 1."""
    return [sum(stages[tap - 1] for tap in taps) % 2, *stages[:-1]]


def galois(stages: list[int], taps: tuple[int, ...]) -> list[int]:
    """Stage k to stage k − 1; what leaves stage 1 inverts the taps."""
    leaving, moved = stages[0], [*stages[1:], 0]
    return [bit ^ (leaving if k + 1 in taps else 0) for k, bit in enumerate(moved)]


def number(stages: list[int]) -> int:
    return sum(bit << k for k, bit in enumerate(stages))


@pytest.mark.parametrize("width", TAPS)
@pytest.mark.parametrize(("form", "step"), [("fibonacci", fibonacci), ("galois", galois)])
def test_registers_stage_by_stage(width: int, form: str, step: Any) -> None:
    seed = 0x9E3779B97F4A7C15 % ((1 << width) - 1) + 1
    for steps in (1, 3):
        stages = [seed >> k & 1 for k in range(width)]
        expected = []
        for _ in range(100):
            expected.append(number(stages))
            for _ in range(steps):
                stages = step(stages, TAPS[width])
        register = Lfsr(width, form=form, seed=seed, steps=steps)
        assert register.integers(width, 100).tolist() == expected
        bits = (width + 1) // 2
        assert register.integers(bits, 100).tolist() == [n % (1 << bits) for n in expected]
        assert register.advanced(7).integers(width, 93).tolist() == expected[7:]


def test_a_galois_register_of_the_literature() -> None:
    """x^16 + x^14 + x^13 + x^11 + 1, right shift, mask B400: the textbooks' first states."""
    register = Lfsr(16, (16, 14, 13, 11), "galois", seed=0xACE1)
    first = 0xACE1 >> 1 ^ 0xB400
    assert register.integers(16, 3).tolist() == [0xACE1, first, first >> 1]
    assert first & 1 == 0
    assert register.period == 65535


# The longest period, by algebra -------------------------------------------------------------------


def times(a: int, b: int, modulus: int) -> int:
    """Product of polynomials over GF(2), modulo one."""
    degree, product = modulus.bit_length() - 1, 0
    while b:
        if b & 1:
            product ^= a
        a, b = a << 1, b >> 1
        if a >> degree:
            a ^= modulus
    return product


def power(exponent: int, modulus: int) -> int:
    """x to an exponent, modulo a polynomial."""
    result, base = 1, 2
    while exponent:
        if exponent & 1:
            result = times(result, base, modulus)
        base, exponent = times(base, base, modulus), exponent >> 1
    return result


def prime_factors(n: int) -> set[int]:
    """By trial division, and Pollard's method for what is left."""
    found = set()
    for p in [2, *range(3, 2000, 2)]:
        while n % p == 0:
            found.add(p)
            n //= p
    left = [n] if n > 1 else []
    while left:
        m = left.pop()
        if gmpy2.is_prime(m, 40):
            found.add(m)
            continue
        c, divisor = 1, m
        while divisor == m:
            slow = fast = 2
            divisor, c = 1, c + 1
            while divisor == 1:
                slow = (slow * slow + c) % m
                fast = (fast * fast + c) % m
                fast = (fast * fast + c) % m
                divisor = math.gcd(slow - fast, m)
        left += [divisor, m // divisor]
    return found


@pytest.mark.parametrize("width", TAPS)
def test_polynomials_of_the_table_are_primitive(width: int) -> None:
    """The order of x modulo x^n + … + 1 is 2^n − 1: then every nonzero state is met."""
    polynomial = 1 | sum(1 << tap for tap in TAPS[width])
    order = (1 << width) - 1
    primes = prime_factors(order)
    rest = order
    for p in primes:
        while rest % p == 0:
            rest //= p
    assert rest == 1
    assert power(order, polynomial) == 1
    assert all(power(order // p, polynomial) != 1 for p in primes)
    assert Lfsr(width).period == order


def test_the_table_is_whole() -> None:
    assert list(TAPS) == list(range(2, 65))
    assert all(taps[0] == width for width, taps in TAPS.items())


@pytest.mark.parametrize("form", ["fibonacci", "galois"])
@pytest.mark.parametrize("width", [2, 3, 8, 13])
def test_all_states_are_met(width: int, form: str) -> None:
    states = Lfsr(width, form=form).integers(width, (1 << width) - 1)
    assert sorted(states.tolist()) == list(range(1, 1 << width))


def test_periods_of_other_taps_and_steps() -> None:
    for taps, seed in (((6, 3), 1), ((6, 4), 5), ((6, 5, 4, 3), 9), ((5, 2), 3)):
        for form, step in (("fibonacci", fibonacci), ("galois", galois)):
            start = stages = [seed >> k & 1 for k in range(taps[0])]
            period = 0
            while period == 0 or stages != start:
                stages, period = step(stages, taps), period + 1
            register = Lfsr(taps[0], taps, form, seed)
            assert register.period == period
            assert register.advanced(period) == register
    assert Lfsr(4, steps=3).period == 5
    assert Lfsr(4, steps=3).advanced(5) == Lfsr(4, steps=3)
    assert Lfsr(5, (5, 2)).period == 31
    with pytest.raises(ValueError, match="too many to go round"):
        _ = Lfsr(40, (40, 1)).period


# xoshiro ------------------------------------------------------------------------------------------


def xoshiro(state: list[int], bits: int, count: int) -> tuple[list[int], list[int]]:
    """Blackman and Vigna's definition in integers without end."""
    ones, (r, a, b) = (1 << bits) - 1, (7, 9, 11) if bits == 32 else (23, 17, 45)

    def rotated(x: int, k: int) -> int:
        return (x << k | x >> (bits - k)) & ones

    s, outputs = list(state), []
    for _ in range(count):
        outputs.append((rotated((s[0] + s[3]) & ones, r) + s[0]) & ones)
        t = s[1] << a & ones
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotated(s[3], b)
    return outputs, s


@pytest.mark.parametrize(
    ("name", "published"),
    [  # made with the authors' C programs from the state 1, 2, 3, 4; in rand_xoshiro's tests
        ("xoshiro128++", [641, 1573767, 3222811527, 3517856514, 836907274, 4247214768]),
        (
            "xoshiro256++",
            [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205],
        ),
    ],
)
def test_published_outputs(name: str, published: list[int]) -> None:
    generator = Xoshiro(name, (1, 2, 3, 4))
    assert generator.integers(generator.bits, len(published)).tolist() == published


@pytest.mark.parametrize(("name", "bits"), [("xoshiro128++", 32), ("xoshiro256++", 64)])
def test_outputs_by_the_definition(name: str, bits: int) -> None:
    for seed in (0, 1, 2**64 - 1):
        generator = Xoshiro(name, seed)
        outputs, state = xoshiro(list(generator.state), bits, 1000)  # type: ignore[arg-type]
        assert generator.integers(bits, 1000).tolist() == outputs
        assert generator.integers(5, 1000).tolist() == [word >> (bits - 5) for word in outputs]
        assert generator.advanced(1000).state == tuple(state)
        assert generator.advanced(300).integers(bits, 700).tolist() == outputs[300:]
    assert Xoshiro(name, 3).period == 2 ** (4 * bits) - 1


def test_seeds_are_spread_by_splitmix() -> None:
    """SplitMix64's first output of seed 0 is published: E220A8397B1DCDAF."""
    words = Xoshiro("xoshiro256++", 0).state
    assert words[0] == 0xE220A8397B1DCDAF  # type: ignore[index]
    halves = Xoshiro("xoshiro128++", 0).state
    assert halves[:2] == (0x7B1DCDAF, 0xE220A839)  # type: ignore[index]


# The bias of few bits -----------------------------------------------------------------------------

MODES = [Stochastic(n, variant) for n in (1, 2, 3, 8) for variant in "ABC"]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_probability_by_all_random_integers(mode: Stochastic) -> None:
    """Rounding 1 + ν to 1 or 2 with every R there is."""
    bits = mode.bits or 0
    every = np.arange(1 << bits)
    rng = np.random.default_rng(bits)
    fractions = [Fraction(int(k), 1 << 12) for k in rng.integers(0, 1 << 12, 40)]
    fractions += [Fraction(k, 16) for k in range(16)]
    for fraction in fractions:
        up = fpsim.round(
            np.full(every.size, 1 + float(fraction)), "e4m0f", rounding=mode, random_bits=every
        )
        share = Fraction(int(np.count_nonzero(up == 2.0)), every.size)
        assert rounding_probability(fraction, mode) == share
        assert rounding_bias(fraction, mode) == share - fraction
        limit = Fraction(1, 1 << (bits + (mode.variant != "A")))
        assert abs(share - fraction) <= limit


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_mean_bias_by_all_fractions(mode: Stochastic) -> None:
    for m in (1, 2, 3, 5, 10):
        total = sum(rounding_bias(Fraction(k, 1 << m), mode) for k in range(1 << m))
        assert mean_bias(mode, m) == total / (1 << m)


@pytest.mark.parametrize("form", ["fibonacci", "galois"])
@pytest.mark.parametrize("steps", [1, 8, 11])
def test_bias_of_a_register_by_its_whole_period(form: str, steps: int) -> None:
    """All that one of 10 stages gives, used for rounding with 4 bits."""
    register = Lfsr(10, form=form, seed=77, steps=steps)
    whole = math.gcd(steps, 1023) == 1
    integers = register.integers(4, 1023)
    if whole:
        counts = Counter(integers.tolist())
        assert counts == {r: 64 - (r == 0) for r in range(16)}
    for fraction, variant in ((0.3, "A"), (0.999, "B"), (0.5, "C"), (0.0, "A"), (0.96875, "C")):
        mode = Stochastic(4, variant)
        if not whole:
            with pytest.raises(ValueError, match="not all"):
                rounding_probability(fraction, mode, register)
            continue
        values = np.full(1023, 1.0 + fraction)
        up = fpsim.round(values, "e4m0f", rounding=mode, random_bits=integers)
        share = Fraction(int(np.count_nonzero(up == 2.0)), 1023)
        assert rounding_probability(fraction, mode, register) == share


def test_a_mean_comes_out_as_predicted() -> None:
    """A million roundings of one value: the mean is the calculator's, not the value."""
    generator = Xoshiro("xoshiro256++", 5)
    x, mode = np.full(1 << 20, 1.3), Stochastic(3)
    mean = fpsim.round(x, "e4m1f", rounding=mode, random_bits=generator.integers(3, x.size)).mean()
    predicted = 1.3 + float(rounding_bias(Fraction(1.3) * 2 - 2, mode)) / 2
    assert abs(predicted - 1.25) < 1e-12
    assert abs(mean - predicted) < 5 * 0.25 / math.sqrt(x.size)
