"""edgewise_edge: GPT-2 as TFLite on the device, with no network and no TensorFlow."""

from typing import TYPE_CHECKING

from edgewise_edge.completion import Completion, complete
from edgewise_edge.decoding.generate import FinishReason, TokenRequest, Usage
from edgewise_edge.decoding.logprobs import TokenScore
from edgewise_edge.decoding.sampling import SamplingParams, sample
from edgewise_edge.decoding.text import TextAssembler, Transcript
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.errors import (
    CacheMemoryError,
    ContextOverflowError,
    EdgeError,
    EdgewiseError,
    ModelCorruptError,
    ModelError,
    ModelIncompatibleError,
    ModelNotFoundError,
    ModelRefusedError,
    RequestError,
    RuntimeFailedError,
    StoreError,
)
from edgewise_edge.model import DeviceModel
from edgewise_edge.store.catalog import bundled_models, find_model
from edgewise_edge.store.manifest import Manifest

__all__ = [
    "CacheMemoryError",
    "Completion",
    "ContextOverflowError",
    "DeviceModel",
    "EdgeError",
    "EdgewiseError",
    "FinishReason",
    "Manifest",
    "ModelCorruptError",
    "ModelError",
    "ModelIncompatibleError",
    "ModelNotFoundError",
    "ModelRefusedError",
    "RequestError",
    "RuntimeFailedError",
    "SamplingParams",
    "StoreError",
    "TextAssembler",
    "TokenRequest",
    "TokenScore",
    "Tokenizer",
    "Transcript",
    "Usage",
    "bundled_models",
    "complete",
    "find_model",
    "sample",
]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Read the version when it is asked for: an import would take longer by a tenth."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("edgewise-edge")
