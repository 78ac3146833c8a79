"""Errors for the log without their texts, which may hold a caller's tokens."""

import traceback
from collections.abc import Iterator


def frames(error: BaseException) -> str:
    """Where `error` came from, without its text: that may hold a caller's tokens."""
    return "\n".join(_frames(error))


def _frames(error: BaseException) -> Iterator[str]:
    kind = type(error)
    yield f"{kind.__module__}.{kind.__qualname__}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        yield f"  at {frame.name} ({frame.filename}:{frame.lineno})"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause:
        yield "because of"
        yield from _frames(cause)
