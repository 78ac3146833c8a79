"""A private request cannot be passed to the cloud source: checked by mypy, never run."""

from edgewise.cloud.source import CloudSource
from edgewise.device.source import DeviceSource
from edgewise.generation.attempt import StopSignal
from edgewise.generation.request import (
    AllowCloudRequest,
    CloudTokenRequest,
    PrivateRequest,
    Request,
)
from edgewise.generation.source import CloudTokenSource, TokenSource, opener
from edgewise.testing import ScriptedCloud
from edgewise_edge import TokenRequest


def pass_to_cloud(
    cloud: CloudSource,
    private: PrivateRequest,
    allowed: AllowCloudRequest,
    either: PrivateRequest | AllowCloudRequest,
    unknown: Request,
) -> None:
    """It accepts only what an AllowCloudRequest makes."""
    cloud.open(allowed.after(()))
    cloud.score(allowed.after(()), 0, StopSignal())
    cloud.score(private.after(()), 0, StopSignal())  # type: ignore[arg-type]
    cloud.open(private.after(()))  # type: ignore[arg-type]
    cloud.open(either.after(()))  # type: ignore[arg-type]
    cloud.open(unknown.after(()))  # type: ignore[arg-type]

    opener(cloud, allowed.after)
    opener(cloud, private.after)  # type: ignore[arg-type]
    opener(cloud, either.after)  # type: ignore[arg-type]
    opener(cloud, unknown.after)  # type: ignore[arg-type]
    if isinstance(either, AllowCloudRequest):
        opener(cloud, either.after)

    accepts_all: TokenSource[TokenRequest] = cloud  # type: ignore[assignment]
    accepts_cloud: TokenSource[CloudTokenRequest] = cloud
    print(accepts_all, accepts_cloud)


def pass_to_any_cloud(
    cloud: CloudTokenSource, scripted: ScriptedCloud, private: PrivateRequest
) -> None:
    """Nor does the protocol, or the scripted cloud."""
    cloud.open(private.after(()))  # type: ignore[arg-type]
    cloud.score(private.after(()), 0, StopSignal())  # type: ignore[arg-type]
    opener(cloud, private.after)  # type: ignore[arg-type]
    scripted.open(private.after(()))  # type: ignore[arg-type]
    opener(scripted, private.after)  # type: ignore[arg-type]


def pass_to_device(
    device: DeviceSource, private: PrivateRequest, allowed: AllowCloudRequest
) -> None:
    """It accepts both."""
    opener(device, private.after)
    opener(device, allowed.after)
