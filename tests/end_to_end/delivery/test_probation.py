"""Revisions that fail although they passed their trial: the text goes on, and they are left."""

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from edgewise import (
    Availability,
    Event,
    LatencyLog,
    ModelNotFoundError,
    NoSourceError,
    RevisionRolledBack,
    Router,
    RuntimeFailedError,
)
from edgewise.testing import ScriptedCloud
from edgewise_edge import CacheMemoryError, DeviceModel, ModelRefusedError, complete, trial
from edgewise_edge.installed.state import Probation
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED
from edgewise_edge.store.passed import PassedModel
from tests.support.installed_models import install_tales
from tests.support.published_models import shuffled, tuned
from tests.support.routers_of_revisions import (
    BUNDLED_REVISION,
    DEVICE,
    PROMPT,
    giving_nan,
    text_of,
)

TEXT = complete(PROMPT, model=BUNDLED / "tales", max_tokens=8, temperature=0).text
Fail = Callable[..., None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Have the revision "bad" fail after two tokens."""
    real = DeviceModel.stream_tokens

    def fail(kind: type[Exception], *arguments: object) -> None:
        def stream_tokens(self, *call):
            for number, token in enumerate(real(self, *call)):
                if self.manifest.revision == "bad" and number == 2:
                    raise kind(*arguments)
                yield token

        monkeypatch.setattr(DeviceModel, "stream_tokens", stream_tokens)

    return fail


@pytest.mark.parametrize("cloud", [None, ScriptedCloud("the answer")])
def test_a_text_goes_on_when_its_revision_fails(
    store: ModelStore, failing: Fail, stage, events: list[Event], cloud: object
) -> None:
    """On the device, with the revision before it. The bad one is remembered, by its content."""
    failing(RuntimeFailedError, "it broke")
    model = tuned()
    settings = {"latency": LatencyLog(), "threads": 1, "observers": [events.append], "cloud": cloud}
    with Router(device=lambda: DEVICE, **settings) as router:
        stage("bad", model)
        text = text_of(router)[1]
        assert len(text) > 10
        assert text_of(router) == (BUNDLED_REVISION, TEXT)
    state = store.state("tales")
    assert (state.active, state.probation) == (None, None)
    assert list(state.failed.values()) == ["failed on probation: RuntimeFailedError: it broke"]
    (event,) = [event for event in events if isinstance(event, RevisionRolledBack)]
    assert (event.revision, event.back_to) == ("bad", BUNDLED_REVISION)
    assert "it broke" in event.reason
    install_tales(store, "bad-again", model)
    with pytest.raises(ModelRefusedError, match="failed on this device before"):
        store.stage("tales", "bad-again")


def test_the_text_is_continued_where_it_was(router: Router, stage, failing: Fail) -> None:
    """Each revision's tokens are there once: both would write the same here."""
    model = (BUNDLED / "tales" / "model.tflite").read_bytes()
    failing(RuntimeFailedError, "it broke")
    stage("bad", model)
    assert text_of(router)[1] == TEXT


def test_short_memory_is_not_the_revisions_fault(
    router: Router, stage, failing: Fail, store: ModelStore
) -> None:
    """It stays, and nothing is remembered."""
    failing(CacheMemoryError, 2000, 1000)
    stage("bad")
    with pytest.raises(NoSourceError, match="memory"):
        text_of(router)
    assert store.state("tales").active == "bad"
    assert not store.state("tales").failed


def test_a_revision_that_gives_nan_is_left(router: Router, stage, store: ModelStore) -> None:
    """With its first token, whatever the sampling."""
    for temperature in (0, 1):
        model = giving_nan() + bytes(1 + temperature)
        stage(f"bad{temperature}", model)
        found = router.generate(PROMPT, max_tokens=8, temperature=temperature, seed=1)
        assert found.usage.completion_tokens == 8
    assert ["NaN" in reason for reason in store.state("tales").failed.values()] == [True, True]
    assert text_of(router) == (BUNDLED_REVISION, TEXT)


def test_a_warm_up_that_fails_loads_the_revision_before(
    router: Router, stage, store: ModelStore
) -> None:
    """So that the next text does not wait for it."""
    stage("bad", b"\x00\x00\x00\x00TFL3" + bytes(1000))
    router.warm_up()
    assert router.availability().loaded
    assert "cannot be loaded" in "".join(store.state("tales").failed.values())
    assert text_of(router) == (BUNDLED_REVISION, TEXT)


CRASH = """
import os, signal, sys
from edgewise import LatencyLog, Router
from edgewise_edge.runtime.session import Runtime
how, last = sys.argv[1], int(sys.argv[2])
router = Router(latency=LatencyLog(), threads=1)
stream = router.stream("Once upon a time", max_tokens=8)
print(router.model.revision, flush=True)
run, calls = Runtime.run, []
def crash(self, *arguments):
    calls.append(1)
    if len(calls) == last:
        os._exit(3) if how == "exit" else os.kill(os.getpid(), getattr(signal, how))
    return run(self, *arguments)
Runtime.run = crash
for chunk in stream:
    pass
"""


def crash(how: str, last: int) -> None:
    """A process that uses "bad", and dies in that call of the runtime: the first is the prompt's."""
    program = [sys.executable, "-c", CRASH, how, str(last)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    status = 3 if how == "exit" else -getattr(signal, how)
    assert (done.stdout, done.returncode) == ("bad\n", status)


@pytest.fixture
def bad(store: ModelStore, stage) -> None:
    """It is staged, and loads without a trial."""
    from edgewise_edge import Manifest

    stage("bad")
    PassedModel(Manifest.read(store.layout.revision("tales", "bad")), 1).remember()


def test_a_process_that_is_killed_in_a_text_condemns_no_revision(
    store: ModelStore, bad: None
) -> None:
    """It was Android, say. The revision stays on probation, and answers."""
    crash("SIGTERM", last=3)
    with Router(device=lambda: DEVICE, latency=LatencyLog(), threads=1) as router:
        assert text_of(router)[0] == "bad"
    assert store.state("tales").probation == Probation("bad", 4, deaths=1)
    assert not store.state("tales").failed


@pytest.mark.parametrize(
    ("how", "last", "times", "reason"),
    [
        ("SIGTERM", 1, 1, "a process died while it was loaded or run"),
        ("exit", 3, 2, "a process died again while it was run"),
        ("SIGSEGV", 3, 2, "a process died again while it was run"),
    ],
)
def test_a_revision_that_crashes_is_left_at_the_next_start(
    store: ModelStore,
    bad: None,
    how: str,
    last: int,
    times: int,
    reason: str,
    events: list[Event],
) -> None:
    """By itself, before anything is loaded; and it is remembered. In a text it has a second chance."""
    for _ in range(times):
        crash(how, last)
        assert store.state("tales").active == "bad"
    with Router(
        device=lambda: DEVICE, latency=LatencyLog(), threads=1, observers=[events.append]
    ) as router:
        assert text_of(router) == (BUNDLED_REVISION, TEXT)
    assert list(store.state("tales").failed.values()) == [reason]
    (event,) = [event for event in events if isinstance(event, RevisionRolledBack)]
    assert (event.revision, event.back_to) == ("bad", BUNDLED_REVISION)


def test_an_app_that_ends_in_a_text_has_not_crashed(store: ModelStore, stage) -> None:
    """The revision stays."""
    from edgewise_edge import Manifest

    stage("good", shuffled(4))
    PassedModel(Manifest.read(store.layout.revision("tales", "good")), 1).remember()
    script = CRASH.partition("run, calls")[0] + "next(iter(stream)); sys.exit()"
    subprocess.run([sys.executable, "-c", script, "", "0"], timeout=60, check=True)
    with Router(device=lambda: DEVICE, latency=LatencyLog(), threads=1) as router:
        assert text_of(router)[0] == "good"
    assert not store.state("tales").failed


def test_a_damaged_revision_on_probation_gives_way_too(
    router: Router, stage, store: ModelStore
) -> None:
    """What takes its place does not prove anything for it."""
    stage("bad")
    router.stream(PROMPT).close()  # takes it, without loading it
    path = store.layout.revision("tales", "bad") / "model.tflite"
    path.unlink()
    for _ in range(6):
        assert text_of(router)[1] == TEXT
    with Router(device=lambda: DEVICE, latency=LatencyLog(), threads=1) as later:
        for _ in range(6):
            assert text_of(later) == (BUNDLED_REVISION, TEXT)
    assert store.state("tales").active is None or store.state("tales").probation


def test_a_first_revision_that_crashes_is_not_loaded_again(store: ModelStore) -> None:
    """There is nothing before it: the error says why, and an app starts."""
    install_tales(store, "one", name="story")
    store.stage("story", "one")
    store.take_staged("story")
    script = (
        "import os; from edgewise_edge.installed.store import ModelStore;"
        "ModelStore().starting('story'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    with pytest.raises(ModelNotFoundError, match="a process died while it was loaded or run"):
        Router("story")
    with Router("story", channel="https://example.com") as router:
        found = router.availability()
        assert found.status is Availability.DOWNLOADABLE
        assert "a process died" in found.detail


def test_a_trial_that_did_not_end_is_not_the_revisions_fault(
    router: Router, stage, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system killed it, say: the revision before it answers, and nothing is remembered."""
    real = trial._try

    def killed(*_: object) -> int:
        monkeypatch.setattr(trial, "_try", real)
        raise trial.TrialFailedError("the system killed it")

    stage("slow", tuned(7))
    monkeypatch.setattr(trial, "_try", killed)
    for _ in range(2):
        assert text_of(router)[1] == TEXT
    assert store.state("tales").active == "slow"
    assert not store.state("tales").failed
