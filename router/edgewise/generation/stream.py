"""The stream of chunks that an app reads, and its asyncio counterpart."""

import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

from edgewise.errors import StreamNotStartedError
from edgewise.generation.loop import GenerationLoop
from edgewise.generation.request import Request
from edgewise.generation.result import Chunk, Generation
from edgewise.options import PrivacyName
from edgewise.policy.types import Decision, Privacy, Source, Veto
from edgewise_edge import FinishReason, RequestError
from edgewise_edge.checks import Range

if TYPE_CHECKING:
    from edgewise.generation.read_ahead import ReadAhead

Result = TypeVar("Result")

READ_AHEAD = 16  # chunks
_READ_AHEAD = Range(0, 2**31 - 1, whole=True, unit="chunks")


class TextStream(Iterator[Chunk]):
    """A context manager: iterate over it for chunks. Leaving, closing or dropping it cancels it.

    Raises NoSourceError when the source that runs fails and no other may continue.
    """

    def __init__(self, loop: GenerationLoop) -> None:
        self._loop = loop
        # The loop holds no reference to its generator, so that dropping this stream closes the
        # generator, which ends the work.
        self._chunks = loop.run()
        self._reading = threading.Lock()
        loop.begin()

    def __del__(self) -> None:
        """Dropped: it is reported as completed even if it was never read.

        Nothing else uses it any more, so no lock is taken: the garbage collector calls this at any
        point, in any thread.
        """
        self._chunks.close()
        self._loop.end(FinishReason.CANCELLED)

    def __next__(self) -> Chunk:
        """The next chunk."""
        with self._reading:
            chunk = next(self._chunks)
        self._end_if_cancelled()
        return chunk

    def close(self) -> None:
        """Stop here; from any thread. `generation` then holds the answer so far, as cancelled."""
        try:
            self._loop.cancelled.set()
        finally:
            self._end_if_cancelled()

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def change(
        self,
        *,
        privacy: Privacy | PrivacyName | None = None,
        first_token_budget: float | None = None,
        latency_budget: float | None = None,
    ) -> None:
        """Change the request in mid-text; from any thread. None leaves an option as it is.

        `privacy` can only become "private": when this returns, nothing more of it leaves the device.
        A cloud that was writing is stopped, and the device continues. The budgets count from the
        start of the request, as those that it started with. Whatever is given, the device's state is
        looked at again at once. Does nothing once the text has ended. Raises RequestError.
        """
        self._loop.change(
            privacy=privacy,
            first_token_budget=first_token_budget,
            latency_budget=latency_budget,
        )

    @property
    def abandoned(self) -> dict[Source, Veto]:
        """The sources that it has moved away from, and why."""
        return self._loop.abandoned

    @property
    def request(self) -> Request:
        """The complete request, as it was last changed. Its `repr` shows no content."""
        return self._loop.request

    @property
    def decision(self) -> Decision:
        """The decision in force."""
        return self._loop.decision

    @property
    def generation(self) -> Generation:
        """The result so far; until the stream has ended, its finish reason is "cancelled"."""
        return self._loop.generation()

    def _end_if_cancelled(self) -> None:
        # A generator cannot be closed while another thread runs it; that thread does it afterwards.
        if self._loop.cancelled.is_set() and self._reading.acquire(blocking=False):
            try:
                self._chunks.close()
            finally:
                self._loop.end(FinishReason.CANCELLED)
                self._reading.release()


class AsyncTextStream(AsyncIterator[Chunk]):
    """A TextStream for `async for` and `async with`. Leaving, closing or dropping it, or cancelling
    the task that reads it, stops the work.

    The work is up to `read_ahead` chunks ahead of who reads: 16, unless it is set before the first.
    With 0 nothing is written before it is asked for, so that `decision` is that of the chunk; each
    chunk then takes longer, by 0.1 ms.

    Raises what Router.stream and TextStream raise, with the first chunk.
    """

    def __init__(self, start: Callable[[], TextStream]) -> None:
        self._start = start
        self._stream: TextStream | None = None
        self._closed = False
        self._limit = READ_AHEAD
        self._context = contextvars.copy_context()  # the task's: tracing needs it
        # One thread, which ends when this object is collected.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="edgewise-async")
        self._ahead: ReadAhead | None = None

    def __del__(self) -> None:
        """Dropped: nobody reads what the thread would go on to write."""
        self._close()

    async def __anext__(self) -> Chunk:
        """The next chunk."""
        if self._closed:
            raise StopAsyncIteration
        ahead = self._ahead or self._limit
        chunk = await (self._from_ahead() if ahead else self._run(self._next))
        if chunk is None:
            self._close()
            raise StopAsyncIteration
        return chunk

    async def start(self) -> None:
        """Start without a chunk yet: `decision` is there then. Raises what Router.stream raises."""
        if not self._closed and self._stream is None:  # the thread may be reading ahead already
            await self._run(self._begin)

    async def aclose(self) -> None:
        """Stop here. `generation` then holds the answer so far, as cancelled.

        Once there was a chunk, this waits for the step that runs.
        """
        self._close()
        if self._ahead and self._ahead.delivered:
            await self._ahead.ended()

    @property
    def read_ahead(self) -> int:
        """How many chunks the work may be ahead, 0 or more. Setting it raises RequestError."""
        return self._limit

    @read_ahead.setter
    def read_ahead(self, chunks: int) -> None:
        self._limit = int(_READ_AHEAD.check("read_ahead", chunks, RequestError))

    async def __aenter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.aclose()

    def change(
        self,
        *,
        privacy: Privacy | PrivacyName | None = None,
        first_token_budget: float | None = None,
        latency_budget: float | None = None,
    ) -> None:
        """See TextStream.change; never waits. Raises StreamNotStartedError before it has started."""
        self._started().change(
            privacy=privacy,
            first_token_budget=first_token_budget,
            latency_budget=latency_budget,
        )

    @property
    def abandoned(self) -> dict[Source, Veto]:
        """The sources that it has moved away from, and why. Raises StreamNotStartedError."""
        return self._started().abandoned

    @property
    def decision(self) -> Decision:
        """The decision in force. Raises StreamNotStartedError before the first chunk is requested."""
        return self._started().decision

    @property
    def generation(self) -> Generation:
        """The result so far. Raises StreamNotStartedError before the first chunk is requested."""
        return self._started().generation

    async def _run(self, work: Callable[[], Result]) -> Result:
        """In the thread. It ends with an error, or if the task is cancelled."""
        import asyncio  # takes 30 ms, so only for apps that use it

        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._context.run, work
            )
        except BaseException:
            self._close()
            raise

    def _reading_ahead(self, stream: TextStream) -> "ReadAhead":
        """Let the thread read. It holds no reference to this object, so that it can be dropped."""
        import asyncio

        from edgewise.generation.read_ahead import ReadAhead

        ahead = ReadAhead(asyncio.get_running_loop(), self._limit)
        self._thread.submit(self._context.run, ahead.fill, stream)
        return ahead

    async def _from_ahead(self) -> Chunk | None:
        if self._ahead is None:
            stream = await self._run(self._begin)
            if self._closed:  # meanwhile, by another task
                return None
            self._ahead = self._ahead or self._reading_ahead(stream)  # or another has asked
        try:
            return await self._ahead.get()
        except BaseException:
            self._close()
            raise

    def _next(self) -> Chunk | None:
        return next(self._begin(), None)

    def _begin(self) -> TextStream:
        """In the thread: the stream, which is started by the first call."""
        if self._stream is None:
            stream = self._start()
            self._stream = stream
            if self._closed:  # meanwhile
                stream.close()
        return self._stream

    def _close(self) -> None:
        """Never waits: the thread stops after its current step."""
        self._closed = True
        if self._ahead:
            self._ahead.close()
        if self._stream is not None:
            self._stream.close()
        self._thread.shutdown(wait=False)

    def _started(self) -> TextStream:
        if self._stream is None:
            raise StreamNotStartedError
        return self._stream
