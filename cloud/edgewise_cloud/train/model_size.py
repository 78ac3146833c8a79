"""How large a new model is; without imports, as the command line's help shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The sizes of a new GPT-2."""

    vocabulary_size: int = 4096
    layers: int = 6
    width: int = 256
    heads: int = 4
    context_window: int = 512
