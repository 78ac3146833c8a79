"""How a load test connects: TLS, certificates and token."""

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import grpc

from edgewise_cloud.errors import LoadTestError

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # every error is to be counted
    # Otherwise channels to the same target share one connection.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSecurity:
    """What the service under test asks for. Any certificate, or `tls` alone, enables TLS.

    Raises LoadTestError for a certificate without its key, and for an invalid token.
    """

    tls: bool = False
    root_certificates: Path | None = None  # PEM; None: gRPC's public roots
    client_certificate: Path | None = None  # PEM
    client_key: Path | None = None  # PEM, unencrypted
    token: str | None = field(default=None, repr=False)  # as `edgewise-cloud token` printed it

    def __post_init__(self) -> None:
        """Check what can be checked without reading files."""
        if (self.client_certificate is None) != (self.client_key is None):
            raise LoadTestError("give both --cloud-certificate and --cloud-key; one is missing")
        if self.token is not None and not _printable(self.token):
            raise LoadTestError(
                "the token is empty or contains invalid characters; check --cloud-token-file for "
                "whitespace and line breaks"
            )

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.tls or bool(self.root_certificates or self.client_certificate)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of each call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def check(self, target: str) -> None:
        """Raise LoadTestError for a token that would be sent unencrypted, and for unusable files."""
        host = target.rpartition(":")[0].strip("[]")
        if self.token and not self.encrypted and not _is_loopback(host):
            raise LoadTestError(
                f"a token is set but the connection to {host} is not encrypted; add --cloud-ca or "
                "--cloud-tls"
            )
        self._check_files()

    def open_channel(self, target: str) -> grpc.aio.Channel:
        """A channel with a connection of its own, without proxies and retries."""
        target = f"dns:///{target}"  # a URI, which gRPC cannot read in another way
        if not self.encrypted:
            return grpc.aio.insecure_channel(target, options=_OPTIONS)
        roots, key, certificate = (
            None if file is None else _read(file)
            for file in (self.root_certificates, self.client_key, self.client_certificate)
        )
        credentials = grpc.ssl_channel_credentials(roots, key, certificate)
        return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)

    def _check_files(self) -> None:
        """GRPC would reject them at the first handshake only, without a reason."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for file in (self.root_certificates, self.client_certificate, self.client_key):
            if file:
                _read(file)
        try:
            if self.root_certificates:
                context.load_verify_locations(self.root_certificates)
        except ssl.SSLError as error:
            raise LoadTestError(
                f"{self.root_certificates} contains no certificate in PEM format"
            ) from error
        try:
            if self.client_certificate:
                context.load_cert_chain(self.client_certificate, self.client_key, _encrypted)
        except ssl.SSLError as error:
            raise LoadTestError(
                f"{self.client_certificate} and {self.client_key} are not a certificate in PEM "
                "format and its key"
            ) from error


def _encrypted() -> NoReturn:
    raise LoadTestError("the client key is encrypted; decrypt it first")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise LoadTestError(f"cannot read {file}: {error.strerror}") from error


def _printable(token: str) -> bool:
    return bool(token) and all("!" <= character <= "~" for character in token)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
