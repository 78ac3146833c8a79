"""The cloud of a router."""

from collections.abc import Callable

from edgewise.cloud.config import CloudSecurity, CloudTimeouts
from edgewise.generation.source import CloudTokenSource, require_cloud_source
from edgewise.latency.log import LatencyLog


def connect(
    cloud: str | CloudTokenSource,
    vocabulary: Callable[[], str],
    latency: LatencyLog,
    security: CloudSecurity | None,
    timeouts: CloudTimeouts | None,
    *,
    background: bool,
) -> CloudTokenSource:
    """The source at an address, or the given one. Raises ConfigurationError."""
    if not isinstance(cloud, str):
        return require_cloud_source(cloud)
    from edgewise.cloud.source import CloudSource  # imports gRPC: only where an address is set

    return CloudSource(cloud, vocabulary, latency, security, timeouts, background=background)
