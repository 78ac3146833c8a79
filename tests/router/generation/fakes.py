"""Scripted sources and a scripted advisor: the generation loop by itself."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Unpack

from edgewise.errors import SourceFailedError
from edgewise.generation.attempt import Attempt, AttemptOptions
from edgewise.generation.event_emitter import EventEmitter
from edgewise.generation.events import Observer
from edgewise.generation.loop import GenerationLoop
from edgewise.generation.partial_response import PartialResponse
from edgewise.generation.request import AllowCloudRequest, Request
from edgewise.generation.source import opener
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
MOVE = Veto(VetoCode.TEMPERATURE, "told to hand off", soft=True)

_MERGES = [b"th", b"the", b" the"]
END_ID = 256 + len(_MERGES)
TOKENIZER = Tokenizer(
    {token: id_ for id_, token in enumerate([*(bytes([byte]) for byte in range(256)), *_MERGES])},
    {END_OF_TEXT: END_ID},
)
PROMPT = tuple(TOKENIZER.encode("Once"))

# What a source does in one attempt with the tokens that are next in the text.
Script = Callable[[Iterator[int], Attempt], Iterator[int]]


def continues(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
    """Generate until stopped."""
    for token in tokens:
        if attempt.stop.is_set():
            return
        yield token


def fails(after: int = 0, error: Exception | None = None) -> Script:
    """Generate `after` tokens, then raise."""

    def script(tokens: Iterator[int], _attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, after)
        raise error or SourceFailedError("told to fail")

    return script


def ends(after: int = 0) -> Script:
    """Generate `after` tokens, then end without an error."""
    return lambda tokens, _attempt: islice(tokens, after)


def hands_off(after: int = 0, *, in_a_step: bool = False) -> Script:
    """Generate `after` tokens, then be stopped: between two steps, or in one, whose token counts."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, after)
        attempt.hand_off(MOVE)
        yield from islice(tokens, int(in_a_step))

    return script


def hangs(after: int = 0, reached: threading.Event | None = None) -> Script:
    """Generate `after` tokens, then none until stopped."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, after)
        if reached:
            reached.set()
        attempt.stop.wait()

    return script


def waits_for(event: threading.Event, then: Script = continues) -> Script:
    """Generate nothing before `event`."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        event.wait()
        yield from then(tokens, attempt)

    return script


class FakeSource:
    """A source that knows the `text` and its end; one script per attempt, then it completes it.

    Whatever it is asked, it gives the tokens that belong at the position where it starts. An attempt
    ends at `context_window`.
    """

    def __init__(
        self, text: Sequence[int], *scripts: Script, context_window: int | None = None
    ) -> None:
        self.context_window = context_window
        self.source = DEVICE
        self.asked: list[TokenRequest] = []  # of attempts that ran
        self.attempts: list[Attempt] = []  # those that were opened
        self.ended: list[Attempt] = []
        self.has_ended = threading.Event()
        self._text, self._scripts = (*text, END_ID), iter(scripts)

    def open(self, request: TokenRequest, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """Note it."""
        if self.context_window is not None and not request.sliding_window:
            room = self.context_window - request.position
            request = replace(request, max_tokens=min(request.max_tokens, room))
        run = partial(self.run, request)
        attempt = Attempt(self.source, request.position, request.max_tokens, run, **options)
        self.attempts.append(attempt)
        return attempt

    def run(self, request: TokenRequest, attempt: Attempt) -> Iterator[int]:
        """As the next script says, and never more than was asked for."""
        self.asked.append(request)
        start = request.position - request.prompt_tokens
        rest = iter(self._text[start : start + request.max_tokens])
        attempt.ready(uncached=request.position)
        try:
            yield from next(self._scripts, continues)(rest, attempt)
        finally:
            self.ended.append(attempt)
            self.has_ended.set()


def chose(source: Source, reason: Reason = Reason.OTHER_VETOED, **fields: Any) -> Decision:
    """A decision."""
    predicted = dict.fromkeys(Source, UNKNOWN)
    return Decision(
        **{"source": source, "reason": reason, "vetoes": {}, "predicted": predicted} | fields
    )


REFUSED = NoSource({side: Veto(VetoCode.FAILED, "told to refuse") for side in Source})

# Called with the progress and the new tokens so far; a veto means: hand off.
Check = Callable[[Progress, Sequence[int]], Veto | None]


class FakeAdvisor:
    """Makes the decisions it was given, one after the other; then refuses."""

    def __init__(
        self,
        *answers: Source | Decision | NoSource,
        check: Check = lambda _progress, _generated: None,
    ) -> None:
        self.requests: list[RoutingRequest] = []
        self.generated: list[tuple[int, ...]] = []
        self._answers, self._check = iter(answers), check

    def decide(self, request: RoutingRequest, token_ids: Sequence[int]) -> Decision | NoSource:
        """The next answer."""
        self.requests.append(request)
        self.generated.append(tuple(token_ids[len(PROMPT) :]))
        answer = next(self._answers, REFUSED)
        return chose(answer) if isinstance(answer, Source) else answer

    def reconsider(
        self,
        _decision: Decision,
        progress: Progress,
        _request: RoutingRequest,
        token_ids: Sequence[int],
    ) -> Veto | None:
        """What `check` says."""
        return self._check(progress, token_ids[len(PROMPT) :])


def tokens_of(text: str) -> tuple[int, ...]:
    """Its tokens, those of the vocabulary above."""
    return tuple(TOKENIZER.encode(text))


def request_for(kind: type[Request] = AllowCloudRequest, **options: Any) -> Request:
    """A request."""
    fields = {
        "prompt_ids": PROMPT,
        "max_tokens": 64,
        "sampling": SamplingParams(temperature=0, seed=7, repetition_penalty=1.3),
        "mode": Mode.PREFER_ON_DEVICE,
        "end_ids": TOKENIZER.end_ids,
    }
    return kind(**fields | options)


def loop_of(
    sources: dict[Source, FakeSource],
    advisor: FakeAdvisor,
    decision: Source | Decision = DEVICE,
    observers: Sequence[Observer] = (),
    request: Request | None = None,
    **options: Any,
) -> GenerationLoop:
    """A generation about to start on these sources, `decision` first."""
    request = request or request_for(**options)
    for name, source in sources.items():
        source.source = name
    return GenerationLoop(
        chose(decision, Reason.PREFERRED) if isinstance(decision, Source) else decision,
        PartialResponse(request, TOKENIZER, "tiny@1", 0.0),
        advisor=advisor,
        sources={name: opener(source, request.after) for name, source in sources.items()},
        emitter=EventEmitter(observers, "tiny@1", request.privacy),
    )
