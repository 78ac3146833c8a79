"""How long to train, with which batches and at which learning rate."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from edgewise_cloud.errors import TrainingError

# The share of the steps, at the end, that read full context windows. Attention over shorter rows
# costs less, and most of what there is to learn is learned from them.
FULL_WINDOW_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One training run. Tokens seen = steps x batch_tokens. Its fields are saved in the plan."""

    steps: int
    learning_rate: float  # the peak; optimizers.py has its course
    batch_tokens: int = 4096
    row: int | None = 256  # tokens per row, except in the last steps; None: full windows
    held_out: float = 0.01  # share of the text that is never trained on
    round_steps: int = 100  # steps between two checkpoints
    seed: int = 1
    bfloat16: bool = False  # compute in bfloat16 (weights stay float32), where it is faster
    then_share: float | None = None  # of the steps: the last ones read a second text

    def __post_init__(self) -> None:
        """Raise TrainingError for numbers that are none, and two phases that cannot be."""
        if not 0 <= self.learning_rate < math.inf:
            raise TrainingError(f"--learning-rate is {self.learning_rate}; it must be 0 or more")
        if not 0 <= self.held_out < 1:
            raise TrainingError(
                f"--held-out is {self.held_out}; it must be a share of the text, between 0 and 1"
            )
        if self.then_share is None:
            return
        if not 0 < self.then_share < 1:
            raise TrainingError(
                f"--then-share is {self.then_share}; it must be a share of the steps, between 0 and 1"
            )
        if self.rounds < 2:
            raise TrainingError(
                f"--steps is {self.steps}; two phases take more than {self.round_steps}"
            )

    def plan(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)

    @staticmethod
    def default_round_steps(steps: int) -> int:
        """A tenth of a short training, so that its loss can be seen to fall; at most 100."""
        return max(10, min(100, steps // 10))

    @property
    def dtype(self) -> str:
        """Keras's dtype policy."""
        return "mixed_bfloat16" if self.bfloat16 else "float32"

    @property
    def rounds(self) -> int:
        """The number of rounds; each ends with a checkpoint."""
        return -(-self.steps // self.round_steps)

    @property
    def first_phase(self) -> int:
        """Steps of the first phase, whole rounds; all steps where there is no second one."""
        if self.then_share is None:
            return self.steps
        rounds = math.floor(self.steps * (1 - self.then_share) / self.round_steps + 0.5)
        return min(max(1, rounds), self.rounds - 1) * self.round_steps

    def phase(self, round_: int) -> int:
        """0, or 1 for a round of the second phase."""
        return int(round_ * self.round_steps >= self.first_phase)

    @property
    def warmup(self) -> int:
        """Steps over which the learning rate rises."""
        return min(200, self.steps // 10)

    def steps_in_round(self, round_: int) -> int:
        """Steps of round `round_`."""
        return min(self.round_steps, self.steps - round_ * self.round_steps)

    def shortest_row(self, context_window: int) -> int:
        """Tokens in the rows of the first steps."""
        return context_window if self.row is None else min(self.row, context_window)

    def row_length(self, round_: int, context_window: int) -> int:
        """Tokens in each row of round `round_`."""
        last = round_ * self.round_steps >= self.steps * (1 - FULL_WINDOW_SHARE)
        return context_window if last else self.shortest_row(context_window)
