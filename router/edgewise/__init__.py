"""edgewise: a hybrid edge/cloud inference router for GPT-2.

from edgewise import Router

with Router() as router:
    for chunk in router.stream("Once upon a time"):
        print(chunk.text, end="", flush=True)
"""

from edgewise.cloud_security import CloudSecurity
from edgewise.errors import (
    CloudAccessError,
    CloudBusyError,
    CloudRefusedError,
    CloudUnavailableError,
    ConfigurationError,
    EdgewiseError,
    NoSourceError,
    SourceFailedError,
    VocabularyMismatchError,
)
from edgewise.generation import Chunk, Generation, Segment, Timings
from edgewise.latency import LatencyLog, Measurement
from edgewise.on_device import ModelAvailability
from edgewise.policy import (
    Availability,
    Decision,
    DeviceState,
    Limits,
    Mode,
    PredictedTime,
    Privacy,
    Reason,
    Source,
    Veto,
    VetoCode,
)
from edgewise.router import Router
from edgewise.stream import TextStream
from edgewise_edge.errors import EdgeError, ModelError, RequestError
from edgewise_edge.generation import FinishReason, Usage

__all__ = [
    "Availability",
    "Chunk",
    "CloudAccessError",
    "CloudBusyError",
    "CloudRefusedError",
    "CloudSecurity",
    "CloudUnavailableError",
    "ConfigurationError",
    "Decision",
    "DeviceState",
    "EdgeError",
    "EdgewiseError",
    "FinishReason",
    "Generation",
    "LatencyLog",
    "Limits",
    "Measurement",
    "Mode",
    "ModelAvailability",
    "ModelError",
    "NoSourceError",
    "PredictedTime",
    "Privacy",
    "Reason",
    "RequestError",
    "Router",
    "Segment",
    "Source",
    "SourceFailedError",
    "TextStream",
    "Timings",
    "Usage",
    "Veto",
    "VetoCode",
    "VocabularyMismatchError",
]
