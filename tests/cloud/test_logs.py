"""What a service logs, and what it never does."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest

from edgewise_cloud.serving.observe.logs import LogFormat, configure_logs
from edgewise_cloud.serving.redact import frames
from edgewise_cloud.serving.types import Caller, Outcome
from tests.asking import CANARY, ask, shows, until
from tests.serving import Running, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder)) as running:
        yield running


@pytest.fixture(params=LogFormat)
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is logged, in either format."""
    logger = logging.getLogger("edgewise_cloud")
    before = logger.handlers, logger.level, logger.propagate
    stream = io.StringIO()
    configure_logs(request.param, stream)
    yield stream
    logger.handlers, logger.level, logger.propagate = before


def test_a_request_is_one_line(service: Running, written: io.StringIO) -> None:
    """Its code, caller, counts, times and trace; not its words."""
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


def test_a_failure_is_logged_without_its_words(
    service: Running, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception's text may quote tokens: where it came from is enough to find it."""

    def fails(request: object, caller: object) -> None:
        try:
            CANARY.index(list(CANARY))
        except ValueError as error:
            raise RuntimeError(f"step failed on {CANARY}") from error

    monkeypatch.setattr(service.server.answering.engine, "run", fails)
    with pytest.raises(grpc.RpcError) as error:
        ask(service.address)
    assert error.value.code() is grpc.StatusCode.INTERNAL
    assert not shows(error.value.details(), CANARY)
    until(lambda: "INTERNAL" in written.getvalue())
    text = written.getvalue()
    assert not shows(text, CANARY)
    for words in ("generation failed", "RuntimeError", "ValueError", "fails", "test_logs.py"):
        assert words in text
    if text.startswith("{"):
        assert [json.loads(line)["level"] for line in text.splitlines()] == ["error", "info"]


def test_a_callers_words_make_no_line_of_their_own(written: io.StringIO) -> None:
    """A name or header with a line break, or one that is no trace, cannot pose as a record."""
    from edgewise_cloud.serving.observe.logs import RequestLog

    caller = Caller(name='x\n{"level": "error"}', trace="00-\nERROR")
    RequestLog().ended(Outcome(caller=caller, code=grpc.StatusCode.OK, arrived=1.0, total=1.0))
    assert written.getvalue().count("\n") == 1
    assert "trace_id" not in written.getvalue()


def test_frames_follow_causes() -> None:
    """The innermost frame first, then what it came from."""
    try:
        try:
            {}[CANARY]
        except KeyError:
            raise OSError(str(CANARY)) from None
    except OSError as error:
        lines = frames(error).splitlines()
    assert lines[0] == "builtins.OSError"
    assert len(lines) == 2  # what was suppressed stays so
    assert not shows("\n".join(lines), CANARY)


def test_nobody_elses_logging_is_touched() -> None:
    """A library leaves the root logger alone."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    logger = logging.getLogger("edgewise_cloud")
    kept = logger.handlers, logger.level, logger.propagate
    configure_logs(LogFormat.TEXT, stream)
    logging.getLogger("somebody").error("hello")
    logger.handlers, logger.level, logger.propagate = kept
    assert (root.handlers, root.level) == before
    assert not stream.getvalue()


def test_the_command_logs_json_alone(exact_folder: Path) -> None:
    """Every line is an object; they tell the ports, and a request between start and end."""
    command = Path(sys.executable).with_name("edgewise-cloud")
    process = subprocess.Popen(
        [
            *(command, "serve", "--model", exact_folder, "--port", "0", "--slots", "1"),
            *("--metrics-port", "0", "--log-format", "json"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    ports = []
    for _ in ("metrics", "serving"):
        message = json.loads(process.stderr.readline())["message"]
        ports.append(message.rpartition(":")[2])
    with urlopen(f"http://127.0.0.1:{ports[0]}/metrics") as scraped:
        assert b"edgewise_slots 1.0" in scraped.read()
    ask(f"127.0.0.1:{ports[1]}")
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate()
    lines = [json.loads(line) for line in rest.splitlines()]
    assert sorted(line["message"] for line in lines) == ["draining", "request"]
    assert not shows(rest, CANARY)
    assert process.returncode == 0
