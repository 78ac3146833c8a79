"""The base class of every error that edgewise raises, and the errors of the edge runtime.

EdgewiseError
└── EdgeError
    ├── ModelError
    │   ├── ModelNotFoundError
    │   ├── ModelCorruptError
    │   ├── ModelIncompatibleError
    │   └── ModelRefusedError
    ├── StoreError
    ├── RequestError (also a ValueError)
    │   └── ContextOverflowError
    └── RuntimeFailedError
        └── CacheMemoryError (also a MemoryError)
"""

from typing import Any


class EdgewiseError(Exception):
    """Base class of everything that edgewise raises on purpose, on the device and in the cloud.

    It survives copying and pickling, whatever its constructor takes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """By its message and attributes; by default, pickle would call the constructor again."""
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[EdgewiseError], args: tuple[object, ...]) -> EdgewiseError:
    return BaseException.__new__(kind, *args)


class EdgeError(EdgewiseError):
    """Base class of the errors of the edge runtime."""


class ModelError(EdgeError):
    """A model that cannot be used."""


class ModelNotFoundError(ModelError):
    """No bundled model has that name, and there is no model folder at that path."""


class ModelCorruptError(ModelError):
    """A file of the model is missing, truncated, or not the one its manifest names."""


class ModelIncompatibleError(ModelError):
    """The files are intact, but this runtime cannot run them."""


class ModelRefusedError(ModelError):
    """A revision that may not be used here: it failed its trial, the agreement gate or its probation."""


class StoreError(EdgeError):
    """The store of installed models cannot be used: it is full, locked, or another user's."""


class RequestError(EdgeError, ValueError):
    """An invalid request: a prompt that is no text, a temperature below zero."""


class ContextOverflowError(RequestError):
    """The prompt, or the prompt and `max_tokens`, do not fit the model's context window."""

    def __init__(self, tokens: int, context_window: int, max_tokens: int = 1) -> None:
        super().__init__(
            f"the prompt's {tokens} tokens fill the model's context window of {context_window} "
            "tokens; shorten it"
            if tokens >= context_window
            else f"{tokens} prompt tokens + {max_tokens} new ones do not fit the model's context "
            f"window of {context_window} tokens; shorten the prompt or lower max_tokens"
        )
        self.tokens = tokens
        self.context_window = context_window
        self.max_tokens = max_tokens


class RuntimeFailedError(EdgeError):
    """The TFLite runtime failed while running the model."""


class CacheMemoryError(RuntimeFailedError, MemoryError):
    """The system has not enough memory left for a request's tokens."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(
            f"the request needs {needed / 1e6:,.1f} MB of memory for its tokens and only "
            f"{available / 1e6:,.1f} MB are available; shorten the prompt, lower max_tokens or close "
            "other programs"
        )
        self.needed = needed
        self.available = available
