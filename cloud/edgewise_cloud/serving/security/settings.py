"""Who may reach the service: what an operator sets, and which settings may face a network."""

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
    """TLS and tokens, by the names of files; what these hold is followed while the service runs."""

    certificate: Path | None = None  # PEM, with what signed it if not a root
    key: Path | None = None  # PEM, not encrypted
    client_ca: Path | None = None  # PEM; clients must have a certificate signed by it
    tokens: Path | None = None  # see tokens.py
    insecure: bool = False  # other addresses than loopback may do without TLS and tokens

    def check(self, host: str) -> None:
        """Raise ServeError for settings that contradict each other, or are not enough for `host`."""
        if (self.certificate is None) != (self.key is None):
            raise ServeError("TLS needs both --tls-certificate and --tls-key")
        if self.client_ca and not self.certificate:
            raise ServeError("--tls-client-ca needs --tls-certificate and --tls-key beside it")
        missing = " and ".join(
            words
            for words, there in (
                ("TLS (--tls-certificate, --tls-key)", self.certificate),
                ("tokens (--tokens)", self.tokens),
            )
            if not there
        )
        if missing and not self.insecure and not _is_loopback(host):
            raise ServeError(
                f"refusing to listen on {host} without {missing}: only loopback addresses may do "
                "without, such as 127.0.0.1 behind a proxy that authenticates"
            )

    def credentials(self) -> grpc.ServerCredentials | None:
        """TLS, if any. Raises ServeError."""
        if self.certificate is None or self.key is None:
            return None
        return server_credentials(self.certificate, self.key, self.client_ca)

    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What asks each call for its token, if any is asked for. Raises ServeError."""
        return [TokenInterceptor(self.tokens)] if self.tokens else []


def caller_name(context: "Context") -> str:
    """What tells callers apart: the token's name, else the certificate's, else the address."""
    return token_name.get() or _certificate_name(context) or _address(context.peer())


def _certificate_name(context: "Context") -> str | None:
    properties = context.auth_context()
    for kind in ("x509_common_name", "x509_subject_alternative_name"):
        for name in properties.get(kind, ()):
            if name:
                return bytes(name).decode(errors="replace")
    return None


def _address(peer: str) -> str:
    """`peer` without its port, which every connection has anew: 'ipv6:%5B::1%5D:4242' is '::1'."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else kind


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
