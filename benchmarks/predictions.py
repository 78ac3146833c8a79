"""How true the times are that the router predicts for the device.

A mixed trace: prompts of 4 to 400 tokens and answers of 4 to 200, in random order; a third go on
from earlier texts, which the device remembers. The router begins with nothing but its calibration.
What it predicted before each answer is compared with what the answer took. Beside it stand a naive
predictor (medians of the seconds per token read and written) on the same trace, and ours by
hindsight: the same model, learned from the generations before and after each one, which shows what
this machine's restlessness leaves to be had.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from edgewise import DeviceState, LatencyLog, Measurement, Router, Source
from edgewise.latency.history import WINDOW
from edgewise.latency.predict import DeviceTimes
from edgewise_edge import find_model
from edgewise_edge.model import load_tokenizer
from edgewise_edge.store.manifest import Manifest

PROMPT, ANSWER = (4, 400), (4, 200)  # tokens
GOING_ON = 1 / 3  # of the prompts begin with an earlier text
NEAR = 0.2  # relative error
NAIVE_WINDOW = 32  # generations


@dataclass(frozen=True)
class Answer:
    """One generation: what was predicted for it, by whom, and what was measured. Seconds."""

    took: float
    measured: Measurement
    predicted: dict[str, float]


class Kept(LatencyLog):
    """A log that forgets nothing, and keeps no file."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Measurement] = []

    def add(self, key: str, measurement: Measurement) -> None:
        """See LatencyLog."""
        self.all.append(measurement)
        super().add(key, measurement)


class Prompts:
    """Random pieces of text, each one token by itself, and beginnings that were read before."""

    def __init__(self, model: str, chance: random.Random) -> None:
        folder = find_model(model)
        manifest = Manifest.read(folder)
        tokenizer, self._chance = load_tokenizer(folder, manifest), chance
        self._window = manifest.architecture.context_window
        self._longest = min(PROMPT[1], self._window - ANSWER[0])
        texts = {id_: tokenizer.decode([id_]) for id_ in range(tokenizer.size)}
        self._pieces = [text for id_, text in texts.items() if tokenizer.encode(text) == [id_]]
        self._tokenizer, self._earlier = tokenizer, list[str]()

    def next(self) -> str:
        """A prompt: new, or one of the last three texts and more."""
        again = self._earlier and self._chance.random() < GOING_ON
        begun = self._chance.choice(self._earlier) if again else ""
        room = self._longest - self._tokens(begun)
        words = between(PROMPT[0], room, self._chance)
        return begun + "".join(self._chance.choices(self._pieces, k=words))

    def room(self, prompt: str) -> int:
        """How many tokens an answer may have."""
        return self._window - self._tokens(prompt)

    def remember(self, text: str) -> None:
        """It may be gone on from, if that leaves room."""
        if self._tokens(text) <= self._longest - PROMPT[0]:
            self._earlier = [*self._earlier[-2:], text]

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text))


def main() -> None:
    """Run the trace and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tales")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    before, others_before = time.monotonic(), others()
    answers = list(trace(options))
    busy = max(0.0, others() - others_before) / (time.monotonic() - before) / psutil.cpu_count()
    by_hindsight(answers)
    print(f"others took {busy:.0%} of the processor meanwhile: much of that, and nothing is true")
    print("share of predictions within 20 %, and the median error, by tokens of the answer:")
    print(f"{'tokens: answers':>16}", *(f"{name:>20}" for name in answers[0].predicted))
    for low, high in ((ANSWER[0], 15), (16, 63), (64, ANSWER[1])):
        some = [answer for answer in answers if low <= answer.measured.tokens <= high]
        show(f"{low} to {high}: {len(some)}", some)
    found = show(f"all: {len(answers)}", answers)
    print(
        json.dumps(
            found | {"model": options.model, "answers": len(answers), "others": round(busy, 3)}
        )
    )


def trace(options: argparse.Namespace) -> Iterator[Answer]:
    """The answers, as they come."""
    chance, log = random.Random(options.seed), Kept()
    prompts = Prompts(options.model, chance)
    with Router(options.model, threads=options.threads, device=DeviceState, latency=log) as router:
        router.route(prompts.next())  # calibrates
        for seed in range(options.generations):
            prompt, known = prompts.next(), log.all[:]
            wanted = min(between(*ANSWER, chance), prompts.room(prompt))
            written = router.generate(prompt, max_tokens=wanted, seed=seed)
            prompts.remember(prompt + written.text)
            ours, measured = written.decision.predicted[Source.ON_DEVICE], log.all[-1]
            # Where the text came to its end, what was predicted for so many tokens counts.
            gaps = measured.tokens - 1
            assert written.timings.total
            yield Answer(
                written.timings.total,
                measured,
                {"ours": ours.first_token + ours.gap * gaps, "naive": naive(known, measured)},
            )


def naive(known: list[Measurement], asked: Measurement) -> float:
    """By the medians of seconds per token read and of seconds per token written.

    The longest half of the prompts tell how fast reading is.
    """
    known = known[-NAIVE_WINDOW:]
    gap = statistics.median(m.decode_time / (m.tokens - 1) for m in known if m.tokens > 1)
    longest = max(m.uncached for m in known)
    reading = statistics.median(
        m.first_token / m.uncached for m in known if 2 * m.uncached >= longest
    )
    return max(gap, reading * asked.position) + gap * (asked.tokens - 1)


def others() -> float:
    """Seconds of processor time that all but this process have taken."""
    times, own = psutil.cpu_times(), psutil.Process().cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return sum(times) - getattr(times, "guest", 0.0) - idle - own.user - own.system


def by_hindsight(answers: list[Answer]) -> None:
    """Add what would have been predicted from the nearest in time, before and after."""
    for here, answer in enumerate(answers):
        others = [other for other in range(len(answers)) if other != here]
        others.sort(key=lambda other: abs(other - here), reverse=True)
        near = DeviceTimes.learned([answers[other].measured for other in others[-WINDOW:]])
        asked = answer.measured
        total = near.predict(
            position=asked.position, uncached=asked.uncached, max_tokens=asked.tokens
        ).total
        answer.predicted["by hindsight"] = total


def show(name: str, answers: list[Answer]) -> dict[str, float]:
    """Print one line: the share of predictions that were near, and the median error."""
    found, cells = {}, []
    for who in answers[0].predicted if answers else ():
        errors = [abs(answer.predicted[who] / answer.took - 1) for answer in answers]
        share, median = sum(e <= NEAR for e in errors) / len(errors), statistics.median(errors)
        cells.append(f"{share:.1%}, median {median:.1%}")
        key = who.replace(" ", "_")
        found |= {f"{key}_within": round(share, 3), f"{key}_median_error": round(median, 3)}
    print(f"{name:>16}", *(f"{cell:>20}" for cell in cells))
    return found


def between(low: int, high: int, chance: random.Random) -> int:
    """A whole number whose logarithm is even: short ones are as likely as long ones."""
    return round(low * (high / low) ** chance.random())


if __name__ == "__main__":
    main()
