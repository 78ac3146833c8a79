"""Errors of the edge runtime.

EdgeError
├── ModelError
│   ├── ModelNotFoundError
│   ├── ModelCorruptError
│   └── ModelIncompatibleError
├── RequestError (also a ValueError)
│   └── ContextOverflowError
└── RuntimeFailedError
    └── CacheMemoryError (also a MemoryError)
"""


class EdgeError(Exception):
    """Base class of the errors of the edge runtime."""


class ModelError(EdgeError):
    """A model that cannot be used."""


class ModelNotFoundError(ModelError):
    """No bundled model has that name, and there is no model folder at that path."""


class ModelCorruptError(ModelError):
    """A file of the model is missing, truncated, or not the one its manifest names."""


class ModelIncompatibleError(ModelError):
    """The files are intact, but this runtime cannot run them."""


class RequestError(EdgeError, ValueError):
    """An invalid request: an empty prompt, a temperature below zero."""


class ContextOverflowError(RequestError):
    """The prompt, or the prompt and `max_tokens`, do not fit the model's context window."""

    def __init__(self, tokens: int, context_window: int, max_tokens: int = 1) -> None:
        super().__init__(
            f"{tokens} prompt tokens + {max_tokens} new ones do not fit the model's context "
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
            f"the request needs {needed / 1e6:,.0f} MB of memory for its tokens and only "
            f"{available / 1e6:,.0f} MB are available; shorten the prompt, lower max_tokens or close "
            "other programs"
        )
        self.needed = needed
        self.available = available
