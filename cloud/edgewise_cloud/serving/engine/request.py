"""What an engine serves, how busy it is, and a request while it is being answered."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TypeAlias

from edgewise_cloud.serving.engine.batch import CHUNK, Text
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_edge.decoding.generate import TokenRequest
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.store.manifest import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy an engine is; see generation.proto."""

    slots: int
    running: int
    queue: int
    waiting: int
    tokens_per_second: float
    expected_wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What is known of a model beside its weights."""

    name: str
    revision: str
    tokenizer: Tokenizer
    architecture: Architecture


# A token and when it was made, why there are none, or None at the end.
Item: TypeAlias = tuple[int, float] | RefusedError | None


@dataclass(eq=False, slots=True)
class Run:
    """A request being answered: iterate over it for (token, when it was made).

    Moments are those of time.monotonic().
    """

    request: TokenRequest
    caller: Caller
    started: float | None = None
    reused: int = 0
    text: Text | None = None  # once it has a slot; the stepping thread's own
    left: bool = False  # nobody waits for it any more
    _arrived: asyncio.Queue[Item] = field(default_factory=asyncio.Queue)

    async def __aiter__(self) -> AsyncGenerator[tuple[int, float], None]:
        """The tokens, as they are made. Raises RefusedError."""
        while (item := await self._arrived.get()) is not None:
            if isinstance(item, RefusedError):
                raise item
            yield item

    def put(self, item: Item) -> None:
        """Hand over; on the event loop."""
        self._arrived.put_nowait(item)

    @property
    def steps(self) -> int:
        """Steps it still needs if it is written to its last token: each reads two chunks at most."""
        unread = self.text.unread if self.text else self.request.position - 1
        return -(-max(0, unread) // (2 * CHUNK)) + self._tokens

    @property
    def least_steps(self) -> int:
        """Steps that it needs at least: its prompt may be known, its first token an end token."""
        return 1 if self.request.end_ids else self._tokens

    @property
    def _tokens(self) -> int:
        written = len(self.text.history) - self.request.position if self.text else 0
        return self.request.max_tokens - written
