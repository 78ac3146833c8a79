"""LiteRT through its C API: the backend that reads and writes our arrays in place."""

from edgewise_edge.runtime.litert.api import library
from edgewise_edge.runtime.litert.attention import attention_ops
from edgewise_edge.runtime.litert.backend import CompiledBackend
from edgewise_edge.runtime.litert.buffers import shares_memory
from edgewise_edge.runtime.litert.compiling import CustomOp

library()  # whoever imports this must see that it cannot be loaded

__all__ = ["CompiledBackend", "CustomOp", "attention_ops", "shares_memory"]
