"""The Response object, complete or not yet."""

import time
from dataclasses import dataclass, field
from typing import Any

from edgewise.server.openai.reply.envelope import new_id
from edgewise.server.openai.reply.ours import edgewise_of
from edgewise.server.openai.responses.request import ResponsesRequest
from edgewise.server.openai.writing.choices import Ended
from edgewise_edge import FinishReason, Manifest, SamplingParams, Usage

_DEFAULTS = SamplingParams()


@dataclass(frozen=True, slots=True)
class ResponseObject:
    """What is told of one response again and again. `prompt_format` is ChatPrompt.format."""

    request: ResponsesRequest
    manifest: Manifest
    prompt_format: str
    id: str = field(default_factory=lambda: new_id("resp_"))
    message_id: str = field(default_factory=lambda: new_id("msg_"))
    created: int = field(default_factory=lambda: int(time.time()))

    def in_progress(self) -> dict[str, Any]:
        """Before its text."""
        return self._object("in_progress")

    def failed(self, message: str) -> dict[str, Any]:
        """Where the text broke off."""
        return self._object("failed", error={"code": "server_error", "message": message})

    def complete(self, ended: Ended, item: dict[str, Any]) -> dict[str, Any]:
        """With its one output item."""
        status = status_of(ended)
        details = None if status == "completed" else {"reason": "max_output_tokens"}
        return self._object(
            status,
            completed_at=int(time.time()) if status == "completed" else None,
            incomplete_details=details,
            output=[item],
            edgewise={**(edgewise_of([ended]) or {}), "prompt_format": self.prompt_format},
            **({"usage": _usage(ended.generation.usage)} if ended.generation else {}),
        )

    def message(self, status: str, *content: dict[str, Any]) -> dict[str, Any]:
        """The output item."""
        return {
            "id": self.message_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": list(content),
        }

    def _object(self, status: str, **more: Any) -> dict[str, Any]:
        request = self.request
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {},
            "model": f"{self.manifest.name}@{self.manifest.revision}",
            "output": [],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_logprobs": request.top_logprobs or 0,
            "truncation": "disabled",
            **self._sampling(),
            **more,
        }

    def _sampling(self) -> dict[str, float]:
        """As it is, also where the request does not say."""
        asked = {"temperature": self.request.temperature, "top_p": self.request.top_p}
        known = {name: value for name, value in asked.items() if value is not None}
        defaults = {"temperature": _DEFAULTS.temperature, "top_p": _DEFAULTS.top_p}
        return {name: (self.manifest.sampling | known).get(name, defaults[name]) for name in asked}


def output_text(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    """A content part."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def status_of(ended: Ended) -> str:
    """completed, or incomplete where the length ended it."""
    reason = ended.generation.finish_reason if ended.generation else FinishReason.LENGTH
    return "completed" if reason is FinishReason.STOP else "incomplete"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
