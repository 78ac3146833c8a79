"""What the service logs, and what it must not log."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.serving.observe.logs import LogFormat, RequestLog, configure_logs
from edgewise_cloud.serving.redact import redacted_traceback
from edgewise_cloud.serving.types import Caller, RequestOutcome
from tests.support.generate_requests import CANARY, ask, shows, until
from tests.support.service import Running, serving

# A service without a model, and a caller.
HIT_BY_GOAWAY = """
import asyncio
from edgewise_cloud.serving.server.server import Server, ServerSettings
from tests.support.network.goaway import goaway
from tests.support.network.raw_http2 import PING, Http2, frame

def hit(port):
    with Http2(f"127.0.0.1:{port}") as http2:
        http2.send(goaway(), frame(PING, b"and then"))
        next(part for part in http2.frames() if part.payload == b"and then")

async def main():
    server = Server(ServerSettings(port=0, grace=0))
    await asyncio.to_thread(hit, await server.start())
    await server.drain()
    print("closed")

asyncio.run(main())
"""

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder)) as running:
        yield running


@pytest.fixture(params=LogFormat)
def written(request: pytest.FixtureRequest) -> io.StringIO:
    """The log, in either format; the fixture own_logs restores the logger."""
    stream = io.StringIO()
    configure_logs(request.param, stream)
    return stream


def test_a_request_is_one_line(service: Running, written: io.StringIO) -> None:
    """With its code, caller, counts, times and trace, and without its tokens."""
    answer = ask(service.address, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    until(written.getvalue)
    (line,) = written.getvalue().splitlines()
    for words in ("OK", "127.0.0.1", "length", "prompt_tokens", "time_to_first_token", TRACE):
        assert words in line
    assert not shows(line, CANARY)
    assert not shows(line, answer)
    if line.startswith("{"):
        fields = json.loads(line)
        assert (fields["generated_tokens"], fields["prompt_tokens"]) == (8, len(CANARY))
        assert 0 < fields["time_to_first_token"] <= fields["total"]
        assert fields["ts"].endswith("Z")
        assert datetime.fromisoformat(fields["ts"]).utcoffset().total_seconds() == 0


def test_a_failure_is_logged_without_its_message(
    service: Running, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message may quote tokens; the traceback is enough to find the cause."""

    def fails(request: object, caller: object) -> None:
        try:
            CANARY.index(list(CANARY))
        except ValueError as error:
            raise RuntimeError(f"step failed on {CANARY}") from error

    monkeypatch.setattr(service.server.handler.engines[0], "submit", fails)
    with pytest.raises(grpc.RpcError) as error:
        ask(service.address)
    assert error.value.code() is grpc.StatusCode.INTERNAL
    assert not shows(error.value.details(), CANARY)
    until(lambda: "INTERNAL" in written.getvalue())
    text = written.getvalue()
    assert not shows(text, CANARY)
    for words in ("Generate failed", "RuntimeError", "ValueError", "fails", "test_logs.py"):
        assert words in text
    if text.startswith("{"):
        assert [json.loads(line)["level"] for line in text.splitlines()] == ["error", "info"]


def test_a_line_says_which_method_it_was(written: io.StringIO) -> None:
    """A score is a request too."""
    ended = {"caller": Caller(name="x"), "code": grpc.StatusCode.OK}
    for method in ("Generate", "Score"):
        RequestLog().request_ended(
            RequestOutcome(**ended, method=method, arrived_at=1.0, total_time=1.0)
        )
    generation, score = written.getvalue().splitlines()
    assert "Generate" in generation
    assert "Score" in score


def test_a_caller_cannot_forge_log_lines(written: io.StringIO) -> None:
    """A line break in a name or header starts no new line; an invalid trace is left out."""
    caller = Caller(name='x\n{"level": "error"}', trace="00-\nERROR")
    outcome = RequestOutcome(caller=caller, code=grpc.StatusCode.OK, arrived_at=1.0, total_time=1.0)
    RequestLog().request_ended(outcome)
    assert written.getvalue().count("\n") == 1
    assert "trace_id" not in written.getvalue()


FOREIGN = 'x\n{"level": "error"}\r\x1b[31m\x9b2J\u2028'


def test_a_library_cannot_forge_log_lines(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its warnings, which may quote callers, come in our form: where nobody has configured logging."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logging.getLogger("asyncio").warning("closed: %s", FOREIGN)
    assert written.getvalue().count("\n") == 1
    assert written.getvalue().strip().isprintable()
    assert "closed: x" in written.getvalue()


def test_grpc_writes_nothing_of_its_own() -> None:
    """It would log what a caller says in a GOAWAY, line breaks included."""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", HIT_BY_GOAWAY],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert (done.stdout, done.stderr) == ("closed\n", "")


def test_tracebacks_follow_causes() -> None:
    """Suppressed ones excepted, and without messages."""
    try:
        try:
            {}[CANARY]
        except KeyError:
            raise OSError(str(CANARY)) from None
    except OSError as error:
        lines = redacted_traceback(error).splitlines()
    assert lines[0] == "builtins.OSError"
    assert len(lines) == 2  # without the suppressed KeyError
    assert not shows("\n".join(lines), CANARY)


def test_other_loggers_are_not_changed() -> None:
    """The root logger stays as it is."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(LogFormat.TEXT, stream)
    logging.getLogger("somebody").error("hello")
    assert (root.handlers, root.level) == before
    assert not stream.getvalue()
