"""What has been written so far, and who wrote it: what either side goes on from."""

import time
from collections.abc import Iterator

from edgewise.generation.attempt import Attempt
from edgewise.generation.request import Request
from edgewise.generation.result import Chunk, Generation, Segment, Timings
from edgewise.policy.types import Decision, Source
from edgewise_edge import FinishReason, Tokenizer, Transcript, Usage


class Draft:
    """The answer to one request as far as it has come."""

    def __init__(self, request: Request, tokenizer: Tokenizer, model: str, started: float) -> None:
        self.end_ids = tokenizer.end_ids
        self._request, self._model, self._started = request, model, started
        self._transcript = Transcript(tokenizer, request.max_tokens, request.stop)
        self._attempts: list[Attempt] = []
        self._makers: list[Source] = []  # one for each token
        self._first_token_at: float | None = None
        self._last_token_at: float | None = None
        self._unshown: list[int] = []  # tokens whose text is held back
        self._pieces: list[str] = []

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The new tokens; from any thread."""
        return tuple(self._transcript.token_ids)

    @property
    def position(self) -> int:
        """Where the next token goes, the prompt's counted too."""
        return len(self._request.prompt_ids) + len(self._transcript.token_ids)

    @property
    def elapsed(self) -> float:
        """Seconds since the text was asked for."""
        return time.monotonic() - self._started

    @property
    def tokens_left(self) -> int:
        """New tokens that may still come."""
        return self._request.max_tokens - len(self._transcript.token_ids)

    @property
    def finished(self) -> bool:
        """Whether it is complete, or was ended."""
        return self._transcript.finish_reason is not None

    def begin(self, attempt: Attempt) -> None:
        """A side is about to write, and as much as it can."""
        self._attempts.append(attempt)
        self._transcript.limit(len(self._transcript.token_ids) + attempt.max_tokens)

    def take(self, token: int, side: Source) -> Chunk | None:
        """Note one token; the text that is now safe to show, if there is any."""
        text = self._transcript.push(token)
        if len(self._transcript.token_ids) > len(self._makers):  # not an end token
            self._last_token_at = time.monotonic()
            self._first_token_at = self._first_token_at or self._last_token_at
            self._makers.append(side)
            self._unshown.append(token)
        if not text:
            return None
        self._pieces.append(text)
        chunk, self._unshown = Chunk(text, tuple(self._unshown), side), []
        return chunk

    def end(self, reason: FinishReason) -> None:
        """Finish it here, unless it has ended."""
        if not self.finished:
            self._pieces.append(self._transcript.finish(reason))

    def generation(self, decision: Decision) -> Generation:
        """The result so far."""
        tokens = len(self._makers)
        first, writing = self._first_token_at, self._time_writing()
        return Generation(
            text="".join(self._pieces),
            token_ids=self.token_ids[:tokens],
            finish_reason=self._transcript.finish_reason or FinishReason.CANCELLED,
            model=self._model,
            source=self._makers[-1] if self._makers else decision.source,
            segments=tuple(_segments(self._makers[:tokens])),
            decision=decision,
            usage=Usage(len(self._request.prompt_ids), tokens),
            timings=Timings(
                time_to_first_token=None if first is None else first - self._started,
                total=(self._last_token_at or time.monotonic()) - self._started,
                tokens_per_second=(tokens - 1) / writing if tokens > 1 and writing else None,
            ),
            seed=self._request.sampling.seed,
        )

    def _time_writing(self) -> float:
        """Seconds that tokens after the first were waited for, the reader's own time not in."""
        made = [attempt for attempt in self._attempts if attempt.first_token is not None]
        resumed = sum(attempt.load_time + (attempt.first_token or 0.0) for attempt in made[1:])
        return resumed + sum(attempt.decode_time for attempt in made)


def _segments(makers: list[Source]) -> Iterator[Segment]:
    """Runs of tokens by the same source."""
    start = 0
    for index, maker in enumerate(makers):
        if index + 1 == len(makers) or makers[index + 1] is not maker:
            yield Segment(maker, start, index + 1 - start)
            start = index + 1
