"""What the router adds: to the first token, to each token, by deciding, and to an import.

The device's own runtime and the router write the same tokens in turn: the router alone, with a cloud
set (the text is then looked after from beside), and with a cloud whose circuit is open. The
differences of the medians are the router's own.
"""

import json
import statistics
import subprocess
import sys
import time

from edgewise import DeviceState, LatencyLog, Limits, Mode, Privacy, Router
from edgewise.policy.decide import decide
from edgewise.policy.types import Availability, CloudState, EdgeState, RoutingRequest
from edgewise_edge import DeviceModel, SamplingParams, TokenRequest

PROMPT = "Once upon a time"
TOKENS, ROUNDS, DECISIONS, IMPORTS = 100, 30, 20_000, 9
NOWHERE = "127.0.0.1:9"  # nothing listens there, nor is it asked before the circuit is open
IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def direct(model: DeviceModel) -> tuple[float, float]:
    """(seconds to the first token, seconds per further token) of the runtime alone."""
    started = time.perf_counter()
    ids = tuple(model.tokenizer.encode(PROMPT))
    request = TokenRequest(
        token_ids=ids,
        prompt_tokens=len(ids),
        max_tokens=TOKENS,
        sampling=SamplingParams(seed=1, temperature=0.8, top_k=40),
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


def with_open_circuit() -> Router:
    """A router whose cloud has just failed three times, and is not looked at meanwhile."""
    router = Router(cloud=NOWHERE, latency=LatencyLog())
    assert router._in_cloud
    router._in_cloud._background = False
    for _ in range(3):
        router.generate(PROMPT, max_tokens=1, mode="prefer_in_cloud")
    assert "circuit_open" in {veto.code for veto in router.route(PROMPT).vetoes.values()}
    return router


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


def import_time(package: str) -> float:
    """Seconds to import it in a fresh process."""
    command = [sys.executable, "-c", IMPORT.format(package)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure and print."""
    model = DeviceModel.load()
    routers = {
        "alone": Router(latency=LatencyLog()),
        "with a cloud": Router(cloud=NOWHERE, latency=LatencyLog()),
        "with an open circuit": with_open_circuit(),
    }
    sides = {"": lambda: direct(model)} | {
        name: lambda router=router: routed(router) for name, router in routers.items()
    }
    runs = {name: [] for name in sides}
    for _ in range(ROUNDS + 1):
        for name, side in sides.items():
            runs[name].append(side())
    for router in routers.values():
        router.close()
    first = {n: statistics.median(r[0] for r in runs[n][1:]) * 1e3 for n in sides}
    token = {n: statistics.median(r[1] for r in runs[n][1:]) * 1e6 for n in sides}
    decisions = sorted(decision_times())
    result = {
        "device's first token, ms": round(first[""], 3),
        "device's further tokens, us": round(token[""], 1),
    }
    for name in routers:
        result[f"added to the first, {name}, ms"] = round(first[name] - first[""], 3)
        result[f"added to each, {name}, us"] = round(token[name] - token[""], 1)
    result |= {
        "decide, median, us": round(statistics.median(decisions) * 1e6, 2),
        "decide, p99, us": round(decisions[int(0.99 * len(decisions))] * 1e6, 2),
    }
    packages = ("numpy", "edgewise")
    imports = {p: [import_time(p) for _ in range(IMPORTS)] for p in packages}
    for package, times in imports.items():
        result[f"import {package}, ms"] = round(statistics.median(times) * 1e3, 1)
    for name, value in result.items():
        print(f"{name:>45}: {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
