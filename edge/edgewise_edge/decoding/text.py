"""Turning tokens into text: whole characters only, and nothing after a stop string."""

import codecs
from collections.abc import Iterable, Sequence
from contextlib import suppress

from edgewise_edge.decoding.request import FinishReason
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.errors import RequestError


class TextAssembler:
    """Collects token bytes; `push` and `finish` return the text that is safe to show.

    It holds back the bytes of an incomplete UTF-8 character, and text that may be the start of a
    stop string. After a stop string `stopped` is true; the stop string and what follows is dropped.
    """

    def __init__(self, stop: Sequence[str] | str = ()) -> None:
        self._stop = stop_strings(stop)
        if not all(isinstance(text, str) and text for text in self._stop):
            raise RequestError("a stop string is empty or not text; give at least one character")
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def push(self, token: bytes) -> str:
        """Add one token's bytes; the text that is now safe to show."""
        return self._release(self._decoder.decode(token))

    def finish(self) -> str:
        """The text that was held back; call it after the last token."""
        text = self._release(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return text + held

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [index for stop in self._stop if (index := text.find(stop)) >= 0]
        if found:
            self._held, self.stopped = "", True
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def stop_strings(stop: object) -> tuple[str, ...]:
    """One text or several, as a tuple; TextAssembler checks each. Raises RequestError."""
    if isinstance(stop, str):
        return (stop,)
    if isinstance(stop, Iterable) and not isinstance(stop, bytes | bytearray):
        with suppress(TypeError):  # NumPy's arrays without a dimension
            return tuple(stop)
    raise RequestError(f"stop is of type {type(stop).__name__}; it must be text, or several texts")


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class Transcript:
    """Turns the tokens of an answer into text, from whichever source, until it is finished."""

    def __init__(
        self, tokenizer: Tokenizer, max_tokens: int, stop: Sequence[str] | str = ()
    ) -> None:
        self.token_ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._assembler = TextAssembler(stop)

    @property
    def tokens_left(self) -> int:
        """New tokens until `max_tokens`."""
        return self._max_tokens - len(self.token_ids)

    def limit(self, tokens: int) -> None:
        """Set `max_tokens` to `tokens`."""
        self._max_tokens = tokens

    def push(self, token: int) -> str:
        """Add the next token; the text that is now safe to show.

        An end token finishes the answer and is not part of it.
        """
        if token in self._tokenizer.end_ids:
            return self.finish(FinishReason.STOP)
        self.token_ids.append(token)
        text = self._assembler.push(self._tokenizer.token_bytes(token))
        if self._assembler.stopped:
            self.finish_reason = FinishReason.STOP
        elif not self.tokens_left:
            text += self.finish(FinishReason.LENGTH)
        return text

    def finish(self, reason: FinishReason) -> str:
        """Finish, unless finished already; the text that was held back."""
        self.finish_reason = self.finish_reason or reason
        return self._assembler.finish()
