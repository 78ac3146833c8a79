"""Text to train on, the command line in this process, and a full disk."""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

STORIES = [
    f"Once the {who} {did} the {what}. Then the {who} went home to sleep."
    for who, did, what in product(
        ("cat", "old dog", "hen", "king", "little girl"),
        ("saw", "sold", "painted", "lost"),
        ("house", "red ball", "river", "moon"),
    )
]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of eighty documents."""
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(STORIES), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Completed:
    """What a command printed, and its exit status."""

    status: int
    stdout: str
    stderr: str


RunCommand = Callable[..., Completed]


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Run `edgewise-cloud` in this process: a new process would have to start TensorFlow."""
    from edgewise_cloud import cli

    def run(*arguments: str | Path) -> Completed:
        monkeypatch.setattr(sys, "argv", ["edgewise-cloud", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        printed = capsys.readouterr()
        return Completed(exited.value.code, printed.out, printed.err)

    return run


FullDisk = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def full_disk() -> FullDisk:
    """A context in which no file can grow beyond the given number of bytes."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
