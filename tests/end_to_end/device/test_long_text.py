"""Generations that reach the end of the context window, on the device and through the router."""

import pytest

from edgewise import FinishReason, LatencyLog, Reason, RequestError, Router
from edgewise_edge import ContextOverflowError, DeviceModel, SamplingParams, TokenRequest, complete

WINDOW = 512  # of tales
PROMPT = "Once upon a time there was"


@pytest.fixture(scope="module")
def tales():
    """The bundled model, without a prefix cache."""
    return DeviceModel.load("tales", threads=1, prefix_memory=0)


@pytest.fixture
def router():
    """A router without a cloud, which writes no measurements to disk."""
    with Router(latency=LatencyLog(), threads=1) as router:
        yield router


def tokens(model, token_ids, new, **options):
    """The next `new` tokens, greedily unless `options` say otherwise."""
    request = TokenRequest(
        token_ids=tuple(token_ids),
        prompt_tokens=options.pop("prompt_tokens", len(token_ids)),
        max_tokens=new,
        sampling=SamplingParams(**({"temperature": 0} | options.pop("sampling", {}))),
        **options,
    )
    return list(model.stream_tokens(request))


def test_a_generation_ends_with_the_window(tales):
    """The stream ends when the window is full."""
    prompt = tales.tokenizer.encode(PROMPT)
    assert len(tokens(tales, prompt, 10_000)) == WINDOW - len(prompt)


def test_the_end_of_the_window_is_a_finish_reason():
    """`complete` returns it with the usage."""
    found = complete(PROMPT, max_tokens=10_000, seed=1)
    assert found.finish_reason is FinishReason.LENGTH
    assert found.usage.total_tokens == WINDOW


def test_the_router_answers_up_to_the_end_of_the_window(router):
    """Without another source the device answers, and the decision names the veto."""
    with router.stream(PROMPT, max_tokens=10_000, seed=1) as stream:
        text = "".join(chunk.text for chunk in stream)
        found = stream.generation
    assert (found.finish_reason, found.usage.total_tokens) == (FinishReason.LENGTH, WINDOW)
    assert found.decision.reason is Reason.LAST_RESORT
    assert text == found.text


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "seed": 3}])
def test_a_sliding_window_continues_from_its_last_half(tales, sampling):
    """Up to its end the text is the same; then it continues from the last half alone."""
    prompt = tales.tokenizer.encode(PROMPT)
    room = WINDOW - len(prompt)
    ended = tokens(tales, prompt, 10_000, sampling=sampling)
    slid = tokens(tales, prompt, room + 40, sampling=sampling, sliding_window=True)
    # A full window gives one more token before it slides.
    assert slid[:room] == ended
    assert len(slid) == room + 40
    if not sampling:  # what is drawn depends on the position too
        whole = prompt + slid[: room + 1]
        kept = whole[-(WINDOW // 2) :]
        assert tokens(tales, kept, 39) == slid[room + 1 :]


def test_a_window_slides_as_often_as_needed(tales):
    """A generation of three windows has all the requested tokens."""
    prompt = tales.tokenizer.encode(PROMPT)
    assert len(tokens(tales, prompt, 3 * WINDOW, sliding_window=True)) == 3 * WINDOW


def test_a_prompt_beyond_the_window_can_be_continued(tales):
    """A text from another source, longer than the window, continues as if it had slid here."""
    prompt = tales.tokenizer.encode(PROMPT)
    long = (prompt + tokens(tales, prompt, 700, sliding_window=True))[:600]
    continued = tokens(tales, long, 10, prompt_tokens=len(prompt), sliding_window=True)
    assert continued == tokens(tales, long[-(WINDOW // 2) :], 10)


def test_nothing_is_repeated_or_lost_in_the_text(router):
    """After sliding, the text is that of the tokens, and the chunks add up to it."""
    with router.stream(PROMPT, max_tokens=WINDOW + 100, seed=2, sliding_window=True) as stream:
        text = "".join(chunk.text for chunk in stream)
        found = stream.generation
    assert found.usage.completion_tokens == WINDOW + 100
    assert found.decision.reason is Reason.PREFERRED
    assert text == found.text == router.device_source.tokenizer.decode(found.token_ids)


@pytest.mark.parametrize("sliding_window", [False, True])
def test_a_prompt_must_leave_room(tales, router, sliding_window):
    """A prompt as long as the window is refused on each path, before any work."""
    with pytest.raises(ContextOverflowError, match=str(WINDOW)):
        tokens(tales, [5] * WINDOW, 1, sliding_window=sliding_window)
    if sliding_window:
        with pytest.raises(RequestError, match=str(WINDOW)):
            router.stream("the " * WINDOW, sliding_window=True)
