"""The steps of an update, with revisions that nothing runs and a trial that is scripted."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgewise import (
    ChannelError,
    DownloadFailedError,
    DownloadProgress,
    ModelIncompatibleError,
    ModelRefusedError,
    StoreError,
    UpdateOutcome,
)
from edgewise.delivery.catalog import open_catalog
from edgewise.delivery.events import ModelEvent
from edgewise.delivery.settings import DownloadSettings
from edgewise.delivery.update import Updater, UpdateResult
from edgewise_edge.errors import EdgewiseError
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.trial import TrialFailedError
from tests.router.delivery.conftest import FakeClock
from tests.support.file_server import Fault, FileServer
from tests.support.installed_models import activate, files_of, install, is_whole
from tests.support.published_models import VOCABULARY, PublishedModels, sha256_of

NAME = "story"


@dataclass
class Device:
    """Updates from a channel over HTTP."""

    store: ModelStore
    published: PublishedModels
    server: FileServer
    clock: FakeClock
    error: EdgewiseError | None = None  # of the trial
    tried: list[str] = field(default_factory=list)
    events: list[ModelEvent] = field(default_factory=list)

    def updater(self, **options: object) -> Updater:
        settings, clock = DownloadSettings(tries=2), self.clock.clock
        catalog = open_catalog(
            self.server.address,
            store=self.store,
            root=self.published.root,
            settings=settings,
            clock=clock,
        )
        return Updater(
            NAME,
            catalog,
            self.store,
            settings=settings,
            clock=clock,
            on_event=self.events.append,
            trial=self._try,
            **options,
        )

    def update(self, **options: object) -> UpdateResult:
        with self.updater() as updater:
            return updater.update(**options)

    def load(self) -> str | None:
        """The revision that a load takes, which then proves itself."""
        folder = self.store.take_staged(NAME, generations=1)
        self.store.generation_ended(NAME, ok=True)
        return folder.name if folder else None

    def happened(self) -> list[str]:
        """The kinds of the events so far."""
        return list(dict.fromkeys(type(event).__name__ for event in self.events))

    def _try(self, folder: Path, *_: object) -> None:
        self.tried.append(folder.name)
        if self.error:
            raise self.error


@pytest.fixture
def device(tmp_path: Path, store: ModelStore, fake_clock: FakeClock) -> Iterator[Device]:
    """With nothing installed; the channel has one revision."""
    published = PublishedModels(tmp_path / "channel")
    published.publish("one")
    with FileServer(published.folder) as server:
        yield Device(store, published, server, fake_clock)


def test_an_update_is_fetched_tried_and_staged(device: Device) -> None:
    """The next load uses it; the one after finds nothing to do."""
    result = device.update()
    assert (result.outcome, result.revision) == (UpdateOutcome.STAGED, "one")
    assert result.fetched == sum(map(len, files_of("one").values()))
    assert device.tried == ["one"]
    assert device.happened() == [
        "UpdateChecked",
        "DownloadStarted",
        "DownloadProgressed",
        "RevisionStaged",
    ]
    assert device.update().outcome is UpdateOutcome.STAGED
    assert device.load() == "one"
    assert is_whole(device.store.revision(NAME, "one").folder)
    again = device.update()
    assert (again.outcome, again.revision) == (UpdateOutcome.CURRENT, "one")
    assert device.tried == ["one"]


@pytest.mark.parametrize("size", [10, 3000])
def test_a_damaged_model_is_fetched_again(device: Device, size: int) -> None:
    """The one in use, of another size or with other bytes: it is not up to date."""
    device.update()
    device.load()
    model = device.store.revision(NAME, "one").folder / "model.tflite"
    model.chmod(0o600)
    model.write_bytes(b"x" * size)
    assert device.update().outcome is UpdateOutcome.STAGED
    assert device.load() == "one"
    assert is_whole(device.store.revision(NAME, "one").folder)


def test_only_what_is_missing_is_fetched(device: Device) -> None:
    """The vocabulary is the same in all revisions."""
    device.update()
    device.load()
    device.published.publish("two")
    assert device.update().fetched == len(files_of("two")["model.tflite"])


def test_a_dry_run_fetches_nothing(device: Device) -> None:
    """It says what would be fetched."""
    result = device.update(dry_run=True)
    assert (result.outcome, result.revision) == (UpdateOutcome.AVAILABLE, "one")
    assert result.fetched == sum(map(len, files_of("one").values()))
    assert not any("blobs" in request.path for request in device.server.requests)
    assert not device.store.revisions(NAME)


def test_a_delta_is_fetched_where_there_is_one(device: Device) -> None:
    """From the model that is active."""
    device.update()
    device.load()
    device.published.publish("two")
    old, new = (files_of(name)["model.tflite"] for name in ("one", "two"))
    size = device.published.add_delta(old, new, "two")
    result = device.update()
    assert result.delta
    assert result.fetched == size < len(new)
    assert device.load() == "two"
    assert is_whole(device.store.revision(NAME, "two").folder)


@pytest.mark.parametrize("damage", [b"no xz", b""])
def test_without_a_usable_delta_the_whole_file_is_fetched(device: Device, damage: bytes) -> None:
    """One that is signed and nonsense, or that cannot be downloaded."""
    device.update()
    device.load()
    device.published.publish("two")
    old, new = (files_of(name)["model.tflite"] for name in ("one", "two"))
    device.published.add_delta(old, new, "two")
    path = f"deltas/{sha256_of(old)}-{sha256_of(new)}.xz"
    if damage:
        device.published.channel.files[path] = damage
        device.published.change("two", rollout=100)
    else:
        device.server.always = None
        for file in (device.published.folder / "targets/deltas").iterdir():
            file.unlink()
    result = device.update()
    assert result.outcome is UpdateOutcome.STAGED
    assert is_whole(device.store.revision(NAME, "two").folder)


@pytest.mark.parametrize(
    "error", [ModelRefusedError("top-1 0.1"), ModelIncompatibleError("it crashed")]
)
def test_a_refused_revision_is_remembered(device: Device, error: EdgewiseError) -> None:
    """The active one stays; the bad one is neither fetched nor tried again, until another comes."""
    device.update()
    device.load()
    device.published.publish("bad")
    device.error = error
    result = device.update()
    assert (result.outcome, result.revision, result.reason) == (
        UpdateOutcome.REFUSED,
        "bad",
        str(error),
    )
    assert "RevisionRefused" in device.happened()
    device.error = None
    again = device.update()
    assert again.outcome is UpdateOutcome.UNUSABLE
    assert f"failed on this device before: {error}" in again.reason
    assert device.tried == ["one", "bad"]
    assert device.load() == "one"
    device.published.publish("good")
    assert device.update().revision == "good"


def test_a_trial_that_came_to_no_end_says_nothing_of_the_revision(device: Device) -> None:
    """Memory was short, say: it is tried again, and nothing is fetched again."""
    device.error = TrialFailedError("it was killed")
    with pytest.raises(TrialFailedError):
        device.update()
    device.error = None
    result = device.update()
    assert (result.outcome, result.fetched) == (UpdateOutcome.STAGED, 0)


@pytest.mark.parametrize("fault", [Fault.TRUNCATE, Fault.OTHER_BYTES])
def test_what_came_is_kept_for_the_next_try(device: Device, fault: Fault) -> None:
    """Bytes that are right are not fetched twice; others are never used."""
    model = sha256_of(files_of("one")["model.tflite"])
    device.server.misbehave(fault, times=2, on=model, after=1000)
    with pytest.raises(DownloadFailedError):
        device.update()
    assert device.load() is None
    assert device.update().outcome is UpdateOutcome.STAGED
    assert is_whole(device.store.revision(NAME, "one").folder)


def test_a_revoked_revision_is_rolled_back(device: Device) -> None:
    """At the next update, to the one before."""
    device.update()
    device.load()
    device.published.publish("two")
    device.update()
    assert device.load() == "two"
    device.published.change("two", revoked="it writes nonsense")
    result = device.update()
    assert result.outcome is UpdateOutcome.ROLLED_BACK
    assert result.reason == "two was revoked: it writes nonsense"
    assert "RevisionRolledBack" in device.happened()
    assert device.load() == "one"


def test_a_revoked_revision_without_a_way_back_stays_until_there_is_another(
    device: Device,
) -> None:
    """An older one will do."""
    device.published.publish("two")
    device.update()
    assert device.load() == "two"
    device.published.change("one", revoked="too")
    device.published.change("two", revoked="it writes nonsense")
    result = device.update()
    assert result.outcome is UpdateOutcome.UNUSABLE
    assert "two was revoked (it writes nonsense), and nothing can replace it" in result.reason
    assert device.load() == "two"
    device.published.change("one", revoked="")
    assert device.update().revision == "one"
    assert device.load() == "one"


def test_a_staged_revision_that_is_revoked_is_not_loaded(device: Device) -> None:
    """The one before stays."""
    device.update()
    device.load()
    device.published.publish("two")
    device.update()
    device.published.change("two", revoked="it writes nonsense")
    device.update()
    assert device.load() == "one"


def test_a_pinned_model_stays(device: Device) -> None:
    """Nothing is fetched."""
    activate(device.store, NAME, "mine")
    device.store.pin(NAME, "mine")
    result = device.update()
    assert result.outcome is UpdateOutcome.UNUSABLE
    assert "pinned to mine" in result.reason


def test_another_vocabulary_needs_another_name(device: Device) -> None:
    """It says so, and fetches nothing."""
    install(device.store, NAME, "mine", VOCABULARY)
    device.store.stage(NAME, "mine")
    device.load()
    device.published.publish("new", vocabulary="b" * 64)
    device.published.change("one", revoked="old")
    result = device.update()
    assert "a model with another vocabulary needs another name" in result.reason
    assert not any("blobs" in request.path for request in device.server.requests)


def test_a_full_disk_is_noticed_before_the_download(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is needed and what is free."""
    from edgewise_edge.installed.files import disk

    free = disk.shutil.disk_usage(device.published.folder)._replace(free=1000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: free)
    with pytest.raises(StoreError, match="is full"):
        device.update()
    assert not any("blobs" in request.path for request in device.server.requests)


def test_two_processes_do_not_update_at_once(device: Device) -> None:
    """The second one waits shortly, then says who does."""
    with (
        device.store.exclusive("update"),
        device.updater(lock_timeout=0) as second,
        pytest.raises(StoreError, match=r"in use by process \d+"),
    ):
        second.update()


def test_a_model_that_the_channel_does_not_have(device: Device) -> None:
    """It says what there is."""
    device.published.name = "tales"
    device.published.publish("two")
    with pytest.raises(ChannelError, match=r"has no model 'story'; it offers tales"):
        device.update()


def test_files_that_are_signed_and_missing(device: Device) -> None:
    """The update fails, in words; the next one succeeds."""
    sha256 = sha256_of(files_of("one")["model.tflite"])
    content = device.published.channel.files.pop(f"blobs/{sha256}")
    device.published.change("one", rollout=100)
    with pytest.raises(ChannelError, match=r"does not have the model\.tflite"):
        device.update()
    device.published.channel.files[f"blobs/{sha256}"] = content
    device.published.change("one", rollout=100)
    assert device.update().staged


def test_a_manifest_of_another_model_is_refused(device: Device) -> None:
    """Whoever signed it."""
    files = device.published.channel.files
    device.published.publish("two")
    files[f"{NAME}/two/manifest.json"] = files[f"{NAME}/one/manifest.json"]
    device.published.change("two", rollout=100)
    with pytest.raises(ModelIncompatibleError, match="the manifest of story two is that of"):
        device.update()


def test_an_observer_that_fails_stops_nothing(device: Device) -> None:
    """Its error is logged."""

    def fails(_: ModelEvent) -> None:
        raise ValueError("private")

    with device.updater() as updater:
        updater._on_event = fails
        assert updater.update().staged


def test_progress_grows_to_the_whole(device: Device) -> None:
    """Each report has the bytes of all files."""
    seen: list[tuple[int, int]] = []

    def report(progress: DownloadProgress) -> None:
        seen.append((progress.done, progress.total))

    device.update(on_progress=report)
    total = sum(map(len, files_of("one").values()))
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
