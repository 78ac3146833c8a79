"""The requests of the soak test, and the checks of their answers."""

import random
from collections import Counter
from dataclasses import dataclass, field

from edgewise import AttemptEnded, Event, Generation, Source

PROMPTS = ("in the winter the water was", "the", "a thin wind in the", "here – there é")
LEAST = 20  # answers, however slow the machine


@dataclass
class Results:
    """What the requests came to."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    attempts: Counter[tuple[str, Source]] = field(default_factory=Counter)

    def __call__(self, event: Event) -> None:
        """Count attempts; an observer."""
        if isinstance(event, AttemptEnded):
            self.attempts[event.generation, event.source] += 1

    @property
    def enough(self) -> bool:
        """Whether there are answers enough to judge by, and one whose source changed."""
        moved = any("+" in outcome for outcome in list(self.outcomes))
        return moved and self.outcomes.total() >= LEAST


def options(chance: random.Random) -> dict[str, object]:
    """What determines an answer; few values, so that the expected ones can be kept."""
    return {
        "temperature": chance.choice([0.0, 1.0]),
        "seed": chance.randrange(3),
        "max_tokens": chance.choice([3, 40, 90]),
        "repetition_penalty": chance.choice([1.0, 1.3]),
        "stop": chance.choice([None, "th"]),
    }


def routing_options(chance: random.Random) -> dict[str, object]:
    """What must make no difference to the text."""
    return {
        "mode": chance.choice([None, "prefer_in_cloud", "prefer_in_cloud", "only_on_device"]),
        "privacy": chance.choice([None, None, "private"]),
        "hedge_after": chance.choice([None, 0.05]),
        "first_token_budget": chance.choice([None, 0.5]),
        "latency_budget": chance.choice([None, None, 2.0]),
    }


def check(
    results: Results, generation: Generation, right: Generation, asked: dict[str, object]
) -> None:
    """Compare an answer with that of an unbroken run."""
    tokens = len(generation.token_ids)
    parts = generation.segments
    problems = {
        "other tokens": generation.token_ids != right.token_ids,
        "another text": generation.text != right.text,
        "another end": generation.finish_reason != right.finish_reason,
        "usage": generation.usage != right.usage,
        "segments": [part.start for part in parts]
        != [sum(p.tokens for p in parts[:n]) for n in range(len(parts))]
        or sum(part.tokens for part in parts) != tokens,
        "leak": asked["privacy"] == "private"
        and any(part.source is Source.IN_CLOUD for part in parts),
    }
    made = [(part.source, part.tokens) for part in parts]
    results.wrong += [f"{problem}: {asked} {made}" for problem, there in problems.items() if there]
    results.outcomes["+".join(part.source for part in parts)] += 1
