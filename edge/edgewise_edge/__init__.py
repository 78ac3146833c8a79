"""edgewise_edge: GPT-2 as TFLite on the device, with no network and no TensorFlow."""

from edgewise_edge.catalog import bundled_models, find_model
from edgewise_edge.completion import Completion, complete
from edgewise_edge.errors import (
    ContextOverflowError,
    EdgeError,
    ModelCorruptError,
    ModelError,
    ModelIncompatibleError,
    ModelNotFoundError,
    RequestError,
    RuntimeFailedError,
)
from edgewise_edge.generation import FinishReason, TokenRequest, Usage
from edgewise_edge.manifest import Manifest
from edgewise_edge.model import DeviceModel
from edgewise_edge.sampling import SamplingParams, sample
from edgewise_edge.text import TextAssembler
from edgewise_edge.tokenizer import Tokenizer
from edgewise_edge.transcript import Transcript

__all__ = [
    "Completion",
    "ContextOverflowError",
    "DeviceModel",
    "EdgeError",
    "FinishReason",
    "Manifest",
    "ModelCorruptError",
    "ModelError",
    "ModelIncompatibleError",
    "ModelNotFoundError",
    "RequestError",
    "RuntimeFailedError",
    "SamplingParams",
    "TextAssembler",
    "TokenRequest",
    "Tokenizer",
    "Transcript",
    "Usage",
    "bundled_models",
    "complete",
    "find_model",
    "sample",
]
