"""A default situation for decide(), and helpers to change it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgewise.device.limits import Limits
from edgewise.policy.decide import decide, reconsider
from edgewise.policy.types import (
    Availability,
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
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

ON_DEVICE, IN_CLOUD = Source.ON_DEVICE, Source.IN_CLOUD
LIMITS = Limits(queue_timeout=0)  # so that a full queue is a hard veto
RESERVE = LIMITS.memory_reserve


REQUEST = RoutingRequest(
    mode=Mode.PREFER_ON_DEVICE, privacy=Privacy.ALLOW_CLOUD, prompt_tokens=10, max_tokens=20
)
DEVICE = DeviceState()
EDGE = EdgeState(availability=Availability.AVAILABLE, context_window=128)
CLOUD = CloudState(address="cloud:1", context_window=128)


@dataclass(frozen=True)
class Situation:
    """The arguments of decide(); by default both sources may answer."""

    request: RoutingRequest = REQUEST
    device: DeviceState = DEVICE
    edge: EdgeState = EDGE
    cloud: CloudState = CLOUD
    limits: Limits = LIMITS

    def but(self, changes: Mapping[str, Mapping[str, Any]]) -> "Situation":
        """A copy with some attributes of some parts changed."""
        return replace(
            self, **{part: replace(getattr(self, part), **new) for part, new in changes.items()}
        )

    def decide(self) -> Decision | NoSource:
        """Call the policy."""
        return decide(self.request, self.device, self.edge, self.cloud, self.limits)

    def reconsider(self, decision: Decision, progress: Progress) -> Veto | None:
        """Call the policy for a running generation."""
        return reconsider(
            decision,
            progress,
            self.request,
            self.device,
            self.edge,
            self.cloud,
            self.limits,
        )


def abandoned(source: Source, code: VetoCode = VetoCode.FAILED, **fields: Any) -> dict[str, Any]:
    """The change that makes the request the rest of a generation that left `source`."""
    return {"abandoned": {source: Veto(code, **{"detail": "it hung up", **fields})}}


def outcome(**changes: Mapping[str, Any]) -> Decision | NoSource:
    """What is decided after these changes to the default situation."""
    return Situation().but(changes).decide()


def decided(**changes: Mapping[str, Any]) -> tuple[Source, Reason]:
    """The source and the reason, if there is a decision."""
    decision = outcome(**changes)
    assert isinstance(decision, Decision)
    return decision.source, decision.reason


def veto_codes(decision: Decision | NoSource) -> dict[Source, VetoCode]:
    """The code of each source's veto."""
    return {source: veto.code for source, veto in decision.vetoes.items()}


# Each veto with the changes that cause it, in the order in which they are checked.
HARD_CLOUD_VETOES = [
    (VetoCode.PRIVATE, {"request": {"privacy": Privacy.PRIVATE}}),
    (VetoCode.MODE, {"request": {"mode": Mode.ONLY_ON_DEVICE}}),
    (VetoCode.OFFLINE, {"request": {"offline": True}}),
    (VetoCode.FAILED, {"request": abandoned(IN_CLOUD)}),
    (VetoCode.NO_ADDRESS, {"cloud": {"address": None}}),
    (VetoCode.NO_NETWORK, {"device": {"network": False}}),
    (VetoCode.CIRCUIT_OPEN, {"cloud": {"circuit_open": True}}),
    (VetoCode.CONTEXT_WINDOW, {"cloud": {"context_window": 29}}),
    (VetoCode.BUSY, {"cloud": {"busy_for": 0.1}}),
]
SOFT_CLOUD_VETOES = [
    (VetoCode.STALLED, {"request": abandoned(IN_CLOUD, VetoCode.STALLED, soft=True)}),
]
CLOUD_VETOES = HARD_CLOUD_VETOES + SOFT_CLOUD_VETOES
HARD_DEVICE_VETOES = [
    (VetoCode.MODE, {"request": {"mode": Mode.ONLY_IN_CLOUD}}),
    (VetoCode.FAILED, {"request": abandoned(ON_DEVICE)}),
    (VetoCode.MODEL_UNAVAILABLE, {"edge": {"availability": Availability.UNAVAILABLE}}),
    (VetoCode.CONTEXT_WINDOW, {"edge": {"context_window": 10}}),  # the prompt alone
    (
        VetoCode.MEMORY,
        {"device": {"available_memory": 0}, "edge": {"memory_needed": 1000}},
    ),
    (VetoCode.QUEUE_FULL, {"edge": {"queue_length": 8}}),
]
SOFT_DEVICE_VETOES = [
    (VetoCode.CONTEXT_WINDOW, {"edge": {"context_window": 29}}),  # with the answer
    (VetoCode.TEMPERATURE, {"device": {"temperature": 99.0}}),
    (VetoCode.BATTERY, {"device": {"battery": 0.1}}),
    (VetoCode.LOW_POWER, {"device": {"low_power_mode": True}}),
    (VetoCode.MEMORY, {"device": {"memory_pressure": 0.9}}),
    (VetoCode.TOO_SLOW, {"request": abandoned(ON_DEVICE, VetoCode.TOO_SLOW, soft=True)}),
]
DEVICE_VETOES = HARD_DEVICE_VETOES + SOFT_DEVICE_VETOES
