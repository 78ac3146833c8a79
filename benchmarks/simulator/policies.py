"""The policies that are compared. The simple ones ignore privacy, have the same timeouts as the
router, and do not retry.
"""

from collections.abc import Generator, Mapping

from edgewise import Source

from .clock import Process
from .router import edgewise
from .simulation import Answer, Outcome, Policy, Simulation


def always_device(simulation: Simulation) -> Answer:
    return lambda outcome: _generated(simulation, Source.ON_DEVICE, outcome)


def always_cloud(simulation: Simulation) -> Answer:
    return lambda outcome: _generated(simulation, Source.IN_CLOUD, outcome)


def availability_only(simulation: Simulation) -> Answer:
    """On the device if the model is there (here it always is); where that fails, in the cloud.

    This is how Firebase AI Logic prefers the device. It knows no budget, battery, memory or
    prediction; the cloud starts the answer again, as only the prompt is sent.
    """

    def answer(outcome: Outcome) -> Process:
        if not (yield from _generated(simulation, Source.ON_DEVICE, outcome)):
            outcome.fallbacks += 1
            outcome.tokens = 0
            yield from _generated(simulation, Source.IN_CLOUD, outcome)

    return answer


def _generated(
    simulation: Simulation, source: Source, outcome: Outcome
) -> Generator[float, None, bool]:
    """Whether the source completed the answer."""
    with simulation.attempt(source, outcome) as run:
        while not outcome.complete:
            step = run.step()
            yield step.seconds
            if step.failure:
                return False
            if step.token:
                simulation.arrived(source, outcome)
    return True


POLICIES: Mapping[str, Policy] = {
    policy.__name__: policy for policy in (always_device, always_cloud, availability_only, edgewise)
}
