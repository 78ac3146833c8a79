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
    GenerationEvent,
    HandedOver,
    Hedged,
    Observer,
    Refused,
    Scored,
)
from edgewise.generation.result import Chunk, Generation, Score, Segment, Timings
from edgewise.generation.source import ModelAvailability
from edgewise.generation.stream import AsyncTextStream, TextStream
from edgewise.latency.log import LatencyLog
from edgewise.latency.measurement import Measurement
from edgewise.options import RequestOptions, ScoreOptions
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
from edgewise_edge.decoding.request import FinishReason, Usage
from edgewise_edge.decoding.token_score import TokenScore
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
    "DownloadProgress",
    "DownloadProgressed",
    "DownloadSettings",
    "DownloadStarted",
    "EdgeError",
    "EdgewiseError",
    "Event",
    "FinishReason",
    "Generation",
    "GenerationEvent",
    "HandedOver",
    "Hedged",
    "LatencyLog",
    "Limits",
    "Measurement",
    "Mode",
    "ModelAvailability",
    "ModelCorruptError",
    "ModelError",
    "ModelEvent",
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
    "RevisionActivated",
    "RevisionRefused",
    "RevisionRolledBack",
    "RevisionStaged",
    "Router",
    "RouterClosedError",
    "RuntimeFailedError",
    "Score",
    "ScoreOptions",
    "Scored",
    "Segment",
    "Source",
    "SourceFailedError",
    "StoreError",
    "StreamNotStartedError",
    "TextStream",
    "Timings",
    "TokenScore",
    "UnknownOptionError",
    "UpdateCheck",
    "UpdateChecked",
    "UpdateDeferred",
    "UpdateOutcome",
    "UpdatePolicy",
    "UpdateResult",
    "Usage",
    "Veto",
    "VetoCode",
    "VocabularyMismatchError",
]

# Imported when they are asked for: a router that updates nothing needs none of it.
_LATE = {
    "UpdatePolicy": "edgewise.delivery.conditions.policy",
    "DownloadProgressed": "edgewise.delivery.events",
    "DownloadStarted": "edgewise.delivery.events",
    "ModelEvent": "edgewise.delivery.events",
    "RevisionActivated": "edgewise.delivery.events",
    "RevisionRefused": "edgewise.delivery.events",
    "RevisionRolledBack": "edgewise.delivery.events",
    "RevisionStaged": "edgewise.delivery.events",
    "UpdateChecked": "edgewise.delivery.events",
    "UpdateDeferred": "edgewise.delivery.events",
    "DownloadProgress": "edgewise.delivery.progress",
    "DownloadSettings": "edgewise.delivery.settings",
    "UpdateCheck": "edgewise.delivery.update",
    "UpdateOutcome": "edgewise.delivery.update",
    "UpdateResult": "edgewise.delivery.update",
}

if TYPE_CHECKING:
    from edgewise.delivery.conditions.policy import UpdatePolicy as UpdatePolicy
    from edgewise.delivery.events import DownloadProgressed as DownloadProgressed
    from edgewise.delivery.events import DownloadStarted as DownloadStarted
    from edgewise.delivery.events import ModelEvent as ModelEvent
    from edgewise.delivery.events import RevisionActivated as RevisionActivated
    from edgewise.delivery.events import RevisionRefused as RevisionRefused
    from edgewise.delivery.events import RevisionRolledBack as RevisionRolledBack
    from edgewise.delivery.events import RevisionStaged as RevisionStaged
    from edgewise.delivery.events import UpdateChecked as UpdateChecked
    from edgewise.delivery.events import UpdateDeferred as UpdateDeferred
    from edgewise.delivery.progress import DownloadProgress as DownloadProgress
    from edgewise.delivery.settings import DownloadSettings as DownloadSettings
    from edgewise.delivery.update import UpdateCheck as UpdateCheck
    from edgewise.delivery.update import UpdateOutcome as UpdateOutcome
    from edgewise.delivery.update import UpdateResult as UpdateResult

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

        return version("edgewise")
