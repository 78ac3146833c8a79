"""What the loop needs from a source, and the types that keep a private request from the cloud."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, Unpack

from edgewise.generation.attempt import Attempt, AttemptOptions
from edgewise_edge import TokenRequest

Accepted = TypeVar("Accepted", bound=TokenRequest)
Accepted_contra = TypeVar("Accepted_contra", bound=TokenRequest, contravariant=True)


class TokenSource(Protocol[Accepted_contra]):
    """Generates tokens: device.source.DeviceSource, cloud.source.CloudSource, or a test's fake."""

    def open(self, request: Accepted_contra, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """An attempt at `request`, which may allow fewer tokens; nothing runs yet."""


class OpenAttempt(Protocol):
    """Opens an attempt of one source to continue one generation."""

    def __call__(self, generated: Sequence[int], /, **options: Unpack[AttemptOptions]) -> Attempt:
        """An attempt at the tokens that follow those `generated`."""


def opener(
    source: TokenSource[Accepted], after: Callable[[Sequence[int]], Accepted]
) -> OpenAttempt:
    """Opens attempts of `source` for the request whose `after` is given.

    The cloud does not accept what PrivateRequest.after returns: mypy rejects the pair.
    """

    def open_attempt(generated: Sequence[int], /, **options: Unpack[AttemptOptions]) -> Attempt:
        return source.open(after(generated), **options)

    return open_attempt
