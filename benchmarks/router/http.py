"""What HTTP adds to the router, and how it holds 32 streams: `edgewise serve`.

The router in this process and a server in another one generate the same tokens in turn, one at a time:
the differences of the medians are what HTTP, the other process and its client cost. Then 32 streams
are asked for at once, at a server that runs 8 and lets 32 wait, and at one that lets 8 wait.

With --work, a folder that `make bench-edge` filled, the model is GPT-2 small in 8 bit.
"""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cloud.servers import free_port
from benchmarks.measure import arguments, in_turn, medians, show
from benchmarks.peers.runtimes import OURS
from benchmarks.peers.workspace import checkpoint
from edgewise import LatencyLog, Router

PROMPT, TOKENS, STREAMS = [100, 200, 300, 400, 500], 100, 32  # token ids
HOST, TIMEOUT = "127.0.0.1", 60.0
PROGRAM = Path(sys.executable).with_name("edgewise")


class Times(NamedTuple):
    """Of one answer: seconds to the first text, from a token to the next, and in all."""

    first: float
    token: float
    total: float
    tokens: int


class Refused(NamedTuple):
    """An answer that was none."""

    status: int


def routed(router: Router) -> Times:
    """An answer of the router in this process."""
    started = time.perf_counter()
    with router.stream(PROMPT, max_tokens=TOKENS, temperature=0) as stream:
        moments = [time.perf_counter() for _ in stream]
    return _times(started, moments, len(stream.generation.token_ids))


def completion(to: http.client.HTTPConnection) -> Times | Refused:
    """An answer of `edgewise serve`, as OpenAI's clients ask for one."""
    body = {
        "prompt": PROMPT,
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return _asked(to, "/v1/completions", body, lambda last: last["usage"]["completion_tokens"])


def connection(port: int) -> http.client.HTTPConnection:
    """It connects with the first request, and stays for the next."""
    return http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)


def _asked(
    to: http.client.HTTPConnection,
    path: str,
    body: Mapping[str, Any],
    count: Callable[[Any], int],
) -> Times | Refused:
    started = time.perf_counter()
    to.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = to.getresponse()
    if answer.status != http.HTTPStatus.OK:
        told = answer.read()
        if answer.status == http.HTTPStatus.TOO_MANY_REQUESTS:
            return Refused(answer.status)
        raise RuntimeError(f"{answer.status}: {told!r}")
    moments, last = [], b""
    for line in _data_lines(answer):
        moments.append(time.perf_counter())
        last = line
    return _times(started, moments, count(json.loads(last)))


def _data_lines(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while line := answer.readline():
        if line.startswith(b"data: {"):
            yield line[6:]


def _times(started: float, moments: list[float], tokens: int) -> Times:
    first, last = moments[0], moments[-1]
    return Times(first - started, (last - first) / (tokens - 1), last - started, tokens)


@contextmanager
def served(*command: object, path: str = "/health") -> Iterator[int]:
    """A server in a process of its own, from when it answers; the port it listens on."""
    port = free_port()
    with subprocess.Popen(
        [*map(str, command), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            _wait_until_healthy(child, port, path)
            yield port
        finally:
            child.terminate()


def _wait_until_healthy(child: subprocess.Popen[bytes], port: int, path: str) -> None:
    limit = time.monotonic() + TIMEOUT
    while time.monotonic() < limit and child.poll() is None:
        with suppress(OSError), closing(connection(port)) as to:
            to.request("GET", path)
            if to.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{child.args!r} does not answer")


def at_once(port: int) -> dict[str, float]:
    """STREAMS completions asked for at the same moment."""
    started = time.perf_counter()
    with ThreadPoolExecutor(STREAMS) as pool:
        answers = list(pool.map(lambda _: completion(connection(port)), range(STREAMS)))
    elapsed = time.perf_counter() - started
    times = [answer for answer in answers if isinstance(answer, Times)]
    return {
        "answered": len(times),
        "refused": len(answers) - len(times),
        "tokens/s": sum(each.tokens for each in times) / elapsed,
        "longest first, ms": max(each.first for each in times) * 1e3,
    }


def main() -> None:
    options = arguments(__doc__, rounds=30, work=Path).parse_args()
    result: dict[str, object] = {}
    with ExitStack() as stack:
        model: object = "tales"
        runs: dict[str, Callable[[], Times | Refused]] = {}
        if options.work:
            work = options.work.resolve()
            OURS[8].make(work, checkpoint(work))
            model = OURS[8].path(work)
        router = stack.enter_context(Router(model, latency=LatencyLog()))  # type: ignore[arg-type]
        serve = (PROGRAM, "serve", "--model", model)
        port = stack.enter_context(served(*serve))
        kept = connection(port)
        runs |= {"router": lambda: routed(router), "HTTP": lambda: completion(kept)}
        found = in_turn(runs, options.rounds)
        first = medians({name: [each.first * 1e3 for each in found[name]] for name in found})  # type: ignore[union-attr]
        token = medians({name: [each.token * 1e6 for each in found[name]] for name in found})  # type: ignore[union-attr]
        for name in runs:
            result[f"first token, {name}, ms"] = round(first[name], 3)
            result[f"further tokens, {name}, us"] = round(token[name], 1)
        result["HTTP adds to the first, ms"] = round(first["HTTP"] - first["router"], 3)
        result["HTTP adds to each, us"] = round(token["HTTP"] - token["router"], 1)
        few = stack.enter_context(served(*serve, "--max-waiting", 8))
        for name, at in (("32 may wait", port), ("8 may wait", few)):
            rounds = [at_once(at) for _ in range(5)]
            for figure in rounds[0]:
                result[f"{STREAMS} at once, {name}: {figure}"] = round(
                    medians({0: [each[figure] for each in rounds]})[0], 1
                )
    show(result)


if __name__ == "__main__":
    main()
