"""What the router adds: to the first token, to each token, and by deciding.

The device's own runtime and the router write the same tokens in turn; the differences of the
medians are the router's own.
"""

import json
import statistics
import time

from edgewise import DeviceState, LatencyLog, Limits, Mode, Privacy, Router
from edgewise.policy import decide
from edgewise.situation import Availability, CloudState, EdgeState, RoutingRequest
from edgewise_edge import DeviceModel, SamplingParams, TokenRequest

PROMPT = "Once upon a time"
TOKENS, ROUNDS, DECISIONS = 100, 30, 20_000


def direct(model: DeviceModel) -> tuple[float, float]:
    """(seconds to the first token, seconds per further token) of the runtime alone."""
    started = time.perf_counter()
    ids = tuple(model.tokenizer.encode(PROMPT))
    request = TokenRequest(
        token_ids=ids,
        prompt_tokens=len(ids),
        max_tokens=TOKENS,
        sampling=SamplingParams(seed=1),
        end_ids=frozenset(),
    )
    times = [time.perf_counter() for _ in model.stream_tokens(request)]
    return times[0] - started, (times[-1] - times[0]) / (len(times) - 1)


def routed(router: Router) -> tuple[float, float]:
    """The same through the router."""
    timings = router.generate(PROMPT, max_tokens=TOKENS, seed=1, temperature=0.8, top_k=40).timings
    assert timings.time_to_first_token is not None
    assert timings.tokens_per_second is not None
    return timings.time_to_first_token, 1 / timings.tokens_per_second


def decision_times() -> list[float]:
    """Seconds of each of many decisions."""
    request = RoutingRequest(
        mode=Mode.PREFER_ON_DEVICE, privacy=Privacy.ALLOW_CLOUD, prompt_tokens=10, max_tokens=100
    )
    edge = EdgeState(availability=Availability.AVAILABLE, context_window=512)
    cloud, device, limits = CloudState(address="127.0.0.1:1"), DeviceState(battery=0.5), Limits()
    times = []
    for _ in range(DECISIONS):
        started = time.perf_counter()
        decide(request, device, edge, cloud, limits)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    """Measure and print."""
    model = DeviceModel.load()
    with Router(latency=LatencyLog()) as router:
        router.warm_up()
        pairs = [(direct(model), routed(router)) for _ in range(ROUNDS)]
    first, token = (
        statistics.median(r[i] for _, r in pairs) - statistics.median(d[i] for d, _ in pairs)
        for i in (0, 1)
    )
    decisions = sorted(decision_times())
    result = {
        "adds_to_first_token_ms": round(first * 1e3, 3),
        "adds_per_token_us": round(token * 1e6, 1),
        "device_per_token_us": round(statistics.median(d[1] for d, _ in pairs) * 1e6, 1),
        "decide_median_us": round(statistics.median(decisions) * 1e6, 2),
        "decide_p99_us": round(decisions[int(0.99 * len(decisions))] * 1e6, 2),
    }
    for name, value in result.items():
        print(f"{name:>24}: {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
