"""TUF metadata through a fetcher, and what is wrong with it in plain words."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root
from tuf.ngclient.fetcher import FetcherInterface

from edgewise.delivery.download import Clock, read_small
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import ChannelError, ChannelExpiredError
from edgewise_edge.installed.fetcher import Fetcher, FetchError

METADATA_URL = "channel:metadata/"  # python-tuf wants an address; this one says where we are
_MAX_METADATA = 5_000_000  # bytes; python-tuf has a lower limit for most
_TRIES = 3  # somebody may be waiting for the answer that the channel cannot be reached
_ROLES = ("root", "timestamp", "snapshot", "targets")
_LONG = timedelta(days=365)


class MetadataFetcher(FetcherInterface):
    """Gives python-tuf the metadata that `fetcher` reads."""

    def __init__(self, fetcher: Fetcher, settings: DownloadSettings, clock: Clock) -> None:
        self._fetcher = fetcher
        self._settings = replace(settings, tries=min(settings.tries, _TRIES))
        self._clock = clock
        self.last = ""  # the path that was read last
        self.contents: dict[str, bytes] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.last = "metadata/" + url.removeprefix(METADATA_URL)
        try:
            content = read_small(
                self._fetcher, path, _MAX_METADATA, settings=self._settings, clock=self._clock
            )
        except FetchError as error:
            raise DownloadHTTPError(str(error), 404) from error  # which ends the search for roots
        self.contents[path] = content
        yield content


@contextmanager
def in_words(address: str, fetcher: MetadataFetcher, folder: Path) -> Iterator[None]:
    """Raise ChannelError in place of python-tuf's errors."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise ChannelExpiredError(_expired(address, fetcher, folder, str(error))) from error
    except (RepositoryError, DownloadError, ValueError, RecursionError) as error:
        file = fetcher.last or "its root.json"
        raise ChannelError(
            f"the channel {address} cannot be trusted: {file} {_reason(error)}. The model in use "
            "stays"
        ) from error


def _reason(error: Exception) -> str:
    match error:
        case UnsignedMetadataError():
            return "is not signed by enough of the keys that this device trusts for it"
        case BadVersionNumberError():
            return (
                "is not the version that belongs here: an older state is shown, or parts of two "
                f"states ({error})"
            )
        case LengthOrHashMismatchError():
            return "is not the file that was signed: it was changed, or two states are mixed"
        case DownloadLengthMismatchError():
            return "is larger than it may be"
        case DownloadHTTPError():
            return f"is missing ({error})"
    return f"cannot be read as metadata ({error})"


def _expired(address: str, fetcher: MetadataFetcher, folder: Path, message: str) -> str:
    """What has expired since when, and whether it could be this device's clock."""
    now = datetime.now(UTC)
    kept = {
        name: _content(folder / name) for name in ("root.json", "snapshot.json", "targets.json")
    }
    found = (_signed(content) for content in [*fetcher.contents.values(), *kept.values()])
    named = next((role for role in _ROLES if role in message), "metadata")
    times = [part.expires for part in found if part is not None and part.type == named]
    since = max(times, default=now)
    what = f"the signatures of the channel {address} have expired ({named}.json: {since:%Y-%m-%d})"
    clock = (
        f"this device's clock says {now:%Y-%m-%d %H:%M} UTC: check it first"
        if now - since > _LONG
        else "its publisher runs 'edgewise-cloud channel refresh'; if it has, somebody holds it back"
    )
    return f"{what}; {clock}. There are no updates until then; the model in use stays"


def is_root(content: bytes) -> bool:
    """Whether these bytes can be a root.json, whoever signed it."""
    return isinstance(_signed(content), Root)


def _content(path: Path) -> bytes:
    with suppress(OSError):
        return path.read_bytes()
    return b""


def _signed(content: bytes) -> Any:
    with suppress(Exception):  # whatever is wrong with it, it is only for a message
        return Metadata.from_bytes(content).signed
    return None
