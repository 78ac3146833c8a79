"""The connection to the cloud, as secure as was asked for. With in_cloud, all that imports gRPC."""

import ipaddress
import ssl
from pathlib import Path
from typing import NoReturn

import grpc

from edgewise.cloud.config import CloudSecurity, File
from edgewise.errors import ConfigurationError

_OPTIONS = [
    # A proxy set for web pages is not meant for this, and would read the tokens.
    ("grpc.enable_http_proxy", 0),
    # What failed goes on elsewhere; the router decides what is tried again, and when.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 2000),  # also how long connecting may take
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Each connection its own: channels to one address would share one, and its troubles.
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(address: str, security: CloudSecurity) -> grpc.Channel:
    """A connection to HOST:PORT, made when first used.

    Raises ConfigurationError for an address that is none, files that cannot be used, and a token
    that others could read on its way.
    """
    host = _host(address)
    if security.encrypted:
        return grpc.secure_channel(address, _credentials(security), options=_OPTIONS)
    if security.token and not _is_loopback(host):
        raise ConfigurationError(
            f"a token would cross the network to {host} for all to read; use TLS: "
            "root_certificates or tls of CloudSecurity, --cloud-ca or --cloud-tls"
        )
    return grpc.insecure_channel(address, options=_OPTIONS)


def _credentials(security: CloudSecurity) -> grpc.ChannelCredentials:
    roots, certificate, key = (
        None if file is None else _read(file)
        for file in (security.root_certificates, security.client_certificate, security.client_key)
    )
    _check_files(security)
    return grpc.ssl_channel_credentials(roots, key, certificate)


def _check_files(security: CloudSecurity) -> None:
    """Raise ConfigurationError for what gRPC would only stumble over at the first handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if security.root_certificates is not None:
        try:
            context.load_verify_locations(security.root_certificates)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"{security.root_certificates} holds no certificate in PEM form"
            ) from error
    if security.client_certificate is not None:
        try:
            context.load_cert_chain(
                security.client_certificate, security.client_key, password=_encrypted
            )
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"{security.client_certificate} and {security.client_key} are no certificate in "
                "PEM form and its key"
            ) from error


def _encrypted() -> NoReturn:
    raise ConfigurationError("the client's key is encrypted; decrypt it first")


def _read(file: File) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error


def _host(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not port.isascii() or not 0 < int(port) < 2**16:
        raise ConfigurationError(f"the cloud's address is '{address}'; it must be HOST:PORT")
    return host.strip("[]")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
