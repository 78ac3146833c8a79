"""Messages of a conversation as one prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from edgewise.server.errors import HttpError
from edgewise.server.settings import ServerSettings
from edgewise_edge import Manifest

# As the parts of OpenAI's two endpoints are called.
_TEXT_PARTS = {"text", "input_text", "output_text"}
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_BETWEEN = "\n\n"  # joined messages are paragraphs


class ContentPart(Struct):
    """A piece of a message."""

    type: str
    text: str | None = None


class Message(Struct):
    """One message, of either endpoint."""

    role: str | None = None
    content: str | list[ContentPart] | None = None
    type: str | None = None
    tool_calls: list[Any] | None = None
    function_call: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """The text to continue. `format` says how it was made: joined or chat_template."""

    text: str
    format: str
    stop: tuple[str, ...] = ()


def chat_prompt(
    messages: Sequence[Message], field: str, manifest: Manifest, settings: ServerSettings
) -> ChatPrompt:
    """By the model's chat template, or joined. `field` is the request's. Raises HttpError."""
    if not messages:
        raise HttpError(400, f"{field} is empty; give at least one message", param=field)
    texts = [_role_and_text(one, f"{field}[{index}]") for index, one in enumerate(messages)]
    if template := manifest.chat_template:
        return ChatPrompt(template.render(texts), "chat_template", template.stop)
    if settings.strict_chat:
        raise HttpError(
            400,
            f"the model {manifest.name} has no chat template, and this server is strict about it; "
            "use /v1/completions, or start it without --strict-chat",
            param=field,
            code="chat_not_supported",
        )
    return ChatPrompt(_BETWEEN.join(text for _, text in texts if text), "joined")


def _role_and_text(message: Message, path: str) -> tuple[str, str]:
    if message.type not in {None, "message"}:
        raise _unsupported(f"{path}.type", message.type, "message")
    role = _ROLES.get(message.role or "")
    if role is None:
        raise _unsupported(f"{path}.role", message.role, "system, developer, user or assistant")
    for name in ("tool_calls", "function_call"):
        if getattr(message, name):
            raise HttpError(400, f"{path}.{name}: the model calls no tools", param=f"{path}.{name}")
    return role, _text(message.content, f"{path}.content")


def _text(content: str | list[ContentPart] | None, path: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for index, part in enumerate(content):
        if part.type not in _TEXT_PARTS or part.text is None:
            raise _unsupported(f"{path}[{index}].type", part.type, "text, and have a text")
    return "".join(part.text or "" for part in content)


def _unsupported(path: str, value: str | None, expected: str) -> HttpError:
    shown = "missing" if value is None else repr(value[:40])
    return HttpError(400, f"{path} is {shown}; it must be {expected}", param=path)
