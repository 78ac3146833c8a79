"""edgewise: a hybrid edge/cloud inference router for GPT-2.

from edgewise import Router

with Router() as router:
    for chunk in router.stream("Once upon a time"):
        print(chunk.text, end="", flush=True)
"""

from edgewise.aio import AsyncTextStream
from edgewise.cloud_security import CloudSecurity
from edgewise.cloud_timeouts import CloudTimeouts
from edgewise.errors import (
    CloudAccessError,
    CloudBusyError,
    CloudRefusedError,
    CloudUnavailableError,
    ConfigurationError,
    EdgewiseError,
    NoSourceError,
    PrivacyError,
    SourceFailedError,
    VocabularyMismatchError,
)
from edgewise.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Observer,
    Refused,
)
from edgewise.generation import Chunk, Generation, Segment, Timings
from edgewise.latency import LatencyLog, Measurement
from edgewise.on_device import ModelAvailability
from edgewise.router import Router
from edgewise.situation import (
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
from edgewise.stream import TextStream
from edgewise_edge.decoding.generate import FinishReason, Usage
from edgewise_edge.errors import EdgeError, ModelError, RequestError

__all__ = [
    "AsyncTextStream",
    "AttemptEnded",
    "Availability",
    "Chunk",
    "CloudAccessError",
    "CloudBusyError",
    "CloudRefusedError",
    "CloudSecurity",
    "CloudTimeouts",
    "CloudUnavailableError",
    "Completed",
    "ConfigurationError",
    "Decided",
    "Decision",
    "DeviceState",
    "EdgeError",
    "EdgewiseError",
    "Event",
    "FinishReason",
    "Generation",
    "HandedOver",
    "Hedged",
    "LatencyLog",
    "Limits",
    "Measurement",
    "Mode",
    "ModelAvailability",
    "ModelError",
    "NoSourceError",
    "Observer",
    "PredictedTime",
    "Privacy",
    "PrivacyError",
    "Reason",
    "Refused",
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
