"""From request messages to the engine's requests."""

from edgewise_edge.decoding.generate import FinishReason, TokenRequest
from edgewise_edge.decoding.sampling import SamplingParams
from edgewise_edge.errors import RequestError
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
        ),
        end_ids=frozenset(message.end_token_ids),
    )
