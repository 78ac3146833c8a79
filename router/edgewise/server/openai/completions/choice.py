"""One choice of a completion, as the parts of a stream and as a whole."""

from collections.abc import Iterable
from typing import Any

from edgewise.server.openai.completions.logprobs import LogprobsWriter
from edgewise.server.openai.completions.plan import Plan
from edgewise.server.openai.reply.envelope import finish_reason
from edgewise.server.openai.request.prompts import prompt_text
from edgewise.server.openai.writing.choices import Ended, Event, Piece, Scored
from edgewise_edge.decoding.token_score import TokenScore


class ChoiceWriter:
    """Writes the choice with the number `index` of a plan."""

    def __init__(self, plan: Plan, index: int) -> None:
        tokenizer, echo = plan.source.tokenizer, plan.request.echo
        self._index = index
        self._before = prompt_text(plan.choices[index].prompt, tokenizer) if echo else ""
        asked = plan.request.logprobs is not None
        self._logprobs = LogprobsWriter(tokenizer) if asked else None

    def part(self, event: Event) -> dict[str, Any]:
        """What a stream tells with one event."""
        before, self._before = self._before, ""
        return {
            "text": before + event.text if isinstance(event, Piece) else before,
            "index": self._index,
            "logprobs": self._part_logprobs(event),
            "finish_reason": finish_reason(event) if isinstance(event, Ended) else None,
        }

    def whole(self, events: Iterable[Event]) -> dict[str, Any]:
        """All events of the choice in one."""
        parts = [self.part(event) for event in events]
        text = "".join(part["text"] for part in parts)
        logprobs = self._logprobs and self._logprobs.joined(part["logprobs"] for part in parts)
        return {**parts[-1], "text": text, "logprobs": logprobs}

    def _part_logprobs(self, event: Event) -> dict[str, Any] | None:
        if self._logprobs is None:
            return None
        if isinstance(event, Scored):
            written = self._logprobs.write(event.tokens)
            self._logprobs.end_of_prompt()
            return written
        scores = event.scores if isinstance(event, Piece) else _end_token(event)
        return self._logprobs.write(scores) if scores else None


def _end_token(event: Ended) -> tuple[TokenScore, ...]:
    """Its score where the model ended the text; OpenAI counts it among the tokens here."""
    end = event.generation.end_logprob if event.generation else None
    return (end,) if end else ()
