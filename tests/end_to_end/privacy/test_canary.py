"""A private prompt leaves no trace in any log, metric, event, error or file."""

import faulthandler
import json
import logging
import os
import re
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edgewise import LatencyLog, Router
from edgewise.generation.events import Event
from edgewise.latency.log import default_path
from edgewise.metrics import Metrics
from edgewise_edge import DeviceModel, Tokenizer, TokenRequest
from tests.end_to_end.privacy.scenarios import TO_THE_END, TROUBLES, WAYS, Trouble

WORD = "жгучий щавель"  # its token ids are unusual numbers
PROMPT = f"the {WORD} was in the water "
STOP = f"{WORD}!"
NOWHERE = "127.0.0.1:9"
IDS_IN_A_ROW = 4  # enough to recognize a sequence of token ids


class Canary:
    """A word, in every form in which it could be written."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = tokenizer.encode(WORD)
        runs = [ids[n : n + IDS_IN_A_ROW] for n in range(len(ids) - IDS_IN_A_ROW + 1)]
        spelt = [WORD.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")]
        escaped = [json.dumps(WORD)[1:-1], repr(WORD.encode())[2:-1], WORD.encode().hex()]
        packed = [struct.pack(f"<{IDS_IN_A_ROW}{size}", *run) for run in runs for size in "hiq"]
        listed = [
            rb"\b" + rb"\b\D{1,9}\b".join(b"%d" % id_ for id_ in run) + rb"\b" for run in runs
        ]
        plain = [*spelt, *(form.encode() for form in escaped), *packed]
        self._forms = re.compile(b"|".join([*map(re.escape, plain), *listed]))

    def __call__(self, seen: str | bytes) -> list[bytes]:
        """Where it occurs in `seen`, with what is around it."""
        data = seen.encode(errors="surrogatepass") if isinstance(seen, str) else seen
        return [data[max(0, m.start() - 80) : m.end() + 80] for m in self._forms.finditer(data)]


@pytest.fixture(scope="module")
def canary(exact_model: DeviceModel) -> Canary:
    return Canary(exact_model.tokenizer)


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for everything that is written: caches, temporary files, the working folder."""
    place = tmp_path / "place"
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "HOME", "TMPDIR"):
        folder = place / variable
        folder.mkdir(parents=True)
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(place)
    return place


def written(place: Path) -> Iterator[bytes]:
    """The name and the content of every file."""
    for path in place.rglob("*"):
        yield str(path.relative_to(place)).encode()
        if path.is_file():
            yield path.read_bytes()


def our_locals(trace: TracebackType | None) -> Iterator[object]:
    """Objects of our classes in the frames of a traceback, which a crash report would show."""
    for frame, _ in traceback.walk_tb(trace):
        for value in frame.f_locals.values():
            if type(value).__module__.partition(".")[0].startswith("edgewise"):
                yield value


def texts_of(error: BaseException | None) -> Iterator[str]:
    """All texts of an error and its causes, and of the objects that they passed through."""
    if error:
        yield "".join(traceback.format_exception(error))
    while error:
        yield repr(error) + repr(vars(error))
        yield from map(repr, our_locals(error.__traceback__))
        error = error.__cause__ or error.__context__


def contents(records: list[logging.LogRecord]) -> Iterator[str]:
    """All texts of log records, formatted or not."""
    formatter = logging.Formatter()
    for record in records:
        yield formatter.format(record)
        yield repr(vars(record))


def test_the_canary_would_be_found(canary: Canary, exact_model: DeviceModel) -> None:
    """As text, escaped, as token ids, in a log or in a file."""
    ids = exact_model.tokenizer.encode(PROMPT)
    forms = [PROMPT, json.dumps(PROMPT), repr(PROMPT.encode()), str(ids), json.dumps(ids, indent=1)]
    packed = [struct.pack(f"<{len(ids)}{size}", *ids) for size in "iq"]
    assert all(canary(form) for form in [*forms, *packed])
    assert not canary(str(sorted(ids)) + "the water")


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_nothing_shows_a_private_prompt(
    trouble: Trouble,
    canary: Canary,
    exact_folder: Path,
    own_folders: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """However it is sent, and whatever fails."""
    caplog.set_level(logging.DEBUG)
    registry, events, errors = CollectorRegistry(), list[Event](), list[Exception | None]()
    with trouble.router(
        exact_folder,
        copy=own_folders / "copy",
        cloud=NOWHERE,
        latency=LatencyLog(default_path()),
        observers=[Metrics(registry), events.append],
    ) as router:
        for way in WAYS:
            errors.append(trouble.ask(router, way, PROMPT, stop=[STOP, WORD]))
            if way in TO_THE_END:
                assert bool(errors[-1]) is trouble.refused
    seen = [
        *contents(caplog.records),
        *(f"{event} {event!r}" for event in events),
        *(text for error in errors for text in texts_of(error)),
        generate_latest(registry).decode(),
        *capfd.readouterr(),
    ]
    assert [found for text in seen for found in canary(text)] == []
    assert [found for data in written(own_folders) for found in canary(data)] == []


def test_what_holds_a_private_prompt_does_not_show_it(
    canary: Canary, exact_folder: Path, own_folders: Path
) -> None:
    """Not in its repr, which is what a crash report or a debugger would print."""
    with Router(exact_folder, cloud=NOWHERE, latency=LatencyLog()) as router:
        stream = router.stream(PROMPT, privacy="private", stop=[STOP])
        next(stream)
        request = stream.request
        asked = request.after((1, 2))
        (attempt,) = router.device_source.running
        held = [stream, request, asked, attempt, router, router.sources_for(request)]
        assert type(asked) is TokenRequest
        assert [found for thing in held for found in canary(f"{thing!r} {thing}")] == []


def test_a_dump_of_all_threads_does_not_show_a_private_prompt(
    canary: Canary, exact_folder: Path, own_folders: Path
) -> None:
    """As faulthandler writes it during a generation."""
    dump = own_folders / "dump"
    with (
        Router(exact_folder, cloud=NOWHERE, latency=LatencyLog()) as router,
        router.stream(PROMPT, privacy="private", stop=[STOP]) as stream,
        dump.open("wb") as file,
    ):
        next(stream)
        faulthandler.dump_traceback(file)
    assert b"Current thread" in dump.read_bytes()
    assert canary(dump.read_bytes()) == []


CRASH = """
import ctypes, os, resource, sys
from edgewise import Router
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold all memory
end, prompt = sys.argv[2], sys.stdin.read()
with Router(sys.argv[1], cloud="127.0.0.1:9", threads=1) as router:
    for _ in router.stream(prompt, privacy="private", stop=[prompt + "!"]):
        if end == "abort":
            os.abort()
        elif end == "fault":
            ctypes.string_at(0)
        elif end == "refusal":
            router.generate(prompt, privacy="private", mode="only_in_cloud")
        elif end == "error":
            router.device_source.model.stream_tokens = None
            router.generate(prompt, privacy="private")
"""


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("abort", "Fatal Python error: Aborted"),
        ("fault", "Fatal Python error: Segmentation fault"),
        ("refusal", "NoSourceError"),
        ("error", "TypeError"),
    ],
)
def test_a_crash_does_not_show_a_private_prompt(
    end: str, says: str, canary: Canary, exact_folder: Path, own_folders: Path
) -> None:
    """What a process that dies midway prints and writes."""
    command = [sys.executable, "-X", "dev", "-X", "faulthandler", "-c", CRASH]
    done = subprocess.run(
        [*command, str(exact_folder), end],
        input=PROMPT.encode(),
        capture_output=True,
        env={**os.environ, "GRPC_VERBOSITY": "debug"},
        check=False,
    )
    assert done.returncode
    assert says in done.stderr.decode()
    assert canary(done.stderr + done.stdout) == []
    assert [found for data in written(own_folders) for found in canary(data)] == []
