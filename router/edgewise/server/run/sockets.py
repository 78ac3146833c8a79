"""The socket that the server listens on, and the address that clients are told."""

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgewise.errors import ConfigurationError
from edgewise.server.messages.streaming import STALLED
from edgewise.server.security.hosts import is_any
from edgewise.server.settings import ServerSettings
from edgewise_edge.checks import shown


@contextmanager
def listening(settings: ServerSettings) -> Iterator[socket.socket]:
    """A bound socket; a unix socket's file is removed at the end.

    Raises ConfigurationError for an address that cannot be used.
    """
    if settings.unix_socket is None:
        with _bind_address(settings.host, settings.port) as bound:
            yield bound
        return
    with _bind_unix(settings.unix_socket) as bound:
        ours = settings.unix_socket.stat().st_ino
        try:
            yield bound
        finally:
            with suppress(OSError):  # else it is gone, or another server's
                if settings.unix_socket.stat().st_ino == ours:
                    settings.unix_socket.unlink()


def address_of(settings: ServerSettings, bound: socket.socket) -> str:
    """What a client on this machine is given: an URL, or the path of a unix socket."""
    if settings.unix_socket is not None:
        return str(settings.unix_socket)
    port = bound.getsockname()[1]
    host = "localhost" if is_any(settings.host) else settings.host
    scheme = "https" if settings.certificate else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _bind_address(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"host is {shown(host)}, which has no address here") from error
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":  # else a client that reads nothing keeps its reply in memory
            unread = round(STALLED * 1000)  # milliseconds; connections inherit it
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _unusable(error, host, port) from error
    return bound


def _unusable(error: OSError, host: str, port: int) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"port is {port}, which another program uses; stop that one, or choose another port "
            "(0: any free one)"
        )
    if error.errno == errno.EACCES:
        return ConfigurationError(f"port is {port}, which needs root; choose one above 1023")
    reason = error.strerror or error
    return ConfigurationError(f"host is {shown(host)}, where nothing can listen: {reason}")


def _bind_unix(path: Path) -> socket.socket:
    """Nobody else may connect, from the first moment. A dead server's socket is replaced."""
    _remove_dead(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        reason = error.strerror or error  # a path that is too long has no number
        raise ConfigurationError(f"unix_socket is {shown(str(path))}: {reason}") from error
    finally:
        os.umask(before)
    return bound


def _remove_dead(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except OSError:
        return  # not there, or binding says why not
    if not stat.S_ISSOCK(kind):
        raise ConfigurationError(
            f"unix_socket is {shown(str(path))}, which is there and not a socket; choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass
    raise ConfigurationError(
        f"unix_socket is {shown(str(path))}, which another program uses; stop that one, or choose "
        "another path"
    )
