"""Tensors from files: .npy, .npz, .safetensors, .zarr, and the sample. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsim.cast import decode
from fpsim.format import Format

SUFFIXES = (".npy", ".npz", ".safetensors", ".zarr")


class TensorFiles(Mapping[str, Any]):
    """The tensors of files by name, read when looked up.

    ``.npy`` files are memory-mapped, those of ``.zarr`` folders are dask arrays. A tensor is named
    after its file (``.npy``, a ``.zarr`` of one array) or by its name in the file; with several
    files, the file's name and a colon come first.

    Parameters
    ----------
    paths : iterable of path-like

    Raises
    ------
    ValueError
        For a file that is missing, truncated or of another kind; reading it may find more.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from fpsim.files import TensorFiles
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.npz")
    ...     np.savez(path, weights=np.ones(3), biases=np.zeros(2))
    ...     list(TensorFiles([path]))
    ['weights', 'biases']
    """

    def __init__(self, paths: Iterable[str | PathLike[str]]) -> None:
        if isinstance(paths, (str, bytes, PathLike)) or not isinstance(paths, Iterable):
            raise TypeError(f"paths={paths!r} is no list of paths; give a list, if of one")
        try:
            every = list(dict.fromkeys(Path(path) for path in paths))
        except TypeError:
            raise TypeError(f"paths={paths!r} is no list of paths; give str or Path") from None
        self._places: dict[str, tuple[Path, str]] = {}
        alike = Counter(path.name for path in every)
        for path in every:
            prefix = str(path) if alike[path.name] > 1 else path.name
            for key in _names(path):
                alone = key if len(every) == 1 else f"{prefix}:{key}"
                self._places[alone if key else prefix] = (path, key)

    def __getitem__(self, name: str) -> Any:
        path, key = self._places[name]
        return _read(path, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def sizes(self) -> int:
        """Elements of all tensors together, told without reading them."""
        return sum(_size(path, key) for path, key in self._places.values())


def sample_gradients() -> dict[str, NDArray[np.float32]]:
    """Real neural gradients, by ``step/layer``: the sample that ``fpsim recommend`` uses.

    Loss gradients with respect to the outputs of the five convolutions of a small residual
    network on Fashion-MNIST, unscaled, at training steps 0, 30 and 119; of each tensor 10,000
    elements drawn at random. ``benchmarks/capture_gradients.py`` makes them again.

    Examples
    --------
    >>> import fpsim
    >>> fpsim.sample_gradients()["step119/conv3"].shape
    (10000,)
    """
    with (files("fpsim") / "data" / "gradients.npz").open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        return {name: archive[name] for name in archive.files}


@contextmanager
def _reading(path: Path, key: str = "") -> Iterator[None]:
    """Turn whatever a broken file makes its reader raise into one line that names the file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, _UnreadableError):
            raise
        what = f"{path}: {key!r}" if key else str(path)
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _UnreadableError(f"{what} cannot be read as {path.suffix} ({first})") from None


class _UnreadableError(ValueError):
    """A ValueError whose message is complete."""


def _names(path: Path) -> list[str]:
    """Names of the tensors in a file; one empty name for a file that is a tensor."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: not one of {', '.join(SUFFIXES)}")
    with _reading(path):
        if not path.exists():
            raise _UnreadableError(f"{path}: no such file")
        if path.suffix == ".npy":
            _open_npy(path)
            return [""]
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
        elif path.suffix == ".zarr":
            names = list(_open_zarr(path))
        else:
            with _open_safetensors(path) as archive:
                names = list(archive.keys())
    if not names:
        raise ValueError(f"{path}: holds no tensor")
    return names


def _read(path: Path, key: str) -> Any:
    with _reading(path, key):
        if path.suffix == ".npy":
            return _open_npy(path)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive, _member(archive, path, key) as stream:
                _header(stream, f"{path}: {key!r}")
            with zipfile.ZipFile(path) as archive, _member(archive, path, key) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        if path.suffix == ".zarr":
            return _zarr_chunks(_open_zarr(path)[key])
        with _open_safetensors(path) as archive:
            fmt = _NARROW.get(archive.get_slice(key).get_dtype())
            if fmt is None:
                return archive.get_tensor(key)
        return decode(_raw_codes(path, key, Format.parse(fmt)), fmt)


def _size(path: Path, key: str) -> int:
    with _reading(path, key):
        if path.suffix == ".npy":
            return int(_open_npy(path).size)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive, _member(archive, path, key) as stream:
                return math.prod(_header(stream, f"{path}: {key!r}"))
        if path.suffix == ".zarr":
            return int(_open_zarr(path)[key].size)
        with _open_safetensors(path) as archive:
            return math.prod(archive.get_slice(key).get_shape())


def _open_npy(path: Path) -> Any:
    with path.open("rb") as stream:
        _header(stream, str(path))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _member(archive: zipfile.ZipFile, path: Path, key: str) -> Any:
    if f"{key}.npy" not in archive.namelist():
        raise _UnreadableError(f"{path}: {key!r} is no .npy array")
    return archive.open(f"{key}.npy")


def _header(stream: Any, what: str) -> tuple[int, ...]:
    """The shape that a .npy header states; ValueError for pickled objects."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format is not known")
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise _UnreadableError(
            f"{what} holds pickled objects, which are never loaded; save plain arrays instead"
        )
    return tuple(shape)


# Dtypes of .safetensors that NumPy lacks, as formats.
_NARROW = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}


def _raw_codes(path: Path, key: str, fmt: Format) -> Any:
    """The codes of a tensor, memory-mapped: a file is the length of a JSON header, it, the data."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(length))[key]
    dtype = fmt.code_dtype.newbyteorder("<")
    first, last = entry["data_offsets"]
    if first == last:
        return np.zeros(entry["shape"], dtype)
    shape = tuple(entry["shape"])
    return np.memmap(path, dtype=dtype, mode="r", offset=8 + length + first, shape=shape)


def _open_safetensors(path: Path) -> Any:
    try:
        from safetensors import safe_open
    except ImportError:
        raise _UnreadableError(
            f"{path}: reading .safetensors needs an extra; pip install 'fpsim[safetensors]'"
        ) from None
    return safe_open(path, framework="numpy")


def _open_zarr(path: Path) -> dict[str, Any]:
    """The arrays of a .zarr folder by name; one with an empty name where it is an array itself."""
    try:
        import dask.array  # noqa: F401
        import zarr
    except ImportError:
        raise _UnreadableError(
            f"{path}: reading .zarr needs an extra; pip install 'fpsim[dask]'"
        ) from None
    found = zarr.open(path, mode="r")
    if isinstance(found, zarr.Array):
        return {"": found}
    members = sorted(found.members(max_depth=None))
    return {name: member for name, member in members if isinstance(member, zarr.Array)}


def _zarr_chunks(array: Any) -> Any:
    """A dask array over chunks as they are stored, several at a time where they are small."""
    from dask import config
    from dask.array import from_zarr
    from dask.utils import parse_bytes

    stored = math.prod(array.chunks) * array.dtype.itemsize
    large = stored > parse_bytes(config.get("array.chunk-size"))
    return from_zarr(array, chunks=array.chunks if large else "auto")
