"""edgewise: a hybrid edge/cloud inference router for GPT-2.

from edgewise import Router

with Router() as router:
    for chunk in router.stream("Once upon a time"):
        print(chunk.text, end="", flush=True)
"""

from edgewise.cloud.config import CloudSecurity, CloudTimeouts
from edgewise.errors import (
    CloudAccessError,
    CloudBusyError,
    CloudRefusedError,
    CloudUnavailableError,
    ConfigurationError,
    EdgewiseError,
    NoSourceError,
    PrivacyError,
    RouterClosedError,
    SourceFailedError,
    StreamNotStartedError,
    VocabularyMismatchError,
)
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Observer,
    Refused,
)
from edgewise.generation.result import Chunk, Generation, Segment, Timings
from edgewise.generation.source import ModelAvailability
from edgewise.generation.stream import AsyncTextStream, TextStream
from edgewise.latency.log import LatencyLog
from edgewise.latency.measurement import Measurement
from edgewise.policy.types import (
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
    "RouterClosedError",
    "Segment",
    "Source",
    "SourceFailedError",
    "StreamNotStartedError",
    "TextStream",
    "Timings",
    "Usage",
    "Veto",
    "VetoCode",
    "VocabularyMismatchError",
]
