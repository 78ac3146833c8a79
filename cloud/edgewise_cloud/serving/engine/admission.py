"""Whether a request is admitted, and which waiting one gives way to it."""

import time
from collections.abc import Sequence

import grpc

from edgewise_cloud.serving.engine.fair_share import in_fair_order
from edgewise_cloud.serving.engine.request import EngineRequest
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.engine.step_time import StepTimeEstimator
from edgewise_cloud.serving.types import RefusedError

_MIN_RETRY = 0.1  # seconds


def admit(
    request: EngineRequest,
    running: Sequence[EngineRequest],
    waiting: Sequence[EngineRequest],
    settings: EngineSettings,
    step_times: StepTimeEstimator,
) -> list[tuple[EngineRequest, RefusedError]]:
    """Raise RefusedError now for what would fail later; otherwise `request` may wait.

    Returns the requests that must give way to it, with their refusals: where everything is taken,
    the last one of a caller that has more requests than this one's.
    """
    order = in_fair_order([*waiting, request], running)
    full = len(running) + len(waiting) >= settings.slots + settings.queue
    retry_after = _until_a_slot_is_free(running, settings, step_times)
    if full and order[-1] is request:
        raise _exhausted("every slot is taken and the queue is full", retry_after)
    of_caller = sum(each.caller.name == request.caller.name for each in (*running, *waiting))
    if settings.per_caller is not None and of_caller >= settings.per_caller:
        raise _exhausted(
            f"this caller has {of_caller} requests here already, its share", retry_after
        )
    _check_deadline(request, running, order[: order.index(request)], settings, step_times)
    if not full:
        return []
    return [(order[-1], _exhausted("others need this caller's place in the queue", retry_after))]


def _until_a_slot_is_free(
    running: Sequence[EngineRequest], settings: EngineSettings, step_times: StepTimeEstimator
) -> float:
    return step_times.wait(settings.slots, [each.steps for each in running], []).first_free


def _exhausted(text: str, retry_after: float) -> RefusedError:
    return RefusedError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, text, retry_after=max(_MIN_RETRY, retry_after)
    )


def _check_deadline(
    request: EngineRequest,
    running: Sequence[EngineRequest],
    before: Sequence[EngineRequest],
    settings: EngineSettings,
    step_times: StepTimeEstimator,
) -> None:
    if request.caller.deadline is None:
        return
    step = step_times.step_time(min(len(running) + 1, settings.slots))
    ahead = ([each.min_steps for each in some] for some in (running, before))
    needed = step_times.wait(settings.slots, *ahead).new_request + request.min_steps * step
    left = request.caller.deadline - time.monotonic()
    if needed > left:
        raise RefusedError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"this would take {needed:.1f} s now, and the deadline is in {max(0, left):.1f} s",
        )
