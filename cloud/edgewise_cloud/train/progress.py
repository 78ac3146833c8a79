"""Progress of a training: a bar with loss, tokens/s and time left, and a line per round."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import keras
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from edgewise_cloud.console import console
from edgewise_cloud.train.schedule import Schedule


class Progress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Shows a bar on a terminal and reports each round, so that logs show progress too."""

    def __init__(self, schedule: Schedule, first_round: int, report: Callable[[str], None]) -> None:
        super().__init__()
        self._schedule, self._report = schedule, report
        self.step_tokens = schedule.batch_tokens  # tokens per step in this round
        self._bar = Bar(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f} · {task.fields[rate]:,.0f} tokens/s · left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=schedule.steps, completed=first_round * schedule.round_steps, loss=0, rate=0
        )
        self._started = 0.0

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hide the bar."""
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Start timing the round."""
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Update the bar."""
        self._bar.update(
            self._task, advance=1, loss=(logs or {}).get("loss", 0.0), rate=self._rate(batch + 1)
        )

    def report_round(self, round_: int, loss: float) -> None:
        """Report a round after its checkpoint was saved."""
        steps = self._schedule.steps_in_round(round_)
        left = self._schedule.steps - round_ * self._schedule.round_steps - steps
        rate = self._rate(steps)
        self._report(
            f"step {self._schedule.steps - left:,}/{self._schedule.steps:,} · loss {loss:.3f} · "
            f"{rate:,.0f} tokens/s · {left * self.step_tokens / rate / 60:.0f} min left"
        )

    def _rate(self, steps: int) -> float:
        return steps * self.step_tokens / max(time.monotonic() - self._started, 1e-9)
