"""The operator's security settings, and which of them a bind address needs."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.security.tls import server_credentials
from edgewise_cloud.serving.security.tokens import TokenInterceptor, token_name

if TYPE_CHECKING:
    from edgewise_cloud.serving.security.tokens import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Files for TLS and tokens; changes to them take effect while the service runs."""

    certificate: Path | None = None  # PEM, with intermediate certificates
    key: Path | None = None  # PEM, unencrypted
    client_ca: Path | None = None  # PEM; clients must have a certificate signed by it
    tokens: Path | None = None  # see tokens.py
    insecure: bool = False  # allow non-loopback addresses without TLS and tokens

    def __post_init__(self) -> None:
        """Make paths absolute: files are read again later, perhaps from another folder."""
        for name in ("certificate", "key", "client_ca", "tokens"):
            if (file := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(file).absolute())

    def check(self, host: str) -> None:
        """Raise ServeError if settings contradict each other, or are not enough for `host`."""
        if (self.certificate is None) != (self.key is None):
            raise ServeError("TLS needs both --tls-certificate and --tls-key")
        if self.client_ca and not self.certificate:
            raise ServeError("--tls-client-ca needs --tls-certificate and --tls-key as well")
        missing = " and ".join(
            option
            for option, given in (
                ("TLS (--tls-certificate, --tls-key)", self.certificate),
                ("tokens (--tokens)", self.tokens),
            )
            if not given
        )
        if missing and not self.insecure and not is_loopback(host):
            raise ServeError(
                f"refusing to listen on {host} without {missing}: only loopback addresses need "
                "neither, such as 127.0.0.1 behind a proxy that authenticates"
            )

    def credentials(self) -> grpc.ServerCredentials | None:
        """TLS credentials, if TLS is set. Raises ServeError."""
        if self.certificate is None or self.key is None:
            return None
        return server_credentials(self.certificate, self.key, self.client_ca)

    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """The check of bearer tokens, if tokens are set. Raises ServeError."""
        return [TokenInterceptor(self.tokens)] if self.tokens else []


def caller_name(context: "Context") -> str:
    """The caller's name: its token's, else its certificate's, else its address."""
    return token_name.get() or _certificate_name(context) or _address(context.peer())


def _certificate_name(context: "Context") -> str | None:
    properties = context.auth_context()
    for kind in ("x509_common_name", "x509_subject_alternative_name"):
        for name in properties.get(kind, ()):
            if name:
                return bytes(name).decode(errors="replace")
    return None


def _address(peer: str) -> str:
    """`peer` without its port, which differs per connection: 'ipv6:%5B::1%5D:4242' gives '::1'."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else kind


def is_loopback(host: str) -> bool:
    """Whether only callers on this machine reach `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
