"""What a long task reports."""

from dataclasses import dataclass, field


@dataclass
class Recorded:
    """A Progress that keeps what it is told."""

    steps: list[str] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)

    def step(self, text: str) -> None:
        """Keep it."""
        self.steps.append(text)

    def count(self, done: int, total: int, note: str = "") -> None:
        """Keep it."""
        self.counts.append((done, total))
