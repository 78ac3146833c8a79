"""What an engine serves, how busy it is, and a request in flight."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TypeAlias

from edgewise_cloud.serving.engine.batch import Sequence
from edgewise_cloud.serving.model.layout import PREFILL_CHUNK, SCORE_CHUNK
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_edge.decoding.request import TokenRequest
from edgewise_edge.decoding.token_score import TokenScore
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.store.manifest import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """How busy an engine is; see GetLoadResponse in generation.proto."""

    slots: int
    running: int
    queue: int
    waiting: int
    tokens_per_second: float
    expected_wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model without its weights."""

    name: str
    revision: str
    tokenizer: Tokenizer
    architecture: Architecture
    engine: str = "keras"  # an EngineKind


# A new token or None, when it was computed (on time.monotonic()'s clock), and scores: of the token
# where the request asks for it, or of the sequence's next tokens.
Output: TypeAlias = tuple[int | None, float, tuple[TokenScore, ...]]
Event: TypeAlias = Output | RefusedError | None  # None: the end


@dataclass(eq=False, slots=True)
class EngineRequest:
    """A request in flight: iterate over it for its outputs.

    Times are on time.monotonic()'s clock.
    """

    request: TokenRequest
    caller: Caller
    started_at: float | None = None
    cached_tokens: int = 0
    sequence: Sequence | None = None  # once it has a slot; for the stepping thread only
    abandoned: bool = False  # the caller is gone
    _events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    async def __aiter__(self) -> AsyncGenerator[Output, None]:
        """The outputs, as they are computed. Raises RefusedError."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, RefusedError):
                raise event
            yield event

    def put(self, event: Event) -> None:
        """Deliver an event; call it on the event loop."""
        self._events.put_nowait(event)

    @property
    def steps(self) -> int:
        """Steps needed for all its outputs: each step prefills two chunks at most."""
        chunk = PREFILL_CHUNK if self.request.max_tokens else SCORE_CHUNK
        sequence = self.sequence
        to_prefill = sequence.to_prefill if sequence else self.request.position - 1
        return -(-max(0, to_prefill) // (2 * chunk)) + self._tokens_left

    @property
    def min_steps(self) -> int:
        """Steps needed at least: its prompt may be cached, its first token an end token."""
        if not self.request.max_tokens:
            return self.steps  # a score uses no cache
        return 1 if self.request.end_ids else self._tokens_left

    @property
    def _tokens_left(self) -> int:
        sequence = self.sequence
        generated = len(sequence.tokens) - self.request.position if sequence else 0
        return self.request.max_tokens - generated
