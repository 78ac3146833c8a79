"""Handoffs: wherever a source stops and the other continues, the answer is the unbroken one."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.generation.result import Chunk, Generation
from edgewise.policy.types import Source
from edgewise.testing import (
    Script,
    ScriptedCloud,
    ScriptedDevice,
    ends_after,
    fails_after,
    hands_off_after,
)
from edgewise_edge import FinishReason, TokenRequest
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    END_ID,
    PROMPT,
    TOKENIZER,
    FakeAdvisor,
    Sources,
    hands_off_during_step,
    new_cloud,
    new_device,
    new_source,
    new_stream,
    read,
    tokens_of,
)

TEXT = "the sea 🌊 the café, naïve — said the 日本 the"
IDS = tokens_of(TEXT)
INTERRUPTIONS = {
    "fails": fails_after,
    "ends": ends_after,
    "hands_off": hands_off_after,
    "hands_off_during_step": hands_off_during_step,
}


def generate(
    text: str, *scripts: Script, first: Source = DEVICE, **options: object
) -> tuple[Generation, list[Chunk], Sources]:
    """Generate with the sources in turns, one script each; the next source then completes it."""
    order = [first if turn % 2 == 0 else first.other for turn in range(len(scripts) + 1)]
    turns = {
        source: scripts[order.index(source) :: 2] if source in order else () for source in Source
    }
    sources = {source: new_source(source, text, *turns[source]) for source in Source}
    stream = new_stream(sources, FakeAdvisor(*order[1:]), first, **options)
    chunks = list(stream)
    return stream.generation, chunks, sources


def token_requests(source: ScriptedDevice | ScriptedCloud) -> list[TokenRequest]:
    return [request.tokens for request in source.requests]


def joined(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def test_vocabulary_of_these_tests_has_long_tokens_and_split_characters() -> None:
    """As real ones: tokens of several characters, and characters of several tokens."""
    assert TOKENIZER.decode(list(IDS)) == TEXT
    assert any(len(TOKENIZER.token_bytes(id_)) > 1 for id_ in IDS)
    assert len(tokens_of("🌊")) > 1


@pytest.mark.parametrize("first", Source)
@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_handoff_at_any_position_loses_and_repeats_nothing(
    interruption: str, first: Source
) -> None:
    """In both directions: split characters are whole, and the second source gets all tokens."""
    for after in range(len(IDS)):
        generation, chunks, sources = generate(
            TEXT, INTERRUPTIONS[interruption](after), first=first, max_tokens=len(IDS)
        )
        generated = after + (interruption == "hands_off_during_step")
        assert generation.token_ids == IDS
        assert generation.text == TEXT == joined(chunks)
        assert generation.finish_reason is FinishReason.LENGTH
        if generated == len(IDS):  # complete before the handoff
            assert not sources[first.other].requests
            continue
        (second,) = token_requests(sources[first.other])
        assert (second.token_ids, second.prompt_tokens) == (PROMPT + IDS[:generated], len(PROMPT))
        assert second.max_tokens == len(IDS) - generated
        assert second.sampling == token_requests(sources[first])[0].sampling


@settings(deadline=None)
@given(
    text=st.text(max_size=30),
    legs=st.lists(
        st.tuples(st.sampled_from(sorted(INTERRUPTIONS)), st.integers(0, 12)), max_size=8
    ),
    first=st.sampled_from(Source),
    max_tokens=st.integers(1, 60),
    with_end_token=st.booleans(),
    stop=st.lists(st.text(min_size=1, max_size=3), max_size=2),
)
def test_any_number_of_handoffs_gives_the_unbroken_answer(
    text: str,
    legs: list[tuple[str, int]],
    first: Source,
    max_tokens: int,
    with_end_token: bool,
    stop: list[str],
) -> None:
    """The same tokens, text, chunks, finish reason and usage; each token is in one segment."""
    text += "" if with_end_token else " and so on" * 8  # more than max_tokens
    ids = (*tokens_of(text), END_ID)
    options = {"max_tokens": max_tokens, "stop": tuple(stop)}
    unbroken, _, _ = generate(text, **options)
    scripts = [INTERRUPTIONS[kind](after) for kind, after in legs]
    generation, chunks, sources = generate(text, *scripts, first=first, **options)
    for name in ("token_ids", "text", "finish_reason", "usage"):
        assert getattr(generation, name) == getattr(unbroken, name)
    assert generation.token_ids == ids[: len(generation.token_ids)]
    assert joined(chunks) == generation.text
    assert generation.usage.completion_tokens == len(generation.token_ids)
    assert generation.usage.prompt_tokens == len(PROMPT)
    assert sum(segment.tokens for segment in generation.segments) == len(generation.token_ids)
    for one, following in pairwise(generation.segments):
        assert (following.source, following.start) == (one.source.other, one.start + one.tokens)
    for source in sources.values():
        for request in token_requests(source):
            assert request.token_ids == PROMPT + ids[: request.position - len(PROMPT)]
            assert request.position + request.max_tokens == len(PROMPT) + max_tokens
        assert not source.running


def test_stop_string_across_a_handoff() -> None:
    """Neither source generated all of it. It is cut from the text, but its tokens count."""
    ids = tokens_of("a long way")
    generation, chunks, _ = generate("a long way", fails_after(4), stop=("ng w",))
    assert generation.text == "a lo" == joined(chunks)
    assert generation.finish_reason is FinishReason.STOP
    assert generation.token_ids == ids[:8]
    assert [segment.tokens for segment in generation.segments] == [4, 4]


def test_text_held_back_for_a_stop_string_survives_a_handoff() -> None:
    """It is released when the other source continues with something else."""
    generation, chunks, _ = generate("ping pong", fails_after(4), stop=("ing!",), max_tokens=9)
    assert generation.text == "ping pong" == joined(chunks)


def test_chunk_of_a_split_character_belongs_to_the_source_that_completed_it() -> None:
    """It holds the tokens of both sources."""
    ids = tokens_of("é")
    _, chunks, _ = generate("é", fails_after(1), max_tokens=2)
    assert [(chunk.text, chunk.token_ids, chunk.source) for chunk in chunks] == [("é", ids, CLOUD)]


def test_context_window_of_the_first_source_does_not_limit_the_second() -> None:
    """An answer that the device would have cut short is complete in the cloud."""
    device = new_device(TEXT, fails_after(2), context_window=len(PROMPT) + 5)
    cloud = new_cloud(TEXT)
    stream = new_stream({DEVICE: device, CLOUD: cloud}, FakeAdvisor(CLOUD), max_tokens=len(IDS))
    assert read(stream) == TEXT
    assert device.requests[0].max_tokens == 5
    assert cloud.requests[0].max_tokens == len(IDS) - 2
