"""The server's certificate."""

import ssl
from pathlib import Path
from typing import NoReturn

from edgewise.errors import ConfigurationError
from edgewise_edge.checks import shown


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer. Raises ConfigurationError for files that cannot be used."""
    for name, file in {"tls_certificate": certificate, "tls_key": key}.items():
        try:
            file.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise ConfigurationError(f"{name} is {shown(str(file))}: {reason}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_encrypted)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"tls_certificate is {shown(str(certificate))}, which is no PEM certificate, or tls_key is "
            f"not its key: {error.reason or error}"
        ) from error
    return context


def _encrypted() -> NoReturn:
    raise ConfigurationError("tls_key is encrypted; give a key without a passphrase")
