"""`edgewise`: generate text, explain where it would be generated, and examine this device."""

import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgewise.cli.tables import decision_table, doctor_table, profile_table
from edgewise.cloud.config import CloudSecurity
from edgewise.device.state import read_device_state
from edgewise.errors import ConfigurationError, EdgewiseError, NoSourceError
from edgewise.generation.request import DEFAULT_MAX_TOKENS
from edgewise.generation.result import decision_dict, refusal_dict, summary
from edgewise.policy.types import DeviceState, Mode, Privacy
from edgewise.router import Router
from edgewise_edge import EdgeError, RequestError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
notes = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

INTERRUPTED = 130  # what shells report after Ctrl-C
TOKEN_VARIABLE = "EDGEWISE_CLOUD_TOKEN"  # noqa: S105  # not as an argument, which `ps` would show

PromptArgument = Annotated[
    str | None, typer.Argument(help="The prompt; from standard input when left out or '-'.")
]
ModelOption = Annotated[str, typer.Option(help="Bundled model or model folder.")]
CloudOption = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The cloud service.")]
CloudTlsOption = Annotated[bool, typer.Option("--cloud-tls", help="Speak TLS with it.")]
CloudCaOption = Annotated[
    Path | None, typer.Option(help="PEM; TLS, trusting only what this signed.")
]
CloudCertificateOption = Annotated[
    Path | None, typer.Option(help="PEM; TLS, showing this certificate.")
]
CloudKeyOption = Annotated[Path | None, typer.Option(help="PEM; that certificate's key.")]
CloudTokenFileOption = Annotated[
    Path | None,
    typer.Option(help=f"Holds this caller's token; else {TOKEN_VARIABLE} does, if one is needed."),
]
MaxTokensOption = Annotated[int, typer.Option(help="New tokens at most.")]
ModeOption = Annotated[Mode, typer.Option(help="Which side is wanted.")]
PrivateOption = Annotated[bool, typer.Option("--private", help="Never leave the device.")]
LatencyOption = Annotated[float | None, typer.Option(help="Seconds for the whole answer.")]
FirstTokenOption = Annotated[float | None, typer.Option(help="Seconds to the first token.")]
HedgeOption = Annotated[
    float | None, typer.Option(help="Seconds without a token until the other side is asked too.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def generate(
    prompt: PromptArgument = None,
    model: ModelOption = "tales",
    max_tokens: MaxTokensOption = DEFAULT_MAX_TOKENS,
    temperature: Annotated[float | None, typer.Option(help="0: always the likeliest.")] = None,
    top_k: Annotated[int | None, typer.Option(help="0: no limit.")] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="1: none.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed repeats the text.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text.")] = None,
    mode: ModeOption = Mode.PREFER_ON_DEVICE,
    private: PrivateOption = False,
    latency_budget: LatencyOption = None,
    first_token_budget: FirstTokenOption = None,
    hedge_after: HedgeOption = None,
    cloud: CloudOption = None,
    cloud_tls: CloudTlsOption = False,
    cloud_ca: CloudCaOption = None,
    cloud_certificate: CloudCertificateOption = None,
    cloud_key: CloudKeyOption = None,
    cloud_token_file: CloudTokenFileOption = None,
    json_: JsonOption = False,
) -> None:
    """Continue PROMPT, streaming the text; how it came about goes to standard error."""
    text = _prompt(prompt)
    security = _security(cloud_tls, cloud_ca, cloud_certificate, cloud_key, cloud_token_file)
    with (
        Router(model, cloud=cloud, cloud_security=security, mode=mode) as router,
        router.stream(
            text,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
            privacy=Privacy.PRIVATE if private else None,
            latency_budget=latency_budget,
            first_token_budget=first_token_budget,
            hedge_after=hedge_after,
        ) as stream,
    ):
        interrupted = False
        try:
            for chunk in stream:
                if not json_:
                    print(chunk.text, end="", flush=True)
        except KeyboardInterrupt:
            interrupted = True
            stream.close()
        generation = stream.generation
        if json_:
            print(json.dumps(generation.as_dict(), ensure_ascii=False, indent=2))
        else:
            print(flush=True)
            notes.print(summary(generation), style="dim")
    if interrupted:
        sys.exit(INTERRUPTED)


@app.command()
def route(
    prompt: PromptArgument = None,
    model: ModelOption = "tales",
    max_tokens: MaxTokensOption = DEFAULT_MAX_TOKENS,
    mode: ModeOption = Mode.PREFER_ON_DEVICE,
    private: PrivateOption = False,
    latency_budget: LatencyOption = None,
    first_token_budget: FirstTokenOption = None,
    cloud: CloudOption = None,
    cloud_tls: CloudTlsOption = False,
    cloud_ca: CloudCaOption = None,
    cloud_certificate: CloudCertificateOption = None,
    cloud_key: CloudKeyOption = None,
    cloud_token_file: CloudTokenFileOption = None,
    battery: Annotated[
        float | None, typer.Option(min=0, max=1, help="What if the charge were this, 0 to 1?")
    ] = None,
    on_battery: Annotated[
        bool, typer.Option("--on-battery", help="... and no charger fed it?")
    ] = False,
    available_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What if this were free, e.g. 200MB?")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Say where PROMPT would be answered and why, for this device or a what-if one."""
    text = _prompt(prompt)
    state = _what_if(read_device_state(), battery, on_battery, available_memory)
    security = _security(cloud_tls, cloud_ca, cloud_certificate, cloud_key, cloud_token_file)
    with Router(
        model, cloud=cloud, cloud_security=security, mode=mode, device=lambda: state
    ) as router:
        try:
            decision = router.route(
                text,
                max_tokens=max_tokens,
                privacy=Privacy.PRIVATE if private else None,
                latency_budget=latency_budget,
                first_token_budget=first_token_budget,
            )
        except NoSourceError as error:
            if json_:
                print(json.dumps(refusal_dict(error.vetoes), ensure_ascii=False, indent=2))
            raise
    if json_:
        print(json.dumps(decision_dict(decision), ensure_ascii=False, indent=2))
    else:
        Console(highlight=False).print(decision_table(decision))


@app.command()
def bench(
    model: ModelOption = "tales",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; all, up to 4, when left out.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Measure the model on this device, and let the router predict its times by what was found."""
    with Router(model, threads=threads) as router, notes.status("measuring; some seconds"):
        profile = router.measure()
    if json_:
        print(json.dumps(dataclasses.asdict(profile) | {"wall": profile.wall}, indent=2))
    else:
        Console(highlight=False).print(profile_table(profile))


@app.command()
def doctor(
    model: ModelOption = "tales",
    cloud: CloudOption = None,
    cloud_tls: CloudTlsOption = False,
    cloud_ca: CloudCaOption = None,
    cloud_certificate: CloudCertificateOption = None,
    cloud_key: CloudKeyOption = None,
    cloud_token_file: CloudTokenFileOption = None,
) -> None:
    """Say what this device offers: memory, battery, the model, and whether the cloud answers."""
    security = _security(cloud_tls, cloud_ca, cloud_certificate, cloud_key, cloud_token_file)
    with Router(model, cloud=cloud, cloud_security=security) as router:
        Console(highlight=False).print(doctor_table(router))


def _security(
    tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, token_file: Path | None
) -> CloudSecurity:
    return CloudSecurity(
        tls=tls,
        root_certificates=ca,
        client_certificate=certificate,
        client_key=key,
        token=_token(token_file),
    )


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        # Without its cause, which would quote the file.
        raise ConfigurationError(f"{file} is not ASCII, as tokens are") from None


def _prompt(argument: str | None) -> str:
    if argument is not None and argument != "-":
        return argument
    if sys.stdin is None or sys.stdin.isatty():
        raise RequestError("no prompt; give one as an argument or on standard input")
    try:
        return sys.stdin.buffer.read().decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise RequestError(f"standard input is not UTF-8: {error}") from error


def _what_if(
    state: DeviceState, battery: float | None, on_battery: bool, available_memory: str | None
) -> DeviceState:
    """`state` with what the user supposes instead."""
    if battery is not None:
        state = dataclasses.replace(state, battery=battery)
    if on_battery:
        state = dataclasses.replace(state, charging=False)
    if available_memory is not None:
        state = dataclasses.replace(state, available_memory=parse_size(available_memory))
    return state


def parse_size(text: str) -> int:
    """Bytes of '200MB', '1.5 GiB' or '4096'; raises RequestError for anything else."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(?:([kKMGT])(i?)B?|B)?", text.strip())
    if not match:
        raise RequestError(f"'{text}' is no size; write it like 200MB or 1.5GiB")
    number, prefix, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** " KMGT".index((prefix or " ").upper())
    return round(float(number) * unit)


def main() -> None:
    """Run the command line; what goes wrong is one sentence and exit status 2."""
    try:
        app()
    except (EdgewiseError, EdgeError) as error:
        notes.print(f"error: {error}", style="red")
        sys.exit(2)
