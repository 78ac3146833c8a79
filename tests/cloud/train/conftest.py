"""Trainings that take a second."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest

from edgewise_cloud.train import preview
from edgewise_cloud.train.model_size import ModelSize
from edgewise_cloud.train.pretrain import pretrain
from edgewise_cloud.train.progress import TrainingProgress
from edgewise_cloud.train.schedule import Schedule

SIZE = ModelSize(vocabulary_size=270, layers=1, width=16, heads=2, context_window=32)
SCHEDULE = Schedule(
    steps=4, learning_rate=1e-2, batch_tokens=128, row=16, held_out=0.1, round_steps=2
)


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    folder: Path
    reports: list[str]


@contextmanager
def eager() -> Iterator[None]:
    """Train eagerly, and generate short samples: compiling takes longer than a few steps."""
    compile_ = keras.Model.compile

    def eagerly(model: keras.Model, **options: Any) -> None:
        compile_(model, **options | {"jit_compile": False, "run_eagerly": True})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "compile", eagerly)
        patch.setattr(preview, "SAMPLE_TOKENS", 2)
        yield


@pytest.fixture(scope="module")
def uncompiled() -> Iterator[None]:
    """Train eagerly."""
    with eager():
        yield


@pytest.fixture(scope="session")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training that was not interrupted."""
    made = Trained(tmp_path_factory.mktemp("trained") / "model", [])
    with eager():
        pretrain([text], made.folder, SIZE, SCHEDULE, report=made.reports.append)
    return made


@contextmanager
def interrupted_after_a_round(out: Path) -> Iterator[None]:
    """Ctrl-C at the first step after the training in `out` has saved a checkpoint."""

    def stop(_progress: TrainingProgress, _batch: int, logs: object = None) -> None:
        if (out / "training" / "state.npz").exists():
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingProgress, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            yield


def weights(folder: Path) -> bytes:
    """The file of weights in `folder`."""
    return (folder / "model.safetensors").read_bytes()


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
