"""The body of POST /v1/responses."""

from typing import Any

from msgspec import Struct

from edgewise.server.errors import HttpError
from edgewise.server.openai.request.fields import SharedFields, check_number
from edgewise.server.openai.request.messages import Message
from edgewise.server.openai.request.refusals import refuse, require_text_format
from edgewise_edge.checks import Range
from edgewise_edge.decoding.token_score import MAX_TOP

_LOGPROBS = "message.output_text.logprobs"


class TextOptions(Struct):
    """How the text is to look."""

    format: dict[str, Any] | None = None


class ResponsesRequest(SharedFields):
    """OpenAI's fields; unknown ones are ignored. Nothing is stored, whatever `store` says."""

    input: str | list[Message] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    text: TextOptions | None = None
    metadata: dict[str, str] | None = None
    tools: list[Any] | None = None
    background: bool | None = None
    conversation: str | dict[str, Any] | None = None
    previous_response_id: str | None = None
    prompt: dict[str, Any] | None = None  # one of OpenAI's stored prompts

    @property
    def scored(self) -> int | None:
        """The router's `logprobs`."""
        asked = self.top_logprobs or _LOGPROBS in (self.include or ())
        return (self.top_logprobs or 0) if asked else None

    def check(self) -> None:
        """Raise HttpError for what the router does not check."""
        if self.previous_response_id:
            raise HttpError(
                400,
                "previous_response_id is given, but this server stores no responses; send the whole "
                "conversation as input",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        refuse(self, ("tools", "background", "conversation", "prompt"))
        require_text_format("text.format", self.text.format if self.text else None)
        if self.top_logprobs is not None:
            check_number("top_logprobs", self.top_logprobs, Range(0, MAX_TOP, whole=True))

    def messages(self) -> list[Message]:
        """The instructions and the input as one conversation."""
        given = self.input
        if isinstance(given, str):
            given = [Message(role="user", content=given)]
        if given and self.instructions:
            return [Message(role="system", content=self.instructions), *given]
        return given or []
