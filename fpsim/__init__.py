"""fpsim: a bit-accurate simulator of low-precision floating point."""

from fpsim import spec
from fpsim.accumulate import dot, matmul
from fpsim.accumulator import Accumulator, Carry, Order
from fpsim.analysis.dither import DitherExpectation, expected_dither
from fpsim.analysis.error import Metric
from fpsim.analysis.lognormal import Lognormal
from fpsim.analysis.measure import measured_error
from fpsim.analysis.pruning import PruningExpectation, expected_pruning
from fpsim.analysis.recommend import Recommendation, SetRecommendation, recommend
from fpsim.analysis.sketch import Sketch
from fpsim.analysis.sums import DotError, dot_error, matmul_error, ulp_error
from fpsim.arithmetic import add, divide, faa, fma, multiply, sqrt, subtract
from fpsim.array import FloatArray, array, result
from fpsim.cast import decode, encode, pack, round, unpack
from fpsim.catalog import formats
from fpsim.files import sample_gradients
from fpsim.format import Format, NaNs
from fpsim.gradients.allocation import (
    Allocation,
    LayerSparsity,
    SparsityAllocation,
    Weighting,
    allocate_sparsity,
)
from fpsim.gradients.dither import Dithered, dither, dither_encode
from fpsim.gradients.luq import (
    HindsightMax,
    Luq,
    LuqExpectation,
    expected_luq,
    luq,
    luq_encode,
    luq_format,
)
from fpsim.gradients.nm import (
    PackedNM,
    expected_nm_nmse,
    nm_pack,
    nm_sparsify,
    nm_unpack,
    nm_variance,
)
from fpsim.gradients.pruning import Pruned, Pruning, prune
from fpsim.rounding import Flag, Overflow, Rounding, Stochastic, count_flags
from fpsim.stream import Stream
from fpsim.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Accumulator",
    "Allocation",
    "Carry",
    "DitherExpectation",
    "Dithered",
    "DotError",
    "Flag",
    "FloatArray",
    "Format",
    "HindsightMax",
    "LayerSparsity",
    "Lognormal",
    "Luq",
    "LuqExpectation",
    "Metric",
    "NaNs",
    "Order",
    "Overflow",
    "PackedNM",
    "Pruned",
    "Pruning",
    "PruningExpectation",
    "Recommendation",
    "Rounding",
    "SetRecommendation",
    "Sketch",
    "SparsityAllocation",
    "Stochastic",
    "Stream",
    "Weighting",
    "add",
    "allocate_sparsity",
    "array",
    "count_flags",
    "decode",
    "dither",
    "dither_encode",
    "divide",
    "dot",
    "dot_error",
    "encode",
    "expected_dither",
    "expected_luq",
    "expected_nm_nmse",
    "expected_pruning",
    "faa",
    "fma",
    "formats",
    "get_num_threads",
    "luq",
    "luq_encode",
    "luq_format",
    "matmul",
    "matmul_error",
    "measured_error",
    "multiply",
    "nm_pack",
    "nm_sparsify",
    "nm_unpack",
    "nm_variance",
    "pack",
    "prune",
    "recommend",
    "result",
    "round",
    "sample_gradients",
    "set_num_threads",
    "spec",
    "sqrt",
    "subtract",
    "ulp_error",
    "unpack",
]
