"""N:M sparsity: unbiased masks of minimum variance, their baselines, and packing.

Imports arguments, inputs, stream, threads, kernels, analysis, nonfinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from fpsim import kernels
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.sketch import Sketch
from fpsim.arguments import boolean, choice, integer, shown
from fpsim.gradients.nonfinite import NonFinite, nonfinite_error
from fpsim.inputs import F32, F64, chunks, real_array
from fpsim.kernels import nm as loops
from fpsim.stream import Stream
from fpsim.threads import CHUNK, over_chunks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_MOST = 1 << 16


class Method(StrEnum):
    """How the N of every M elements are chosen."""

    mvue = "mvue"  # unbiased, of the smallest variance there is
    approximate = "approximate"  # 2:4, unbiased: two drawn one after the other, by magnitude
    top = "top"  # the largest N as they are: smallest squared error, and biased


def nm_sparsify(
    x: ArrayLike,
    n: int,
    m: int,
    axis: int = -1,
    rng: Any = None,
    *,
    method: Method | str = "mvue",
    pad: bool = False,
    nonfinite: NonFinite | str = "raise",
) -> Any:
    """Keep at most N of every M elements along an axis, without bias and with least variance.

    With ``p_i = min(1, |a_i| / tau)`` and tau such that they sum to N, element i of a block is
    kept with probability p_i, as ``a_i / p_i``: as it is or with magnitude tau. By Cauchy-Schwarz
    no unbiased choice has less variance (derived; for 1:2 that of arXiv 2203.10991). Which ones
    are kept is decided by systematic sampling with one random number a block.

    Parameters
    ----------
    x : array_like
        Real numbers of one dimension or more, as `fpsim.round` takes them.
    n, m : int
        1 <= n <= m.
    axis : int
        Along which M consecutive elements make a block.
    rng : int, Generator, Stream or None
        Block b uses word ``offset + b`` of the `Stream`; blocks count in C order of the array with
        `axis` moved to the end. Padded blocks count after all others. The approximate method also
        uses word ``offset + b + 2**48``; ``'top'`` none.
    method : {'mvue', 'approximate', 'top'}
        See `Method`.
    pad : bool
        Treat x as if zeros followed along the axis up to a multiple of m.
    nonfinite : {'raise', 'propagate', 'skip'}
        See `NonFinite`; of a block where they propagate, its first N of them are all that stays.

    Returns
    -------
    array of x's shape and dtype (float64 for integers and lists)

    Raises
    ------
    ValueError
        Where m does not divide the axis, for NaN or infinities, and where tau leaves the range of
        the dtype.

    Notes
    -----
    tau is rounded up to the dtype, and the probabilities are those of the rounded tau: the mean is
    exact up to 2**-49 of the sum of the block's magnitudes. (Dtypes narrower than float32 get
    float32's results rounded to nearest, which may shift the mean by half an ulp.) Blocks of at
    most N nonzero elements stay as they are.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.nm_sparsify([1.0, 8.0, -1.0, 2.0, 0.0, 0.0, 0.0, 5.0], 2, 4, rng=1)
    array([0., 8., 0., 4., 0., 0., 0., 5.])
    """
    n, m = _pattern(n, m)
    how = choice("method", method, Method)
    if how is Method.approximate and (n, m) != (2, 4):
        raise ValueError(
            f"method='approximate' with n={n}, m={m}: it is for 2:4 alone; use method='mvue'"
        )
    rule = choice("nonfinite", nonfinite, NonFinite)
    array, own = real_array("x", x)
    moved, whole = _along(array, m, axis, boolean("pad", pad))
    stream = Stream.of(0 if how is Method.top and rng is None else rng)
    out = np.empty(array.shape, own)
    target = np.moveaxis(out, axis, -1)
    run = _Run(n, m, how, F64 if own == F64 else F32, stream)
    run(moved[..., :whole], target[..., :whole], 0)
    if whole < moved.shape[-1]:
        tail = np.zeros((*moved.shape[:-1], m), own)
        used = moved.shape[-1] - whole
        tail[..., :used] = moved[..., whole:]
        result = np.zeros_like(tail)
        run(tail, result, moved[..., :whole].size // m)
        target[..., whole:] = result[..., :used]
    if run.bad and rule is NonFinite.raise_:
        raise nonfinite_error(array)
    if run.overflows:
        raise ValueError(
            f"x has {run.overflows} blocks whose elements, to stay unbiased, would leave the range "
            f"of {own}; scale x down, or convert it to a wider dtype"
        )
    if run.bad:
        finite = np.isfinite(array)
        clean = np.where(finite, array, own.type(0))
        out = nm_sparsify(clean, n, m, axis, stream, method=how, pad=pad)
        if rule is NonFinite.propagate:
            _propagate(moved, np.moveaxis(out, axis, -1), n, m)
    return out


def _propagate(moved: NDArray[Any], target: NDArray[Any], n: int, m: int) -> None:
    """In blocks with NaN or infinities let the first N of those be all that is left."""
    for row in np.ndindex(moved.shape[:-1]):
        source = moved[row]
        bad = ~np.isfinite(source)
        for block in np.unique(np.flatnonzero(bad) // m):
            places = slice(block * m, (block + 1) * m)
            stays = bad[places] & (np.cumsum(bad[places]) <= n)
            target[row][places] = np.where(stays, source[places], source.dtype.type(0))


class _Run:
    """A kernel over blocks, and what it met."""

    def __init__(
        self, n: int, m: int, method: Method, lanes: np.dtype[Any], stream: Stream
    ) -> None:
        fast = {(1, 2): loops.nm_1_2, (2, 4): loops.nm_2_4}.get((n, m))
        self.numbers: tuple[Any, ...] = (n, m)
        if method is Method.mvue:
            kernel: Any = fast or loops.nm_any
            self.numbers = () if fast else (n, m)
        else:
            kernel = loops.nm_top if method is Method.top else loops.nm_approximate
        self.kernel = kernels.compiled(kernel, lanes, lanes)
        self.m, self.lanes, self.stream = m, lanes, stream
        self.bad = self.overflows = 0

    def __call__(self, source: NDArray[Any], target: NDArray[Any], first: int) -> None:
        """Do whole blocks along the last axis; they count from `first` on."""
        m, found = self.m, []
        direct = all(a.flags.c_contiguous and a.dtype == self.lanes for a in (source, target))

        def work(start: int, stop: int) -> None:
            if direct:
                values = source.reshape(-1)[start:stop]
                results = target.reshape(-1)[start:stop]
            else:  # blocks must be whole and contiguous, which NumPy's buffers need not be
                values = np.empty(stop - start, self.lanes)
                results = np.empty(stop - start, self.lanes)
                for (piece,), index in chunks([(source, self.lanes)], start, stop):
                    values[index - start : index - start + piece.size] = piece
            index = (self.stream.offset + first + start // m) % (1 << 64)
            key = np.uint64(self.stream.seed)
            found.append(self.kernel(values, results, *self.numbers, key, np.uint64(index)))
            if not direct:
                for (piece,), index in chunks([(target, self.lanes)], start, stop, read=0):
                    piece[:] = results[index - start : index - start + piece.size]

        over_chunks(source.size, work, chunk=m * max(CHUNK // m, 1))
        self.bad += sum(bad for bad, _ in found)
        self.overflows += sum(overflows for _, overflows in found)


def _pattern(n: Any, m: Any) -> tuple[int, int]:
    m = integer("m", m, 1, _MOST, f"give the size of a block, 1 to {_MOST}")
    return integer("n", n, 1, m, f"give how many of every m={m} elements to keep, 1 to {m}"), m


def _along(array: NDArray[Any], m: int, axis: Any, pad: bool) -> tuple[NDArray[Any], int]:
    """(the array with the axis at its end, how far its whole blocks go)."""
    if array.ndim == 0:
        raise ValueError("x has no axis to sparsify along; give an array of 1 dimension or more")
    remedy = f"give an axis of x, {-array.ndim} to {array.ndim - 1}"
    axis = integer("axis", axis, -array.ndim, array.ndim - 1, remedy)
    length = array.shape[axis]
    if length % m and not pad:
        raise ValueError(
            f"axis={axis} of x has length {length}, which m={m} does not divide; give pad=True to "
            f"treat it as if {-length % m} zeros followed, or pad it yourself (numpy.pad)"
        )
    return np.moveaxis(array, axis, -1), length - length % m


# What to expect -----------------------------------------------------------------------------------


def nm_variance(
    x: ArrayLike,
    n: int,
    m: int,
    axis: int = -1,
    method: Method | str = "mvue",
    *,
    pad: bool = False,
) -> Any:
    """The expected squared error of `nm_sparsify` in every block.

    With the k kept surely and ``R`` the sum of the other magnitudes, ``tau = R / (N - k)`` and the
    variance is the sum of ``|a_i| (tau - |a_i|)`` over the others (derived).

    Parameters
    ----------
    x, n, m, axis, pad
        As for `nm_sparsify`; finite.
    method : {'mvue', 'approximate', 'top'}
        For ``'top'`` it is no variance but the sum of the squares of what is dropped.

    Returns
    -------
    float64 array of x's shape with `axis` as long as there are blocks

    Examples
    --------
    >>> import fpsim
    >>> fpsim.nm_variance([1.0, 3.0, -2.0, 2.0], 1, 2)
    array([6., 8.])
    """
    n, m = _pattern(n, m)
    how = choice("method", method, Method)
    if how is Method.approximate and (n, m) != (2, 4):
        raise ValueError(
            f"method='approximate' with n={n}, m={m}: it is for 2:4 alone; use method='mvue'"
        )
    array, _ = real_array("x", x)
    if not np.isfinite(array).all():
        raise ValueError("x has NaN or infinite elements; replace them first (numpy.nan_to_num)")
    moved, _ = _along(array, m, axis, boolean("pad", pad))
    blocks = np.zeros((*moved.shape[:-1], -(-moved.shape[-1] // m) * m))
    blocks[..., : moved.shape[-1]] = np.abs(moved.astype(np.float64))
    blocks = np.sort(blocks.reshape(*moved.shape[:-1], -1, m), axis=-1)  # ascending
    if how is Method.top:
        result = np.sum(blocks[..., : m - n] ** 2, axis=-1)
    elif how is Method.approximate:
        result = _approximate_variance(blocks)
    else:
        sums = np.cumsum(blocks, axis=-1)
        result = np.zeros(blocks.shape[:-1])
        open_ = np.ones(blocks.shape[:-1], bool)
        for k in range(n):
            rest, largest = sums[..., m - 1 - k], blocks[..., m - 1 - k]
            here = open_ & (largest * (n - k) <= rest)
            open_ &= ~here
            tau = (rest / (n - k))[..., None]
            others = blocks[..., : m - k]
            spread = np.sum(others * np.maximum(tau - others, 0), axis=-1)
            result = np.where(here, spread, result)
    return np.moveaxis(result, -1, axis)


def _approximate_variance(a: NDArray[np.float64]) -> Any:
    """Sum of a_i**2 (1 - p_i) / p_i, with 1 - p_i as a sum of positive terms."""
    result = np.zeros(a.shape[:-1])
    total = a.sum(axis=-1)
    exact = np.count_nonzero(a, axis=-1) <= 2
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(4):
            kept, lost = a[..., i] / total, np.zeros(a.shape[:-1])
            for j in range(4):
                if j == i:
                    continue
                rest = sum(a[..., o] for o in range(4) if o != j)
                both = sum(a[..., o] for o in range(4) if o not in (i, j))
                kept = kept + a[..., i] / total * a[..., j] / rest
                lost = lost + a[..., j] / total * both / rest
            result += np.where(exact | (a[..., i] == 0), 0.0, a[..., i] ** 2 * lost / kept)
    return result


def expected_nm_nmse(source: Lognormal | Sketch | str) -> float:
    """Expected squared error of 1:2 sparsity over the sum of squares, independent elements.

    ``E[2 |a b|] / E[a**2 + b**2] = (E|x|)**2 / E[x**2]`` (derived): ``exp(-sigma**2)`` for a
    lognormal, times the share that is not zero; ``2 / pi`` for a normal, 1/2 for a Laplace.

    Parameters
    ----------
    source : Lognormal, Sketch, 'normal' or 'laplace'

    Examples
    --------
    >>> import fpsim
    >>> round(fpsim.expected_nm_nmse(fpsim.Lognormal(0.0, 1.0)), 4)
    0.3679
    """
    if isinstance(source, Lognormal):
        return (1 - source.zero_fraction) * math.exp(-(source.sigma**2))
    if isinstance(source, Sketch):
        if not source.nonzero:
            raise ValueError("source has no finite nonzero element; sketch data with at least one")
        reference = int(source.exponents[-1])
        mean = float(source.power_sums(1, reference).sum())
        square = float(source.power_sums(2, reference).sum())
        return mean**2 / square / (source.nonzero + source.zeros)
    if isinstance(source, str) and source in ("normal", "laplace"):
        return 2 / math.pi if source == "normal" else 0.5
    raise ValueError(
        f"source={shown(source)} is not known; give a Lognormal, a Sketch, 'normal' or 'laplace'"
    )


# Packing ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PackedNM:
    """N:M sparse data as hardware takes them.

    Attributes
    ----------
    values : array
        x's shape with ``axis`` of length blocks * n: the kept elements, in order.
    metadata : uint8 array
        Shape of x without `axis`, then bytes: the places of the kept elements in their blocks,
        ascending, packed from the low bits up, each row of blocks filled up to a byte. For 2:4 two
        bits a place, which is what NVIDIA's sparse tensor cores take; for 1:2 four bits a block,
        0b0100 for the first element and 0b1110 for the second, as for their 32-bit types; for
        others the fewest bits that hold m - 1.
    n, m, axis, length : int
        `length` is that of x along the axis.
    """

    values: NDArray[Any]
    metadata: NDArray[np.uint8]
    n: int
    m: int
    axis: int
    length: int


def _place_bits(n: int, m: int) -> int:
    return 4 if (n, m) == (1, 2) else max((m - 1).bit_length(), 1)


def nm_pack(x: ArrayLike, n: int, m: int, axis: int = -1) -> PackedNM:
    """Pack data with at most N nonzero elements in every block of M.

    Blocks with fewer are filled up with their first zeros.

    Raises
    ------
    ValueError
        Where m does not divide the axis, and where a block has more than N.

    Examples
    --------
    >>> import fpsim
    >>> packed = fpsim.nm_pack([0.0, 8.0, 0.0, 4.0, 0.0, 0.0, 0.0, 5.0], 2, 4)
    >>> packed.values, packed.metadata  # places 1, 3 and 0, 3, two bits each
    (array([8., 4., 0., 5.]), array([205], dtype=uint8))
    """
    n, m = _pattern(n, m)
    array, own = real_array("x", x)
    moved, _ = _along(array, m, axis, False)
    blocks = np.ascontiguousarray(moved, own).reshape(*moved.shape[:-1], -1, m)
    occupied = blocks != 0
    crowded = np.count_nonzero(occupied, axis=-1) > n
    if crowded.any():
        raise ValueError(
            f"x has {np.count_nonzero(crowded)} blocks with more than n={n} nonzero elements of "
            f"m={m}; make it sparse first (fpsim.nm_sparsify)"
        )
    places = np.sort(np.argsort(~occupied, axis=-1, kind="stable")[..., :n], axis=-1)
    values = np.take_along_axis(blocks, places, -1).reshape(*moved.shape[:-1], -1)
    bits = _place_bits(n, m)
    fields = np.where(places == 0, 0b0100, 0b1110) if (n, m) == (1, 2) else places
    flat = ((fields[..., None] >> np.arange(bits)) & 1).astype(np.uint8)
    flat = flat.reshape(*moved.shape[:-1], -1)
    metadata = np.packbits(flat, axis=-1, bitorder="little")
    return PackedNM(np.moveaxis(values, -1, axis), metadata, n, m, axis, array.shape[axis])


def nm_unpack(packed: PackedNM) -> Any:
    """The dense data that `nm_pack` packed; zeros are positive.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.nm_unpack(fpsim.nm_pack([0.0, 8.0, 4.0, 0.0], 2, 4))
    array([0., 8., 4., 0.])
    """
    if not isinstance(packed, PackedNM):
        raise TypeError(
            f"packed is of type {type(packed).__name__}; give what fpsim.nm_pack returns"
        )
    n, m = packed.n, packed.m
    bits, blocks = _place_bits(n, m), packed.length // m
    moved = np.moveaxis(packed.values, packed.axis, -1)
    flat = np.unpackbits(packed.metadata, axis=-1, bitorder="little", count=blocks * n * bits)
    shape = (*moved.shape[:-1], blocks, n)
    places = flat.reshape(*shape, bits).astype(np.int64) @ (1 << np.arange(bits))
    if (n, m) == (1, 2):
        places = places >> 3
    dense = np.zeros((*moved.shape[:-1], blocks, m), moved.dtype)
    np.put_along_axis(dense, places, moved.reshape(shape), -1)
    return np.moveaxis(dense.reshape(*moved.shape[:-1], packed.length), -1, packed.axis)
