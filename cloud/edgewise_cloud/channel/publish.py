"""Publishing a model folder: a new revision of its name, with deltas from those before it."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from edgewise_cloud.channel.candidate import Candidate
from edgewise_cloud.channel.evaluation import load_runtime
from edgewise_cloud.channel.keys import KeyRing
from edgewise_cloud.channel.metadata import CONTENT
from edgewise_cloud.channel.repository import Repository, locked, write_errors
from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.errors import PublishError, PublishFailedError
from edgewise_edge.agreement import measure
from edgewise_edge.installed.channel_index import DeltaRecord, Index, IndexedRevision
from edgewise_edge.installed.delta import make_delta
from edgewise_edge.installed.evaluation import EVALUATION_FILE, Evaluation
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MANIFEST_FILE, MODEL_FILE, Manifest

MUCH_WORSE = 1.1  # times the bits per byte of the newest revision
LARGEST_DELTA = 2 / 3  # of the whole file: it saves a third


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to publish.

    `delta_from`: deltas are made from so many of the newest revisions. `rollout`: percent of
    devices. `force` publishes a model that is much worse than the newest one. `requires`: least
    versions of "edgewise" and "litert".
    """

    delta_from: int = 2
    rollout: float = 100
    force: bool = False
    requires: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta that was made, or one that would not have saved enough."""

    from_revision: str
    record: DeltaRecord
    share: float  # of the whole model file
    kept: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """A revision in a channel; `new` is false where it was there before, and nothing was done."""

    name: str
    revision: IndexedRevision
    new: bool = True
    evaluation: Evaluation | None = None
    deltas: tuple[Delta, ...] = ()


def publish(
    folder: Path,
    channel: Path,
    keys: KeyRing,
    options: Options,
    *,
    name: str | None = None,
    revision: str | None = None,
    documents: list[str] | None = None,
    progress: Progress = SILENT,
) -> Publication:
    """Add the model in `folder` to `channel` as the newest revision of its name.

    `name` and `revision` replace those of its manifest.
    What takes long happens before the channel is locked. Raises PublishError, PublishFailedError
    where the model is much worse than the newest revision or the channel cannot be written,
    TextError, CheckpointError and EdgeError.
    """
    repository = Repository.read(channel)
    repository.signers(keys, CONTENT)  # said before anything takes long
    candidate = Candidate.read(folder, name, revision)
    if found := published_already(repository, candidate):
        return Publication(candidate.manifest.name, found, new=False)
    entry = describe_candidate(candidate, options)
    evaluation = candidate.tried(documents, progress)
    if not options.force:
        require_no_worse(repository, candidate, evaluation, progress)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Path(temporary)
        deltas = make_deltas(repository, candidate, options.delta_from, workspace, progress)
        records = tuple(each.record for each in deltas if each.kept)
        with locked(channel, progress):
            repository = Repository.read(channel)
            if found := published_already(repository, candidate):
                return Publication(candidate.manifest.name, found, new=False)
            progress.step("writing and signing")
            entry = add(
                repository, candidate, replace(entry, deltas=records), evaluation, workspace
            )
            repository.commit(repository.signers(keys, CONTENT))
    return Publication(candidate.manifest.name, entry, True, evaluation, tuple(deltas))


def published_already(repository: Repository, candidate: Candidate) -> IndexedRevision | None:
    """The same revision in the channel, if it has it.

    Raises PublishError for one that differs in its settings, and for a name whose revisions have
    another vocabulary.
    """
    manifest = candidate.manifest
    for before in repository.index.models.get(manifest.name, ()):
        if before.vocabulary != manifest.vocabulary:
            raise PublishError(
                f"{candidate.folder} has another vocabulary than revision {before.revision} of "
                f"{manifest.name!r}. That is another model name, because device and cloud can "
                "continue each other's texts only with the same vocabulary; publish it with --name "
                f"{manifest.name}-2, and serve both meanwhile"
            )
    found = repository.index.find(manifest.name, manifest.revision)
    if found and _settings(_manifest_of(repository, manifest.name, found)) != _settings(manifest):
        raise PublishError(
            f"revision {found.revision} of {manifest.name!r} was published with other settings, and "
            "a published revision never changes; publish this one with --revision "
            f"{manifest.revision}-2"
        )
    return found


def require_no_worse(
    repository: Repository, candidate: Candidate, evaluation: Evaluation, progress: Progress
) -> None:
    """Compare with the newest revision that is not revoked, on the same tokens.

    Raises PublishFailedError if the candidate needs far more bits per byte.
    """
    revisions = repository.index.models.get(candidate.manifest.name, ())
    newest = next((each for each in reversed(revisions) if not each.revoked), None)
    if newest is None:
        return
    progress.step(f"measuring the newest revision, {newest.revision}")
    before = measure(_runtime_of(repository, candidate.manifest.name, newest), evaluation)
    bits = evaluation.measured["bits_per_byte"]
    if not bits <= MUCH_WORSE * before.bits_per_byte:  # NaN fails this, too
        raise PublishFailedError(
            f"{candidate.folder} needs {bits:.3f} bits per byte, and the newest revision of "
            f"{candidate.manifest.name!r}, {newest.revision}, {before.bits_per_byte:.3f} on the same "
            "text: it is much worse; give a --text of the kind it is for, or --force"
        )


def make_deltas(
    repository: Repository, candidate: Candidate, count: int, workspace: Path, progress: Progress
) -> list[Delta]:
    """Deltas from the newest `count` revisions that are not revoked, in `workspace`."""
    name, new = candidate.manifest.name, candidate.manifest.files[MODEL_FILE]
    usable = [each for each in repository.index.models.get(name, ()) if not each.revoked]
    made = []
    for before in usable[max(0, len(usable) - count) :] if count else []:
        old = _manifest_of(repository, name, before).files[MODEL_FILE].sha256
        if old == new.sha256:
            continue  # a device has the file
        progress.step(f"computing the delta from {before.revision}")
        path = workspace / f"{old}-{new.sha256}.xz"
        with write_errors(workspace):
            size = make_delta(
                repository.path_of(f"blobs/{old}"), candidate.folder / MODEL_FILE, path
            )
        share = size / new.size
        record = DeltaRecord(old, new.sha256, size)
        made.append(Delta(before.revision, record, share, share <= LARGEST_DELTA))
        if not made[-1].kept:
            path.unlink()
    return made


def add(
    repository: Repository,
    candidate: Candidate,
    revision: IndexedRevision,
    evaluation: Evaluation,
    workspace: Path,
) -> IndexedRevision:
    """Write the revision's files, and list it in the index that the next commit signs.

    Its deltas lie in `workspace`. Raises PublishFailedError where they cannot be written.
    """
    name = candidate.manifest.name
    earlier = repository.index.models.get(name, ())
    revision = replace(revision, number=1 + max((each.number for each in earlier), default=0))
    with write_errors(repository.folder):
        for file, record in candidate.manifest.files.items():
            repository.add(f"blobs/{record.sha256}", candidate.folder / file)
        for delta in revision.deltas:
            repository.add(delta.path, workspace / Path(delta.path).name)
        repository.add(_path(candidate, MANIFEST_FILE), candidate.manifest_bytes)
        repository.add(_path(candidate, EVALUATION_FILE), evaluation.to_json())
    repository.index = Index({**repository.index.models, name: (*earlier, revision)})
    return revision


def describe_candidate(candidate: Candidate, options: Options) -> IndexedRevision:
    """As the index lists it, but for its number and deltas. Raises PublishError."""
    manifest = candidate.manifest
    try:
        return IndexedRevision(
            number=1,
            revision=manifest.revision,
            published=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            size=candidate.size,
            memory=manifest.memory,
            vocabulary=manifest.vocabulary,
            rollout=options.rollout,
            requires=dict(options.requires),
        )
    except ValueError as error:
        raise PublishError(f"{candidate.folder} cannot be published: {error}") from error


def _settings(manifest: Manifest) -> Manifest:
    """Without what differs each time that a model is converted."""
    return replace(manifest, memory=0, conversion={})


def _path(candidate: Candidate, file: str) -> str:
    return f"{candidate.manifest.name}/{candidate.manifest.revision}/{file}"


def _manifest_of(repository: Repository, name: str, revision: IndexedRevision) -> Manifest:
    data = repository.read_target(f"{name}/{revision.revision}/{MANIFEST_FILE}")
    return Manifest.parse(data, f"revision {revision.revision}")


def _runtime_of(repository: Repository, name: str, revision: IndexedRevision) -> Runtime:
    manifest = _manifest_of(repository, name, revision)
    path = repository.path_of(f"blobs/{manifest.files[MODEL_FILE].sha256}")
    return load_runtime(path, manifest.architecture)
