"""A store, a clock that does not wait, and a folder of files."""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgewise.delivery.download import Clock, OnProgress, download
from edgewise.delivery.fetch import open_fetcher
from edgewise.delivery.settings import DownloadSettings
from edgewise_edge.installed.store import ModelStore

CONTENT = random.Random(0).randbytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATIENT = DownloadSettings()
# For servers that stall: on a slow machine any may seem to, so it connects more often.
QUICK = DownloadSettings(stall_timeout=0.3)


@dataclass
class FakeClock:
    """Sleeping moves it on; it remembers for how long."""

    time: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    @property
    def clock(self) -> Clock:
        """With all of the jitter."""
        return Clock(now=lambda: self.time, sleep=self.sleep, jitter=lambda: 1.0)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Empty."""
    return ModelStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With one file, model.tflite: CONTENT."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(CONTENT)
    return folder


@pytest.fixture
def fake_clock() -> FakeClock:
    """At 0."""
    return FakeClock()


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(store: ModelStore, fake_clock: FakeClock) -> Iterator[Fetch]:
    """Download model.tflite from an address into the store."""

    def fetch(
        address: str,
        settings: DownloadSettings = PATIENT,
        on_progress: OnProgress | None = None,
        sha256: str = SHA256,
        size: int = len(CONTENT),
    ) -> Path:
        fetcher = open_fetcher(address, settings)
        try:
            with store.partial(sha256, size) as partial:
                return download(
                    fetcher,
                    "model.tflite",
                    partial,
                    settings=settings,
                    on_progress=on_progress,
                    clock=fake_clock.clock,
                )
        finally:
            fetcher.close()

    return fetch
