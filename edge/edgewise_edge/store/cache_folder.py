"""The user's cache folder. If it cannot be used nothing is kept, and requests go on."""

import contextlib
import functools
import logging
import os
from pathlib import Path

from edgewise_edge.store.files import is_owner

NOWHERE = Path(os.devnull) / "edgewise"  # no folder can be made here, so nothing is kept

_log = logging.getLogger("edgewise_edge.cache")
_reported: set[Path] = set()


def cache_folder() -> Path:
    """The user's cache folder, absolute; it is made if it does not exist.

    NOWHERE for a user without a home folder, and if it, or a link there, belongs to another user.
    """
    import platformdirs  # takes 4 ms of an import

    try:
        folder = _absolute(platformdirs.user_cache_path("edgewise"))
    except (OSError, RuntimeError, KeyError) as error:
        _report(NOWHERE, f"this user has no home folder: {error}; set XDG_CACHE_HOME")
        return NOWHERE
    with contextlib.suppress(OSError):  # who writes there reports it
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_trusted(folder):
        _report(folder, f"{folder} belongs to another user; set XDG_CACHE_HOME")
        return NOWHERE
    return folder


def report_unusable(folder: Path, error: OSError) -> None:
    """Log that a cache in `folder` cannot be kept, once for all that is below the cache folder."""
    base = cache_folder()
    place = base if folder.is_relative_to(base) else folder
    if place != NOWHERE:  # that has been reported
        _report(place, f"{folder}: {error.strerror or error}")


def _report(place: Path, reason: str) -> None:
    if place not in _reported:
        _reported.add(place)
        _log.warning(
            "nothing can be kept in the cache folder (%s): models load more slowly, processes do "
            "not share their memory, and measured times are forgotten",
            reason,
        )


@functools.cache
def _absolute(folder: Path) -> Path:
    """Where `folder` was when first asked for: a change of the working directory moves no cache."""
    if str(folder).startswith("~"):
        raise RuntimeError("neither HOME nor the user database has one")
    return folder.absolute()


def _is_trusted(folder: Path) -> bool:
    """Whether it is this user's or root's, and a link there too; so is what is missing."""
    try:
        return is_owner(folder.lstat()) and is_owner(folder.stat())
    except OSError:
        return True
