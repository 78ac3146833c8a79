"""A service whose model steps when the test says so."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import pytest

from edgewise_cloud.serving.engine.engine import Engine
from edgewise_cloud.serving.engine.step_time import Pace


class Gate:
    """What each step of the model has to pass before it runs. Open at first."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self.begun = 0
        self._allowed = inf
        self._changed = threading.Condition()
        self._step = step

    def __call__(self, *numbers: Any) -> Any:
        """One step."""
        with self._changed:
            self.begun += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.begun <= self._allowed)
        return self._step(*numbers)

    def close(self) -> None:
        """Let no further step pass."""
        with self._changed:
            self._allowed = self.begun

    def wait(self) -> None:
        """Return when a step stands before the closed gate."""
        with self._changed:
            self._changed.wait_for(lambda: self.begun > self._allowed)

    def let_pass(self, steps: int) -> None:
        """Let the next ones pass."""
        with self._changed:
            self._allowed += steps
            self._changed.notify_all()

    def open(self) -> None:
        """Let all steps pass."""
        with self._changed:
            self._allowed = inf
            self._changed.notify_all()


@contextmanager
def gated(engine: Engine) -> Iterator[Gate]:
    """A gate before the steps of `engine`, whose measured pace is forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        gate = Gate(engine._batch._programs.decode)
        patch.setattr(engine._batch._programs, "decode", gate)
        patch.setattr(engine, "_pace", Pace())
        try:
            yield gate
        finally:
            gate.open()
