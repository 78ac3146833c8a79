"""Updates in the background: one thread that checks at its time, if the conditions allow it."""

import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from edgewise.delivery.conditions import Conditions, UpdatePolicy, unmet
from edgewise.delivery.download import Clock
from edgewise.delivery.events import OnEvent, UpdateDeferred
from edgewise.delivery.progress import DownloadProgress, OnDownload
from edgewise.delivery.update import UpdateResult
from edgewise.errors import EdgewiseError
from edgewise_edge.installed.files import disk
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.files import read_text

POLL_INTERVAL = 300.0  # seconds until conditions that are not met are read again
WATCH_INTERVAL = 30.0  # seconds, the same while a download runs
RETRY_AFTER = 3600.0  # seconds after a failure; doubled each time, up to `every`
JOIN_TIMEOUT = 1.0  # seconds that close() waits for a thread that may be reading from a socket
_MAX_NOTE = 1024  # bytes
_log = logging.getLogger("edgewise.delivery")


class _Stop(Exception):  # noqa: N818  # no error
    """The router is being closed."""


class _Deferred(Exception):  # noqa: N818  # no error
    """The conditions are not met any more."""


class OneUpdate(Protocol):
    """Makes an Updater with that clock, updates with that `on_progress`, and closes it."""

    def __call__(self, clock: Clock, on_progress: OnDownload) -> UpdateResult:
        """Raises as Updater.update()."""


@dataclass(frozen=True, slots=True)
class BackgroundClock:
    """Time and chance, which tests replace. Seconds."""

    now: Callable[[], float] = time.time  # since the epoch: it is kept over restarts
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    chance: Callable[[], float] = random.random  # 0 to 1


class BackgroundUpdates:
    """Updates the model `name` by `policy` until it is closed. Nothing here raises.

    `update` makes one update, `conditions` reads those of this device. When the next check is due
    is kept in the store, so that restarts neither add checks nor drop them.
    """

    def __init__(
        self,
        name: str,
        update: OneUpdate,
        store: ModelStore,
        policy: UpdatePolicy,
        conditions: Callable[[], Conditions],
        *,
        on_event: OnEvent | None = None,
        clock: BackgroundClock | None = None,
    ) -> None:
        self._name, self._update, self._store = name, update, store
        self._policy, self._conditions, self._on_event = policy, conditions, on_event
        self._clock = clock or BackgroundClock()
        self._stop = threading.Event()
        self._failures = 0
        self._deferred: tuple[str, ...] = ()  # the reasons that were last reported
        self._logged: set[str] = set()
        self._note = store.root / "metadata" / f"next-check-{name}.json"
        self._thread = threading.Thread(target=self._run, name="edgewise-updates", daemon=True)

    def start(self) -> None:
        """Begin; it waits for its time first."""
        with suppress(RuntimeError):  # at a limit of threads, or while the process ends
            self._thread.start()

    def close(self) -> None:
        """Stop. An update that has begun is left at its next byte; what came is kept."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_TIMEOUT)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                seconds = self._turn()
            except _Stop:
                return
            except Exception as error:  # noqa: BLE001  # a model in use is not to suffer
                seconds = self._failed(error)
            if self._clock.wait(self._stop, seconds):
                return

    def _turn(self) -> float:
        """What is due now; seconds until the next turn."""
        due = self._next_check()
        if due > self._clock.now():
            return min(due - self._clock.now(), POLL_INTERVAL)  # the clock may be set
        reasons = unmet(self._policy, self._conditions())
        if reasons:
            self._defer(reasons)
            return POLL_INTERVAL
        self._deferred = ()
        try:
            self._update(Clock(sleep=self._sleep), self._watch())
        except _Deferred as deferred:
            self._defer(deferred.args)
            return POLL_INTERVAL
        self._failures = 0
        return self._plan(self._policy.every)

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        self._log_once(error)
        self._report((str(error) or type(error).__name__,))
        wait = RETRY_AFTER * 2.0 ** min(self._failures - 1, 20)
        try:
            return self._plan(min(wait, self._policy.every))
        except Exception:  # noqa: BLE001  # the store cannot be written to
            return min(wait, self._policy.every)

    def _plan(self, seconds: float) -> float:
        """Keep when the next check is due; seconds until then."""
        seconds *= 1 + self._policy.jitter * self._clock.chance()
        self._keep(self._clock.now() + seconds)
        return seconds

    def _next_check(self) -> float:
        """As kept; else a first one, at a moment that differs among devices."""
        now, longest = self._clock.now(), self._policy.every * (1 + self._policy.jitter)
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            due = float(json.loads(read_text(self._note, _MAX_NOTE))["at"])
            if due <= now + longest:  # else the clock was set back
                return due
        key = f"{self._store.device_id()}:{self._name}".encode()
        place = int.from_bytes(hashlib.sha256(key).digest()[:8]) / 2**64
        first = now + self._policy.every * self._policy.jitter * place
        self._keep(first)
        return first

    def _keep(self, due: float) -> None:
        with disk.failures(self._store.root):
            disk.make_folder(self._note.parent)
            disk.write(self._note, json.dumps({"at": due}).encode())

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stop

    def _watch(self) -> OnDownload:
        """Ends a download when the router is closed, or when the conditions are not met any more."""
        # Whether it is idle matters to the trial, which needs the processor, less to a download.
        policy = replace(self._policy, only_idle=False)
        last = time.monotonic()

        def watch(_: DownloadProgress) -> None:
            nonlocal last
            if self._stop.is_set():
                raise _Stop
            if time.monotonic() - last > WATCH_INTERVAL:
                last = time.monotonic()
                if reasons := unmet(policy, self._conditions()):
                    raise _Deferred(*reasons)

        return watch

    def _defer(self, reasons: tuple[str, ...]) -> None:
        if reasons != self._deferred:
            self._deferred = reasons
            self._report(reasons)

    def _report(self, reasons: tuple[str, ...]) -> None:
        event = UpdateDeferred(model=self._name, revision=None, time=time.time(), reasons=reasons)
        _log.debug("%s", event)
        if self._on_event:
            with suppress(Exception):
                self._on_event(event)

    def _log_once(self, error: Exception) -> None:
        """Once for each kind: a device that is offline for a month writes one line."""
        kind = type(error).__name__
        if kind not in self._logged:
            self._logged.add(kind)
            reason = str(error) if isinstance(error, EdgewiseError) else f"{kind}: {error}"
            _log.warning("the model %s was not updated and stays as it is: %s", self._name, reason)
