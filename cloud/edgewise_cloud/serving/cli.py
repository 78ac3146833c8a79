"""`edgewise-cloud serve` and `token`, and the options shared with `serve-ray`."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgewise_cloud.console import say
from edgewise_cloud.serving.engine.settings import EngineSettings, Precision
from edgewise_cloud.serving.observe.logs import LogFormat, configure_logs

if TYPE_CHECKING:
    from edgewise_cloud.serving.server.server import ServerSettings

log = logging.getLogger("edgewise_cloud.serving.cli")

ENGINE = EngineSettings()  # defaults of the command line
Slots = Annotated[int, typer.Option(min=1, help="Requests running at once.")]
Queue = Annotated[int, typer.Option(min=0, help="Requests waiting for a slot.")]
PerCaller = Annotated[
    int | None,
    typer.Option(min=1, help="Running and waiting requests of one caller; no limit by default."),
]
Dtype = Annotated[Precision, typer.Option(help="Type of weights and caches.")]
Grace = Annotated[
    float, typer.Option(min=0, help="Seconds for open requests to finish at shutdown.")
]
Logs = Annotated[LogFormat, typer.Option(help="Format of log lines.")]


def serve(
    model: Annotated[
        str, typer.Option(help="Bundled model, folder, or KerasHub preset.")
    ] = "tales",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 50051,
    slots: Slots = ENGINE.slots,
    queue: Queue = ENGINE.queue,
    per_caller: PerCaller = ENGINE.per_caller,
    dtype: Dtype = ENGINE.dtype,
    grace: Grace = 10.0,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM; serve over TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM; the certificate's key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM; admit only clients with a certificate signed by it.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Admit only callers with a token listed here; see 'token'.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure-i-know", help="Allow other addresses than loopback without TLS and tokens."
        ),
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve Prometheus metrics on this port.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address to serve metrics on.")] = "127.0.0.1",
    traces: Annotated[
        bool,
        typer.Option("--traces", help="Send OpenTelemetry traces, set by the OTEL_* variables."),
    ] = False,
    log_format: Logs = LogFormat.TEXT,
) -> None:
    """Serve a Keras GPT-2 over gRPC until SIGTERM or Ctrl-C."""
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
        model=model,
        host=host,
        port=port,
        engine=EngineSettings(slots=slots, queue=queue, per_caller=per_caller, dtype=dtype),
        grace=grace,
        security=security,
        observers=ObserverSettings(
            metrics_host=metrics_host, metrics_port=metrics_port, traces=traces
        ),
    )
    # While the model loads there is nothing to drain: Ctrl-C exits at once, like SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(_serve_until_signal(settings))


async def _serve_until_signal(settings: "ServerSettings") -> None:
    from edgewise_cloud.serving.server.server import running_server

    stop = asyncio.Event()
    async with running_server(settings) as port:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        log.info("serving %s on %s:%d", settings.model, settings.host, port)
        await stop.wait()
        log.info("draining")


def token(
    name: Annotated[str, typer.Argument(help="The token's owner; limits apply per name.")],
    append: Annotated[
        Path | None, typer.Option(help="Append its line to this file, created if missing.")
    ] = None,
) -> None:
    """Make a token and print it once, to standard output; a token file holds only its hash."""
    from edgewise_cloud.serving.security.tokens import append_line, new_token

    secret, line = new_token(name)
    if append:
        append_line(append, line)
    else:
        say(line)
    print(secret)
