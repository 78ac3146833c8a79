"""Errors of the router.

EdgewiseError
├── NoSourceError
├── ConfigurationError (also a ValueError)
├── PrivacyError
└── SourceFailedError
    ├── DeviceBusyError
    ├── CloudUnavailableError
    │   └── CloudBusyError
    └── CloudRefusedError
        ├── CloudAccessError
        └── VocabularyMismatchError

What the edge runtime raises (ModelError, RequestError) passes through unchanged.
"""

from typing import ClassVar

from edgewise.policy.types import NoSource, Source, Veto, VetoCode
from edgewise_edge import ModelError, RuntimeFailedError

# What to do about it, the likeliest help first.
_ADVICE = {
    VetoCode.MODE: ". Choose another mode for this request, or drop what forbids the other side",
    VetoCode.MEMORY: ". Free some memory, or set a cloud address for what is not private",
    VetoCode.TEMPERATURE: ". Let the device cool down, or set a cloud address",
    VetoCode.QUEUE_FULL: ". Try again when one of them has ended",
}


class EdgewiseError(Exception):
    """Anything the router refuses or fails at."""


class NoSourceError(EdgewiseError):
    """Neither side may answer this request; `vetoes` says why, for each."""

    def __init__(self, refusal: NoSource) -> None:
        self.vetoes: dict[Source, Veto] = dict(refusal.vetoes)
        reasons = "; ".join(f"{side}: {veto.detail}" for side, veto in self.vetoes.items())
        codes = {veto.code for veto in self.vetoes.values()}
        advice = next((text for code, text in _ADVICE.items() if code in codes), "")
        super().__init__(f"no side can answer. {reasons}{advice}")


class ConfigurationError(EdgewiseError, ValueError):
    """Settings that cannot work."""


class PrivacyError(EdgewiseError):
    """Something private was about to leave the device, and did not. A mistake in the program."""


class SourceFailedError(EdgewiseError):
    """A side that was chosen did not deliver; the router goes on with the other where it may."""

    code: ClassVar[VetoCode] = VetoCode.FAILED  # of the veto that it brings about


class DeviceBusyError(SourceFailedError):
    """The device is writing as many texts as it may."""

    code = VetoCode.QUEUE_FULL


class CloudUnavailableError(SourceFailedError):
    """The cloud cannot be reached, is starting or stopping, or fell silent."""


class CloudBusyError(CloudUnavailableError):
    """The cloud is there, but has no slot free, or none in time.

    `retry_after` is for how many seconds it asks to be left alone; 0 where it did not say.
    """

    code = VetoCode.BUSY

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CloudRefusedError(SourceFailedError):
    """The cloud answered that it cannot serve this request."""


class CloudAccessError(CloudRefusedError):
    """The cloud asks for a token, or for another one."""


class VocabularyMismatchError(CloudRefusedError):
    """The cloud serves a model whose tokens mean something else."""


# What one side can fail with while the other may still deliver.
Failure = (SourceFailedError, ModelError, RuntimeFailedError)


def failed(error: Exception) -> Veto:
    """The veto on a side that failed so."""
    code = error.code if isinstance(error, SourceFailedError) else VetoCode.FAILED
    return Veto(code, str(error))
