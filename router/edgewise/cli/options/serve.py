"""The options of the HTTP server."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgewise.cli.options.groups import HTTP
from edgewise.cli.options.values import file_path, not_empty, read_token

if TYPE_CHECKING:
    from edgewise.server.settings import ServerSettings

HTTP_TOKEN_VARIABLE = "EDGEWISE_HTTP_TOKEN"  # noqa: S105  # not an argument, which `ps` would show


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where the server listens, and whom it answers. `[serve]` of the config file may set each."""

    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            parser=not_empty,
            help="Address to listen on; other than loopback needs TLS and a token.",
            rich_help_panel=HTTP,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, typer.Option(metavar="PORT", help="0: any free one.", rich_help_panel=HTTP)
    ] = 8765
    unix_socket: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            parser=file_path,
            help="Listen on a unix socket of this user instead.",
            show_default="none",
            rich_help_panel=HTTP,
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=file_path,
            help="File with the token that clients must send.",
            show_default=f"the variable {HTTP_TOKEN_VARIABLE}",
            rich_help_panel=HTTP,
        ),
    ] = None
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            parser=file_path,
            help="Certificate of the server; needs --tls-key.",
            show_default="no TLS",
            rich_help_panel=HTTP,
        ),
    ] = None
    tls_key: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            parser=file_path,
            help="Key of the certificate, unencrypted.",
            show_default="none",
            rich_help_panel=HTTP,
        ),
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="A web page that may use the server, such as http://localhost:3000; repeatable.",
            show_default="only its own page",
            rich_help_panel=HTTP,
        ),
    ] = None
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            show_default="off",
            help="Every request is private, whatever its headers say.",
            rich_help_panel=HTTP,
        ),
    ] = False
    strict_chat: Annotated[
        bool,
        typer.Option(
            "--strict-chat",
            show_default="off",
            help="Refuse chats if the model has no chat template.",
            rich_help_panel=HTTP,
        ),
    ] = False
    max_waiting: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Requests that wait for their turn; one more is refused.",
            rich_help_panel=HTTP,
        ),
    ] = 32

    def settings(self) -> "ServerSettings":
        """Raises ConfigurationError."""
        from edgewise.server.settings import ServerSettings

        return ServerSettings(
            host=self.host,
            port=self.port,
            unix_socket=self.unix_socket,
            token=read_token(self.token_file, HTTP_TOKEN_VARIABLE),
            certificate=self.tls_certificate,
            key=self.tls_key,
            allowed_origins=tuple(self.allow_origin or ()),
            private=self.private,
            strict_chat=self.strict_chat,
            max_waiting=self.max_waiting,
        )
