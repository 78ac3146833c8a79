"""Which side answers: pure functions of the request and of what is known about both sides.

No clock, no probe, no network, no state.
"""

from collections.abc import Mapping
from dataclasses import replace

from edgewise.policy.types import (
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
    Limits,
    Mode,
    NoSource,
    PredictedTime,
    Progress,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)
from edgewise.policy.vetoes import cloud_veto, device_veto, trouble

MARGIN = 1.25  # predictions err: a side should have so many times what it is predicted to need
STALL = 1.0  # seconds of silence that are no stall, whatever was expected
STALL_FACTOR = 10  # times what was expected


def decide(
    request: RoutingRequest,
    device: DeviceState,
    edge: EdgeState,
    cloud: CloudState,
    limits: Limits,
) -> Decision | NoSource:
    """Choose a side. Vetoes come first, then preference, bent by the budgets.

    A low battery sends requests to the cloud, and so does an answer that might be cut short; where
    the cloud may not answer either, the device does: it would be no help to anyone offline to fall
    silent at 19 %. Likewise a text goes back to a side that it left for the better, when that fails.
    """
    possible = {
        Source.ON_DEVICE: device_veto(request, device, edge, limits),
        Source.IN_CLOUD: cloud_veto(request, cloud),
    }
    vetoes = {side: veto for side, veto in possible.items() if veto}
    predicted = {Source.ON_DEVICE: edge.predicted, Source.IN_CLOUD: cloud.predicted}
    if len(vetoes) < len(Source):
        source, reason = _choose(request, vetoes, predicted)
    else:
        yielding = [side for side in Source if vetoes[side].soft]  # the device first
        if not yielding:
            return NoSource(vetoes)
        source, reason = yielding[0], Reason.LAST_RESORT
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
    limits: Limits,
) -> Veto | None:
    """Why the side that writes should hand over now to the other; None to go on.

    `decision` is the one in force and `request` asks for the rest of the text. A text moves only to
    a side without a veto, leaves a side for its slowness once, and never returns to one but as a
    last resort: it cannot be tossed to and fro.
    """
    if decision.reason is Reason.LAST_RESORT:
        return None
    if decision.source is Source.ON_DEVICE:
        if cloud_veto(request, cloud):
            return None
        found = trouble(device, edge, limits)
        if found and Source.ON_DEVICE not in decision.vetoes:
            return replace(found, soft=True)
        return _slowness(request, progress, cloud.predicted)
    if device_veto(request, device, edge, limits):
        return None
    return _stall(progress) or _slowness(request, progress, edge.predicted)


def _stall(progress: Progress) -> Veto | None:
    if progress.expected is None or progress.silent <= max(STALL, STALL_FACTOR * progress.expected):
        return None
    return Veto(VetoCode.STALLED, f"it was silent for {progress.silent:.1f} s", soft=True)


def _slowness(request: RoutingRequest, progress: Progress, other: PredictedTime) -> Veto | None:
    """Where this side will miss a budget that the other can keep, with some time to spare."""
    if any(veto.code is VetoCode.TOO_SLOW for veto in request.abandoned.values()):
        return None
    waits = (
        (_next(progress), other.first_token, request.first_token_budget),
        (progress.remaining, other.total, request.latency_budget),
    )
    known = [(h, o, left) for h, o, left in waits if left is not None]
    misses = any(here is not None and here > left for here, _, left in known)
    makes = all(there is not None and there * MARGIN <= left for _, there, left in known)
    if not (misses and makes):
        return None
    return Veto(VetoCode.TOO_SLOW, "it would have missed the budget", soft=True)


def _next(progress: Progress) -> float:
    """Seconds until the next token. What is late is taken to be late by as much again."""
    return abs((progress.expected or 0.0) - progress.silent)


def _choose(
    request: RoutingRequest,
    vetoes: Mapping[Source, Veto],
    predicted: Mapping[Source, PredictedTime],
) -> tuple[Source, Reason]:
    cloud_first = request.mode in (Mode.PREFER_IN_CLOUD, Mode.ONLY_IN_CLOUD)
    preferred = Source.IN_CLOUD if cloud_first else Source.ON_DEVICE
    if preferred in vetoes:
        fits = _fits(request, predicted[preferred.other])
        return preferred.other, Reason.OTHER_VETOED if fits else Reason.BUDGET_MISSED
    if _fits(request, predicted[preferred]):
        narrow = not _fits(request, predicted[preferred], MARGIN)
        other = _fits(request, predicted[preferred.other], MARGIN)
        if narrow and other and preferred.other not in vetoes:
            return preferred.other, Reason.BUDGET
        return preferred, Reason.PREFERRED
    if preferred.other in vetoes:
        return preferred, Reason.BUDGET_MISSED
    if _fits(request, predicted[preferred.other]):
        return preferred.other, Reason.BUDGET
    return _faster(request, predicted), Reason.BUDGET_MISSED


def _fits(request: RoutingRequest, predicted: PredictedTime, margin: float = 1.0) -> bool:
    """Whether so many times the prediction keeps the budgets; the unknown is given credit."""
    return _overrun(request, predicted, margin) <= 0


def _faster(request: RoutingRequest, predicted: Mapping[Source, PredictedTime]) -> Source:
    """The side that overruns the budgets by less; a tie goes to the device."""
    device, cloud = (_overrun(request, predicted[side]) for side in Source)
    return Source.IN_CLOUD if cloud < device else Source.ON_DEVICE


def _overrun(request: RoutingRequest, predicted: PredictedTime, margin: float = 1.0) -> float:
    """Seconds by which the worst missed budget is missed; 0 where all are kept."""
    pairs = (
        (predicted.first_token, request.first_token_budget),
        (predicted.total, request.latency_budget),
    )
    known = [t * margin - budget for t, budget in pairs if t is not None and budget is not None]
    return max(0.0, *known) if known else 0.0
