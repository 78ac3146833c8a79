"""What is private cannot be handed to the cloud: checked by mypy, never run."""

from edgewise.cloud.source import CloudSource
from edgewise.device.source import DeviceSource
from edgewise.generation.request import (
    AllowCloudRequest,
    CloudTokenRequest,
    PrivateRequest,
    Request,
)
from edgewise.generation.source import TokenSource, opener
from edgewise_edge import TokenRequest


def to_the_cloud(
    cloud: CloudSource,
    private: PrivateRequest,
    allowed: AllowCloudRequest,
    either: PrivateRequest | AllowCloudRequest,
    unknown: Request,
) -> None:
    """What it takes, and what it does not."""
    cloud.open(allowed.after(()))
    cloud.open(private.after(()))  # type: ignore[arg-type]
    cloud.open(either.after(()))  # type: ignore[arg-type]
    cloud.open(unknown.after(()))  # type: ignore[arg-type]

    opener(cloud, allowed.after)
    opener(cloud, private.after)  # type: ignore[arg-type]
    opener(cloud, either.after)  # type: ignore[arg-type]
    opener(cloud, unknown.after)  # type: ignore[arg-type]
    if isinstance(either, AllowCloudRequest):
        opener(cloud, either.after)

    takes_all: TokenSource[TokenRequest] = cloud  # type: ignore[assignment]
    takes_some: TokenSource[CloudTokenRequest] = cloud
    print(takes_all, takes_some)


def to_the_device(
    device: DeviceSource, private: PrivateRequest, allowed: AllowCloudRequest
) -> None:
    """It takes both."""
    opener(device, private.after)
    opener(device, allowed.after)
