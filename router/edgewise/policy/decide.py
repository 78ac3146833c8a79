"""Which source answers: pure functions of the request and of the state of both sources.

No clock, no probe, no network, no globals.
"""

from collections.abc import Mapping
from dataclasses import replace

from edgewise.policy.types import (
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
    Mode,
    NoSource,
    PolicyLimits,
    PredictedTime,
    Progress,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)
from edgewise.policy.vetoes import cloud_veto, device_state_veto, device_veto, network_veto

MARGIN = 1.25  # predictions err: a comfortable fit allows this many times the predicted time
MIN_STALL = 1.0  # seconds without a token before a stall, whatever was expected
STALL_FACTOR = 10  # times the expected wait


def decide(
    request: RoutingRequest,
    device: DeviceState,
    edge: EdgeState,
    cloud: CloudState,
    limits: PolicyLimits,
) -> Decision | NoSource:
    """Choose a source. Vetoes come first, then the preferred source, unless it misses a budget.

    Where both sources have a veto, a soft one gives way: offline with a low battery, an answer is
    better than none. In the same way a generation returns to a source that it abandoned for a soft
    reason once the other one fails.
    """
    found = {
        Source.ON_DEVICE: device_veto(request, device, edge, limits),
        Source.IN_CLOUD: cloud_veto(request, device, cloud),
    }
    vetoes = {source: veto for source, veto in found.items() if veto}
    predicted = {Source.ON_DEVICE: edge.predicted, Source.IN_CLOUD: cloud.predicted}
    if len(vetoes) < len(Source):
        source, reason = _choose(request, vetoes, predicted)
    else:
        soft = [source for source in Source if vetoes[source].soft]  # the device first
        if not soft:
            return NoSource(vetoes)
        source, reason = soft[0], Reason.LAST_RESORT
    return Decision(
        source=source,
        reason=reason,
        vetoes=vetoes,
        predicted=predicted,
        queue_length=edge.queue_length,
    )


def reconsider(
    decision: Decision,
    progress: Progress,
    request: RoutingRequest,
    device: DeviceState,
    edge: EdgeState,
    cloud: CloudState,
    limits: PolicyLimits,
) -> Veto | None:
    """Why the running source should hand off to the other one now; None to continue.

    `decision` is the current one and `request` describes the rest of the generation. It moves only
    to a source without a veto, at most once for slowness, and returns to a source only as a last
    resort: it cannot flap. A cloud without a network cannot go on: there a soft veto on the device
    gives way.
    """
    if decision.reason is Reason.LAST_RESORT:
        return None
    if decision.source is Source.ON_DEVICE:
        if cloud_veto(request, device, cloud):
            return None
        veto = device_state_veto(device, edge, limits)
        if veto and Source.ON_DEVICE not in decision.vetoes:
            return replace(veto, soft=True)
        return _slow_veto(request, progress, cloud.predicted)
    there, gone = device_veto(request, device, edge, limits), network_veto(device)
    if gone and (there is None or there.soft):
        return replace(gone, soft=True)
    if there:
        return None
    return _stall_veto(progress) or _slow_veto(request, progress, edge.predicted)


def _stall_veto(progress: Progress) -> Veto | None:
    if progress.expected is None:
        return None
    if progress.silent <= max(MIN_STALL, STALL_FACTOR * progress.expected):
        return None
    return Veto(VetoCode.STALLED, f"it sent no token for {progress.silent:.1f} s", soft=True)


def _slow_veto(request: RoutingRequest, progress: Progress, other: PredictedTime) -> Veto | None:
    """If this source will miss a budget that the other one can keep with a margin."""
    if any(veto.code is VetoCode.TOO_SLOW for veto in request.abandoned.values()):
        return None
    waits = (
        (_until_next_token(progress), other.first_token, request.first_token_budget),
        (progress.remaining, other.total, request.latency_budget),
    )
    known = [(here, there, left) for here, there, left in waits if left is not None]
    misses = any(here is not None and here > left for here, _, left in known)
    other_fits = all(there is not None and there * MARGIN <= left for _, there, left in known)
    if not (misses and other_fits):
        return None
    return Veto(VetoCode.TOO_SLOW, "it would have missed the latency budget", soft=True)


def _until_next_token(progress: Progress) -> float:
    """Seconds. A token that is late is expected to take as long again as it is late."""
    return abs((progress.expected or 0.0) - progress.silent)


def _choose(
    request: RoutingRequest,
    vetoes: Mapping[Source, Veto],
    predicted: Mapping[Source, PredictedTime],
) -> tuple[Source, Reason]:
    cloud_first = request.mode in (Mode.PREFER_IN_CLOUD, Mode.ONLY_IN_CLOUD)
    preferred = Source.IN_CLOUD if cloud_first else Source.ON_DEVICE
    other = preferred.other
    if preferred in vetoes:
        fits = _fits(request, predicted[other])
        return other, Reason.OTHER_VETOED if fits else Reason.BUDGET_MISSED
    if _fits(request, predicted[preferred]):
        tight = not _fits(request, predicted[preferred], MARGIN)
        if tight and other not in vetoes and _fits(request, predicted[other], MARGIN):
            return other, Reason.BUDGET
        return preferred, Reason.PREFERRED
    if other in vetoes:
        return preferred, Reason.BUDGET_MISSED
    if _fits(request, predicted[other]):
        return other, Reason.BUDGET
    return _faster(request, predicted), Reason.BUDGET_MISSED


def _fits(request: RoutingRequest, predicted: PredictedTime, margin: float = 1.0) -> bool:
    """Whether `margin` times the predicted times keep the budgets. Unknown times fit."""
    return _overrun(request, predicted, margin) <= 0


def _faster(request: RoutingRequest, predicted: Mapping[Source, PredictedTime]) -> Source:
    """The source that overruns the budgets by less; a tie goes to the device."""
    device, cloud = (_overrun(request, predicted[source]) for source in Source)
    return Source.IN_CLOUD if cloud < device else Source.ON_DEVICE


def _overrun(request: RoutingRequest, predicted: PredictedTime, margin: float = 1.0) -> float:
    """Seconds by which the worst missed budget is missed; 0 if all are kept."""
    pairs = (
        (predicted.first_token, request.first_token_budget),
        (predicted.total, request.latency_budget),
    )
    known = [t * margin - budget for t, budget in pairs if t is not None and budget is not None]
    return max(0.0, *known) if known else 0.0
