"""A signed channel: what is believed, what is refused and in which words, and that nothing breaks."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from edgewise import (
    ChannelError,
    ChannelExpiredError,
    ConfigurationError,
    DownloadFailedError,
    StoreError,
)
from edgewise.delivery.catalog.opening import open_catalog
from edgewise.delivery.catalog.plain import PlainFolder
from edgewise.delivery.catalog.trust import Channel
from edgewise_edge.installed.files.lock import locked
from edgewise_edge.installed.store import ModelStore
from tests.router.delivery.conftest import FakeClock
from tests.support.file_server import Fault, FileServer
from tests.support.signed_channel import SignedChannel, index, new_keys, revision

Refresh = Callable[..., list[str]]


@pytest.fixture
def channel(tmp_path: Path) -> SignedChannel:
    """With one revision of tales."""
    channel = SignedChannel(tmp_path / "channel")
    channel.files["tales/r1/manifest.json"] = b"{}"
    channel.publish(index(revision(1)))
    return channel


@pytest.fixture
def refresh(channel: SignedChannel, store: ModelStore, fake_clock: FakeClock) -> Refresh:
    """The names of the revisions that the device sees."""
    root = channel.root

    def refresh(address: str = str(channel.folder), root: bytes | None = root) -> list[str]:
        reader = Channel(address, store=store, root=root, clock=fake_clock.clock)
        seen = reader.refresh()
        return [found.revision for found in seen.models["tales"]]

    return refresh


def publish_second(channel: SignedChannel) -> None:
    """A further revision."""
    channel.publish(index(revision(1), revision(2)))


def metadata(channel: SignedChannel, name: str) -> Path:
    """One file of it."""
    return channel.folder / "metadata" / name


def test_a_channel_shows_its_revisions(
    channel: SignedChannel, store: ModelStore, refresh: Refresh
) -> None:
    """And where each file is, of which size and sha256; the root is needed once."""
    assert refresh() == ["r1"]
    publish_second(channel)
    reader = Channel(str(channel.folder), store=store)
    assert len(reader.refresh().models["tales"]) == 2
    target = reader.target("tales/r1/manifest.json")
    assert target is not None
    assert target.size == 2
    assert (channel.folder / target.path).read_bytes() == b"{}"
    assert reader.target("tales/r3/manifest.json") is None


def test_revoked_revisions_are_visible(channel: SignedChannel, store: ModelStore) -> None:
    """With the reason."""
    channel.publish(index(revision(1, revoked="it writes nonsense")))
    seen = Channel(str(channel.folder), store=store, root=channel.root).refresh()
    found = seen.find("tales", "r1")
    assert found is not None
    assert found.revoked == "it writes nonsense"


def test_without_a_root_nothing_is_believed(channel: SignedChannel, store: ModelStore) -> None:
    """The error says where it comes from."""
    with pytest.raises(ChannelError, match=r"root\.json"):
        Channel(str(channel.folder), store=store)


@pytest.mark.parametrize("name", ["not-there", "a-file"])
def test_a_folder_that_is_not_there_is_not_asked_for_its_root(
    tmp_path: Path, store: ModelStore, name: str
) -> None:
    """A stick that is not plugged in, a mistyped path: no root helps."""
    (tmp_path / "a-file").touch()
    with pytest.raises(DownloadFailedError, match=name):
        open_catalog(str(tmp_path / name), store=store)


def test_a_wrong_root_does_not_take_the_place_of_the_right_one(
    channel: SignedChannel, tmp_path: Path, store: ModelStore, refresh: Refresh
) -> None:
    """No root at all is the user's error; another channel's leads nowhere. Both are forgotten."""
    refresh()
    with pytest.raises(ConfigurationError, match=r"no root\.json"):
        refresh(root=b"{}")
    with pytest.raises(ChannelError, match="not signed by enough"):
        refresh(root=SignedChannel(tmp_path / "stranger").root)
    assert Channel(str(channel.folder), store=store).refresh().models


def test_over_http_a_channel_is_the_same(channel: SignedChannel, refresh: Refresh) -> None:
    """Rollback protection counts for the channel, not for its address."""
    with FileServer(channel.folder) as server:
        assert refresh(server.address) == ["r1"]
        old = metadata(channel, "timestamp.json").read_bytes()
        publish_second(channel)
        assert refresh() == ["r1", "r2"]
        metadata(channel, "timestamp.json").write_bytes(old)
        with pytest.raises(ChannelError, match="older state"):
            refresh(server.address)


def test_an_unreachable_channel_is_a_failed_download(
    channel: SignedChannel, refresh: Refresh, fake_clock: FakeClock
) -> None:
    """After three tries: somebody may be waiting."""
    refresh()
    with FileServer(channel.folder) as server:
        address = server.address
    with pytest.raises(DownloadFailedError, match="cannot be reached"):
        refresh(address)
    assert len(fake_clock.slept) == 2
    assert refresh() == ["r1"]


def test_what_is_no_channel_says_so(channel: SignedChannel, refresh: Refresh) -> None:
    """It lacks the timestamp."""
    metadata(channel, "timestamp.json").unlink()
    with pytest.raises(ChannelError, match=r"timestamp\.json is missing"):
        refresh()


# Attacks.


def test_an_old_timestamp_is_refused(channel: SignedChannel, refresh: Refresh) -> None:
    """An older state of the channel, correctly signed; the newest one is taken again later."""
    old = metadata(channel, "timestamp.json").read_bytes()
    publish_second(channel)
    new = metadata(channel, "timestamp.json").read_bytes()
    refresh()
    metadata(channel, "timestamp.json").write_bytes(old)
    with pytest.raises(ChannelError, match=r"timestamp\.json.*older state"):
        refresh()
    metadata(channel, "timestamp.json").write_bytes(new)
    assert refresh() == ["r1", "r2"]


def test_a_new_root_forgets_nothing(channel: SignedChannel, refresh: Refresh) -> None:
    """A new version of the app brings the newest root, and old states are still refused."""
    old = metadata(channel, "timestamp.json").read_bytes()
    publish_second(channel)
    refresh()
    channel.rotate({"root": new_keys()["root"]})
    metadata(channel, "timestamp.json").write_bytes(old)
    with pytest.raises(ChannelError, match="older state"):
        refresh(root=metadata(channel, "2.root.json").read_bytes())


@pytest.mark.parametrize("name", ["snapshot", "targets"])
def test_parts_of_two_states_are_refused(
    channel: SignedChannel, refresh: Refresh, name: str
) -> None:
    """A snapshot or targets of the first state under the name of the second."""
    publish_second(channel)
    shutil.copy(metadata(channel, f"1.{name}.json"), metadata(channel, f"2.{name}.json"))
    with pytest.raises(ChannelError, match=rf"2\.{name}\.json.*(mixed|two states)"):
        refresh()


@pytest.mark.parametrize(
    "name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "index.json"]
)
def test_a_flipped_byte_is_found(
    channel: SignedChannel, store: ModelStore, refresh: Refresh, name: str
) -> None:
    """In each file, at its start, in its middle and at its end; the right file is taken later."""
    (path,) = channel.folder.rglob(f"*{name}")
    right = path.read_bytes()
    for place in (0, len(right) // 3, len(right) // 2, len(right) - 2):
        wrong = bytearray(right)
        wrong[place] ^= 1
        path.write_bytes(wrong)
        with pytest.raises((ChannelError, DownloadFailedError)):
            refresh()
    path.write_bytes(right)
    assert refresh() == ["r1"]


def test_a_flipped_byte_in_the_root_is_found(channel: SignedChannel, refresh: Refresh) -> None:
    """Both in the one that the app gives and in the next one."""
    wrong = channel.root.replace(b'"version": 1', b'"version": 3', 1)
    with pytest.raises(ChannelError, match="cannot be trusted"):
        refresh(root=wrong)
    channel.rotate(new_keys())
    path = metadata(channel, "2.root.json")
    path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 3', 1))
    with pytest.raises(ChannelError, match=r"2\.root\.json is not signed"):
        refresh()


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_expired_signatures_stop_updates(
    channel: SignedChannel, refresh: Refresh, role: str
) -> None:
    """The error says since when, and who can help; with new ones it goes on."""
    refresh()
    channel.lifetime[role] = timedelta(days=-3)
    channel.rotate()
    publish_second(channel)
    with pytest.raises(ChannelExpiredError, match=rf"{role}\.json: \d{{4}}-.*channel refresh"):
        refresh()
    channel.lifetime[role] = timedelta(days=3)
    channel.rotate()
    publish_second(channel)
    assert refresh() == ["r1", "r2"]


def test_a_wrong_clock_is_suspected(channel: SignedChannel, refresh: Refresh) -> None:
    """When the signatures have long expired."""
    channel.lifetime["timestamp"] = timedelta(days=-4000)
    channel.publish()
    with pytest.raises(ChannelExpiredError, match="clock says"):
        refresh()


def test_a_threshold_must_be_met(tmp_path: Path, store: ModelStore) -> None:
    """One of two signatures is none."""
    channel = SignedChannel(tmp_path / "channel", threshold=2)
    channel.publish(index(revision(1)))
    reader = Channel(str(channel.folder), store=store, root=channel.root)
    assert reader.refresh().models
    for role in ("targets", "snapshot", "timestamp"):
        channel.signers = {role: channel.keys[role][:1]}
        publish_second(channel)
        with pytest.raises(ChannelError, match=f"{role}.*not signed by enough"):
            reader.refresh()
    channel.signers = {}
    publish_second(channel)
    assert reader.refresh().models


def test_signing_twice_with_one_key_does_not_help(tmp_path: Path, store: ModelStore) -> None:
    """A threshold counts keys."""
    channel = SignedChannel(tmp_path / "channel", threshold=2)
    channel.signers = {"timestamp": channel.keys["timestamp"][:1] * 2}
    channel.publish(index(revision(1)))
    with pytest.raises(ChannelError, match="not signed by enough"):
        Channel(str(channel.folder), store=store, root=channel.root).refresh()


def test_rotated_keys_are_followed(channel: SignedChannel, refresh: Refresh) -> None:
    """Through each root in turn; the old keys sign nothing any more."""
    refresh()
    old = channel.keys
    for _ in range(3):
        channel.rotate(new_keys())
    publish_second(channel)
    assert refresh() == ["r1", "r2"]
    channel.signers = old
    channel.publish(index(revision(1), revision(2), revision(3)))
    with pytest.raises(ChannelError, match="not signed by enough"):
        refresh()


def test_keys_that_the_old_ones_did_not_sign_are_refused(
    channel: SignedChannel, refresh: Refresh
) -> None:
    """Whoever has the server has no keys of the channel."""
    stranger = new_keys()
    channel.rotate(stranger, signed_by=stranger["root"])
    publish_second(channel)
    with pytest.raises(ChannelError, match=r"2\.root\.json is not signed by enough"):
        refresh()


def test_another_channel_is_not_this_one(
    channel: SignedChannel, tmp_path: Path, refresh: Refresh
) -> None:
    """Whatever its address."""
    stranger = SignedChannel(tmp_path / "stranger")
    stranger.publish(index(revision(9)))
    with pytest.raises(ChannelError, match="not signed by enough"):
        refresh(str(stranger.folder))
    assert refresh() == ["r1"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 10_000, b"0" * 600_000])
def test_any_bytes_as_metadata_are_an_error_in_words(
    channel: SignedChannel, refresh: Refresh, content: bytes
) -> None:
    """Empty, other JSON, no text, deep, large."""
    metadata(channel, "timestamp.json").write_bytes(content)
    with pytest.raises(ChannelError, match=r"cannot be trusted: metadata/timestamp\.json"):
        refresh()


@pytest.mark.parametrize("content", [b"{}", b'{"format": 2, "models": {}}'])
def test_a_signed_index_is_checked_all_the_same(
    channel: SignedChannel, refresh: Refresh, content: bytes
) -> None:
    """A publisher can err, or be newer."""
    channel.publish(content)
    with pytest.raises(ChannelError, match=r"index\.json of .* cannot be used"):
        refresh()


# Damage and company.


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json", "root.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 100])
def test_damaged_memories_are_fetched_again(
    channel: SignedChannel, store: ModelStore, refresh: Refresh, name: str, content: bytes
) -> None:
    """What a power cut leaves of the metadata that the device keeps."""
    refresh()
    (folder,) = [path for path in (store.root / "metadata").iterdir() if path.is_dir()]
    (folder / name).write_bytes(content)
    publish_second(channel)
    assert refresh() == ["r1", "r2"]


def test_a_damaged_index_is_fetched_again(
    channel: SignedChannel, store: ModelStore, refresh: Refresh
) -> None:
    """It is the only file that a refresh keeps among the models'."""
    refresh()
    (blob,) = (store.root / "blobs").iterdir()
    blob.chmod(0o600)
    blob.write_bytes(channel.files["index.json"].replace(b"r1", b"r9"))
    assert refresh() == ["r1"]
    assert blob.read_bytes() == channel.files["index.json"]


def test_one_refresh_at_a_time(
    channel: SignedChannel, store: ModelStore, refresh: Refresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process waits for its turn, and no load of a model waits for either."""
    refresh()
    monkeypatch.setattr("edgewise.delivery.catalog.roots._LOCK_TIMEOUT", 0.05)
    with locked(store.root / "metadata/lock"), pytest.raises(StoreError, match="in use by process"):
        refresh()
    with locked(store.root / "lock"):
        assert refresh() == ["r1"]


def test_a_store_that_cannot_be_written_is_an_error_of_the_store(
    channel: SignedChannel, tmp_path: Path
) -> None:
    """A file lies where its folder should be."""
    (tmp_path / "file").write_bytes(b"")
    reader = Channel(
        str(channel.folder), store=ModelStore(tmp_path / "file/store"), root=channel.root
    )
    with pytest.raises(StoreError):
        reader.refresh()


def test_a_stalled_server_is_asked_again(channel: SignedChannel, refresh: Refresh) -> None:
    """Metadata is fetched as patiently as files."""
    with FileServer(channel.folder) as server:
        server.misbehave(Fault.TRUNCATE, on="timestamp", after=10)
        assert refresh(server.address) == ["r1"]


def test_an_address_shows_what_it_is(
    channel: SignedChannel, store: ModelStore, folder: Path
) -> None:
    """A folder with a manifest is a plain one, unless a root says otherwise."""
    (folder / "manifest.json").write_bytes(b"{}")
    assert isinstance(open_catalog(str(folder), store=store), PlainFolder)
    assert isinstance(open_catalog("hf://org/tales", store=store), PlainFolder)
    for address in (str(folder), str(channel.folder), "https://models.invalid"):
        assert isinstance(open_catalog(address, store=store, root=channel.root), Channel)
    with pytest.raises(ChannelError, match=r"root\.json"):
        open_catalog("https://models.invalid", store=store)


def test_the_helper_writes_what_python_tuf_reads(channel: SignedChannel) -> None:
    """Its root is one."""
    assert Metadata.from_bytes(channel.root).signed.version == 1
