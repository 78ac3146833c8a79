"""A text uses one revision; the next one uses what was staged meanwhile."""

import pytest

from edgewise import Availability, Event, LatencyLog, RevisionActivated, Router
from edgewise.generation.source import ModelAvailability
from edgewise_edge import DeviceModel, complete
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED
from tests.support.installed_models import install_tales
from tests.support.published_models import shuffled
from tests.support.routers_of_revisions import BUNDLED_REVISION, DEVICE, PROMPT, text_of

LONG = 40  # tokens


def text_of_bundled(max_tokens: int) -> str:
    folder = BUNDLED / "tales"
    return complete(PROMPT, model=folder, max_tokens=max_tokens, temperature=0).text


def test_a_text_is_one_revisions_and_the_next_the_staged_ones(
    router: Router, stage, store: ModelStore, events: list[Event]
) -> None:
    """While it is streamed, the new revision waits; observers hear of the switch."""
    whole = text_of_bundled(LONG)
    with router.stream(PROMPT, max_tokens=LONG, temperature=0) as stream:
        text = next(iter(stream)).text
        stage("new")
        found = router.availability()
        assert found == ModelAvailability(
            Availability.STAGED, loaded=True, detail="tales new is staged: the next text uses it"
        )
        text += "".join(chunk.text for chunk in stream)
    assert (text, stream.generation.model) == (whole, f"tales@{BUNDLED_REVISION}")
    revision, text = text_of(router, LONG)
    assert revision == "new"
    assert text != whole
    assert store.state("tales").active == "new"
    assert router.availability().status is Availability.AVAILABLE
    (switch,) = [event for event in events if isinstance(event, RevisionActivated)]
    assert (switch.revision, switch.previous) == ("new", BUNDLED_REVISION)


def test_a_text_that_starts_beside_another_uses_the_same_revision(router: Router, stage) -> None:
    """A switch is only between texts; a text keeps its revision when it starts late, too."""
    late = router.stream(PROMPT, max_tokens=LONG, temperature=0)
    with router.stream(PROMPT, max_tokens=LONG, temperature=0) as running:
        next(iter(running))
        stage("new")
        assert text_of(router)[0] == BUNDLED_REVISION
    assert text_of(router)[0] == "new"
    with late:
        text = "".join(chunk.text for chunk in late)
    assert (text, late.generation.model) == (text_of_bundled(LONG), f"tales@{BUNDLED_REVISION}")
    assert text_of(router)[0] == "new"


def test_a_revision_proves_itself_with_a_few_texts(
    router: Router, stage, store: ModelStore
) -> None:
    """Those that a stop string or the app ends count; then nothing is written any more."""
    stage("new")
    state = store.layout.state("tales")
    for left in (4, 3, 2, 1):
        with router.stream(PROMPT, max_tokens=3) as stream:
            next(iter(stream))
        assert store.state("tales").probation.generations_left == left
    text_of(router)
    assert store.state("tales").probation is None
    written = state.stat()
    text_of(router)
    assert state.stat() == written


def test_another_process_has_switched(router: Router, store: ModelStore, stage) -> None:
    """To a new revision, then back: the next text follows, in a second router as well."""
    stage("new")
    with Router(device=lambda: DEVICE, latency=LatencyLog(), threads=1) as other:
        assert text_of(other)[0] == text_of(router)[0] == "new"
        store.rollback("tales")
        assert text_of(other)[0] == text_of(router)[0] == BUNDLED_REVISION


def test_a_damaged_revision_gives_way_at_once(
    router: Router, stage, store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that has changed after the switch: the text is the bundled model's."""
    stage("new")
    router.stream(PROMPT).close()  # takes it, without loading it
    path = store.layout.revision("tales", "new") / "model.tflite"
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    text = text_of(router, LONG)[1]
    assert text == text_of_bundled(LONG)
    assert "sha256 differs" in caplog.text


def test_collection_spares_what_is_mapped(router: Router, stage, store: ModelStore) -> None:
    """A text goes on with the files of a revision that has been removed."""
    stage("new")
    with router.stream(PROMPT, max_tokens=LONG, temperature=0) as stream:
        text = next(iter(stream)).text
        store.rollback("tales")
        assert store.gc(grace=-1) > 0
        assert not store.layout.revision("tales", "new").exists()
        text += "".join(chunk.text for chunk in stream)
    assert len(text) > 20
    assert text_of(router)[0] == BUNDLED_REVISION


def test_latency_is_known_by_revision(router: Router, stage) -> None:
    """Each has its own key."""
    first = router.device_source.key
    stage("new")
    text_of(router)
    assert (first.rpartition("/")[0].replace(BUNDLED_REVISION, "new")) in router.device_source.key
    assert router.device_source.measured


def test_another_vocabulary_is_not_followed(router: Router, store: ModelStore) -> None:
    """However it became active; the words say what to do."""
    folder = install_tales(store, "new", shuffled(1))
    manifest = folder / "manifest.json"
    content = manifest.read_text().replace(router.model.vocabulary, "0" * 64)
    store.stage("tales", "new")
    store.take_staged("tales")
    manifest.unlink()
    manifest.write_text(content)
    assert text_of(router)[0] == BUNDLED_REVISION


def test_names_and_folders_without_a_store_read_little(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the store is imported or made for them."""
    assert not store.root.exists()
    with Router(latency=LatencyLog(), threads=1) as router:
        assert text_of(router)[0] == BUNDLED_REVISION
    assert not store.root.exists()
    assert DeviceModel.load("tales", threads=1).manifest.revision == BUNDLED_REVISION
