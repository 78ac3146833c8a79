"""`edgewise-cloud serve` and `token`, and the options that `serve-ray` has too."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated

import typer

from edgewise_cloud.console import say
from edgewise_cloud.serving.engine.settings import EngineSettings, Precision
from edgewise_cloud.serving.observe.logs import LogFormat, configure_logs

log = logging.getLogger("edgewise_cloud.serving.cli")

ENGINE = EngineSettings()  # its defaults are the command line's
Slots = Annotated[int, typer.Option(min=1, help="Requests running at once.")]
Queue = Annotated[int, typer.Option(min=0, help="Requests waiting behind them.")]
PerCaller = Annotated[
    int | None, typer.Option(min=1, help="Of both, for one caller; all if absent.")
]
Dtype = Annotated[Precision, typer.Option(help="Of weights and caches.")]
Grace = Annotated[float, typer.Option(min=0, help="Seconds to finish at shutdown.")]
Logs = Annotated[LogFormat, typer.Option(help="How log lines look.")]


def serve(
    model: Annotated[
        str, typer.Option(help="Bundled model, folder, or KerasHub preset.")
    ] = "tales",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 50051,
    slots: Slots = ENGINE.slots,
    queue: Queue = ENGINE.queue,
    per_caller: PerCaller = ENGINE.per_caller,
    dtype: Dtype = ENGINE.dtype,
    grace: Grace = 10.0,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM; speak TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM; the certificate's key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM; admit only clients with a certificate it signed.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="Admit only bearers of a token listed here; see 'token'.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure-i-know", help="Listen beyond loopback even without TLS and tokens."
        ),
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Show Prometheus metrics on this port.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address to show them on.")] = "127.0.0.1",
    traces: Annotated[
        bool, typer.Option("--traces", help="Send OpenTelemetry traces, as OTEL_* variables say.")
    ] = False,
    log_format: Logs = LogFormat.TEXT,
) -> None:
    """Serve a Keras GPT-2 over gRPC until SIGTERM or Ctrl-C."""
    from edgewise_cloud.serving.observe.observers import ObservingSettings
    from edgewise_cloud.serving.security.settings import Security
    from edgewise_cloud.serving.server.server import ServerSettings, running_server

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
        observing=ObservingSettings(
            metrics_host=metrics_host, metrics_port=metrics_port, traces=traces
        ),
    )

    async def run() -> None:
        stop = asyncio.Event()
        async with running_server(settings) as bound:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            log.info("serving %s on %s:%d", model, host, bound)
            await stop.wait()
            log.info("draining")

    # While the model loads there is nothing to drain: Ctrl-C, like SIGTERM, ends it at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(run())


def token(
    name: Annotated[str, typer.Argument(help="Whose it will be; limits are kept for each name.")],
    append: Annotated[
        Path | None, typer.Option(help="Add its line to this file, made if need be.")
    ] = None,
) -> None:
    """Make a token: shown once, on standard output; a token file holds only its hash."""
    from edgewise_cloud.serving.security.tokens import append_line, new_token

    made, line = new_token(name)
    if append:
        append_line(append, line)
    else:
        say(line)
    print(made)
