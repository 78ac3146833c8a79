"""Errors of the edge runtime.

EdgeError
├── ModelError
│   ├── ModelNotFoundError
│   ├── ModelCorruptError
│   └── ModelIncompatibleError
├── RequestError (also a ValueError)
│   └── ContextOverflowError
└── RuntimeFailedError
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
    """The prompt and the tokens asked for do not fit the model's context window."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context_window: int) -> None:
        super().__init__(
            f"{prompt_tokens} prompt tokens + {max_tokens} new ones do not fit the model's context "
            f"window of {context_window} tokens; shorten the prompt or lower max_tokens"
        )
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.context_window = context_window


class RuntimeFailedError(EdgeError):
    """The TFLite runtime failed while it ran the model."""
