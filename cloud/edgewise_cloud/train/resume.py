"""What an interrupted training goes on from: the plan it was begun with, weights and optimizer."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from edgewise_cloud.errors import TrainingError
from edgewise_cloud.files import atomic_write

STATE_FOLDER = "training"
PLAN_FILE = "plan.json"
STATE_FILE = "state.npz"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The folder `training` inside the folder of the model to be."""

    folder: Path
    plan: str  # JSON

    @classmethod
    def open(cls, out: Path, plan: dict[str, Any], *, resume: bool) -> "TrainingState":
        """The state of a new training in `out`, or, with `resume`, of the one that lies there.

        Nothing is written yet. Raises TrainingError where something lies there and `resume` is not
        asked for, or where the training was begun with another plan.
        """
        state = cls(out / STATE_FOLDER, json.dumps(plan, indent=2) + "\n")
        if not state.begun:
            with state.storing():
                # The folder `training` marks what an earlier attempt left; all else is the user's.
                if out.exists() and not state.folder.exists() and any(out.iterdir()):
                    raise TrainingError(f"{out} is not empty; give a new folder")
            return state
        if not resume:
            raise TrainingError(
                f"{out} holds a training already; add --resume to go on with it, or give a new "
                "folder"
            )
        if differences := _differences(state._read_plan(), json.loads(state.plan)):
            raise TrainingError(
                f"{out} was begun with another plan: {differences}; give the same options and "
                "texts, or a new folder"
            )
        return state

    def begin(self) -> None:
        """Make the folder, once all that it takes is at hand."""
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return os.access(self.folder / STATE_FILE, os.F_OK)

    @contextmanager
    def storing(self) -> Iterator[None]:
        """What cannot be written here is a TrainingError that says what is left."""
        try:
            yield
        except OSError as error:
            left = "; what was saved before is intact, --resume goes on from it"
            raise TrainingError(
                f"{self.folder.parent} cannot be written to: {error.strerror or error}"
                f"{left if self.begun else ''}"
            ) from error

    def save(self, model: keras.Model) -> None:
        """Write weights and optimizer, the old checkpoint standing until the new one is whole."""
        with self.storing():
            self.begin()
            with atomic_write(self.folder / PLAN_FILE) as partial:
                partial.write_text(self.plan, encoding="utf-8")
            with atomic_write(self.folder / STATE_FILE) as partial:
                np.savez(partial, *map(np.asarray, _variables(model)))

    def restore(self, model: keras.Model) -> int:
        """Read them back; the number of steps done, 0 for a new training."""
        if not self.begun:
            return 0
        model.optimizer.build(model.trainable_variables)
        try:
            # np.load() itself leaves a damaged file open.
            with (self.folder / STATE_FILE).open("rb") as file, np.load(file) as arrays:
                for variable, array in zip(_variables(model), arrays.values(), strict=True):
                    variable.assign(array)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise self._damaged(STATE_FILE) from error
        return int(model.optimizer.iterations)

    def _read_plan(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / PLAN_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise self._damaged(PLAN_FILE) from error

    def _damaged(self, name: str) -> TrainingError:
        return TrainingError(
            f"{self.folder / name} is damaged; remove {self.folder.parent} and begin anew"
        )


def _variables(model: keras.Model) -> list[keras.Variable]:
    """All that the next step depends on.

    Keras's save_weights() leaves out the seeds of dropout and merges a LoRA for good, and the HDF5
    it writes through ends the process where a disk is full.
    """
    return [*model.variables, *model.optimizer.variables]


def _differences(begun: dict[str, Any], plan: dict[str, Any]) -> str:
    old, new = _flat(begun), _flat(plan)
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return ", ".join(f"{name} was {old.get(name)}, is {new.get(name)}" for name in names)


def _flat(plan: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in plan.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat
