"""TLS: the certificate, its key, and the authority of client certificates, reloaded on change."""

import ssl
from pathlib import Path
from typing import NoReturn

import grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.security.reloading import Reloaded, read_bytes


def server_credentials(
    certificate: Path, key: Path, client_ca: Path | None
) -> grpc.ServerCredentials:
    """Credentials from PEM files; new connections use the files' latest version.

    With `client_ca`, clients must present a certificate signed by it. Raises ServeError.
    """
    files = [file for file in (certificate, key, client_ca) if file]
    configuration = Reloaded(files, lambda: _configuration(certificate, key, client_ca))
    return grpc.dynamic_ssl_server_credentials(
        configuration(), configuration, require_client_authentication=client_ca is not None
    )


def _configuration(
    certificate: Path, key: Path, client_ca: Path | None
) -> grpc.ServerCertificateConfiguration:
    chain = _pem(certificate, "CERTIFICATE-----", "certificate")
    private = _pem(key, "PRIVATE KEY-----", "private key")
    authority = _pem(client_ca, "CERTIFICATE-----", "certificate") if client_ca else None
    # gRPC reports bad files only at the first handshake; OpenSSL does at once.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_pair(context, certificate, key)
    if client_ca:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            raise ServeError(f"{client_ca} holds a damaged certificate") from error
    return grpc.ssl_server_certificate_configuration(
        [(private, chain)], root_certificates=authority
    )


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def encrypted() -> NoReturn:
        raise ServeError(f"{key} is encrypted; decrypt it, and protect it by its file mode")

    try:
        context.load_cert_chain(certificate, key, password=encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ServeError(f"the key {key} does not belong to {certificate}") from error
        raise ServeError(
            f"{certificate} or {key} is damaged, or of a type that TLS does not support"
        ) from error


def _pem(file: Path, marker: str, kind: str) -> bytes:
    data = read_bytes(file)
    if marker.encode() not in data:
        raise ServeError(f"{file} holds no {kind} in PEM form (-----BEGIN ...)")
    return data
