"""Turning tokens into text as they come: whole characters only, and nothing past a stop string."""

import codecs
from collections.abc import Sequence

from edgewise_edge.decoding.generate import FinishReason
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.errors import RequestError


class TextAssembler:
    """Collects token bytes; `push` and `finish` return the text that is safe to show.

    Held back are bytes of an unfinished UTF-8 character and text that may yet turn out to begin
    a stop string. After a stop string `stopped` is true, and its text and all after it is dropped.
    """

    def __init__(self, stop: Sequence[str] | str = ()) -> None:
        self._stop = (stop,) if isinstance(stop, str) else tuple(stop)
        if not all(isinstance(text, str) and text for text in self._stop):
            raise RequestError("a stop string must be text of at least one character")
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def push(self, token: bytes) -> str:
        """Take in one token's bytes."""
        return self._release(self._decoder.decode(token))

    def finish(self) -> str:
        """The rest, once no more tokens will come."""
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


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class Transcript:
    """Takes in tokens, whoever made them, and gives out text until the text is finished."""

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
        """New tokens that may still come."""
        return self._max_tokens - len(self.token_ids)

    def limit(self, tokens: int) -> None:
        """Let it hold no more than so many from now on."""
        self._max_tokens = tokens

    def push(self, token: int) -> str:
        """Take in the next token; the text that is now safe to show.

        An end token finishes the text and is not part of it.
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
        """End here, unless it has ended already; the text that was held back."""
        self.finish_reason = self.finish_reason or reason
        return self._assembler.finish()
