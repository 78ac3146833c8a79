"""A revision's first generations: after a failure or a crash, back to the one before."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise_edge import ModelRefusedError
from edgewise_edge.installed.state import Probation
from edgewise_edge.installed.store import ModelStore
from tests.support.installed_models import activate, install

ROOT = Path(__file__).parents[3]


@pytest.fixture
def two(store: ModelStore) -> Path:
    """A revision on probation, after "one"."""
    activate(store, "story", "one")
    folder = install(store, "story", "two")
    store.stage("story", "two")
    assert store.take_staged("story") == folder
    return folder


def start_elsewhere(store: ModelStore, then: str) -> subprocess.Popen[str]:
    """Another process that starts the active revision, and then runs `then`."""
    script = (
        "import os, signal, sys; from edgewise_edge.installed.store import ModelStore\n"
        "store = ModelStore(); store.starting('story'); print('started', flush=True)\n" + then
    )
    environment = os.environ | {"EDGEWISE_STORE": str(store.root)}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    return process


def test_a_crash_while_it_is_loaded_leads_back(
    store: ModelStore, two: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the next start; it is not staged again."""
    with start_elsewhere(store, "os.kill(os.getpid(), signal.SIGKILL)") as process:
        assert process.wait() == -signal.SIGKILL
    assert store.active_folder("story") == two
    assert store.starting("story") == store.layout.revision("story", "one")
    assert "a process died" in caplog.text
    with pytest.raises(ModelRefusedError, match="a process died while it was loaded"):
        store.stage("story", "two")


def die_while_it_generates(store: ModelStore, texts: int = 1) -> None:
    """Another process, killed after the first token of each of its texts."""
    more = "store.starting('story')\n" * (texts - 1) + "store.running('story')\n" * texts
    with start_elsewhere(store, more + "os.kill(os.getpid(), signal.SIGTERM)") as process:
        assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize("texts", [1, 2])
def test_a_process_that_is_killed_while_it_generates(
    store: ModelStore, two: Path, texts: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Is only remembered, once: somebody else may have killed it. The second one leads back."""
    die_while_it_generates(store, texts)
    for _ in range(2):
        assert store.starting("story") == two
        store.started("story")
    assert store.state("story").probation == Probation("two", 5, deaths=1)
    assert not store.state("story").failed
    store.generation_ended("story", ok=True)
    die_while_it_generates(store)
    assert store.starting("story") == store.layout.revision("story", "one")
    assert list(store.state("story").failed.values()) == ["a process died again while it was run"]
    assert "rolled back to one" in caplog.text


def test_a_load_after_a_text_is_a_start_again(store: ModelStore, two: Path) -> None:
    """One death in it counts at once."""
    again = "store.running('story'); store.started('story'); store.starting('story')\n"
    with start_elsewhere(store, again + "os.kill(os.getpid(), signal.SIGTERM)") as process:
        process.wait()
    assert store.starting("story") == store.layout.revision("story", "one")


def test_a_text_that_ends_leaves_no_mark(store: ModelStore, two: Path) -> None:
    """Nor does it say anything where none is announced."""
    store.running("story")
    store.starting("story")
    store.running("story")
    store.running("story")
    (mark,) = store.layout.model("story").glob(".*-two")
    assert mark.name.startswith(".running-")
    store.started("story")
    assert not mark.exists()


def test_two_processes_that_start_at_a_time_are_no_crash(store: ModelStore, two: Path) -> None:
    """Nor is one that ends by itself before it has finished."""
    with start_elsewhere(store, "sys.stdin.read()") as process:
        assert store.starting("story") == two
        store.started("story")
        store.started("story")  # once too often does no harm
        process.communicate()
    assert store.starting("story") == two
    store.started("story")
    assert not list(store.layout.model("story").glob(".starting*"))


def test_a_crash_of_a_revision_that_has_been_replaced(store: ModelStore, two: Path) -> None:
    """Says nothing about the one that is active now."""
    with start_elsewhere(store, "os.kill(os.getpid(), signal.SIGKILL)") as process:
        process.wait()
    store.rollback("story")
    install(store, "story", "three")
    store.stage("story", "three")
    three = store.take_staged("story")
    assert store.starting("story") == three == store.layout.revision("story", "three")
    store.started("story")


def test_a_staged_revision_survives_the_crash_of_the_one_before(
    store: ModelStore, two: Path
) -> None:
    """It may be what mends it; the way back leads to the one that proved itself."""
    three = install(store, "story", "three")
    store.stage("story", "three")
    with start_elsewhere(store, "os.kill(os.getpid(), signal.SIGKILL)") as process:
        process.wait()
    assert store.take_staged("story") == three
    state = store.state("story")
    assert (state.previous, list(state.failed.values())) == (
        "one",
        ["a process died while it was loaded or run"],
    )


def test_generations_that_go_well_end_the_probation(store: ModelStore, two: Path) -> None:
    """Five by default; then nothing is written or watched."""
    for left in (4, 3, 2, 1):
        assert store.generation_ended("story", ok=True) is None
        assert store.state("story").probation == Probation("two", left)
    store.generation_ended("story", ok=True)
    assert store.state("story").probation is None
    before = (store.layout.state("story")).stat()
    assert store.starting("story") == two
    assert store.generation_ended("story", ok=False, reason="too late") is None
    assert (store.layout.state("story")).stat() == before
    assert not list(store.layout.model("story").glob(".starting*"))


def test_one_that_fails_leads_back(store: ModelStore, two: Path) -> None:
    """With the reason; another revision's, which was still loaded, does not count."""
    assert store.generation_ended("story", ok=False, reason="NaN", revision="one") is None
    assert store.active_folder("story") == two
    found = store.generation_ended("story", ok=False, reason="NaN", revision="two")
    assert found == "rolled back to one"
    assert list(store.state("story").failed.values()) == ["failed on probation: NaN"]
    assert store.generation_ended("story", ok=False, reason="NaN") is None


def test_a_store_that_cannot_be_written_to_stops_no_load(
    store: ModelStore, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is active stays."""
    install(store, "story", "three")
    store.stage("story", "three")

    def replace(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("os.replace", replace)
    assert store.take_staged("story") == store.starting("story") == two
    assert store.generation_ended("story", ok=True) is None
    store.started("story")


def test_without_a_way_back_nothing_is_used(store: ModelStore) -> None:
    """And nobody is told of a bundled model that there is not."""
    install(store, "story", "first")
    store.stage("story", "first")
    store.take_staged("story")
    said = store.generation_ended("story", ok=False, reason="NaN")
    assert said == "rolled back to nothing: no other is here"
    assert store.active_folder("story") is None
