"""One text being written: decide, run, and on failure decide again with the tokens so far."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Protocol, Self

from edgewise.errors import CloudUnavailableError, NoSourceError, SourceFailedError
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

    def prepare(self) -> None:
        """Do what is needed once, before the first request; raises as `stream` does."""

    def stream(self, request: TokenRequest, /) -> Generator[int, None, None]:
        """The new tokens; raises one of `Failure`; closing it cancels the work."""


# Decides for `tokens` already there (prompt and answer), given the sides that failed.
Decide = Callable[[Request, int, dict[Source, str]], Decision | NoSource]


class TextStream(Iterator[Chunk]):
    """Chunks as they come. Closing it (or leaving its `with`) cancels what is still running.

    Raises NoSourceError when the side that runs fails and no other may go on.
    """

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
        """The decision in force."""
        self._request, self._model, self._started = request, model, started
        self._decide, self._source, self._latency = decide, source, latency
        self._end_ids = tokenizer.end_ids
        self._transcript = Transcript(tokenizer, request.max_tokens, request.stop)
        self._makers: list[Source] = []  # one for each token
        self._unshown: list[int] = []  # tokens whose text is held back
        self._pieces: list[str] = []
        self._token_times: list[float] = []
        self._chunks = self._run()

    def __next__(self) -> Chunk:
        """The next chunk."""
        return next(self._chunks)

    def close(self) -> None:
        """Stop here; `generation` then holds what was written, as cancelled."""
        self._chunks.close()
        self._end(FinishReason.CANCELLED)

    def __enter__(self) -> Self:
        """Use as a context manager to be sure that it is closed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    @property
    def generation(self) -> Generation:
        """The result so far; complete once the stream has ended."""
        tokens = len(self._transcript.token_ids)
        times = self._token_times
        writing = times[-1] - times[0] if len(times) > 1 else 0.0
        return Generation(
            text="".join(self._pieces),
            token_ids=tuple(self._transcript.token_ids),
            finish_reason=self._transcript.finish_reason or FinishReason.CANCELLED,
            model=self._model,
            source=self._makers[-1] if self._makers else self.decision.source,
            segments=tuple(_segments(self._makers[:tokens])),
            decision=self.decision,
            usage=Usage(len(self._request.prompt_ids), tokens),
            timings=Timings(
                time_to_first_token=times[0] - self._started if times else None,
                total=(times[-1] if times else time.monotonic()) - self._started,
                tokens_per_second=(len(times) - 1) / writing if writing else None,
            ),
            seed=self._request.sampling.seed,
        )

    def _run(self) -> Generator[Chunk, None, None]:
        failed: dict[Source, str] = {}
        while True:
            try:
                yield from self._attempt(self.decision.source)
                return
            except Failure as error:
                failed[self.decision.source] = str(error)
                reached = len(self._request.prompt_ids) + len(self._transcript.token_ids)
                outcome = self._decide(self._request, reached, failed)
                if isinstance(outcome, NoSource):
                    self._end(FinishReason.ERROR)
                    raise NoSourceError(outcome) from error
                self.decision = outcome

    def _attempt(self, side: Source) -> Generator[Chunk, None, None]:
        request, source = self._token_request(), self._source(side)
        source.prepare()
        started, first = time.monotonic(), len(self._token_times)
        with closing(source.stream(request)) as tokens:
            for token in tokens:
                self._token_times.append(time.monotonic())
                self._makers.append(side)
                self._unshown.append(token)
                if text := self._transcript.push(token):
                    self._pieces.append(text)
                    chunk, self._unshown = Chunk(text, tuple(self._unshown), side), []
                    yield chunk
                if self._transcript.finish_reason:
                    break
        self._measure(source, request, started, self._token_times[first:])
        if not self._transcript.finish_reason:
            raise CloudUnavailableError(f"{side} stopped before the text was finished")

    def _token_request(self) -> TokenRequest:
        request = self._request
        return TokenRequest(
            token_ids=(*request.prompt_ids, *self._transcript.token_ids),
            prompt_tokens=len(request.prompt_ids),
            max_tokens=self._transcript.tokens_left,
            sampling=request.sampling,
            end_ids=self._end_ids,
        )

    def _measure(
        self, source: TokenSource, request: TokenRequest, started: float, times: list[float]
    ) -> None:
        if times:
            gap = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None
            measurement = Measurement(request.position, times[0] - started, gap)
            self._latency.add(source.key, measurement)

    def _end(self, reason: FinishReason) -> None:
        if not self._transcript.finish_reason:
            self._pieces.append(self._transcript.finish(reason))


def _segments(makers: list[Source]) -> Iterator[Segment]:
    """Runs of tokens by the same source."""
    start = 0
    for index, maker in enumerate(makers):
        if index + 1 == len(makers) or makers[index + 1] is not maker:
            yield Segment(maker, start, index + 1 - start)
            start = index + 1
