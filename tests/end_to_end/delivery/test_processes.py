"""Processes that are killed, and processes that use one store at the same time."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgewise import Event, LatencyLog, RevisionRolledBack, Router
from edgewise_edge import complete
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED
from tests.support.installed_models import install_tales
from tests.support.published_models import shuffled, tuned
from tests.support.routers_of_revisions import BUNDLED_REVISION, DEVICE, PROMPT

SWITCHING = """
import sys
from edgewise_edge.installed.store import ModelStore
from tests.support.installed_models import install_tales
from tests.support.published_models import shuffled, tuned

models = [("one", tuned()), ("two", shuffled())]
store = ModelStore()
for turn in range(int(sys.argv[1])):
    name, model = models[turn % 2]
    if turn % 10 > 7:
        if store.state("tales").active:
            store.rollback("tales")
        store.gc(grace=-1)
    install_tales(store, name, model)
    store.stage("tales", name, force=True)
    if turn % 3:
        store.take_staged("tales", generations=turn % 4 + 1)
"""


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_a_router_that_is_killed_at_a_step_of_a_switch(every: int, tmp_path: Path) -> None:
    """The next one answers, by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_routers", str(tmp_path), str(every)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) * every > 10


@pytest.mark.parametrize("turns", [12, pytest.param(50, marks=pytest.mark.soak)])
def test_one_process_switches_while_another_generates(store: ModelStore, turns: int) -> None:
    """Each text is that of the revision that it names, or of the one that had to replace it."""
    models = {"one": tuned(), "two": shuffled()}
    texts = {BUNDLED_REVISION: text_of_folder(BUNDLED / "tales")}
    texts |= {
        name: text_of_folder(install_tales(store, name, model)) for name, model in models.items()
    }
    process = subprocess.Popen([sys.executable, "-c", SWITCHING, str(turns)])
    seen = 0
    events: list[Event] = []
    while process.poll() is None:
        with Router(
            device=lambda: DEVICE, latency=LatencyLog(), threads=1, observers=[events.append]
        ) as router:
            for _ in range(3):
                events.clear()
                found = router.generate(PROMPT, max_tokens=4, temperature=0)
                # It may be removed before it is loaded.
                back_to = {e.back_to for e in events if isinstance(e, RevisionRolledBack)}
                used = {found.model.partition("@")[2]} | back_to
                assert found.text in {texts[revision] for revision in used}
                seen += 1
    assert process.returncode == 0
    assert seen


def text_of_folder(folder: Path) -> str:
    return complete(PROMPT, model=folder, max_tokens=4, temperature=0).text
