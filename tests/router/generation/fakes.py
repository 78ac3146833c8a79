"""A scripted advisor, and generations on scripted sources, to test the loop without a policy."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from edgewise.device.limits import Limits
from edgewise.generation.attempt import Attempt
from edgewise.generation.event_emitter import EventEmitter
from edgewise.generation.events import Event, Observer
from edgewise.generation.loop import GenerationLoop
from edgewise.generation.partial_response import PartialResponse
from edgewise.generation.request import AllowCloudRequest, Request
from edgewise.generation.source import OpenAttempt, opener
from edgewise.generation.stream import TextStream
from edgewise.policy.advisor import Advisor
from edgewise.policy.types import (
    UNKNOWN,
    Decision,
    Mode,
    NoSource,
    Privacy,
    Progress,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)
from edgewise.testing import Script, ScriptedCloud, ScriptedDevice
from edgewise_edge import SamplingParams, Tokenizer
from edgewise_edge.decoding.tokenizer import END_OF_TEXT

DEVICE, CLOUD = Source.ON_DEVICE, Source.IN_CLOUD
HANDOFF = Veto(VetoCode.TEMPERATURE, "a scripted handoff", soft=True)  # of hands_off_after
Sources = dict[Source, ScriptedDevice | ScriptedCloud]

_MERGES = [b"th", b"the", b" the"]
END_ID = 256 + len(_MERGES)
TOKENIZER = Tokenizer(
    {token: id_ for id_, token in enumerate([*(bytes([byte]) for byte in range(256)), *_MERGES])},
    {END_OF_TEXT: END_ID},
)
PROMPT = tuple(TOKENIZER.encode("Once"))


def new_device(text: str, *scripts: Script, **options: Any) -> ScriptedDevice:
    """A device with the vocabulary of TOKENIZER."""
    return ScriptedDevice(text, *scripts, tokenizer=TOKENIZER, **options)


def new_cloud(text: str, *scripts: Script) -> ScriptedCloud:
    """A cloud with the vocabulary of TOKENIZER."""
    return ScriptedCloud(text, *scripts, tokenizer=TOKENIZER)


def new_source(source: Source, text: str, *scripts: Script) -> ScriptedDevice | ScriptedCloud:
    """Either of them."""
    return (new_device if source is DEVICE else new_cloud)(text, *scripts)


def hands_off_during_step(count: int) -> Script:
    """Generate `count` tokens, then hand off in a step, whose token counts."""

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, count)
        attempt.hand_off(HANDOFF)
        yield from islice(tokens, 1)

    return script


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
        self.limits, self.what_if = Limits(), False
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


def openers(sources: Sources, request: Request) -> dict[Source, OpenAttempt]:
    """Those of them that the request may use."""
    private = request.privacy is Privacy.PRIVATE
    return {
        name: opener(source, request.after)
        for name, source in sources.items()
        if not (private and name is CLOUD)
    }


def new_stream(
    sources: Sources,
    advisor: FakeAdvisor | Advisor,
    decision: Source | Decision = DEVICE,
    observers: Sequence[Observer] = (),
    **options: Any,
) -> TextStream:
    """A generation on these sources that starts with `decision`; options are new_request's."""
    request = new_request(**options)
    loop = GenerationLoop(
        decision_for(decision, Reason.PREFERRED) if isinstance(decision, Source) else decision,
        PartialResponse(request, TOKENIZER, "tiny@1", 0.0),
        advisor=advisor,
        sources_for=partial(openers, sources),
        emitter=EventEmitter(observers, "tiny@1", request.privacy),
    )
    return TextStream(loop)


def new_stream_with_events(
    sources: Sources, advisor: FakeAdvisor, **options: Any
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
