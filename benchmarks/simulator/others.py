"""The strategies that ours is compared with. None has a notion of a private request.

Their client is ours: the same timeouts. None retries.
"""

from collections.abc import Generator

from edgewise.policy.types import Source

from .clock import Process
from .day import Day, Strategy
from .outcome import Outcome


def always_device(day: Day) -> Strategy:
    """All on the device, whatever happens."""

    def answer(outcome: Outcome) -> Process:
        yield from _written(day, Source.ON_DEVICE, outcome)

    return answer


def always_cloud(day: Day) -> Strategy:
    """All in the cloud, whatever happens."""

    def answer(outcome: Outcome) -> Process:
        yield from _written(day, Source.IN_CLOUD, outcome)

    return answer


def availability_only(day: Day) -> Strategy:
    """On the device if the model is there (here it always is); where that fails, in the cloud.

    The preference of Firebase AI Logic. It knows no budget, battery, memory or prediction; the
    cloud starts the answer anew, since nothing but the prompt is handed to it.
    """

    def answer(outcome: Outcome) -> Process:
        if not (yield from _written(day, Source.ON_DEVICE, outcome)):
            outcome.fallbacks += 1
            outcome.written = 0
            yield from _written(day, Source.IN_CLOUD, outcome)

    return answer


def _written(day: Day, source: Source, outcome: Outcome) -> Generator[float, None, bool]:
    """Whether that side wrote it to its end."""
    with day.writing(source, outcome) as run:
        while not outcome.complete:
            wait = run.go_on()
            yield wait.seconds
            if wait.failure:
                return False
            if wait.token:
                day.took(source, outcome)
    return True
