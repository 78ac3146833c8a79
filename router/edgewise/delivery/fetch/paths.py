"""Paths of files within a channel, as a fetcher accepts them."""

from edgewise_edge.checks import shown
from edgewise_edge.installed.fetcher import FetchError, FetchFailure


def parts_of(path: str) -> list[str]:
    """Its parts. Raises FetchError if it could lead out of the folder."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\\" in part or not part.isprintable() for part in parts):
        raise FetchError(FetchFailure.REFUSED, f"{shown(path)} is no path of a file in a channel")
    return parts
