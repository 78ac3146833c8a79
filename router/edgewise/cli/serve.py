"""`edgewise serve`: the router behind HTTP."""

import json
import shlex
import webbrowser
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from edgewise import ConfigurationError, Observer, Privacy, Router
from edgewise.cli.options.groups import HTTP, with_option_groups
from edgewise.cli.options.router import RouterOptions
from edgewise.cli.options.serve import ServeOptions
from edgewise.cli.output import note

if TYPE_CHECKING:
    from edgewise.server.run import Serving
    from edgewise.server.settings import ServerSettings


@with_option_groups
def serve(
    router: RouterOptions,
    http: ServeOptions,
    open_: Annotated[
        bool,
        typer.Option(
            "--open", show_default="off", help="Open the page in the browser.", rich_help_panel=HTTP
        ),
    ] = False,
) -> None:
    """Serve OpenAI's API and a page over HTTP.

    Until Ctrl-C; running texts may then end. Example: edgewise serve --open
    """
    settings = http.settings()
    if open_ and settings.unix_socket:
        raise ConfigurationError("unix_socket is no address for a browser; leave out --open")
    try:
        from edgewise.server.run import serve as run
        from edgewise.server.security.settings import check_settings
    except ImportError as error:
        raise ConfigurationError(
            f"edgewise serve needs {error.name}; in edgewise's checkout: "
            "pip install ./proto ./edge './router[http]'"
        ) from error
    check_settings(settings)  # before the router, which opens the model
    privacy = Privacy.PRIVATE if settings.private else Privacy.ALLOW_CLOUD
    with router.router(default_privacy=privacy, observers=_metrics()) as running:

        def on_ready(serving: "Serving") -> None:
            _tell(running, settings, serving.address)
            if open_:
                webbrowser.open(serving.address)

        run(running, settings, on_ready)
    note("stopped", style="none")


@cache
def _metrics() -> tuple[Observer, ...]:
    """Counts for /metrics, where prometheus-client is installed; once in a process."""
    try:
        from edgewise.metrics import Metrics
    except ConfigurationError:
        return ()
    return (Metrics(),)


def _tell(router: Router, settings: "ServerSettings", address: str) -> None:
    """What is served, where, and what to type next."""
    where = f"with {router.cloud_source}" if router.cloud_source else "on this device only"
    private = ", every text private" if settings.private else ""
    note(f"serving {router!r} {where}{private}: {address}", style="none")
    note(f"try: {_example(settings, address)}", style="none")


def _example(settings: "ServerSettings", address: str) -> str:
    """A command that asks this server."""
    command = ["curl", "-N"]
    if settings.unix_socket:
        command += ["--unix-socket", address]
        address = f"{'https' if settings.certificate else 'http'}://localhost"
    if settings.certificate:
        command += ["--cacert", str(settings.certificate)]
    body = {"prompt": "Once upon a time", "stream": True}
    words = [*command, f"{address}/v1/completions", "--json", json.dumps(body)]
    token = ' -H "Authorization: Bearer $TOKEN"' if settings.token else ""
    return shlex.join(words) + token
