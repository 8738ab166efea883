"""NaN and infinities in gradients: what to do with them, and finding them.

Imports arguments, inputs, threads, kernels, dask.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim import kernels
from fpsim.arguments import choice
from fpsim.inputs import F32, F64, chunks, is_dask, real_array
from fpsim.kernels.statistics import largest_magnitude
from fpsim.threads import over_chunks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class NonFinite(StrEnum):
    """What becomes of NaN and infinities."""

    raise_ = "raise"  # an error, which says how many and where the first is
    propagate = "propagate"  # they stay as they are
    skip = "skip"  # they count as zero


def rule_for_codes(nonfinite: Any) -> NonFinite:
    """The rule of that name, where results are codes."""
    rule = choice("nonfinite", nonfinite, NonFinite)
    if rule is NonFinite.propagate:
        raise ValueError(
            "nonfinite='propagate' is not possible in codes, which have no NaN or infinity; give "
            "'raise' or 'skip'"
        )
    return rule


def nonfinite_error(x: NDArray[Any]) -> ValueError:
    """The error that `NonFinite.raise_` stands for."""
    bad = ~np.isfinite(x)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), x.shape))
    return ValueError(
        f"x has {np.count_nonzero(bad)} NaN or infinite elements, the first at index {index}; "
        "replace them (numpy.nan_to_num), or give nonfinite='skip' (they count as zero) or "
        "'propagate'"
    )


def settle(values: NDArray[Any], results: NDArray[Any], rule: NonFinite) -> int:
    """Put in what the rule makes of NaN and infinities in `values`; returns how many there are."""
    bad = ~np.isfinite(values)
    results[bad] = values[bad] if rule is NonFinite.propagate else 0
    return int(np.count_nonzero(bad))


def extremes(x: ArrayLike, rule: NonFinite) -> tuple[float, int]:
    """(the largest finite magnitude, how many elements are not finite); raises as the rule says."""
    if is_dask(x):
        from fpsim.dask import reduce_chunks

        largest, bad = reduce_chunks(extremes, x, _of_both, rule=rule)
        return largest, bad
    array, own = real_array("x", x)
    largest, bad = _extremes(array, F64 if own == F64 else F32)
    if bad and rule is NonFinite.raise_:
        raise nonfinite_error(array)
    return largest, bad


def _of_both(one: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
    return max(one[0], other[0]), one[1] + other[1]


def _extremes(x: NDArray[Any], lanes: np.dtype[Any]) -> tuple[float, int]:
    uint = np.dtype(np.uint64 if lanes.itemsize == 8 else np.uint32)
    mask = uint.type((1 << (8 * uint.itemsize - 1)) - 1)
    infinity = int(np.array(np.inf, lanes).view(uint))
    kernel = kernels.compiled(largest_magnitude, uint, uint)
    found: list[tuple[int, int]] = []

    def work(start: int, stop: int) -> None:
        for (values,), _ in chunks([(x, lanes)], start, stop):
            top, bad = int(kernel(values.view(uint), mask)), 0
            if top >= infinity:  # rare: look again, without them
                finite = np.isfinite(values)
                bad = int(values.size - np.count_nonzero(finite))
                clean = np.where(finite, values, lanes.type(0))
                top = int(kernel(clean.view(uint), mask))
            found.append((top, bad))

    over_chunks(x.size, work)
    bits = max((top for top, _ in found), default=0)
    return float(np.array(bits, uint).view(lanes)), sum(bad for _, bad in found)
