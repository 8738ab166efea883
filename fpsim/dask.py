"""Dask arrays: functions of arrays on every chunk, and reductions of all chunks to one object.

Imports stream, threads. It needs the extra dask: functions import it once they were given what
`fpsim.inputs.is_dask` recognises.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from typing import Any

import dask.array as da
import numpy as np
from dask.callbacks import Callback
from numpy.typing import NDArray

from fpsim.stream import Stream
from fpsim.threads import alone


def map_chunks(
    function: Callable[..., Any], x: Any, stream: Stream | None = None, **arguments: Any
) -> Any:
    """``function(x, **arguments)``, lazily: each chunk on the thread that dask gives it.

    The function is elementwise and gives arrays of the same shape. It is `tried` at once. Where
    there is a stream, it gets a stream as ``rng``, by which chunks draw the bits that they draw
    within the whole.
    """
    sample = tried(function, x, stream, **arguments)
    return _blocks(function, x, stream, arguments, np.empty((0,) * x.ndim, sample.dtype))


def reduce_chunks(
    function: Callable[..., Any],
    x: Any,
    merge: Callable[[Any, Any], Any],
    stream: Stream | None = None,
    progress: Callable[[int], object] | None = None,
    **arguments: Any,
) -> Any:
    """What ``function(chunk, **arguments)`` gives for each chunk, merged by a tree; computed now.

    The results may be any objects. The function is `tried` first; `stream` is as for
    `map_chunks`. `progress` is called with the number of elements done since the last call, or,
    where a cluster does the work, with that of all at the end.
    """
    tried(function, x, stream, **arguments)
    size = 0 if _unknown(x) else int(x.size)
    if x.ndim == 0:
        x = x.reshape(1)

    def merged(cells: NDArray[Any], axis: Any, keepdims: bool) -> NDArray[Any]:
        return _cell(reduce(merge, cells.flat), cells.ndim if keepdims else 0)

    cells = _blocks(
        _in_a_cell,
        x,
        stream,
        {"function": function, **arguments},
        np.empty((0,) * x.ndim, object),
        chunks=tuple((1,) * count for count in x.numblocks),
    )
    result = da.reduction(cells, merged, merged, combine=merged, dtype=object)
    with nullcontext() if progress is None else _Progress(progress, size):
        return result.compute().item()


def tried(
    function: Callable[..., Any], x: Any, stream: Stream | None = None, **arguments: Any
) -> Any:
    """What a function makes of a single zero of x's dtype; raises what can be told without data."""
    if not isinstance(x, da.Array):
        raise TypeError(
            f"x is of type {type(x).__module__}.{type(x).__name__}; of dask's collections give an "
            "Array, such as to_dask_array(lengths=True) makes of a dataframe"
        )
    if stream is not None:
        if _unknown(x):
            raise ValueError(
                "x has chunks of unknown size, and random bits go by the place of an element; call "
                "x.compute_chunk_sizes() first"
            )
        arguments["rng"] = stream
    return function(np.zeros((1,) * x.ndim, x.dtype), **arguments)


def refuse(**given: Any) -> None:
    """Raise ValueError for an argument that has no meaning where chunks are computed later."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise ValueError(
                f"{name} is not possible with a dask array, whose chunks are computed later; leave "
                "it out, or call the function on each chunk (dask.array.map_blocks)"
            )


def _unknown(x: Any) -> bool:
    return any(math.isnan(length) for length in x.shape)


def _blocks(
    function: Callable[..., Any],
    x: Any,
    stream: Stream | None,
    arguments: dict[str, Any],
    meta: NDArray[Any],
    **options: Any,
) -> Any:
    name = getattr(arguments.get("function", function), "__name__", "chunk").strip("_")
    options |= {"dtype": meta.dtype, "meta": meta, "token": f"fpsim-{name}"}
    if stream is None:
        return da.map_blocks(_on_chunk, x, function, arguments, **options)
    return da.map_blocks(_on_chunk_at_random, x, function, arguments, stream, x.shape, **options)


def _on_chunk(
    chunk: NDArray[Any],
    function: Callable[..., Any],
    arguments: dict[str, Any],
    block_id: tuple[int, ...] = (),
) -> Any:
    try:
        with alone():
            return function(chunk, **arguments)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        place = ", ".join(str(number) for number in block_id)
        raise kind(f"x.blocks[{place}]: {error}" if place else str(error)) from error


def _on_chunk_at_random(
    chunk: NDArray[Any],
    function: Callable[..., Any],
    arguments: dict[str, Any],
    stream: Stream,
    shape: tuple[int, ...],
    block_id: tuple[int, ...] = (),
    block_info: Any = None,
) -> Any:
    where = [slice(start, stop) for start, stop in block_info[0]["array-location"]]
    mine = {**arguments, "rng": stream.part(shape, where)}
    return _on_chunk(chunk, function, mine, block_id)


def _in_a_cell(chunk: NDArray[Any], function: Callable[..., Any], **arguments: Any) -> Any:
    return _cell(function(chunk, **arguments), chunk.ndim)


def _cell(value: Any, ndim: int) -> NDArray[Any]:
    """An array of one element, which may be any object."""
    cell = np.empty((1,) * ndim, object)
    cell.fill(value)
    return cell


class _Progress(Callback):  # type: ignore[misc]  # dask carries no types
    """Tells elements, as the share of all tasks that are done; clusters do not say which are."""

    def __init__(self, progress: Callable[[int], object], size: int) -> None:
        super().__init__()
        self.progress, self.size, self.told = progress, size, 0

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        done = len(state["finished"])
        left = sum(len(state[name]) for name in ("ready", "waiting", "running"))
        self._tell(self.size * done // (done + left))

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if error == (None, None, None):
            self._tell(self.size)

    def _tell(self, elements: int) -> None:
        if elements > self.told:
            self.progress(elements - self.told)
            self.told = elements
