"""Requests and responses as the cloud speaks them, and what is wrong with them."""

from edgewise.errors import CloudUnavailableError, PrivacyError
from edgewise.generation.request import CloudTokenRequest
from edgewise_proto import generation_pb2 as pb


def require_leave(request: object) -> None:
    """Raise PrivacyError for what may not leave the device; mypy would have objected before."""
    if not isinstance(request, CloudTokenRequest):
        raise PrivacyError("a request that may not leave the device was on its way to the cloud")


def message(request: CloudTokenRequest, vocabulary: str) -> pb.GenerateRequest:
    """What the cloud is asked; `vocabulary` is the fingerprint of this device's."""
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
        ),
        end_token_ids=sorted(request.end_ids),
        vocabulary=vocabulary,
    )


def check(
    response: pb.GenerateResponse, position: int, request: CloudTokenRequest, vocabulary_size: int
) -> None:
    """Raise CloudUnavailableError for tokens that are not the next ones of this request."""
    in_order = response.position == position
    known = all(id_ < vocabulary_size for id_ in response.token_ids)
    ours = not response.HasField("usage") or response.usage == pb.Usage(
        prompt_tokens=request.prompt_tokens, completion_tokens=position - request.prompt_tokens
    )
    if not (in_order and known and ours):
        raise CloudUnavailableError(
            f"the cloud sent tokens for position {response.position} where {position} was next, "
            "tokens outside the vocabulary, or the end of another request"
        )
