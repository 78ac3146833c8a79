"""A choice that is complete: what a reply without a stream is made of."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from edgewise.server.openai.writing.choices import Ended, Event, Piece
from edgewise_edge.decoding.token_score import TokenScore


@dataclass(slots=True)
class Written:
    """All events of one choice."""

    events: list[Event] = field(default_factory=list)

    @property
    def ended(self) -> Ended:
        """Its last event."""
        last = self.events[-1]
        if not isinstance(last, Ended):
            raise TypeError("the choice has not ended")
        return last

    @property
    def text(self) -> str:
        """Without the prompt."""
        return "".join(event.text for event in self.events if isinstance(event, Piece))

    @property
    def scores(self) -> list[TokenScore]:
        """Of its tokens, if they were asked for."""
        return [
            score for event in self.events if isinstance(event, Piece) for score in event.scores
        ]


async def collect(events: AsyncGenerator[Event, None], count: int) -> list[Written]:
    """All choices, in their order."""
    choices = [Written() for _ in range(count)]
    async with aclosing(events):
        async for event in events:
            choices[event.index].events.append(event)
    return choices
