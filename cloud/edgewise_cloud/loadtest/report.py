"""Runs a load test for the command line: a live table, and the result as JSON."""

import asyncio
import time
from contextlib import ExitStack, suppress
from json import dumps
from pathlib import Path
from typing import IO, Any

import typer
from rich.live import Live

from edgewise_cloud.console import INTERRUPTED, console, say
from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.generator import LoadGenerator, LoadTestResult
from edgewise_cloud.loadtest.table import final_table, live_table
from edgewise_edge.standard_streams import emit

REFRESH_INTERVAL = 0.5  # seconds


def run_and_report(generator: LoadGenerator, json: Path | None) -> None:
    """Run to the end or to Ctrl-C, then print what was measured."""
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
            _report(generator.result(), records)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


async def _run(generator: LoadGenerator) -> None:
    async def watch() -> None:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                await asyncio.sleep(REFRESH_INTERVAL)
                if generator.started is not None:
                    elapsed = time.perf_counter() - generator.started
                    live.update(live_table(generator, elapsed), refresh=True)

    watcher = asyncio.create_task(watch()) if console.is_terminal else None
    try:
        await generator.run()
    finally:
        if watcher:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher


def _report(result: LoadTestResult, records: IO[str] | None) -> None:
    with suppress(OSError):  # nobody reads standard error
        console.print(final_table(result))
    for kind, text in _first_messages(result).items():
        say(f"{kind}: {text}")
    try:
        emit(dumps(_rounded(result.as_dict())))
    finally:
        if records:
            _write(records, result)


def _write(records: IO[str], result: LoadTestResult) -> None:
    try:
        records.writelines(
            dumps(_rounded(record.as_dict(result.started))) + "\n" for record in result.records
        )
        records.close()
    except OSError as error:
        raise LoadTestError(f"cannot write {records.name}: {error.strerror}") from error


def _first_messages(result: LoadTestResult) -> dict[str, str]:
    """The message of the first error of each status code, and of the first wrong answer."""
    messages: dict[str, str] = {}
    for record in result.records:
        if record.text:
            messages.setdefault(record.code or record.outcome, record.text)
    return messages


def _writable(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise LoadTestError(f"cannot write {path}: {error.strerror}") from error


def _rounded(value: Any) -> Any:
    """Round floats to six decimals: microseconds, where they are times."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value
