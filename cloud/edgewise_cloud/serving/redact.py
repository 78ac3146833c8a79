"""Tracebacks for the log without the errors' messages, which may hold a caller's tokens."""

import traceback
from collections.abc import Iterator


def redacted_traceback(error: BaseException) -> str:
    """The type and frames of `error` and its causes, without their messages."""
    return "\n".join(_lines(error))


def _lines(error: BaseException) -> Iterator[str]:
    kind = type(error)
    yield f"{kind.__module__}.{kind.__qualname__}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        yield f"  at {frame.name} ({frame.filename}:{frame.lineno})"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause:
        yield "because of"
        yield from _lines(cause)
