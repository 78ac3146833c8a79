"""`make demo`: the router choosing, on real prompts, with a real cloud service on loopback."""

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console

from edgewise import DeviceState, LatencyLog, Measurement, PredictedTime, Router
from edgewise.cli.tables import seconds
from edgewise.generation.request import RequestOptions
from edgewise.generation.result import summary
from edgewise.latency.predict import DeviceTimes

STARTUP = 60.0  # seconds
PROMPT = "Once upon a time"
TOKENS = 60
DRAINED = DeviceState(battery=0.03, charging=False)
SLOW = Measurement(position=11, uncached=11, first_token=1.0, tokens=50, decode_time=12.5)

console = Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def cloud_service() -> Iterator[tuple[str, Callable[[], None]]]:
    """An `edgewise-cloud serve` of our own; its address, and how to kill it."""
    command = Path(sys.executable).with_name("edgewise-cloud")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [command, "serve", "--port", str(port), "--grace", "1", "--slots", "1"],
            stdout=log,
            stderr=log,
        )

        def stop() -> None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        try:
            wait_for_health(f"127.0.0.1:{port}", process)
            yield f"127.0.0.1:{port}", process.kill
        finally:
            if process.poll() is None:
                stop()


def wait_for_health(address: str, process: "subprocess.Popen[str]") -> None:
    """Return once the service says SERVING."""
    deadline = time.monotonic() + STARTUP
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(grpc.RpcError):
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            time.sleep(0.2)
    sys.exit("the cloud service did not start; try 'edgewise-cloud serve'")


class Paper:
    """Wraps text as it streams in, behind a margin."""

    MARGIN, WIDTH = "    ", 84

    def __init__(self) -> None:
        self._column = 0
        self._word = ""

    def write(self, text: str) -> None:
        """Print the words that are whole by now."""
        for character in text:
            if character.isspace():
                self.flush()
            else:
                self._word += character

    def flush(self) -> None:
        """Print the last word too."""
        if not self._word:
            return
        if self._column + len(self._word) >= self.WIDTH:
            self._column = 0
            print()
        lead = " " if self._column else self.MARGIN
        print(lead + self._word, end="", flush=True)
        self._column += len(lead + self._word)
        self._word = ""


class SlowDevice(LatencyLog):
    """Another log's measurements, but of a device that reads 10 tokens a second and writes 4."""

    def __init__(self, log: LatencyLog) -> None:
        super().__init__()
        self._log = log

    def measured(self, key: str) -> list[Measurement]:
        """The truth about the cloud; about the device, this."""
        return [SLOW] if key.startswith("on_device/") else self._log.measured(key)

    def predict_on_device(self, key: str, **what: Any) -> PredictedTime:
        """By that."""
        del key
        return DeviceTimes.learned([SLOW]).predict(
            **{name: what[name] for name in ("position", "uncached", "max_tokens")}
        )

    def predict_in_cloud(self, key: str, **what: Any) -> PredictedTime:
        """By the truth."""
        return self._log.predict_in_cloud(key, **what)


def show(
    title: str,
    router: Router,
    *,
    meanwhile: Callable[[], None] | None = None,
    **options: Unpack[RequestOptions],
) -> None:
    """One scene: what is asked, the text as it comes, and the decision behind it.

    `meanwhile` is done when half of the text is there.
    """
    console.print(f"\n[bold]{title}[/]")
    paper, tokens = Paper(), 0
    with router.stream(PROMPT, max_tokens=TOKENS, seed=7, **options) as stream:
        paper.write(PROMPT)
        for chunk in stream:
            paper.write(chunk.text)
            tokens += len(chunk.token_ids)
            if meanwhile and tokens >= TOKENS // 2:
                meanwhile()
                meanwhile = None
        paper.flush()
        print()
        generation = stream.generation
    console.print(f"  [green]→ {summary(generation)}[/]")
    if "latency_budget" in options:
        for side, predicted in generation.decision.predicted.items():
            console.print(f"    [dim]{side} was predicted to take {seconds(predicted.total)}[/]")
    for side, veto in generation.decision.vetoes.items():
        console.print(f"    [dim]{side} vetoed ({veto.code}): {veto.detail}[/]")


def router_for(cloud: str, state: DeviceState, latency: LatencyLog) -> Router:
    """A router on a device in the given state."""
    return Router(cloud=cloud, device=lambda: state, latency=latency)


def main() -> None:
    """Show every scene."""
    console.print(
        "[bold]edgewise[/]: starting the cloud service on loopback; it compiles its model, which takes some seconds ..."
    )
    started = time.monotonic()
    with cloud_service() as (address, kill_cloud):
        console.print(f"  it serves on {address}, after {time.monotonic() - started:.0f} s")
        latency = LatencyLog()
        with router_for(address, DeviceState(battery=0.8), latency) as router:
            show("A prompt, nothing special: the device answers", router)
        with router_for(address, DRAINED, latency) as router:
            show("The battery is at 3 %: the cloud answers", router)
            show("The same, but private: never the cloud", router, privacy="private")
        with router_for(address, DeviceState(battery=0.8), SlowDevice(latency)) as router:
            show(
                "A slow device (we pretend: 4 tokens a second) and a budget of 6 s: the cloud",
                router,
                latency_budget=6.0,
            )
        with router_for(address, DRAINED, latency) as router:
            show(
                "The battery is at 3 % and the cloud dies half way: the device goes on from there",
                router,
                meanwhile=kill_cloud,
            )
    console.print("\nThat was the whole of it: the cloud service has ended too.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nstopped; the cloud service has ended too")
