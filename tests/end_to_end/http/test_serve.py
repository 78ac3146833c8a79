"""`edgewise serve` as a process: what it says, how it ends, and what it never says."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.command_line import BIN, run

CANARY = "my-secret-diary"
LONG = {"prompt": "Once upon a time", "max_tokens": 150, "temperature": 0, "stream": True}
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
PATIENCE = 60.0  # seconds


@contextmanager
def serving(*options: str | Path, **environment: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A server process and the first line that it prints."""
    process = subprocess.Popen(
        [BIN / "edgewise", "serve", "--port", "0", *options],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


def test_it_says_what_it_serves_and_what_to_type_next() -> None:
    """That command works: the text comes as a stream of events."""
    with serving() as (process, first):
        assert re.match(r"serving .*tales@\w+.* on this device only: http://127", first)
        command = process.stderr.readline().removeprefix("try: ")
        assert command.startswith("curl ")
        typed = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        assert typed.stdout.rstrip().endswith("data: [DONE]")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == "stopped\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_running_text_end(number: signal.Signals) -> None:
    """Then the process ends with 0."""
    with serving() as (process, first):
        address = ADDRESS.search(first)[0]
        with httpx2.stream("POST", f"{address}/v1/completions", json=LONG, timeout=60) as reply:
            lines = reply.iter_lines()
            assert next(lines).startswith("data: {")
            process.send_signal(number)
            *_, last, _ = lines
        assert last == "data: [DONE]"
        assert process.wait(PATIENCE) == 0


def test_a_second_signal_ends_it_at_once() -> None:
    """Also while a client has not sent its whole request, for which the first one waits."""
    with serving() as (process, first):
        port = int(ADDRESS.search(first)[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
            )
            httpx2.get(f"http://127.0.0.1:{port}/health")  # so the other one was read
            process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130


def test_prompts_texts_and_tokens_are_in_no_line(tmp_path: Path) -> None:
    """For requests that succeed, are invalid, are refused, fail, or are broken off."""
    token = tmp_path / "token"
    token.write_text("the-http-token")
    headers = {"authorization": "Bearer the-http-token"}
    startup = tmp_path / "sitecustomize.py"  # every logger at its lowest level
    startup.write_text("import logging\nlogging.basicConfig(level=1)\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with serving("--token-file", token, PYTHONPATH=path) as (process, first):
        line = first
        while not (found := ADDRESS.search(line)):
            line = process.stderr.readline()
        with httpx2.Client(base_url=found[0], headers=headers, timeout=60) as client:
            url = "/v1/completions"
            long = f"{CANARY} " * 2000
            bodies = [
                {"prompt": CANARY, "max_tokens": 3},
                {"prompt": CANARY, "max_tokens": 3, "stream": True},
                {"prompt": CANARY, "max_tokens": -3},
                {"prompt": CANARY, "stop": [CANARY] * 100},
                {"prompt": CANARY, "suffix": CANARY},
                {"prompt": [CANARY, 1]},
                {"prompt": long},
                {CANARY: CANARY},
            ]
            for body in bodies:
                assert client.post(url, json=body).status_code < 500
            client.post(url, json=bodies[0], headers={"x-edgewise-mode": CANARY})
            client.post(f"/v1/{CANARY}?{CANARY}", json=bodies[0])
            client.post(url, content=f'{{"prompt": "{CANARY}"', headers=headers)
            client.post(url, json=bodies[0], headers={"authorization": f"Bearer {CANARY}"})
            with client.stream(
                "POST", url, json={"prompt": CANARY, "max_tokens": 500, "stream": True}
            ):
                pass
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert "DEBUG" in err  # the levels are that low
    assert CANARY not in out + err
    assert "the-http-token" not in out + err


def test_a_port_that_is_in_use_is_exit_code_2() -> None:
    """As other options that cannot be used; one line, in the words of the command line."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: --port is {port}, which another program uses")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "--host is '0.0.0.0', which other machines can reach; give --tls-"),
        (["--port", "70000"], "--port is 70000; it must be"),
        (["--unix-socket", "x", "--open"], "--unix-socket is no address for a browser"),
        (["--tls-key", "x"], "give --tls-certificate too"),
        (["--allow-origin", "*"], "--allow-origin is '*'"),
    ],
)
def test_unsafe_and_invalid_options_are_named(edgewise, options: list[str], message: str) -> None:
    """Before anything listens."""
    result = edgewise("serve", *options)
    assert result.returncode == 2
    assert message in result.stderr


def test_the_config_file_has_a_table_for_it(edgewise, tmp_path: Path) -> None:
    """Its keys are checked as the others are, and a message names the file."""
    file = tmp_path / "config.toml"
    for text, message in {
        '[serve]\nhost = "0.0.0.0"': f"or serve on 127.0.0.1 (set in {file})",
        "[serve]\nports = 1": "unknown key 'serve.ports'; did you mean 'port'?",
        '[serve]\nport = "1"': 'serve.port is "1"; it must be a whole number',
        '[serve]\nallow-origin = "x"': "serve.allow-origin is",
        "serve = 3": "serve is 3; it must be a table",
        "port = 3": "unknown key 'port'",
    }.items():
        file.write_text(text)
        result = edgewise("serve", EDGEWISE_CONFIG=str(file))
        assert result.returncode == 2
        assert message in result.stderr.replace("\n", ""), text
    # Other commands work with it.
    file.write_text('[serve]\nport = 1\nprivate = true\nallow-origin = ["http://a.example"]')
    result = edgewise("route", "x", "--json", EDGEWISE_CONFIG=str(file))
    assert json.loads(result.stdout)["source"] == "on_device"


def test_open_shows_the_page_in_the_browser(tmp_path: Path) -> None:
    """At the address that is served."""
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.new && mv {opened}.new {opened}\n')
    browser.chmod(0o755)
    with serving("--open", BROWSER=f"{browser} %s") as (process, first):
        assert process.stderr.readline().startswith("try: ")
        address = ADDRESS.search(first)[0]
        while not opened.exists():
            httpx2.get(f"{address}/health")
        assert opened.read_text() == address
