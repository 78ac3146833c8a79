"""A bar with loss, tokens a second and time left, and a line for each round."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from edgewise_cloud.schedule import Schedule


class Progress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Shows a bar on a terminal, and reports each round, so that a log is worth reading too."""

    def __init__(self, schedule: Schedule, begun: int, report: Callable[[str], None]) -> None:
        super().__init__()
        self._schedule, self._report = schedule, report
        console = Console(stderr=True)
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
            "", total=schedule.steps, completed=begun * schedule.round_steps, loss=0, rate=0
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
        """Take it away."""
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Start the round's clock."""
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the bar."""
        self._bar.update(
            self._task, advance=1, loss=(logs or {}).get("loss", 0.0), rate=self._rate(batch + 1)
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the round."""
        steps = self._schedule.steps_in(epoch)
        left = self._schedule.steps - epoch * self._schedule.round_steps - steps
        rate = self._rate(steps)
        self._report(
            f"step {self._schedule.steps - left:,}/{self._schedule.steps:,} · loss "
            f"{(logs or {}).get('loss', 0.0):.3f} · {rate:,.0f} tokens/s · "
            f"{left * self._schedule.batch_tokens / rate / 60:.0f} min left"
        )

    def _rate(self, steps: int) -> float:
        seconds = max(time.monotonic() - self._started, 1e-9)
        return steps * self._schedule.batch_tokens / seconds
