"""How accurate the router's predicted times for the device are.

A mixed trace: prompts of 4 to 400 tokens and answers of 4 to 200, in random order; a third of the
prompts continue earlier texts, which the prefix cache holds. The router starts with nothing but its
calibration. What it predicted before each answer is compared with what the answer took. So is what it
predicts with hindsight, fitted to the generations before and after each one, which shows how much of
the error is this machine's noise.
"""

import argparse
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.measure import arguments, show
from edgewise import DeviceState, LatencyLog, Measurement, Router, Source
from edgewise.latency.history import WINDOW
from edgewise.latency.predict import DeviceTimes
from edgewise_edge import Manifest, find_model
from edgewise_edge.decoding.load import load_tokenizer

PROMPT, ANSWER = (4, 400), (4, 200)  # tokens
CONTINUED = 1 / 3  # of the prompts begin with an earlier text
NEAR = 0.2  # relative error


@dataclass(frozen=True)
class Answer:
    """One generation: what each predictor said, and what was measured. Seconds."""

    took: float
    measured: Measurement
    predicted: dict[str, float]


class Log(LatencyLog):
    """A log without a file, and the last measurement."""

    last: Measurement

    def add(self, key: str, measurement: Measurement) -> None:
        self.last = measurement
        super().add(key, measurement)


def main() -> None:
    options = arguments(__doc__, model="tales", threads=int, generations=200, seed=1).parse_args()
    answers = list(trace(options))
    add_hindsight(answers)
    for low, high in ((ANSWER[0], 15), (16, 63), (64, ANSWER[1])):
        some = [answer for answer in answers if low <= answer.measured.tokens <= high]
        print(f"{len(some)} answers of {low} to {high} tokens: {figures(some)}")
    show({"model": options.model, "answers": len(answers)} | figures(answers))


def trace(options: argparse.Namespace) -> Iterator[Answer]:
    """The answers, as they come. Prompts are random pieces of text, each one token by itself."""
    chance, log, earlier = random.Random(options.seed), Log(), list[str]()
    folder = find_model(options.model)
    manifest = Manifest.read(folder)
    tokenizer, window = load_tokenizer(folder, manifest), manifest.architecture.context_window
    texts = {id_: tokenizer.decode([id_]) for id_ in range(tokenizer.size)}
    pieces = [text for id_, text in texts.items() if tokenizer.encode(text) == [id_]]
    longest = min(PROMPT[1], window - ANSWER[0])

    def tokens(text: str) -> int:
        return len(tokenizer.encode(text))

    def next_prompt() -> str:
        """A new one, or one of the last three texts and more."""
        again = earlier and chance.random() < CONTINUED
        start = chance.choice(earlier[-3:]) if again else ""
        count = log_uniform(PROMPT[0], longest - tokens(start), chance)
        return start + "".join(chance.choices(pieces, k=count))

    with Router(options.model, threads=options.threads, device=DeviceState, latency=log) as router:
        router.route(next_prompt())  # calibrates
        for seed in range(options.generations):
            prompt = next_prompt()
            max_tokens = min(log_uniform(*ANSWER, chance), window - tokens(prompt))
            answer = router.generate(prompt, max_tokens=max_tokens, seed=seed)
            if tokens(text := prompt + answer.text) <= longest - PROMPT[0]:
                earlier.append(text)
            ours, measured = answer.decision.predicted[Source.ON_DEVICE], log.last
            # An answer may end before `max_tokens`: the prediction for its actual length counts.
            total = ours.first_token + ours.gap * (measured.tokens - 1)
            yield Answer(answer.timings.total, measured, {"ours": total})


def add_hindsight(answers: list[Answer]) -> None:
    """Add what would have been predicted from the nearest in time, before and after."""
    for here, answer in enumerate(answers):
        others = [other for other in range(len(answers)) if other != here]
        others.sort(key=lambda other: abs(other - here), reverse=True)
        near = DeviceTimes.fitted([answers[other].measured for other in others[-WINDOW:]])
        asked = answer.measured
        answer.predicted["by hindsight"] = near.predict(
            position=asked.position, uncached=asked.uncached, max_tokens=asked.tokens
        ).total


def figures(answers: list[Answer]) -> dict[str, float]:
    """By predictor: the share of predictions that were near, and the median error."""
    found = {}
    for who in answers[0].predicted if answers else ():
        errors = [abs(answer.predicted[who] / answer.took - 1) for answer in answers]
        found[f"{who} within {NEAR:.0%}"] = round(sum(e <= NEAR for e in errors) / len(errors), 3)
        found[f"{who} median error"] = round(statistics.median(errors), 3)
    return found


def log_uniform(low: int, high: int, chance: random.Random) -> int:
    """A random integer whose logarithm is uniform: short ones are as likely as long ones."""
    return round(low * (high / low) ** chance.random())


if __name__ == "__main__":
    main()
