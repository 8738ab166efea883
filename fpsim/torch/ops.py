"""round: rounding to a format as a PyTorch operation with a straight-through gradient.

Imports catalog, cast, format, rounding, stream, torch.tensors.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from fpsim.cast import round as round_to
from fpsim.catalog import parse, spell
from fpsim.rounding import Overflow, Rounding, Stochastic, parse_overflow, parse_rounding
from fpsim.stream import Stream
from fpsim.torch.tensors import as_array, check


def round(
    x: torch.Tensor,
    fmt: Any,
    *,
    rounding: Rounding | Stochastic | str = "ties_to_even",
    overflow: Overflow | str = "nan",
    rng: Any = None,
) -> torch.Tensor:
    """Round every element once to a value of a format, as `fpsim.round` does.

    The gradient passes straight through: that of the result is that of `x`.

    Parameters
    ----------
    x : Tensor
        float16, bfloat16, float32, float64 or an FP8 type, whose dtype the result has. A tensor
        that is not on the CPU is copied there and its result back.
    fmt, rounding, overflow
        As for `fpsim.round`.
    rng : int, Stream, numpy.random.Generator or None
        Where `Stochastic` takes its random bits from. None: seeded by a draw from PyTorch's own
        generator, so that ``torch.manual_seed`` repeats it.

    Examples
    --------
    >>> import torch, fpsim.torch
    >>> x = torch.tensor([0.3, -1.06], requires_grad=True)
    >>> y = fpsim.torch.round(x, "float8_e4m3fn")
    >>> y.detach(), torch.autograd.grad(y.sum(), x)
    (tensor([ 0.3125, -1.0000]), (tensor([1., 1.]),))
    """
    check("x", x)
    name, mode, rule = _spelled(fmt, rounding, overflow)
    seed = offset = 0
    if mode.startswith("stochastic"):
        seed, offset = seeded(rng)
    result: torch.Tensor = _round(x, name, mode, rule, seed, offset)
    return result


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _spelled(fmt: Any, rounding: Any, overflow: Any) -> tuple[str, str, str]:
    """The arguments checked, and as the strings that an operation of PyTorch may have."""
    mode = parse_rounding(rounding)
    if isinstance(mode, Stochastic):
        spelled = f"stochastic {mode.variant} {mode.bits or ''}"
    else:
        spelled = mode.value
    fmt = parse(fmt)
    fmt.require_binary64()
    return spell(replace(fmt, name=None)), spelled, parse_overflow(overflow).value


@lru_cache(maxsize=256)
def _mode(spelled: str) -> Rounding | Stochastic:
    word, *rest = spelled.split(" ")
    if word != "stochastic":
        return Rounding(word)
    variant, bits = rest
    return Stochastic(int(bits) if bits else None, variant)


def seeded(rng: Any) -> tuple[int, int]:
    """The stream's seed and offset as the signed integers that an operation of PyTorch takes."""
    if rng is None:
        high, low = torch.randint(1 << 32, (2,)).tolist()
        stream = Stream(high << 32 | low)
    else:
        stream = Stream.of(rng)
    return _signed(stream.seed), _signed(stream.offset)


def stream_of(seed: int, offset: int) -> Stream:
    """The stream that `seeded` put into numbers."""
    return Stream(seed % (1 << 64), offset % (1 << 64))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


@torch.library.custom_op(
    "fpsim::round",
    mutates_args=(),
    schema="(Tensor x, str fmt, str rounding, str overflow, int seed, int offset) -> Tensor",
)
def _round(
    x: torch.Tensor, fmt: str, rounding: str, overflow: str, seed: int, offset: int
) -> torch.Tensor:
    host = x.cpu()
    out = torch.empty_like(host)
    random = rounding.startswith("stochastic")
    round_to(
        as_array(host),
        fmt,
        rounding=_mode(rounding),
        overflow=overflow,
        rng=stream_of(seed, offset) if random else None,
        out=as_array(out),
    )
    return out.to(x.device)


@_round.register_fake
def _(
    x: torch.Tensor, fmt: str, rounding: str, overflow: str, seed: int, offset: int
) -> torch.Tensor:
    return torch.empty_like(x)


def _straight_through(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    return gradient, None, None, None, None, None


_round.register_autograd(_straight_through)
