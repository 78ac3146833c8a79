"""Which redirects are followed: none that would reach what the address's owner should not reach."""

import ipaddress
import socket
from urllib.parse import SplitResult, urljoin, urlsplit

from edgewise_edge.installed.fetcher import FetchError, FetchFailure

MAX_REDIRECTS = 5
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
REDIRECTS = {301, 302, 303, 307, 308}


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower().rstrip("."), port


def without_query(url: str) -> str:
    """For messages: what comes after may be a secret, as in signed addresses of storage services."""
    parts = urlsplit(url)
    return SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "").geturl()


def redirected(url: str, location: str | None) -> str:
    """Where `location`, in the answer of `url`, leads. Raises FetchError if it may not."""
    try:
        target = urljoin(url, location or "")
        scheme, host, _ = origin(target)  # which checks the port, too
    except ValueError:
        scheme, host = "", ""
    reason = ""
    if not location or scheme not in {"http", "https"} or not host:
        reason = "redirects to no HTTP address"
    elif scheme == "http" and url.startswith("https:"):
        reason = f"redirects to {without_query(target)}, without TLS"
    elif "@" in urlsplit(target).netloc:
        reason = "redirects to an address with a password"
    if reason:
        raise refused(f"{without_query(url)} {reason}; this is not followed")
    return target


def is_public(address: str) -> bool:
    """Whether the IP address is one of the Internet, not of this machine or a private network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = _embedded(ip) or ip
    return ip.is_global and not ip.is_multicast


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that gateways make of it."""
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) % 2**32)
    return ip.ipv4_mapped or ip.sixtofour


def addresses(host: str) -> list[str]:
    """The IP addresses of `host`; none if it does not resolve here."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None)]
    except (OSError, UnicodeError):
        return []


def check_public(host: str, address: str) -> None:
    """Raise FetchError unless the address, to which a redirect to `host` leads, is public."""
    if not is_public(address):
        raise refused(
            f"a public address redirects to {host} ({address}), in a private network; this is not "
            "followed. Set allow_private_redirects if it is right"
        )


def refused(message: str) -> FetchError:
    """An error for which trying again does not help."""
    return FetchError(FetchFailure.REFUSED, message)
