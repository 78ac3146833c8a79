"""Sample events of one generation."""

from typing import Any

from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Outcome,
    Refused,
    Scored,
)
from edgewise.generation.result import Segment, Timings
from edgewise.policy.types import Decision, Privacy, Reason, Source, Veto, VetoCode
from edgewise_edge import FinishReason, Usage

DEVICE, CLOUD = Source.ON_DEVICE, Source.IN_CLOUD
DECIDED = Decision(source=DEVICE, reason=Reason.PREFERRED, vetoes={}, predicted={})
AFTER_FAILURE = Decision(
    source=DEVICE,
    reason=Reason.OTHER_VETOED,
    vetoes={CLOUD: Veto(VetoCode.FAILED, "10.1.2.3:50051 does not answer")},
    predicted={},
)

_FIELDS: dict[type[Event], dict[str, Any]] = {
    Decided: {"decision": DECIDED, "position": 7, "max_tokens": 20},
    AttemptEnded: {
        "source": DEVICE,
        "position": 7,
        "tokens": 5,
        "total": 2.0,
        "first_token": 0.5,
        "outcome": "finished",
    },
    HandedOver: {"source": DEVICE, "position": 9, "tokens": 2, "why": VetoCode.FAILED},
    Hedged: {"source": CLOUD, "after": 0.25},
    Completed: {
        "finish_reason": FinishReason.STOP,
        "usage": Usage(7, 5),
        "segments": (Segment(DEVICE, 0, 5),),
        "timings": Timings(time_to_first_token=0.5, total=2.0, tokens_per_second=4.0),
    },
    Scored: {"outcome": Outcome.FINISHED, "source": CLOUD, "tokens": 7, "total": 2.0},
    Refused: {"vetoes": {DEVICE: VetoCode.MEMORY, CLOUD: VetoCode.OFFLINE}, "tokens": 0},
}


def event(kind: type[Event], **changes: Any) -> Event:
    """An event of that kind, with some fields changed."""
    fields = {
        "generation": "g1",
        "model": "tales@3",
        "privacy": Privacy.ALLOW_CLOUD,
        "time": 1000.0,
        **_FIELDS[kind],
    }
    return kind(**fields | changes)
