"""`edgewise`: generate text, explain where it would be generated, and inspect this device."""

import dataclasses
import json
import sys

import typer
from rich.console import Console

from edgewise.cli import options
from edgewise.cli.tables import decision_table, doctor_table, profile_table
from edgewise.device.state import read_device_state
from edgewise.errors import EdgewiseError, NoSourceError
from edgewise.generation.result import decision_dict, refusal_dict, summary
from edgewise.options import DEFAULT_MAX_TOKENS
from edgewise.policy.types import Mode, Privacy
from edgewise.router import Router
from edgewise_edge import EdgeError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
notes = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

INTERRUPTED = 130  # what shells report after Ctrl-C


@app.command()
def generate(
    prompt: options.Prompt = None,
    model: options.Model = "tales",
    max_tokens: options.MaxTokens = DEFAULT_MAX_TOKENS,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
    stop: options.Stop = None,
    mode: options.RoutingMode = Mode.PREFER_ON_DEVICE,
    private: options.Private = False,
    latency_budget: options.Latency = None,
    first_token_budget: options.FirstToken = None,
    hedge_after: options.Hedge = None,
    cloud: options.Cloud = None,
    cloud_tls: options.CloudTls = False,
    cloud_ca: options.CloudCa = None,
    cloud_certificate: options.CloudCertificate = None,
    cloud_key: options.CloudKey = None,
    cloud_token_file: options.CloudTokenFile = None,
    json_: options.Json = False,
) -> None:
    """Continue PROMPT and stream the text; a summary goes to standard error."""
    text = options.read_prompt(prompt)
    security = options.security(cloud_tls, cloud_ca, cloud_certificate, cloud_key, cloud_token_file)
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
    prompt: options.Prompt = None,
    model: options.Model = "tales",
    max_tokens: options.MaxTokens = DEFAULT_MAX_TOKENS,
    mode: options.RoutingMode = Mode.PREFER_ON_DEVICE,
    private: options.Private = False,
    latency_budget: options.Latency = None,
    first_token_budget: options.FirstToken = None,
    cloud: options.Cloud = None,
    cloud_tls: options.CloudTls = False,
    cloud_ca: options.CloudCa = None,
    cloud_certificate: options.CloudCertificate = None,
    cloud_key: options.CloudKey = None,
    cloud_token_file: options.CloudTokenFile = None,
    battery: options.Battery = None,
    on_battery: options.OnBattery = False,
    available_memory: options.AvailableMemory = None,
    json_: options.Json = False,
) -> None:
    """Show where PROMPT would be answered and why, on this device or an assumed one."""
    text = options.read_prompt(prompt)
    state = options.assumed_state(read_device_state(), battery, on_battery, available_memory)
    security = options.security(cloud_tls, cloud_ca, cloud_certificate, cloud_key, cloud_token_file)
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
    model: options.Model = "tales", threads: options.Threads = None, json_: options.Json = False
) -> None:
    """Measure the model on this device; the router then predicts its times from the result."""
    with Router(model, threads=threads) as router, notes.status("measuring; takes some seconds"):
        profile = router.measure()
    if json_:
        print(json.dumps(dataclasses.asdict(profile) | {"wall": profile.wall}, indent=2))
    else:
        Console(highlight=False).print(profile_table(profile))


@app.command()
def doctor(
    model: options.Model = "tales",
    cloud: options.Cloud = None,
    cloud_tls: options.CloudTls = False,
    cloud_ca: options.CloudCa = None,
    cloud_certificate: options.CloudCertificate = None,
    cloud_key: options.CloudKey = None,
    cloud_token_file: options.CloudTokenFile = None,
) -> None:
    """Report memory, battery, the model, and whether the cloud answers."""
    security = options.security(cloud_tls, cloud_ca, cloud_certificate, cloud_key, cloud_token_file)
    with Router(model, cloud=cloud, cloud_security=security) as router:
        Console(highlight=False).print(doctor_table(router))


def main() -> None:
    """Run the command line. Errors are printed as one sentence, with exit status 2."""
    try:
        app()
    except (EdgewiseError, EdgeError) as error:
        notes.print(f"error: {error}", style="red")
        sys.exit(2)
