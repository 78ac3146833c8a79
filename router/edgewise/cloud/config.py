"""How to speak to a cloud: TLS, certificate and token, and the timeouts."""

from dataclasses import dataclass, field, fields
from os import PathLike
from typing import TypeAlias

from edgewise.errors import ConfigurationError

File: TypeAlias = str | PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSecurity:
    """How to speak to the cloud. Any certificate, or `tls` alone, means TLS.

    Raises ConfigurationError for a certificate without its key and for a token that is none.
    """

    tls: bool = False
    root_certificates: File | None = None  # PEM, trusted to sign the cloud's; None: the web's
    client_certificate: File | None = None  # PEM, shown to a cloud that asks for one
    client_key: File | None = None  # PEM, not encrypted
    token: str | None = field(default=None, repr=False)  # as `edgewise-cloud token` printed it

    def __post_init__(self) -> None:
        """Check what can be checked without reading files."""
        if (self.client_certificate is None) != (self.client_key is None):
            raise ConfigurationError("a client certificate needs its key, and a key a certificate")
        if self.token is not None and not _printable(self.token):
            raise ConfigurationError(
                "the cloud's token is empty or has characters that no token has; was a line break "
                "read with it?"
            )

    @property
    def encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return self.tls or bool(self.root_certificates or self.client_certificate)


def _printable(token: str) -> bool:
    return bool(token) and all("!" <= character <= "~" for character in token)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTimeouts:
    """Seconds. Only tokens count as an answer: what keeps a connection alive does not.

    Raises ConfigurationError for what is no time.
    """

    connect: float = 2.0  # until the connection stands and the cloud has said what it serves
    first_token: float = 10.0
    between_tokens: float = 10.0
    probe_interval: float = 10.0  # at most, between two looks at a cloud that failed

    def __post_init__(self) -> None:
        """Check."""
        for part in fields(self):
            value = getattr(self, part.name)
            if not 0 < value <= 3600:
                raise ConfigurationError(
                    f"{part.name} is {value}; it must be a number of seconds above 0, and an hour "
                    "at most"
                )
