"""What a router reports about the delivery of models. No event holds anything of a prompt."""

from collections.abc import Callable
from dataclasses import dataclass

from edgewise.generation.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEvent(Event):
    """Something that happened to a model on this device. `model` is its name."""

    revision: str | None  # of which this is said; None where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateChecked(ModelEvent):
    """The channel was asked. `revision` is the one to update to; None: there is none to use."""

    current: str | None  # the revision in use
    detail: str = ""  # why newer ones are not used


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadStarted(ModelEvent):
    """The files of a revision are being fetched."""

    total: int  # bytes to fetch, with those that are there
    resumed: int  # bytes that are there from an earlier try
    delta: bool  # only the difference to a model that is here


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadProgressed(ModelEvent):
    """Bytes came; at most once a second."""

    done: int  # bytes that are there
    total: int  # bytes
    rate: float | None  # bytes per second; None: not known yet


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRefused(ModelEvent):
    """A revision failed its trial or its agreement gate on this device, and is not tried again."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionStaged(ModelEvent):
    """A revision passed; the next load uses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionActivated(ModelEvent):
    """A load uses this revision for the first time."""

    previous: str | None  # what was used before; None: nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRolledBack(ModelEvent):
    """A revision is not used any more."""

    back_to: str | None  # the revision that is used now; None: nothing
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateDeferred(ModelEvent):
    """A check or an update is due and waits."""

    reasons: tuple[str, ...]  # conditions of the UpdatePolicy that are not met, or what failed


OnEvent = Callable[[ModelEvent], object]
