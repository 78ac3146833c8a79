"""Opens a gRPC channel to the cloud, secured as configured."""

import ssl
from pathlib import Path
from typing import NoReturn

import grpc

from edgewise.cloud.config import CloudSecurity, File
from edgewise.errors import ConfigurationError
from edgewise_proto.address import Address

_OPTIONS = [
    # A proxy configured for HTTP is not meant for this, and could read the tokens.
    ("grpc.enable_http_proxy", 0),
    # The router decides what is retried, where and when.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 2000),  # also the connect timeout
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A connection that the network has dropped without a word, such as after a change of network, is
    # closed within 9 s, and within 3 s where data is sent (TCP_USER_TIMEOUT), while calls run. The
    # service allows a ping every 5 s.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.http2.ping_timeout_ms", 3000),
    # Otherwise channels to one address share a connection, also one that failed.
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(address: Address, security: CloudSecurity) -> grpc.Channel:
    """A channel that connects on the first call.

    Raises ConfigurationError for unusable files, and for what would be sent unencrypted to another
    machine: a token in any case, anything else without `insecure`.
    """
    if security.encrypted:
        return grpc.secure_channel(address.target, _credentials(security), options=_OPTIONS)
    if not address.is_loopback:
        _check_unencrypted(address, security)
    return grpc.insecure_channel(address.target, options=_OPTIONS)


def _check_unencrypted(address: Address, security: CloudSecurity) -> None:
    use_tls = "use TLS: set root_certificates or tls of CloudSecurity, or --cloud-ca or --cloud-tls"
    if security.token:
        raise ConfigurationError(
            f"a token is set but the connection to {address.host} is not encrypted; {use_tls}"
        )
    if not security.insecure:
        raise ConfigurationError(
            f"the connection to {address.host} is not encrypted, so that others can read prompts "
            f"and answers; {use_tls}. In a network that you trust, set insecure of CloudSecurity, "
            "or --cloud-insecure"
        )


def _credentials(security: CloudSecurity) -> grpc.ChannelCredentials:
    roots, certificate, key = (
        None if file is None else _read(file)
        for file in (security.root_certificates, security.client_certificate, security.client_key)
    )
    _check_files(security)
    return grpc.ssl_channel_credentials(roots, key, certificate)


def _check_files(security: CloudSecurity) -> None:
    """Raise ConfigurationError for files that gRPC would reject only at the first handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if security.root_certificates is not None:
        try:
            context.load_verify_locations(security.root_certificates)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"{security.root_certificates} contains no certificate in PEM format"
            ) from error
    if security.client_certificate is not None:
        try:
            context.load_cert_chain(
                security.client_certificate, security.client_key, password=_encrypted
            )
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"{security.client_certificate} and {security.client_key} are not a certificate in "
                "PEM format and its key"
            ) from error


def _encrypted() -> NoReturn:
    raise ConfigurationError("the client key is encrypted; decrypt it first")


def _read(file: File) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
