"""What has been written so far: the state that lets either side go on at the next token."""

from collections.abc import Sequence

from edgewise_edge.generation import FinishReason
from edgewise_edge.text import TextAssembler
from edgewise_edge.tokenizer import Tokenizer


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
