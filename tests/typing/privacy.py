"""What is private cannot be handed to the cloud: checked by mypy, never run."""

from edgewise.cloud.source import CloudSource
from edgewise.device.source import DeviceSource
from edgewise.generation.attempt import Attempt
from edgewise.generation.request import (
    AllowCloudRequest,
    CloudTokenRequest,
    PrivateRequest,
    Request,
)
from edgewise.generation.source import Side, TokenSource
from edgewise_edge import TokenRequest

NOTHING: tuple[int, ...] = ()
NO_ENDS: frozenset[int] = frozenset()


def to_the_cloud(
    cloud: CloudSource,
    attempt: Attempt,
    private: PrivateRequest,
    allowed: AllowCloudRequest,
    either: PrivateRequest | AllowCloudRequest,
    unknown: Request,
) -> None:
    """What it takes, and what it does not."""
    cloud.stream(allowed.tokens(NOTHING, 1, NO_ENDS), attempt)
    cloud.stream(private.tokens(NOTHING, 1, NO_ENDS), attempt)  # type: ignore[arg-type]
    cloud.stream(either.tokens(NOTHING, 1, NO_ENDS), attempt)  # type: ignore[arg-type]
    cloud.stream(unknown.tokens(NOTHING, 1, NO_ENDS), attempt)  # type: ignore[arg-type]
    cloud.uncached(private.tokens(NOTHING, 1, NO_ENDS))  # type: ignore[arg-type]

    Side(cloud, allowed.tokens)
    Side(cloud, private.tokens)  # type: ignore[arg-type]
    Side(cloud, either.tokens)  # type: ignore[arg-type]
    Side(cloud, unknown.tokens)  # type: ignore[arg-type]
    if isinstance(either, AllowCloudRequest):
        Side(cloud, either.tokens)

    takes_all: TokenSource[TokenRequest] = cloud  # type: ignore[assignment]
    takes_some: TokenSource[CloudTokenRequest] = cloud
    print(takes_all, takes_some)


def to_the_device(
    device: DeviceSource, private: PrivateRequest, allowed: AllowCloudRequest
) -> None:
    """It takes both."""
    Side(device, private.tokens)
    Side(device, allowed.tokens)
