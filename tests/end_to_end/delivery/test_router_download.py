"""A router whose model comes from a channel: its states, its download, and what it does not send."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import (
    Availability,
    ChannelError,
    ConfigurationError,
    DownloadProgress,
    DownloadSettings,
    DownloadStarted,
    Event,
    LatencyLog,
    ModelEvent,
    ModelNotFoundError,
    RevisionStaged,
    Router,
    RouterClosedError,
    UpdateOutcome,
    UpdatePolicy,
)
from edgewise.testing import ScriptedCloud, ScriptedDevice
from edgewise_edge.installed.store import ModelStore
from tests.support.file_server import Fault, FileServer, Misbehaviour
from tests.support.published_models import PublishedModels, shuffled
from tests.support.routers_of_revisions import BUNDLED_REVISION, DEVICE, PROMPT, text_of

CANARY = "the canary of the private prompt"


@pytest.fixture
def published(tmp_path: Path) -> PublishedModels:
    """A channel with one revision of the model "story"."""
    published = PublishedModels(tmp_path / "channel")
    published.publish_tales("one")
    return published


@pytest.fixture
def server(published: PublishedModels) -> Iterator[FileServer]:
    """Serves it."""
    with FileServer(published.folder) as server:
        yield server


def new_router(published: PublishedModels, address: str | Path, **options: object) -> Router:
    settings = {"latency": LatencyLog(), "threads": 1, "device": lambda: DEVICE} | options
    return Router("story", channel=address, channel_root=published.root, **settings)


def test_a_model_that_is_still_to_be_downloaded(
    store: ModelStore, published: PublishedModels, server: FileServer, events: list[Event]
) -> None:
    """The router is there at once, without a request; each state says what is to be done."""
    cloud = ScriptedCloud("the answer")
    with new_router(
        published, server.address, cloud=cloud, offline=True, observers=[events.append]
    ) as router:
        assert repr(router) == "Router(story)"
        found = router.availability()
        assert found.status is Availability.DOWNLOADABLE
        assert "call router.download()" in found.detail
        with pytest.raises(ModelNotFoundError, match=r"'story' is not on this device yet; call"):
            router.generate(PROMPT)
        assert (server.requests, cloud.requests, store.root.exists()) == ([], [], False)

        states = []

        def watch(progress: DownloadProgress) -> None:
            states.append(router.availability())
            assert (states[-1].done, states[-1].total) == (progress.done, progress.total)

        result = router.download(watch)
        assert (result.outcome, result.revision) == (UpdateOutcome.STAGED, "one")
        assert {state.status for state in states} == {Availability.DOWNLOADING}
        assert "story one is being downloaded" in states[0].detail
        size = f"{states[-1].total / 1e6:.1f}"
        assert str(states[-1]).endswith(f"{size} of {size} MB")
        assert router.availability().status is Availability.STAGED
        assert router.model.revision == text_of(router)[0] == "one"
        assert router.availability().status is Availability.AVAILABLE
        assert router.download().outcome is UpdateOutcome.CURRENT
    kinds = [type(event) for event in events if isinstance(event, ModelEvent)]
    assert [DownloadStarted, RevisionStaged] == [
        kind for kind in kinds if kind in {DownloadStarted, RevisionStaged}
    ]
    with Router("story", latency=LatencyLog(), threads=1) as later:  # it is installed
        assert text_of(later)[0] == "one"
        assert later.download().outcome is UpdateOutcome.CURRENT  # its channel is known


def test_an_update_while_texts_are_generated(
    store: ModelStore, published: PublishedModels, server: FileServer
) -> None:
    """The model stays available; nothing of a prompt is in a request of the delivery."""
    with new_router(published, server.address) as router:
        asyncio.run(router.adownload())
        text_of(router)
        published.publish_tales("two", shuffled())
        texts = []

        def generate(progress: DownloadProgress) -> None:
            if not texts:
                found = router.availability()
                assert found.status is Availability.AVAILABLE
                assert found.total == progress.total > 0
                with router.stream(CANARY, max_tokens=5, privacy="private") as stream:
                    texts.append("".join(chunk.text for chunk in stream))
                assert stream.generation.model == "story@one"

        router.download(generate)
        assert texts
        assert text_of(router)[0] == "two"
    asked = "\n".join(f"{request.path} {request.headers}" for request in server.requests)
    assert "two/" in asked
    for word in CANARY.split()[-2:]:
        assert word not in asked


def test_closing_stops_a_download_and_keeps_its_bytes(
    store: ModelStore, published: PublishedModels, server: FileServer
) -> None:
    """In the thread that downloads it is RouterClosedError; the next one goes on."""
    router, errors = new_router(published, server.address), []
    begun, closed = threading.Event(), threading.Event()

    def slowly(progress: DownloadProgress) -> None:
        if progress.done > 10**6:
            begun.set()
            closed.wait(10)

    def download() -> None:
        try:
            router.download(slowly)
        except RouterClosedError as error:
            errors.append(error)

    thread = threading.Thread(target=download)
    thread.start()
    begun.wait(30)
    router.close()
    closed.set()
    thread.join(10)
    assert len(errors) == 1
    with pytest.raises(RouterClosedError):
        router.download()
    sent = server.sent
    with new_router(published, server.address) as other:
        resumed = []
        other.download(lambda progress: resumed.append(progress.resumed))
        assert max(resumed) > 10**6
        assert server.sent - sent < 6_000_000
        assert text_of(other)[0] == "one"


def test_updates_in_the_background(
    store: ModelStore, published: PublishedModels, server: FileServer
) -> None:
    """An UpdatePolicy is enough: the model comes, and texts use it."""
    policy = UpdatePolicy(jitter=0, only_idle=False, min_free_disk=0, min_memory=0)
    staged = threading.Event()

    def observe(event: Event) -> None:
        if isinstance(event, RevisionStaged):
            staged.set()

    with new_router(published, server.address, update=policy, observers=[observe]) as router:
        assert staged.wait(30)
        assert text_of(router)[0] == "one"


def test_a_background_update_that_hangs_does_not_keep_the_router_open(
    store: ModelStore, published: PublishedModels, server: FileServer
) -> None:
    """A server that says nothing: it is left, long before its time is up."""
    server.always = Misbehaviour(Fault.STALL)
    policy = UpdatePolicy(jitter=0, only_idle=False, min_free_disk=0, min_memory=0)
    settings = DownloadSettings(stall_timeout=600)
    router = new_router(published, server.address, update=policy, download_settings=settings)
    while not server.requests:  # the test's timeout is the limit
        time.sleep(0.01)
    router.close()
    with pytest.raises(RouterClosedError):
        router.generate(PROMPT)


def test_a_folder_is_a_channel(store: ModelStore, published: PublishedModels) -> None:
    """A USB stick, without any network."""
    with new_router(published, published.folder) as router:
        assert router.download().staged
        assert text_of(router)[0] == "one"


def test_a_bundled_model_is_updated_by_its_channel(store: ModelStore, tmp_path: Path) -> None:
    """Until then the bundled one answers."""
    published = PublishedModels(tmp_path / "channel", "tales")
    published.publish_tales("one")
    options = {"latency": LatencyLog(), "threads": 1, "device": lambda: DEVICE}
    with Router(channel=published.folder, channel_root=published.root, **options) as router:
        assert text_of(router)[0] == BUNDLED_REVISION
        assert router.download().staged
        assert text_of(router)[0] == "one"


def test_a_store_may_be_named(
    tmp_path: Path, store: ModelStore, published: PublishedModels
) -> None:
    """As a folder or a ModelStore; the default one is not touched."""
    for given in (tmp_path / "mine", ModelStore(tmp_path / "other")):
        with new_router(published, published.folder, store=given) as router:
            router.download()
            assert text_of(router)[0] == "one"
    assert not store.root.exists()


def test_a_named_store_alone_is_searched(
    tmp_path: Path, store: ModelStore, published: PublishedModels
) -> None:
    """A model that only the default store has is not found in another one."""
    with new_router(published, published.folder) as router:
        router.download()
    assert store.state("story").staged or store.state("story").active
    with pytest.raises(ModelNotFoundError, match="'story' is neither a bundled model"):
        Router("story", store=tmp_path / "other")


def test_what_is_told_of_progress_must_be_a_function(
    store: ModelStore, published: PublishedModels
) -> None:
    """Nothing is fetched before that is said."""
    with (
        new_router(published, published.folder) as router,
        pytest.raises(ConfigurationError, match="on_progress is 5; it must be a function"),
    ):
        router.download(on_progress=5)
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channel": 5}, "channel is 5; it must be an address"),
        ({"channel": ""}, "channel is ''; it must be an address"),
        ({"channel_root": "root.json"}, "channel_root is set without channel"),
        ({"channel": "x", "channel_root": 5}, "channel_root is 5; it must be the path"),
        ({"update": True}, "update is True; it must be an UpdatePolicy"),
        ({"update": UpdatePolicy()}, "'tales' has no channel to be updated from; set channel"),
        ({"download_settings": 1}, "download_settings is 1; it must be a DownloadSettings"),
        ({"store": 1}, "store is 1; it must be a folder, or a ModelStore"),
        ({"model": Path("folder"), "channel": "x"}, "channel is set, but model is"),
        ({"model": ScriptedDevice(), "channel": "x"}, "only a model that is given by its name"),
    ],
)
def test_invalid_options(store: ModelStore, options: dict[str, object], words: str) -> None:
    """Each error names the option, its value and what it must be."""
    with pytest.raises(ConfigurationError) as raised:
        Router(**options)
    assert words in str(raised.value)


def test_what_cannot_be_downloaded(store: ModelStore, published: PublishedModels) -> None:
    """No channel, no name, or a channel that is not known yet."""
    for router in (Router(latency=LatencyLog()), Router(ScriptedDevice())):
        with router, pytest.raises(ConfigurationError, match=r"channel|by its name"):
            router.download()
    with Router("story", channel=published.folder) as router, pytest.raises(ChannelError):
        router.download()


def test_nothing_of_the_delivery_is_imported_before_it_is_used(store: ModelStore) -> None:
    """Nor by a router that knows a channel."""
    script = (
        "import sys, edgewise; late = lambda: [name for name in sys.modules if name.split('.')[0] in"
        " ('urllib3', 'tuf', 'securesystemslib') or name.startswith(('edgewise.delivery',"
        " 'edgewise_edge.installed'))]; edgewise.Router().close(); print(late());"
        "edgewise.Router('story', channel='https://example.com').availability(); print(late())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n" * 2
