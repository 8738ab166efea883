"""linear, conv2d, ForwardPass: layers whose operands are rounded and whose sums are emulated.

Imports accumulate, arguments, cast, format, gradients, stream, torch.gradients, torch.tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fpsim.accumulate import Accumulator
from fpsim.accumulate import matmul as multiply_matrices
from fpsim.arguments import shown
from fpsim.cast import round as round_to
from fpsim.format import Format
from fpsim.rounding import Stochastic
from fpsim.stream import Stream
from fpsim.torch.gradients import chosen_layers, same_kind
from fpsim.torch.ops import operand_of_stream
from fpsim.torch.tensors import as_array, as_tensor, check

_ACCUMULATORS: dict[str, Accumulator] = {}  # by what an operation of PyTorch is told: their repr
