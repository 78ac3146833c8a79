"""Which revision of a model is active in the store of installed models, by reading one small file.

The store is written by edgewise_edge.installed, which no load has to import.
"""

import json
import logging
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from edgewise_edge.errors import EdgeError
from edgewise_edge.store.files import is_ours, read_text
from edgewise_edge.store.manifest import MANIFEST_FILE, MODEL_FILE, Manifest

STORE_VARIABLE = "EDGEWISE_STORE"
STATE_FILE = "state.json"
STATE_FORMAT = 1
MAX_STATE_BYTES = 2**18
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # of a model or a revision

_log = logging.getLogger("edgewise_edge.installed")
_reported: set[str] = set()


def store_root() -> Path:
    """The folder of the store: EDGEWISE_STORE, or one in the user's data folder."""
    given = os.environ.get(STORE_VARIABLE)
    if given:
        return Path(os.path.expanduser(given))  # noqa: PTH111  # Path's raises without a home
    import platformdirs  # takes 4 ms of an import

    return platformdirs.user_data_path("edgewise") / "store"


def is_revision(text: object) -> bool:
    """Whether a revision may be called so: it becomes a folder beside the state file."""
    return is_name(text) and str(text).lower() != STATE_FILE


def is_name(text: object) -> bool:
    """Whether a model may be called so."""
    return isinstance(text, str) and NAME.fullmatch(text) is not None


def active_folder(name: str, root: Path | None = None) -> Path | None:
    """The folder of the active revision of `name`; None: the bundled model is used, if any."""
    root = root or store_root()
    return _found(name, root, lambda: _revisions_in_use(name, root)[:1]).get(0)


def installed_folders(name: str, root: Path | None = None) -> list[Path]:
    """The folders of the active revision of `name` and of the one before it, where they are whole."""
    root = root or store_root()
    return list(_found(name, root, lambda: _revisions_in_use(name, root)).values())


def distrust(root: Path) -> str:
    """Why the store at `root` is not used: "", or that others could have written to it."""
    found = root.stat()
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a folder"
    if hasattr(os, "geteuid") and found.st_uid not in {os.geteuid(), 0}:
        return f"it belongs to another user ({found.st_uid})"
    if os.name == "posix" and found.st_mode & 0o022:
        return "others may write to it; take that right away with chmod go-w"
    return ""


def report_once(message: str) -> None:
    """Log a warning, unless it has been logged before."""
    if message not in _reported:
        _reported.add(message)
        _log.warning(message)


def is_folder(path: Path) -> bool:
    """Whether a folder, and no link to one, lies at `path`."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _found(name: str, root: Path, read: Callable[[], list[str | None]]) -> dict[int, Path]:
    """The whole ones of the revisions that `read` gives, by their places."""
    revisions = read()
    while True:
        found = {
            place: folder
            for place, revision in enumerate(revisions)
            if revision and (folder := _whole(root, name, revision))
        }
        if len(found) == len(revisions) - revisions.count(None):
            return found
        before, revisions = revisions, read()
        if revisions == before:
            return found
        # Another process has switched and collected meanwhile.


def _revisions_in_use(name: str, root: Path) -> list[str | None]:
    """The active and the previous one; nothing where the store has none or cannot be trusted."""
    path = root / "models" / name / STATE_FILE
    try:
        if not is_name(name):
            return []
        text = read_text(path, MAX_STATE_BYTES)
        if reason := distrust(root):
            raise ValueError(reason)  # noqa: TRY301
        if not (is_folder(path.parents[1]) and is_folder(path.parent) and is_ours(path)):
            raise ValueError("it holds links")  # noqa: TRY301
        state = json.loads(text)
        if state["format"] != STATE_FORMAT:
            raise ValueError(f"its format is {state['format']!r}")  # noqa: TRY301
        used = (state["active"], state["previous"])
        return [revision if is_revision(revision) else None for revision in used]
    except (FileNotFoundError, NotADirectoryError):  # the usual case
        pass
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        report_once(f"the store of models at {root} is not used for {name!r}: {error}")
    return []


def _whole(root: Path, name: str, revision: str) -> Path | None:
    """The folder of a revision, if its files are there in full; their content is checked on load."""
    folder = root / "models" / name / revision
    try:
        if not (is_folder(folder) and is_ours(folder / MANIFEST_FILE)):
            raise ValueError("its folder is missing or a link")  # noqa: TRY301
        Manifest.read(folder).verify_size(folder, MODEL_FILE)
    except (OSError, ValueError, EdgeError) as error:
        report_once(f"the installed revision {revision} of {name} is not used: {error}")
        return None
    return folder
