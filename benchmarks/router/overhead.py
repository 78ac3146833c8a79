"""What the router adds: to the first token, to each token, by deciding, and to an import.

The device's own runtime and the router generate the same tokens in turn: the router alone, with a
cloud set (a second thread then monitors the generation), and with a cloud whose circuit is open.
The differences of the medians are the router's own cost.
"""

import subprocess
import sys
import time

from benchmarks.measure import arguments, in_turn, medians, show
from benchmarks.tokens import request, timed
from edgewise import Availability, DeviceState, LatencyLog, Limits, Mode, Privacy, Router
from edgewise.policy.decide import decide
from edgewise.policy.types import CloudState, EdgeState, RoutingRequest
from edgewise_edge import DeviceModel, SamplingParams

PROMPT, TOKENS = "Once upon a time", 100
DECISIONS, IMPORTS = 20_000, 9
NOWHERE = "127.0.0.1:9"  # nothing listens there
IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def direct(model: DeviceModel) -> tuple[float, float]:
    """(seconds to the first token, seconds per further token) of the runtime alone."""
    started = time.perf_counter()
    ids = model.tokenizer.encode(PROMPT)
    tokenizing = time.perf_counter() - started
    sampling = SamplingParams(seed=1, temperature=0.8, top_k=40)
    first, token = timed(model, request(ids, TOKENS, sampling, end_ids=frozenset()))
    return tokenizing + first, token


def routed(router: Router) -> tuple[float, float]:
    """The same through the router."""
    timings = router.generate(PROMPT, max_tokens=TOKENS, seed=1, temperature=0.8, top_k=40).timings
    assert timings.time_to_first_token is not None
    assert timings.tokens_per_second is not None
    return timings.time_to_first_token, 1 / timings.tokens_per_second


def with_open_circuit() -> Router:
    """A router whose cloud has just failed three times."""
    router = Router(cloud=NOWHERE, latency=LatencyLog())
    for _ in range(3):
        router.generate(PROMPT, max_tokens=1, mode="prefer_in_cloud")
    assert "circuit_open" in {veto.code for veto in router.route(PROMPT).vetoes.values()}
    return router


def decision_times() -> list[float]:
    """Seconds of each of many decisions, shortest first."""
    asked = RoutingRequest(
        mode=Mode.PREFER_ON_DEVICE, privacy=Privacy.ALLOW_CLOUD, prompt_tokens=10, max_tokens=100
    )
    edge = EdgeState(availability=Availability.AVAILABLE, context_window=512)
    cloud, device, limits = CloudState(address="127.0.0.1:1"), DeviceState(battery=0.5), Limits()
    times = []
    for _ in range(DECISIONS):
        started = time.perf_counter()
        decide(asked, device, edge, cloud, limits)
        times.append(time.perf_counter() - started)
    return sorted(times)


def import_time(package: str) -> float:
    """Seconds to import it in a fresh process."""
    command = [sys.executable, "-c", IMPORT.format(package)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    options = arguments(__doc__, rounds=30).parse_args()
    model = DeviceModel.load()
    routers = {
        "alone": Router(latency=LatencyLog()),
        "with a cloud": Router(cloud=NOWHERE, latency=LatencyLog()),
        "with an open circuit": with_open_circuit(),
    }
    runs = {"": lambda: direct(model)} | {
        name: lambda router=router: routed(router) for name, router in routers.items()
    }
    found = in_turn(runs, options.rounds)
    for router in routers.values():
        router.close()
    first = medians({name: [times[0] * 1e3 for times in found[name]] for name in found})
    token = medians({name: [times[1] * 1e6 for times in found[name]] for name in found})
    result = {
        "device's first token, ms": round(first[""], 3),
        "device's further tokens, us": round(token[""], 1),
    }
    for name in routers:
        result[f"added to the first, {name}, ms"] = round(first[name] - first[""], 3)
        result[f"added to each, {name}, us"] = round(token[name] - token[""], 1)
    decisions = decision_times()
    result["decide, median, us"] = round(decisions[DECISIONS // 2] * 1e6, 2)
    result["decide, p99, us"] = round(decisions[int(0.99 * DECISIONS)] * 1e6, 2)
    for package in ("numpy", "edgewise"):
        times = medians({package: [import_time(package) for _ in range(IMPORTS)]})
        result[f"import {package}, ms"] = round(times[package] * 1e3, 1)
    show(result)


if __name__ == "__main__":
    main()
