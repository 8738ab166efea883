"""fpsim for PyTorch: rounding as an operation with a gradient, and formats for what is trained.

Needs the extra ``torch`` and is not part of ``import fpsim``: ``import fpsim.torch``.
"""

from fpsim.torch.capture import capture
from fpsim.torch.gradients import GradientRecord, NeuralGradients
from fpsim.torch.ops import round

__all__ = ["GradientRecord", "NeuralGradients", "capture", "round"]
