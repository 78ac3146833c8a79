"""How to connect to a cloud: TLS, certificates and token, and the timeouts."""

from dataclasses import dataclass, field, fields
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from edgewise.errors import ConfigurationError
from edgewise.options import known_options, require_type
from edgewise_edge.checks import Range, check_fields, shown

File: TypeAlias = str | PathLike[str]


@known_options
@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSecurity:
    """How to connect to the cloud. Any certificate, or `tls` alone, enables TLS.

    Raises ConfigurationError for a certificate without its key, for an invalid token, and for
    `insecure` together with TLS.

    - `tls` (default False): connect with TLS.
    - `root_certificates` (file, PEM; default: gRPC's public roots): the authorities to trust.
    - `client_certificate`, `client_key` (files, PEM, the key unencrypted; default: none): for a cloud
      that asks for a certificate.
    - `token` (default: none): as `edgewise-cloud token` printed it. It is in no `repr`.
    - `insecure` (default False): without TLS and token, connect to other machines too, in a network
      that you trust: whoever is on the way can read prompts and answers.
    """

    tls: bool = False
    root_certificates: File | None = None
    client_certificate: File | None = None
    client_key: File | None = None
    token: str | None = field(default=None, repr=False)
    insecure: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without reading files."""
        for name in ("tls", "insecure"):
            require_type(name, getattr(self, name), bool, "True or False")
        for name in ("root_certificates", "client_certificate", "client_key"):
            # Absolute: a change of the working directory must not change the files.
            object.__setattr__(self, name, _absolute(name, getattr(self, name)))
        if (self.client_certificate is None) != (self.client_key is None):
            raise ConfigurationError(
                "a client certificate and its key must be set together; one of them is missing"
            )
        if self.insecure and self.encrypted:
            raise ConfigurationError(
                "insecure is True, but the connection is to use TLS; leave out insecure, or tls and "
                "the certificates"
            )
        if self.token is not None and not _printable(self.token):
            raise ConfigurationError(
                "the cloud token is empty, not text, or contains invalid characters; check for "
                "whitespace and line breaks"
            )

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.tls or bool(self.root_certificates or self.client_certificate)


def _absolute(name: str, value: object) -> Path | None:
    """An empty path, such as that of an unset variable, must not mean an unencrypted connection."""
    if value is None:
        return None
    path = value if isinstance(value, str) else isinstance(value, PathLike) and fspath(value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigurationError(f"{name} is {shown(value)}; it must be the path of a file")
    try:
        return Path(path).absolute()
    except OSError as error:
        raise ConfigurationError(
            f"{name} is {shown(value)}; the working directory that it starts at has been removed"
        ) from error


def _printable(token: object) -> bool:
    return (
        isinstance(token, str)
        and bool(token)
        and all("!" <= character <= "~" for character in token)
    )


_SECONDS = Range(0, 3600, above=True, unit="seconds")


@known_options
@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTimeouts:
    """Timeouts, each in seconds above 0 and at most 3600. Raises ConfigurationError for others.

    - `connect` (default 2): to connect and learn what the cloud serves.
    - `first_token` (default 10): from the request to the first token. Only tokens count: keep-alive
      messages do not.
    - `between_tokens` (default 10): from one token to the next.
    - `probe_interval` (default 10): at most, between two probes of a cloud that failed.
    """

    connect: float = 2.0
    first_token: float = 10.0
    between_tokens: float = 10.0
    probe_interval: float = 10.0

    def __post_init__(self) -> None:
        """Check."""
        ranges = {part.name: _SECONDS for part in fields(self)}
        check_fields(self, ranges, ConfigurationError)
