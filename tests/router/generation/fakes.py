"""Scripted sources and a scripted advisor, to test the generation loop without a model."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Unpack

from edgewise.errors import SourceFailedError
from edgewise.generation.attempt import Attempt, AttemptOptions
from edgewise.generation.event_emitter import EventEmitter
from edgewise.generation.events import Event, Observer
from edgewise.generation.loop import GenerationLoop
from edgewise.generation.partial_response import PartialResponse
from edgewise.generation.request import AllowCloudRequest, Request
from edgewise.generation.source import opener
from edgewise.generation.stream import TextStream
from edgewise.policy.advisor import Advisor
from edgewise.policy.types import (
    UNKNOWN,
    Decision,
    Mode,
    NoSource,
    Progress,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)
from edgewise_edge import SamplingParams, Tokenizer, TokenRequest
from edgewise_edge.decoding.tokenizer import END_OF_TEXT

DEVICE, CLOUD = Source.ON_DEVICE, Source.IN_CLOUD
HANDOFF = Veto(VetoCode.TEMPERATURE, "a scripted handoff", soft=True)

_MERGES = [b"th", b"the", b" the"]
END_ID = 256 + len(_MERGES)
TOKENIZER = Tokenizer(
    {token: id_ for id_, token in enumerate([*(bytes([byte]) for byte in range(256)), *_MERGES])},
    {END_OF_TEXT: END_ID},
)
PROMPT = tuple(TOKENIZER.encode("Once"))

# One attempt: the tokens that it generates, given all remaining tokens of the answer.
Script = Callable[[Iterator[int], Attempt], Iterator[int]]


def completes(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
    """Generate all tokens, unless stopped."""
    for token in tokens:
        if attempt.stop.is_set():
            return
        yield token


def fails_after(count: int, error: Exception | None = None) -> Script:
    """Generate `count` tokens, then raise."""

    def script(tokens: Iterator[int], _attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, count)
        raise error or SourceFailedError("a scripted failure")

    return script


def ends_after(count: int) -> Script:
    """Generate `count` tokens, then end without an error."""
    return lambda tokens, _attempt: islice(tokens, count)


def hands_off_after(count: int, *, during_step: bool = False) -> Script:
    """Generate `count` tokens, then hand off: between two steps, or in one, whose token counts."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, count)
        attempt.hand_off(HANDOFF)
        yield from islice(tokens, int(during_step))

    return script


def hangs_after(count: int, hanging: threading.Event | None = None) -> Script:
    """Generate `count` tokens, set `hanging`, then wait to be stopped."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, count)
        if hanging:
            hanging.set()
        attempt.stop.wait()

    return script


def waits_for(event: threading.Event, then: Script = completes) -> Script:
    """Wait for `event`, then run another script."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        event.wait()
        yield from then(tokens, attempt)

    return script


class FakeSource:
    """A source that knows the whole answer; it runs one script per attempt, then `completes`.

    An attempt generates the tokens of `answer` from its position on, and an end token after them,
    up to its max_tokens and the `context_window`.
    """

    def __init__(
        self, answer: Sequence[int], *scripts: Script, context_window: int | None = None
    ) -> None:
        self.context_window = context_window
        self.source = DEVICE
        self.requests: list[TokenRequest] = []  # of the attempts that ran
        self.attempts: list[Attempt] = []  # those that were opened
        self.ended: list[Attempt] = []
        self.has_ended = threading.Event()
        self._answer, self._scripts = (*answer, END_ID), iter(scripts)

    def open(self, request: TokenRequest, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """See TokenSource."""
        if self.context_window is not None and not request.sliding_window:
            room = self.context_window - request.position
            request = replace(request, max_tokens=min(request.max_tokens, room))
        run = partial(self.run, request)
        attempt = Attempt(self.source, request.position, request.max_tokens, run, **options)
        self.attempts.append(attempt)
        return attempt

    def run(self, request: TokenRequest, attempt: Attempt) -> Iterator[int]:
        """Attempt.run: the next script."""
        self.requests.append(request)
        start = request.position - request.prompt_tokens
        tokens = iter(self._answer[start : start + request.max_tokens])
        attempt.ready(uncached=request.position)
        try:
            yield from next(self._scripts, completes)(tokens, attempt)
        finally:
            self.ended.append(attempt)
            self.has_ended.set()


def decision_for(source: Source, reason: Reason = Reason.OTHER_VETOED, **fields: Any) -> Decision:
    """A decision for `source`, without vetoes and predictions."""
    predicted = dict.fromkeys(Source, UNKNOWN)
    return Decision(
        **{"source": source, "reason": reason, "vetoes": {}, "predicted": predicted} | fields
    )


REFUSAL = NoSource({source: Veto(VetoCode.FAILED, "a scripted refusal") for source in Source})

# Called by the monitor with the progress and the tokens so far; a veto hands off.
Check = Callable[[Progress, Sequence[int]], Veto | None]


class FakeAdvisor:
    """Returns the given decisions in order, then refuses; `check` answers the monitor."""

    def __init__(
        self,
        *decisions: Source | Decision | NoSource,
        check: Check = lambda _progress, _generated: None,
    ) -> None:
        self.requests: list[RoutingRequest] = []
        self.generated: list[tuple[int, ...]] = []  # the tokens so far at each decision
        self._decisions, self._check = iter(decisions), check

    def decide(self, request: RoutingRequest, token_ids: Sequence[int]) -> Decision | NoSource:
        """See Advisor."""
        self.requests.append(request)
        self.generated.append(tuple(token_ids[len(PROMPT) :]))
        decision = next(self._decisions, REFUSAL)
        return decision_for(decision) if isinstance(decision, Source) else decision

    def reconsider(
        self,
        _decision: Decision,
        progress: Progress,
        _request: RoutingRequest,
        token_ids: Sequence[int],
    ) -> Veto | None:
        """See Advisor."""
        return self._check(progress, token_ids[len(PROMPT) :])


def tokens_of(text: str) -> tuple[int, ...]:
    """Its tokens in the vocabulary of TOKENIZER."""
    return tuple(TOKENIZER.encode(text))


def new_request(kind: type[Request] = AllowCloudRequest, **options: Any) -> Request:
    """A request with some fields changed."""
    fields = {
        "prompt_ids": PROMPT,
        "max_tokens": 64,
        "sampling": SamplingParams(temperature=0, seed=7, repetition_penalty=1.3),
        "mode": Mode.PREFER_ON_DEVICE,
        "end_ids": TOKENIZER.end_ids,
    }
    return kind(**fields | options)


def new_stream(
    sources: dict[Source, FakeSource],
    advisor: FakeAdvisor | Advisor,
    decision: Source | Decision = DEVICE,
    observers: Sequence[Observer] = (),
    **options: Any,
) -> TextStream:
    """A generation on these sources that starts with `decision`; options are new_request's."""
    request = new_request(**options)
    for name, source in sources.items():
        source.source = name
    loop = GenerationLoop(
        decision_for(decision, Reason.PREFERRED) if isinstance(decision, Source) else decision,
        PartialResponse(request, TOKENIZER, "tiny@1", 0.0),
        advisor=advisor,
        sources={name: opener(source, request.after) for name, source in sources.items()},
        emitter=EventEmitter(observers, "tiny@1", request.privacy),
    )
    return TextStream(loop)


def new_stream_with_events(
    sources: dict[Source, FakeSource], advisor: FakeAdvisor, **options: Any
) -> tuple[TextStream, list[Event]]:
    """A new stream, and the list to which its events are added."""
    events: list[Event] = []
    return new_stream(sources, advisor, observers=[events.append], **options), events


def read(stream: TextStream) -> str:
    """The rest of its text."""
    return "".join(chunk.text for chunk in stream)


def names_of(events: Sequence[Event]) -> list[str]:
    """The class of each event."""
    return [type(event).__name__ for event in events]
