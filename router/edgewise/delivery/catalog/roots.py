"""The trusted root of each channel, kept in the store's metadata folder.

metadata/ROOT/         what is known of the channel with that bootstrap root (its sha256)
metadata/address-HEX   the root that an address was used with; HEX is the address's sha256
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from edgewise.delivery.catalog.interface import Root
from edgewise.delivery.catalog.metadata import is_root
from edgewise.errors import ChannelError, ConfigurationError
from edgewise_edge.checks import is_sha256, shown
from edgewise_edge.installed.files import disk
from edgewise_edge.installed.files.layout import Layout
from edgewise_edge.installed.files.lock import locked

_MAX_ROOT = 512_000  # bytes, as python-tuf has it
_LOCK_TIMEOUT = 120.0  # seconds: another process may be refreshing over a bad line
_BOOTSTRAP = "bootstrap.json"


class Roots:
    """The roots in the store at `store`, for the channel at `address`."""

    def __init__(self, store: Path, address: str) -> None:
        self._folder = store / "metadata"
        self._address = address
        self._note = self._folder / f"address-{hashlib.sha256(address.encode()).hexdigest()}"

    def bootstrap(self, root: Root | None) -> bytes:
        """The given root, or the one that this address was used with before."""
        if root is None:
            return self._remembered()
        if isinstance(root, bytes):
            content = root
        elif isinstance(root, str | PathLike) and str(root):
            content = _read(Path(root))
        else:
            raise ConfigurationError(f"root is {shown(root)}; it must be the path of a root.json")
        if not 0 < len(content) <= _MAX_ROOT:
            raise ConfigurationError(
                f"root has {len(content):,} bytes; a root.json has 1 to {_MAX_ROOT:,}"
            )
        if not is_root(content):
            which = "root" if isinstance(root, bytes) else f"root {shown(str(root))}"
            raise ConfigurationError(
                f"{which} is no root.json; give the 1.root.json that the channel's publisher made "
                "with 'edgewise-cloud channel init'"
            )
        return content

    @contextmanager
    def remembered(self, root: bytes) -> Iterator[Path]:
        """The folder of what is known by that root.

        If all goes well with it, the address finds it again from then on: a wrong root must not take
        the place of the one that worked. Other processes wait, but no load of a model does. Raises
        StoreError or OSError.
        """
        sha256 = hashlib.sha256(root).hexdigest()
        folder = self._folder / sha256
        disk.make_folder(folder)
        Layout(self._folder.parent).require_ours()
        with locked(self._folder / "lock", _LOCK_TIMEOUT):
            self._inherit(folder)
            _keep(folder / _BOOTSTRAP, root)
            yield folder
            _keep(self._note, sha256.encode())

    def _inherit(self, folder: Path) -> None:
        """A new root, of a new version of the app, must not make the device forget what it saw.

        What it does not sign is ignored there.
        """
        before = self._noted()
        if before is None or any(folder.iterdir()):
            return
        for name in ("timestamp.json", "snapshot.json"):
            with suppress(OSError):
                disk.copy(self._folder / before / name, folder / name)

    def _noted(self) -> str | None:
        with suppress(OSError):
            sha256 = self._note.read_bytes()[:65].decode("ascii", "replace")
            return sha256 if is_sha256(sha256) else None
        return None

    def _remembered(self) -> bytes:
        if sha256 := self._noted():
            with suppress(OSError):
                content = (self._folder / sha256 / _BOOTSTRAP).read_bytes()
                if hashlib.sha256(content).hexdigest() == sha256:
                    return content
        raise ChannelError(
            f"the channel {self._address} is not known on this device; give the root.json that its "
            "publisher made with 'edgewise-cloud channel init' as root once"
        )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_ROOT + 1)
    except OSError as error:
        raise ConfigurationError(
            f"root {shown(str(path))} cannot be read: {error.strerror}"
        ) from error


def _keep(path: Path, content: bytes) -> None:
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    disk.write(path, content)
