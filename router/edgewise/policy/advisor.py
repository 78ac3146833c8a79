"""Gathers what is known about a request, the device and both sides, and asks the policy."""

from typing import TYPE_CHECKING

from edgewise.device.source import DeviceSource
from edgewise.device.state import DeviceProbe
from edgewise.generation.loop import Standing
from edgewise.generation.request import AllowCloudRequest, Request
from edgewise.policy.decide import decide, reconsider
from edgewise.policy.types import (
    CloudState,
    Decision,
    Limits,
    NoSource,
    Progress,
    RoutingRequest,
    Veto,
)

if TYPE_CHECKING:
    from edgewise.cloud.source import CloudSource


class Gathering:
    """The Advisor of a router. `in_cloud` is None where there is none."""

    def __init__(
        self,
        probe: DeviceProbe,
        limits: Limits,
        on_device: DeviceSource,
        in_cloud: "CloudSource | None",
        *,
        offline: bool,
    ) -> None:
        self._probe, self._limits, self._offline = probe, limits, offline
        self._on_device, self._in_cloud = on_device, in_cloud

    def decide(self, request: Request, standing: Standing) -> Decision | NoSource:
        """Choose a side for the rest of a text."""
        token_ids = (*request.prompt_ids, *standing.generated)
        routing = self._routing(request, standing)
        return decide(
            routing,
            self._probe(),
            self._on_device.state(token_ids, routing.max_tokens),
            self._cloud_state(request, routing),
            self._limits,
        )

    def reconsider(
        self, decision: Decision, progress: Progress, request: Request, standing: Standing
    ) -> Veto | None:
        """Why the side that writes should hand over; None to go on."""
        token_ids = (*request.prompt_ids, *standing.generated)
        routing = self._routing(request, standing)
        return reconsider(
            decision,
            progress,
            routing,
            self._probe(),
            self._on_device.state(token_ids, routing.max_tokens),
            self._cloud_state(request, routing),
            self._limits,
        )

    def _routing(self, request: Request, standing: Standing) -> RoutingRequest:
        written, elapsed = len(standing.generated), standing.elapsed
        return RoutingRequest(
            mode=request.mode,
            privacy=request.privacy,
            prompt_tokens=len(request.prompt_ids) + written,
            max_tokens=request.max_tokens - written,
            first_token_budget=None if written else _left(request.first_token_budget, elapsed),
            latency_budget=_left(request.latency_budget, elapsed),
            offline=self._offline,
            sliding_window=request.sliding_window,
            abandoned=standing.abandoned,
        )

    def _cloud_state(self, request: Request, routing: RoutingRequest) -> CloudState:
        # For a private request the cloud is not even looked at: a look may lead to a question.
        if self._in_cloud is None or not isinstance(request, AllowCloudRequest):
            return CloudState(address=None)
        return self._in_cloud.state(routing.prompt_tokens, routing.max_tokens)


def _left(budget: float | None, elapsed: float) -> float | None:
    return None if budget is None else budget - elapsed
