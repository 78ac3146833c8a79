"""Trainings that take a second."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

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
    """Eighty documents in a file."""
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n<|endoftext|>\n".join(STORIES), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def uncompiled() -> Iterator[None]:
    """Train step by step, and look briefly: compiling takes longer than a few steps do."""
    import keras

    from edgewise_cloud.train import loop as training_loop

    compile_ = keras.Model.compile

    def eagerly(model: keras.Model, **options: Any) -> None:
        compile_(model, **options | {"jit_compile": False, "run_eagerly": True})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "compile", eagerly)
        patch.setattr(training_loop, "LOOK_TOKENS", 8)
        yield


FullDisk = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def full_disk() -> FullDisk:
    """A context in which no file can grow beyond so many bytes."""

    @contextmanager
    def limited(room: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
