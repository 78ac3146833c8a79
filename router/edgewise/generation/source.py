"""A side together with what it may be asked: the place where private and cloud cannot meet."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from edgewise.generation.attempt import Attempt
from edgewise.policy.types import Source
from edgewise_edge import TokenRequest

Asked = TypeVar("Asked", bound=TokenRequest)
Takes_contra = TypeVar("Takes_contra", bound=TokenRequest, contravariant=True)


class TokenSource(Protocol[Takes_contra]):
    """A side that makes tokens (on_device.DeviceSource, in_cloud.CloudSource, or a test's fake)."""

    cuts_at: int | None  # tokens after which it ends a text; None: it refuses longer ones

    def prepare(self, request: Takes_contra, attempt: Attempt, /) -> None:
        """Do what is needed before the request; raises as `stream` does."""

    def uncached(self, request: Takes_contra, /) -> int:
        """How many of the request's tokens it has still to read; the others it remembers."""

    def stream(self, request: Takes_contra, attempt: Attempt, /) -> Generator[int, None, None]:
        """The new tokens; raises one of errors.Failure. Closing it or `attempt.stop` ends it."""

    def learn(self, attempt: Attempt, /) -> None:
        """Remember how long a run took that made a token."""


@dataclass(frozen=True, slots=True)
class Side(Generic[Asked]):
    """`ask` makes what `source` takes: PrivateRequest.tokens makes nothing that the cloud takes."""

    source: TokenSource[Asked]
    ask: Callable[[Sequence[int], int, frozenset[int]], Asked]

    def run(
        self, attempt: Attempt, generated: Sequence[int], end_ids: frozenset[int]
    ) -> Generator[int, None, None]:
        """New tokens after those that were `generated`. Raises one of errors.Failure."""
        request = self.ask(generated, attempt.max_tokens, end_ids)
        attempt.waiting_since = attempt.began  # getting ready is waited for, too
        self.source.prepare(request, attempt)
        attempt.uncached = self.source.uncached(request)
        with closing(self.source.stream(request, attempt)) as tokens:
            yield from attempt.timed(tokens)


# Those that a request may use at all. Of a private request's, the cloud is not one.
Sides = Mapping[Source, Side[Any]]
