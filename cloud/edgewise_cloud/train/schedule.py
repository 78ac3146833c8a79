"""How long to train, with which batches and at which learning rate."""

from dataclasses import dataclass

# The share of the steps, at the end, that read full context windows. Attention over shorter rows
# costs less, and most of what there is to learn is learned from them.
FULL_WINDOW_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One training run. Tokens seen = steps x batch_tokens. Its fields are saved in the plan."""

    steps: int
    learning_rate: float  # the peak: it rises over `warmup` steps and falls along a cosine
    batch_tokens: int = 4096
    row: int = 256  # tokens per row of the batch, except in the last steps
    held_out: float = 0.01  # share of the text that is never trained on
    round_steps: int = 100  # steps between two checkpoints
    seed: int = 1
    bfloat16: bool = False  # compute in bfloat16 (weights stay float32), where it is faster

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
    def warmup(self) -> int:
        """Steps over which the learning rate rises."""
        return min(200, self.steps // 10)

    def steps_in_round(self, round_: int) -> int:
        """Steps of round `round_`."""
        return min(self.round_steps, self.steps - round_ * self.round_steps)

    def row_length(self, round_: int, context_window: int) -> int:
        """Tokens in each row of round `round_`."""
        last = round_ * self.round_steps >= self.steps * (1 - FULL_WINDOW_SHARE)
        return context_window if last else min(self.row, context_window)
