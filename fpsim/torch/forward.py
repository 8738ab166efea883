"""linear, conv2d, ForwardPass: layers whose operands are rounded and whose sums are emulated.

Imports accumulate, arguments, cast, format, rounding, stream, and what stands beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fpsim.accumulate import matmul as multiply
from fpsim.accumulator import Accumulator
from fpsim.arguments import shown
from fpsim.cast import round as round_to
from fpsim.format import Format
from fpsim.rounding import Stochastic
from fpsim.stream import Stream
from fpsim.torch.gradients import Transform, same_kind
from fpsim.torch.layers import chosen_layers
from fpsim.torch.ops import seeded, stream_of
from fpsim.torch.tensors import as_array, as_tensor, check, straight_through

_accumulators: dict[str, Accumulator] = {}  # by their repr, for an operation of PyTorch takes text


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    accumulator: Accumulator,
    backward: Accumulator | None = None,
    rng: Any = None,
) -> torch.Tensor:
    """`torch.nn.functional.linear` whose dot products are summed by an accumulator.

    Parameters
    ----------
    x : Tensor, (..., inputs)
    weight : Tensor, (outputs, inputs)
    bias : Tensor, (outputs,), optional
        What the sums start from, rounded to the accumulator's format.
    accumulator : Accumulator
    backward : Accumulator, optional
        How the two products of the backward pass are summed; None: as PyTorch does.
    rng : int, Stream, numpy.random.Generator or None
        Of accumulators that round stochastically; see `fpsim.torch.round`.

    Returns
    -------
    Tensor, (..., outputs)
        Of x's dtype: sums that it does not hold are rounded once more.

    Examples
    --------
    >>> import torch, fpsim, fpsim.torch
    >>> x, weight = torch.ones(1, 4096), torch.full((1, 4096), 0.125)
    >>> fpsim.torch.linear(x, weight, accumulator=fpsim.Accumulator("e6m9"))  # 512, but it stalls
    tensor([[128.]])
    """
    for name, tensor in (("x", x), ("weight", weight), ("bias", bias)):
        if tensor is not None:
            check(name, tensor)
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x {tuple(x.shape)} and weight {tuple(weight.shape)} do not agree; give x of shape "
            "(…, inputs) and a weight of shape (outputs, inputs)"
        )
    keys = _named(accumulator, "accumulator"), _named(backward, "backward")
    start = None if bias is None else bias.expand(1, -1)
    flat = x.reshape(1, -1, x.shape[-1])
    result: torch.Tensor = _matmul(flat, weight.t()[None], start, *keys, *_numbers(keys, rng))
    return result.reshape(*x.shape[:-1], weight.shape[0])


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    accumulator: Accumulator,
    backward: Accumulator | None = None,
    rng: Any = None,
) -> torch.Tensor:
    """`torch.nn.functional.conv2d` whose dot products are summed by an accumulator.

    The terms of an output come in the order input channel, row, column of the kernel; products
    with padding count as terms. In the backward pass the sums run over the outputs' channels, and
    for the weights over all images and places.

    Parameters
    ----------
    x : Tensor, (images, inputs, height, width)
    weight : Tensor, (outputs, inputs / groups, kernel height, kernel width)
    bias : Tensor, (outputs,), optional
    stride, padding, dilation, groups
        As for PyTorch's.
    accumulator, backward, rng
        As for `linear`.

    Examples
    --------
    >>> import torch, fpsim, fpsim.torch
    >>> x, weight = torch.ones(1, 1, 3, 3), torch.full((1, 1, 3, 3), 0.75)
    >>> coarse = fpsim.Accumulator("e4m1", rounding="toward_zero")
    >>> fpsim.torch.conv2d(x, weight, accumulator=coarse).item()  # 6.75, but the sum is cut
    2.0
    """
    for name, tensor in (("x", x), ("weight", weight), ("bias", bias)):
        if tensor is not None:
            check(name, tensor)
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"x {tuple(x.shape)} and weight {tuple(weight.shape)} with groups={groups} do not "
            "agree; give x of shape (images, inputs, height, width) and a weight of shape "
            "(outputs, inputs / groups, height, width)"
        )
    if weight.shape[0] % groups:
        raise ValueError(f"groups={groups} do not divide the {weight.shape[0]} outputs of weight")
    kernel, strides, steps = tuple(weight.shape[2:]), _pair(stride), _pair(dilation)
    before, after = _edges(padding, kernel, strides, steps)
    padded = functional.pad(x, (before[1], after[1], before[0], after[0]))
    images, height, width = (
        len(x),
        *(
            (size - step * (k - 1) - 1) // by + 1
            for size, step, k, by in zip(padded.shape[2:], steps, kernel, strides, strict=True)
        ),
    )
    columns = functional.unfold(padded, kernel, steps, 0, strides)
    depth, outputs = columns.shape[1] // groups, len(weight) // groups
    columns = columns.reshape(images, groups, depth, -1).permute(1, 2, 0, 3)
    keys = _named(accumulator, "accumulator"), _named(backward, "backward")
    start = None if bias is None else bias.reshape(groups, outputs, 1)
    sums: torch.Tensor = _matmul(
        weight.reshape(groups, outputs, depth),
        columns.reshape(groups, depth, -1),
        start,
        *keys,
        *_numbers(keys, rng),
    )
    sums = sums.reshape(groups * outputs, images, height, width)
    return sums.transpose(0, 1).contiguous()


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _edges(
    padding: Any, kernel: tuple[int, ...], strides: tuple[int, int], steps: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros before and after, of both axes."""
    if not isinstance(padding, str):
        return _pair(padding), _pair(padding)
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same" or strides != (1, 1):
        raise ValueError(
            f"padding={padding!r} with stride={strides}: give numbers, 'valid', or 'same' with "
            "stride=1"
        )
    total = [step * (k - 1) for step, k in zip(steps, kernel, strict=True)]
    return (total[0] // 2, total[1] // 2), (-(-total[0] // 2), -(-total[1] // 2))


# Products of matrices as an operation -------------------------------------------------------------


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator, unused-ignore]
def _named(accumulator: Any, name: str) -> str:
    """The accumulator as text; '' for None."""
    if accumulator is None and name == "backward":
        return ""
    if not isinstance(accumulator, Accumulator):
        raise TypeError(
            f"{name}={shown(accumulator)} is of type {type(accumulator).__name__}; give a "
            "fpsim.Accumulator"
        )
    key = repr(accumulator)
    _accumulators[key] = accumulator
    return key


def _numbers(keys: tuple[str, str], rng: Any) -> tuple[int, int]:
    """Seed and offset, where any of the accumulators draws."""
    return seeded(rng) if any("Stochastic(" in key for key in keys) else (0, 0)


@torch.library.custom_op(
    "fpsim::matmul",
    mutates_args=(),
    schema="(Tensor a, Tensor b, Tensor? c, str accumulator, str backward, int seed, int offset)"
    " -> Tensor",
)
def _matmul(
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor | None,
    accumulator: str,
    backward: str,
    seed: int,
    offset: int,
) -> torch.Tensor:
    how = _accumulators[accumulator]
    sums = multiply(
        as_array(a),
        as_array(b),
        how,
        None if c is None else as_array(c),
        rng=stream_of(seed, offset) if isinstance(how.rounding, Stochastic) else None,
    )
    return torch.from_numpy(sums).to(a.device, a.dtype)


@_matmul.register_fake
def _(
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor | None,
    accumulator: str,
    backward: str,
    seed: int,
    offset: int,
) -> torch.Tensor:
    return a.new_empty((a.shape[0], a.shape[1], b.shape[2]))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    a, b, c, _, ctx.how, ctx.seed, ctx.offset = inputs
    ctx.c_shape = None if c is None else c.shape
    ctx.save_for_backward(a, b)


def _products(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    a, b = ctx.saved_tensors
    needs = ctx.needs_input_grad
    grad_a = grad_b = grad_c = None

    def product(left: torch.Tensor, right: torch.Tensor, label: str) -> torch.Tensor:
        if not ctx.how:
            return left @ right
        numbers = seeded(stream_of(ctx.seed, ctx.offset).derive(label))
        result: torch.Tensor = _matmul(left, right, None, ctx.how, ctx.how, *numbers)
        return result

    if needs[0]:
        grad_a = product(gradient, b.transpose(1, 2), "a")
    if needs[1]:
        grad_b = product(a.transpose(1, 2), gradient, "b")
    if ctx.c_shape is not None and needs[2]:
        grad_c = gradient.sum_to_size(ctx.c_shape)
    return grad_a, grad_b, grad_c, None, None, None, None


_matmul.register_autograd(_products, setup_context=_remember)


# Whole layers -------------------------------------------------------------------------------------


class ForwardPass:
    """Round the weights and activations of a network's layers, and sum as an accumulator does.

    With `NeuralGradients` the whole of a training step is emulated. The weights that the optimiser
    moves stay as they are: they are rounded anew in every pass, and gradients go straight through
    every rounding.

    Parameters
    ----------
    model : torch.nn.Module
    weights, activations : Format, str, dtype, callable or None
        A format, into which is rounded to nearest, saturating; or a transform, called as
        `NeuralGradients` calls its own, such as a `fpsim.ScaledRounding`, of which every layer
        gets a deep copy. Activations are rounded where they enter a layer. None: not at all.
    accumulator, backward : Accumulator, optional
        How the layers' dot products are summed, and those of their backward pass; None: as
        PyTorch does.
    layers : str, or iterable of str, optional
        Patterns of names of `torch.nn.Linear` and `torch.nn.Conv2d` modules; by default all.
    seed : int
        Of all random bits: those of a layer's n-th pass are its own.

    Examples
    --------
    >>> import torch, fpsim, fpsim.torch
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> torch.nn.init.constant_(model.weight, 0.3).data
    tensor([[0.3000, 0.3000]])
    >>> with fpsim.torch.ForwardPass(model, weights="float8_e4m3fn"):
    ...     model(torch.tensor([1.0, 10.0])).data
    tensor([3.4375])
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Any = None,
        activations: Any = None,
        accumulator: Accumulator | None = None,
        layers: str | Iterable[str] | None = None,
        *,
        backward: Accumulator | None = None,
        seed: int = 0,
    ) -> None:
        self._stream = Stream(seed)
        roles = {"weights": _transform("weights", weights)}
        roles["activations"] = _transform("activations", activations)
        if accumulator is not None:
            _named(accumulator, "accumulator")
        _named(backward, "backward")
        if backward is not None and accumulator is None:
            raise ValueError(
                "backward was given without accumulator, and PyTorch's own sums have a backward "
                "pass of their own; give both"
            )
        self._sums = None if accumulator is None else (accumulator, backward)
        self._modules = _supported(model, layers)
        self._roles = {name: copy.deepcopy(roles) for name in self._modules}
        self._passes = dict.fromkeys(self._modules, 0)
        for name, module in self._modules.items():
            if "forward" in vars(module):
                raise ValueError(f"layer {name!r} is emulated already; remove() that first")
            module.forward = partial(self._forward, name, module)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are emulated."""
        return tuple(self._modules)

    def remove(self) -> None:
        """Leave the network as it was."""
        for module in self._modules.values():
            vars(module).pop("forward", None)

    def __enter__(self) -> ForwardPass:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def _forward(self, name: str, module: Any, x: torch.Tensor) -> torch.Tensor:
        count = self._passes[name]
        self._passes[name] += 1
        stream = self._stream.derive(name, count)
        roles = self._roles[name]
        x = _through(x, roles["activations"], stream.derive("activations"))
        weight = _through(module.weight, roles["weights"], stream.derive("weights"))
        if self._sums is None:
            if isinstance(module, nn.Linear):
                return functional.linear(x, weight, module.bias)
            result: torch.Tensor = module._conv_forward(x, weight, module.bias)
            return result
        accumulator, backward = self._sums
        rng = stream.derive("sums")
        if isinstance(module, nn.Linear):
            return linear(
                x, weight, module.bias, accumulator=accumulator, backward=backward, rng=rng
            )
        padding = module.padding
        if module.padding_mode != "zeros":
            x = functional.pad(x, module._reversed_padding_repeated_twice, module.padding_mode)
            padding = 0
        return conv2d(
            x,
            weight,
            module.bias,
            module.stride,
            padding,
            module.dilation,
            module.groups,
            accumulator=accumulator,
            backward=backward,
            rng=rng,
        )


def _through(x: torch.Tensor, transform: Transform | None, rng: Stream) -> torch.Tensor:
    """What a transform makes of a tensor, with the tensor's gradient."""
    if transform is None:
        return x
    array = as_array(x.contiguous())
    array.flags.writeable = False
    return straight_through(x, as_tensor(same_kind(transform(array, rng=rng), array, transform), x))


def _transform(name: str, value: Any) -> Transform | None:
    if value is None or (callable(value) and not isinstance(value, type)):
        return value
    fmt = Format.parse(value)
    fmt.require_binary64()
    return partial(_rounded, fmt=fmt)


def _rounded(x: Any, rng: Stream, fmt: Format) -> Any:
    return round_to(x, fmt, overflow="saturate")


def _supported(model: nn.Module, layers: str | Iterable[str] | None) -> dict[str, nn.Module]:
    modules = dict(model.named_modules())
    supported = (nn.Linear, nn.Conv2d)
    names = chosen_layers(model, layers)
    if layers is None:
        names = [name for name in names if isinstance(modules[name], supported)]
    for name in names:
        if not isinstance(modules[name], supported):
            raise TypeError(
                f"layer {name!r} is a {type(modules[name]).__name__}; only Linear and Conv2d are "
                "emulated: give a pattern that matches those alone"
            )
    return {name: modules[name] for name in names}
