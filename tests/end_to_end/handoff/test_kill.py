"""The cloud is killed while it writes: the answer is whole, as if nothing had happened."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic

import pytest

from edgewise import Chunk, DeviceState, Generation, LatencyLog, Router, Source
from tests.support.killable_server import KillServer, kill_server

KILLS = int(os.environ.get("EDGEWISE_KILLS", "4"))  # of each kind
MAX_TOKENS = 120
WORDS = ["the winter", "a river", "in her", "water was", "whither", "naïve", "then", "ever after"]
KINDS = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 1.0, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1},
}


@dataclass(frozen=True)
class Case:
    """A prompt, how to go on from it, and the token after which the cloud is killed."""

    prompt: str
    options: dict[str, float]
    after: int


@dataclass(frozen=True)
class Told:
    """What a reader was given."""

    generation: Generation
    chunks: list[Chunk]
    gap: float | None  # seconds from the cloud's last chunk to the device's first


def cases(kind: str) -> Iterator[Case]:
    """As many as are wanted, the same ones always."""
    for seed in count():
        chance = random.Random(seed)
        options = {**KINDS[kind], "max_tokens": MAX_TOKENS, "seed": seed}
        prompt = " ".join(chance.choices(WORDS, k=5))
        yield Case(prompt, options, chance.randrange(1, MAX_TOKENS))


@pytest.fixture(scope="module")
def clouds(checkpoint: Path) -> Iterator[KillServer]:
    """Of the checkpoint itself: a model folder keeps its Keras weights as float16."""
    with kill_server(str(checkpoint)) as clouds:
        yield clouds


@pytest.fixture(scope="module")
def alone(exact_folder: Path) -> Iterator[Router]:
    with router_to(None, exact_folder) as router:
        yield router


def router_to(address: str | None, folder: Path) -> Router:
    return Router(
        folder,
        cloud=address,
        mode="prefer_in_cloud",
        device=DeviceState,
        latency=LatencyLog(),
        threads=1,
    )


def read(router: Router, clouds: KillServer, case: Case) -> Told:
    """Read to the end, and kill the cloud on the way."""
    chunks, killed, gap = list[Chunk](), False, None
    with router.stream(case.prompt, **case.options) as stream:
        last = monotonic()
        for chunk in stream:
            now = monotonic()
            if chunk.source is Source.ON_DEVICE and gap is None:
                gap = now - last
            last = now
            chunks.append(chunk)
            if not killed and sum(len(chunk.token_ids) for chunk in chunks) >= case.after:
                killed = True
                clouds.kill()
        return Told(stream.generation, chunks, gap)


@pytest.mark.timeout(240 + 10 * KILLS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_token_is_lost_or_repeated(
    clouds: KillServer, alone: Router, exact_folder: Path, kind: str
) -> None:
    """Killed at any token, the cloud is followed by the device as if one had written all."""
    handoffs = 0
    for case in cases(kind):
        with router_to(clouds.start(), exact_folder) as router:
            router.warm_up()
            unbroken = alone.generate(case.prompt, **case.options)
            in_cloud = router.generate(case.prompt, **case.options)
            assert (in_cloud.source, in_cloud.token_ids) == (Source.IN_CLOUD, unbroken.token_ids)
            told = read(router, clouds, case)
        check(told, unbroken)
        # Killed near the end, it may have sent the rest already.
        handoffs += len(told.generation.segments) - 1
        if handoffs == KILLS:
            break


def check(told: Told, unbroken: Generation) -> None:
    """What was told is what an unbroken run tells."""
    generation = told.generation
    assert generation.token_ids == unbroken.token_ids
    assert generation.text == unbroken.text
    assert generation.finish_reason == "length"
    assert generation.usage == unbroken.usage
    assert generation.usage.completion_tokens == MAX_TOKENS
    assert "".join(chunk.text for chunk in told.chunks) == generation.text
    assert sum((chunk.token_ids for chunk in told.chunks), ()) == generation.token_ids
    first, *rest = generation.segments
    assert (first.source, first.start) == (Source.IN_CLOUD, 0)
    if rest:
        (second,) = rest
        assert (second.source, second.start) == (Source.ON_DEVICE, first.tokens)
        assert first.tokens + second.tokens == MAX_TOKENS
    else:
        assert first.tokens == MAX_TOKENS
