"""Random integers as circuits make them: linear feedback shift registers, and xoshiro's words."""

from __future__ import annotations

import numpy as np
from numba import njit

_ONE = np.uint64(1)
_LOW_HALF = np.uint64(0xFFFFFFFF)


@njit(forceinline=True)
def _parity(x):
    for shift in (32, 16, 8, 4, 2, 1):
        x ^= x >> np.uint64(shift)
    return x & _ONE


@njit(forceinline=True)
def _step(state, taps, galois, width):
    """One step: of taps whose lowest is place 1, bit 0."""
    if galois:
        return (state >> _ONE) ^ (taps if state & _ONE else np.uint64(0))
    spare = np.uint64(64) - width
    return (state << _ONE | _parity(state & taps)) << spare >> spare


def shift_register(out, state, taps, galois, width, steps):
    """Write states, the first one as it is and each `steps` after the last; returns the next."""
    for i in range(out.size):
        out[i] = state
        for _ in range(steps):
            state = _step(state, taps, galois, width)
    return state


def cycle_length(state, taps, galois, width, most):
    """After how many steps a state comes back, or 0 where that takes more than `most`."""
    start = state
    for count in range(1, most + 1):
        state = _step(state, taps, galois, width)
        if state == start:
            return count
    return 0


@njit(forceinline=True)
def _rotated(x, k, half):
    """Left by k bits, of 32 where `half`, else of 64."""
    if half:
        return (x << np.uint64(k) | x >> np.uint64(32 - k)) & _LOW_HALF
    return x << np.uint64(k) | x >> np.uint64(64 - k)


def xoshiro(out, state, half):
    """Write the outputs of xoshiro256++, or of xoshiro128++ where `half`; the state goes on."""
    a, b, c, d = state[0], state[1], state[2], state[3]
    mask = _LOW_HALF if half else ~np.uint64(0)
    for i in range(out.size):
        total = (a + d) & mask
        out[i] = (_rotated(total, 7 if half else 23, half) + a) & mask
        shifted = (b << np.uint64(9 if half else 17)) & mask
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= shifted
        d = _rotated(d, 11 if half else 45, half)
    state[0], state[1], state[2], state[3] = a, b, c, d
