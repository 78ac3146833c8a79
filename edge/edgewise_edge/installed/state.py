"""The state of one model name in the store, and how it changes. Pure."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from edgewise_edge.checks import Range
from edgewise_edge.store.active import STATE_FORMAT, is_revision
from edgewise_edge.store.manifest import FileRecord

PROBATION = 5  # generations
MAX_FAILED = 64  # of which the oldest are forgotten
_MAX_REASON = 300  # characters
_GENERATIONS = Range(1, 10**6, whole=True)
_DEATHS = Range(0, 10**6, whole=True)


@dataclass(frozen=True, slots=True)
class Probation:
    """An active revision that has not proved itself: how many generations must still go well.

    `deaths` is how many processes have died while it generated, after a first token.
    """

    revision: str
    generations_left: int = PROBATION
    deaths: int = 0

    def __post_init__(self) -> None:
        """Raise TypeError for invalid values: JSON may hold any."""
        _GENERATIONS.check("generations_left", self.generations_left, TypeError)
        _DEATHS.check("deaths", self.deaths, TypeError)
        _check_revision("probation", self.revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """Which revisions of a model are used on this device.

    None as `active` means the bundled model, or nothing where none of that name is bundled. A
    rollback leads to `previous`. `failed` has the reason by the sha256 of the model file, oldest
    first: the revision may come again under another name.
    """

    active: str | None = None
    previous: str | None = None
    staged: str | None = None  # becomes active at the next load
    pinned: str | None = None  # stays active: nothing may be staged
    failed: Mapping[str, str] = field(default_factory=dict)
    probation: Probation | None = None  # of the active one

    def __post_init__(self) -> None:
        """Raise TypeError for invalid values: JSON may hold any."""
        for name in ("active", "previous", "staged", "pinned"):
            if getattr(self, name) is not None:
                _check_revision(name, getattr(self, name))
        if not isinstance(self.failed, Mapping) or len(self.failed) > MAX_FAILED:
            raise TypeError("failed must be an object with few entries")
        for sha256, reason in self.failed.items():
            FileRecord(0, sha256)
            if not isinstance(reason, str):
                raise TypeError("the reason of a failure must be text")
        if self.probation and self.probation.revision != self.active:
            raise TypeError("only the active revision can be on probation")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what to_json() has written. Raises ValueError, also for another format."""
        try:
            raw = json.loads(text)
            if (format_ := raw.pop("format")) != STATE_FORMAT:
                raise NewerFormatError(f"its format is {format_!r}, not {STATE_FORMAT}")
            raw["probation"] = Probation(**raw["probation"]) if raw["probation"] else None
            return cls(**raw)
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it has missing, unknown or invalid fields: {error}") from error

    def to_json(self) -> str:
        """As parse() reads it."""
        raw: dict[str, Any] = asdict(replace(self, failed=dict(self.failed)))
        return json.dumps({"format": STATE_FORMAT, **raw}, indent=1) + "\n"

    @property
    def kept(self) -> set[str]:
        """The revisions that garbage collection spares."""
        return {self.active, self.previous, self.staged, self.pinned} - {None}  # type: ignore[return-value]

    def stage(self, revision: str) -> Self:
        """Have the next load make `revision` active."""
        return replace(self, staged=None if revision == self.active else revision)

    def unstage(self) -> Self:
        """Nothing waits for the next load."""
        return replace(self, staged=None)

    def take_staged(self, generations: int = PROBATION, *, has_bundled: bool = True) -> Self:
        """Make the staged revision active, on probation. `has_bundled`: a model of the name is.

        The way back leads to the last revision that proved itself, not to one on probation, unless
        there is nothing else.
        """
        if self.staged is None:
            return self
        return replace(
            self,
            active=self.staged,
            previous=self._way_back(has_bundled),
            staged=None,
            probation=Probation(self.staged, generations),
        )

    def roll_back(self, *, keep_staged: bool = False) -> Self:
        """Back to the previous revision, or to the bundled model.

        The staged one is dropped unless it is kept: it may be what mends a failure.
        """
        staged = self.staged if keep_staged else None
        return replace(
            self, active=self.previous, previous=None, staged=staged, pinned=None, probation=None
        )

    def pin(self, revision: str, *, bundled: bool = False, has_bundled: bool = True) -> Self:
        """Make `revision` active and keep it so. `bundled`: it is the bundled model's."""
        active = None if bundled else revision
        if active == self.active:
            return replace(self, pinned=revision, staged=None)
        return replace(
            self,
            active=active,
            previous=self._way_back(has_bundled),
            staged=None,
            pinned=revision,
            probation=None,
        )

    def unpin(self) -> Self:
        """Let updates be staged again."""
        return replace(self, pinned=None)

    def fail(self, sha256: str, reason: str) -> Self:
        """Remember that the model file `sha256` may not be staged, and why."""
        failed = {key: value for key, value in self.failed.items() if key != sha256}
        failed[sha256] = reason[:_MAX_REASON]
        return replace(self, failed=dict(list(failed.items())[-MAX_FAILED:]))

    def forgive(self, sha256: str) -> Self:
        """Forget that it failed."""
        return replace(self, failed={k: v for k, v in self.failed.items() if k != sha256})

    def generation_passed(self) -> Self:
        """One generation of the probation went well."""
        if not self.probation:
            return self
        left = self.probation.generations_left - 1
        return replace(
            self, probation=replace(self.probation, generations_left=left) if left else None
        )

    def process_died(self) -> Self:
        """A process has died while the revision on probation generated."""
        if not self.probation:
            return self
        deaths = self.probation.deaths + 1
        return replace(self, probation=replace(self.probation, deaths=deaths))

    def without(self, revision: str) -> Self:
        """`revision` is removed, which is not the active one."""
        return replace(
            self,
            previous=None if self.previous == revision else self.previous,
            staged=None if self.staged == revision else self.staged,
        )

    def _way_back(self, has_bundled: bool) -> str | None:
        proven = self.previous or has_bundled
        return self.previous if self.probation and proven else self.active


class NewerFormatError(ValueError):
    """Another version of edgewise wrote it, which knows more."""


def _check_revision(name: str, value: object) -> None:
    if not is_revision(value):
        raise TypeError(f"{name} is {value!r}, which is no name of a revision")
