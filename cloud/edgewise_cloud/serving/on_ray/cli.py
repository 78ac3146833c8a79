"""`edgewise-cloud serve-ray`."""

import logging
import signal
import threading
import time
from typing import Annotated

import typer

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.cli import teller
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.observe.logs import LogFormat, configure_logs
from edgewise_cloud.serving.options import (
    DEFAULT_MODELS,
    ENGINE,
    SECURITY,
    Dtype,
    Engine,
    Grace,
    Logs,
    Models,
    PerCaller,
    Queue,
    Slots,
)

log = logging.getLogger("edgewise_cloud.serving.on_ray.cli")


SCALE = "Scale"


def serve_ray(
    model: Models = DEFAULT_MODELS,
    port: Annotated[
        int,
        typer.Option(
            "--port", "-p", metavar="PORT", min=1, max=65535, help="Port of every node's proxy."
        ),
    ] = 50051,
    engine: Engine = ENGINE.kind,
    dtype: Dtype = ENGINE.dtype,
    replicas_min: Annotated[
        int, typer.Option(metavar="N", min=1, help="Fewest replicas.", rich_help_panel=SCALE)
    ] = 1,
    replicas_max: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most replicas.", rich_help_panel=SCALE)
    ] = 1,
    cpus: Annotated[
        float,
        typer.Option(metavar="NUMBER", min=0, help="CPUs per replica.", rich_help_panel=SCALE),
    ] = 1.0,
    gpus: Annotated[
        float,
        typer.Option(metavar="NUMBER", min=0, help="GPUs per replica.", rich_help_panel=SCALE),
    ] = 0.0,
    slots: Slots = ENGINE.slots,
    queue: Queue = ENGINE.queue,
    per_caller: PerCaller = ENGINE.per_caller,
    grace: Grace = 10.0,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure-i-know",
            help="Serve callers on other machines too, in clear text.",
            show_default="off",
            rich_help_panel=SECURITY,
        ),
    ] = False,
    log_format: Logs = LogFormat.TEXT,
) -> None:
    """Serve a Keras GPT-2 on a Ray cluster (RAY_ADDRESS, or this machine) until SIGTERM or Ctrl-C.

    A folder that --model names must be on every node.
    """
    configure_logs(log_format)
    try:
        from edgewise_cloud.serving.on_ray.deploy import deployed
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ServeError(
            "Ray is not installed; install it with: pip install 'ray[serve]'"
        ) from error
    from edgewise_cloud.serving.on_ray.replica import application
    from edgewise_cloud.serving.server.server import ServerSettings

    settings = EngineSettings(
        kind=engine, slots=slots, queue=queue, per_caller=per_caller, dtype=dtype
    )
    app = application(
        ServerSettings(models=tuple(model), engine=settings, grace=grace),
        replicas=(replicas_min, replicas_max),
        resources={"num_cpus": cpus, "num_gpus": gpus},
    )
    stop, tell, started = threading.Event(), teller(log_format), time.monotonic()
    tell(f"starting Ray, and replicas that load and compile {model[0]}")
    with deployed(app, port, for_all=insecure):
        # Set after Ray has set its own handlers.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        tell(f"ready in {time.monotonic() - started:.0f} s on port {port} of every node")
        stop.wait()
        log.info("draining")
    tell("stopped")
