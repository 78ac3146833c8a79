"""edgewise_edge: GPT-2 as TFLite on the device, with no network and no TensorFlow."""

from typing import TYPE_CHECKING

from edgewise_edge.decoding.request import FinishReason, TokenRequest, Usage
from edgewise_edge.decoding.sampling_params import SamplingParams
from edgewise_edge.decoding.text import TextAssembler, Transcript
from edgewise_edge.decoding.token_score import TokenScore
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

# Imported when they are asked for: they need NumPy, and a router that has yet to load a model does not.
_LATE = {
    "Completion": "edgewise_edge.completion",
    "complete": "edgewise_edge.completion",
    "sample": "edgewise_edge.decoding.sampling",
    "DeviceModel": "edgewise_edge.model",
}

if TYPE_CHECKING:
    from edgewise_edge.completion import Completion as Completion
    from edgewise_edge.completion import complete as complete
    from edgewise_edge.decoding.sampling import sample as sample
    from edgewise_edge.model import DeviceModel as DeviceModel

    __version__: str
else:

    def __getattr__(name: str) -> object:
        """Read the version when it is asked for: an import would take longer by a tenth."""
        if name in _LATE:
            from importlib import import_module

            found = globals()[name] = getattr(import_module(_LATE[name]), name)
            return found
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("edgewise-edge")
