"""The cloud is killed while it generates: the answer is the same as without the kill."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from edgewise import Chunk, DeviceState, Generation, LatencyLog, Router, Source
from tests.support.killable_server import KillableServer, killable_server
from tests.support.timeouts import PATIENT

KILLS = int(os.environ.get("EDGEWISE_KILLS", "1"))  # of each kind
MAX_TOKENS = 120
WORDS = ["the winter", "a river", "in her", "water was", "whither", "naïve", "then", "ever after"]
KINDS = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 1.0, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1},
}


@dataclass(frozen=True)
class Case:
    """A prompt, its options, and the token after which the cloud is killed."""

    prompt: str
    options: dict[str, float]
    after: int


@dataclass(frozen=True)
class Answer:
    """What a reader got."""

    generation: Generation
    chunks: list[Chunk]


def cases(kind: str) -> Iterator[Case]:
    """Endless, and the same in each run."""
    for seed in count():
        chance = random.Random(seed)
        options = {**KINDS[kind], "max_tokens": MAX_TOKENS, "seed": seed}
        prompt = " ".join(chance.choices(WORDS, k=5))
        yield Case(prompt, options, chance.randrange(1, MAX_TOKENS))


@pytest.fixture(scope="module")
def clouds(exact_folder: Path) -> Iterator[KillableServer]:
    # Starting the next ones meanwhile pays for many kills.
    with killable_server(str(exact_folder), ahead=int(KILLS > 1)) as clouds:
        yield clouds


@pytest.fixture(scope="module")
def alone(exact_folder: Path) -> Iterator[Router]:
    with router_to(None, exact_folder) as router:
        yield router


def router_to(address: str | None, folder: Path) -> Router:
    return Router(
        folder,
        cloud=address,
        cloud_timeouts=PATIENT,
        mode="prefer_in_cloud",
        device=DeviceState,
        latency=LatencyLog(),
        threads=1,
    )


def read(router: Router, clouds: KillableServer, case: Case) -> Answer:
    """Read to the end, and kill the cloud at the case's token."""
    chunks, killed = list[Chunk](), False
    with router.stream(case.prompt, **case.options) as stream:
        for chunk in stream:
            chunks.append(chunk)
            if not killed and sum(len(chunk.token_ids) for chunk in chunks) >= case.after:
                killed = True
                clouds.kill()
        return Answer(stream.generation, chunks)


@pytest.mark.timeout(600 + 60 * KILLS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_token_is_lost_or_repeated(
    clouds: KillableServer, alone: Router, exact_folder: Path, kind: str
) -> None:
    """Wherever the cloud is killed, the device continues as one source would have done."""
    handoffs = 0
    for case in cases(kind):
        with router_to(clouds.start(), exact_folder) as router:
            router.warm_up()
            unbroken = alone.generate(case.prompt, **case.options)
            in_cloud = router.generate(case.prompt, **case.options)
            assert (in_cloud.source, in_cloud.token_ids) == (Source.IN_CLOUD, unbroken.token_ids)
            answer = read(router, clouds, case)
        check(answer, unbroken)
        # Killed near the end, the cloud may have sent the rest already.
        handoffs += len(answer.generation.segments) - 1
        if handoffs == KILLS:
            break


def check(answer: Answer, unbroken: Generation) -> None:
    """The answer is that of an unbroken run."""
    generation = answer.generation
    assert generation.token_ids == unbroken.token_ids
    assert generation.text == unbroken.text
    assert generation.finish_reason == "length"
    assert generation.usage == unbroken.usage
    assert generation.usage.completion_tokens == MAX_TOKENS
    assert "".join(chunk.text for chunk in answer.chunks) == generation.text
    assert sum((chunk.token_ids for chunk in answer.chunks), ()) == generation.token_ids
    first, *rest = generation.segments
    assert (first.source, first.start) == (Source.IN_CLOUD, 0)
    if rest:
        (second,) = rest
        assert (second.source, second.start) == (Source.ON_DEVICE, first.tokens)
        assert first.tokens + second.tokens == MAX_TOKENS
    else:
        assert first.tokens == MAX_TOKENS
