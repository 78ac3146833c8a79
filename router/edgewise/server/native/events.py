"""What a text's stream tells: its decisions, its pieces, and its end."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import Any

from edgewise.generation.result import Chunk, Generation, decision_dict
from edgewise.generation.stream import AsyncTextStream
from edgewise.policy.types import Decision, Source
from edgewise.server.messages.streaming import event

_LOOK = 0.05  # seconds between two looks at the decision while no text comes


async def events_of(stream: AsyncTextStream, pace: float | None) -> AsyncGenerator[bytes, None]:
    """The events of a stream that has started, at most `pace` tokens per second (None: as they come)."""
    decisions, due = _Decisions(stream), time.monotonic()
    for told in decisions.news():
        yield told
    async with aclosing(_chunks(stream)) as chunks:
        async for chunk in chunks:
            for told in decisions.news():
                yield told
            if chunk:
                yield event(_text(chunk), "text")
            if chunk and pace:
                due = max(due, time.monotonic()) + len(chunk.token_ids) / pace
                await asyncio.sleep(due - time.monotonic())
    for told in decisions.news():
        yield told
    yield event(stream.generation.as_dict(), "end")


async def _chunks(stream: AsyncTextStream) -> AsyncGenerator[Chunk | None, None]:
    """The chunks, and None now and then while none comes."""
    while True:
        reading = asyncio.ensure_future(_next(stream))
        try:
            while not (await asyncio.wait({reading}, timeout=_LOOK))[0]:
                yield None
        finally:
            if not reading.done():  # the client has gone: this stops the compute
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
        chunk = reading.result()
        if chunk is None:
            return
        yield chunk


async def _next(stream: AsyncTextStream) -> Chunk | None:
    return await anext(stream, None)


class _Decisions:
    """Tells each decision once, and before it the handoff that led to it."""

    def __init__(self, stream: AsyncTextStream) -> None:
        self._stream = stream
        self._told: Decision | None = None

    def news(self) -> Iterator[bytes]:
        """What has not been told."""
        decision, before = self._stream.decision, self._told
        if decision is before:
            return
        self._told = decision
        moved = before if before and before.source is not decision.source else None
        tokens = _tokens(self._stream.generation, decision.source if moved else None)
        why = moved and self._stream.abandoned.get(moved.source)
        if moved and why:  # else it won a hedge
            told = {"from": moved.source, "to": decision.source, "why": asdict(why)}
            yield event(told | {"tokens": tokens}, "handoff")
        yield event(decision_dict(decision) | {"tokens": tokens}, "decision")


def _tokens(generation: Generation, until: Source | None) -> int:
    """How many there were before those that `until` has just begun to write."""
    tokens, last = len(generation.token_ids), generation.segments[-1:]
    return tokens - last[0].tokens if last and last[0].source is until else tokens


def _text(chunk: Chunk) -> dict[str, Any]:
    told = {"text": chunk.text, "source": chunk.source, "token_ids": chunk.token_ids}
    scores = {"logprobs": [asdict(score) for score in chunk.logprobs]} if chunk.logprobs else {}
    return told | scores
