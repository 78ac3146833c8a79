"""The `logprobs` object of a completion's choice."""

import codecs
from collections.abc import Iterable
from typing import Any

from edgewise.server.openai.reply.tokens import finite, token_name
from edgewise_edge import Tokenizer
from edgewise_edge.decoding.token_score import TokenScore


class LogprobsWriter:
    """Writes the objects of one choice, part by part: `text_offset` counts on from each to the next.

    An offset is the number of characters before the token in the choice's text; the parts of one
    character have the same.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._characters = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def end_of_prompt(self) -> None:
        """What follows is decoded by itself, as the router does it."""
        self._characters += len(self._decoder.decode(b"", final=True))

    def write(self, scores: Iterable[TokenScore]) -> dict[str, list[Any]]:
        """The next tokens."""
        written: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }
        for score in scores:
            name = token_name(self._tokenizer, score.token_id)
            logprob = None if score.logprob is None else finite(score.logprob)
            written["tokens"].append(name)
            written["token_logprobs"].append(logprob)
            written["top_logprobs"].append(
                None if logprob is None else self._top(score) | {name: logprob}
            )
            written["text_offset"].append(self._characters)
            text = self._tokenizer.token_bytes(score.token_id)
            self._characters += len(self._decoder.decode(text))
        return written

    def joined(self, parts: Iterable[dict[str, list[Any]] | None]) -> dict[str, list[Any]]:
        """All parts in one."""
        whole = self.write(())
        for part in parts:
            for name, values in (part or {}).items():
                whole[name] += values
        return whole

    def _top(self, score: TokenScore) -> dict[str, float]:
        return {token_name(self._tokenizer, id_): finite(value) for id_, value in score.top}
