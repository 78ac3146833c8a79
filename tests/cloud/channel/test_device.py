"""What the publisher writes, read by the device's own client of channels and installed in a store."""

from pathlib import Path

from edgewise.delivery.catalog.trust import Channel as DeviceChannel
from edgewise.delivery.download import download
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.manifest import Manifest
from tests.cloud.channel.conftest import Channel
from tests.support.damaged_folder import copied_model


def test_a_store_installs_a_published_revision(channel: Channel, tmp_path: Path) -> None:
    """Its manifest and evaluation, and every file as a blob."""
    folder = copied_model(tmp_path / "model")
    channel.publish_untried(folder)
    store = ModelStore(tmp_path / "store")
    root = channel.folder / "metadata/1.root.json"
    reader = DeviceChannel(str(channel.folder), store=store, root=root)
    (revision,) = reader.refresh().models["tales"]

    def fetched(path: str) -> Path:
        target = reader.target(path)
        assert target is not None
        with store.partial(target.sha256, target.size) as partial:
            return download(reader.fetcher, target.path, partial)

    base = f"tales/{revision.revision}"
    content = fetched(f"{base}/manifest.json").read_bytes()
    for record in Manifest.parse(content, "it").files.values():
        fetched(f"blobs/{record.sha256}")
    evaluation = fetched(f"{base}/evaluation.json").read_bytes()
    installed = store.install(content, evaluation)
    reader.close()
    assert (installed / "model.tflite").read_bytes() == (folder / "model.tflite").read_bytes()
    assert revision.size == sum(
        (installed / name).stat().st_size for name in ("model.tflite", "vocab.json", "merges.txt")
    )
