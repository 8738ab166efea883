"""How wrong a sum is: errors in ulps, and of dot products beside what theory promises.

Imports arguments, accumulate, accumulator, format, catalog, rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fpsim.accumulate import dot, matmul
from fpsim.accumulator import Accumulator, Carry, Order
from fpsim.arguments import real
from fpsim.catalog import parse
from fpsim.format import Format
from fpsim.inputs import real_array
from fpsim.rounding import Rounding, Stochastic

_BINARY64 = Format(11, 52)
_NEAREST = (Rounding.ties_to_even, Rounding.ties_to_away, Rounding.ties_to_zero)


def ulp_error(computed: ArrayLike, exact: ArrayLike, fmt: Any) -> Any:
    """Distance of computed from exact values, in units of the last place at the exact ones.

    Parameters
    ----------
    computed, exact : array_like
        Real numbers that float64 holds; they broadcast.
    fmt : Format, str or dtype
        The format whose `Format.ulp` is the unit.

    Returns
    -------
    float64 scalar or array
        0 or more; infinite where one of the two alone is infinite, or both are with opposite signs;
        NaN where exactly one is NaN, 0 where both are. Up to two roundings in float64.

    Examples
    --------
    >>> import fpsim
    >>> float(fpsim.ulp_error(fpsim.round(0.3, "float8_e4m3fn"), 0.3, "float8_e4m3fn"))
    0.40000000000000036
    """
    fmt = parse(fmt)
    x, y = (
        real_array(name, value)[0].astype(np.float64)
        for name, value in (("computed", computed), ("exact", exact))
    )
    try:
        x, y = np.broadcast_arrays(x, y)
    except ValueError:
        raise ValueError(
            f"computed {x.shape} and exact {y.shape} do not broadcast; give shapes that agree, or "
            "are 1"
        ) from None
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(x - y) / fmt.ulp(y)
    error = np.where(np.isinf(x) ^ np.isinf(y), np.inf, error)
    error = np.where(np.isnan(x) ^ np.isnan(y), np.nan, error)
    return np.where(same, 0.0, error)[()]


@dataclass(frozen=True, eq=False)
class DotError:
    """Dot products, how wrong they are, and how wrong they can be.

    Attributes
    ----------
    result : array
        What `fpsim.dot` or `fpsim.matmul` gives.
    exact : float64 array
        The sum without error, rounded once to float64.
    error : float64 array
        ``|result - exact|``. For formats near float64's own precision it says little.
    magnitude : float64 array
        ``sum |a_i b_i| + |c|``, which errors of sums are measured by.
    deterministic : float64 array
        A bound on `error`: ``gamma * magnitude`` and what underflow may add.
    probabilistic : float64 array
        A bound that holds with `probability`; NaN for roundings that have a direction.
    gamma : float
        ``t / (1 - t)`` with t the sum of the unit roundoffs of all roundings between a term and
        the result: ``n u / (1 - n u)`` for n equal ones (Higham, Accuracy and Stability of
        Numerical Algorithms, section 3.1); infinite for t >= 1.
    root_gamma : float
        ``exp((l r + r**2) / (1 - u)) - 1`` with r the square root of the sum of their squares,
        ``sqrt(n) u`` for n equal ones, and ``l = sqrt(2 ln(2 n / (1 - probability))) / (1 - u)``
        (Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci.
        Comput. 41, 2019). For rounding to nearest this rests on the model that errors are random,
        independent and of mean zero; for stochastic rounding they are (Connolly, Higham and Mary,
        2021).
    probability : float

    Examples
    --------
    >>> import fpsim
    >>> found = fpsim.dot_error([1.0] * 9, [0.1] * 9, fpsim.Accumulator("binary16"))
    >>> bool(0 < found.error < found.deterministic), round(found.gamma * 2**11, 2)
    (True, 9.04)
    """

    result: Any
    exact: Any
    error: Any
    magnitude: Any
    deterministic: Any
    probabilistic: Any
    gamma: float
    root_gamma: float
    probability: float


def dot_error(
    a: ArrayLike,
    b: ArrayLike,
    accumulator: Accumulator,
    c: ArrayLike | None = None,
    *,
    rng: Any = None,
    probability: float = 0.99,
) -> DotError:
    """Dot products over the last axis, with their errors and bounds on them.

    Bounds are infinite where a sum may pass the range. Those of sequential, pairwise, blocked and
    exact sums follow Higham's, chapters 3 and 4; those of aligned terms count what each may lose
    (derived). For ``order='kahan'``, whose bound ``2 u + O(n u**2)`` has no proved constant, they
    are NaN.

    Parameters
    ----------
    a, b, accumulator, c, rng
        As for `fpsim.dot`.
    probability : float
        With which the probabilistic bound is to hold, above 0 and below 1.

    Returns
    -------
    DotError

    Examples
    --------
    >>> import fpsim
    >>> import numpy as np
    >>> a = np.random.default_rng(0).standard_normal((100, 256)).astype(np.float16)
    >>> found = fpsim.dot_error(a, a[::-1], fpsim.Accumulator("bfloat16"))
    >>> worst = [float(np.max(bound / found.magnitude))
    ...          for bound in (found.error, found.probabilistic, found.deterministic)]
    >>> print("measured {:.2f}, probable {:.2f}, certain {:.2f}".format(*worst))
    measured 0.01, probable 0.35, certain inf
    """
    return _report(dot, a, b, accumulator, c, rng, probability)


def matmul_error(
    a: ArrayLike,
    b: ArrayLike,
    accumulator: Accumulator,
    c: ArrayLike | None = None,
    *,
    rng: Any = None,
    probability: float = 0.99,
) -> DotError:
    """Matrix products with their errors and bounds on them; see `dot_error`.

    Parameters
    ----------
    a, b, accumulator, c, rng
        As for `fpsim.matmul`.
    probability : float
        As for `dot_error`, for each element.

    Returns
    -------
    DotError

    Examples
    --------
    >>> import fpsim
    >>> import numpy as np
    >>> found = fpsim.matmul_error(np.eye(3), np.eye(3), fpsim.Accumulator("float8_e4m3fn"))
    >>> float(found.error.max()), round(found.gamma, 3)
    (0.0, 0.231)
    """
    return _report(matmul, a, b, accumulator, c, rng, probability)


def _report(
    product: Callable[..., Any],
    a: ArrayLike,
    b: ArrayLike,
    accumulator: Accumulator,
    c: ArrayLike | None,
    rng: Any,
    probability: Any,
) -> DotError:
    probability = real("probability", probability, "above 0 and below 1", lambda p: 0 < p < 1)
    result = product(a, b, accumulator, c, rng=rng)
    exact = product(a, b, Accumulator(_BINARY64, order=Order.exact), c)
    sizes = [np.abs(real_array(name, v)[0].astype(np.float64)) for name, v in (("a", a), ("b", b))]
    start = None if c is None else np.abs(real_array("c", c)[0].astype(np.float64))
    up = Accumulator(_BINARY64, order=Order.exact, rounding=Rounding.toward_positive)
    magnitude = product(*sizes, up, start)
    steps = _Steps(accumulator, sizes[0].shape[-1])
    normalised, first = magnitude, start
    if accumulator.alignment_bits is not None and accumulator.operands is not None:
        # Subnormal factors are aligned as if they were the smallest normal value.
        least = float(accumulator.operands.min_normal)
        normalised = product(*(np.where(x > 0, np.maximum(x, least), 0) for x in sizes), up, first)
    gamma, root = steps.gamma(), steps.root_gamma(probability)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(result == exact, 0.0, np.abs(result - exact))
        deterministic, probabilistic = (steps.bound(g, normalised) for g in (gamma, root))
    return DotError(
        result, exact, error[()], magnitude, deterministic, probabilistic, gamma, root, probability
    )


class _Steps:
    """The roundings between a term of a dot product and its result."""

    def __init__(self, accumulator: Accumulator, depth: int) -> None:
        self.accumulator = accumulator
        self.units: list[tuple[int, float]] = []  # (how many roundings, their unit roundoff)
        self.lost = 0.0  # by underflow, at most, in all
        self.reach = float(accumulator.fmt.max)  # no sum passes it
        rounding = accumulator.rounding
        self.nearest = rounding in _NEAREST
        self.unbiased = self.nearest or isinstance(rounding, Stochastic)
        self.known = True
        fmt, inner = accumulator.fmt, accumulator.block_fmt or accumulator.fmt
        block = min(accumulator.block or depth, max(depth, 1))
        blocks = -(-depth // max(block, 1))
        if accumulator.alignment_bits is not None:
            self._aligned(block, blocks, fmt, inner)
            return
        if accumulator.order is Order.exact:
            self._add(blocks, blocks, fmt)
            return
        if accumulator.product is not None:
            self._add(1, depth, accumulator.product)
        if accumulator.order is Order.blocked:
            self._sum(accumulator.block_order, block, depth, inner)
            self._add(blocks, blocks, fmt)
        else:
            self._sum(accumulator.order, depth, depth, fmt)
            if accumulator.order is Order.pairwise:
                self._add(1, 1, fmt)  # c

    def _add(self, on_the_way: int, in_all: int, fmt: Format) -> None:
        self.units.append((on_the_way, float(fmt.eps) / (2 if self.nearest else 1)))
        self.reach = min(self.reach, float(fmt.max))
        if self.accumulator.flush_subnormals:
            least = float(fmt.min_normal)
        else:
            least = float(fmt.smallest) / (2 if self.nearest else 1)
        self.lost += in_all * least

    def _sum(self, order: Order, terms: int, in_all: int, fmt: Format) -> None:
        if order is Order.kahan:
            self.known = False
        if order is Order.pairwise:
            products = self.accumulator.product is None
            levels = max(terms - 1, 0).bit_length()
            self._add(levels + products, in_all * (1 + products), fmt)
        else:
            self._add(terms, in_all, fmt)

    def _aligned(self, block: int, blocks: int, fmt: Format, inner: Format) -> None:
        accumulator = self.accumulator
        cut = 2.0 ** -(accumulator.alignment_bits or 0)
        if accumulator.alignment is Rounding.ties_to_even:
            cut /= 2
        else:
            self.unbiased = False
        terms = block
        if accumulator.carry is Carry.joins:
            terms = block + 1
            self.units.append((blocks, terms * cut))
        elif accumulator.carry is Carry.after:
            self.units.append((1, terms * cut))
            self._add(1, blocks, inner)
        else:
            self.unbiased = False
            floor = 2.0 ** -(accumulator.alignment_bits or 0)
            self.units += [(1, terms * cut + 2 * floor), (blocks, 2 * floor)]
            terms = block + 4
        self._add(blocks, blocks, fmt)
        # Nothing is aligned below the smallest normal sum.
        self.lost += blocks * terms * cut * float(fmt.min_normal)

    def gamma(self) -> float:
        total = sum(n * u for n, u in self.units)
        if not self.known:
            return math.nan
        return total / (1 - total) if total < 1 else math.inf

    def bound(self, gamma: float, magnitude: Any) -> Any:
        """What a sum of terms of this magnitude is wrong by at most."""
        if math.isnan(gamma):
            return np.full(np.shape(magnitude), np.nan)[()]
        wrong = gamma * magnitude + (1 + gamma) * self.lost
        return np.where(magnitude + wrong <= self.reach, wrong, np.inf)[()]

    def root_gamma(self, probability: float) -> float:
        if not (self.known and self.unbiased):
            return math.nan
        count = max(sum(n for n, _ in self.units), 1)
        square = sum(n * u * u for n, u in self.units)
        largest = max((u for _, u in self.units), default=0.0)
        if largest >= 1:
            return math.inf
        spread = math.sqrt(2 * math.log(2 * count / (1 - probability))) / (1 - largest)
        exponent = (spread * math.sqrt(square) + square) / (1 - largest)
        return math.expm1(exponent) if exponent < 700 else math.inf
