"""Progress of a training: loss, tokens/s and time left, and a line per round."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras

from edgewise_cloud.console import Progress
from edgewise_cloud.train.schedule import Schedule


class TrainingProgress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Counts the steps, and reports each round, so that logs show the loss too."""

    def __init__(
        self,
        schedule: Schedule,
        first_round: int,
        report: Callable[[str], None],
        progress: Progress,
    ) -> None:
        super().__init__()
        self._schedule, self._report, self._progress = schedule, report, progress
        self.step_tokens = schedule.batch_tokens  # tokens per step in this round
        self._done = first_round * schedule.round_steps
        self._started, self._activity = 0.0, ""

    def activity(self, round_: int) -> str:
        """What a round does."""
        return " · ".join(["training", *self._phase(round_)])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Start timing the round."""
        self._started, self._activity = time.monotonic(), self.activity(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the step."""
        self._done += 1
        loss = (logs or {}).get("loss", 0.0)
        self._progress.step(self._activity)
        self._progress.count(
            self._done,
            self._schedule.steps,
            f"loss {loss:.3f} · {self._rate(batch + 1):,.0f} tokens/s",
        )

    def report_round(self, round_: int, loss: float) -> None:
        """Report a round after its checkpoint was saved."""
        steps = self._schedule.steps_in_round(round_)
        left = self._schedule.steps - round_ * self._schedule.round_steps - steps
        rate = self._rate(steps)
        figures = [
            f"step {self._schedule.steps - left:,}/{self._schedule.steps:,}",
            *self._phase(round_),
            f"loss {loss:.3f}",
            f"{rate:,.0f} tokens/s",
        ]
        if left:
            figures.append(f"{math.ceil(left * self.step_tokens / rate / 60)} min left")
        self._report(" · ".join(figures))

    def _phase(self, round_: int) -> list[str]:
        """Which one, if there are two."""
        two = ["first phase", "second phase"]
        return [two[self._schedule.phase(round_)]] if self._schedule.then_share else []

    def _rate(self, steps: int) -> float:
        return steps * self.step_tokens / max(time.monotonic() - self._started, 1e-9)
