"""The service's log: one line per request, without any text or tokens."""

import json
import logging
import re
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeAlias

from edgewise_cloud.console import console, say
from edgewise_cloud.serving.redact import redacted_traceback
from edgewise_edge.decoding.printable import printable

if TYPE_CHECKING:  # a command line that only configures logs need not import gRPC
    from edgewise_cloud.serving.types import DownloadOutcome, RequestOutcome

requests = logging.getLogger("edgewise_cloud.requests")
downloads = logging.getLogger("edgewise_cloud.downloads")

TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

_Raised: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class LogFormat(StrEnum):
    """For people, or for programs."""

    TEXT = "text"
    JSON = "json"


class RequestLog:
    """An Observer that logs each request at its end."""

    def token_sent(self, gap: float | None) -> None:
        """See Observer."""

    def request_ended(self, outcome: "RequestOutcome") -> None:
        """See Observer."""
        requests.info("request", extra={"fields": _fields(outcome)})


def log_download(outcome: "DownloadOutcome") -> None:
    """Log a download at its end, without its caller: who has which model is nobody's business."""
    fields: dict[str, str | int | float | None] = {
        "code": outcome.code.name,
        "file": outcome.file,
        "sent": outcome.sent,
        "total": _rounded(outcome.total_time),
    }
    downloads.info("download", extra={"fields": fields})


def configure_logs(form: LogFormat, stream: TextIO | None = None) -> None:
    """Send this package's records to `stream`; None is standard error.

    So are warnings of libraries, where nobody has configured logging: their own form would allow a
    caller's text to start a line of the log.
    """
    # On a terminal through the console, which may show a live line there.
    live = form is LogFormat.TEXT and stream is None and console.is_terminal
    handler = ConsoleHandler() if live else logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else TextFormatter())
    logger = logging.getLogger("edgewise_cloud")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.lastResort = handler


class ConsoleHandler(logging.Handler):
    """Prints records above the console's live line."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        say(self.format(record))


class _RedactingFormatter(logging.Formatter):
    """Logs exceptions without their messages."""

    def formatException(self, ei: _Raised) -> str:  # noqa: N802  # logging's name
        return redacted_traceback(ei[1]) if ei[1] else ""


class TextFormatter(_RedactingFormatter):
    """The time, the level, the message, and a record's fields as name=value.

    Control characters are escaped. Only our own messages have several lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The first line."""
        fields = "".join(
            f" {name}={json.dumps(value)}" for name, value in getattr(record, "fields", {}).items()
        )
        ours = record.name.startswith("edgewise_cloud")
        message = printable(record.message, lines=ours)
        return f"{_time(record)} {record.levelname} {message}{fields}"


class JsonFormatter(_RedactingFormatter):
    """One JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "ts": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _fields(outcome: "RequestOutcome") -> dict[str, str | int | float]:
    trace = TRACEPARENT.fullmatch(outcome.caller.trace or "")
    fields = {
        "method": outcome.method,
        "code": outcome.code.name,
        "caller": outcome.caller.name,
        "model": outcome.model,
        "finish_reason": outcome.finish_reason,
        "prompt_tokens": outcome.prompt_tokens,
        "reused_tokens": outcome.cached_tokens,
        "generated_tokens": outcome.generated_tokens,
        "queued": _rounded(outcome.queue_time),
        "time_to_first_token": _rounded(outcome.time_to_first_token),
        "total": _rounded(outcome.total_time),
        "trace_id": trace[1] if trace else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
