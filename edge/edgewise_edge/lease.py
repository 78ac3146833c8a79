"""A model for many threads: loaded once, when first leased, and never unloaded under a lease."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewise_edge.model import DeviceModel  # imports NumPy


class SharedModel:
    """The model that `load` returns, while somebody needs it. Thread-safe.

    `keep_alive` seconds after the last lease has ended it is unloaded (None: never).
    """

    def __init__(self, load: "Callable[[], DeviceModel]", keep_alive: float | None = None) -> None:
        self.model: DeviceModel | None = None  # while it is loaded
        self.loading = threading.Lock()  # held while it is being loaded
        # Re-entrant: garbage collection may end a lease at any point, in any thread.
        self.lock = threading.RLock()  # guards all but the loading
        self._load, self.keep_alive = load, keep_alive
        self._leases = 0
        self._unload_at_end = False
        self._unload_timer: threading.Timer | None = None

    @property
    def leased(self) -> bool:
        """Whether somebody uses the model, or loads it."""
        return self._leases > 0

    @contextmanager
    def lease(self) -> "Iterator[DeviceModel]":
        """The model, loaded if necessary, which stays loaded until the context ends.

        Raises what `load` raises; the next lease then tries again.
        """
        with self.lock:
            self._leases += 1  # before the load, so that nothing unloads the model after it
            self._cancel_timer()
        try:
            with self.loading:
                self.model = model = self.model or self._load()
            yield model
        finally:
            with self.lock:
                self._leases -= 1
                if not self._leases:
                    self._become_idle()

    def unload(self) -> None:
        """Unload the model now, or when the last lease ends; the next lease loads it again."""
        with self.lock:
            self._unload_at_end = True
            if not self._leases:
                self._become_idle()

    def _become_idle(self) -> None:
        """The caller holds the lock, and there is no lease."""
        self._cancel_timer()
        if self._unload_at_end:
            self._unload_at_end, self.model = False, None
        elif self.model and self.keep_alive is not None:
            self._unload_timer = threading.Timer(self.keep_alive, self._unload_if_idle)
            self._unload_timer.daemon = True
            self._unload_timer.start()

    def _unload_if_idle(self) -> None:
        with self.lock:
            if not self._leases:
                self.model = None

    def _cancel_timer(self) -> None:
        if self._unload_timer:
            self._unload_timer.cancel()
            self._unload_timer = None
