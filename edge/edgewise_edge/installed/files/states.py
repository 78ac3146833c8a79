"""The state file of each model: read without a lock, changed under the store's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgewise_edge.errors import StoreError
from edgewise_edge.installed.files import disk
from edgewise_edge.installed.files.layout import Layout
from edgewise_edge.installed.files.lock import locked
from edgewise_edge.installed.state import ModelState, NewerFormatError
from edgewise_edge.store.active import MAX_STATE_BYTES, distrust, report_once
from edgewise_edge.store.files import is_ours, read_text


class States:
    """The states of all models of one store."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def state(self, name: str) -> ModelState:
        """That of `name`; an empty one where it is missing or cannot be trusted."""
        try:
            return self._read(name)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            report_once(f"the state of {name} in {self.layout.root} is not used: {error}")
        return ModelState()

    def kept(self, name: str) -> set[str] | None:
        """The revisions of `name` that are in use; None: unknown, since its state is damaged."""
        try:
            return self._read(name).kept
        except FileNotFoundError:
            return set()
        except (OSError, ValueError):
            return None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store's lock, and make the store where there is none. Raises StoreError."""
        with disk.failures(self.layout.root):
            self.make_root()
            with locked(self.layout.root / "lock"):
                yield

    def make_root(self) -> None:
        """Make the store's folder. Raises StoreError if it cannot be made or is not this user's."""
        with disk.failures(self.layout.root):
            disk.make_folder(self.layout.root)
            self.layout.require_ours()

    def update(self, name: str, change: Callable[[ModelState], ModelState]) -> ModelState:
        """Take the lock and change the state; the new one."""
        with self.writing():
            return self.change(name, change)

    def change(self, name: str, change: Callable[[ModelState], ModelState]) -> ModelState:
        """Like update(), under the lock that the caller holds."""
        before = self.to_change(name)
        after = change(before)
        if after != before:
            disk.make_folder(self.layout.model(name))
            disk.write(self.layout.state(name), after.to_json().encode())
        return after

    def to_change(self, name: str) -> ModelState:
        """A damaged state starts over; one that another version has written is left alone."""
        try:
            return self._read(name)
        except NewerFormatError as error:
            raise StoreError(
                f"the state of {name} in {self.layout.root} was written by another version of "
                f"edgewise ({error}); update edgewise"
            ) from error
        except (OSError, ValueError):
            return self.state(name)

    def _read(self, name: str) -> ModelState:
        """Raises OSError or ValueError."""
        path = self.layout.state(name)
        text = read_text(path, MAX_STATE_BYTES)
        if reason := distrust(self.layout.root):
            raise ValueError(reason)
        if not is_ours(path):
            raise ValueError(f"{path} is a link, or another user's")
        return ModelState.parse(text)
