"""Who may download, and when: a bounded number at once, callers sharing places and bandwidth evenly."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import grpc

from edgewise_cloud.serving.server.delivery.settings import DeliverySettings
from edgewise_cloud.serving.types import RefusedError

UNREAD = 1.0  # seconds without reading, after which a download gives way to another
_CREDIT = 0.05  # seconds that a late wake-up may be made up for
_MIN_RETRY, _MAX_RETRY = 1.0, 60.0  # seconds


@dataclass(eq=False, slots=True)
class Download:
    """A running download. Times are on time.monotonic()'s clock."""

    caller: str
    turn: asyncio.Lock  # the caller's, shared by its downloads
    send_timeout: float  # seconds
    left: int = 0  # bytes still to send
    unread_since: float | None = None
    refusal: RefusedError | None = None  # why it was ended
    timer: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Around each write, which waits for a caller that does not read."""
        self.unread_since = time.monotonic()
        if not self.refusal:  # else it ends as soon as it waits
            self.timer.reschedule(asyncio.get_running_loop().time() + self.send_timeout)
        yield
        self.unread_since = None
        if not self.refusal:
            self.timer.reschedule(None)

    def end(self, refusal: RefusedError) -> None:
        """End it with `refusal`, whatever it is doing."""
        if not self.timer.expired():
            self.refusal = refusal
            self.timer.reschedule(asyncio.get_running_loop().time())


class Downloads:
    """The running downloads of a channel. Everything runs on one event loop."""

    def __init__(self, settings: DeliverySettings, send_timeout: float) -> None:
        self._settings, self._send_timeout = settings, send_timeout
        self._running: list[Download] = []
        self._closed = False
        # The next chunk's turn. A caller stands in line once, however many downloads it has.
        self._turn = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._free_at = 0.0

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[Download]:
        """A place for one download, while the block runs. Raises RefusedError, also from the block."""
        if self._closed:
            raise _shutting_down()
        if len(self._running) >= self._settings.downloads:
            self._make_room(caller)
        turn = self._turns.setdefault(caller, asyncio.Lock())
        download = Download(caller, turn, self._send_timeout)
        self._running.append(download)
        try:
            async with download.timer:
                yield download
        except TimeoutError as error:
            raise download.refusal or _unread() from error
        finally:
            if download in self._running:
                self._running.remove(download)

    async def take(self, download: Download, size: int) -> None:
        """Return when it is the download's turn to send `size` bytes."""
        async with download.turn, self._turn:
            await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
            earliest = max(self._free_at, time.monotonic() - _CREDIT)
            self._free_at = earliest + size / self._settings.bandwidth

    def close(self) -> None:
        """End all downloads, and refuse new ones: devices go on elsewhere, or later."""
        self._closed = True
        for download in self._running:
            download.end(_shutting_down())

    def _make_room(self, caller: str) -> None:
        """End the download that should give way to one of `caller`. Raises RefusedError."""
        chosen = self._unread() or self._of_a_caller_with_more(caller)
        if chosen is None:
            raise self._exhausted("too many downloads run")
        chosen.end(self._exhausted("others need this download's place; continue it later"))
        self._running.remove(chosen)

    def _unread(self) -> Download | None:
        since = {each: each.unread_since for each in self._running if each.unread_since is not None}
        longest = min(since, key=lambda each: since[each], default=None)
        waited = longest is not None and time.monotonic() - since[longest] > UNREAD
        return longest if waited else None

    def _of_a_caller_with_more(self, caller: str) -> Download | None:
        downloads = Counter(each.caller for each in self._running)
        name, most = downloads.most_common(1)[0]
        if most <= downloads[caller] + 1:
            return None
        return [each for each in self._running if each.caller == name][-1]

    def _exhausted(self, text: str) -> RefusedError:
        """With the time until a place is free, if all go on at the same speed."""
        left = min(each.left for each in self._running)
        wait = left * len(self._running) / self._settings.bandwidth
        return RefusedError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            text,
            retry_after=min(max(wait, _MIN_RETRY), _MAX_RETRY),
        )


def _unread() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "the download was not read for too long")


def _shutting_down() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")
