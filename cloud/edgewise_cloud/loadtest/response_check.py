"""Checking a response stream against the contract in generation.proto."""

from edgewise_proto import generation_pb2 as pb


class InvalidResponseError(Exception):
    """A response that breaks the contract; the text says how."""


class ResponseCheck:
    """Checks the messages of one response stream, in order."""

    def __init__(self, request: pb.GenerateRequest, vocabulary_size: int) -> None:
        self._request = request
        self._vocabulary_size = vocabulary_size
        self._position = len(request.token_ids)
        self._end = self._position + request.max_tokens
        self._last: pb.GenerateResponse | None = None

    def message(self, response: pb.GenerateResponse | None) -> int:
        """Check the next message, None if it could not be parsed; return how many tokens it has.

        Raises InvalidResponseError.
        """
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
        """Check that the stream may end here; return the service's timings.

        Raises InvalidResponseError.
        """
        if self._last is None:
            raise InvalidResponseError("no finish reason")
        generated = self._position - len(self._request.token_ids)
        # Requests name no end token, so that each should reach its max_tokens.
        if self._last.finish_reason != pb.FINISH_REASON_LENGTH or self._position != self._end:
            reason = pb.FinishReason.Name(self._last.finish_reason)
            raise InvalidResponseError(
                f"{reason} after {generated} of {self._request.max_tokens} tokens"
            )
        usage, prompt_tokens = self._last.usage, self._request.prompt_tokens
        if (usage.prompt_tokens, usage.completion_tokens) != (prompt_tokens, generated):
            raise InvalidResponseError(
                f"usage of {usage.prompt_tokens} + {usage.completion_tokens} tokens, not "
                f"{prompt_tokens} + {generated}"
            )
        return self._last.timings
