"""Operations: floats that round as the exact results do, into any format of fewer bits.

Such a float is the exact result rounded to odd: where that is inexact, whichever of its two
neighbours has the odd last bit. The odd bit stands for everything below it, so that rounding it
into a format of at least two bits fewer is rounding the exact result once, whatever the mode
(Boldo, Melquiond: Emulation of a FMA and correctly rounded sums: proved algorithms using rounding
to odd, IEEE Trans. Computers 57, 2008).

float32 operands: products are exact in float64, and no result leaves its range; results come as
float32, or as float64 for formats that need its bits. float64 operands: sums and products with
their rounding errors, which hold unless something comes near an end of the range: `_operate` says
whether it did, and the exact scalar path, `operate_exactly`, does those again in integers. It also
serves results with an odd last bit where a format, or a random word, looks at more bits than a
float has.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

from fpsim.kernels.casts import flags_of, result_of, stored
from fpsim.kernels.exact import (
    INVALID,
    STOCHASTIC,
    bit_length,
    normalised,
    parts_of,
    round_exact,
    scalar_of,
)
from fpsim.kernels.lanes import (
    AHEAD,
    TILE,
    ask_for_tile,
    bits_of,
    dtype_of,
    float_of,
    lane_of,
    left,
    like,
)
from fpsim.kernels.words import word_at

# Operations. Those of two operands do not look at z, and roots not at y.
ADD = 0  # x + y
SUBTRACT = 1
MULTIPLY = 2
DIVIDE = 3
SQRT = 4
FMA = 5  # x * y + z
FAA = 6  # x + y + z

DIVIDE_BY_ZERO = 8

# Rounding errors of float64 results between these are float64, and none of their parts overflows.
SMALLEST = 2.0**-960
LARGEST = 2.0**1020
NARROW_LARGEST = np.float32(2.0**127)  # parts of sums of float32 overflow from here on


@intrinsic
def _fma(typing_context, x, y, z):
    """x * y + z rounded once."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return x(x, x, x), generate


# Rounding to odd -----------------------------------------------------------------------------


@njit(forceinline=True)
def _odd(s, error):
    """Bits of s + error rounded to odd, where s is the float nearest to it.

    1. Where there is an error, s + error lies between s and a neighbour. If the last bit of s is
       odd, s is the answer.
    2. If not, the neighbour is, which is one code away: outward if the error has s's sign. From
       infinity this leads back to the largest float, which is odd.
    3. The error of NaN and of exact infinities is NaN, which is neither above nor below zero.
    """
    bits = bits_of(s)
    d = dtype_of(bits)
    outward = (error > 0) == (bits <= d.magnitude_mask)
    neighbour = like(bits + d.one, bits) if outward else like(bits - d.one, bits)
    inexact = (error > 0) | (error < 0)
    return neighbour if inexact and (bits & d.one) == d.zero else bits


@njit(forceinline=True)
def _sum(x, y):
    """x + y and its rounding error (Knuth: The Art of Computer Programming 2, 4.2.2)."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


@njit(forceinline=True)
def _three(x, high, low):
    """x + (high + low), `low` below the last place of `high`, rounded to odd (Boldo, Melquiond)."""
    top, rest = _sum(x, high)
    below = float_of(_odd(*_sum(rest, low)))
    return _odd(*_sum(top, below))


@njit(forceinline=True)
def _narrow(value):
    """Bits of the float32 to which a float64 rounds to odd.

    The float64 may itself have been rounded: to odd, or to nearest if it is the quotient or root
    of float32, which come no nearer to a float32 than 2**-49 of themselves without being one.
    """
    s = np.float32(value)
    return _odd(s, value - np.float64(s))


@njit(forceinline=True)
def _signed_zero(bits, all_signs, any_sign, minus_zero):
    """The sign of a sum that is exactly 0: that of its terms if they agree, else the mode's."""
    d = dtype_of(bits)
    sign = like((all_signs | (any_sign & minus_zero)) & ~d.magnitude_mask, bits)
    return sign if (bits & d.magnitude_mask) == d.zero else bits


# The operations ------------------------------------------------------------------------------
#
# Each gives (bits of the result rounded to odd, did an operand or the result leave the range in
# which that holds). `minus_zero` is the sign bit where sums that cancel are −0, else 0.


@njit(forceinline=True)
def _finite(x):
    return abs(x) < np.inf


@njit(forceinline=True)
def _special(x):
    """Infinity or NaN, or 0 in the place of a number: sums of numbers may overflow."""
    return x if not _finite(x) else x - x


@njit(forceinline=True)
def _add(x, y, minus_zero):
    s, error = _sum(x, y)
    bits = _odd(s, error)
    d = dtype_of(bits)
    bits = _signed_zero(bits, bits_of(x) & bits_of(y), bits_of(x) | bits_of(y), minus_zero)
    # Past float32's range: its largest value, which is odd.
    over = (bits & d.magnitude_mask) == d.dtype_infinity and _finite(x) and _finite(y)
    bits = like(bits - d.one, bits) if over else bits
    return bits, (abs(s) >= LARGEST) & _finite(x) & _finite(y)


@njit(forceinline=True)
def odd_sum(x, y, minus_zero):
    """Bits of x + y rounded to odd, for float32, and for float64 below `LARGEST`."""
    bits, _ = _add(x, y, minus_zero)
    return bits


@njit(forceinline=True)
def _multiply(x, y):
    product = x * y
    bits = _odd(product, _fma(x, y, -product))
    size = abs(product)
    safe = ((size >= SMALLEST) & (size < LARGEST)) | (x == 0) | (y == 0)
    return bits, not (safe | (not (_finite(x) & _finite(y))))


@njit(forceinline=True, error_model="numpy")
def _divide(x, y):
    quotient = x / y
    remainder = _fma(-quotient, y, x)
    bits = _odd(quotient, remainder if y > 0 else -remainder)
    size = abs(quotient)
    safe = ((size >= SMALLEST) & (size < LARGEST) & (abs(x) >= SMALLEST)) | (x == 0) | (y == 0)
    return bits, not (safe | (not (_finite(x) & _finite(y))))


@njit(forceinline=True)
def _sqrt(x):
    root = math.sqrt(x)
    bits = _odd(root, _fma(-root, root, x))
    return bits, (x > 0) & (x < SMALLEST)


@njit(forceinline=True)
def _number(bits, again):
    """Any number in the place of a NaN that is to be done again: the result is none."""
    d = dtype_of(bits)
    return d.one if again and (bits & d.magnitude_mask) > d.dtype_infinity else bits


@njit(forceinline=True)
def _sum_of_product(x, y, z, product, error, minus_zero):
    """product + error + z, the product being x * y, rounded to odd."""
    bits = _three(z, product, error)
    sign = bits_of(x) ^ bits_of(y)
    bits = _signed_zero(bits, sign & bits_of(z), sign | bits_of(z), minus_zero)
    finite = _finite(x) & _finite(y)
    special = bits_of(z) if finite else bits_of(product + z)  # a finite product may have overflowed
    return bits if finite & _finite(z) else special


@njit(forceinline=True)
def _multiply_add(x, y, z, minus_zero):
    product = x * y
    bits = _sum_of_product(x, y, z, product, _fma(x, y, -product), minus_zero)
    size = abs(product)
    safe = ((size >= SMALLEST) & (size < LARGEST)) | (x == 0) | (y == 0)
    safe &= abs(z) < LARGEST
    again = not (safe | (not (_finite(x) & _finite(y) & _finite(z))))
    return _number(bits, again), again


@njit(forceinline=True)
def _add_three(x, y, z, minus_zero):
    high, low = _sum(y, z)
    bits = _three(x, high, low)
    a, b, c = bits_of(x), bits_of(y), bits_of(z)
    bits = _signed_zero(bits, a & b & c, a | b | c, minus_zero)
    finite = _finite(x) & _finite(y) & _finite(z)
    bits = bits if finite else bits_of(_special(x) + _special(y) + _special(z))
    again = (max(max(abs(x), abs(y)), abs(z)) >= LARGEST) & finite
    return _number(bits, again), again


@njit(forceinline=True, error_model="numpy")
def _operate(operation, x, y, z, minus_zero):
    """One operation on float64."""
    if operation == ADD:
        return _add(x, y, minus_zero)
    if operation == SUBTRACT:
        return _add(x, -y, minus_zero)
    if operation == MULTIPLY:
        return _multiply(x, y)
    if operation == DIVIDE:
        return _divide(x, y)
    if operation == SQRT:
        return _sqrt(x)
    if operation == FMA:
        return _multiply_add(x, y, z, minus_zero)
    return _add_three(x, y, z, minus_zero)


@njit(forceinline=True, error_model="numpy")
def _operate_narrow(operation, x, y, z, minus_zero):
    """One operation on float32, whose results in float64 are exact, or as good as (`_narrow`)."""
    a, b, c = np.float64(x), np.float64(y), np.float64(z)
    wide_minus_zero = np.uint64(minus_zero) << np.uint64(32)
    if operation == ADD:
        bits, _ = _add(x, y, minus_zero)
    elif operation == SUBTRACT:
        bits, _ = _add(x, -y, minus_zero)
    elif operation == MULTIPLY:
        bits = _narrow(a * b)
    elif operation == DIVIDE:
        bits = _narrow(a / b)
    elif operation == SQRT:
        bits = _narrow(math.sqrt(a))
    elif operation == FMA:
        wide, _ = _add(a * b, c, wide_minus_zero)  # the product is exact
        bits = _narrow(float_of(wide))
    else:
        wide, _ = _add_three(a, b, c, wide_minus_zero)
        bits = _narrow(float_of(wide))
    d = dtype_of(bits)
    size = like(bits & d.magnitude_mask, bits)
    finite = _finite(x) & (_finite(y) | (operation == SQRT)) & (_finite(z) | (operation < FMA))
    large = (size >= bits_of(NARROW_LARGEST)) & (size <= d.dtype_infinity)
    return bits, large & finite & ((operation != DIVIDE) | (y != 0))


@njit(forceinline=True, error_model="numpy")
def _operate_widened(operation, x, y, z, minus_zero):
    """One operation on float32 in float64, none of whose ends they come near."""
    bits, _ = _operate(operation, np.float64(x), np.float64(y), np.float64(z), minus_zero)
    return bits, False


def _one(operation, x, y, z, minus_zero):
    """One operation on floats of either width, to bits of that of `minus_zero`."""
    raise NotImplementedError  # jitted code only


@overload(_one, jit_options={"forceinline": True, "error_model": "numpy"})
def _one_overload(operation, x, y, z, minus_zero):
    if x == types.float32 and minus_zero == types.uint64:
        return lambda operation, x, y, z, minus_zero: _operate_widened(
            operation, x, y, z, minus_zero
        )
    if x == types.float32:
        return lambda operation, x, y, z, minus_zero: _operate_narrow(
            operation, x, y, z, minus_zero
        )
    return lambda operation, x, y, z, minus_zero: _operate(operation, x, y, z, minus_zero)


@njit(forceinline=True, error_model="numpy")
def _over(operation, x, y, z, out, minus_zero):
    """An operation on arrays; returns whether some results are to be done again."""
    again = like(0, minus_zero)
    for start in range(0, x.size, TILE):
        ask_for_tile(x, start + AHEAD)
        ask_for_tile(y, start + AHEAD)
        a, b, c = x[start : start + TILE], y[start : start + TILE], z[start : start + TILE]
        results = out[start : start + TILE]
        for i in range(results.size):
            bits, outside = _one(operation, a[i], b[i], c[i], minus_zero)
            results[i] = bits
            again = like(again | like(outside, again), again)
    return again != like(0, again)


def add(x, y, z, out, minus_zero):
    """Write the bits of x + y, rounded to odd; returns whether some are to be done again.

    All of these kernels take three arrays, of which they look at as many as they need.
    """
    return _over(ADD, x, y, z, out, minus_zero)


def subtract(x, y, z, out, minus_zero):
    """Write the bits of x - y; see `add`."""
    return _over(SUBTRACT, x, y, z, out, minus_zero)


def multiply(x, y, z, out, minus_zero):
    """Write the bits of x * y; see `add`."""
    return _over(MULTIPLY, x, y, z, out, minus_zero)


def divide(x, y, z, out, minus_zero):
    """Write the bits of x / y; see `add`."""
    return _over(DIVIDE, x, y, z, out, minus_zero)


def sqrt(x, y, z, out, minus_zero):
    """Write the bits of the square root of x; see `add`."""
    return _over(SQRT, x, y, z, out, minus_zero)


def fma(x, y, z, out, minus_zero):
    """Write the bits of x * y + z; see `add`."""
    return _over(FMA, x, y, z, out, minus_zero)


def faa(x, y, z, out, minus_zero):
    """Write the bits of x + y + z; see `add`."""
    return _over(FAA, x, y, z, out, minus_zero)


# Exactly, in integers ------------------------------------------------------------------------
#
# Sums of products are added up in fixed point, over all that products of float64 can reach
# (Kulisch): positive and negative terms each in LIMBS limbs of 64 bits, the first of which counts
# units of 2**UNIT. It is slow, right by construction, and rarely needed.

UNIT = -2176  # below 2 * -1074
LIMBS = 70  # up to 2**2304: products below 2**2048, and room to add up 2**255 of them


@njit
def _add_term(limbs, high, low, exponent):
    """Add (high * 2**64 + low) * 2**exponent to limbs."""
    place = exponent - UNIT
    k, shift = place >> 6, np.uint64(place & 63)
    parts = (low, high, np.uint64(0))
    if shift:
        spill = np.uint64(64) - shift
        parts = (low << shift, (high << shift) | (low >> spill), high >> spill)
    carry = np.uint64(0)
    for part in parts:
        total = limbs[k] + part
        more = total < part
        limbs[k] = total + carry
        carry = np.uint64(more or limbs[k] < carry)
        k += 1
    while carry:
        limbs[k] += carry
        carry = np.uint64(limbs[k] == 0)
        k += 1


@njit
def difference(positive, negative):
    """(high, low, exponent, negative) of what limbs come to; 0 as (0, 0, 0, False).

    Bits beyond the first 128 stand as a last bit that is set. Clears the limbs.
    """
    top = LIMBS - 1
    while top >= 0 and positive[top] == negative[top]:
        top -= 1
    if top < 0:
        positive[:] = np.uint64(0)
        negative[:] = np.uint64(0)
        return np.uint64(0), np.uint64(0), np.int64(0), False
    minus = positive[top] < negative[top]
    larger, smaller = (negative, positive) if minus else (positive, negative)
    borrow = np.uint64(0)
    first = np.int64(0)  # the highest limb of the difference that is not 0
    for k in range(top + 1):
        rest = larger[k] - smaller[k]
        under = larger[k] < smaller[k]
        larger[k] = rest - borrow
        borrow = np.uint64(under or rest < borrow)
        if larger[k]:
            first = k
    high = larger[first]
    low = larger[first - 1] if first >= 1 else np.uint64(0)
    next_limb = larger[first - 2] if first >= 2 else np.uint64(0)
    high, low, places = normalised(high, low)
    if places:
        low |= next_limb >> np.uint64(64 - places)
        next_limb <<= np.uint64(places)
    lost = next_limb != 0
    for k in range(first - 2):
        lost |= larger[k] != 0
    if lost:
        low |= np.uint64(1)
    positive[:] = np.uint64(0)
    negative[:] = np.uint64(0)
    return high, low, np.int64(UNIT + 64 * (first - 1) - places), minus


@njit
def _parts(x):
    """(significand, exponent of its last place) of a float64's magnitude."""
    return parts_of(np.float64(abs(x)).view(np.uint64), np.int64(52), np.int64(1023))


@njit
def _wide_product(a, b):
    """The 128-bit product of two integers below 2**54: (high, low)."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    a1, a0, b1, b0 = a >> half, a & mask, b >> half, b & mask
    low = a0 * b0
    middle = a1 * b0 + a0 * b1  # below 2**55
    total = low + (middle << half)
    return a1 * b1 + (middle >> half) + np.uint64(total < low), total


@njit
def add_product(positive, negative, x, y):
    """Add x * y to limbs."""
    a, exponent_a = _parts(x)
    b, exponent_b = _parts(y)
    high, low = _wide_product(a, b)
    minus = (x < 0) != (y < 0)
    _add_term(negative if minus else positive, high, low, exponent_a + exponent_b)


@njit
def _exact_quotient(x, y):
    """(high, low, exponent) of |x / y|, one bit at a time; a remainder sets the last bit."""
    a, exponent_a = _parts(x)
    b, exponent_b = _parts(y)
    shift = bit_length(b) - bit_length(a)
    if shift > 0:
        a <<= np.uint64(shift)
    else:
        b <<= np.uint64(-shift)
    high, low = np.uint64(0), np.uint64(0)
    for _ in range(128):  # a < 2 * b before every step
        high = (high << np.uint64(1)) | (low >> np.uint64(63))
        low <<= np.uint64(1)
        if a >= b:
            a -= b
            low |= np.uint64(1)
        a <<= np.uint64(1)
    if a:
        low |= np.uint64(1)
    return high, low, exponent_a - exponent_b - shift - 127


@njit
def _exact_root(x):
    """(high, low, exponent) of the square root of x > 0, one bit at a time, as of a quotient."""
    one = np.uint64(1)
    significand, exponent = _parts(x)
    shift = 53 - bit_length(significand)
    significand <<= np.uint64(shift)
    exponent -= shift
    if exponent & 1:
        significand <<= one
        exponent -= 1
    # The radicand's bits in pairs from the top of 64: the root has as many bits as pairs, and
    # the remainder stays below twice the root plus one.
    significand <<= np.uint64(8)  # at most 54 bits
    exponent -= 8
    root_high, root_low = np.uint64(0), np.uint64(0)
    rest_high, rest_low = np.uint64(0), np.uint64(0)
    steps = 120
    for _ in range(steps):
        rest_high = (rest_high << np.uint64(2)) | (rest_low >> np.uint64(62))
        rest_low = (rest_low << np.uint64(2)) | (significand >> np.uint64(62))
        significand <<= np.uint64(2)
        trial_high = (root_high << np.uint64(2)) | (root_low >> np.uint64(62))
        trial_low = (root_low << np.uint64(2)) | one
        root_high = (root_high << one) | (root_low >> np.uint64(63))
        root_low <<= one
        if rest_high > trial_high or (rest_high == trial_high and rest_low >= trial_low):
            rest_high -= trial_high + np.uint64(rest_low < trial_low)
            rest_low -= trial_low
            root_low |= one
    if rest_high or rest_low:
        root_low |= one
    # 32 pairs are the radicand's own; every further one is another bit of fraction.
    return root_high, root_low, exponent // 2 - (steps - 32)


def operate_exactly(
    operation, x, y, z, bits, out, flags, lane, scalar, given, key, offset, everything
):
    """Round exact results to `out`, where `bits` are not good enough.

    With `everything`, these are all that have an odd last bit: those that are not exact. Writes
    flags where there is room for any.
    """
    c, s = lane_of(lane), scalar_of(scalar)
    positive, negative = np.zeros(LIMBS, np.uint64), np.zeros(LIMBS, np.uint64)
    for i in range(bits.size):
        _, outside = _one(operation, x[i], y[i], z[i], c.zero)
        if not (outside or (everything and bits[i] & c.one)):
            continue
        if (bits[i] & c.magnitude_mask) >= c.dtype_infinity and not outside:
            continue
        a, b, d = np.float64(x[i]), np.float64(y[i]), np.float64(z[i])
        minus = False
        if operation == DIVIDE:
            high, low, exponent = _exact_quotient(a, b)
            minus = (a < 0) != (b < 0)
        elif operation == SQRT:
            high, low, exponent = _exact_root(a)
        else:
            if operation in (MULTIPLY, FMA):
                add_product(positive, negative, a, b)
            else:
                add_product(positive, negative, a, 1.0)
                add_product(positive, negative, b, -1.0 if operation == SUBTRACT else 1.0)
            if operation in (FMA, FAA):
                add_product(positive, negative, d, 1.0)
            high, low, exponent, minus = difference(positive, negative)
            if high == 0:
                continue  # a zero, whose sign is right
        word = np.uint64(0)
        if s.mode == STOCHASTIC:
            word = given[i] if given.size else word_at(offset + np.uint64(i), key)
        place, inexact, tiny = round_exact(high, low, exponent, minus, s, word)
        out[i] = stored(result_of(place, minus, c, s), out, s.codes, c)
        if flags.size:
            flags[i] = flags_of(place, inexact, tiny, minus, s)
        # What comes later looks at the sign of the exact result.
        bits[i] = left(c.one, c.top) | c.one if minus else c.one


def operation_flags(operation, x, y, z, bits, flags):
    """Add to `flags` what the operands raise: invalid and divide-by-zero."""
    for i in range(bits.size):
        a = x[i]
        b = a if operation == SQRT else y[i]
        d = z[i] if operation >= FMA else a
        nan = a != a or b != b or d != d
        result = float_of(bits[i])
        infinite_times_zero = operation == FMA and (
            (a == 0 and abs(b) == np.inf) or (b == 0 and abs(a) == np.inf)
        )
        if (
            _signals(a)
            or _signals(b)
            or _signals(d)
            or infinite_times_zero
            or (result != result and not nan)
        ):
            flags[i] |= INVALID
        elif operation == DIVIDE and b == 0 and a != 0 and abs(a) < np.inf:
            flags[i] |= DIVIDE_BY_ZERO


@njit
def _signals(x):
    bits = bits_of(x)
    d = dtype_of(bits)
    quiet = left(d.one, like(d.significand_bits - d.one, bits))
    return x != x and (bits & quiet) == d.zero
