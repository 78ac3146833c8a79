"""What the cloud's client sends and accepts: scores, log-probabilities, and older services."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import pytest

from edgewise import CloudRefusedError, CloudUnavailableError, LatencyLog
from edgewise.cloud.source import CloudSource
from edgewise.errors import PrivacyError
from edgewise.generation.attempt import StopSignal
from edgewise.generation.request import CloudTokenRequest
from edgewise_edge import SamplingParams, TokenRequest, TokenScore
from edgewise_proto import generation_pb2 as pb
from tests.support.scripted_cloud import ScriptedCloud, ended, serving_scripted
from tests.support.timeouts import PATIENT

MODEL = SimpleNamespace(
    tokenizer=SimpleNamespace(fingerprint="v" * 64),
    manifest=SimpleNamespace(architecture=SimpleNamespace(vocabulary_size=50, context_window=6)),
)
FIRST = pb.TokenScore()
SCORE = pb.TokenScore(logprob=-0.5, top_token_ids=[9, 8], top_logprobs=[-0.25, -1.5])


def request(**changes: object) -> CloudTokenRequest:
    fields = {"token_ids": (3, 4, 5), "prompt_tokens": 3, "max_tokens": 1}
    return CloudTokenRequest(**{**fields, "sampling": SamplingParams(), **changes})


def scores(position: int, *scores: pb.TokenScore) -> pb.ScoreResponse:
    return pb.ScoreResponse(position=position, scores=scores)


@contextmanager
def source(cloud: ScriptedCloud) -> Iterator[CloudSource]:
    with serving_scripted(cloud) as address:
        source = CloudSource(
            address, lambda: "v" * 64, LatencyLog(), timeouts=PATIENT, background=False
        )
        yield source
        source.close()


def test_it_asks_for_scores() -> None:
    """In one call; the parts of the answer are joined."""
    cloud = ScriptedCloud(MODEL, [scores(0, FIRST, SCORE), scores(2, SCORE)])
    with source(cloud) as to_cloud:
        found = to_cloud.score(request(), 2, StopSignal(), traceparent="00-trace")
    top = ((9, -0.25), (8, -1.5))
    assert found == (TokenScore(3, None), TokenScore(4, -0.5, top), TokenScore(5, -0.5, top))
    assert cloud.requests == [pb.ScoreRequest(token_ids=[3, 4, 5], top=2, vocabulary="v" * 64)]
    assert cloud.traces == ["00-trace"]


def test_the_last_score_ends_the_wait() -> None:
    """What the service still does then is not waited for."""
    over = threading.Event()

    def answers() -> Iterator[pb.ScoreResponse]:
        yield scores(0, FIRST, SCORE, SCORE)
        over.wait()

    with source(ScriptedCloud(MODEL, answers())) as to_cloud:
        assert len(to_cloud.score(request(), 2, StopSignal())) == 3
        over.set()


def test_empty_response_shows_no_service_that_works() -> None:
    """Only scores close the circuit breaker."""
    with source(ScriptedCloud(MODEL, [scores(0)])) as to_cloud:
        for _ in range(2):
            with pytest.raises(CloudUnavailableError, match="ended its answer without finishing"):
                to_cloud.score(request(), 2, StopSignal())
        assert to_cloud.breaker.failures == 2


def test_new_tokens_come_with_their_scores() -> None:
    """Each is there when its token is; the request says how many likeliest ones it wants."""
    answers = [
        pb.GenerateResponse(position=3, token_ids=[7], scores=[SCORE]),
        ended(4, prompt=3, completion=1),
    ]
    cloud = ScriptedCloud(MODEL, answers)
    with source(cloud) as to_cloud, to_cloud.open(request(logprobs=2)) as attempt:
        assert next(attempt) == 7
        assert list(attempt.scores) == [TokenScore(7, -0.5, ((9, -0.25), (8, -1.5)))]
    assert cloud.requests[0].logprobs == 2


def test_penalties_and_biases_are_sent() -> None:
    """With the names and the values of the device's sampler."""
    sampling = SamplingParams(
        presence_penalty=1.5, frequency_penalty=-2, logit_bias={7: 100}, min_p=0.25
    )
    cloud = ScriptedCloud(MODEL, [pb.GenerateResponse(position=3, token_ids=[7])])
    with source(cloud) as to_cloud, to_cloud.open(request(sampling=sampling)) as attempt:
        next(attempt)
    sent = cloud.requests[0].sampling
    assert (sent.presence_penalty, sent.frequency_penalty, sent.min_p) == (1.5, -2, 0.25)
    assert dict(sent.logit_bias) == {7: 100}
    assert not cloud.requests[0].HasField("logprobs")


@pytest.mark.parametrize(
    "changes",
    [
        {"logprobs": 0},
        {"sampling": SamplingParams(presence_penalty=1)},
        {"sampling": SamplingParams(frequency_penalty=1)},
        {"sampling": SamplingParams(logit_bias={1: 1})},
    ],
)
def test_an_older_service_is_not_asked_for_what_it_would_ignore(changes: dict[str, object]) -> None:
    """It would answer, with other tokens or without scores. What it knows it is asked for."""
    cloud = ScriptedCloud(MODEL, [pb.GenerateResponse(position=3, token_ids=[7])])
    cloud.level = 0
    with source(cloud) as to_cloud:
        with to_cloud.open(request(**changes)) as attempt, pytest.raises(CloudRefusedError) as old:
            next(attempt)
        assert "older service" in str(old.value)
        with pytest.raises(CloudRefusedError, match="older service"):
            to_cloud.score(request(), 0, StopSignal())
        assert not cloud.requests
        with to_cloud.open(request()) as attempt:
            assert next(attempt) == 7


@pytest.mark.parametrize("level", [0, 1])
def test_a_service_that_would_ignore_min_p_is_not_asked(level: int) -> None:
    """One that knows penalties may not know min_p; without it, such a request goes out."""
    cloud = ScriptedCloud(MODEL, [pb.GenerateResponse(position=3, token_ids=[7])])
    cloud.level = level
    asked = request(sampling=SamplingParams(min_p=0.1))
    refused = pytest.raises(CloudRefusedError, match="older service, without min_p; update")
    with source(cloud) as to_cloud, to_cloud.open(asked) as attempt, refused:
        next(attempt)
    assert not cloud.requests


def test_a_service_without_the_method_refuses() -> None:
    """Such as one behind a proxy that passes Generate only: the cloud has not failed."""

    class WithoutScore(ScriptedCloud):
        def Score(
            self, request: pb.ScoreRequest, context: grpc.ServicerContext
        ) -> Iterator[object]:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method here")
            yield

    with source(WithoutScore(MODEL)) as to_cloud:
        with pytest.raises(CloudRefusedError, match="does not know this kind of request"):
            to_cloud.score(request(), 0, StopSignal())
        assert to_cloud.breaker.failures == 0


@pytest.mark.parametrize(
    "answers",
    [
        [scores(1, FIRST, SCORE, SCORE)],  # another position
        [scores(0, FIRST, SCORE)],  # too few
        [scores(0, FIRST, SCORE, SCORE, SCORE)],  # too many
        [scores(0, SCORE, SCORE, SCORE)],  # nothing predicts the first token
        [scores(0, FIRST, FIRST, SCORE)],
        [scores(0, FIRST, SCORE, pb.TokenScore(logprob=-0.5))],
        *(
            [
                scores(
                    0, FIRST, SCORE, pb.TokenScore(logprob=-1, top_token_ids=ids, top_logprobs=top)
                )
            ]
            for ids, top in (([1, 50], [-1, -2]), ([1, 2], [-1]), ([1, 2, 3], [-1] * 3))
        ),
        *(
            [scores(0, FIRST, pb.TokenScore(logprob=logprob), SCORE)]
            for logprob in (math.nan, math.inf, -math.inf, 0.5)
        ),
    ],
)
def test_scores_that_cannot_be_are_a_failure(answers: list[pb.ScoreResponse]) -> None:
    """The other source may still answer."""
    with source(ScriptedCloud(MODEL, answers)) as to_cloud:
        with pytest.raises(CloudUnavailableError):
            to_cloud.score(request(), 2, StopSignal())
        assert to_cloud.breaker.failures == 1


@pytest.mark.parametrize("sent", [[], [SCORE, SCORE], [FIRST], [pb.TokenScore(logprob=1)]])
def test_new_tokens_without_their_scores_are_a_failure(sent: list[pb.TokenScore]) -> None:
    """Before the token is used."""
    answers = [pb.GenerateResponse(position=3, token_ids=[7], scores=sent)]
    with source(ScriptedCloud(MODEL, answers)) as to_cloud, pytest.raises(CloudUnavailableError):
        next(to_cloud.open(request(logprobs=2)))


def test_what_may_not_leave_or_does_not_fit_is_not_sent() -> None:
    """A private request is an error of the program; one beyond the window is refused here."""
    cloud = ScriptedCloud(MODEL)
    private = TokenRequest(
        token_ids=(1, 2), prompt_tokens=2, max_tokens=1, sampling=SamplingParams()
    )
    with source(cloud) as to_cloud:
        with pytest.raises(PrivacyError):
            to_cloud.score(private, 0, StopSignal())
        with pytest.raises(CloudRefusedError, match="7 tokens exceed"):
            to_cloud.score(request(token_ids=(1,) * 7), 0, StopSignal())
    assert not cloud.requests


def test_stopping_ends_the_wait_for_scores() -> None:
    """It returns, the rest of the answer is not waited for, and the cloud has not failed."""
    stop, over = StopSignal(), threading.Event()

    def answers() -> Iterator[pb.ScoreResponse]:
        yield scores(0, FIRST)
        stop.set()
        over.wait()

    with source(ScriptedCloud(MODEL, answers())) as to_cloud:
        assert len(to_cloud.score(request(), 0, stop)) <= 1
        over.set()
        assert to_cloud.breaker.failures == 0
