"""The answer so far, from which either source can continue, and the source of each token."""

import time
from collections.abc import Iterator

from edgewise.generation.attempt import Attempt
from edgewise.generation.request import Request
from edgewise.generation.result import Chunk, Generation, Segment, Timings
from edgewise.policy.types import Decision, Source
from edgewise_edge import FinishReason, Tokenizer, TokenScore, Transcript, Usage


class PartialResponse:
    """The answer to one request so far.

    `model` is name@revision; `started` the time.monotonic() of the request.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, model: str, started: float) -> None:
        self.request, self.model = request, model
        self._started = started
        self._transcript = Transcript(tokenizer, request.max_tokens, request.stop)
        self._attempts: list[Attempt] = []
        self._sources: list[Source] = []  # one for each token
        self._first_token_at: float | None = None
        self._last_token_at: float | None = None
        self._scores: list[TokenScore] = []  # one for each token, if the request asks for them
        self._end_score: TokenScore | None = None  # of the end token, which is none of the tokens
        self._unshown: list[int] = []  # tokens whose text is held back
        self._pieces: list[str] = []

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens generated so far; from any thread."""
        return tuple(self._transcript.token_ids)

    @property
    def position(self) -> int:
        """The next token's position, counted from the start of the prompt."""
        return len(self.request.prompt_ids) + len(self._transcript.token_ids)

    @property
    def elapsed(self) -> float:
        """Seconds since the request."""
        return time.monotonic() - self._started

    @property
    def tokens_left(self) -> int:
        """Tokens that may still be generated."""
        return self.request.max_tokens - len(self._transcript.token_ids)

    @property
    def finished(self) -> bool:
        """Whether it is complete or was ended early."""
        return self._transcript.finish_reason is not None

    def begin_attempt(self, attempt: Attempt) -> None:
        """Allow at most `attempt.max_tokens` more tokens."""
        self._attempts.append(attempt)
        self._transcript.limit(len(self._transcript.token_ids) + attempt.max_tokens)

    def add_token(
        self, token: int, source: Source, score: TokenScore | None = None
    ) -> Chunk | None:
        """Add one token and its score; returns the text that is now safe to show, if any."""
        text = self._transcript.push(token)
        if len(self._transcript.token_ids) > len(self._sources):  # not an end token
            self._last_token_at = time.monotonic()
            self._first_token_at = self._first_token_at or self._last_token_at
            if score:  # before its source, which another thread counts
                self._scores.append(score)
            self._sources.append(source)
            self._unshown.append(token)
        else:
            self._end_score = score
        if not text:
            return None
        self._pieces.append(text)
        shown, self._unshown = tuple(self._unshown), []
        return Chunk(text, shown, source, self._latest_scores(len(shown)))

    def finish(self, reason: FinishReason) -> None:
        """End it here, unless it has ended already."""
        if not self.finished:
            self._pieces.append(self._transcript.finish(reason))

    def generation(self, decision: Decision) -> Generation:
        """The result so far."""
        tokens = len(self._sources)
        first, decode_time = self._first_token_at, self._decode_time()
        return Generation(
            text="".join(self._pieces),
            token_ids=self.token_ids[:tokens],
            finish_reason=self._transcript.finish_reason or FinishReason.CANCELLED,
            model=self.model,
            source=self._sources[-1] if self._sources else decision.source,
            segments=tuple(_segments(self._sources[:tokens])),
            decision=decision,
            usage=Usage(len(self.request.prompt_ids), tokens),
            timings=Timings(
                time_to_first_token=None if first is None else first - self._started,
                total=(self._last_token_at or time.monotonic()) - self._started,
                tokens_per_second=(
                    (tokens - 1) / decode_time if tokens > 1 and decode_time else None
                ),
            ),
            seed=self.request.sampling.seed,
            logprobs=None if self.request.logprobs is None else tuple(self._scores[:tokens]),
            end_logprob=self._end_score,
        )

    def _latest_scores(self, count: int) -> tuple[TokenScore, ...]:
        return tuple(self._scores[-count:]) if self._scores and count else ()

    def _decode_time(self) -> float:
        """Seconds spent waiting for the tokens after the first, without the caller's time."""
        used = [attempt for attempt in self._attempts if attempt.first_token is not None]
        resumed = sum(attempt.load_time + (attempt.first_token or 0.0) for attempt in used[1:])
        return resumed + sum(attempt.decode_time for attempt in used)


def _segments(sources: list[Source]) -> Iterator[Segment]:
    """Runs of tokens from one source."""
    start = 0
    for index, source in enumerate(sources):
        if index + 1 == len(sources) or sources[index + 1] is not source:
            yield Segment(source, start, index + 1 - start)
            start = index + 1
