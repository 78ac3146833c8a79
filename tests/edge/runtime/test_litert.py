"""LiteRT by its C API: what else runs during a step, and how long a model is kept."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise_edge import DeviceModel
from edgewise_edge.runtime.litert import CompiledBackend
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE

TRIES = 10_000


@pytest.fixture
def patient() -> Iterator[None]:
    """No thread is made to give up the GIL."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("patient")
def test_other_threads_run_during_a_step(exact_model: DeviceModel) -> None:
    """The step gives up the GIL; nothing else in the loop does."""
    session, ticks, done = exact_model.runtime.session(), [0], threading.Event()
    session.forward([1])
    bound = session.cache.decode_step

    def tick() -> None:
        while not done.is_set():
            ticks[0] += 1
            time.sleep(1e-5)

    ticking = threading.Thread(target=tick)
    ticking.start()
    before = ticks[0]
    for _ in range(TRIES):
        bound.step()
        if ticks[0] != before:
            break
    during = ticks[0] - before
    done.set()
    ticking.join()
    assert during


def test_a_model_is_unmapped_with_what_runs_it(
    exact_folder: Path, exact_model: DeviceModel
) -> None:
    """With its runtime and the steps that are bound to it, whichever goes last."""
    file, shape = exact_folder.resolve() / MODEL_FILE, exact_model.manifest.architecture
    elsewhere = _mapped(file)
    runtime = Runtime(CompiledBackend(file, threads=1), shape)
    session = runtime.session()
    session.forward([1])
    assert _mapped(file) > elsewhere
    step = session.cache.decode_step
    del runtime, session
    assert _mapped(file) > elsewhere
    step.step()
    del step
    assert _mapped(file) == elsewhere


def _mapped(file: Path) -> int:
    """How many times this process has mapped it."""
    return Path("/proc/self/maps").read_text().count(f"{file}\n")
