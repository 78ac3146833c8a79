"""Time to first token and gaps while other streams run: GPT-2 small, random weights, 16 slots.

- A prompt of 64 tokens arrives while 15 streams run (64 + 128 each, the next when one ends): its time
  to first token, where `limit` is three steps of the others and its prefill on an idle service.
- Long prompts (900 tokens) arrive while 14 streams run: the longest gap between two tokens of any.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.cloud.servers import NEW, PROMPT, Ask, arrivals, edgewise, gaps, percentiles
from benchmarks.measure import arguments
from benchmarks.peers.workspace import WORK, checkpoint
from edgewise_edge import Tokenizer

LONG, LONG_NEW = 900, 16  # tokens


def main() -> None:
    options = arguments(__doc__, work=WORK, arrivals=60, long=8).parse_args()
    work = options.work.resolve()
    checkpoint(work)
    print(json.dumps(asyncio.run(measured(work, options.arrivals, options.long))))


async def measured(work: Path, short_arrivals: int, long_arrivals: int) -> dict[str, float]:
    """Seconds, and ratios."""
    vocabulary = range(Tokenizer.from_folder(work / "source").size)
    async with edgewise(work) as ask:
        client = Client(ask, vocabulary)
        alone = [await client.answer(PROMPT, 16) for _ in range(8)][1:]
        prefill = statistics.median(times[0] - statistics.median(gaps([times])) for times in alone)
        firsts = []
        async with client.streams(15) as others:
            for _ in range(short_arrivals):
                await asyncio.sleep(random.uniform(0.1, 0.5))
                firsts.append((await client.answer(PROMPT, 1))[0])
        step = statistics.median(gaps(others))
        async with client.streams(14) as crowded:
            for _ in range(long_arrivals):
                await asyncio.sleep(0.5)
                crowded.append(await client.answer(LONG, LONG_NEW))
    between = gaps(crowded)
    found = percentiles("first", firsts) | percentiles("gap", between)
    found |= {"gap max": max(between), "longest gap of median": max(between) / found["gap p50"]}
    return {"prefill": prefill, "step": step, "limit": 3 * step + prefill, **found}


class Client:
    """Requests with random prompts that share no prefix."""

    def __init__(self, ask: Ask, vocabulary: range) -> None:
        self._ask, self._vocabulary, self._chance = ask, vocabulary, random.Random(1)

    async def answer(self, prompt: int, new: int) -> list[float]:
        """Seconds from the request to each of its tokens."""
        tokens, started = self._chance.choices(self._vocabulary, k=prompt), time.perf_counter()
        return [moment - started for moment in await arrivals(self._ask, tokens, new)]

    @asynccontextmanager
    async def streams(self, count: int) -> AsyncIterator[list[list[float]]]:
        """`count` concurrent streams while the block runs; the list collects their answers."""
        answers: list[list[float]] = []
        over = asyncio.Event()

        async def stream(index: int) -> None:
            await asyncio.sleep(0.3 * index)
            while not over.is_set():
                answers.append(await self.answer(PROMPT, NEW))

        async with asyncio.TaskGroup() as tasks:
            for index in range(count):
                tasks.create_task(stream(index))
            await asyncio.sleep(0.5 * count + 1)  # all have begun, at different positions
            answers.clear()
            yield answers
            over.set()


if __name__ == "__main__":
    main()
