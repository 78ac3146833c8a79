"""Checkpoints of a training in progress: its plan, weights and optimizer."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from edgewise_cloud.corpus import HELD_OUT_FILE, HELD_OUT_THEN_FILE
from edgewise_cloud.errors import TrainingError, TrainingFailedError
from edgewise_cloud.files import atomic_write, require_writable
from edgewise_cloud.keras_models.generation_config import GENERATION_CONFIG_FILE
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:  # what is refused is refused before it is imported
    import keras

STATE_FOLDER = "training"
PLAN_FILE = "plan.json"
STATE_FILE = "state.npz"
LOCK_FILE = "lock"

# What an output folder may hold before the first checkpoint.
BEGUN = {
    STATE_FOLDER,
    HELD_OUT_FILE,
    HELD_OUT_THEN_FILE,
    GENERATION_CONFIG_FILE,
    *TOKENIZER_FILES,
}


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The folder `training` in the output folder of a training."""

    folder: Path
    plan: str  # JSON

    @classmethod
    def open(cls, out: Path, plan: dict[str, Any], *, resume: bool) -> "TrainingState":
        """The state of a new training in `out` or, with `resume`, of the one saved there.

        Writes nothing. Raises TrainingError if `out` holds more than a training that failed before its
        first checkpoint, if it holds a training and `resume` is false, if that one was started with
        another plan, or if `out` cannot be written to.
        """
        state = cls(out / STATE_FOLDER, json.dumps(plan, indent=2) + "\n")
        if not state.saved:
            try:
                require_writable(out)
                found = {path.name for path in out.iterdir()} if out.exists() else set()
                if found - BEGUN or (found and STATE_FOLDER not in found):
                    raise TrainingError(f"{out} is not empty; give a new folder")
            except OSError as error:
                raise TrainingError(
                    f"{out} cannot be written to: {error.strerror or error}"
                ) from error
            return state
        if not resume:
            raise TrainingError(
                f"{out} already holds a training; add --resume to continue it, or give a new folder"
            )
        if differences := _differences(state._read_plan(), json.loads(state.plan)):
            raise TrainingError(
                f"{out} was started with another plan: {differences}; give the same options and "
                "texts, or a new folder"
            )
        return state

    def make_folder(self) -> None:
        """Make the folder, to be called when all inputs have been loaded."""
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return os.access(self.folder / STATE_FILE, os.F_OK)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in the folder; the kernel releases it if this one is killed.

        Raises TrainingError if one does.
        """
        with self.write_errors():
            file = (self.folder / LOCK_FILE).open("w", encoding="utf-8")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TrainingError(
                    f"another process is training in {self.folder.parent}; wait for it, or end it first"
                ) from error
            yield

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Turn an OSError into a TrainingFailedError that says whether the last checkpoint is intact."""
        try:
            yield
        except OSError as error:
            intact = "; the last checkpoint is intact, --resume continues from it"
            raise TrainingFailedError(
                f"{self.folder.parent} cannot be written to: {error.strerror or error}"
                f"{intact if self.saved else ''}"
            ) from error

    def save(self, model: "keras.Model") -> None:
        """Write plan, weights and optimizer, each file atomically."""
        with self.write_errors():
            self.make_folder()
            with atomic_write(self.folder / PLAN_FILE) as partial:
                partial.write_text(self.plan, encoding="utf-8")
            with atomic_write(self.folder / STATE_FILE) as partial:
                np.savez(partial, *map(np.asarray, _variables(model)))

    def restore(self, model: "keras.Model") -> int:
        """Load the checkpoint into `model`, if there is one; return the number of steps done."""
        if not self.saved:
            return 0
        model.optimizer.build(model.trainable_variables)
        try:
            # np.load() of a path leaves a damaged file open.
            with (self.folder / STATE_FILE).open("rb") as file, np.load(file) as arrays:
                saved = list(arrays.values())
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise self._damaged(STATE_FILE, error) from error
        variables = _variables(model)
        if [array.shape for array in saved] != [tuple(variable.shape) for variable in variables]:
            raise TrainingError(
                f"{self.folder / STATE_FILE} does not fit the model: the checkpoint that the training began "
                "with has changed since, or another version of Keras saved it"
            )
        for variable, array in zip(variables, saved, strict=True):
            variable.assign(array)
        return int(model.optimizer.iterations)

    def _read_plan(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / PLAN_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise self._damaged(PLAN_FILE, error) from error

    def _damaged(self, name: str, error: Exception) -> TrainingError:
        path = self.folder / name
        if (
            isinstance(error, OSError)
            and not isinstance(error, FileNotFoundError)
            and error.strerror
        ):
            return TrainingError(f"{path} cannot be read: {error.strerror}")
        return TrainingError(f"{path} is damaged; remove {self.folder.parent} and start again")


def _variables(model: "keras.Model") -> "list[keras.Variable]":
    """Everything the next step depends on.

    Keras's save_weights() omits the seeds of dropout and merges a LoRA permanently, and its HDF5
    library exits the process when the disk is full.
    """
    return [*model.variables, *model.optimizer.variables]


def _differences(saved: dict[str, Any], plan: dict[str, Any]) -> str:
    old, new = _flat(saved), _flat(plan)
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return ", ".join(f"{name} was {old.get(name)}, is {new.get(name)}" for name in names)


def _flat(plan: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in plan.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat
