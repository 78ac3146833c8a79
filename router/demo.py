"""`make demo`: how the router chooses, with real prompts and a real cloud service on loopback."""

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

from edgewise import CloudTimeouts, DeviceState, LatencyLog, Measurement, PredictedTime, Router
from edgewise.cli.tables import seconds
from edgewise.generation.result import summary
from edgewise.options import RequestOptions

REPORT_EVERY = 5.0  # seconds
PROMPT = "Once upon a time"
TOKENS = 60
KILL_AFTER = 20  # tokens; well before the end, since the cloud may be some tokens ahead
LOW_BATTERY = DeviceState(battery=0.03, charging=False)
SLOW = Measurement(position=11, uncached=11, first_token=1.0, tokens=50, decode_time=49.0)
PATIENT = CloudTimeouts(connect=60.0, first_token=60.0, between_tokens=60.0)  # a busy machine

console = Console(highlight=False, soft_wrap=True)


@contextlib.contextmanager
def cloud_service() -> Iterator[tuple[str, Callable[[], None]]]:
    """Run `edgewise-cloud serve`; its address, and a function that kills it."""
    command = Path(sys.executable).with_name("edgewise-cloud")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    port = address.rpartition(":")[2]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [command, "serve", "--port", port, "--grace", "1", "--slots", "1"],
            stdout=log,
            stderr=log,
        )
        try:
            wait_until_serving(address, process)
            yield address, process.kill
        finally:
            process.send_signal(signal.SIGTERM)  # does nothing if it has ended
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_serving(address: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait for the service's health check as long as its process lives; report every few seconds.

    Exits if the process ends.
    """
    started = reported = time.monotonic()
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while process.poll() is None:
            with contextlib.suppress(grpc.RpcError):
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            now = time.monotonic()
            if now - reported >= REPORT_EVERY:
                console.print(f"  waiting for the cloud service, for {now - started:.0f} s ...")
                reported = now
            time.sleep(0.2)
    sys.exit("the cloud service did not start; run 'edgewise-cloud serve' to see why")


class WrappedPrinter:
    """Prints text as it is streamed, wrapped at words and indented."""

    INDENT, WIDTH = "    ", 84

    def __init__(self) -> None:
        self._column = 0
        self._word = ""

    def write(self, text: str) -> None:
        """Print the words that are complete."""
        for character in text:
            if character.isspace():
                self.flush()
            else:
                self._word += character

    def flush(self) -> None:
        """Print the last word, too."""
        if not self._word:
            return
        if self._column + len(self._word) >= self.WIDTH:
            self._column = 0
            print()
        lead = " " if self._column else self.INDENT
        print(lead + self._word, end="", flush=True)
        self._column += len(lead + self._word)
        self._word = ""


class SlowDeviceLog(LatencyLog):
    """The measurements of another log, but for a device that decodes one token a second."""

    def __init__(self, log: LatencyLog) -> None:
        super().__init__()
        self._log = log

    def measured(self, key: str) -> list[Measurement]:
        """Made up for the device, so that it is not calibrated; real for the cloud."""
        return [SLOW] if key.startswith("on_device/") else self._log.measured(key)

    def predict_on_device(self, key: str, **request: Any) -> PredictedTime:
        """Predict from the made-up measurement alone."""
        log = LatencyLog()
        log.add(key, SLOW)
        return log.predict_on_device(key, **request)

    def predict_in_cloud(self, key: str, **request: Any) -> PredictedTime:
        """Predict from the real measurements."""
        return self._log.predict_in_cloud(key, **request)


def show(
    title: str,
    router: Router,
    *,
    midway: Callable[[], None] | None = None,
    **options: Unpack[RequestOptions],
) -> None:
    """Show one scene: the text as it is generated, and the decision behind it.

    `midway` is called after some of the tokens.
    """
    console.print(f"\n[bold]{title}[/]")
    printer, tokens = WrappedPrinter(), 0
    with router.stream(PROMPT, max_tokens=TOKENS, seed=7, **options) as stream:
        printer.write(PROMPT)
        for chunk in stream:
            printer.write(chunk.text)
            tokens += len(chunk.token_ids)
            if midway and tokens >= KILL_AFTER:
                midway()
                midway = None
        printer.flush()
        print()
        generation = stream.generation
    console.print(f"  [green]→ {summary(generation)}[/]")
    if "latency_budget" in options:
        for source, predicted in generation.decision.predicted.items():
            console.print(f"    [dim]{source}: predicted to take {seconds(predicted.total)}[/]")
    for source, veto in generation.decision.vetoes.items():
        console.print(f"    [dim]{source}: vetoed ({veto.code}): {veto.detail}[/]")


def router_for(cloud: str, state: DeviceState, latency: LatencyLog) -> Router:
    """A router on a device in the given state."""
    return Router(cloud=cloud, cloud_timeouts=PATIENT, device=lambda: state, latency=latency)


def main() -> None:
    """Show every scene."""
    console.print(
        "[bold]edgewise[/]: starting the cloud service on loopback; it imports TensorFlow and compiles its model first, half a minute or two ..."
    )
    started = time.monotonic()
    with cloud_service() as (address, kill_cloud):
        console.print(f"  serving on {address}, after {time.monotonic() - started:.0f} s")
        latency = LatencyLog()
        with router_for(address, DeviceState(battery=0.8), latency) as router:
            show("Nothing special: the device answers", router)
        with router_for(address, LOW_BATTERY, latency) as router:
            show("The battery is at 3 %: the cloud answers", router)
            show("The same, but private: the device answers", router, privacy="private")
        with router_for(address, DeviceState(battery=0.8), SlowDeviceLog(latency)) as router:
            show(
                "A slow device (simulated: 1 token/s) and a budget of 30 s: the cloud answers",
                router,
                latency_budget=30.0,
            )
        with router_for(address, LOW_BATTERY, latency) as router:
            show(
                "The battery is at 3 % and the cloud dies midway: the device continues",
                router,
                midway=kill_cloud,
            )
    console.print("\nDone; the cloud service has been stopped.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the cloud service has been stopped")
