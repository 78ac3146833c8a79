"""One text being written: decide, run, and on failure decide again with the tokens so far."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Protocol, Self

from edgewise.errors import NoSourceError, SourceFailedError
from edgewise.generation import Chunk, Generation, Segment, Timings
from edgewise.latency import LatencyLog, Measurement
from edgewise.policy import Decision, NoSource, Source
from edgewise.request import Request
from edgewise_edge import (
    FinishReason,
    ModelError,
    RuntimeFailedError,
    Tokenizer,
    TokenRequest,
    Transcript,
    Usage,
)

# What one side can fail with while the other may still deliver.
Failure = (SourceFailedError, ModelError, RuntimeFailedError)


class TokenSource(Protocol):
    """A side that makes tokens (on_device.OnDevice, in_cloud.InCloud, or a test's fake)."""

    key: str  # names this side in the latency log
    cuts_at: int | None  # tokens after which it ends a text; None: it refuses longer ones

    def unread(self, request: TokenRequest, /) -> int:
        """How many of the request's tokens it has still to read; the others it remembers."""

    def prepare(self) -> None:
        """Do what is needed once, before the first request; raises as `stream` does."""

    def stream(
        self, request: TokenRequest, cancelled: threading.Event, /
    ) -> Generator[int, None, None]:
        """The new tokens; raises one of `Failure`; closing it or `cancelled` ends the work."""


# Decides for `tokens` already there (prompt and answer), given the sides that failed.
Decide = Callable[[Request, int, dict[Source, str]], Decision | NoSource]


class TextStream(Iterator[Chunk]):
    """Chunks as they come. Closing it, leaving its `with` or dropping it cancels what still runs.

    Raises NoSourceError when the side that runs fails and no other may go on.
    """

    def __init__(self, writing: "Writing") -> None:
        self._writing = writing
        # The generator knows `writing`, and nothing there knows the generator: when the last
        # reference to this stream goes, so does the generator, and with it the work.
        self._chunks = writing.run()

    def __next__(self) -> Chunk:
        """The next chunk."""
        return next(self._chunks)

    def close(self) -> None:
        """Stop here, from any thread; `generation` then holds what was written, as cancelled."""
        self._writing.cancelled.set()
        # While another thread is inside it, it cannot be closed; that thread sees `cancelled`.
        with contextlib.suppress(ValueError):
            self._chunks.close()
            self._writing.end(FinishReason.CANCELLED)

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def decision(self) -> Decision:
        """The decision in force."""
        return self._writing.decision

    @property
    def generation(self) -> Generation:
        """The result so far; complete once the stream has ended."""
        return self._writing.generation()


class Writing:
    """The state of one text being written, which either side can go on from."""

    def __init__(
        self,
        request: Request,
        decision: Decision,
        *,
        decide: Decide,
        source: Callable[[Source], TokenSource],
        latency: LatencyLog,
        tokenizer: Tokenizer,
        model: str,
        started: float,
    ) -> None:
        self.decision = decision
        self.cancelled = threading.Event()
        self._request, self._model, self._started = request, model, started
        self._decide, self._source, self._latency = decide, source, latency
        self._end_ids = tokenizer.end_ids
        self._transcript = Transcript(tokenizer, request.max_tokens, request.stop)
        self._makers: list[Source] = []  # one for each token
        self._waits: list[float] = []  # seconds each token was waited for, the reader's own not in
        self._first_token_at: float | None = None
        self._last_token_at = started
        self._unshown: list[int] = []  # tokens whose text is held back
        self._pieces: list[str] = []

    def run(self) -> Generator[Chunk, None, None]:
        """Write to the end, going on elsewhere when a side fails."""
        failed: dict[Source, str] = {}
        while True:
            try:
                yield from self._attempt(self.decision.source)
                return
            except Failure as error:
                if self.cancelled.is_set():
                    self.end(FinishReason.CANCELLED)
                    return
                failed[self.decision.source] = str(error)
                reached = len(self._request.prompt_ids) + len(self._transcript.token_ids)
                outcome = self._decide(self._request, reached, failed)
                if isinstance(outcome, NoSource):
                    self.end(FinishReason.ERROR)
                    raise NoSourceError(outcome) from error
                self.decision = outcome

    def end(self, reason: FinishReason) -> None:
        """Finish the text here, unless it has ended."""
        if not self._transcript.finish_reason:
            self._pieces.append(self._transcript.finish(reason))

    def generation(self) -> Generation:
        """The result so far."""
        tokens = len(self._transcript.token_ids)
        first, writing = self._first_token_at, sum(self._waits[1:])
        return Generation(
            text="".join(self._pieces),
            token_ids=tuple(self._transcript.token_ids),
            finish_reason=self._transcript.finish_reason or FinishReason.CANCELLED,
            model=self._model,
            source=self._makers[-1] if self._makers else self.decision.source,
            segments=tuple(_segments(self._makers)),
            decision=self.decision,
            usage=Usage(len(self._request.prompt_ids), tokens),
            timings=Timings(
                time_to_first_token=None if first is None else first - self._started,
                total=(self._last_token_at if self._waits else time.monotonic()) - self._started,
                tokens_per_second=(tokens - 1) / writing if tokens > 1 and writing else None,
            ),
            seed=self._request.sampling.seed,
        )

    def _attempt(self, side: Source) -> Generator[Chunk, None, None]:
        source, first = self._source(side), len(self._waits)
        source.prepare()
        if source.cuts_at is not None and not self._request.sliding_window:
            self._transcript.limit(source.cuts_at - len(self._request.prompt_ids))
        request = self._token_request()
        unread = source.unread(request)
        asked = time.monotonic()
        with closing(source.stream(request, self.cancelled)) as tokens:
            for token in tokens:
                text = self._take(token, side, time.monotonic() - asked)
                if text:
                    chunk, self._unshown = Chunk(text, tuple(self._unshown), side), []
                    yield chunk
                if self._transcript.finish_reason:
                    break
                asked = time.monotonic()
        if self.cancelled.is_set():
            self.end(FinishReason.CANCELLED)
        self._measure(source, unread, self._waits[first:])
        if not self._transcript.finish_reason:
            raise SourceFailedError(f"{side} stopped before the text was finished")

    def _take(self, token: int, side: Source, wait: float) -> str:
        """Note one token; the text that is now safe to show."""
        text = self._transcript.push(token)
        if len(self._transcript.token_ids) > len(self._makers):  # not an end token
            self._last_token_at = time.monotonic()
            self._first_token_at = self._first_token_at or self._last_token_at
            self._makers.append(side)
            self._waits.append(wait)
            self._unshown.append(token)
        self._pieces.append(text)
        return text

    def _token_request(self) -> TokenRequest:
        request = self._request
        return TokenRequest(
            token_ids=(*request.prompt_ids, *self._transcript.token_ids),
            prompt_tokens=len(request.prompt_ids),
            max_tokens=self._transcript.tokens_left,
            sampling=request.sampling,
            end_ids=self._end_ids,
            sliding_window=request.sliding_window,
        )

    def _measure(self, source: TokenSource, unread: int, waits: list[float]) -> None:
        if waits:
            gap = sum(waits[1:]) / (len(waits) - 1) if len(waits) > 1 else None
            self._latency.add(source.key, Measurement(unread, waits[0], gap))


def _segments(makers: list[Source]) -> Iterator[Segment]:
    """Runs of tokens by the same source."""
    start = 0
    for index, maker in enumerate(makers):
        if index + 1 == len(makers) or makers[index + 1] is not maker:
            yield Segment(maker, start, index + 1 - start)
            start = index + 1
