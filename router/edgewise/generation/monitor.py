"""Looks after a side that writes, from beside, so that its tokens pay for no look."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from edgewise.generation.attempt import Attempt
from edgewise.policy.types import Veto

log = logging.getLogger("edgewise")

SELDOM, OFTEN = 0.25, 0.05  # seconds between two looks: without budgets, and with


class Oversight:
    """Has an attempt hand over as soon as `look` gives a reason; ends with its `with`."""

    def __init__(self, attempt: Attempt, look: Callable[[], Veto | None], every: float) -> None:
        self._attempt, self._look, self._every = attempt, look, every
        self._done = threading.Event()

    def __enter__(self) -> Self:
        """Begin."""
        threading.Thread(target=self._watch, name="edgewise-oversight", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            try:
                why = self._look()
            except Exception as error:  # noqa: BLE001  # a probe that fails now may not later
                log.warning("a look at the device failed: %s", type(error).__name__)
                continue
            if why:
                self._attempt.hand_over(why)
                return
