"""A scene: revisions of the model come from a channel, and are tried before they are used."""

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.status import Status

from demo.narrate import MIDWAY, console, show, tell
from edgewise import DeviceState, Generation, Router
from edgewise.delivery.events import DownloadProgressed, DownloadStarted, RevisionStaged
from edgewise.generation.events import Event

if TYPE_CHECKING:
    from demo.publisher import Publisher
    from edgewise.delivery.update import UpdateResult

PACE = 0.04  # seconds for a token while an update goes on, as fast as one reads
LATEST = 64  # tokens; here the text waits for the update
SIGN_OF_LIFE = 1.0  # seconds
CACHE = "XDG_CACHE_HOME"


def show_updates(device: DeviceState) -> None:
    """A revision that works comes while a text is written, then one that does not."""
    with own_folder() as folder:
        publisher = make_channel(folder)
        with Router(
            channel=publisher.channel,
            channel_root=publisher.root,
            store=folder / "store",
            device=lambda: device,
            observers=[tell_event],
        ) as router:
            show_good(router)
            show_bad(router, publisher, folder)


@contextmanager
def own_folder() -> Iterator[Path]:
    """A temporary folder, which also has this process's caches meanwhile: the user's stay as they are."""
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory(prefix="edgewise-demo-") as folder:
        os.environ[CACHE] = f"{folder}/cache"
        try:
            yield Path(folder)
        finally:
            del os.environ[CACHE]
            if before is not None:
                os.environ[CACHE] = before


def make_channel(folder: Path) -> "Publisher":
    """With the model that is here, and a revision of it that was made on the spot."""
    console.print(
        "A publisher signs a channel: a folder, with this device's model and a new revision of it. "
        "That one is the same but for 200 weights, each changed by one step of int8: no better, "
        "and good enough to show the way."
    )
    with console.status("The publisher starts") as status:
        from demo.publisher import Publisher  # imports what `edgewise-cloud publish` does

        publisher = Publisher(folder, StatusProgress(status))
        publisher.publish_nudged()
    return publisher


def show_good(router: Router) -> None:
    """The text that is being written keeps its revision; the next one takes the new one."""
    with ThreadPoolExecutor(1) as executor:
        update = Update(router, executor)
        prompt = "Beyond the seven hills there stood a castle in which"
        text = show(router, prompt, seed=22, meanwhile=update.meanwhile)
        result = update.result
    if result.staged:
        when = f"after {update.ended_at} of its tokens" if update.ended_at else "right after it"
        tell(f"Revision {revision_of(text)} wrote all of it; the new one was staged {when}.")
    else:
        tell(f"The new revision is not used: {result.reason}.")
    text = show(router, "The king had three daughters, and the youngest", seed=16)
    tell(f"Revision {revision_of(text)} wrote it.")


def show_bad(router: Router, publisher: "Publisher", folder: Path) -> None:
    """It is refused, with the reason; the one in use stays."""
    console.print(
        "A bad one follows: its weights in another order, signed with what the good one predicts."
    )
    publisher.publish_shuffled()
    with console.status("It comes"):
        result = router.download()
    where = folder / "store/models/tales" / str(result.revision)
    tell(f"It was {result.outcome}: {result.reason.replace(str(where), 'it')}.")
    tell(f"Revision {router.model.revision} stays in use.")


class Update:
    """An update in another thread, while a text is written at a reader's pace."""

    def __init__(self, router: Router, executor: Executor) -> None:
        self._router, self._executor = router, executor
        self._download: Future[UpdateResult] | None = None
        self.ended_at = 0  # tokens

    def meanwhile(self, tokens: int) -> None:
        """Called after so many tokens of the text."""
        if self._download is None and tokens >= MIDWAY:
            self._download = self._executor.submit(self._router.download)
        if self._download and not self.ended_at:
            wait([self._download], PACE if tokens < LATEST else None)
            self.ended_at = tokens if self._download.done() else 0

    @property
    def result(self) -> "UpdateResult":
        """What came of it. Waits for it, and raises its error."""
        return (self._download or self._executor.submit(self._router.download)).result()


def tell_event(event: Event) -> None:
    """Print a line for what happens to the model."""
    match event:
        case DownloadStarted(revision=revision, total=total, delta=delta):
            what = "its difference to the model here" if delta else "it"
            line = f"Revision {revision} is there; {what} is fetched: {total:,} bytes."
        case DownloadProgressed(done=done, total=total) if done == total:
            line = "It is verified, then tried in a child process, where it must predict as signed."
        case RevisionStaged():
            line = "It passed, and is staged: the next text uses it."
        case _:
            return
    console.print(f"• {line}", style="yellow", markup=False)


def revision_of(text: Generation) -> str:
    """Which revision of the model wrote it."""
    return text.model.partition("@")[2]


class StatusProgress:
    """A Progress of `edgewise-cloud` that is shown by `status`, or where output is piped in lines."""

    def __init__(self, status: Status) -> None:
        self._status, self._started = status, time.monotonic()
        self._said = self._started

    def step(self, text: str) -> None:
        """See Progress. Not a line for each step, if they take no time."""
        now = time.monotonic()
        line = f"The publisher, after {now - self._started:.0f} s: {escape(text)}"
        self._status.update(line)
        if not console.is_interactive and now - self._said >= SIGN_OF_LIFE:
            console.print(line)
            self._said = now

    def count(self, done: int, total: int, note: str = "") -> None:
        """See Progress: what is counted here takes no time."""
