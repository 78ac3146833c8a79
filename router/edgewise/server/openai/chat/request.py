"""The body of POST /v1/chat/completions."""

from typing import Any

from edgewise.server.errors import HttpError
from edgewise.server.openai.request.fields import SharedFields, check_number
from edgewise.server.openai.request.messages import Message
from edgewise.server.openai.request.refusals import refuse, require_text_format
from edgewise_edge.checks import Range
from edgewise_edge.decoding.token_score import MAX_TOP


class ChatRequest(SharedFields):
    """OpenAI's fields; unknown ones are ignored."""

    messages: list[Message] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None

    @property
    def texts(self) -> int:
        """How many choices the reply has."""
        return 1 if self.n is None else self.n

    @property
    def length_field(self) -> str:
        """Which of the two says how long the answer may be."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def length(self) -> int | None:
        """What it says."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def scored(self) -> int | None:
        """The router's `logprobs`."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def check(self, most: int) -> None:
        """Raise HttpError for what the router does not check. `most`: texts of one request."""
        refuse(self, ("tools", "functions", "audio", "web_search_options"))
        if set(self.modalities or ()) - {"text"}:
            message = "modalities holds more than 'text'; the model writes plain text only"
            raise HttpError(400, message, param="modalities", code="unsupported_parameter")
        require_text_format("response_format", self.response_format)
        check_number("n", self.texts, Range(1, most, whole=True))
        if self.top_logprobs is not None:
            check_number("top_logprobs", self.top_logprobs, Range(0, MAX_TOP, whole=True))
            if self.top_logprobs and not self.logprobs:
                message = "top_logprobs needs logprobs; set logprobs to true"
                raise HttpError(400, message, param="top_logprobs")
