"""The address of a cloud, HOST:PORT: parsed strictly, and alike by all that connect to one."""

import ipaddress
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

DEFAULT_PORT = 50051  # of `edgewise-cloud serve`

_ADDRESS = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})",
    re.ASCII,
)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")
_NUMERIC = re.compile(r"(?:.*\.)?[0-9]+\.?")  # must be an IPv4 address: 127.1 is none here
_NOT_TCP = re.compile(
    r"\s*(unix|unix-abstract|vsock|file|npipe):", re.IGNORECASE
)  # gRPC's, Docker's
_MOST_SHOWN = 100  # characters


class AddressError(ValueError):
    """A text is no address. It shows the correction where there is one, and no password."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a cloud listens. Its `str` is HOST:PORT, an IPv6 address in brackets."""

    host: str  # a name or an IP address, without brackets
    port: int

    def __str__(self) -> str:
        """HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """As a URI, which gRPC cannot read in another way."""
        return f"dns:///{quote(str(self), safe='[]:')}"

    @property
    def is_loopback(self) -> bool:
        """Whether it cannot be another machine."""
        if self.host.removesuffix(".").lower() == "localhost":
            return True
        with suppress(ValueError):
            ip = ipaddress.ip_address(self.host)
            return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
        return False


def parse_address(text: str, what: str = "the cloud address") -> Address:
    """The address, called `what` in the AddressError that another text raises."""
    if address := _parse(text):
        return address
    if _NOT_TCP.match(text):
        raise AddressError(
            f"{what} is {_shown(text)}; that is no address of TCP, over which alone a cloud is "
            f"reached; it must be HOST:PORT, such as '127.0.0.1:{DEFAULT_PORT}'"
        )
    reasons, corrected = list[str](), text
    for reason, correct in _CORRECTIONS:
        before, corrected = corrected, correct(corrected)
        if corrected != before:
            reasons.append(reason)
    reason = " and ".join(reasons) or "its host is neither a name nor an IP address"
    write = f": write '{corrected}'" if _parse(corrected) else f", such as 'host:{DEFAULT_PORT}'"
    raise AddressError(
        f"{what} is {_shown(text)}; {reason}; it must be HOST:PORT{write}{_advice(text)}"
    )


def _parse(text: str) -> Address | None:
    found = _ADDRESS.fullmatch(text)
    if not found or not 0 < int(found["port"]) < 2**16:
        return None
    host = found["host"] if found["ipv6"] is None else found["ipv6"]
    if found["ipv6"] is None and not _NUMERIC.fullmatch(host):
        valid = _NAME.fullmatch(host) is not None
    else:
        ip = _ip(host)
        version = 4 if found["ipv6"] is None else 6
        valid = ip is not None and ip.version == version and not ip.is_unspecified
    return Address(host, int(found["port"])) if valid else None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _shown(text: str) -> str:
    """Without what may be a password."""
    shown = f"...@{text.rpartition('@')[2]}" if "@" in text else text
    return repr(shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}...")


def _advice(text: str) -> str:
    advice = ""
    if re.match(r"\s*(https|grpcs)://", text, re.IGNORECASE):
        advice += "; for TLS set tls of CloudSecurity, or --cloud-tls"
    if "@" in text:
        advice += "; a token belongs in CloudSecurity, or --cloud-token-file"
    return advice


def _with_brackets(text: str) -> str:
    """Brackets around an IPv6 address, with what is most likely the port behind them."""
    if "[" in text or text.count(":") < 2:
        return re.sub(r"^\[([^\]:]*)\]", r"\1", text)
    host, _, port = text.rpartition(":")
    if _ip(host) and port.isdecimal():
        return f"[{host}]:{port}"
    return f"[{text}]" if _ip(text) else text


def _with_valid_port(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return f"{text}:{DEFAULT_PORT}"
    valid = re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 2**16
    return text if valid else f"{host}:{DEFAULT_PORT}"


def _in_ascii(text: str) -> str:
    host, colon, port = text.partition(":")
    with suppress(UnicodeError):
        return text if text.isascii() else f"{host.encode('idna').decode()}{colon}{port}"
    return text


# What is wrong, and how to correct it, in this order.
_CORRECTIONS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("it contains blanks", lambda text: re.sub(r"\s*([:,;])\s*", r"\1", text.strip())),
    (
        "it has a scheme",
        lambda text: re.sub(r"^([A-Za-z][\w+.-]*://+|(dns|ipv4|ipv6):)", "", text),
    ),
    ("it names a user", lambda text: text.rpartition("@")[2]),
    ("it has a path", lambda text: re.split(r"[/?#\\]", text, maxsplit=1)[0]),
    ("it is a list", lambda text: re.split(r"[,;]", text, maxsplit=1)[0]),
    ("it is not in ASCII", _in_ascii),
    ("an IPv6 address, and nothing else, must be in brackets", _with_brackets),
    ("it has no port from 1 to 65535", _with_valid_port),
    ("it has no host", lambda text: re.sub(r"^:", "localhost:", text)),
    (
        "that is an address to listen on, not to connect to",
        lambda text: re.sub(r"^(0\.0\.0\.0|\[::\]):", "127.0.0.1:", text),
    ),
)
