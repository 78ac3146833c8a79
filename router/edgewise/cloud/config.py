"""How to connect to a cloud: TLS, certificates and token, and the timeouts."""

from dataclasses import dataclass, field, fields
from os import PathLike
from typing import TypeAlias

from edgewise.errors import ConfigurationError

File: TypeAlias = str | PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSecurity:
    """How to connect to the cloud. Any certificate, or `tls` alone, enables TLS.

    Raises ConfigurationError for a certificate without its key and for an invalid token.
    """

    tls: bool = False
    root_certificates: File | None = None  # PEM; None: gRPC's public roots
    client_certificate: File | None = None  # PEM, for a cloud that asks for one
    client_key: File | None = None  # PEM, unencrypted
    token: str | None = field(default=None, repr=False)  # as `edgewise-cloud token` printed it

    def __post_init__(self) -> None:
        """Check what can be checked without reading files."""
        if (self.client_certificate is None) != (self.client_key is None):
            raise ConfigurationError(
                "a client certificate and its key must be set together; one of them is missing"
            )
        if self.token is not None and not _printable(self.token):
            raise ConfigurationError(
                "the cloud token is empty or contains invalid characters; check for whitespace and "
                "line breaks"
            )

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.tls or bool(self.root_certificates or self.client_certificate)


def _printable(token: str) -> bool:
    return bool(token) and all("!" <= character <= "~" for character in token)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTimeouts:
    """Timeouts in seconds. Only tokens count as progress: keep-alive messages do not.

    Raises ConfigurationError for a value that is not above 0 and at most an hour.
    """

    connect: float = 2.0  # to connect and learn what the cloud serves
    first_token: float = 10.0
    between_tokens: float = 10.0
    probe_interval: float = 10.0  # at most, between two probes of a cloud that failed

    def __post_init__(self) -> None:
        """Check."""
        for part in fields(self):
            value = getattr(self, part.name)
            if not 0 < value <= 3600:
                raise ConfigurationError(
                    f"{part.name} is {value}; it must be a number of seconds above 0 and at most "
                    "3600"
                )
