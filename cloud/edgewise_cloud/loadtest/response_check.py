"""Holding an answer to the contract in generation.proto."""

from edgewise_proto import generation_pb2 as pb


class InvalidResponseError(Exception):
    """An answer that breaks the contract; the text says how."""


class Answer:
    """The answer to one request, message by message."""

    def __init__(self, request: pb.GenerateRequest, vocabulary_size: int) -> None:
        self._request = request
        self._vocabulary_size = vocabulary_size
        self._position = len(request.token_ids)
        self._end = self._position + request.max_tokens
        self._last: pb.GenerateResponse | None = None

    def take(self, response: pb.GenerateResponse | None) -> int:
        """New tokens in the next message; None: it could not be read. Raises InvalidResponseError."""
        if response is None:
            raise InvalidResponseError("a message that is no GenerateResponse")
        if self._last is not None:
            raise InvalidResponseError("a message after the last one")
        if response.position != self._position:
            raise InvalidResponseError(f"position {response.position}, not {self._position}")
        tokens = response.token_ids
        if tokens and max(tokens) >= self._vocabulary_size:
            raise InvalidResponseError(
                f"token id {max(tokens)}, of a vocabulary of {self._vocabulary_size}"
            )
        if self._position + len(tokens) > self._end:
            raise InvalidResponseError("more tokens than were asked for")
        if response.finish_reason:
            if tokens:
                raise InvalidResponseError("tokens in the last message")
            self._last = response
        self._position += len(tokens)
        return len(tokens)

    def end(self) -> pb.Timings:
        """The service's own timings, once it has said that all is well. Raises InvalidResponseError."""
        if self._last is None:
            raise InvalidResponseError("no finish reason")
        made = self._position - len(self._request.token_ids)
        # No end token is ever asked for.
        if self._last.finish_reason != pb.FINISH_REASON_LENGTH or self._position != self._end:
            reason = pb.FinishReason.Name(self._last.finish_reason)
            raise InvalidResponseError(
                f"{reason} after {made} of {self._request.max_tokens} tokens"
            )
        usage = self._last.usage
        if (usage.prompt_tokens, usage.completion_tokens) != (self._request.prompt_tokens, made):
            raise InvalidResponseError(
                f"usage of {usage.prompt_tokens} + {usage.completion_tokens} tokens, not "
                f"{self._request.prompt_tokens} + {made}"
            )
        return self._last.timings
