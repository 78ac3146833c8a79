"""Starts and stops Ray Serve with the service on it."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.on_ray import proxy
from edgewise_cloud.serving.on_ray.replica import APPLICATION, DEPLOYMENT


@contextmanager
def deployed(
    application: serve.Application,
    port: int,
    *,
    for_all: bool = False,
    proxies: str = "EveryNode",  # or HeadOnly: Serve's ProxyLocation
) -> Iterator[None]:
    """Serve the application on `port` of each node with a proxy until the block ends.

    Uses the Ray cluster this process has joined, else the one at RAY_ADDRESS or on this machine,
    else starts one. Raises ServeError if the service does not start.
    """
    _require_free(port)
    try:
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        _start(port, proxy.add_for_all if for_all else proxy.add_for_loopback, proxies)
    except (RayError, RayServeException, RuntimeError, ConnectionError, OSError) as error:
        raise ServeError(f"Ray Serve does not start: {_last_line(str(error))}") from error
    try:
        _run(application)
        yield
    finally:
        serve.shutdown()


def _start(port: int, add: proxy.Add, proxies: str) -> None:
    serve.start(
        proxy_location=proxies,
        # Serve's proxies also listen for HTTP; nothing is served there.
        http_options={"host": "127.0.0.1", "port": _free_port()},
        grpc_options={
            "port": port,
            "grpc_servicer_functions": [f"{add.__module__}.{add.__name__}"],
        },
    )


def _run(application: serve.Application) -> None:
    try:
        serve.run(application, name=APPLICATION, route_prefix=None)
    except RuntimeError as error:
        status = serve.status().applications[APPLICATION].deployments[DEPLOYMENT]
        raise ServeError(f"the replicas do not start: {_last_line(status.message)}") from error


def _last_line(text: str) -> str:
    """The last line of a traceback: its error."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no reason given")


def _require_free(port: int) -> None:
    # Serve's proxies share ports (SO_REUSEPORT), so they would not notice another program.
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServeError(
                f"cannot listen on port {port}; is another program using it? Choose another --port"
            ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
