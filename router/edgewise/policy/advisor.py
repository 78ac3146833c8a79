"""Reads the policy's current inputs and applies the policy to them."""

from collections.abc import Callable, Sequence

from edgewise.policy.decide import decide, reconsider
from edgewise.policy.types import (
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
    NoSource,
    PolicyLimits,
    Privacy,
    Progress,
    RoutingRequest,
    Veto,
)

_NO_CLOUD = CloudState(address=None)


class Advisor:
    """Chooses a source from the state of the device, the model and the cloud.

    `edge_state` is called with the tokens so far and the number of new ones, `cloud_state` (None:
    no cloud is set) with both as numbers. Neither may block.
    """

    def __init__(
        self,
        device_state: Callable[[], DeviceState],
        edge_state: Callable[[Sequence[int], int], EdgeState],
        cloud_state: Callable[[int, int], CloudState] | None,
        limits: PolicyLimits,
    ) -> None:
        self._device_state, self._edge_state = device_state, edge_state
        self._cloud_state, self.limits = cloud_state, limits
        self.what_if = False  # whether the device's state is made up for one request

    def on(self, device_state: Callable[[], DeviceState]) -> "Advisor":
        """One for a single request, on a device that is made up for it."""
        advisor = Advisor(device_state, self._edge_state, self._cloud_state, self.limits)
        advisor.what_if = True
        return advisor

    def decide(self, request: RoutingRequest, token_ids: Sequence[int]) -> Decision | NoSource:
        """Choose a source for the tokens that follow `token_ids`."""
        return decide(request, *self._inputs(request, token_ids))

    def reconsider(
        self,
        decision: Decision,
        progress: Progress,
        request: RoutingRequest,
        token_ids: Sequence[int],
    ) -> Veto | None:
        """Why the running source should hand off now; None to continue."""
        return reconsider(decision, progress, request, *self._inputs(request, token_ids))

    # A score asks for no new token, and takes at least as long as a first one.
    def _inputs(
        self, request: RoutingRequest, token_ids: Sequence[int]
    ) -> tuple[DeviceState, EdgeState, CloudState, PolicyLimits]:
        return (
            self._device_state(),
            self._edge_state(token_ids, max(1, request.max_tokens)),
            self._cloud(request),
            self.limits,
        )

    def _cloud(self, request: RoutingRequest) -> CloudState:
        # Not for a private request: reading the cloud's state may start a health probe.
        if self._cloud_state is None or request.privacy is not Privacy.ALLOW_CLOUD:
            return _NO_CLOUD
        return self._cloud_state(request.prompt_tokens, max(1, request.max_tokens))
