"""A channel's index is read strictly."""

import json
from dataclasses import replace
from typing import Any

import pytest

from edgewise_edge.installed.channel_index import DeltaRecord, Index, IndexedRevision

SHA256 = "0" * 64
REVISION = IndexedRevision(
    number=1,
    revision="r1",
    published="2026-01-01T00:00:00Z",
    size=10,
    memory=20,
    vocabulary=SHA256,
    requires={"litert": "2.3"},
    deltas=(DeltaRecord(SHA256, "1" * 64, 5),),
)


def raw(**fields: Any) -> dict[str, Any]:
    """A revision as JSON has it."""
    index = json.loads(Index({"tales": (REVISION,)}).to_json())
    return {**index["models"]["tales"]["revisions"][0], **fields}


def written(*revisions: object, name: str = "tales") -> bytes:
    """An index of these."""
    return json.dumps({"format": 1, "models": {name: {"revisions": revisions}}}).encode()


def test_it_reads_what_it_writes() -> None:
    """The same bytes for the same index."""
    index = Index({"tales": (REVISION, replace(REVISION, number=2, revision="r2"))})
    assert Index.parse(index.to_json()) == index
    assert Index.parse(index.to_json()).to_json() == index.to_json()
    assert index.find("tales", "r2") == index.models["tales"][1]
    assert index.find("tales", "r3") is None
    assert index.find("other", "r1") is None


def test_optional_fields_may_be_missing() -> None:
    """Everybody may take it, nothing is required, nothing is revoked."""
    least = {name: raw()[name] for name in
             ("number", "revision", "published", "size", "memory", "vocabulary")}  # fmt: skip
    (revision,) = Index.parse(written(least)).models["tales"]
    assert (revision.rollout, revision.revoked, revision.requires, revision.deltas) == (
        100, "", {}, (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", 0), ("number", True), ("number", "1"), ("number", 1e400),
        ("revision", "../r1"), ("revision", ""), ("revision", "a" * 65), ("revision", None),
        ("published", "yesterday"), ("published", "2026-01-01T00:00:00"), ("published", 3),
        ("size", -1), ("size", 2**60), ("size", 1.5), ("memory", None),
        ("vocabulary", "odd"), ("vocabulary", SHA256 + "\n"),
        ("rollout", 101), ("rollout", float("nan")), ("revoked", None), ("revoked", "a\nb"),
        ("requires", ["litert"]), ("requires", {"litert": "newest"}), ("requires", {"litert": 2}),
        ("deltas", 3), ("deltas", [{}]), ("deltas", [{"from": "../x", "to": SHA256, "size": 1}]),
        ("deltas", [[1]]), ("surprise", 1),
    ],
)  # fmt: skip
def test_invalid_fields_are_found(name: str, value: object) -> None:
    """Whatever JSON may hold."""
    with pytest.raises(ValueError, match=r".+"):
        Index.parse(written(raw(**{name: value})))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b"{}", b"\xff", b"[" * 100_000, b'{"format": 1}', b'{"format": 2}',
     b'{"format": 1, "models": []}', b'{"format": 1, "models": {"x": 3}}',
     b'{"format": 1, "models": {"x": {"revisions": {}}}}x', b" " * 2**23,
     written(raw(), name="../tales"), written(raw(), name=""), written(3),
     written(raw(), raw(number=2)), written(raw(number=2), raw(revision="r2"))],
)  # fmt: skip
def test_invalid_indexes_are_found(content: bytes) -> None:
    """Names that are paths, numbers that do not grow, revisions listed twice, too many bytes."""
    with pytest.raises(ValueError, match=r".+"):
        Index.parse(content)
