"""The command line, as its users meet it: processes, exit codes, standard output and error."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fpsim
from fpsim import Format
from fpsim.cli import main

START = "from fpsim.cli import main; main(prog_name='fpsim')"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
LIMIT = 120


def fpsim_command(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """One process of the command line; the code starts where the console script does."""
    return subprocess.run(
        [sys.executable, "-c", START, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env=ENVIRONMENT | more,
    )


@functools.cache
def answer(*arguments: str) -> str:
    """Standard output of a command that succeeds in silence."""
    done = fpsim_command(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout  # no colours where there is no terminal
    return done.stdout


def refused(*arguments: str | Path) -> str:
    """The one line on standard error of a command whose input is bad."""
    done = fpsim_command(*arguments)
    assert done.returncode == 2, (done.returncode, done.stderr[-2000:])
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# recommend on the embedded sample ---------------------------------------------------------------


def test_table_of_the_sample() -> None:
    text = answer("recommend")
    for name, x in fpsim.sample_gradients().items():
        best = fpsim.recommend(x, 8)
        rows = [line for line in text.splitlines() if name in line]
        assert len(rows) >= 2  # magnitudes, and the answer
        assert f"{best.fit.mu:.3f}" in rows[0]
        assert f"{best.fit.ks:.3f}" in rows[0]
        assert str(best.format) in rows[1]
        assert f"{best.measured:.4g}" in rows[1]
        assert str(best.runner_up.format) in rows[1]
    assert "One format for all: " in text
    assert "regret" in text


def test_json_of_several_widths_is_what_python_says() -> None:
    data = strict_json(answer("recommend", "--bits", "4-5", "--json", "--sparsity", "0.8"))
    answers = fpsim.recommend(fpsim.sample_gradients(), range(4, 6), sparsity=0.8)
    assert data["metric"] == "relative"
    assert data["skipped"] == {}
    assert [w["bits"] for w in data["widths"]] == [4, 5]
    for width in data["widths"]:
        want = answers[width["bits"]]
        assert list(width["tensors"]) == list(want.tensors)
        assert width["shared"]["by_worst"]["name"] == str(want.format)
        for shared, mine in zip(width["shared"]["formats"], want.shared, strict=True):
            assert shared["format"]["name"] == str(mine.format)
            assert shared["worst_regret"] == mine.worst
            assert shared["mean_regret"] == mine.mean
            assert shared["scales"] == mine.scales
        for name, tensor in width["tensors"].items():
            r = want.tensors[name]
            assert tensor["count"] == r.sketch.size
            assert (tensor["mu"], tensor["sigma"], tensor["ks"]) == (
                r.fit.mu,
                r.fit.sigma,
                r.fit.ks,
            )
            assert tensor["basis"] == r.basis
            assert tensor["notes"] == list(r.notes)
            assert tensor["pruning"]["threshold"] == r.pruning.threshold
            assert tensor["pruning"]["actual"] == r.pruning.actual
            for candidate, mine in zip(tensor["candidates"], r.candidates, strict=True):
                fields = ("name", "exponent_bits", "mantissa_bits", "bias", "subnormals", "nans")
                plain = {field: candidate["format"][field] for field in fields}
                parameters = {k: v for k, v in plain.items() if k != "name"}
                assert Format(**parameters, infinities=False) == mine.format
                assert Format.parse(plain["name"]) == mine.format
                for field in ("scale", "fit", "sketch", "measured", "underflow", "overflow"):
                    assert candidate[field] == getattr(mine, field)


def test_csv_of_several_widths_is_what_python_says() -> None:
    rows = list(csv.DictReader(io.StringIO(answer("recommend", "--bits", "3,8", "--csv"))))
    answers = fpsim.recommend(fpsim.sample_gradients(), [3, 8])
    assert len(rows) == 2 * len(fpsim.sample_gradients())
    for row in rows:
        want = answers[int(row["bits"])]
        r = want.tensors[row["tensor"]]
        assert int(row["count"]) == r.sketch.size
        assert float(row["mu"]) == r.fit.mu
        assert row["format"] == str(r.format)
        assert float(row["scale"]) == r.scale
        assert float(row["measured"]) == r.measured
        assert float(row["fit"]) == r.best.fit
        assert row["runner_up"] == str(r.runner_up.format)
        assert row["shared_format"] == str(want.format)
        assert float(row["shared_regret"]) == want.by_worst.regrets[row["tensor"]]
        assert row["pruning_threshold"] == ""


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        (["--metric", "sqnr"], {"metric": "sqnr"}),
        (["--metric", "cosine", "--scale", "continuous"], {"metric": "cosine"}),
        (["--scale", "none", "--specials", "p3109"], {"specials": "p3109"}),
        (["--specials", "ieee", "--no-subnormals"], {"specials": "ieee", "subnormals": False}),
        (["--basis", "sketch", "--specials", "fn"], {"basis": "sketch", "specials": "fn"}),
    ],
)
def test_options_reach_python(options: list[str], keywords: dict[str, Any], tmp_path: Path) -> None:
    x = np.random.default_rng(0).lognormal(-3, 1.5, 3000)
    np.save(tmp_path / "x.npy", x)
    if "--scale" in options:
        keywords = keywords | {"scale": options[options.index("--scale") + 1]}
    done = CliRunner().invoke(
        main, ["recommend", str(tmp_path / "x.npy"), "--bits", "7", "--json", *options]
    )
    assert done.exit_code == 0, done.stderr
    (width,) = strict_json(done.stdout)["widths"]
    (tensor,) = width["tensors"].values()
    r = fpsim.recommend(x, 7, **keywords)
    assert [c["format"]["name"] for c in tensor["candidates"]] == [
        str(c.format) for c in r.candidates
    ]
    assert [c["scale"] for c in tensor["candidates"]] == [c.scale for c in r.candidates]
    assert tensor["candidates"][0]["measured"] == r.measured


@pytest.mark.parametrize(
    ("text", "widths"),
    [
        ("8", [8]),
        ("4-6", [4, 5, 6]),
        ("6,4", [4, 6]),
        ("4,4,4", [4]),
        ("3-4,16", [3, 4, 16]),
        (" 5 , 7-8 ", [5, 7, 8]),
        ("16-16", [16]),
    ],
)
def test_forms_of_bits(text: str, widths: list[int], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.linspace(1, 2, 50))
    done = CliRunner().invoke(
        main, ["recommend", str(tmp_path / "x.npy"), "--bits", text, "--json"]
    )
    assert done.exit_code == 0, done.stderr
    assert [w["bits"] for w in strict_json(done.stdout)["widths"]] == widths


# recommend on files -----------------------------------------------------------------------------


def safetensors(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """The format is eight bytes of length, a JSON header, and the data."""
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_files_of_all_kinds(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    rng = np.random.default_rng(0)
    arrays = {n: rng.lognormal(-3, 2, 4000).astype(np.float32) for n in ("one", "two", "three")}
    np.save(tmp_path / "one.npy", arrays["one"].reshape(40, 100))
    np.savez_compressed(tmp_path / "two.npz", two=arrays["two"])
    safetensors(tmp_path / "three.safetensors", {"three": ("F32", arrays["three"])})
    files = [tmp_path / name for name in ("one.npy", "two.npz", "three.safetensors")]
    data = strict_json(answer("recommend", *map(str, files), "--bits", "6", "--json"))
    tensors = data["widths"][0]["tensors"]
    assert list(tensors) == ["one.npy", "two.npz:two", "three.safetensors:three"]
    for name, tensor in zip(arrays, tensors.values(), strict=True):
        want = fpsim.recommend(arrays[name], 6)
        assert tensor["candidates"][0]["measured"] == want.measured
        assert tensor["mu"] == want.fit.mu


def test_bfloat16_in_safetensors_without_further_ado(tmp_path: Path) -> None:
    """ml_dtypes is installed: nobody needs to import it first."""
    pytest.importorskip("safetensors")
    pytest.importorskip("ml_dtypes")
    bits = (np.arange(1, 300, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    safetensors(tmp_path / "w.safetensors", {"w": ("BF16", bits)})
    data = strict_json(answer("recommend", str(tmp_path / "w.safetensors"), "--json"))
    assert data["widths"][0]["tensors"]["w"]["count"] == 299


def test_float8_in_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    pytest.importorskip("ml_dtypes")
    tensors = {n: (n, np.arange(100, dtype=np.uint8)) for n in ("F8_E4M3", "F8_E5M2")}
    safetensors(tmp_path / "w.safetensors", tensors)
    data = strict_json(answer("recommend", str(tmp_path / "w.safetensors"), "--json"))
    e4m3 = fpsim.recommend(fpsim.decode(np.arange(100), "float8_e4m3fn"), 8)
    assert data["widths"][0]["tensors"]["F8_E4M3"]["mu"] == e4m3.fit.mu


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    x = np.random.default_rng(0).lognormal(0, 1, 2000)
    names = ["\x1b[31mred", "[red]x[/red]", "new\nline", "\u202eright", "tab\t\x07", "ok\\n"]
    np.savez(tmp_path / "x.npz", **dict.fromkeys(names, x), **{"\x1b]zero": np.zeros(3)})
    table = answer("recommend", str(tmp_path / "x.npz"))  # which holds no \x1b, it asserts
    for shown in (r"\x1b[31mred", "[red]x[/red]", r"new\nline", r"\u202eright", r"tab\t\x07"):
        assert sum(shown in line for line in table.splitlines()) >= 2, shown
    assert r"skipped \x1b]zero: none of 3 elements" in table
    for control in "\x07\x1b\t\u202e":
        assert control not in table
    runner = CliRunner()
    data = strict_json(runner.invoke(main, ["recommend", str(tmp_path / "x.npz"), "--json"]).stdout)
    assert list(data["widths"][0]["tensors"]) == names
    text = runner.invoke(main, ["recommend", str(tmp_path / "x.npz"), "--csv"]).stdout
    assert len(text.splitlines()) == 1 + len(names)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["tensor"] for row in rows][:3] == [r"\x1b[31mred", "[red]x[/red]", r"new\nline"]
    # In an error, and in the name of a file.
    evil = tmp_path / "evil\x1b[31m[b]\n.npy"
    np.save(evil, np.array([1j]))
    line = refused("recommend", evil)
    assert r"evil\x1b[31m[b]\n.npy" in line
    assert "complex128" in line


@pytest.mark.parametrize("length", [40, 60, 100, 300])
def test_long_names_leave_room_for_the_numbers(length: int, tmp_path: Path) -> None:
    x = np.random.default_rng(0).lognormal(0, 1, 2000)
    np.savez(tmp_path / "x.npz", **{"a" * length: x, "short": x})
    best = fpsim.recommend(x, 8)
    done = CliRunner().invoke(main, ["recommend", str(tmp_path / "x.npz")])
    assert done.exit_code == 0
    for number in (f"{best.fit.mu:.3f}", f"{best.fit.sigma:.3f}", f"{best.measured:.4g}"):
        assert done.stdout.count(number) >= 2, done.stdout


def test_no_progress_bar_where_nobody_is_looking(tmp_path: Path) -> None:
    x = np.random.default_rng(0).lognormal(0, 1, 3_000_000).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    answer("recommend", str(tmp_path / "x.npy"))  # asserts that standard error is empty


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    import pty

    x = np.random.default_rng(0).lognormal(0, 1, 3_000_000).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    terminal, other_end = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", START, "recommend", str(tmp_path / "x.npy"), "--json"],
            stdout=subprocess.PIPE,
            stderr=other_end,
            env=ENVIRONMENT | {"TERM": "xterm"},
        )
        os.close(other_end)
        shown = b""
        while True:
            try:
                part = os.read(terminal, 4096)
            except OSError:  # the process has ended
                break
            if not part:
                break
            shown += part
        output, _ = process.communicate(timeout=LIMIT)
    finally:
        os.close(terminal)
    assert process.returncode == 0
    assert b"reading and emulating" in shown
    strict_json(output.decode())  # the bar is elsewhere


@pytest.mark.parametrize(
    "command", [["formats", "--all"], ["recommend", "--bits", "4-6", "--json"]]
)
def test_a_reader_that_stops_early(command: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", START, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.wait(timeout=LIMIT)
    process.stderr.close()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


STRANGE = {
    "all equal": np.full(1000, 3.0),
    "one": np.array([3.0]),
    "0-d": np.array(-7.0),
    "not finite": np.array([np.nan, np.inf, -np.inf, 1.0, 2.0, 0.0]),
    "nearly zero": np.array([5e-324, 0.0, 1e-323]),
    "extremes": np.array([5e-324, 1.7976931348623157e308]),
    "huge": np.random.default_rng(0).lognormal(690, 5, 1000),
    "tiny": np.random.default_rng(0).lognormal(-720, 5, 1000),
    "two values": np.array([1.0] * 50 + [1000.0] * 50),
    "integers": np.arange(-5, 100),
    "bool": np.array([True, False]),
    "half": np.arange(2000, dtype=np.float16),
    "big-endian": np.arange(5, dtype=">f4"),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")  # they would end up on standard error
@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("options", [[], ["--scale", "none"], ["--metric", "sqnr"]], ids=str)
def test_strange_data_give_strict_json(name: str, options: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", STRANGE[name])
    arguments = ["recommend", str(tmp_path / "x.npy"), "--bits", "3,8,16", "--sparsity", "0.9"]
    done = CliRunner().invoke(main, [*arguments, *options, "--json"])
    assert done.exit_code == 0, repr(done.exception)
    assert done.stderr == ""
    data = strict_json(done.stdout)
    for width in data["widths"]:
        (tensor,) = width["tensors"].values()
        measured = tensor["candidates"][0]["measured"]
        assert measured is not None or options == ["--metric", "sqnr"]  # infinite where exact
    for more in ([], ["--csv"]):
        again = CliRunner().invoke(main, [*arguments, *options, *more])
        assert again.exit_code == 0, repr(again.exception)


# Bad input --------------------------------------------------------------------------------------

ARRAY = np.arange(50.0)


def npy(array: np.ndarray, **more: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **more)
    return stream.getvalue()


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return stream.getvalue()


def npy_header(text: str, data: bytes = b"") -> bytes:
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def broken_deflate() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, a=np.random.default_rng(0).normal(size=500))
    data = bytearray(stream.getvalue())
    data[200:230] = b"\xff" * 30
    return bytes(data)


def patched_zip(central: int, local: int, value: int) -> bytes:
    """An archive with one byte changed in its central directory and its local header."""
    data = bytearray(npz(a__npy=npy(ARRAY)))
    data[data.find(b"PK\x01\x02") + central] = value
    data[data.find(b"PK\x03\x04") + local] = value
    return bytes(data)


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000000,), }"
OBJECTS = np.array([1.0, None], object)
NPZ = npz(a__npy=npy(ARRAY))

# File, its bytes, and what the line must say.
BAD_FILES: list[tuple[str, bytes, list[str]]] = [
    ("empty.npy", b"", ["empty.npy", "cannot be read"]),
    ("magic.npy", npy(ARRAY)[:6], ["magic.npy", "cannot be read"]),
    ("header.npy", npy(ARRAY)[:40], ["header.npy", "cannot be read"]),
    ("truncated.npy", npy(ARRAY)[:-5], ["truncated.npy", "cannot be read"]),
    ("code.npy", npy_header("__import__('os').abort()"), ["code.npy", "cannot be read"]),
    ("huge.npy", npy_header(HUGE, b"\0" * 64), ["huge.npy", "cannot be read"]),
    ("objects.npy", npy(OBJECTS, allow_pickle=True), ["objects.npy", "pickled", "never loaded"]),
    ("pickle.npy", pickle.dumps([1.0, 2.0]), ["pickle.npy"]),
    ("version.npy", b"\x93NUMPY\x09\x00" + b"\0" * 80, ["version.npy", "cannot be read"]),
    ("text.npy", b"1.0 2.0 3.0\n", ["text.npy", "cannot be read"]),
    ("complex.npy", npy(np.array([1j])), ["complex.npy", "complex128", "real numbers"]),
    ("strings.npy", npy(np.array(["a"])), ["strings.npy", "<U1", "real numbers"]),
    ("dates.npy", npy(np.array(["2020"], "M8[Y]")), ["dates.npy", "datetime64", "real numbers"]),
    ("record.npy", npy(np.zeros(2, [("a", "f4")])), ["record.npy", "real numbers"]),
    ("zeros.npy", npy(np.zeros(9)), ["finite nonzero"]),
    ("nothing.npy", npy(np.zeros(0)), ["finite nonzero"]),
    ("long.npy", npy(np.array([2**60])), ["long.npy", "2**53"]),
    ("empty.npz", b"", ["empty.npz", "cannot be read"]),
    ("text.npz", b"1.0 2.0 3.0\n", ["text.npz", "cannot be read"]),
    ("garbage.npz", b"PK\x03\x04" + bytes(range(256)), ["garbage.npz", "cannot be read"]),
    ("truncated.npz", NPZ[: len(NPZ) // 2], ["truncated.npz", "cannot be read"]),
    ("array.npz", npy(ARRAY), ["array.npz"]),
    ("no-arrays.npz", npz(), ["no-arrays.npz"]),
    (
        "objects.npz",
        npz(a__npy=npy(OBJECTS, allow_pickle=True)),
        ["'a'", "pickled", "never loaded"],
    ),
    ("inner.npz", npz(a__npy=npy(ARRAY)[:-5]), ["inner.npz", "'a'", "cannot be read"]),
    ("not-an-array.npz", npz(a__npy=b"hello"), ["not-an-array.npz", "'a'"]),
    ("foreign.npz", npz(readme__txt=b"hello"), ["foreign.npz", "readme.txt"]),
    ("deflate.npz", broken_deflate(), ["deflate.npz", "'a'", "cannot be read"]),
    ("encrypted.npz", patched_zip(8, 6, 1), ["encrypted.npz", "cannot be read"]),
    ("method.npz", patched_zip(10, 8, 97), ["method.npz", "cannot be read"]),
    ("huge.npz", npz(a__npy=npy_header(HUGE, b"\0" * 64)), ["huge.npz", "'a'"]),
    ("bad-crc.npz", NPZ.replace(ARRAY[30:32].tobytes(), b"\x55" * 16), ["bad-crc.npz", "'a'"]),
    ("x.txt", b"1.0", ["x.txt", ".npy", ".npz", ".safetensors"]),
    ("no-suffix", npy(ARRAY), ["no-suffix", ".npy", ".npz", ".safetensors"]),
    ("x.safetensors", b"", ["x.safetensors"]),
    ("y.safetensors", b"hello, I hold no tensors", ["y.safetensors"]),
    ("z.safetensors", struct.pack("<Q", 9) + b"{no json}", ["z.safetensors"]),
]


@pytest.mark.parametrize(("name", "data", "words"), BAD_FILES, ids=[row[0] for row in BAD_FILES])
def test_bad_files(name: str, data: bytes, words: list[str], tmp_path: Path) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    (tmp_path / name).write_bytes(data)
    done = CliRunner().invoke(main, ["recommend", str(tmp_path / name)])
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    for word in words:
        assert word in line
    if "pickle" not in name and "objects" not in name:
        assert "pickle" not in line  # which would lead astray


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return (Path.touch, (tmp_path / "opened",))

    evil = np.array([Evil()], object)
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Evil()))
    np.save(tmp_path / "b.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "c.npz", evil=evil)
    (tmp_path / "d.npz").write_bytes(pickle.dumps(Evil()))
    for name in ("a.npy", "b.npy", "c.npz", "d.npz"):
        done = CliRunner().invoke(main, ["recommend", str(tmp_path / name)])
        assert done.exit_code == 2
        assert name in done.stderr
    assert not (tmp_path / "opened").exists()


def test_bad_input_in_processes(tmp_path: Path) -> None:
    """The same as above, where a traceback would really show."""
    assert "no such file" in refused("recommend", tmp_path / "missing.npy")
    (tmp_path / "folder.npy").mkdir()
    assert "folder.npy" in refused("recommend", tmp_path / "folder.npy")
    (tmp_path / "ok.npy").write_bytes(npy(ARRAY))
    (tmp_path / "text.npy").write_text("hello")
    line = refused("recommend", tmp_path / "ok.npy", tmp_path / "text.npy")
    assert "text.npy" in line
    line = refused("inspect", "\x1b[31m[red]x[/red]\n")
    assert r"\x1b[31m[red]x[/red]\n" in line
    assert "names no format" in line


def test_bad_arguments_of_other_kinds(tmp_path: Path) -> None:
    np.save(tmp_path / "ok.npy", ARRAY)
    for arguments, word in (
        (["recommend", str(tmp_path / "ok.npy"), "--sparsity", "1.5"], "sparsity=1.5"),
        (["certify", "binary32"], "binary32"),
        (["certify", "e4m"], "names no format"),
        (["inspect", "e4m3,bias=1e9"], "bias=1e9"),
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert word in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recommend", "--bits", "2"], ["'2'", "3 to 16"]),
        (["recommend", "--bits", "17"], ["'17'", "3 to 16"]),
        (["recommend", "--bits", "3-17"], ["'3-17'", "3 to 16"]),
        (["recommend", "--bits", "3-999999999999"], ["999999999999", "3 to 16"]),
        (["recommend", "--bits", "8-4"], ["'8-4'"]),
        (["recommend", "--bits", "4-"], ["'4-'", "range"]),
        (["recommend", "--bits", "4-6-8"], ["'4-6-8'", "range"]),
        (["recommend", "--bits", ""], ["''", "range"]),
        (["recommend", "--bits", "3,"], ["'3,'", "range"]),
        (["recommend", "--bits", "eight"], ["'eight'", "range"]),
        (["recommend", "--bits", "8.0"], ["'8.0'", "range"]),
        (["recommend", "--bits", "-8"], ["'-8'"]),
        (["recommend", "--metric", "mse"], ["'mse'", "'nmse'", "'sqnr'"]),
        (["recommend", "--scale", "2"], ["'2'", "'power_of_two'"]),
        (["recommend", "--specials", "ocp"], ["'ocp'", "'p3109'"]),
        (["recommend", "--basis", "data"], ["'data'", "'sketch'"]),
        (["recommend", "--sparsity", "half"], ["'half'", "--sparsity"]),
        (["recommend", "--json", "--csv"], ["--json", "--csv"]),
        (["recommend", "--jsn"], ["--jsn"]),
        (["inspect"], ["FORMAT"]),
        (["inspect", "e4m3", "e5m2"], ["e5m2"]),
        (["formats", "all"], ["all"]),
        (["certify"], ["FORMAT"]),
        (["recomend"], ["recomend"]),
    ],
    ids=str,
)
def test_bad_options(arguments: list[str], words: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code == 2
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]  # usage comes before
    assert last.startswith("Error: ")
    for word in words:
        assert word in last


# inspect, formats, help -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["e4m3fn", "float4_e2m1fn", "float8_e8m0fnu", "binary8p3se", "binary6p3ue", "e3m2f,bias=9"],
)
def test_inspect_shows_every_value(name: str) -> None:
    done = CliRunner().invoke(main, ["inspect", name])
    assert done.exit_code == 0
    fmt = Format.parse(name)
    grid = done.stdout.split("values by code")[1]
    shown = dict(re.findall(r"0x([0-9a-f]+) (\S+)", grid))
    assert sorted(int(code, 16) for code in shown) == fmt.codes().tolist()
    for code, text in shown.items():
        value, want = float(text), float(fmt.values()[int(code, 16)])
        # Six digits are shown: exact for these formats, but for E8M0's powers of two.
        assert value == pytest.approx(want, rel=1e-5, abs=0, nan_ok=True)
        assert np.signbit(value) == np.signbit(want) or np.isnan(want)


def test_inspect_by_hand() -> None:
    """OCP E4M3: bias 7, largest 448 = 1.75 * 2^8, smallest 2^-9, NaN in 0x7f and 0xff."""
    text = answer("inspect", "e4m3fn")
    rows = dict(re.findall(r"^[\s│]*(\S.*?)  +[│ ]*(\S.*?)[\s│]*$", text, re.MULTILINE))
    assert rows["layout"] == "8 bits: 1 sign, 4 exponent, 3 mantissa"
    assert rows["bias"] == "7"
    assert rows["precision"] == "4 bits"
    assert rows["emin, emax"] == "-6, 8"
    assert rows["max"] == "448 = 7 × 2^6"
    assert rows["min normal"] == "0.015625 = 2^-6"
    assert rows["min subnormal"] == "0.001953125 = 2^-9"
    assert rows["eps, unit roundoff"] == "2^-3, 2^-4"
    assert rows["zero"] == "+0 and −0"
    assert rows["infinity"] == "none"
    assert rows["NaN"].startswith("0x7f and 0xff")
    assert "1-4-3 is e4m3" in text  # what a shorthand means


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("binary32", ["32 bits", "3.402823466e+38", "0x7f800000, negative 0xff800000"]),
        ("binary16p1se", ["2^16382", "2^-16383"]),  # far past binary64
        ("ue1m1f", ["2 bits", "no sign"]),
        ("e1m0f,bias=65536", ["2 bits", "2^-65535"]),
        ("e1m0f,bias=-65536", ["2 bits", "2^65537"]),
        ("e5m2,subnormals=false", ["subnormals", "none", "2^-14"]),
        ("e2m1f,bias=2000", ["2^-2000"]),
    ],
)
def test_inspect_far_out(name: str, words: list[str]) -> None:
    done = CliRunner().invoke(main, ["inspect", name])
    assert done.exit_code == 0, done.stderr
    for word in words:
        assert word in done.stdout


def test_formats_lists_all() -> None:
    text = answer("formats")
    named = {
        n for n in fpsim.formats() if not n.startswith("binary") or n[6:] in ("16", "32", "64")
    }
    first = {line.strip(" │").split(" ")[0] for line in text.splitlines()}
    assert named <= first
    assert "binary{K}p{P}{s|u}{e|f}" in first
    assert not (first & (set(fpsim.formats()) - named))  # of P3109 only with --all
    everything = CliRunner().invoke(main, ["formats", "--all", "--json"])
    listed = strict_json(everything.stdout)
    flat = {name: row for family in listed.values() for name, row in family.items()}
    assert set(flat) == set(fpsim.formats())
    for name, fmt in fpsim.formats().items():
        row = {k: v for k, v in flat[name].items() if k != "name"}
        assert Format(**row) == fmt
    brief = strict_json(CliRunner().invoke(main, ["formats", "--json"]).stdout)
    assert "P3109" not in brief
    assert set(listed) - set(brief) == {"P3109"}
    assert CliRunner().invoke(main, ["formats", "--all"]).exit_code == 0


@pytest.mark.parametrize("command", ["", "recommend", "inspect", "formats", "certify"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(command: str, flag: str) -> None:
    done = CliRunner().invoke(main, [*command.split(), flag])
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout.startswith("Usage: ")
    if command:
        assert f"fpsim {command}" in done.stdout  # an example
    else:
        for name in ("recommend", "inspect", "formats", "certify"):
            assert name in done.stdout


def test_version_and_no_command() -> None:
    assert answer("--version").split()[-1] == fpsim.__version__
    done = fpsim_command()
    assert "Usage: fpsim" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_narrow_terminal_without_unicode() -> None:
    """Boxes and Greek letters must not break where the locale cannot say them."""
    for command in (["formats"], ["inspect", "e2m1f"], ["recommend", "--bits", "4"]):
        done = fpsim_command(*command, PYTHONIOENCODING="ascii", LC_ALL="C", COLUMNS="40")
        assert done.returncode == 0, done.stderr[-1000:]
        assert done.stderr == ""
