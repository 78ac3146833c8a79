"""`edgewise-cloud serve-ray`."""

import logging
import signal
import threading
from typing import Annotated

import typer

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.cli import ENGINE, Dtype, Grace, Logs, PerCaller, Queue, Slots
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.observe.logs import LogFormat, configure_logs

log = logging.getLogger("edgewise_cloud.serving.on_ray.cli")


def serve_ray(
    model: Annotated[
        str, typer.Option(help="Bundled model, folder on every node, or KerasHub preset.")
    ] = "tales",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of every node's proxy.")
    ] = 50051,
    slots: Slots = ENGINE.slots,
    queue: Queue = ENGINE.queue,
    per_caller: PerCaller = ENGINE.per_caller,
    dtype: Dtype = ENGINE.dtype,
    grace: Grace = 10.0,
    replicas_min: Annotated[int, typer.Option(min=1, help="Fewest replicas.")] = 1,
    replicas_max: Annotated[int, typer.Option(min=1, help="Most replicas.")] = 1,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs per replica.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per replica.")] = 0.0,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure-i-know", help="Serve callers on other machines too, in clear text."
        ),
    ] = False,
    log_format: Logs = LogFormat.TEXT,
) -> None:
    """Serve a Keras GPT-2 on a Ray cluster (RAY_ADDRESS, or this machine) until SIGTERM or Ctrl-C."""
    configure_logs(log_format)
    try:
        from edgewise_cloud.serving.on_ray.deploy import deployed
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ServeError(
            "Ray is not installed; install it with: pip install './cloud[ray]'"
        ) from error
    from edgewise_cloud.serving.on_ray.replica import application
    from edgewise_cloud.serving.server.server import ServerSettings

    engine = EngineSettings(slots=slots, queue=queue, per_caller=per_caller, dtype=dtype)
    app = application(
        ServerSettings(model=model, engine=engine, grace=grace),
        replicas=(replicas_min, replicas_max),
        resources={"num_cpus": cpus, "num_gpus": gpus},
    )
    stop = threading.Event()
    with deployed(app, port, for_all=insecure):
        # Set after Ray has set its own handlers.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        log.info("serving %s on port %d", model, port)
        stop.wait()
        log.info("draining")
