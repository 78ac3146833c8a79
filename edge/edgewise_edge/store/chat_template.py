"""How a conversation becomes one text for a model that continues texts."""

from collections.abc import Iterable
from dataclasses import dataclass

CONTENT = "{content}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A text for each role, in which `{content}` stands for what the message says.

    `answer` comes after the last message. The answer ends before any text of `stop`.
    """

    user: str
    assistant: str
    system: str
    answer: str = ""
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise TypeError for invalid values: JSON may hold any."""
        for role in ("user", "assistant", "system"):
            text = getattr(self, role)
            if not isinstance(text, str) or text.count(CONTENT) != 1:
                raise TypeError(f"chat_template.{role} must be text that holds {CONTENT} once")
        if not isinstance(self.answer, str):
            raise TypeError("chat_template.answer must be text")
        if not isinstance(self.stop, list | tuple) or not all(
            isinstance(text, str) and text for text in self.stop
        ):
            raise TypeError("chat_template.stop must be a list of texts")
        object.__setattr__(self, "stop", tuple(self.stop))

    def render(self, messages: Iterable[tuple[str, str]]) -> str:
        """The text of (role, content) pairs; a role is user, assistant or system."""
        # What a message says may hold {content} too: it is put in once, and not looked at again.
        turns = (getattr(self, role).replace(CONTENT, content) for role, content in messages)
        return "".join(turns) + self.answer
