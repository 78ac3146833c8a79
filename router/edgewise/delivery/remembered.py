"""Which channel a model came from, kept in the store: later updates need no options."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from edgewise_edge.installed.files import disk
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.files import is_ours, read_text

_FORMAT = 1
_MAX_NOTE = 2**14  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChannel:
    """How a model's channel is reached. Paths of files, not what they hold."""

    address: str
    token_file: str | None = None
    root_certificates: str | None = None

    def __post_init__(self) -> None:
        """Raise TypeError for invalid values: JSON may hold any."""
        texts = (self.address, self.token_file or "", self.root_certificates or "")
        if not (self.address and all(isinstance(text, str) for text in texts)):
            raise TypeError("a channel has an address and paths of files")


def recall(store: ModelStore, name: str) -> ModelChannel | None:
    """The channel of the model `name`; None where none is known, or what is kept is damaged."""
    path = _path(store, name)
    with suppress(OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        if is_ours(path):
            raw = json.loads(read_text(path, _MAX_NOTE))
            if raw.pop("format") == _FORMAT:
                return ModelChannel(**raw)
    return None


def remember(store: ModelStore, name: str, channel: ModelChannel) -> None:
    """Keep it. Raises StoreError."""
    if recall(store, name) == channel:
        return
    path = _path(store, name)
    with store.exclusive("channels"), disk.failures(store.root):
        disk.make_folder(path.parent)
        disk.write(path, json.dumps({"format": _FORMAT, **asdict(channel)}).encode())


def _path(store: ModelStore, name: str) -> Path:
    store.layout.model(name)  # checks it
    return store.root / "metadata" / f"channel-{name}.json"
