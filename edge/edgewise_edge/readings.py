"""What is read from the system: unknown where it cannot be read, or cannot be true."""

import logging
from collections.abc import Callable
from typing import TypeVar

from edgewise_edge.checks import Range

T = TypeVar("T")

_log = logging.getLogger("edgewise_edge")
_reported: set[tuple[str, str]] = set()  # what could not be read, and why


def reading(what: str, read: Callable[[], T | None], possible: Range | None = None) -> T | None:
    """What `read` returns; None, which means unknown, if it raises or the value is not `possible`.

    Drivers, container runtimes and psutil fail in every way, and no request may fail because of
    them: any exception counts. The first of each kind is logged as a warning.
    """
    try:
        value = read()
    except Exception as error:  # noqa: BLE001
        _report(what, type(error).__name__, repr(error))
        return None
    return value if value is None or possible is None else plausible(what, value, possible)


def plausible(what: str, value: T, possible: Range) -> T | None:
    """`value`, or None if it is outside the range and so cannot be true, which is logged once."""
    if value in possible:
        return value
    _report(what, "impossible", f"{value!r} is not {possible}")
    return None


def _report(what: str, kind: str, detail: str) -> None:
    if (what, kind) not in _reported:
        _reported.add((what, kind))
        _log.warning("%s cannot be read and counts as unknown: %s", what, detail)
