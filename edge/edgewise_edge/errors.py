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
    """Anything the edge runtime refuses or fails at."""


class ModelError(EdgeError):
    """A model that cannot be used."""


class ModelNotFoundError(ModelError):
    """No model of that name is bundled, and no model folder lies at that path."""


class ModelCorruptError(ModelError):
    """A file of the model is missing, cut short, or not the one its manifest names."""


class ModelIncompatibleError(ModelError):
    """The files are whole, but this runtime cannot run them."""


class RequestError(EdgeError, ValueError):
    """A request that no model could answer: an empty prompt, a temperature below zero."""


class ContextOverflowError(RequestError):
    """The prompt, or the prompt and the tokens asked for, do not fit the model's context window."""

    def __init__(self, tokens: int, context_window: int, max_tokens: int = 1) -> None:
        super().__init__(
            f"{tokens} prompt tokens + {max_tokens} new ones do not fit the model's context "
            f"window of {context_window} tokens; shorten the prompt or lower max_tokens"
        )
        self.tokens = tokens
        self.context_window = context_window
        self.max_tokens = max_tokens


class RuntimeFailedError(EdgeError):
    """The TFLite runtime failed while it ran the model."""


class CacheMemoryError(RuntimeFailedError, MemoryError):
    """The system has not enough memory left for the tokens of a request."""

    def __init__(self, wanted: int, available: int) -> None:
        super().__init__(
            f"the request needs {wanted / 1e6:,.0f} MB of memory for its tokens and "
            f"{available / 1e6:,.0f} MB are available; shorten the prompt, lower max_tokens or close "
            "other programs"
        )
        self.wanted = wanted
        self.available = available
