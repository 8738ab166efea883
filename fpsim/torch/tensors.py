"""Tensors as NumPy arrays and back, on the same memory. Imports arguments.

bfloat16 and the FP8 types become arrays of ml_dtypes, which the extra ``torch`` brings along.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fpsim.arguments import shown

_NATIVE = {torch.float16, torch.float32, torch.float64}
# Types that NumPy lacks: the integer type of their width, and their name in ml_dtypes.
_FOREIGN = {
    torch.bfloat16: (torch.int16, "bfloat16"),
    torch.float8_e4m3fn: (torch.uint8, "float8_e4m3fn"),
    torch.float8_e4m3fnuz: (torch.uint8, "float8_e4m3fnuz"),
    torch.float8_e5m2: (torch.uint8, "float8_e5m2"),
    torch.float8_e5m2fnuz: (torch.uint8, "float8_e5m2fnuz"),
}


def check(name: str, x: Any) -> None:
    """Raise TypeError for what is no tensor that fpsim computes on."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(
            f"{name}={shown(x)} is of type {type(x).__name__}, not a tensor; give a torch.Tensor, "
            "or use the function of the same name in fpsim"
        )
    if x.dtype not in _NATIVE and x.dtype not in _FOREIGN:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in (*_NATIVE, *_FOREIGN))
        raise TypeError(
            f"{name} has dtype {str(x.dtype).removeprefix('torch.')}; give one of {allowed}"
        )
    if x.layout is not torch.strided:
        raise TypeError(f"{name} has layout {x.layout}; give a dense tensor: {name}.to_dense()")


def as_array(x: torch.Tensor) -> NDArray[Any]:
    """The tensor's memory as an array (that of a copy where it is not on the CPU)."""
    x = x.detach().cpu()
    if x.dtype in _NATIVE:
        return np.asarray(x.resolve_neg().numpy())
    integers, name = _FOREIGN[x.dtype]
    return np.asarray(x.view(integers).numpy()).view(_foreign(name))


def as_tensor(array: NDArray[Any], like: torch.Tensor) -> torch.Tensor:
    """The array's memory as a tensor of `like`'s dtype, which is the array's, and device."""
    if like.dtype in _NATIVE:
        return torch.from_numpy(array).to(like.device)
    integers, _ = _FOREIGN[like.dtype]
    words = array.view(np.int16 if integers is torch.int16 else np.uint8)
    return torch.from_numpy(words).view(like.dtype).to(like.device)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0], None


def straight_through(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value` in x's place, with x's gradient."""
    result: torch.Tensor = _StraightThrough.apply(x, value)
    return result


def _foreign(name: str) -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            f"tensors of dtype {name} need ml_dtypes; pip install 'fpsim[torch]', or convert them "
            "with .float() first"
        ) from None
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype
