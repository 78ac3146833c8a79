"""The commands of `edgewise`."""

import sys
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated

import typer

from edgewise import ConfigurationError, NoSourceError, RequestError, Router
from edgewise.cli.config import Config, ConfiguredCommand, load_config
from edgewise.cli.doctor import examine
from edgewise.cli.exit_codes import ExitCode
from edgewise.cli.models import models
from edgewise.cli.options.assumed import AssumedDevice
from edgewise.cli.options.groups import Group, with_option_groups
from edgewise.cli.options.request import (
    GenerateOptions,
    Json,
    Prompt,
    RouteOptions,
    ScoreOptions,
)
from edgewise.cli.options.router import Model, RouterOptions, Threads
from edgewise.cli.options.values import read_prompt
from edgewise.cli.output import note, waiting, write, write_json, write_table
from edgewise.cli.serve import serve
from edgewise.cli.tables import decision_table, doctor_table, profile_table, score_table
from edgewise.device.state import read_device_state
from edgewise.generation.result import decision_dict, refusal_dict, score_summary, summary

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        write(f"edgewise {version('edgewise')}")
        raise typer.Exit


@app.callback(epilog=ExitCode.explain())
def read_config(
    context: typer.Context,
    _: Annotated[
        bool,
        typer.Option(
            "-V", "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Generate text on this device or in the cloud, explain the choice, inspect the device."""
    try:
        config = load_config()
    except ConfigurationError as error:
        config = Config(problem=error)
    context.obj = config
    commands = ("generate", "score", "route", "bench", "doctor")
    context.default_map = {name: dict(config.values) for name in commands} | {
        "serve": {**config.values, **config.serve}
    }


@app.command(cls=ConfiguredCommand, epilog=ExitCode.explain())
@with_option_groups
def generate(
    router: RouterOptions, request: GenerateOptions, prompt: Prompt = None, json_: Json = False
) -> None:
    """Continue PROMPT and stream the text. A summary goes to standard error."""
    if request.logprobs is not None and not json_:
        raise RequestError(f"logprobs is {request.logprobs}; it is for --json, so give both")
    text, interrupted, said = read_prompt(prompt), False, False
    with (
        waiting("waiting for the first token") as stop_waiting,
        router.router() as running,
        running.stream(text, **request.request()) as stream,
    ):
        try:
            for chunk in stream:
                if not json_:
                    stop_waiting()
                    write(chunk.text, end="")
                    said = True
        except KeyboardInterrupt:
            interrupted = True
            stream.close()
        except NoSourceError:
            if said:
                write("")
            raise
        generation = stream.generation
    if json_:
        write_json(generation.as_dict())
    else:
        write("")
        note(summary(generation), style="dim")
    if interrupted:
        sys.exit(ExitCode.INTERRUPTED)


@app.command(cls=ConfiguredCommand, epilog=ExitCode.explain())
@with_option_groups
def score(
    router: RouterOptions, request: ScoreOptions, prompt: Prompt = None, json_: Json = False
) -> None:
    """Show how likely each token of PROMPT is. A summary goes to standard error."""
    text = read_prompt(prompt)
    with waiting("reading the prompt"), router.router() as running:
        found = running.score(text, **request.request())
        tokenizer = running.device_source.tokenizer
    if json_:
        texts = [tokenizer.decode([id_]) for id_ in found.token_ids]
        write_json(found.as_dict() | {"texts": texts})
    else:
        write_table(score_table(found, tokenizer))
        note(score_summary(found), style="dim")


@app.command(cls=ConfiguredCommand, epilog=ExitCode.explain())
@with_option_groups
def route(
    router: RouterOptions,
    request: RouteOptions,
    assumed: AssumedDevice,
    prompt: Prompt = None,
    json_: Json = False,
) -> None:
    """Show which source would answer, and why. The device may be an assumed one."""
    text, state = read_prompt(prompt), assumed.over(read_device_state())
    try:
        with waiting("measuring the device"), router.router(lambda: state) as running:
            decision = running.route(text, **request.request())
    except NoSourceError as error:
        if json_:
            write_json(refusal_dict(error.vetoes))
        raise
    if json_:
        write_json(decision_dict(decision))
    else:
        write_table(decision_table(decision))


@app.command(cls=ConfiguredCommand, epilog=ExitCode.explain())
@with_option_groups
def bench(model: Model = "tales", threads: Threads = None, json_: Json = False) -> None:
    """Measure the model on this device. Predicted times then follow the result."""
    with waiting("measuring; takes some seconds"), Router(model, threads=threads) as router:
        profile = router.measure()
    if json_:
        write_json(asdict(profile) | {"wall": profile.wall})
    else:
        write_table(profile_table(profile))


@app.command(cls=ConfiguredCommand, epilog=ExitCode.explain())
@with_option_groups
def doctor(context: typer.Context, router: RouterOptions, json_: Json = False) -> None:
    """Check options, model, device and cloud. The model is compared byte for byte."""
    with waiting("reading the model and asking the cloud"):
        report = examine(context.obj.file, router)
    if json_:
        write_json(report.as_dict())
    else:
        write_table(doctor_table(report))
    sys.exit(report.exit_code)


app.command(cls=ConfiguredCommand, epilog=ExitCode.explain())(serve)
