"""The log-probabilities of an answer's tokens, wherever these come from."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from edgewise.generation.attempt import Attempt
from edgewise.generation.result import Chunk
from edgewise.generation.stream import TextStream
from edgewise.policy.types import VetoCode
from edgewise.testing import (
    Script,
    ScriptedDevice,
    completes,
    fails_after,
    hands_off_after,
    hangs_after,
    waits_for,
)
from edgewise_edge import TokenScore
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    TOKENIZER,
    FakeAdvisor,
    new_cloud,
    new_device,
    new_stream,
    tokens_of,
)

TEXT = "the fox and the hen"
IDS = tokens_of(TEXT)


def ids_of(scores: Sequence[TokenScore] | None) -> tuple[int, ...]:
    return tuple(score.token_id for score in scores or ())


def chunks_of(stream: TextStream) -> list[Chunk]:
    """All chunks; each has a score for each of its tokens."""
    chunks = list(stream)
    for chunk in chunks:
        assert ids_of(chunk.logprobs) == chunk.token_ids
    return chunks


@pytest.mark.parametrize("script", [fails_after, hands_off_after])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_scores_of_both_sources_line_up_with_their_tokens(script: type[Script], count: int) -> None:
    """After a fallback, and after a handoff; the sources tell their tokens apart."""
    other = "THE FOX AND THE HEN, AND SO ON"
    stream = new_stream(
        {DEVICE: new_device(TEXT, script(count)), CLOUD: new_cloud(other)},
        FakeAdvisor(CLOUD),
        logprobs=3,
    )
    chunks_of(stream)
    generation = stream.generation
    assert generation.token_ids == (*IDS[:count], *tokens_of(other)[count:])
    assert ids_of(generation.logprobs) == generation.token_ids
    assert all(len(score.top) == 3 for score in generation.logprobs)


def test_scores_of_what_a_stop_string_cuts_off_are_in_no_chunk() -> None:
    """As its tokens; the generation has both."""
    stream = new_stream({DEVICE: new_device(TEXT)}, FakeAdvisor(), stop=("fox",), logprobs=0)
    shown = [id_ for chunk in chunks_of(stream) for id_ in chunk.token_ids]
    assert TOKENIZER.decode(shown) == "the "
    assert ids_of(stream.generation.logprobs) == stream.generation.token_ids
    assert len(stream.generation.token_ids) > len(shown)


def test_score_of_the_end_token_has_a_place_of_its_own() -> None:
    """It is no part of the answer; where something else ends that, there is none."""
    ends = new_stream({DEVICE: new_device(TEXT)}, FakeAdvisor(), logprobs=0)
    chunks_of(ends)
    assert ids_of(ends.generation.logprobs) == IDS
    assert ends.generation.end_logprob.token_id in TOKENIZER.end_ids
    for options in ({"max_tokens": 3}, {"stop": ("fox",)}):
        cut = new_stream({DEVICE: new_device(TEXT)}, FakeAdvisor(), logprobs=0, **options)
        chunks_of(cut)
        assert cut.generation.end_logprob is None


def test_scores_of_an_attempt_that_lost_a_hedge_are_dropped() -> None:
    """Also if it gets its first token while the other one is read."""
    overtaken = threading.Event()

    def slow(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from waits_for(overtaken)(tokens, attempt)

    def fast(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield next(tokens)
        overtaken.set()
        device.wait_until_idle()
        yield from completes(tokens, attempt)

    device = new_device("A LOSER'S TEXT", slow)
    stream = new_stream(
        {DEVICE: device, CLOUD: new_cloud(TEXT, fast)},
        FakeAdvisor(CLOUD),
        hedge_after=0.001,
        logprobs=1,
    )
    chunks_of(stream)
    assert ids_of(stream.generation.logprobs) == stream.generation.token_ids == IDS


class Unscored(ScriptedDevice):
    """A source of somebody's own that knows nothing of scores."""

    def _scored(self, tokens: Iterator[int], _attempt: Attempt, _top: int) -> Iterator[int]:
        return tokens


def test_source_without_scores_fails_where_they_are_asked_for() -> None:
    """Before its first token: the other source answers, and none is out of line."""
    advisor = FakeAdvisor(CLOUD)
    stream = new_stream(
        {DEVICE: Unscored(TEXT, tokenizer=TOKENIZER), CLOUD: new_cloud(TEXT)}, advisor, logprobs=0
    )
    chunks_of(stream)
    assert ids_of(stream.generation.logprobs) == IDS
    why = advisor.requests[0].abandoned[DEVICE]
    assert why.code is VetoCode.FAILED
    assert "without its log-probability" in why.detail


def test_answer_has_no_scores_unless_asked_for() -> None:
    """None in the generation, nothing in a chunk."""
    stream = new_stream({DEVICE: new_device(TEXT)}, FakeAdvisor())
    assert not any(chunk.logprobs for chunk in stream)
    assert stream.generation.logprobs is None


def test_stream_that_is_closed_keeps_the_scores_so_far() -> None:
    """One for each token that it generated."""
    stream = new_stream({DEVICE: new_device(TEXT, hangs_after(3))}, FakeAdvisor(), logprobs=0)
    for _ in range(3):
        next(stream)
    stream.close()
    assert ids_of(stream.generation.logprobs) == IDS[:3] == stream.generation.token_ids


def test_json_has_the_scores() -> None:
    """Under the name of the field, by token."""
    stream = new_stream({DEVICE: new_device("A")}, FakeAdvisor(), logprobs=1)
    chunks_of(stream)
    assert stream.generation.as_dict()["logprobs"] == (
        {"token_id": ord("A"), "logprob": -0.5, "top": ((ord("A"), -0.5),)},
    )
