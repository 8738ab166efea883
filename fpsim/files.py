"""Tensors from files: .npy, .npz, .safetensors, and the embedded sample. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".npy", ".npz", ".safetensors")


class TensorFiles(Mapping[str, Any]):
    """The tensors of files by name, read when looked up; ``.npy`` files are memory-mapped.

    A tensor is named after its file (``.npy``) or by its name in the file; with several files,
    the file's name and a colon come first.

    Parameters
    ----------
    paths : sequence of path-like

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

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._places: dict[str, tuple[Path, str]] = {}
        for path in map(Path, paths):
            for key in _names(path):
                name = key if key and len(paths) == 1 else f"{path.name}:{key}".rstrip(":")
                name = name or path.name
                if name in self._places:  # the same file name in two folders
                    name = f"{path}:{key}".rstrip(":")
                self._places[name] = (path, key)

    def __getitem__(self, name: str) -> Any:
        path, key = self._places[name]
        return _read(path, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def sizes(self) -> int:
        """Elements of all tensors together, as far as it can be told without reading them."""
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


def _names(path: Path) -> list[str]:
    """Names of the tensors in a file; one empty name for a file that is a tensor."""
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: not one of {', '.join(SUFFIXES)}")
    if path.suffix == ".npy":
        _open_npy(path)
        return [""]
    if path.suffix == ".npz":
        with _open_npz(path) as archive:
            return list(archive.files)
    with _open_safetensors(path) as archive:
        return list(archive.keys())


def _read(path: Path, key: str) -> Any:
    if path.suffix == ".npy":
        return _open_npy(path)
    if path.suffix == ".npz":
        with _open_npz(path) as archive:
            try:
                return archive[key]
            except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
                raise ValueError(_reason(path, error)) from None
    with _open_safetensors(path) as archive:
        try:
            return archive.get_tensor(key)
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path}: NumPy has no dtype for this tensor ({error}); install ml_dtypes, or "
                "convert the tensor to float32 first"
            ) from None


def _size(path: Path, key: str) -> int:
    if path.suffix == ".npy":
        return int(_open_npy(path).size)
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as archive:
            return int(np.prod(archive.get_slice(key).get_shape(), dtype=np.int64))
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo(f"{key}.npy").file_size // 4


def _open_npy(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(_reason(path, error)) from None


def _open_npz(path: Path) -> Any:
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(_reason(path, error)) from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{path}: no .npz archive; an .npy file needs that suffix")
    return archive


def _open_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ValueError(
            f"{path}: reading .safetensors needs an extra; pip install 'fpsim[safetensors]'"
        ) from None
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise ValueError(_reason(path, error)) from None


def _reason(path: Path, error: Exception) -> str:
    text = str(error)
    if "allow_pickle" in text or "pickle" in text.lower():
        return f"{path}: holds pickled objects, which are never loaded; save plain arrays instead"
    return f"{path}: cannot be read as {path.suffix} ({text.splitlines()[0] if text else error!r})"
