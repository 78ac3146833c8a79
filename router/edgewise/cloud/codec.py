"""Encodes requests for the cloud and validates its responses."""

import math
from collections.abc import Iterator, Sequence

from edgewise.errors import CloudUnavailableError
from edgewise.generation.request import CloudTokenRequest
from edgewise_edge import TokenScore
from edgewise_proto import generation_pb2 as pb

# What each level of the contract (GetModelResponse.level) added.
ADDED = {
    1: "log-probabilities, scores, penalties of generated tokens and biases",
    2: "min_p",
}
_ROUNDING = 1e-3  # a log-probability of almost 0 may be rounded to more


def encode_request(request: CloudTokenRequest, vocabulary: str) -> pb.GenerateRequest:
    """The message for the cloud; `vocabulary` is the fingerprint of the device's vocabulary."""
    sampling = request.sampling
    return pb.GenerateRequest(
        token_ids=request.token_ids,
        prompt_tokens=request.prompt_tokens,
        max_tokens=request.max_tokens,
        sampling=pb.Sampling(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=sampling.logit_bias,
            min_p=sampling.min_p,
        ),
        end_token_ids=sorted(request.end_ids),
        vocabulary=vocabulary,
        logprobs=request.logprobs,
    )


def needs_level(request: CloudTokenRequest) -> int:
    """The level of the contract that a service must know to answer."""
    sampling = request.sampling
    if sampling.min_p:
        return 2
    new = sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias
    return 1 if new or request.logprobs is not None else 0


def validate_response(
    response: pb.GenerateResponse, position: int, request: CloudTokenRequest, vocabulary_size: int
) -> None:
    """Raise CloudUnavailableError unless these are the next tokens of this request."""
    in_order = response.position == position
    known = all(id_ < vocabulary_size for id_ in response.token_ids)
    ours = not response.HasField("usage") or response.usage == pb.Usage(
        prompt_tokens=request.prompt_tokens, completion_tokens=position - request.prompt_tokens
    )
    if not (in_order and known and ours):
        raise CloudUnavailableError(
            f"the cloud sent tokens for position {response.position} instead of {position}, tokens "
            "outside the vocabulary, or the usage of another request"
        )
    if request.logprobs is not None:
        _validate(response.scores, response.token_ids, request.logprobs, vocabulary_size)


def validate_scores(
    response: pb.ScoreResponse, position: int, scored: Sequence[int], top: int, vocabulary_size: int
) -> None:
    """Raise CloudUnavailableError unless these are the scores of the tokens `scored`."""
    if response.position != position:
        raise CloudUnavailableError(
            f"the cloud sent scores for position {response.position} instead of {position}"
        )
    _validate(response.scores, scored, top, vocabulary_size, first=position == 0)


def decode_scores(
    token_ids: Sequence[int], scores: Sequence[pb.TokenScore]
) -> Iterator[TokenScore]:
    """Validated scores of these tokens."""
    for id_, score in zip(token_ids, scores, strict=True):
        logprob = score.logprob if score.HasField("logprob") else None
        top = zip(score.top_token_ids, score.top_logprobs, strict=True)
        yield TokenScore(id_, logprob, tuple(top))


def _validate(
    scores: Sequence[pb.TokenScore],
    token_ids: Sequence[int],
    top: int,
    vocabulary_size: int,
    *,
    first: bool = False,
) -> None:
    """Raise CloudUnavailableError unless there is a possible score for each token.

    `first`: they begin a sequence, whose first token has none.
    """
    top = min(top, vocabulary_size)
    for index, score in enumerate(scores):
        expected = 0 if first and index == 0 else top
        logprobs = [*([score.logprob] if score.HasField("logprob") else []), *score.top_logprobs]
        possible = (
            score.HasField("logprob") is not (first and index == 0)
            and len(score.top_token_ids) == len(score.top_logprobs) == expected
            and all(id_ < vocabulary_size for id_ in score.top_token_ids)
            and all(-math.inf < logprob <= _ROUNDING for logprob in logprobs)
        )
        if not possible:
            raise CloudUnavailableError("the cloud sent a score that no token can have")
    if len(scores) != len(token_ids):
        raise CloudUnavailableError(
            f"the cloud sent {len(scores)} scores for {len(token_ids)} tokens"
        )
