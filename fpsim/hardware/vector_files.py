"""Files of test vectors, streamed, and what is in them. Imports arguments, vectors, coverage.

The format is defined at the head of `fpsim.hardware.vectors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fpsim.arguments import shown
from fpsim.hardware.coverage import Coverage
from fpsim.hardware.vectors import Columns, Vectors
from fpsim.rounding import Stochastic

KINDS = ("txt", "mem", "csv")

_TILE = 1 << 13  # lines made at a time
_HEX = np.frombuffer(b"0123456789ABCDEF", np.uint8)


def write(tests: Vectors, directory: str | Path, kinds: Iterable[str] = ("txt",)) -> dict[str, Any]:
    """Write tests to files as they are made, and say what is in them.

    Parameters
    ----------
    tests : Vectors
    directory : path
        An existing folder.
    kinds : iterable of {'txt', 'mem', 'csv'}

    Returns
    -------
    dict
        What the manifest says of them: operation, formats, modes, seed, fields, number of tests,
        and what `Coverage` found.

    Raises
    ------
    FileExistsError
        Where a file is there already; it is left as it is.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fpsim.hardware.vector_files import write
    >>> from fpsim.hardware.vectors import vectors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     entry = write(vectors("float8_e4m3fn", "add"), folder)
    ...     lines = (Path(folder) / "add_ties_to_even_nan.txt").read_text().splitlines()
    >>> entry["tests"], len(lines), lines[0x3801]  # 1 + 2**-9: inexact
    (65536, 65536, '38 01 38 01')
    """
    chosen = list(dict.fromkeys(kinds))
    for kind in chosen:
        if kind not in KINDS:
            allowed = ", ".join(repr(k) for k in KINDS)
            raise ValueError(f"kinds={shown(kind)} is not one of {allowed}")
    if not isinstance(tests, Vectors):
        raise TypeError(f"tests={shown(tests)} are no Vectors; give what vectors(…) makes")
    folder = Path(directory)
    paths = {kind: folder / f"{tests.name}.{kind}" for kind in chosen}
    coverage = Coverage(tests)
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for kind, path in paths.items():
            files[kind] = stack.enter_context(path.open("xb"))
            stack.push(partial(_remove_after_error, path))
            files[kind].write(_heading(tests, kind))
        for columns in tests:
            coverage.add(columns)
            for kind, file in files.items():
                for text in _lines(tests, kind, columns):
                    file.write(text)
    return describe(tests) | {
        "files": [path.name for path in paths.values()],
        "tests": coverage.tests,
        "coverage": coverage.summary(),
    }


def size(tests: Vectors, kinds: Iterable[str] = ("txt",)) -> int:
    """Bytes that the files of tests will have (at most, where some tests are left out).

    Examples
    --------
    >>> from fpsim.hardware.vector_files import size
    >>> from fpsim.hardware.vectors import vectors
    >>> size(vectors("binary16", "mul", count=10**6))
    18000000
    """
    return sum(len(_heading(tests, k)) + tests.tests * _layout(tests, k)[0].size for k in kinds)


def _remove_after_error(path: Path, error: Any, *_: Any) -> None:
    if error is not None:
        path.unlink()


def describe(tests: Vectors) -> dict[str, Any]:
    """What tests are of, as plain data."""
    stochastic = tests.rounding if isinstance(tests.rounding, Stochastic) else None
    return {
        "name": tests.name,
        "operation": str(tests.operation),
        "format": str(tests.fmt),
        "source": None if tests.source is None else str(tests.source),
        "rounding": "stochastic" if stochastic else str(tests.rounding),
        "random_bits": tests.random_bits or None,
        "variant": stochastic.variant if stochastic else None,
        "overflow": str(tests.overflow),
        "tininess": tests.tininess,
        "accumulator": None if tests.accumulator is None else repr(tests.accumulator),
        "terms": tests.terms or None,
        "seed": tests.seed,
        "exhaustive": tests.exhaustive,
        "word_bits": tests.word_bits,
        "fields": [
            {
                "name": field.name,
                "bits": field.bits,
                "digits": field.digits,
                "low": field.low,
                "format": None if field.fmt is None else str(field.fmt),
            }
            for field in tests.fields
        ],
    }


def _heading(tests: Vectors, kind: str) -> bytes:
    if kind == "csv":
        return (",".join(field.name for field in tests.fields) + "\n").encode()
    if kind == "mem":
        places = ", ".join(
            f"{field.name} [{field.low + field.bits - 1}:{field.low}]" for field in tests.fields
        )
        return f"// {tests.name}, {tests.fmt}: words of {tests.word_bits} bits: {places}\n".encode()
    return b""


def _layout(tests: Vectors, kind: str) -> tuple[NDArray[np.uint8], list[int]]:
    """A line with all its digits 0, and where each field's begin."""
    prefix = b"0x" if kind == "csv" else b""
    separator = {"txt": b" ", "mem": b"_", "csv": b","}[kind]
    starts, line = [], b""
    for field in tests.fields:
        line += prefix
        starts.append(len(line))
        line += b"0" * field.digits + separator
    return np.frombuffer(line[:-1] + b"\n", np.uint8), starts


def _lines(tests: Vectors, kind: str, columns: Columns) -> Iterator[bytes]:
    line, starts = _layout(tests, kind)
    rows = columns["result"].size
    block = np.tile(line, (min(rows, _TILE), 1))
    for first in range(0, rows, _TILE):
        part = block[: min(_TILE, rows - first)]
        for field, start in zip(tests.fields, starts, strict=True):
            numbers = columns[field.name][first : first + _TILE]
            for k in range(field.digits):
                digit = numbers >> numbers.dtype.type(4 * (field.digits - 1 - k))
                part[:, start + k] = _HEX[digit & numbers.dtype.type(15)]
        yield part.tobytes()
