"""A channel's `index.json`: the revisions of each model, written by publishers, read by devices.

Its bytes are signed; what is in them is checked all the same, strictly, before anything is used as
a path or a number.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from edgewise_edge.checks import Range, check_fields, check_sha256, shown

INDEX_FILE = "index.json"  # its target path
FORMAT = 1
MAX_INDEX_BYTES = 2**22  # thousands of revisions
MAX_REASON = 1000  # characters, of `revoked`
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of models and revisions: parts of paths
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")
_BYTES = Range(0, 2**50, whole=True, unit="bytes")
_MANY = 10_000  # models, revisions of one, deltas of one


@dataclass(frozen=True, slots=True)
class DeltaRecord:
    """A delta that makes the model.tflite `to` from the one `sha256` `from_`."""

    from_: str
    to: str
    size: int  # of the delta, bytes

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        check_sha256("from", self.from_, ValueError)
        check_sha256("to", self.to, ValueError)
        check_fields(self, {"size": _BYTES}, ValueError)

    @property
    def path(self) -> str:
        """Its target path."""
        return f"deltas/{self.from_}-{self.to}.xz"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedRevision:
    """One published revision of a model.

    `number` grows with each revision of a model. `published` is an ISO time in UTC. `size` is that
    of its device files, `memory` what it needs to run, both in bytes. `vocabulary` is the
    tokenizer's fingerprint. `rollout` is the share of devices that may take it, 0 to 100 percent.
    `revoked` is the reason why nobody may use it; empty if it is good. `requires` holds the least
    versions of "edgewise" and "litert".
    """

    number: int
    revision: str
    published: str
    size: int
    memory: int
    vocabulary: str
    rollout: float = 100
    revoked: str = ""
    requires: dict[str, str] = field(default_factory=dict)
    deltas: tuple[DeltaRecord, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        ranges = {
            "number": Range(1, 2**53, whole=True),
            "size": _BYTES,
            "memory": _BYTES,
            "rollout": Range(0, 100, unit="percent"),
        }
        check_fields(self, ranges, ValueError)
        check_name("revision", self.revision)
        _check_time(self.published)
        check_sha256("vocabulary", self.vocabulary, ValueError)
        _check_reason(self.revoked)
        _check_requires(self.requires)
        if len(self.deltas) > _MANY:
            raise ValueError(f"{len(self.deltas):,} deltas; at most {_MANY:,} are read")


@dataclass(frozen=True, slots=True)
class Index:
    """The revisions of each model name, oldest first."""

    models: dict[str, tuple[IndexedRevision, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for invalid names, and numbers that do not grow."""
        if len(self.models) > _MANY:
            raise ValueError(f"{len(self.models):,} models; at most {_MANY:,} are read")
        for name, revisions in self.models.items():
            check_name("model name", name)
            if len(revisions) > _MANY:
                raise ValueError(
                    f"{name}: {len(revisions):,} revisions; at most {_MANY:,} are read"
                )
            numbers = [revision.number for revision in revisions]
            if numbers != sorted(set(numbers)):
                raise ValueError(f"{name}: the numbers of its revisions must grow")
            if len({revision.revision for revision in revisions}) != len(revisions):
                raise ValueError(f"{name}: a revision is listed twice")

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """The index in these bytes. Raises ValueError, with what is wrong, for any others."""
        if len(content) > MAX_INDEX_BYTES:
            raise ValueError(f"it has {len(content):,} bytes; at most {MAX_INDEX_BYTES:,} are read")
        try:
            raw = json.loads(content)
            if (format_ := raw["format"]) != FORMAT:
                raise ValueError(
                    f"its format is {shown(format_)}, this version reads {FORMAT}; update edgewise"
                )
            return cls({name: _revisions(model) for name, model in raw["models"].items()})
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"it has missing, unknown or invalid fields: {error}") from error

    def to_json(self) -> bytes:
        """The bytes that `parse` reads; the same index always gives the same bytes."""
        models = {
            name: {"revisions": [_raw(revision) for revision in revisions]}
            for name, revisions in self.models.items()
        }
        text = json.dumps({"format": FORMAT, "models": models}, indent=1, ensure_ascii=False)
        return text.encode() + b"\n"

    def find(self, name: str, revision: str) -> IndexedRevision | None:
        """That revision of that model, if it is listed, revoked ones too."""
        listed = self.models.get(name, ())
        return next((found for found in listed if found.revision == revision), None)


def check_name(what: str, value: object) -> None:
    """Raise ValueError unless `value` may be part of a path of a channel and of a store."""
    if not (isinstance(value, str) and NAME.fullmatch(value)):
        raise ValueError(
            f"{what} is {shown(value)}; it must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a "
            "letter or digit"
        )


def _check_time(value: object) -> None:
    try:
        if datetime.fromisoformat(str(value)).utcoffset() == UTC.utcoffset(None):
            return
    except ValueError:
        pass
    raise ValueError(f"published is {shown(value)}; it must be a time in UTC, 2030-01-31T12:00:00Z")


def _check_reason(value: object) -> None:
    if not (isinstance(value, str) and value.isprintable() and len(value) <= MAX_REASON):
        raise ValueError(
            f"revoked is {shown(value)}; it must be printable text of at most {MAX_REASON} characters"
        )


def _check_requires(value: object) -> None:
    if isinstance(value, dict) and len(value) < _MANY:
        versions = list(value.values())
        if all(isinstance(least, str) and _VERSION.fullmatch(least) for least in versions):
            return
    raise ValueError(f"requires is {shown(value)}; it must be least versions, such as 2.3")


def _revisions(model: dict[str, Any]) -> tuple[IndexedRevision, ...]:
    if len(model["revisions"]) > _MANY:
        raise ValueError(f"more than {_MANY:,} revisions")
    return tuple(
        IndexedRevision(**{**raw, "deltas": tuple(map(_delta, raw.get("deltas", ())))})
        for raw in model["revisions"]
    )


def _delta(raw: dict[str, Any]) -> DeltaRecord:
    return DeltaRecord(raw["from"], raw["to"], raw["size"])


def _raw(revision: IndexedRevision) -> dict[str, Any]:
    deltas = [
        {"from": delta.from_, "to": delta.to, "size": delta.size} for delta in revision.deltas
    ]
    return {**asdict(revision), "deltas": deltas}
