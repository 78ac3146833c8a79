"""Encodes requests for the cloud and validates its responses."""

from edgewise.errors import CloudUnavailableError
from edgewise.generation.request import CloudTokenRequest
from edgewise_proto import generation_pb2 as pb


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
        ),
        end_token_ids=sorted(request.end_ids),
        vocabulary=vocabulary,
    )


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
