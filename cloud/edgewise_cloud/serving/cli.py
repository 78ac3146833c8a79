"""`edgewise-cloud serve` and `token`."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer

from edgewise_cloud.console import FAILED, exit_at_once, exit_interrupted, say, shown_progress
from edgewise_cloud.errors import EngineDeadError, ServeError
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.observe.logs import LogFormat, configure_logs
from edgewise_cloud.serving.options import (
    DEFAULT_MODELS,
    DELIVERY,
    ENGINE,
    ChannelFolder,
    DeliveryBandwidth,
    Downloads,
    Dtype,
    Engine,
    Grace,
    Host,
    Insecure,
    Logs,
    MetricsHost,
    MetricsPort,
    Models,
    PerCaller,
    Port,
    Queue,
    Slots,
    TlsCertificate,
    TlsClientCa,
    TlsKey,
    Tokens,
    Traces,
)
from edgewise_cloud.serving.server.delivery.settings import DeliverySettings
from edgewise_edge.standard_streams import emit

if TYPE_CHECKING:
    from edgewise_cloud.serving.server.server import ServerSettings

log = logging.getLogger("edgewise_cloud.serving.cli")


def serve(
    model: Models = DEFAULT_MODELS,
    host: Host = "127.0.0.1",
    port: Port = 50051,
    engine: Engine = ENGINE.kind,
    dtype: Dtype = ENGINE.dtype,
    slots: Slots = ENGINE.slots,
    queue: Queue = ENGINE.queue,
    per_caller: PerCaller = ENGINE.per_caller,
    grace: Grace = 10.0,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    tokens: Tokens = None,
    insecure: Insecure = False,
    channel: ChannelFolder = None,
    delivery_bandwidth: DeliveryBandwidth = DELIVERY.bandwidth,
    downloads: Downloads = DELIVERY.downloads,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    traces: Traces = False,
    log_format: Logs = LogFormat.TEXT,
) -> None:
    """Serve a Keras GPT-2 over gRPC until SIGTERM or Ctrl-C. Exits with 1 if the model stops working.

    Example: edgewise-cloud serve --model tales --port 50051
    """
    from edgewise_cloud.serving.engine.load_engines import check_models
    from edgewise_cloud.serving.observe.observers import ObserverSettings
    from edgewise_cloud.serving.security.settings import Security
    from edgewise_cloud.serving.server.server import ServerSettings

    configure_logs(log_format)
    security = Security(
        certificate=tls_certificate,
        key=tls_key,
        client_ca=tls_client_ca,
        tokens=tokens,
        insecure=insecure,
    )
    settings = ServerSettings(
        models=tuple(model),
        host=host,
        port=port,
        engine=EngineSettings(
            kind=engine, slots=slots, queue=queue, per_caller=per_caller, dtype=dtype
        ),
        delivery=DeliverySettings(
            channel=channel, bandwidth=delivery_bandwidth, downloads=downloads
        ),
        grace=grace,
        security=security,
        observers=ObserverSettings(
            metrics_host=metrics_host, metrics_port=metrics_port, traces=traces
        ),
    )
    check_models(settings.models, settings.engine)
    settings.delivery.check()
    # While the model loads there is nothing to drain: Ctrl-C exits at once, like SIGTERM.
    signal.signal(signal.SIGINT, exit_interrupted)
    try:
        asyncio.run(_serve_until_signal(settings, teller(log_format)))
    except EngineDeadError as error:
        log.critical("%s", error)
        exit_at_once(FAILED)  # a step that hangs may not let Python end


def teller(log_format: LogFormat) -> Callable[[str], None]:
    """What writes progress: a line on standard error or, where every line is JSON, a log record."""
    return log.info if log_format is LogFormat.JSON else say


async def _serve_until_signal(settings: "ServerSettings", tell: Callable[[str], None]) -> None:
    from edgewise_cloud.serving.server.server import running_server

    started, loop = time.monotonic(), asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        with shown_progress(None if tell is say else tell) as progress:
            server = await stack.enter_async_context(running_server(settings, progress))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop.set)
        tell(f"ready in {time.monotonic() - started:.0f} s on {settings.host}:{server.port}")
        tell(f"try: {_example(settings, server.port)}")
        await server.stop.wait()
        loop.add_signal_handler(signal.SIGINT, exit_interrupted)  # need not wait for the drain
    tell("stopped")


def _example(settings: "ServerSettings", port: int) -> str:
    """A command that asks this service, as a device would."""
    from edgewise_cloud.serving.security.settings import is_loopback

    host = settings.host if is_loopback(settings.host) else "THIS-HOST"
    name = settings.models[0]
    model = [] if name == "tales" else ["--model", name]
    command = ["edgewise", "generate", "Once upon a time", *model, "--mode", "only_in_cloud"]
    command += ["--cloud", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    if settings.security.certificate:
        command += ["--cloud-ca", str(settings.security.certificate)]
    if settings.security.tokens:
        command += ["--cloud-token-file", "FILE"]
    return join(command)


def token(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The token's owner: letters, digits and . _ @ -; limits apply per name.",
        ),
    ],
    append: Annotated[
        Path | None,
        typer.Option(
            "--append",
            "-a",
            metavar="FILE",
            help="Append its line to this token file, created if missing.",
            show_default="the line is printed to standard error",
        ),
    ] = None,
) -> None:
    """Make a token and print it once, to standard output; a token file holds only its hash.

    Example: edgewise-cloud token phone-1 --append tokens > phone-1.token
    """
    from edgewise_cloud.serving.security.tokens import append_line, new_token

    secret, line = new_token(name)
    # First, as a token that nobody has must not be admitted, and nowhere else.
    emit(secret, finished=False)
    if not append:
        say(line)
        return
    try:
        append_line(append, line)
    except ServeError as error:
        raise ServeError(f"{error}; the printed token is not valid") from error
