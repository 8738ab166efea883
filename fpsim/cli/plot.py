"""``fpsim plot``: every picture as a file.

Imports analysis, terminal, files, units, and plot where it is asked for.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
import numpy as np

from fpsim.accumulator import Accumulator
from fpsim.analysis.error import Metric
from fpsim.analysis.recommend import SPECIALS, recommend
from fpsim.cast import round
from fpsim.cli.terminal import BadInput, bad_input
from fpsim.files import TensorFiles, sample_gradients
from fpsim.rounding import Overflow, Rounding
from fpsim.units import unit

_SAMPLE = "step119/conv5"  # of the embedded sample
_LISTED = 8  # names of tensors that an error lists


class Pictures(click.Group):
    """Commands whose names may be written with or without the dash."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        wanted = name.replace("-", "").replace("_", "")
        for known, command in self.commands.items():
            if known.replace("-", "") == wanted:
                return command
        return None


@click.group(cls=Pictures)
def plot() -> None:
    """Draw a picture of a format, or of data, into a file.

    \b
    Examples:
      fpsim plot number-line e2m1f e3m0f --out values.svg
      fpsim plot coverage e4m3fn weights.npy --scale 16 --out coverage.png
      fpsim plot COMMAND --help
    """


def _picture(function: Callable[..., Any]) -> click.Command:
    """A command that writes the axes that a function returns; `function` is given the module."""

    @wraps(function)
    def command(out: Path, **options: Any) -> None:
        try:
            from fpsim import plot as pictures
        except ImportError as error:
            raise BadInput(str(error)) from None
        from matplotlib.backend_bases import FigureCanvasBase

        with bad_input():
            kinds = FigureCanvasBase.get_supported_filetypes()
            if out.suffix[1:].lower() not in kinds:
                allowed = ", ".join(f".{kind}" for kind in sorted(kinds))
                raise ValueError(f"--out {out}: the name ends in none of {allowed}")
            if not out.absolute().parent.is_dir():
                raise ValueError(f"--out {out}: there is no folder {out.parent}; make it first")
            function(pictures, **options).figure.savefig(out, dpi=150)

    option = click.option(
        "--out",
        required=True,
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        help="The file to write: .svg, .png, .pdf, …",
    )
    return plot.command(function.__name__.replace("_", "-"))(option(command))


_formats = click.argument("formats", nargs=-1, required=True, metavar="FORMAT...")
_format = click.argument("fmt", metavar="FORMAT")
_limits = click.option("--limits", type=float, nargs=2, help="From where to where: two numbers.")
_scale = click.option("--scale", type=float, default=1.0, show_default=True,
                      help="Multiplies x before rounding.")  # fmt: skip
_file = click.argument("file", required=False, type=click.Path())
_tensor = click.option("--tensor", help="Which tensor of the file, where it holds several.")
_metric = click.option("--metric", type=click.Choice([m.value for m in Metric]),
                       default="relative", show_default=True)  # fmt: skip


def _rounding(default: str) -> Callable[[Any], Any]:
    """``--rounding`` and ``--overflow``."""

    def add(function: Any) -> Any:
        modes = click.Choice([*(m.value for m in Rounding), "stochastic"])
        rules = click.Choice([o.value for o in Overflow])
        function = click.option("--overflow", type=rules, default=default, show_default=True)(
            function
        )
        return click.option("--rounding", type=modes, default="ties_to_even", show_default=True)(
            function
        )

    return add


def _read(file: str | None, tensor: str | None) -> Any:
    """One tensor: of a file, or of the embedded sample."""
    tensors = sample_gradients() if file is None else TensorFiles([file])
    if tensor is None and file is None:
        tensor = _SAMPLE
    if tensor is None and len(tensors) == 1:
        (tensor,) = tensors
    if tensor is None or tensor not in tensors:
        names = list(tensors)
        listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
        wrong = "say which tensor with --tensor" if tensor is None else f"no tensor {tensor!r}"
        raise ValueError(f"{file or 'the embedded sample'}: {wrong}; there are {listed}")
    return tensors[tensor]


@_picture
@_formats
@click.option("--log", is_flag=True, help="Positive values, on an axis of powers of two.")
@_limits
def number_line(pictures: Any, formats: tuple[str, ...], **options: Any) -> Any:
    """Every value of formats, as marks on a line.

    \b
    Example:
      fpsim plot number-line e2m1f e3m0f --limits 0 8 --out values.svg
    """
    return pictures.number_line(formats, **options)


@_picture
@_format
@_rounding("nan")
@_limits
def step_function(pictures: Any, fmt: str, **options: Any) -> Any:
    """What a cast makes of every real number.

    \b
    Example:
      fpsim plot step-function e2m1f --rounding toward_zero --out steps.svg
    """
    return pictures.step_function(fmt, **options)


@_picture
@_format
@_rounding("nan")
@_limits
def cast_error(pictures: Any, fmt: str, **options: Any) -> Any:
    """The error of a cast.

    \b
    Example:
      fpsim plot cast-error e2m1f --out error.svg
    """
    return pictures.cast_error(fmt, **options)


@_picture
@_formats
@_rounding("saturate")
@_scale
def relative_error(pictures: Any, formats: tuple[str, ...], **options: Any) -> Any:
    """Relative error against magnitude.

    \b
    Example:
      fpsim plot relative-error e4m3fn e5m2 binary16 --out error.svg
    """
    return pictures.relative_error(formats, **options)


@_picture
@_format
@_file
@_tensor
@_scale
def coverage(pictures: Any, fmt: str, file: str | None, tensor: str | None, **options: Any) -> Any:
    """Where data lie in a format's range; without FILE, gradients of the embedded sample.

    \b
    Example:
      fpsim plot coverage e4m3fn gradients.npz --tensor conv1 --scale 1048576 --out c.svg
    """
    return pictures.coverage(_read(file, tensor), fmt, **options)


@_picture
@_file
@_tensor
def fits(pictures: Any, file: str | None, tensor: str | None) -> Any:
    """How lognormal data are.

    \b
    Example:
      fpsim plot fits weights.npy --out fits.svg
    """
    return pictures.fits(_read(file, tensor))


@_picture
@_file
@_tensor
@click.option("--target", type=float, help="A share of zeros whose thresholds are marked.")
def sparsity(pictures: Any, file: str | None, tensor: str | None, target: float | None) -> Any:
    """Zeros after stochastic pruning, against the threshold.

    \b
    Example:
      fpsim plot sparsity gradients.npy --target 0.85 --out sparsity.svg
    """
    return pictures.sparsity(_read(file, tensor), target=target)


@_picture
@click.argument("bits", type=int)
@click.option("--at", type=float, help="A standard deviation of log2|x| to mark.")
@_metric
@click.option("--specials", type=click.Choice(list(SPECIALS)), default="none", show_default=True)
def error_by_sigma(pictures: Any, bits: int, **options: Any) -> Any:
    """The error of every split of BITS bits, against the spread of the data.

    \b
    Example:
      fpsim plot error-by-sigma 6 --at 2.7 --out splits.svg
    """
    return pictures.error_by_sigma(bits, **options)


@_picture
@click.argument("bits", type=int)
@_file
@_tensor
@_metric
def candidates(pictures: Any, bits: int, file: str | None, tensor: str | None, metric: str) -> Any:
    """The error of every split of BITS bits on data, predicted and measured.

    \b
    Example:
      fpsim plot candidates 6 weights.npy --out candidates.svg
    """
    return pictures.candidates(recommend(_read(file, tensor), bits, metric))


@_picture
@click.argument("accumulators", nargs=-1, required=True, metavar="ACCUMULATOR...")
@click.option(
    "--operands",
    default="float8_e4m3fn",
    show_default=True,
    help="The format of the factors, which are normal numbers drawn at random.",
)
@click.option("--positive", is_flag=True, help="Their magnitudes.")
@click.option("--length", type=click.IntRange(1, 1 << 20), default=4096, show_default=True)
@click.option("--rows", type=click.IntRange(1, 1 << 16), default=64, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def accumulation(
    pictures: Any,
    accumulators: tuple[str, ...],
    operands: str,
    positive: bool,
    length: int,
    rows: int,
    seed: int,
) -> Any:  # fmt: skip
    """How the error of sums grows with their length.

    ACCUMULATOR is a format, for a sum in it one by one, or UNIT/OPERANDS, a matrix unit.

    \b
    Example:
      fpsim plot accumulation binary16 nvidia-h100/float8_e4m3fn --out sums.svg
    """
    how = [
        unit(*name.split("/", 1)).accumulator if "/" in name else Accumulator(name)  # type: ignore[arg-type]  # parsed at birth
        for name in accumulators
    ]
    factors = np.random.default_rng(seed).normal(size=(2, rows, length))
    a, b = round(np.abs(factors) if positive else factors, operands)
    named = dict(zip(accumulators, how, strict=True))
    return pictures.accumulation(a, b, named, rng=seed)


@_picture
@click.argument("table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--cost", default="bits", show_default=True, help="A column; less is better.")
@click.option("--error", default="error", show_default=True, help="A column; less is better.")
@click.option("--name", default="format", show_default=True, help="The column of names.")
def pareto(pictures: Any, table: Path, **options: Any) -> Any:
    """What a smaller error costs: rows of TABLE, a .csv file, and those that none beats.

    \b
    Example:
      fpsim plot pareto formats.csv --cost gates --out pareto.svg
    """
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return pictures.pareto(rows, **options)
