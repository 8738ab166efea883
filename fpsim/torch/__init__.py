"""fpsim for PyTorch: rounding as an operation with a gradient, and formats for what is trained.

Needs the extra ``torch`` and is not part of ``import fpsim``: ``import fpsim.torch``.
"""

from fpsim.torch.capture import capture
from fpsim.torch.forward import ForwardPass, conv2d, linear
from fpsim.torch.gradients import GradientRecord, NeuralGradients
from fpsim.torch.ops import round

__all__ = [
    "ForwardPass",
    "GradientRecord",
    "NeuralGradients",
    "capture",
    "conv2d",
    "linear",
    "round",
]
