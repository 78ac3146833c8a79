"""From request messages to the engine's requests, and from its scores to messages."""

from edgewise_edge.decoding.request import FinishReason, TokenRequest
from edgewise_edge.decoding.sampling_params import SamplingParams
from edgewise_edge.decoding.scoring import checked_ids
from edgewise_edge.decoding.token_score import TOP, TokenScore
from edgewise_edge.errors import RequestError
from edgewise_edge.store.manifest import Architecture
from edgewise_proto import generation_pb2 as pb

FINISH_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


def token_request(message: pb.GenerateRequest) -> TokenRequest:
    """The request in `message`. Raises RequestError for invalid values."""
    if not 0 < message.prompt_tokens <= len(message.token_ids):
        raise RequestError("prompt_tokens must be at least 1 and at most the number of token_ids")
    if not message.HasField("sampling"):
        raise RequestError("sampling is missing")
    sampling = message.sampling
    return TokenRequest(
        token_ids=tuple(message.token_ids),
        prompt_tokens=message.prompt_tokens,
        max_tokens=message.max_tokens,
        sampling=SamplingParams(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=dict(sampling.logit_bias),
            min_p=sampling.min_p,
        ),
        end_ids=frozenset(message.end_token_ids),
        logprobs=message.logprobs if message.HasField("logprobs") else None,
    )


def generation_request(message: pb.GenerateRequest, model: Architecture) -> TokenRequest:
    """As token_request, after every check that needs no work."""
    request = token_request(message)
    request.check(model.context_window, model.vocabulary_size)
    request.require_room(model.context_window)
    if max(request.end_ids, default=0) >= model.vocabulary_size:
        raise RequestError("an end token id is not in the vocabulary")
    return request


def score_request(message: pb.ScoreRequest, model: Architecture) -> TokenRequest:
    """The request for a score: one for no new tokens. Raises RequestError for invalid values."""
    ids = checked_ids(message.token_ids, model.context_window, model.vocabulary_size)
    TOP.check("top", message.top, RequestError)
    return TokenRequest(
        token_ids=ids,
        prompt_tokens=len(ids),
        max_tokens=0,
        sampling=SamplingParams(),
        logprobs=message.top,
    )


def encode_score(score: TokenScore) -> pb.TokenScore:
    """The message for a token's score."""
    ids, logprobs = zip(*score.top, strict=True) if score.top else ((), ())
    return pb.TokenScore(logprob=score.logprob, top_token_ids=ids, top_logprobs=logprobs)
