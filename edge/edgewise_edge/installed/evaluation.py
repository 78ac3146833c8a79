"""A revision's `evaluation.json`: texts as token ids, and how well the model does on them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from edgewise_edge.checks import Range
from edgewise_edge.errors import ModelCorruptError
from edgewise_edge.store.files import read_text
from edgewise_edge.store.manifest import MAX_VOCABULARY

EVALUATION_FILE = "evaluation.json"
FORMAT = 1
MAX_TOKENS = 2048  # that are predicted, in all windows
TOKENS = 512  # by default
MAX_EVALUATION_BYTES = 2**20
_TOKEN = Range(0, MAX_VOCABULARY - 1, whole=True)
_BYTES = Range(1, 2**30, whole=True, unit="bytes")
_SHARE = Range(0, 1)
_BITS = Range(0, 1e6, above=True)


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens from the start of a context window: n ids, and for each but the last what follows it.

    `top1[i]` is the token that the published model finds likeliest after `token_ids[: i + 1]`.
    """

    token_ids: tuple[int, ...]
    top1: tuple[int, ...]

    def __post_init__(self) -> None:
        """Make tuples, and raise TypeError for invalid values: JSON may hold any."""
        for name in ("token_ids", "top1"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise TypeError(f"{name} must be a list")
            object.__setattr__(
                self, name, tuple(int(_TOKEN.check(name, v, TypeError)) for v in value)
            )
        if len(self.token_ids) < 2 or len(self.top1) != len(self.token_ids) - 1:
            raise TypeError("a window has n token ids, 2 or more, and n - 1 tokens in top1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a device runs before it uses a revision, signed by its publisher.

    `text_bytes` is the length of the text of all predicted tokens (all but each window's first).
    """

    windows: tuple[Window, ...]
    text_bytes: int
    least_top1: float  # share of the predicted tokens, 0 to 1
    most_bits_per_byte: float
    measured: Mapping[str, Any] = field(default_factory=dict)  # by the publisher, for people
    made_with: str = ""

    def __post_init__(self) -> None:
        """Raise TypeError for invalid values: JSON may hold any."""
        _BYTES.check("bytes", self.text_bytes, TypeError)
        _SHARE.check("least_top1", self.least_top1, TypeError)
        _BITS.check("most_bits_per_byte", self.most_bits_per_byte, TypeError)
        if not (isinstance(self.measured, Mapping) and isinstance(self.made_with, str)):
            raise TypeError("measured must be an object and made_with a text")
        if not 1 <= self.tokens <= MAX_TOKENS:
            raise TypeError(f"{self.tokens} tokens are predicted; 1 to {MAX_TOKENS} are allowed")

    @property
    def tokens(self) -> int:
        """How many are predicted."""
        return sum(len(window.top1) for window in self.windows)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ModelCorruptError."""
        try:
            return cls.parse(read_text(path, MAX_EVALUATION_BYTES))
        except (OSError, ValueError) as error:
            raise ModelCorruptError(f"{path} cannot be read: {error}") from error

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read what to_json() has written. Raises ModelCorruptError."""
        if len(text) > MAX_EVALUATION_BYTES:
            raise ModelCorruptError(
                f"{EVALUATION_FILE} has more than {MAX_EVALUATION_BYTES:,} bytes"
            )
        try:
            raw = json.loads(text)
            format_ = raw.pop("format")
            raw["windows"] = tuple(Window(**window) for window in raw["windows"])
            raw["text_bytes"] = raw.pop("bytes")
            found = cls(**raw)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelCorruptError(f"{EVALUATION_FILE} is not valid: {error}") from error
        if format_ != FORMAT:
            raise ModelCorruptError(
                f"{EVALUATION_FILE}: its format is {format_!r}, this version reads {FORMAT}"
            )
        return found

    def to_json(self) -> bytes:
        """As parse() reads it."""
        raw = {"format": FORMAT, **asdict(self)}
        raw["bytes"] = raw.pop("text_bytes")
        return json.dumps(raw, separators=(",", ":")).encode()
