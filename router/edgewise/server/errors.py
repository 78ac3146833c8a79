"""Errors as OpenAI's API tells them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.errors import (
    CloudBusyError,
    NoSourceError,
    RouterClosedError,
    SourceFailedError,
)
from edgewise.options import RequestOptions
from edgewise.policy.types import VetoCode
from edgewise_edge import (
    ContextOverflowError,
    EdgewiseError,
    ModelError,
    RequestError,
    RuntimeFailedError,
)

# Vetoes that no later try can lift: what the request says, or what this server has.
_LASTING = {
    VetoCode.PRIVATE,
    VetoCode.MODE,
    VetoCode.OFFLINE,
    VetoCode.NO_ADDRESS,
    VetoCode.CONTEXT_WINDOW,
}
_BUSY = {VetoCode.QUEUE_FULL, VetoCode.BUSY}
_SHORTLY = 1.0  # seconds until a busy source may have a place again


@dataclass(eq=False)  # not frozen: Python and Starlette set an exception's traceback
class HttpError(Exception):
    """A request that is not answered.

    `param` is the field at fault, `code` a word for programs, `retry_after` in seconds.
    """

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None

    def body(self) -> dict[str, Any]:
        """OpenAI's error object; it is also the last event of a stream that fails."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


def from_error(error: BaseException, names: Mapping[str, str] | None = None) -> HttpError:
    """How a client is told of `error`. `names` are its fields' names for options of the router.

    What no part of edgewise raises on purpose is told by its type alone: its message may quote
    anything.
    """
    if isinstance(error, HttpError):
        return error
    if isinstance(error, ContextOverflowError):
        return _too_long(str(error), names)
    if isinstance(error, RequestError):
        return _invalid(str(error), names or {})
    if isinstance(error, NoSourceError):
        return _refused(error, names)
    if isinstance(error, CloudBusyError):
        return _busy(str(error), error.retry_after)
    if isinstance(error, ModelError | RouterClosedError | SourceFailedError | RuntimeFailedError):
        return _unavailable(str(error))
    if isinstance(error, EdgewiseError):
        return HttpError(500, str(error), "server_error")
    return HttpError(500, f"internal error ({type(error).__name__})", "server_error")


def stopping() -> HttpError:
    """For what the server still has to do when it stops."""
    return HttpError(503, "the server is stopping", "server_error", code="stopping")


def _invalid(message: str, names: Mapping[str, str]) -> HttpError:
    """The options of RequestOptions stand at the start of the messages about them."""
    found = re.match(r"(?:the |a )?([a-z_]+)", message)
    option = found[1] if found else ""
    if found and option in RequestOptions.__annotations__:
        name = names.get(option, option)
        return HttpError(400, f"{name}{message[found.end(1) :]}", param=name)
    param = names.get("prompt", "prompt") if option == "prompt" else None
    return HttpError(400, message, param=param)


def _too_long(message: str, names: Mapping[str, str] | None) -> HttpError:
    param = (names or {}).get("prompt", "prompt")
    return HttpError(400, message, param=param, code="context_length_exceeded")


def _refused(error: NoSourceError, names: Mapping[str, str] | None) -> HttpError:
    codes = {veto.code for veto in error.vetoes.values()}
    if codes & _BUSY:
        asked = (getattr(failure, "retry_after", 0.0) for failure in error.failures.values())
        return _busy(str(error), max(asked, default=0.0))
    if VetoCode.CONTEXT_WINDOW in codes and codes <= _LASTING:
        return _too_long(str(error), names)
    if codes <= _LASTING:
        return HttpError(400, str(error), code="no_source")
    return _unavailable(str(error))


def _busy(message: str, retry_after: float) -> HttpError:
    return HttpError(
        429, message, "rate_limit_error", code="busy", retry_after=max(retry_after, _SHORTLY)
    )


def _unavailable(message: str) -> HttpError:
    return HttpError(503, message, "server_error", code="unavailable")
