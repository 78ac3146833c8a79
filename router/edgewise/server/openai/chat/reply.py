"""The reply of POST /v1/chat/completions, and the chunks of its stream."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from edgewise.server.messages.streaming import DONE
from edgewise.server.openai.reply.envelope import Envelope, finish_reason, usage
from edgewise.server.openai.reply.ours import edgewise_of
from edgewise.server.openai.reply.token_logprobs import token_logprobs
from edgewise.server.openai.writing.choices import Ended, Event, Piece
from edgewise.server.openai.writing.written import Written
from edgewise_edge import Tokenizer
from edgewise_edge.decoding.token_score import TokenScore


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What all parts of one reply share. `prompt_format` is ChatPrompt.format."""

    envelope: Envelope
    tokenizer: Tokenizer
    prompt_format: str
    scored: bool
    include_usage: bool

    def whole(self, choices: Sequence[Written]) -> dict[str, Any]:
        """Without a stream."""
        ended = [one.ended for one in choices]
        return self.envelope.reply(
            "chat.completion",
            [self._choice(one) for one in choices],
            usage=_usage(ended),
            edgewise=self._ours(ended),
        )

    async def chunks(
        self, events: AsyncGenerator[Event, None], count: int
    ) -> AsyncGenerator[bytes | dict[str, Any], None]:
        """The chunks of `count` choices as they come; the last of each has its `edgewise` object."""
        begun, ended = False, list[Ended]()
        async with aclosing(events):
            async for event in events:
                if not begun:  # in order, whichever came first: openai's own client expects it
                    begun = True
                    for index in range(count):
                        yield self._chunk(index, {"role": "assistant", "content": ""})
                if isinstance(event, Piece):
                    logprobs = self._logprobs(event.scores)
                    yield self._chunk(event.index, {"content": event.text}, logprobs)
                elif isinstance(event, Ended):
                    ended.append(event)
                    last = self._chunk(event.index, {}, reason=finish_reason(event))
                    yield {**last, "edgewise": self._ours([event])}
        if self.include_usage:
            yield self.envelope.reply("chat.completion.chunk", [], usage=_usage(ended))
        yield DONE

    def _choice(self, one: Written) -> dict[str, Any]:
        return {
            "index": one.ended.index,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "logprobs": self._logprobs(one.scores),
            "finish_reason": finish_reason(one.ended),
        }

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        rest = {"usage": None} if self.include_usage else {}
        return self.envelope.reply("chat.completion.chunk", [choice], **rest)

    def _logprobs(self, scores: Iterable[TokenScore]) -> dict[str, Any] | None:
        if not self.scored:
            return None
        return {"content": token_logprobs(scores, self.tokenizer), "refusal": None}

    def _ours(self, ended: Sequence[Ended]) -> dict[str, Any]:
        return {**(edgewise_of(ended) or {}), "prompt_format": self.prompt_format}


def _usage(ended: Iterable[Ended]) -> dict[str, int]:
    counts = list(_counts(ended))
    return usage(counts[0].prompt_tokens, sum(count.completion_tokens for count in counts))


def _counts(ended: Iterable[Ended]) -> Iterator[Any]:
    return (one.generation.usage for one in ended if one.generation)
