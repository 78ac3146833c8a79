"""Scores over a real socket: their values, their bounds, and a score as a request among others."""

import threading
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.conftest import CONTEXT, token_request
from tests.support.gated_programs import Gate
from tests.support.generate_requests import PROMPT, generation, received_tokens, refusal, until
from tests.support.service import Running

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TOKENS = [int(token) for token in np.random.default_rng(4).integers(0, 250, CONTEXT)]


def score(vocabulary: str, /, **changes: object) -> pb.ScoreRequest:
    fields = {"token_ids": TOKENS[:100], "top": 3, "vocabulary": vocabulary}
    return pb.ScoreRequest(**fields | changes)


def test_it_scores_as_the_device_does(
    stub: pb_grpc.GeneratorStub, vocabulary: str, exact_model: DeviceModel
) -> None:
    """A whole context window, a part in each message; the first token has no log-probability."""
    responses = list(stub.Score(score(vocabulary, token_ids=TOKENS)))
    assert max(len(each.scores) for each in responses) <= 64
    found = [one for each in responses for one in each.scores]
    expected = exact_model.score(TOKENS, top=3)
    assert len(found) == len(expected) == CONTEXT
    assert not found[0].HasField("logprob")
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert list(one.top_logprobs) == pytest.approx([each for _, each in other.top], abs=1e-3)
    positions = np.cumsum([0, *(len(each.scores) for each in responses)])
    assert [each.position for each in responses] == positions[:-1].tolist()


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"token_ids": []}, INVALID, "token_ids is empty"),
        ({"token_ids": [1, 2, 10**6]}, INVALID, "not in the vocabulary"),
        ({"token_ids": [1] * (CONTEXT + 1)}, INVALID, "context window"),
        ({"top": 21}, INVALID, "top is 21"),
        ({"vocabulary": "0" * 64}, grpc.StatusCode.FAILED_PRECONDITION, "same model"),
        ({"token_ids": [1] * 400_000}, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger"),
    ],
)
def test_bad_scores_are_refused(
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    changes: dict[str, object],
    code: grpc.StatusCode,
    words: str,
) -> None:
    """With the codes of Generate, and a sentence."""
    refused = refusal(lambda: list(stub.Score(score(vocabulary, **changes))))
    assert refused[0] is code
    assert words in refused[1]


def test_it_counts_as_a_request(
    service: Running, stub: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """With its method, its tokens and its time in the queue; no token was generated."""
    list(stub.Score(score(vocabulary)))
    outcome = service.outcomes[-1]
    assert (outcome.method, outcome.code) == ("Score", grpc.StatusCode.OK)
    assert (outcome.prompt_tokens, outcome.cached_tokens, outcome.generated_tokens) == (100, 0, 0)
    assert outcome.queue_time is not None


def test_a_full_service_refuses_it(
    ask: Callable[..., "grpc.UnaryStreamCall"],
    two_running: Callable[..., "list[grpc.UnaryStreamCall]"],
    gate: Gate,
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
) -> None:
    """As any other request: two run and two wait. One that waits is answered later."""
    calls = two_running() + [ask(token, 3) for token in (7, 8)]
    code, _ = refusal(lambda: list(stub.Score(score(vocabulary))))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    calls.pop().cancel()
    waiting, answered = stub.Score(score(vocabulary)), []
    reader = threading.Thread(target=lambda: answered.extend(waiting))
    reader.start()
    gate.open()
    reader.join()
    assert sum(len(each.scores) for each in answered) == 100


@pytest.mark.parametrize(
    ("how", "code"),
    [("cancel", grpc.StatusCode.CANCELLED), ("deadline", grpc.StatusCode.DEADLINE_EXCEEDED)],
)
def test_it_stops_when_the_caller_is_gone(
    service: Running,
    gate: Gate,
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    how: str,
    code: grpc.StatusCode,
) -> None:
    """After the current chunk its slot is free."""
    programs, ended = service.programs, len(service.outcomes)
    programs.score_gate.close()
    before = programs.score_gate.arrived
    call = stub.Score(score(vocabulary), timeout=0.5 if how == "deadline" else None)
    programs.score_gate.wait()
    if how == "cancel":
        call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    until(lambda: len(service.outcomes) > ended)
    programs.score_gate.open()
    until(lambda: not service.held)
    assert programs.score_gate.arrived - before == 1  # of four
    assert service.outcomes[-1].code is code


def test_a_deadline_that_cannot_be_met_is_refused_at_once(
    service: Running, gate: Gate, stub: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """It is known how many steps a score takes."""
    service.on_engine.step_times.record_step(1, 100.0)
    code, words = refusal(lambda: list(stub.Score(score(vocabulary), timeout=60)))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "this would take" in words


def test_a_model_that_fails_ends_it(
    service: Running, gate: Gate, stub: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """INTERNAL, with no number; the next one is answered, and a prompt with its tokens too."""
    expected = received_tokens(stub.Generate(generation(vocabulary, token_ids=TOKENS[:99])))
    service.programs.change_scores = lambda scores: scores.fill(np.nan)
    code, _ = refusal(lambda: list(stub.Score(score(vocabulary))))
    assert code is grpc.StatusCode.INTERNAL
    service.programs.behave()
    assert len(list(stub.Score(score(vocabulary)))) == 4
    again = received_tokens(stub.Generate(generation(vocabulary, token_ids=TOKENS[:99])))
    assert again == expected


def test_new_tokens_have_scores_where_they_are_asked_for(
    stub: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """0 asks for the token's alone; nobody else gets any."""
    for logprobs, likeliest in ((None, None), (0, 0), (5, 5)):
        *tokens, _ = stub.Generate(generation(vocabulary, logprobs=logprobs))
        assert len(tokens) == 20
        for each in tokens:
            assert [len(one.top_token_ids) for one in each.scores] == (
                [] if likeliest is None else [likeliest]
            )
            if likeliest:  # greedy
                assert each.scores[0].top_token_ids[0] == each.token_ids[0]
                assert each.scores[0].top_logprobs[0] == each.scores[0].logprob <= 0


def test_penalties_and_biases_are_the_devices(
    stub: pb_grpc.GeneratorStub, vocabulary: str, exact_model: DeviceModel
) -> None:
    """The same tokens as there, also after a handoff: a continuation knows what was generated."""
    sampling = {
        "temperature": 0.0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.5,
        "frequency_penalty": 1.5,
        "logit_bias": {7: 4.0, 9: -100.0},
    }
    message = generation(vocabulary, sampling=pb.Sampling(**sampling))
    expected = list(exact_model.stream_tokens(token_request(PROMPT, 20, **sampling)))
    assert received_tokens(stub.Generate(message)) == expected
    assert expected != received_tokens(stub.Generate(generation(vocabulary)))
    message.token_ids.extend(expected[:8])
    message.max_tokens = 12
    assert received_tokens(stub.Generate(message)) == expected[8:]
