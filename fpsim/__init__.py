"""fpsim: a bit-accurate simulator of low-precision floating point."""

from fpsim import spec
from fpsim.cast import decode, encode, pack, round, unpack
from fpsim.catalog import formats
from fpsim.format import Format, NaNs
from fpsim.rounding import Flag, Overflow, Rounding, Stochastic
from fpsim.stream import Stream
from fpsim.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "Flag",
    "Format",
    "NaNs",
    "Overflow",
    "Rounding",
    "Stochastic",
    "Stream",
    "decode",
    "encode",
    "formats",
    "get_num_threads",
    "pack",
    "round",
    "set_num_threads",
    "spec",
    "unpack",
]
