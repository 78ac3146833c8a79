"""A program that changes a store, once for each of its steps on disk, and is stopped at that step.

    python -m tests.support.interruptions FOLDER killed|full

Each step is a call of `os`. `killed`: SIGKILL before it, or in the middle of a write. `full`: from
there on there is no space left. Then the active model must be whole, and the change must succeed when
it is tried again. Prints the number of steps of each change.
"""

import errno
import gc
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgewise_edge.errors import StoreError
from edgewise_edge.installed.store import ModelStore
from tests.support.installed_models import (
    activate,
    files_of,
    install,
    is_whole,
    manifest_of,
    put_blob,
)

STEPS = ("open", "write", "fsync", "replace", "link", "mkdir", "ftruncate", "fchmod", "utime")
STEPS_THAT_FREE = ("unlink", "rmdir")
NAME = "story"  # not bundled: without a revision there is no model
Change = Callable[[ModelStore], None]


def prepare(store: ModelStore) -> None:
    """Two good revisions, the second active, one installed, and something to collect."""
    for revision in ("zero", "one", "two"):
        activate(store, NAME, revision)
    install(store, NAME, "three")
    put_blob(store, b"unused" * 500)
    with store.partial("0" * 64, 5000) as partial:
        partial.append(b"interrupted")


def download_and_install(store: ModelStore) -> None:
    """A new revision."""
    install(store, NAME, "four")
    assert is_whole(store.revision(NAME, "four").folder)


def switch(store: ModelStore) -> None:
    """To a staged revision, which is loaded and used until its probation is over."""
    if "a process died" in "".join(store.state(NAME).failed.values()):
        return  # it was killed while it was being loaded, and this is how it must be
    store.stage(NAME, "three")
    store.take_staged(NAME, generations=2)
    store.starting(NAME)
    store.running(NAME)
    store.started(NAME)
    for _ in range(2):
        store.generation_ended(NAME, ok=True)
    assert "a process died" in "".join(store.state(NAME).failed.values()) or (
        store.state(NAME).active == "three"
    )


def roll_back(store: ModelStore) -> None:
    """To the previous revision."""
    if store.state(NAME).active == "two":
        store.rollback(NAME)
    assert store.state(NAME).active == "one"


def collect(store: ModelStore) -> None:
    """Everything that is not used."""
    store.gc(grace=-1)
    assert [each.revision for each in store.revisions(NAME)] == ["one", "two"]
    assert len(list(store.layout.blobs.iterdir())) == 4
    assert not list(store.layout.partials.iterdir())


def pin_and_remove(store: ModelStore) -> None:
    """An older revision is used, and the newer one removed."""
    store.pin(NAME, "one")
    if any(each.revision == "two" for each in store.revisions(NAME)):
        store.remove(NAME, "two")
    assert store.state(NAME).active == "one"


def add(store: ModelStore) -> None:
    """The app's own stream, handed in from where the last one ended."""
    files = files_of("five")
    model = files["model.tflite"]
    manifest = manifest_of(NAME, "five", files)
    store.add(NAME, iter([model[:2500], model[2500:]]), size=len(model), manifest=manifest)
    assert is_whole(store.revision(NAME, "five").folder)


CHANGES = (download_and_install, switch, roll_back, collect, pin_and_remove, add)


def interrupt(step: int, kind: str) -> Callable[[], int]:
    """Have this process stopped at that step; the function returned tells how many there were."""
    count = itertools.count(1)
    seen = [0]

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return real(*arguments, **options)
            seen[0] = next(count)
            if kind == "killed" and seen[0] == step:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "full" and seen[0] >= step and name in STEPS:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return None if name == "fsync" else real(*arguments, **options)

        return wrapped

    for name in (*STEPS, *STEPS_THAT_FREE):
        setattr(os, name, wrap(name, getattr(os, name)))
    return lambda: seen[0]


def child(root: Path, change: Change, step: int, kind: str) -> None:
    """Never returns. Exit status 0: the change was done before that step."""
    steps = interrupt(step, kind)
    status = 1
    try:
        change(ModelStore(root))
        status = 0 if steps() < step else 2
    except StoreError as error:
        status = 2 if "MB are needed" in str(error) else 1
        if status == 1:
            print(f"step {step}: {error}", file=sys.stderr, flush=True)
    except AssertionError:
        status = 2 if kind == "full" else 1  # a load goes on with what is active
    finally:
        os._exit(status)


def main(folder: Path, change: Change, kind: str) -> int:
    """The number of steps at which the change was interrupted."""
    prepared = folder / "prepared"
    for step in itertools.count(1):
        root = folder / "store"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(prepared, root, copy_function=os.link)
        if (process := os.fork()) == 0:
            child(root, change, step, kind)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        store = ModelStore(root)
        found = store.active_folder(NAME)
        assert found, f"step {step}: no active model"
        assert is_whole(found)
        change(store)
        assert is_whole(store.active_folder(NAME) or root)
        if status == 0:
            return step - 1
        assert status == {"killed": -signal.SIGKILL, "full": 2}[kind], f"step {step}: {status}"
    raise AssertionError


if __name__ == "__main__":
    os.fsync = lambda _: None  # the page cache survives a kill
    gc.freeze()  # so that a fork need not walk, and copy, what was imported
    prepare(ModelStore(Path(sys.argv[1]) / "prepared"))
    for change in CHANGES:
        print(change.__name__, main(Path(sys.argv[1]), change, sys.argv[2]))
