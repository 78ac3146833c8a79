"""Errors of the router.

EdgewiseError                       (of edgewise_edge: the base class of everything that is raised)
├── NoSourceError
├── ConfigurationError              (also a ValueError)
│   └── UnknownOptionError          (also a RequestError and a TypeError)
├── PrivacyError
├── RouterClosedError               (also a RuntimeError)
├── StreamNotStartedError           (also a RuntimeError)
├── SourceFailedError
│   ├── DeviceBusyError
│   ├── CloudUnavailableError
│   │   └── CloudBusyError
│   └── CloudRefusedError
│       ├── CloudAccessError
│       └── VocabularyMismatchError
├── DeliveryError
│   ├── DownloadFailedError
│   └── ChannelError
│       └── ChannelExpiredError
└── EdgeError                       (of edgewise_edge, unchanged)
    ├── ModelError, with ModelNotFoundError, ModelCorruptError, ModelIncompatibleError and
    │   ModelRefusedError
    ├── StoreError
    ├── RequestError, with ContextOverflowError
    └── RuntimeFailedError, with CacheMemoryError
"""

from collections.abc import Collection, Mapping
from typing import ClassVar

from edgewise.policy.types import NoSource, Source, Veto, VetoCode
from edgewise_edge.errors import EdgewiseError as EdgewiseError  # noqa: PLC0414  # exported
from edgewise_edge.errors import ModelError, RequestError, RuntimeFailedError

# What to do about a veto. Nothing where the veto says it, and never to give up privacy.
_ADVICE = {
    VetoCode.MODE: "choose another mode",
    VetoCode.OFFLINE: "create the router without offline=True",
    VetoCode.MEMORY: "free some memory",
    VetoCode.BATTERY: "charge the device",
    VetoCode.TEMPERATURE: "let the device cool down",
    VetoCode.LOW_POWER: "turn low-power mode off",
    VetoCode.QUEUE_FULL: "retry when one of them has ended, or raise Limits.queue_timeout",
    VetoCode.NO_ADDRESS: "set a cloud address",
    VetoCode.NO_NETWORK: "connect the device to a network",
    VetoCode.CIRCUIT_OPEN: "retry later",
    VetoCode.BUSY: "retry later",
}


class NoSourceError(EdgewiseError):
    """Neither source may answer this request.

    `vetoes` says why, for each source. `failures` holds the error of each source that this
    generation tried: what the cloud answered, for example.
    """

    def __init__(
        self, refusal: NoSource, failures: Mapping[Source, Exception] | None = None
    ) -> None:
        self.vetoes: dict[Source, Veto] = dict(refusal.vetoes)
        self.failures: dict[Source, Exception] = dict(failures or {})
        reasons = "; ".join(f"{source}: {veto.detail}" for source, veto in self.vetoes.items())
        codes = [veto.code for veto in self.vetoes.values()]
        if VetoCode.CONTEXT_WINDOW in codes:  # a cloud of the same model has the same window
            codes = [code for code in codes if code is not VetoCode.NO_ADDRESS]
        advice = dict.fromkeys(_ADVICE[code] for code in codes if code in _ADVICE)
        end = f". To get an answer, {' or '.join(advice)}" if advice else ""
        super().__init__(f"no source can answer. {reasons}{end}")


class ConfigurationError(EdgewiseError, ValueError):
    """Invalid settings of a router."""


class UnknownOptionError(RequestError, ConfigurationError, TypeError):
    """An option that does not exist. `option` is its name, `closest` a valid one or None."""

    def __init__(self, option: str, valid: Collection[str]) -> None:
        from difflib import get_close_matches  # takes 2 ms of an import

        self.option = option
        self.closest = next(iter(get_close_matches(option, valid, n=1)), None)
        advice = (
            f"did you mean '{self.closest}'?"
            if self.closest
            else f"the options are {', '.join(valid)}"
        )
        super().__init__(f"there is no option '{option}'; {advice}")


class PrivacyError(EdgewiseError):
    """Something private was about to leave the device and was stopped. A bug in the program."""


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


class SourceFailedError(EdgewiseError):
    """The chosen source failed; the router continues with the other one if it may."""

    code: ClassVar[VetoCode] = VetoCode.FAILED  # of the resulting veto


class DeviceBusyError(SourceFailedError):
    """The device is running as many generations as it may.

    `soft` is True if it did not wait for a place: another source could still answer.
    """

    code = VetoCode.QUEUE_FULL

    def __init__(self, message: str, *, soft: bool = False) -> None:
        super().__init__(message)
        self.soft = soft


class CloudUnavailableError(SourceFailedError):
    """The cloud cannot be reached, is starting or stopping, or stalled."""


class CloudBusyError(CloudUnavailableError):
    """The cloud has no free slot, or none in time.

    `retry_after` is the number of seconds that it asked clients to wait, cut to 60; 0 if it did not
    say.
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


class DeliveryError(EdgewiseError):
    """A model could not be fetched. The one in use stays as it is."""


class DownloadFailedError(DeliveryError):
    """A file could not be downloaded, also after several tries. The next try goes on from there."""


class ChannelError(DeliveryError):
    """What a channel offers is not signed as it must be, or is no channel."""


class ChannelExpiredError(ChannelError):
    """The channel's signatures are too old: its publisher has stopped, or somebody holds them back."""


# The errors of one source after which the other may still answer.
Failure = (SourceFailedError, ModelError, RuntimeFailedError)


def failure_veto(error: Exception) -> Veto:
    """The veto on a source that failed with `error`."""
    code = error.code if isinstance(error, SourceFailedError) else VetoCode.FAILED
    return Veto(code, str(error), soft=isinstance(error, DeviceBusyError) and error.soft)
