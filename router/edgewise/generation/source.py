"""What the loop needs from a source, and the one place where private and cloud could meet."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, Unpack

from edgewise.generation.attempt import Attempt, AttemptOptions
from edgewise_edge import TokenRequest

Taken = TypeVar("Taken", bound=TokenRequest)
Taken_contra = TypeVar("Taken_contra", bound=TokenRequest, contravariant=True)


class TokenSource(Protocol[Taken_contra]):
    """Makes tokens: device.source.DeviceSource, cloud.source.CloudSource, or a test's fake."""

    def open(self, request: Taken_contra, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """An attempt at the new tokens of `request`. It may allow fewer of them; nothing runs yet."""


class OpenAttempt(Protocol):
    """Opens an attempt of one source at the rest of one generation."""

    def __call__(self, generated: Sequence[int], /, **options: Unpack[AttemptOptions]) -> Attempt:
        """An attempt at the tokens that follow those `generated`."""


def opener(source: TokenSource[Taken], after: Callable[[Sequence[int]], Taken]) -> OpenAttempt:
    """`source` for one request, whose `after` makes what the source takes.

    PrivateRequest.after makes nothing that the cloud takes: mypy rejects the pair.
    """

    def open_attempt(generated: Sequence[int], /, **options: Unpack[AttemptOptions]) -> Attempt:
        return source.open(after(generated), **options)

    return open_attempt
