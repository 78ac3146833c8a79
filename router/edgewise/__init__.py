"""edgewise: a hybrid edge/cloud inference router for GPT-2.

from edgewise import Router

with Router() as router:
    for chunk in router.stream("Once upon a time"):
        print(chunk.text, end="", flush=True)
"""

from typing import TYPE_CHECKING

from edgewise.cloud.config import CloudSecurity, CloudTimeouts
from edgewise.device.limits import Limits
from edgewise.errors import (
    ChannelError,
    ChannelExpiredError,
    CloudAccessError,
    CloudBusyError,
    CloudRefusedError,
    CloudUnavailableError,
    ConfigurationError,
    DeliveryError,
    DeviceBusyError,
    DownloadFailedError,
    NoSourceError,
    PrivacyError,
    RouterClosedError,
    SourceFailedError,
    StreamNotStartedError,
    UnknownOptionError,
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
from edgewise.options import RequestOptions
from edgewise.policy.types import (
    Availability,
    Decision,
    DeviceState,
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

__all__ = [
    "AsyncTextStream",
    "AttemptEnded",
    "Availability",
    "CacheMemoryError",
    "ChannelError",
    "ChannelExpiredError",
    "Chunk",
    "CloudAccessError",
    "CloudBusyError",
    "CloudRefusedError",
    "CloudSecurity",
    "CloudTimeouts",
    "CloudUnavailableError",
    "Completed",
    "ConfigurationError",
    "ContextOverflowError",
    "Decided",
    "Decision",
    "DeliveryError",
    "DeviceBusyError",
    "DeviceState",
    "DownloadFailedError",
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
    "ModelCorruptError",
    "ModelError",
    "ModelIncompatibleError",
    "ModelNotFoundError",
    "ModelRefusedError",
    "NoSourceError",
    "Observer",
    "PredictedTime",
    "Privacy",
    "PrivacyError",
    "Reason",
    "Refused",
    "RequestError",
    "RequestOptions",
    "Router",
    "RouterClosedError",
    "RuntimeFailedError",
    "Segment",
    "Source",
    "SourceFailedError",
    "StoreError",
    "StreamNotStartedError",
    "TextStream",
    "Timings",
    "UnknownOptionError",
    "Usage",
    "Veto",
    "VetoCode",
    "VocabularyMismatchError",
]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Read the version when it is asked for: an import would take longer by a tenth."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("edgewise")
