"""The exit status of the command line, and which error ends in which."""

from enum import IntEnum
from typing import Self

from edgewise import (
    CloudUnavailableError,
    ConfigurationError,
    DeliveryError,
    ModelError,
    ModelRefusedError,
    NoSourceError,
    RequestError,
    Source,
    VetoCode,
)

_CLOUD_FAILED = {VetoCode.FAILED, VetoCode.STALLED, VetoCode.BUSY, VetoCode.CIRCUIT_OPEN}
_INVALID = {VetoCode.MODEL_UNAVAILABLE, VetoCode.CONTEXT_WINDOW}


class ExitCode(IntEnum):
    """Scripts can rely on these numbers, and on nothing else about an error."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """A number that knows what it means."""
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code

    OK = 0, "ok"
    FAILED = 1, "anything else"
    INVALID = 2, "invalid option, prompt, model or config file"
    REFUSED = 3, "no source may answer, or a model was refused"
    CLOUD = 4, "the cloud or a channel was needed and cannot be used"
    INTERRUPTED = 130, "interrupted (Ctrl-C)"  # the number that shells report
    PIPE_CLOSED = 141, "the reader of standard output is gone (| head)"  # likewise

    @classmethod
    def explain(cls) -> str:
        """One line for help pages."""
        return "Exit codes: " + "; ".join(f"{code.value} {code.meaning}" for code in cls) + "."


def exit_code(error: Exception) -> ExitCode:
    """The status for an error of the API."""
    if isinstance(error, NoSourceError):
        return _refusal(error)
    if isinstance(error, CloudUnavailableError | DeliveryError):
        return ExitCode.CLOUD
    if isinstance(error, ModelRefusedError):
        return ExitCode.REFUSED
    if isinstance(error, ConfigurationError | RequestError | ModelError):
        return ExitCode.INVALID
    return ExitCode.FAILED


def _refusal(error: NoSourceError) -> ExitCode:
    """A source that was tried and failed weighs more than one that may not be used."""
    codes = {source: veto.code for source, veto in error.vetoes.items()}
    if codes.get(Source.IN_CLOUD) in _CLOUD_FAILED:
        return ExitCode.CLOUD
    on_device = codes.get(Source.ON_DEVICE)
    if on_device in _INVALID or isinstance(error.__cause__, ModelError):
        return ExitCode.INVALID
    return ExitCode.FAILED if on_device is VetoCode.FAILED else ExitCode.REFUSED
