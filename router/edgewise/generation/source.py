"""What the router needs of its two sources, and what keeps a private request from the cloud."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, Unpack, runtime_checkable

from edgewise.errors import ConfigurationError, PrivacyError
from edgewise.generation.attempt import Attempt, AttemptOptions, StopSignal
from edgewise.generation.request import CloudTokenRequest
from edgewise.policy.types import Availability, CloudState, EdgeState, PolicyLimits
from edgewise_edge import Manifest, Tokenizer, TokenRequest, TokenScore
from edgewise_edge.checks import shown

if TYPE_CHECKING:
    from edgewise_edge.profiling import Profile

Accepted = TypeVar("Accepted", bound=TokenRequest)
Accepted_contra = TypeVar("Accepted_contra", bound=TokenRequest, contravariant=True)


class TokenSource(Protocol[Accepted_contra]):
    """Generates tokens."""

    def open(self, request: Accepted_contra, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """An attempt at `request`, which may allow fewer tokens; nothing runs yet.

        Where the request asks for `logprobs`, the attempt's `scores` get each token's score before
        the token is yielded.
        """


@dataclass(frozen=True, slots=True)
class ModelAvailability:
    """Whether the model is on the device, and whether it is loaded.

    `done` of `total` bytes are there of what is being downloaded; both are 0 where nothing is.
    """

    status: Availability
    loaded: bool
    detail: str = ""  # why it is not available, or what is changing
    done: int = 0
    total: int = 0

    def __str__(self) -> str:
        """One phrase for people."""
        loaded = "loaded" if self.loaded else "not loaded"
        done = f", {self.done / 1e6:.1f} of {self.total / 1e6:.1f} MB" if self.total else ""
        return f"{self.status}, {loaded}{done}"


@runtime_checkable
class DeviceTokenSource(TokenSource[TokenRequest], Protocol):
    """The device: device.source.DeviceSource, testing.ScriptedDevice, or another of this shape.

    Its attempts may raise one of errors.Failure. All members may be used from any thread.
    """

    @property
    def manifest(self) -> Manifest:
        """The model's name, context window and recommended sampling."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's vocabulary, which the cloud must have too."""

    @property
    def measured(self) -> bool:
        """Whether its speed is known. If not, `calibrate` is called where a budget needs it."""

    def calibrate(self) -> None:
        """Measure its speed."""

    def score(
        self,
        request: TokenRequest,
        top: int,
        stop: StopSignal,
        *,
        limits: PolicyLimits | None = None,
        may_wait: bool = False,
    ) -> tuple[TokenScore, ...]:
        """The score of each of the request's tokens, with the `top` likeliest in its place.

        Blocks until it is there, or until soon after `stop` is set: then the result is not used.
        `limits` and `may_wait` are as in AttemptOptions. Raises one of errors.Failure.
        """

    def state(self, token_ids: Sequence[int], max_tokens: int, /) -> EdgeState:
        """What the policy needs to know, for `max_tokens` more tokens after `token_ids`.

        It is called while tokens are generated, and must return at once.
        """

    def availability(self) -> ModelAvailability:
        """Whether the model is on the device, and whether it is loaded; cheap."""

    def warm_up(self) -> None:
        """Load the model."""

    def unload(self) -> None:
        """Unload the model once the running attempts have ended."""

    def verify(self) -> None:
        """Compare the model with its manifest. Raises ModelError."""

    def measure(self) -> "Profile":
        """Profile the model. Raises ModelError or RuntimeFailedError."""


@runtime_checkable
class CloudTokenSource(TokenSource[CloudTokenRequest], Protocol):
    """The cloud: cloud.source.CloudSource, testing.ScriptedCloud, or another of this shape.

    Its attempts may raise SourceFailedError. All members may be used from any thread.
    """

    def open(self, request: CloudTokenRequest, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """As TokenSource.open. Raises PrivacyError unless the request may leave the device.

        mypy rejects such a call; `require_cloud_allowed` is for calls that nobody type-checked.
        """

    def score(
        self,
        request: CloudTokenRequest,
        top: int,
        stop: StopSignal,
        *,
        traceparent: str | None = None,
    ) -> tuple[TokenScore, ...]:
        """As DeviceTokenSource.score; `traceparent` is as in AttemptOptions.

        Raises SourceFailedError, and PrivacyError unless the request may leave the device.
        """

    def state(self, position: int, max_tokens: int, /) -> CloudState:
        """What is known without a call, for `max_tokens` more tokens at `position`.

        It is called while tokens are generated, and must return at once. It is never called for a
        private request.
        """

    def refresh(self) -> None:
        """A decision needs a recent state: read it in the background, unless it is recent."""

    def describe_service(self) -> str:
        """For people: what it serves and how busy it is. Raises SourceFailedError."""

    def close(self) -> None:
        """Close the connection."""


def require_device_source(source: object) -> DeviceTokenSource:
    """The same source. Raises ConfigurationError for what is none; mypy prevents it, too."""
    if isinstance(source, DeviceTokenSource) and not isinstance(source, type):
        return source
    raise ConfigurationError(
        f"model is {shown(source)}; give a bundled model's name, a model folder, or a DeviceTokenSource "
        "such as edgewise.testing.ScriptedDevice"
    )


def require_cloud_source(source: object) -> CloudTokenSource:
    """The same source. Raises ConfigurationError for what is none; mypy prevents it, too."""
    if isinstance(source, CloudTokenSource) and not isinstance(source, type):
        return source
    raise ConfigurationError(
        f"cloud is {shown(source)}; give HOST:PORT, or a CloudTokenSource such as "
        "edgewise.testing.ScriptedCloud"
    )


def require_cloud_allowed(request: object) -> None:
    """Raise PrivacyError for a request that may not leave the device; mypy prevents it, too."""
    if not isinstance(request, CloudTokenRequest):
        raise PrivacyError("a request that may not leave the device was about to be sent")


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
