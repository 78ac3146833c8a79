"""`edgewise models`: what it prints, what it remembers, and how it ends."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise.cli.models.report import Report, line, size
from edgewise.delivery.progress import DownloadProgress
from edgewise.delivery.update import updater
from edgewise_edge.errors import ModelRefusedError
from edgewise_edge.installed.store import ModelStore
from tests.support.file_server import FileServer
from tests.support.installed_models import files_of
from tests.support.published_models import PublishedModels, sha256_of

NAME = "story"


class World:
    """A channel, its server, and the options that name it."""

    def __init__(self, folder: Path, server: FileServer, published: PublishedModels) -> None:
        self.server, self.published = server, published
        self.root = folder / "root.json"
        self.root.write_bytes(published.root)
        self.options = ["--channel", server.address, "--root", self.root]


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[World]:
    """One revision of `story` is published; the trial passes. The store is empty."""
    monkeypatch.setenv("EDGEWISE_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(updater, "try_as_loaded", lambda *_: None)
    published = PublishedModels(tmp_path / "channel")
    published.publish("one")
    with FileServer(published.folder) as server:
        yield World(tmp_path, server, published)


def parsed(done):
    """Its JSON, after it ended well."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_pulled_model_is_used_at_once_and_its_channel_remembered(edgewise, world):
    """The next update needs no options; it is staged then."""
    done = edgewise("models", "pull", NAME, *world.options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("story one passed its trial; the next load uses it (3.0 kB fetched)\n")
    assert done.stderr.splitlines()[0] == "story: asking the channel"
    assert "story: fetching one: 3.0 kB" in done.stderr
    assert done.stderr.splitlines()[-1] == "next: edgewise generate -m story 'Once upon'"
    world.published.publish("two")
    found = parsed(edgewise("models", "update", NAME, "--json"))
    assert (found["outcome"], found["revision"], found["current"]) == ("staged", "two", "one")
    shown = parsed(edgewise("models", "show", NAME, "--json"))
    assert (shown["active"], shown["staged"]) == ("one", "two")
    assert shown["channel"] == world.server.address


def test_a_model_that_could_not_be_pulled_is_not_a_success(edgewise, world):
    """All its revisions are unusable, and none is here: a script must notice."""
    world.published.change("one", revoked="it repeats itself")
    done = edgewise("models", "pull", NAME, *world.options)
    assert done.returncode == 3
    assert done.stdout == ("story is not on this device: one: revoked: it repeats itself\n")


def test_check_and_dry_run_fetch_nothing(edgewise, world):
    """They say what there is, and how much would be fetched."""
    found = parsed(edgewise("models", "update", NAME, *world.options, "--check", "--json"))
    assert (found["current"], found["newest"]) == (None, "one")
    done = edgewise("models", "update", NAME, *world.options, "--dry-run")
    assert done.stdout == (
        "story one would be fetched: 3.0 kB (the files that are missing) of 3.0 kB\n"
    )
    assert not any("blobs" in request.path for request in world.server.requests)


def test_update_without_a_name_takes_all_whose_channel_is_known(edgewise, world):
    """Before the first pull it says what to do."""
    done = edgewise("models", "update")
    assert done.returncode == 2
    assert "run 'edgewise models pull NAME --channel ADDRESS --root ROOT.json' once" in done.stderr
    edgewise("models", "pull", NAME, *world.options)
    assert parsed(edgewise("models", "update", "--json"))["outcome"] == "current"


def test_a_channel_that_is_gone_keeps_no_other_model_from_its_update(edgewise, world, tmp_path):
    """It says so, and the exit status is its."""
    other = PublishedModels(tmp_path / "other", "fable")
    other.publish("one")
    (tmp_path / "other.json").write_bytes(other.root)
    channel = ["--channel", tmp_path / "other", "--root", tmp_path / "other.json"]
    edgewise("models", "pull", "fable", *channel)
    edgewise("models", "pull", NAME, *world.options)
    shutil.rmtree(tmp_path / "other")
    world.published.publish("two")
    done = edgewise("models", "update")
    assert done.returncode == 4
    assert "fable was not updated: " in done.stdout
    assert "story two passed its trial" in done.stdout


def test_the_config_file_may_name_the_channel(edgewise, world, write_config):
    """Relative to its folder, with its root."""
    file = write_config('channel = "../../channel"\nchannel-root = "../../root.json"\n')
    assert (file.parent / "../../root.json").is_file()
    done = edgewise("models", "pull", NAME)
    assert done.returncode == 0, done.stderr


def test_pin_unpin_and_roll_back(edgewise, world):
    """Each says which revision is in use then."""
    edgewise("models", "pull", NAME, *world.options)
    store = ModelStore()
    for _ in range(5):  # its probation
        store.generation_ended(NAME, ok=True)
    assert edgewise("models", "pin", NAME).stdout == "story is pinned to one\n"
    world.published.publish("two")
    done = edgewise("models", "update", NAME)
    assert (done.returncode, "pinned to one" in done.stdout) == (0, True)
    assert edgewise("models", "unpin", NAME).stdout == "story is not pinned; one is in use\n"
    edgewise("models", "update", NAME)
    store.take_staged(NAME)
    done = edgewise("models", "rollback", NAME)
    assert done.stdout == "story is rolled back from two to one\n"
    done = edgewise("models", "update", NAME)
    assert done.stdout == (
        "story one stays: two: failed on this device before: rolled back on request; "
        "--force tries it again\n"
    )
    done = edgewise("models", "rollback", NAME)
    assert (done.returncode, "cannot be rolled back" in done.stderr) == (1, True)


def test_remove_asks_and_frees(edgewise, world):
    """Where nobody can be asked it wants --yes; what is in use stays."""
    edgewise("models", "pull", NAME, *world.options)
    assert edgewise("models", "remove", NAME).returncode == 2
    done = edgewise("models", "remove", NAME, "one", "--yes")
    assert (done.returncode, "is in use" in done.stderr) == (1, True)
    assert parsed(edgewise("models", "remove", NAME, "--yes", "--json"))["freed"] > 3000
    assert edgewise("models", "show", NAME).returncode == 2


def test_verify_finds_damage(edgewise, world):
    """And says what to do."""
    edgewise("models", "pull", NAME, *world.options)
    assert edgewise("models", "verify", NAME).stdout == "story one: whole\n"
    model = ModelStore().revision(NAME, "one").folder / "model.tflite"
    model.chmod(0o600)
    model.write_bytes(b"x" * model.stat().st_size)
    done = edgewise("models", "verify", NAME)
    assert (done.returncode, "sha256 differs" in done.stdout) == (2, True)
    assert "next: edgewise models pull story" in done.stderr


def test_gc_frees_what_nothing_uses(edgewise, world):
    """What is new stays for an hour."""
    edgewise("models", "pull", NAME, *world.options)
    assert parsed(edgewise("models", "gc", "--json")) == {"freed": 0}


def test_a_refused_revision_ends_in_3(edgewise, world, monkeypatch):
    """With the reason."""

    def refuse(*_):
        raise ModelRefusedError("agrees on 3.0% of 38 tokens")

    monkeypatch.setattr(updater, "try_as_loaded", refuse)
    done = edgewise("models", "pull", NAME, *world.options)
    assert done.returncode == 3
    assert "refused and will not be tried again: agrees on 3.0%" in done.stdout


@pytest.mark.parametrize("command", ["pull", "update"])
def test_force_tries_again_what_failed_here(edgewise, world, monkeypatch, command):
    """In a trial again, which may refuse it again; without, it says how."""
    edgewise("models", "pull", NAME, *world.options)
    world.published.publish("two")

    def refuse(*_):
        raise ModelRefusedError("agrees on 3.0% of 38 tokens")

    monkeypatch.setattr(updater, "try_as_loaded", refuse)
    for _ in range(2):
        done = edgewise("models", command, NAME, "--force")
        assert (done.returncode, "two is refused" in done.stdout) == (3, True)
    monkeypatch.setattr(updater, "try_as_loaded", lambda *_: None)
    done = edgewise("models", command, NAME)
    assert done.stdout.endswith("agrees on 3.0% of 38 tokens; --force tries it again\n")
    done = edgewise("models", "update", NAME, "--check")
    assert done.stdout.endswith("; --force tries it again\n")
    assert parsed(edgewise("models", command, NAME, "--force", "--json"))["outcome"] == "staged"
    assert ModelStore().state(NAME).staged == "two"
    assert not ModelStore().state(NAME).failed


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["pull", NAME], 2, "the channel of story is not known; give --channel ADDRESS once"),
        (["pull", NAME, "--channel", "{address}"], 4, "as --root once"),
        (
            ["pull", NAME, "--channel", "http://127.0.0.1:1", "--root", "{root}"],
            4,
            "cannot be reached",
        ),
        (["pull", "other", "--channel", "{address}", "--root", "{root}"], 4, "it offers story"),
        (
            ["pull", NAME, "--channel", "{address}", "--root", "/no"],
            2,
            "root '/no' cannot be read",
        ),
        (
            ["pull", NAME, "--channel", "ftp://x"],
            2,
            "the address is 'ftp://x'; it must be a folder",
        ),
        (["pull", NAME, "--channel", ""], 2, "it is empty"),
        (["pull", NAME, "--channel", "x", "--bandwidth", "fast"], 2, "--bandwidth is 'fast'"),
        (["pull", NAME, "--channel", "x", "--bandwidth", "1"], 2, "--bandwidth is 1; it must be"),
        (["pull", "../x"], 2, "is no name of a model"),
        (["show", "nothing"], 2, "nothing is not on this device; here are tales"),
        (["pin", "nothing"], 2, "nothing is not on this device"),
        (["pin", "tales", "r9"], 2, "r9 is not installed"),
        (["verify", "tales", "r9"], 2, "r9 is not installed"),
        (["remove", "nothing", "--yes"], 2, "nothing is not installed"),
        (["rollback", "tales"], 1, "no installed revision is in use"),
        (["rollback", "nothing"], 2, "nothing is not on this device"),
    ],
)
def test_invalid_use_is_one_clear_error(edgewise, world, arguments, status, words):
    """And an exit status; never a traceback."""
    places = {"{address}": world.server.address, "{root}": world.root}
    done = edgewise("models", *(places.get(each, each) for each in arguments))
    assert done.returncode == status
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_lines_where_there_is_no_terminal(capsys):
    """One for each tenth at most, with bytes, share, rate, time left and what was here."""
    with Report(NAME) as report:
        for done in range(100, 1001):
            report.progress(
                DownloadProgress(revision="r", done=done, total=1000, resumed=100, rate=50.0)
            )
    lines = capsys.readouterr().err.splitlines()
    assert 8 <= len(lines) <= 12
    assert lines[0] == (
        "story: 200 bytes of 1.0 kB (20%), 50 bytes/s, 16 s left, 100 bytes were here"
    )


def test_a_line_knows_little_at_first():
    """No rate, no time left."""
    progress = DownloadProgress(revision="r", done=0, total=5_000_000, resumed=0)
    assert line(NAME, progress) == "story: 0 bytes of 5.0 MB (0%)"
    assert size(1.5e9) == "1.5 GB"


def test_what_was_fetched_before_is_told(edgewise, world):
    """After a download that was cut short."""
    content = files_of("one")["model.tflite"]
    with ModelStore().partial(sha256_of(content), len(content)) as partial:
        partial.append(content[:1000])
    done = edgewise("models", "pull", NAME, *world.options)
    assert "story: fetching one: 3.0 kB, 1.0 kB of it are here" in done.stderr
    assert "(2.0 kB fetched)" in done.stdout
