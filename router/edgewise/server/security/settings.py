"""Which settings are safe to serve with."""

import re

from edgewise.errors import ConfigurationError
from edgewise.server.security.hosts import is_loopback
from edgewise.server.settings import ServerSettings
from edgewise_edge.checks import Range, check_fields, shown

# Another one would never be a browser's: * is no wildcard, and a name that is not ASCII is encoded.
_ORIGIN = re.compile(
    r"(?!http://.*:80$|https://.*:443$)"
    r"[a-z][a-z0-9+.-]*://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
)
_RANGES = {
    "port": Range(0, 65535, whole=True),
    "max_waiting": Range(0, 10**6, whole=True, unit="requests"),
    "max_body": Range(1, 2**30, whole=True, unit="bytes"),
    "max_choices": Range(1, 10**4, whole=True, unit="texts"),
    "comment_interval": Range(0, 10**6, above=True, unit="seconds"),
}


def check_settings(settings: ServerSettings) -> None:
    """Raise ConfigurationError for settings that are invalid, or not safe."""
    check_fields(settings, _RANGES, ConfigurationError)
    _check_tls(settings)
    _check_token(settings)
    for origin in settings.allowed_origins:
        if not _ORIGIN.fullmatch(origin.lower()):
            raise ConfigurationError(
                f"allow_origin is {shown(origin)}; write it as a browser does, without a path, and "
                "without the usual port: https://example.com, http://localhost:3000"
            )
    if settings.unix_socket is None and not is_loopback(settings.host):
        _check_exposed(settings)


def _check_tls(settings: ServerSettings) -> None:
    if (settings.certificate is None) != (settings.key is None):
        missing = "tls_key" if settings.key is None else "tls_certificate"
        raise ConfigurationError(f"TLS needs a certificate and its key; give {missing} too")


def _check_token(settings: ServerSettings) -> None:
    if settings.token is not None and not re.fullmatch(r"[!-~]{1,4096}", settings.token):
        raise ConfigurationError(
            "the token of the server is empty, longer than 4,096 characters, or has spaces or other "
            "characters than ASCII's; make one with: python3 -c 'import secrets; print(secrets.token_urlsafe())'"
        )


def _check_exposed(settings: ServerSettings) -> None:
    needed = {
        "tls_certificate and tls_key": settings.certificate,
        "token_file": settings.token,
    }
    if missing := [name for name, value in needed.items() if not value]:
        raise ConfigurationError(
            f"host is {shown(settings.host)}, which other machines can reach; give "
            f"{' and '.join(missing)} too, or serve on 127.0.0.1"
        )
