"""A model's programs that wait, fail or change their logits when a test says so."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgewise_cloud.serving.model.interface import Compilations, Programs


class Gate:
    """A point that each call of one program passes. Open at first."""

    def __init__(self) -> None:
        self.arrived = 0  # calls so far
        self._allowed = inf
        self._changed = threading.Condition()

    def enter(self) -> None:
        """Return when the call may pass."""
        with self._changed:
            self.arrived += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.arrived <= self._allowed)

    def close(self) -> None:
        """Let no further call pass."""
        with self._changed:
            self._allowed = self.arrived

    def wait(self) -> None:
        """Return when a call stands before the closed gate."""
        with self._changed:
            self._changed.wait_for(lambda: self.arrived > self._allowed)

    def let_pass(self, calls: int) -> None:
        """Let the next calls pass."""
        with self._changed:
            self._allowed += calls
            self._changed.notify_all()

    def open(self) -> None:
        """Let all calls pass."""
        with self._changed:
            self._allowed = inf
            self._changed.notify_all()


class GatedPrograms:
    """Programs; see edgewise_cloud.serving.model.interface."""

    def __init__(self, programs: "Programs") -> None:
        self._programs = programs
        self.layout = programs.layout
        self.decode_gate, self.prefill_gate, self.score_gate = Gate(), Gate(), Gate()
        self.tokens: list[int] = []  # of the last decode call, also one that waits
        self.calls: deque[str] = deque(maxlen=1000)  # decode, prefill or score
        self.before: dict[str, Callable[[], None]] = {}  # called before a program; may raise
        self.change_logits: Callable[[NDArray[np.float32]], None] | None = None  # in place
        self.change_scores: Callable[[NDArray[np.float32]], None] | None = None  # likewise

    def behave(self) -> None:
        """Open the gates, and take back all that a test has set."""
        self.before.clear()
        self.change_logits = self.change_scores = None
        self.decode_gate.open()
        self.prefill_gate.open()
        self.score_gate.open()

    def compilations(self, sizes: Sequence[int], contexts: Sequence[int]) -> "Compilations":
        return self._programs.compilations(sizes, contexts)

    def reset(self) -> None:
        self._before("reset")
        self._programs.reset()

    def decode(self, tokens: list[int], positions: list[int], context: int) -> NDArray[np.float32]:
        self.tokens = tokens
        self._begin("decode", self.decode_gate)
        logits = self._programs.decode(tokens, positions, context)
        if self.change_logits:
            logits = logits.copy()
            self.change_logits(logits)
        return logits

    def prefill(self, tokens: list[int], slot: int, position: int, context: int) -> None:
        self._begin("prefill", self.prefill_gate)
        self._programs.prefill(tokens, slot, position, context)

    def prefill_two(
        self, tokens: list[int], slots: list[int], positions: list[int], context: int
    ) -> None:
        self._begin("prefill", self.prefill_gate)
        self._programs.prefill_two(tokens, slots, positions, context)

    def score(
        self, tokens: list[int], following: list[int], slot: int, position: int, context: int
    ) -> NDArray[np.float32]:
        self._begin("score", self.score_gate)
        scores = self._programs.score(tokens, following, slot, position, context)
        if self.change_scores:
            scores = scores.copy()
            self.change_scores(scores)
        return scores

    def copy(self, source: int, target: int) -> None:
        self._programs.copy(source, target)

    def _begin(self, name: str, gate: Gate) -> None:
        self.calls.append(name)
        gate.enter()
        self._before(name)

    def _before(self, name: str) -> None:
        if name in self.before:
            self.before[name]()
