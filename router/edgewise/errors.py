"""Errors of the router.

EdgewiseError
├── NoSourceError
├── ConfigurationError (also a ValueError)
└── SourceFailedError
    ├── CloudUnavailableError
    └── CloudRefusedError
        └── VocabularyMismatchError

What the edge runtime raises (ModelError, RequestError) passes through unchanged.
"""

from edgewise.policy import NoSource, Source, Veto


class EdgewiseError(Exception):
    """Anything the router refuses or fails at."""


class NoSourceError(EdgewiseError):
    """Neither side may answer this request; `vetoes` says why, for each."""

    def __init__(self, refusal: NoSource) -> None:
        self.vetoes: dict[Source, Veto] = dict(refusal.vetoes)
        reasons = "; ".join(f"{side}: {veto.detail}" for side, veto in self.vetoes.items())
        super().__init__(f"no side can answer. {reasons}")


class ConfigurationError(EdgewiseError, ValueError):
    """Settings that cannot work."""


class SourceFailedError(EdgewiseError):
    """A side that was chosen did not deliver; the router goes on with the other where it may."""


class CloudUnavailableError(SourceFailedError):
    """The cloud cannot be reached, is starting or stopping, or has no slot free."""


class CloudRefusedError(SourceFailedError):
    """The cloud answered that it cannot serve this request."""


class VocabularyMismatchError(CloudRefusedError):
    """The cloud serves a model whose tokens mean something else."""
