"""GET over HTTP and HTTPS with urllib3: proxies, timeouts, and redirects as far as they are safe."""

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from edgewise.delivery.fetch.redirects import (
    MAX_REDIRECTS,
    REDIRECTS,
    addresses,
    check_public,
    is_public,
    origin,
    redirected,
    refused,
    without_query,
)
from edgewise.delivery.settings import DownloadSettings
from edgewise_edge.installed.fetcher import FetchError, FetchFailure

# One for all devices: it tells nobody which device, program or version asks.
_HEADERS = {"User-Agent": "edgewise", "Accept-Encoding": "identity", "Accept": "*/*"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no redirect, and the headers of the redirects before it."""

    url: str
    response: urllib3.BaseHTTPResponse
    before: list[Mapping[str, str]]


class Connections:
    """The connections to one channel, and to where it redirects."""

    def __init__(self, address: str, settings: DownloadSettings) -> None:
        self._origin = origin(address)
        self._settings = settings
        self._token = settings.read_token()
        self._managers: dict[tuple[str, bool], urllib3.PoolManager] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """The answer, after at most 5 redirects. Raises FetchError."""
        before = list[Mapping[str, str]]()
        guarded = False
        for _ in range(MAX_REDIRECTS + 1):
            response = self._request(url, headers, guarded=guarded)
            if response.status not in REDIRECTS:
                return Answer(url, response, before)
            before.append(response.headers)
            response.close()
            target = redirected(url, response.headers.get("Location"))
            guarded = guarded or self._must_guard(url)
            url = target
        raise refused(f"{without_query(url)} redirects more than {MAX_REDIRECTS} times")

    def close(self) -> None:
        """Close them."""
        for manager in self._managers.values():
            manager.clear()

    def _must_guard(self, url: str) -> bool:
        """Whether redirects from `url` must stay on public addresses."""
        if self._settings.allow_private_redirects:
            return False
        found = addresses(origin(url)[1])
        return not found or any(map(is_public, found))

    def _request(
        self, url: str, headers: Mapping[str, str], *, guarded: bool
    ) -> urllib3.BaseHTTPResponse:
        scheme, host, _ = origin(url)
        proxy = "" if proxy_bypass(host) else getproxies().get(scheme, "")
        if proxy and guarded:  # the proxy connects, but to these addresses as far as we can know
            for address in addresses(host):
                check_public(host, address)
        sent = {**_HEADERS, **headers}
        if self._token and origin(url) == self._origin:
            sent["Authorization"] = f"Bearer {self._token}"
        with errors_in_words(url, self._settings):
            return self._manager(proxy, guarded=guarded and not proxy).request(
                "GET", url, headers=sent, redirect=False, preload_content=False
            )

    def _manager(self, proxy: str, *, guarded: bool) -> urllib3.PoolManager:
        key = proxy, guarded
        if key not in self._managers:
            self._managers[key] = self._new_manager(proxy)
            if guarded:
                self._managers[key].pool_classes_by_scheme = _GUARDED
        return self._managers[key]

    def _new_manager(self, proxy: str) -> urllib3.PoolManager:
        settings = self._settings
        timeout = urllib3.Timeout(connect=settings.connect_timeout, read=settings.stall_timeout)
        certificates = settings.root_certificates and str(settings.root_certificates)
        if not proxy:
            return urllib3.PoolManager(timeout=timeout, retries=False, ca_certs=certificates)
        auth = urllib3.util.parse_url(proxy).auth
        return urllib3.ProxyManager(
            proxy if "://" in proxy else f"http://{proxy}",
            proxy_headers=urllib3.make_headers(proxy_basic_auth=auth) if auth else None,
            timeout=timeout,
            retries=False,
            ca_certs=certificates,
        )


@contextmanager
def errors_in_words(url: str, settings: DownloadSettings) -> Iterator[None]:
    """Turn urllib3's errors into FetchError."""
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        scheme, host, port = origin(url)
        kind = FetchFailure.REFUSED if _lasts(error) else FetchFailure.TEMPORARY
        raise FetchError(kind, f"{scheme}://{host}:{port} {_words(error, settings)}") from error


def _lasts(error: Exception) -> bool:
    """A certificate that is not trusted, an invalid address, a file of authorities that is none."""
    return _untrusted(error) or isinstance(error, ValueError) or not isinstance(error, HTTPError)


def _untrusted(error: Exception) -> bool:
    return isinstance(error, SSLError) and isinstance(_detail(error), ssl.SSLCertVerificationError)


def _detail(error: Exception) -> object:
    """urllib3's errors end with the one that caused them."""
    return error.args[-1] if error.args else error


def _words(error: Exception, settings: DownloadSettings) -> str:
    match error:
        case ProxyError():
            return f"cannot be reached through the proxy: {_detail(error)}"
        case NameResolutionError():
            return "cannot be reached: its name does not resolve"
        case ReadTimeoutError():
            return f"sent nothing for {settings.stall_timeout:g} s"
        case NewConnectionError():
            return f"cannot be reached: {getattr(error.__cause__, 'strerror', None) or error}"
        case ConnectTimeoutError():
            return f"did not answer in {settings.connect_timeout:g} s"
        case SSLError() if _untrusted(error):
            return (
                f"has no certificate that is trusted here: {_detail(error)}; see root_certificates"
            )
        case ProtocolError():
            return f"lost the connection: {_detail(error)}"
    return f"cannot be read: {_detail(error)}"


class _GuardedHTTP(HTTPConnection):
    """Checks the address that it has connected to, whatever its name resolved to a moment ago."""

    def _new_conn(self) -> socket.socket:
        return _checked(self.host, super()._new_conn())


class _GuardedHTTPS(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _checked(self.host, super()._new_conn())


def _checked(host: str, connected: socket.socket) -> socket.socket:
    try:
        check_public(host, connected.getpeername()[0])
    except BaseException:
        connected.close()
        raise
    return connected


class _GuardedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _GuardedHTTP


class _GuardedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedHTTPS


_GUARDED = {"http": _GuardedHTTPPool, "https": _GuardedHTTPSPool}
