"""How an installed revision of a model is watched while it has not proved itself."""

import errno
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgewise.device.source import DeviceSource
from edgewise.generation.attempt import Attempt
from edgewise_edge import (
    CacheMemoryError,
    ModelError,
    ModelIncompatibleError,
    RuntimeFailedError,
    TokenRequest,
)

if TYPE_CHECKING:
    from edgewise_edge.installed.store import ModelStore

# What takes the place of a source that failed with that error; None: nothing better is here.
FindSuccessor = Callable[[DeviceSource, Exception], DeviceSource | None]


@dataclass(slots=True)
class Replaceable:
    """Watches a revision that is not on probation: only a damaged one is replaced."""

    find: FindSuccessor

    def starting(self) -> AbstractContextManager[None]:
        """See Watch."""
        return nullcontext()

    def successor(self, source: DeviceSource, error: Exception) -> DeviceSource | None:
        """See Watch."""
        return self.find(source, error)

    def run(
        self, source: DeviceSource, request: TokenRequest, attempt: Attempt
    ) -> Generator[int, None, None]:
        """See Watch. A damaged model fails when it is loaded, before the first token."""
        try:
            yield from source.run(request, attempt)
        except ModelError as error:
            other = self.successor(source, error)
            if other is None or not _fits(request, other):
                raise
            yield from _continue(other, request, attempt)


@dataclass(slots=True)
class Probation:
    """Watches a revision on probation, until a few generations have gone well.

    A failure takes it back to the revision before it; so does a process that dies before its first
    token, or the second one that dies after it.
    """

    store: "ModelStore"
    name: str
    revision: str
    find: FindSuccessor
    over: bool = False

    @contextmanager
    def starting(self) -> Iterator[None]:
        """See Watch: a mark in the store, which outlives a process that dies."""
        if self.over:
            yield
            return
        self.store.starting(self.name)
        try:
            yield
        finally:
            self.store.started(self.name)

    def successor(self, source: DeviceSource, error: Exception) -> DeviceSource | None:
        """See Watch."""
        return self.find(source, error)

    def run(
        self, source: DeviceSource, request: TokenRequest, attempt: Attempt
    ) -> Generator[int, None, None]:
        """See Watch. The replacement continues after the tokens that are there."""
        generated: list[int] = []
        try:
            with self.starting():
                for token in source.run(request, attempt):
                    if not generated:
                        self.store.running(self.name)
                    generated.append(token)
                    yield token
            self._passed(generated)
        except GeneratorExit:  # the text ended, or nobody needs more of it
            self._passed(generated)
            raise
        except (ModelError, RuntimeFailedError) as error:
            rest = _rest(request, generated)
            other = self.successor(source, error)
            if other is None or rest.max_tokens < 1 or not _fits(rest, other):
                raise
            yield from _continue(other, rest, attempt)

    def _passed(self, generated: list[int]) -> None:
        if sys.is_finalizing():  # an unread text of a program that ends: nothing can be imported
            return
        if generated and not self.over:
            self.store.generation_ended(self.name, ok=True, revision=self.revision)
            left = self.store.state(self.name).probation
            self.over = left is None or left.revision != self.revision


def _continue(
    source: DeviceSource, request: TokenRequest, attempt: Attempt
) -> Generator[int, None, None]:
    attempt.alone = False  # its times are of two revisions: nothing can be learned from them
    return source.open(request).run(attempt)


def _rest(request: TokenRequest, generated: list[int]) -> TokenRequest:
    return replace(
        request,
        token_ids=(*request.token_ids, *generated),
        max_tokens=request.max_tokens - len(generated),
    )


def _fits(request: TokenRequest, source: DeviceSource) -> bool:
    window = source.manifest.architecture.context_window
    return request.sliding_window or request.position < window


def is_blameless(error: Exception) -> bool:
    """Whether it is not the revision's fault, as far as one can tell: memory was short, or no trial."""
    cause = error.__cause__
    return (
        isinstance(error, CacheMemoryError)
        or isinstance(cause, MemoryError)
        or getattr(cause, "errno", None) == errno.ENOMEM
        or (isinstance(error, ModelIncompatibleError) and _had_no_trial(error))
    )


def _had_no_trial(error: ModelIncompatibleError) -> bool:
    from edgewise_edge.trial import TrialFailedError  # a load imports it when it needs a trial

    return isinstance(error, TrialFailedError)
