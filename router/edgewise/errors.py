"""Errors of the router.

EdgewiseError
├── NoSourceError
├── ConfigurationError (also a ValueError)
├── PrivacyError
├── RouterClosedError (also a RuntimeError)
├── StreamNotStartedError (also a RuntimeError)
└── SourceFailedError
    ├── DeviceBusyError
    ├── CloudUnavailableError
    │   └── CloudBusyError
    └── CloudRefusedError
        ├── CloudAccessError
        └── VocabularyMismatchError

Errors of the edge runtime (ModelError, RequestError) pass through unchanged.
"""

from typing import ClassVar

from edgewise.policy.types import NoSource, Source, Veto, VetoCode
from edgewise_edge import ModelError, RuntimeFailedError

# What to do about it; the first code that is found gives the advice.
_ADVICE = {
    VetoCode.MODE: ". Choose another mode for this request, or lift the veto on the other source",
    VetoCode.MEMORY: ". Free some memory, or set a cloud address for requests that are not private",
    VetoCode.TEMPERATURE: ". Let the device cool down, or set a cloud address",
    VetoCode.QUEUE_FULL: ". Retry when one of them has finished",
}


class EdgewiseError(Exception):
    """Base class of the router's errors."""


class NoSourceError(EdgewiseError):
    """Neither source may answer this request; `vetoes` says why, for each."""

    def __init__(self, refusal: NoSource) -> None:
        self.vetoes: dict[Source, Veto] = dict(refusal.vetoes)
        reasons = "; ".join(f"{source}: {veto.detail}" for source, veto in self.vetoes.items())
        codes = {veto.code for veto in self.vetoes.values()}
        advice = next((text for code, text in _ADVICE.items() if code in codes), "")
        super().__init__(f"no source can answer. {reasons}{advice}")


class ConfigurationError(EdgewiseError, ValueError):
    """Invalid settings."""


class PrivacyError(EdgewiseError):
    """Something private was about to leave the device and was stopped. A bug in the program."""


class SourceFailedError(EdgewiseError):
    """The chosen source failed; the router continues with the other one if it may."""

    code: ClassVar[VetoCode] = VetoCode.FAILED  # of the resulting veto


class DeviceBusyError(SourceFailedError):
    """The device is running as many generations as it may."""

    code = VetoCode.QUEUE_FULL


class CloudUnavailableError(SourceFailedError):
    """The cloud cannot be reached, is starting or stopping, or stalled."""


class CloudBusyError(CloudUnavailableError):
    """The cloud has no free slot, or none in time.

    `retry_after` is the number of seconds that it asked clients to wait; 0 if it did not say.
    """

    code = VetoCode.BUSY

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CloudRefusedError(SourceFailedError):
    """The cloud rejected this request."""


class CloudAccessError(CloudRefusedError):
    """The cloud requires a token, or rejected the one that was sent."""


class VocabularyMismatchError(CloudRefusedError):
    """The cloud serves a model with another vocabulary."""


class RouterClosedError(EdgewiseError, RuntimeError):
    """The router was used after it was closed."""

    def __init__(self) -> None:
        super().__init__(
            "the router is closed; create another one, or call it inside its 'with' block"
        )


class StreamNotStartedError(EdgewiseError, RuntimeError):
    """An AsyncTextStream has no decision and no generation before its first chunk is requested."""

    def __init__(self) -> None:
        super().__init__("the stream has not started; await its first chunk")


# The errors of one source after which the other may still answer.
Failure = (SourceFailedError, ModelError, RuntimeFailedError)


def failure_veto(error: Exception) -> Veto:
    """The veto on a source that failed with `error`."""
    code = error.code if isinstance(error, SourceFailedError) else VetoCode.FAILED
    return Veto(code, str(error))
