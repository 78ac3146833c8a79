"""How our service treats those who come while others run: GPT-2 small, random weights, 16 slots.

- A prompt of 64 tokens arrives while 15 streams run (64 + 128 each, the next when one ends): its
  time to first token, beside three steps of the others and its reading when nobody else is there.
- Long prompts (900 tokens) arrive meanwhile: the longest gap between two tokens of any stream,
  beside the median gap.

    make bench-cloud      # once, for the model; or --work FOLDER with a checkpoint in FOLDER/source
    .venv/bin/python benchmarks/cloud_manners.py
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import numpy as np
from cloud_peers import HERE, prepare
from cloud_sides import NEW, PROMPT, Ask, edgewise

from edgewise_edge.decoding.tokenizer import Tokenizer

ARRIVALS, LONG_ARRIVALS = 60, 8
LONG, LONG_NEW = 900, 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=HERE.parent / ".bench")
    work = parser.parse_args().work.resolve()
    prepare(work, [])
    print(json.dumps(asyncio.run(measured(work))))


async def measured(work: Path) -> dict[str, float]:
    """Seconds, and ratios."""
    crowd = Crowd(range(Tokenizer.from_folder(work / "source").size))
    async with edgewise(work) as ask:
        alone = [await crowd.asked(ask, PROMPT, 16) for _ in range(8)][1:]
        reading = statistics.median(times[0] - _median_gap([times]) for times in alone)
        async with crowd.running(ask, 15) as others:
            firsts = []
            for _ in range(ARRIVALS):
                await asyncio.sleep(random.uniform(0.1, 0.5))
                firsts.append((await crowd.asked(ask, PROMPT, 1))[0])
        step = _median_gap(others)
        async with crowd.running(ask, 14) as crowded:
            for _ in range(LONG_ARRIVALS):
                await asyncio.sleep(0.5)
                crowded.append(await crowd.asked(ask, LONG, LONG_NEW))
    gaps = _gaps(crowded)
    limit = 3 * step + reading
    return {
        "reading": reading,
        "step": step,
        "limit": limit,
        "first_p50": float(np.percentile(firsts, 50)),
        "first_p99": float(np.percentile(firsts, 99)),
        "first_p50_of_limit": float(np.percentile(firsts, 50)) / limit,
        "first_p99_of_twice_the_limit": float(np.percentile(firsts, 99)) / (2 * limit),
        "gap_p50": float(np.percentile(gaps, 50)),
        "gap_p99": float(np.percentile(gaps, 99)),
        "gap_max": max(gaps),
        "longest_gap_of_median": max(gaps) / float(np.percentile(gaps, 50)),
    }


class Crowd:
    """Streams with random prompts that share no beginning."""

    def __init__(self, vocabulary: range) -> None:
        self._vocabulary = vocabulary
        self._chance = random.Random(1)

    async def asked(self, ask: Ask, prompt: int, new: int) -> list[float]:
        """One answer: seconds from its asking to each of its tokens."""
        times, started = list[float](), time.perf_counter()
        tokens = self._chance.choices(self._vocabulary, k=prompt)
        async with aclosing(ask(tokens, new)) as parts:
            async for count in parts:
                times += [time.perf_counter() - started] * count
        return times

    def running(self, ask: Ask, streams: int) -> "Running":
        """So many at all times while the block runs; their answers."""
        return Running(self, ask, streams)


class Running:
    """See Crowd.running."""

    def __init__(self, crowd: Crowd, ask: Ask, streams: int) -> None:
        self._crowd, self._ask, self._streams = crowd, ask, streams
        self._answers: list[list[float]] = []
        self._over = False

    async def __aenter__(self) -> list[list[float]]:
        """Start them; the list their answers are put into."""
        self._tasks = [asyncio.create_task(self._run(index)) for index in range(self._streams)]
        await asyncio.sleep(0.5 * self._streams + 1)  # all have begun, at different positions
        self._answers.clear()
        return self._answers

    async def __aexit__(self, *error: object) -> None:
        """Wait for the last ones."""
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _run(self, index: int) -> None:
        await asyncio.sleep(0.3 * index)
        while not self._over:
            self._answers.append(await self._crowd.asked(self._ask, PROMPT, NEW))


def _gaps(answers: list[list[float]]) -> list[float]:
    return [after - before for times in answers for before, after in pairwise(times)]


def _median_gap(answers: list[list[float]]) -> float:
    return statistics.median(_gaps(answers))


if __name__ == "__main__":
    main()
