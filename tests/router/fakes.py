"""Sides that do as they are told, and an advisor that answers from a list: the loop by itself."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from edgewise.errors import SourceFailedError
from edgewise.generation.attempt import Attempt
from edgewise.generation.event_emitter import Telling
from edgewise.generation.events import Announcer, Observer
from edgewise.generation.loop import Standing, Writing
from edgewise.generation.partial_response import Draft
from edgewise.generation.request import AllowCloudRequest, Request
from edgewise.generation.source import Side
from edgewise.policy.types import (
    UNKNOWN,
    Decision,
    Mode,
    NoSource,
    Progress,
    Reason,
    Source,
    Veto,
    VetoCode,
)
from edgewise_edge import SamplingParams, Tokenizer, TokenRequest
from edgewise_edge.decoding.tokenizer import END_OF_TEXT

DEVICE, CLOUD = Source.ON_DEVICE, Source.IN_CLOUD
MOVE = Veto(VetoCode.TEMPERATURE, "it was told to leave", soft=True)

_MERGES = [b"th", b"the", b" the"]
END_ID = 256 + len(_MERGES)
TOKENIZER = Tokenizer(
    {token: id_ for id_, token in enumerate([*(bytes([byte]) for byte in range(256)), *_MERGES])},
    {END_OF_TEXT: END_ID},
)
PROMPT = tuple(TOKENIZER.encode("Once"))

# What a side does in one run with the tokens that are next in the text.
Script = Callable[[Iterator[int], Attempt], Iterator[int]]


def goes_on(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
    """Write until it is stopped."""
    for token in tokens:
        if attempt.stop.is_set():
            return
        yield token


def fails(after: int = 0, error: Exception | None = None) -> Script:
    """Write so many tokens, and break."""

    def script(tokens: Iterator[int], _attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, after)
        raise error or SourceFailedError("it was told to fail")

    return script


def ends(after: int = 0) -> Script:
    """Write so many tokens, and leave off as if that were all."""
    return lambda tokens, _attempt: islice(tokens, after)


def hands_over(after: int = 0, *, in_a_step: bool = False) -> Script:
    """Write so many tokens, and be stopped: between two steps, or in one, whose token counts."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, after)
        attempt.hand_over(MOVE)
        yield from islice(tokens, int(in_a_step))

    return script


def hangs(after: int = 0, reached: threading.Event | None = None) -> Script:
    """Write so many tokens, and then nothing until it is stopped."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, after)
        if reached:
            reached.set()
        attempt.stop.wait()

    return script


def waits_for(event: threading.Event, then: Script = goes_on) -> Script:
    """Have no token before `event`."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        event.wait()
        yield from then(tokens, attempt)

    return script


class FakeSource:
    """A side that knows the `text` by heart, and its end; one script a run, then it goes on.

    Whatever it is asked, it gives the tokens that belong at the place where it was asked to begin.
    """

    def __init__(self, text: Sequence[int], *scripts: Script, cuts_at: int | None = None) -> None:
        self.cuts_at = cuts_at
        self.asked: list[TokenRequest] = []
        self.attempts: list[Attempt] = []
        self.ended: list[Attempt] = []
        self.learned: list[Attempt] = []
        self.has_ended = threading.Event()
        self._text, self._scripts = (*text, END_ID), iter(scripts)

    def prepare(self, _request: TokenRequest, attempt: Attempt) -> None:
        """Note it."""
        self.attempts.append(attempt)

    def uncached(self, request: TokenRequest) -> int:
        """All of them."""
        return request.position

    def stream(self, request: TokenRequest, attempt: Attempt) -> Iterator[int]:
        """As the next script says, and never more than was asked for."""
        self.asked.append(request)
        start = request.position - request.prompt_tokens
        rest = iter(self._text[start : start + request.max_tokens])
        try:
            yield from next(self._scripts, goes_on)(rest, attempt)
        finally:
            self.ended.append(attempt)
            self.has_ended.set()

    def learn(self, attempt: Attempt) -> None:
        """Note it."""
        self.learned.append(attempt)


def chose(source: Source, reason: Reason = Reason.OTHER_VETOED, **fields: Any) -> Decision:
    """A decision."""
    predicted = dict.fromkeys(Source, UNKNOWN)
    return Decision(
        **{"source": source, "reason": reason, "vetoes": {}, "predicted": predicted} | fields
    )


REFUSED = NoSource({side: Veto(VetoCode.FAILED, "it was told so") for side in Source})

Look = Callable[[Progress, Standing], Veto | None]


class FakeAdvisor:
    """Chooses what it was told to, one after the other; then refuses."""

    def __init__(
        self, *answers: Source | Decision | NoSource, look: Look = lambda _progress, _standing: None
    ) -> None:
        self.standings: list[Standing] = []
        self._answers, self._look = iter(answers), look

    def decide(self, _request: Request, standing: Standing) -> Decision | NoSource:
        """The next answer."""
        self.standings.append(standing)
        answer = next(self._answers, REFUSED)
        return chose(answer) if isinstance(answer, Source) else answer

    def reconsider(
        self, _decision: Decision, progress: Progress, _request: Request, standing: Standing
    ) -> Veto | None:
        """What `look` says."""
        return self._look(progress, standing)


def tokens_of(text: str) -> tuple[int, ...]:
    """Its tokens, those of the vocabulary above."""
    return tuple(TOKENIZER.encode(text))


def asked_for(kind: type[Request] = AllowCloudRequest, **options: Any) -> Request:
    """A request."""
    fields = {
        "prompt_ids": PROMPT,
        "max_tokens": 64,
        "sampling": SamplingParams(temperature=0, seed=7, repetition_penalty=1.3),
        "stop": (),
        "mode": Mode.PREFER_ON_DEVICE,
        "first_token_budget": None,
        "latency_budget": None,
    }
    return kind(**fields | options)


def writing(
    sources: dict[Source, FakeSource],
    advisor: FakeAdvisor,
    decision: Source | Decision = DEVICE,
    observers: Iterable[Observer] = (),
    request: Request | None = None,
    **options: Any,
) -> Writing:
    """A text about to be written by these sides, `decision` first."""
    request = request or asked_for(**options)
    return Writing(
        request,
        chose(decision, Reason.PREFERRED) if isinstance(decision, Source) else decision,
        Draft(request, TOKENIZER, "tiny@1", 0.0),
        advisor=advisor,
        sides={side: Side(source, request.tokens) for side, source in sources.items()},
        telling=Telling(Announcer(observers), "tiny@1", request.privacy),
    )
