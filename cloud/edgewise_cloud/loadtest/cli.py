"""`edgewise-cloud load`."""

import asyncio
import os
import time
from contextlib import ExitStack, suppress
from json import dumps
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from edgewise_cloud.console import console, say
from edgewise_cloud.errors import LoadTestError

if TYPE_CHECKING:
    from edgewise_cloud.loadtest.generator import LoadGenerator, Measured

REFRESH = 0.5  # seconds


def load(
    target: Annotated[str, typer.Option(help="HOST:PORT of a running service.")],
    streams: Annotated[int, typer.Option(help="Requests at once.")] = 16,
    duration: Annotated[str | None, typer.Option(help="Like 60s or 2m; 60s if absent.")] = None,
    requests: Annotated[
        int | None, typer.Option(help="Stop after so many instead, all of them answered.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Open loop: requests due a second, at random times; --streams at most."),
    ] = None,
    prompt_tokens: Annotated[str, typer.Option(help="A number, or a span like 16-256.")] = "64",
    max_tokens: Annotated[str, typer.Option(help="The same, of new tokens.")] = "128",
    temperature: Annotated[float, typer.Option(help="0: the likeliest token always.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed sends the same requests.")] = 1,
    shared_prefix: Annotated[int, typer.Option(help="Tokens all prompts begin with.")] = 0,
    deadline: Annotated[float | None, typer.Option(help="Seconds a request may take.")] = None,
    cancel_rate: Annotated[float, typer.Option(help="Share to cancel half way, 0 to 1.")] = 0.0,
    warm_up: Annotated[
        int | None, typer.Option(help="Short requests sent before; one a stream if absent.")
    ] = None,
    connections: Annotated[
        int | None, typer.Option(help="One for every 16 streams if absent.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a model that loads.")] = 30.0,
    json: Annotated[
        Path | None, typer.Option(help="Write what became of each request, a JSON line each.")
    ] = None,
) -> None:
    """Put load on a running service: a table while it runs, and one line of JSON at the end."""
    # Read when gRPC is imported, which would tell of every connection that a service closes.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from edgewise_cloud.loadtest.generator import LoadGenerator
    from edgewise_cloud.loadtest.plan import LoadPlan, parse_duration, parse_span

    if duration is not None and requests is not None:
        raise LoadTestError("--duration and --requests both say when to stop; give one of them")
    plan = LoadPlan(
        target=target,
        streams=streams,
        duration=parse_duration(duration or "60s"),
        requests=requests,
        rate=rate,
        prompt_tokens=parse_span(prompt_tokens),
        max_tokens=parse_span(max_tokens),
        temperature=temperature,
        seed=seed,
        shared_prefix=shared_prefix,
        deadline=deadline,
        cancel_rate=cancel_rate,
        warm_up=warm_up,
        connections=connections,
        wait=wait,
    )
    generator = LoadGenerator(plan)
    with ExitStack() as stack:
        records = stack.enter_context(_writable(json)) if json else None
        interrupted = False
        try:
            asyncio.run(_run(generator))
        except KeyboardInterrupt:
            interrupted = True
        if generator.started is None:
            say("stopped before anything was measured")
        else:
            _report(generator.measured(), records)
    if interrupted:
        raise typer.Exit(130)


async def _run(generator: "LoadGenerator") -> None:
    from edgewise_cloud.loadtest.table import live_table

    async def watch() -> None:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                await asyncio.sleep(REFRESH)
                if generator.started is not None:
                    passed = time.perf_counter() - generator.started
                    live.update(live_table(generator, passed), refresh=True)

    watcher = asyncio.create_task(watch()) if console.is_terminal else None
    try:
        await generator.run()
    finally:
        if watcher:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher


def _report(measured: "Measured", records: IO[str] | None) -> None:
    from edgewise_cloud.loadtest.table import final_table

    console.print(final_table(measured))
    for kind, text in _first_words(measured).items():
        say(f"{kind}: {text}")
    print(dumps(_rounded(measured.as_dict())), flush=True)
    if records:
        try:
            records.writelines(
                dumps(_rounded(record.as_dict(measured.started))) + "\n"
                for record in measured.records
            )
            records.close()
        except OSError as error:
            raise LoadTestError(f"cannot write {records.name}: {error.strerror}") from error


def _first_words(measured: "Measured") -> dict[str, str]:
    """What the service said with the first error of each code, and what the first wrong answer was."""
    words: dict[str, str] = {}
    for record in measured.records:
        if record.text:
            words.setdefault(record.code or record.outcome, record.text)
    return words


def _writable(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise LoadTestError(f"cannot write {path}: {error.strerror}") from error


def _rounded(value: Any) -> Any:
    """Floats to microseconds, or as fine as those that are smaller ask for."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value
