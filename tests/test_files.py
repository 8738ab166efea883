"""TensorFiles and the sample: names, laziness, sizes, and files that are none."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpsim
from fpsim.files import TensorFiles


def safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    names = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64"}
    header, data = {}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "w.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    np.savez(tmp_path / "two.npz", a=np.ones(4), b=np.arange(5, dtype=np.int32))
    np.savez_compressed(tmp_path / "packed.npz", a=np.ones(4000))
    return tmp_path


def test_is_a_mapping(folder: Path) -> None:
    tensors = TensorFiles([folder / "two.npz"])
    assert isinstance(tensors, Mapping)
    assert list(tensors) == list(tensors.keys()) == ["a", "b"]
    assert len(tensors) == 2
    assert "a" in tensors
    assert "c" not in tensors
    assert tensors["b"].tolist() == [0, 1, 2, 3, 4]
    assert [x.shape for x in tensors.values()] == [(4,), (5,)]
    assert {name: x.dtype.name for name, x in tensors.items()} == {"a": "float64", "b": "int32"}
    assert tensors.get("c") is None
    with pytest.raises(KeyError):
        tensors["c"]
    assert dict(tensors).keys() == {"a", "b"}
    assert not TensorFiles([])


def test_names(folder: Path) -> None:
    assert list(TensorFiles([folder / "w.npy"])) == ["w.npy"]
    assert list(TensorFiles([str(folder / "two.npz")])) == ["a", "b"]
    both = TensorFiles([folder / "w.npy", folder / "two.npz", folder / "packed.npz"])
    assert list(both) == ["w.npy", "two.npz:a", "two.npz:b", "packed.npz:a"]
    assert both["two.npz:b"].tolist() == [0, 1, 2, 3, 4]
    assert both["packed.npz:a"].shape == (4000,)


def test_every_file_keeps_its_tensors(folder: Path) -> None:
    """Also where names of files or of tensors are alike."""
    (folder / "other").mkdir()
    (folder / "third").mkdir()
    np.save(folder / "other" / "w.npy", np.zeros(7))
    np.save(folder / "third" / "w.npy", np.zeros(8))
    np.savez(folder / "other" / "two.npz", a=np.zeros(9), b=np.zeros(1))
    paths = [folder / "w.npy", folder / "other" / "w.npy", folder / "third" / "w.npy"]
    paths += [folder / "two.npz", folder / "other" / "two.npz"]
    tensors = TensorFiles(paths)
    assert len(tensors) == 7
    assert sorted(np.size(x) for x in tensors.values()) == [1, 4, 5, 6, 7, 8, 9]
    thrice = TensorFiles([folder / "two.npz"] * 3)
    assert len(thrice) in (2, 6)  # once, or as often as asked for


def test_npy_is_mapped_not_read(folder: Path) -> None:
    tensors = TensorFiles([folder / "w.npy"])
    x = tensors["w.npy"]
    assert isinstance(x, np.memmap)
    assert not x.flags.writeable
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_nothing_is_read_before_it_is_looked_up(folder: Path) -> None:
    """A file of 2^40 bytes, all but its header a hole, is opened at once."""
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 38,)}
    np.lib.format.write_array_header_1_0(stream, header)
    path = folder / "sparse.npy"
    path.write_bytes(stream.getvalue())
    try:
        os.truncate(path, len(stream.getvalue()) + (1 << 40))
    except OSError:
        pytest.skip("no file of a tebibyte here")
    tensors = TensorFiles([path, folder / "w.npy"])
    assert tensors.sizes() == (1 << 38) + 6
    x = tensors["sparse.npy"]
    assert isinstance(x, np.memmap)
    assert x.shape == (1 << 38,)
    assert x[12345] == 0


def test_members_are_read_when_looked_up(folder: Path) -> None:
    path = folder / "half.npz"
    good, bad = io.BytesIO(), b"no array"
    np.save(good, np.ones(3))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.npy", good.getvalue())
        archive.writestr("bad.npy", bad)
    tensors = TensorFiles([path])
    assert tensors["good"].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"half\.npz.*bad"):
        tensors["bad"]


def test_sizes(folder: Path) -> None:
    """For the progress bar: exact for .npy, and for .npz by the headers of its members."""
    assert TensorFiles([folder / "w.npy"]).sizes() == 6
    assert TensorFiles([]).sizes() == 0
    for files in (["packed.npz"], ["two.npz"], ["w.npy", "two.npz", "packed.npz"]):
        tensors = TensorFiles([folder / name for name in files])
        elements = sum(np.size(x) for x in tensors.values())
        # As far as it can be told: members may be of any dtype, and have headers of 128 bytes.
        assert elements / 2 <= tensors.sizes() <= 2 * elements + 40 * len(tensors)


def test_layouts_and_dtypes(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(4, dtype=">f4"),
        "half": np.ones(3, np.float16),
        "scalar": np.array(3.0),
        "empty": np.zeros((0, 3)),
        "bool": np.array([True]),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "all.npz", **arrays)
    loose = TensorFiles([tmp_path / f"{name}.npy" for name in arrays])
    packed = TensorFiles([tmp_path / "all.npz"])
    for name, array in arrays.items():
        for x in (loose[f"{name}.npy"], packed[name]):
            assert x.dtype == array.dtype
            assert x.shape == array.shape
            assert np.array_equal(x, array)


def test_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    arrays = {
        "layer.0/weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(3, np.float64),
        "half": np.ones(5, np.float16),
        "steps": np.array(7),
    }
    safetensors(tmp_path / "m.safetensors", arrays)
    tensors = TensorFiles([tmp_path / "m.safetensors"])
    assert set(tensors) == set(arrays)
    assert tensors.sizes() == 6 + 3 + 5 + 1
    for name, array in arrays.items():
        assert tensors[name].dtype == array.dtype
        assert np.array_equal(tensors[name], array)
    np.save(tmp_path / "w.npy", np.ones(2))
    both = TensorFiles([tmp_path / "m.safetensors", tmp_path / "w.npy"])
    assert set(both) == {f"m.safetensors:{name}" for name in arrays} | {"w.npy"}


def test_recommend_takes_files(folder: Path) -> None:
    tensors = TensorFiles([folder / "w.npy", folder / "two.npz"])
    answer = fpsim.recommend(tensors, 8)
    assert list(answer.tensors) == ["w.npy", "two.npz:a", "two.npz:b"]
    assert answer.tensors["two.npz:b"].sketch.zeros == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.npy", ["missing.npy", "no such file"]),
        ("folder.npy", ["folder.npy"]),
        ("w.txt", ["w.txt", ".npy", ".npz", ".safetensors"]),
        ("w", ["w:", ".npy", ".npz", ".safetensors"]),
        ("x" * 3000 + ".npy", ["x" * 100]),
        ("nul\0.npy", [".npy"]),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_paths_that_are_no_files(name: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "w.txt").write_text("1.0")
    (tmp_path / "w").write_text("1.0")
    with pytest.raises(ValueError, match=r"\S") as caught:
        TensorFiles([tmp_path / name])
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("paths", ["x.npy", None, [None], [3]])
def test_what_is_no_list_of_paths(paths: Any) -> None:
    with pytest.raises(TypeError, match="paths"):
        TensorFiles(paths)


def test_the_file_may_go_away(folder: Path) -> None:
    tensors = TensorFiles([folder / "two.npz"])
    (folder / "two.npz").unlink()
    with pytest.raises(ValueError, match=r"two\.npz"):
        tensors["a"]


def test_the_sample() -> None:
    sample = fpsim.sample_gradients()
    assert len(sample) == 15
    for name, x in sample.items():
        step, layer = name.split("/")
        assert step in ("step000", "step030", "step119")
        assert layer.startswith("conv")
        assert x.dtype == np.float32
        assert x.shape == (10_000,)
        assert np.isfinite(x).all()
        assert np.count_nonzero(x) > 1000
    path = Path(fpsim.__file__).parent / "data" / "gradients.npz"
    assert path.stat().st_size <= 600_000
