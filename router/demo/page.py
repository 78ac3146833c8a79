"""`make page`: a cloud service, and the page over a router that knows it, until Ctrl-C."""

import os
import socket
import sys
import webbrowser
from collections.abc import Sequence

from demo.narrate import console
from demo.service import CloudService
from demo.waiting import show_last_words, wait_until_serving
from edgewise import EdgewiseError, Router
from edgewise.server.run import Serving, serve
from edgewise.server.settings import ServerSettings


def main(command: Sequence[str] = ()) -> int:
    """Serve the page; the exit status. `command` is CloudService's."""
    console.print(
        "A page with a prompt box: [green]this device[/] and [cyan]a cloud[/] write, and it says which "
        "and why. First the cloud service starts: it imports TensorFlow and compiles its model, in "
        "half a minute, or some minutes on a busy machine."
    )
    with CloudService(command) as cloud:
        wait_until_serving(cloud)
        if cloud.exit_status is not None:
            show_last_words(cloud)
            return 1
        try:
            with Router(cloud=cloud.address) as router:
                serve(router, ServerSettings(port=port()), invite)
        except EdgewiseError as error:
            console.print(f"error: {error}", style="red", markup=False)
            return 1
    console.print("\nThe page and the cloud service have been stopped.")
    return 0


def port() -> int:
    """The usual one of `edgewise serve`, so that the address can be kept; if it is taken, any."""
    usual = ServerSettings().port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return 0
    return usual


def invite(serving: Serving) -> None:
    """Say where the page is, and show it where there are windows."""
    console.print(f"\nThe page is at [bold]{serving.address}[/]. Ctrl-C ends it, and its cloud.")
    windows = sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if windows:  # a browser of the terminal would take it over
        webbrowser.open(serving.address)
