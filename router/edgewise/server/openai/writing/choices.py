"""The texts of one request, written at the same time where there are places."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from edgewise.generation.result import Generation, Score
from edgewise.options import RequestOptions
from edgewise.server.errors import from_error, stopping
from edgewise.server.messages.streaming import remaining
from edgewise.server.openai.request.prompts import Prompt
from edgewise.server.openai.writing.scores import PromptScores
from edgewise.server.service import Service
from edgewise_edge import EdgewiseError, FinishReason
from edgewise_edge.decoding.token_score import TokenScore

_AHEAD = 64  # events that wait for a client that reads slowly; then the texts wait too


@dataclass(frozen=True, slots=True)
class Choice:
    """One text to write."""

    index: int
    prompt: Prompt
    options: RequestOptions
    scores: PromptScores | None = None  # the prompt's own are asked for
    writes: bool = True  # False: only the prompt's scores


@dataclass(frozen=True, slots=True)
class Scored:
    """The prompt's own scores. Comes first."""

    index: int
    tokens: tuple[TokenScore, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """The next text of a choice, and its tokens' scores if they were asked for."""

    index: int
    text: str
    scores: tuple[TokenScore, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The choice is complete; `generation` is None where nothing was to be written. Comes last."""

    index: int
    generation: Generation | None
    score: Score | None = None  # the prompt's, if it was asked for


Event: TypeAlias = Scored | Piece | Ended


async def write(
    service: Service, choices: Sequence[Choice], names: Mapping[str, str] | None = None
) -> AsyncGenerator[Event, None]:
    """All events of all choices, those of one in order.

    One place of the queue is waited for; more are taken only where they are free, and a place goes
    from one choice to the next. So a request waits neither for itself nor twice. Leaving it stops
    all texts. Raises HttpError; `names` are the request's names for options of the router.
    """
    arrived = time.monotonic()
    try:
        if len(choices) == 1:  # without the detour by a queue: most requests are so
            async with (
                service.queue.place(),
                aclosing(_write_one(service, choices[0], arrived)) as events,
            ):
                async for event in events:
                    yield event
        else:
            async with aclosing(_Writers(service, choices, arrived).events()) as merged:
                async for event in merged:
                    yield event
    except EdgewiseError as error:
        raise from_error(error, names) from error


async def _write_one(
    service: Service, choice: Choice, arrived: float
) -> AsyncGenerator[Event, None]:
    """In a place."""
    score = await choice.scores.score() if choice.scores else None
    if score:
        yield Scored(choice.index, score.tokens)
    if not choice.writes:
        yield Ended(choice.index, None, score)
        return
    options = remaining(choice.options, time.monotonic() - arrived)
    async with service.router.astream(choice.prompt, **options) as stream:
        async for chunk in stream:
            yield Piece(choice.index, chunk.text, chunk.logprobs)
        generation = stream.generation
    if generation.finish_reason is FinishReason.CANCELLED:  # not by the client, which still reads
        raise stopping()
    yield Ended(choice.index, generation, score)


class _Writers:
    """Tasks that write choices into one queue."""

    def __init__(self, service: Service, choices: Sequence[Choice], arrived: float) -> None:
        self._service, self._arrived = service, arrived
        self._left = deque(choices)
        self._ahead: asyncio.Queue[Event | BaseException] = asyncio.Queue(_AHEAD)
        self._tasks: set[asyncio.Task[None]] = set()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Merged, until each choice has ended."""
        missing = len(self._left)
        self._start(self._write_first)
        try:
            while missing:
                event = await self._ahead.get()
                if isinstance(event, BaseException):
                    raise event
                missing -= isinstance(event, Ended)
                yield event
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        self._tasks.add(asyncio.create_task(self._reported(work)))

    async def _reported(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # the reader raises it
            await self._ahead.put(error)

    async def _write_first(self) -> None:
        async with self._service.queue.place():
            for _ in range(len(self._left) - 1):
                self._start(self._write_where_free)
            await self._write_left()

    async def _write_where_free(self) -> None:
        queue = self._service.queue
        if queue.running < queue.places:
            async with queue.place():
                await self._write_left()

    async def _write_left(self) -> None:
        while self._left:
            choice = self._left.popleft()
            async with aclosing(_write_one(self._service, choice, self._arrived)) as events:
                async for event in events:
                    await self._ahead.put(event)
