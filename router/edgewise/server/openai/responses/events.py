"""The events of a response's stream."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from itertools import count
from typing import Any

from edgewise.server.errors import HttpError
from edgewise.server.messages.streaming import event as named_event
from edgewise.server.openai.reply.token_logprobs import token_logprobs
from edgewise.server.openai.responses.reply import ResponseObject, output_text, status_of
from edgewise.server.openai.writing.choices import Ended, Event, Piece
from edgewise_edge import Tokenizer


class ResponseEvents:
    """Numbers the events, and collects the text for the last ones."""

    def __init__(self, response: ResponseObject, tokenizer: Tokenizer) -> None:
        self._response, self._tokenizer = response, tokenizer
        self._numbers = count()
        self._text = ""
        self._logprobs: list[dict[str, Any]] = []

    async def stream(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
        """What fails before the first event is raised; later it is told as a failed response."""
        started = False
        try:
            async with aclosing(events):
                async for event in events:
                    if not started:
                        started = True
                        for told in self._begin():
                            yield told
                    if isinstance(event, Piece):
                        yield self._delta(event)
                    elif isinstance(event, Ended):
                        for told in self._end(event):
                            yield told
        except HttpError as error:
            if not started:
                raise
            yield self._tell("error", code=error.code, message=error.message, param=error.param)
            yield self._tell("response.failed", response=self._response.failed(error.message))

    def _begin(self) -> Iterator[bytes]:
        response = self._response
        yield self._tell("response.created", response=response.in_progress())
        yield self._tell("response.in_progress", response=response.in_progress())
        yield self._tell(
            "response.output_item.added", output_index=0, item=response.message("in_progress")
        )
        yield self._tell_part("response.content_part.added", part=output_text("", []))

    def _delta(self, piece: Piece) -> bytes:
        logprobs = token_logprobs(piece.scores, self._tokenizer)
        self._text += piece.text
        self._logprobs += logprobs
        return self._tell_part("response.output_text.delta", delta=piece.text, logprobs=logprobs)

    def _end(self, ended: Ended) -> Iterator[bytes]:
        text, logprobs, status = self._text, self._logprobs, status_of(ended)
        part = output_text(text, logprobs)
        item = self._response.message(status, part)
        yield self._tell_part("response.output_text.done", text=text, logprobs=logprobs)
        yield self._tell_part("response.content_part.done", part=part)
        yield self._tell("response.output_item.done", output_index=0, item=item)
        yield self._tell(f"response.{status}", response=self._response.complete(ended, item))

    def _tell_part(self, kind: str, **fields: Any) -> bytes:
        place = {"item_id": self._response.message_id, "output_index": 0, "content_index": 0}
        return self._tell(kind, **place, **fields)

    def _tell(self, kind: str, **fields: Any) -> bytes:
        number = next(self._numbers)
        return named_event({"type": kind, "sequence_number": number, **fields}, kind)
