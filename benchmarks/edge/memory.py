"""Does memory grow? Resident memory after 500 short generations and after all of them.

Prompts are random, of up to 200 characters; a third begin like an earlier one. Answers are of 1 to 12
tokens.
"""

import random

import psutil

from benchmarks.measure import arguments, show
from edgewise import DeviceState, LatencyLog, Router

TEXT = "the old king and the little girl went to a house in the forest by the sea and saw a river"


def prompts(chance: random.Random, count: int) -> list[str]:
    made: list[str] = []
    words = TEXT.split()
    for _ in range(count):
        start = chance.choice(made) + " " if made and chance.random() < 1 / 3 else ""
        made.append((start + " ".join(chance.choices(words, k=chance.randint(1, 40))))[:200])
    return made


def main() -> None:
    options = arguments(__doc__, generations=5000, seed=1).parse_args()
    chance, process, resident = random.Random(options.seed), psutil.Process(), {}
    with Router("tales", device=DeviceState, latency=LatencyLog()) as router:
        for number, prompt in enumerate(prompts(chance, options.generations), 1):
            router.generate(prompt, max_tokens=chance.randint(1, 12), seed=number)
            if number in (500, options.generations):
                resident[number] = process.memory_info().rss
    show({f"MB resident after {number}": size / 1e6 for number, size in resident.items()})


if __name__ == "__main__":
    main()
