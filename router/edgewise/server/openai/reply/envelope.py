"""What every reply of OpenAI's API begins with, and how it counts tokens."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from edgewise.server.messages.streaming import encode
from edgewise.server.openai.writing.choices import Ended
from edgewise_edge import Manifest


@dataclass(frozen=True, slots=True)
class Envelope:
    """The same in the reply and in every chunk of a stream."""

    id: str
    model: str  # name@revision
    fingerprint: str  # the revision
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def new(cls, prefix: str, manifest: Manifest) -> "Envelope":
        """With a random id that begins with `prefix`."""
        name = f"{manifest.name}@{manifest.revision}"
        return cls(new_id(prefix), name, manifest.revision)

    def reply(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """The object `kind` with these choices."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
            **more,
        }


def new_id(prefix: str) -> str:
    """A random id, as OpenAI's look."""
    return prefix + secrets.token_hex(16)


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's counts."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def finish_reason(ended: Ended) -> str:
    """Stop or length. What was to write nothing has reached its length."""
    return str(ended.generation.finish_reason) if ended.generation else "length"


def json_response(reply: object) -> Response:
    """A reply in one piece."""
    return Response(encode(reply), media_type="application/json")
