"""Which names a request may call this server by.

A web page can point a name of its own at 127.0.0.1 (DNS rebinding); its requests then say that name.
"""

import re
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from edgewise.server.errors import HttpError
from edgewise.server.security.messages import values_of
from edgewise.server.settings import ServerSettings


class HostCheck:
    """Refuses requests whose Host is not this machine's (403)."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            hosts = values_of(scope, b"host")
            if len(hosts) != 1 or not self._allowed(hosts[0]):
                raise HttpError(
                    403,
                    "the Host header is not an address of this server; use the one that it printed",
                    "permission_error",
                    code="host_not_allowed",
                )
        await self._app(scope, receive, send)

    def _allowed(self, host: str) -> bool:
        name = host_name(host)
        served = self._settings.host.lower()
        if is_loopback(name) or name.endswith(".localhost"):
            return True
        if is_loopback(served):
            return False
        # An address is no name that could be pointed elsewhere.
        return name == served or (is_any(served) and is_address(name))


def host_name(host: str) -> str:
    """The name in HOST, HOST:PORT or [IPv6]:PORT, in lower case; "" for anything else."""
    host = host.lower()
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name, port = host, "0"
    if not (port.isascii() and port.isdecimal()):
        return ""
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1] if ":" in name else ""
    return name.removesuffix(".") if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", name) else ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return host.lower() == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_any(host: str) -> bool:
    """Whether it stands for all addresses of this machine."""
    return is_address(host) and ip_address(host).is_unspecified


def is_address(host: str) -> bool:
    """Whether it is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
