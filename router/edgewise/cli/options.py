"""The options that commands share, and how their values are parsed."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edgewise.cloud.config import CloudSecurity
from edgewise.errors import ConfigurationError
from edgewise.policy.types import DeviceState, Mode
from edgewise_edge import RequestError

TOKEN_VARIABLE = "EDGEWISE_CLOUD_TOKEN"  # noqa: S105  # not an argument, which `ps` would show

Prompt = Annotated[
    str | None, typer.Argument(help="The prompt; read from standard input if left out or '-'.")
]
Model = Annotated[str, typer.Option(help="Bundled model or model folder.")]
Cloud = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The cloud service.")]
CloudTls = Annotated[bool, typer.Option("--cloud-tls", help="Connect with TLS.")]
CloudCa = Annotated[
    Path | None, typer.Option(help="PEM; connect with TLS, trusting only this authority.")
]
CloudCertificate = Annotated[
    Path | None, typer.Option(help="PEM; connect with TLS and this client certificate.")
]
CloudKey = Annotated[Path | None, typer.Option(help="PEM; the client certificate's key.")]
CloudTokenFile = Annotated[
    Path | None,
    typer.Option(
        help=f"File with the token for the cloud; default: the variable {TOKEN_VARIABLE}."
    ),
]
MaxTokens = Annotated[int, typer.Option(help="New tokens at most.")]
Temperature = Annotated[float | None, typer.Option(help="0: always the most likely token.")]
TopK = Annotated[int | None, typer.Option(help="0: no limit.")]
TopP = Annotated[float | None, typer.Option(help="1: no limit.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="1: none.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same text.")]
Stop = Annotated[list[str] | None, typer.Option(help="Stop before this text.")]
RoutingMode = Annotated[Mode, typer.Option(help="Which source to use or prefer.")]
Private = Annotated[bool, typer.Option("--private", help="Never leave the device.")]
Latency = Annotated[float | None, typer.Option(help="Seconds for the whole answer.")]
FirstToken = Annotated[float | None, typer.Option(help="Seconds to the first token.")]
Hedge = Annotated[
    float | None,
    typer.Option(help="Seconds without a token until the other source is started too."),
]
Battery = Annotated[
    float | None, typer.Option(min=0, max=1, help="Assume this charge, from 0 to 1.")
]
OnBattery = Annotated[
    bool, typer.Option("--on-battery", help="Assume that no charger is connected.")
]
AvailableMemory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Assume this much free memory, e.g. 200MB.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all, up to 4.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def read_prompt(argument: str | None) -> str:
    """The argument, or standard input. Raises RequestError if there is neither."""
    if argument is not None and argument != "-":
        return argument
    if sys.stdin is None or sys.stdin.isatty():
        raise RequestError("no prompt; give one as an argument or on standard input")
    try:
        return sys.stdin.buffer.read().decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise RequestError(f"standard input is not UTF-8: {error}") from error


def security(
    tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, token_file: Path | None
) -> CloudSecurity:
    """From the --cloud-... options. Raises ConfigurationError."""
    return CloudSecurity(
        tls=tls,
        root_certificates=ca,
        client_certificate=certificate,
        client_key=key,
        token=_read_token(token_file),
    )


def assumed_state(
    state: DeviceState, battery: float | None, on_battery: bool, available_memory: str | None
) -> DeviceState:
    """`state` with the user's assumptions. Raises RequestError for an invalid size."""
    if battery is not None:
        state = replace(state, battery=battery)
    if on_battery:
        state = replace(state, charging=False)
    if available_memory is not None:
        state = replace(state, available_memory=parse_size(available_memory))
    return state


def parse_size(text: str) -> int:
    """Bytes of '200MB', '1.5 GiB' or '4096'. Raises RequestError for anything else."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(?:([kKMGT])(i?)B?|B)?", text.strip())
    if not match:
        raise RequestError(f"'{text}' is not a size; write it like 200MB or 1.5GiB")
    number, prefix, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** " KMGT".index((prefix or " ").upper())
    return round(float(number) * unit)


def _read_token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        # Without its cause, which would quote the file.
        raise ConfigurationError(f"{file} is not a token file: it is not ASCII") from None
