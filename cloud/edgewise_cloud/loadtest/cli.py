"""`edgewise-cloud load`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from edgewise_cloud.errors import LoadTestError

REQUESTS, CONNECTION = "The requests", "The connection"
TOKEN_VARIABLE = "EDGEWISE_CLOUD_TOKEN"  # noqa: S105  # not an argument, which `ps` would show


def load_test(
    target: Annotated[
        str,
        typer.Option("--target", "--cloud", metavar="HOST:PORT", help="The running service."),
    ],
    streams: Annotated[
        int, typer.Option("--streams", "-s", metavar="N", min=1, help="Concurrent requests.")
    ] = 16,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration", "-d", metavar="TIME", help="Like 500ms, 60s or 2m.", show_default="60s"
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests",
            "-n",
            metavar="N",
            min=1,
            help="Stop after N requests instead, when all have ended.",
            show_default="until --duration is over",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            "-r",
            metavar="NUMBER",
            help="Open loop: requests per second, at random times; at most --streams at once.",
            show_default="closed loop",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Seconds to wait while the model loads; at most 5 for an answer at all.",
        ),
    ] = 30.0,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the record of each request to this file, as a line of JSON.",
            show_default="no file",
        ),
    ] = None,
    prompt_tokens: Annotated[
        str,
        typer.Option(
            metavar="N|N-N",
            help="Tokens of a prompt: a number or a range.",
            rich_help_panel=REQUESTS,
        ),
    ] = "64",
    max_tokens: Annotated[
        str,
        typer.Option(
            metavar="N|N-N",
            help="New tokens: a number or a range like 16-256.",
            rich_help_panel=REQUESTS,
        ),
    ] = "128",
    temperature: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            min=0,
            max=100,
            help="0: always the likeliest token.",
            rich_help_panel=REQUESTS,
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="The same seed sends the same requests.",
            rich_help_panel=REQUESTS,
        ),
    ] = 1,
    shared_prefix: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Tokens that all prompts begin with.", rich_help_panel=REQUESTS
        ),
    ] = 0,
    deadline: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Seconds a request may take.",
            show_default="none",
            rich_help_panel=REQUESTS,
        ),
    ] = None,
    cancel_rate: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of requests to cancel halfway.",
            rich_help_panel=REQUESTS,
        ),
    ] = 0.0,
    warm_up: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Short requests sent first, and not counted.",
            show_default="one per stream",
            rich_help_panel=REQUESTS,
        ),
    ] = None,
    connections: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Connections that the streams share.",
            show_default="one per 16 streams",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    cloud_tls: Annotated[
        bool,
        typer.Option(
            "--cloud-tls",
            help="Connect with TLS, trusting public authorities.",
            show_default="off",
            rich_help_panel=CONNECTION,
        ),
    ] = False,
    cloud_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            help="PEM file; connect with TLS, trusting only this authority.",
            show_default="public authorities",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    cloud_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            help="PEM file; connect with TLS and this client certificate.",
            show_default="none",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    cloud_key: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            help="PEM file; the client certificate's key.",
            show_default="none",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    cloud_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"File with the token for the service; else {TOKEN_VARIABLE} holds it.",
            show_default="that variable",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
) -> None:
    """Load-test a running service: a table while it runs, and one line of JSON at the end.

    Example: edgewise-cloud load --target 127.0.0.1:50051 --streams 64 --duration 60s
    """
    # Read when gRPC is imported. It would log every connection that the service closes.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from edgewise_cloud.loadtest.generator import LoadGenerator
    from edgewise_cloud.loadtest.plan import LoadPlan, parse_duration, parse_token_range
    from edgewise_cloud.loadtest.report import run_and_report
    from edgewise_cloud.loadtest.security import ClientSecurity

    if duration is not None and requests is not None:
        raise LoadTestError(
            "--duration and --requests both say when to stop; give only one of them"
        )
    plan = LoadPlan(
        target=target,
        streams=streams,
        duration=parse_duration(duration or "60s"),
        requests=requests,
        rate=rate,
        prompt_tokens=parse_token_range(prompt_tokens),
        max_tokens=parse_token_range(max_tokens),
        temperature=temperature,
        seed=seed,
        shared_prefix=shared_prefix,
        deadline=deadline,
        cancel_rate=cancel_rate,
        warm_up=warm_up,
        connections=connections,
        wait=wait,
        security=ClientSecurity(
            tls=cloud_tls,
            root_certificates=cloud_ca,
            client_certificate=cloud_certificate,
            client_key=cloud_key,
            token=_read_token(cloud_token_file),
        ),
    )
    run_and_report(LoadGenerator(plan), json)


def _read_token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise LoadTestError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        # Without its cause, which would quote the file.
        raise LoadTestError(f"{file} is not a token file: it is not ASCII") from None
