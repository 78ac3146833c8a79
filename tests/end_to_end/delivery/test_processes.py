"""Processes that are killed, and processes that use one store at the same time."""

import subprocess
import sys
from pathlib import Path

from edgewise import LatencyLog, Router
from edgewise_edge import complete
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED
from tests.support.installed_models import install_tales
from tests.support.published_models import shuffled, tuned
from tests.support.routers_of_revisions import BUNDLED_REVISION, DEVICE, PROMPT

SWITCHING = """
from pathlib import Path
from edgewise_edge.installed.store import ModelStore
from tests.support.installed_models import install_tales
from tests.support.published_models import shuffled, tuned

store = ModelStore()
for turn in range(50):
    name, model = [("one", MODELS[0]), ("two", MODELS[1])][turn % 2]
    if turn % 10 > 7:
        if store.state("tales").active:
            store.rollback("tales")
        store.gc(grace=-1)
    install_tales(store, name, model)
    store.stage("tales", name, force=True)
    if turn % 3:
        store.take_staged("tales", generations=turn % 4 + 1)
"""


def test_a_router_that_is_killed_at_any_step_of_a_switch(tmp_path: Path) -> None:
    """The next one answers, by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_routers", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 10


def test_one_process_switches_while_another_generates(store: ModelStore) -> None:
    """Each text is that of the revision that it names, and none fails."""
    models = {"one": tuned(), "two": shuffled()}
    texts = {BUNDLED_REVISION: text_of_folder(BUNDLED / "tales")}
    texts |= {
        name: text_of_folder(install_tales(store, name, model)) for name, model in models.items()
    }
    script = SWITCHING.replace("store = ", "MODELS = [tuned(), shuffled()]\nstore = ")
    process = subprocess.Popen([sys.executable, "-c", script])
    seen = 0
    while process.poll() is None:
        with Router(device=lambda: DEVICE, latency=LatencyLog(), threads=1) as router:
            for _ in range(3):
                found = router.generate(PROMPT, max_tokens=4, temperature=0)
                assert found.text == texts[found.model.partition("@")[2]]
                seen += 1
    assert process.returncode == 0
    assert seen


def text_of_folder(folder: Path) -> str:
    return complete(PROMPT, model=folder, max_tokens=4, temperature=0).text
