"""Turning tokens into text as they come: whole characters only, and nothing past a stop string."""

import codecs
from collections.abc import Sequence

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
