"""`make demo`."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from demo.__main__ import interrupt_again
from demo.scenes import WITH_CLOUD, main, offline, updates
from demo.service import CloudService
from demo.waiting import wait_until_serving
from edgewise_edge import Manifest, find_model
from tests.support.command_line import RunCommand

DEMO = [sys.executable, "-m", "demo"]


STAND_IN = [sys.executable, "-m", "tests.support.device_as_cloud"]


def assert_every_decision(shown: str) -> None:
    """Readable when piped, each scene with its decision."""
    lines = [line for line in shown.splitlines() if line.startswith("→ ")]
    answers = [line for line in lines if "answered" in line or "continued" in line]
    assert answers == [
        "→ The device answered, as preferred.",
        "→ The device answered as a last resort.",
        "→ The device answered, as preferred.",
        "→ The device answered, as preferred.",
        "→ The cloud answered instead.",
        "→ The cloud answered instead.",
        "→ The device answered as a last resort.",
        "→ The device continued at the very next token: the | in the text is there.",
    ]
    assert lines.count("→ The battery is at 3%; the minimum is 20%.") == 3
    assert shown.count("|") == 2  # the mark, and its explanation
    assert "\x1b" not in shown
    assert (
        shown.count("loading the model included") == 5
    )  # once for each model of each scene on the device
    assert max(map(len, shown.splitlines())) <= 80


def assert_updates(shown: str) -> None:
    """A revision takes over for the next text, after its trial; a bad one is refused."""
    scene = " ".join(shown.partition(str(updates.__doc__))[2].split())
    written_by = (
        f"Revision {Manifest.read(find_model('tales')).revision} wrote all of it; the new one"
    )
    steps = [
        "• Revision nudged is there; its difference to the model here is fetched: ",
        "• It is verified, then tried in a child process",
        "• It passed, and is staged: the next text uses it.",
        f"→ {written_by} was staged after ",
        "→ Revision nudged wrote it.",
        "• Revision shuffled is there; it is fetched: 6,",
        "→ It was refused: it agrees with its publisher on ",
        "→ Revision nudged stays in use.",
    ]
    places = [scene.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)


def test_demo_shows_every_decision(capsys: pytest.CaptureFixture[str]) -> None:
    """With a cloud that need not import TensorFlow."""
    caches = os.environ["XDG_CACHE_HOME"]
    others = psutil.Process().children()  # servers that other tests share
    assert main(STAND_IN) == 0
    shown = capsys.readouterr()
    assert_every_decision(shown.out)
    assert_updates(shown.out)
    assert shown.err == ""
    assert os.environ["XDG_CACHE_HOME"] == caches
    assert not Path(os.environ["EDGEWISE_STORE"]).exists()
    assert set(psutil.Process().children()) <= set(others)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_demo_shows_every_decision_of_the_real_service() -> None:
    """As `make demo` starts it, which compiles the bundled model."""
    done = subprocess.run(DEMO, capture_output=True, text=True, check=True)
    assert_every_decision(done.stdout)
    assert_updates(done.stdout)
    assert done.stderr == ""


def test_the_real_service_takes_the_demo_s_options(run_command: RunCommand) -> None:
    """It is refused for its model alone."""
    _, *arguments = CloudService()._command
    done = run_command(*arguments, "--model", "no-such")
    assert (done.returncode, "no GPT-2 preset" in done.stderr) == (2, True)


class Starting:
    """A CloudService that never serves: another phase each time it is asked, then it has failed."""

    address, age = "127.0.0.1:1", 1.0

    def __init__(self, *phases: str) -> None:
        self._phases = [*phases]

    @property
    def exit_status(self) -> int | None:
        """See CloudService."""
        return None if self._phases else 1

    @property
    def phase(self) -> str:
        """See CloudService."""
        return self._phases.pop(0)


def test_waiting_takes_a_line_for_each_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where output is piped; not one for each number that a stage counts."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    counted = [f"compiling {number} of 9" for number in range(1, 10)]
    wait_until_serving(Starting("", "", "loading tales", "compiling", *counted, "warming up"))
    phases = ["importing TensorFlow", "loading tales", "compiling", "warming up"]
    shown = capsys.readouterr().out.split("\n")
    assert [line for line in shown if line] == [f"The cloud starts, 1 s: {each}" for each in phases]


def test_a_service_that_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's scenes are shown (here one), then the service's last words and what is missing."""
    monkeypatch.setattr("demo.scenes.ON_DEVICE", [offline])
    dies = "import sys; print('compiling 3 of 7'); sys.exit('no space left on device')"
    assert main([sys.executable, "-c", dies]) == 1
    shown = capsys.readouterr().out
    *scenes, failure = shown.partition("The cloud service failed (exit status 1)")
    assert "The device answered as a last resort." in scenes[0]
    assert "compiling 3 of 7\n" in failure
    assert "no space left on device\n" in failure
    assert all(str(scene.__doc__) in failure for scene in WITH_CLOUD)
    assert "Traceback" not in shown


def test_the_phase_is_the_service_s_own_line() -> None:
    """The last line of its log, without time and level; nothing before it has said anything."""
    line = "2026-01-01T00:00:00.000Z INFO compiling 3 of 7"
    with CloudService([sys.executable, "-c", f"print({line!r})"]) as cloud:
        while cloud.exit_status is None:
            assert cloud.phase in {"", "compiling 3 of 7"}
        assert cloud.phase == "compiling 3 of 7"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_and_its_service(number: signal.Signals) -> None:
    """Without a traceback, with the exit status of an interrupt."""
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        line = ""
        while "The device answered, as preferred" not in line:  # the service has started
            line = process.stdout.readline()
            assert line
        started = psutil.Process(process.pid).children()
        process.send_signal(number)
        rest, errors = process.communicate()
    assert process.returncode == 130
    assert rest.endswith("Interrupted; the cloud service has been stopped.\n")
    assert errors == ""
    assert started
    assert not any(child.is_running() for child in started)


def test_an_interrupt_while_an_object_is_finalized_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python reports it and goes on; the demo raises it again."""

    class Finalized:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def finalize() -> None:
        Finalized()
        threading.Event().wait(20)

    monkeypatch.setattr(sys, "unraisablehook", interrupt_again)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            finalize()
    finally:
        signal.signal(signal.SIGTERM, before)
