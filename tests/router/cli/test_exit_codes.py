"""Which error ends in which exit status."""

import pytest

from edgewise import (
    CloudUnavailableError,
    ConfigurationError,
    ModelError,
    NoSourceError,
    PrivacyError,
    RequestError,
    Source,
    Veto,
    VetoCode,
)
from edgewise.cli.exit_codes import ExitCode, exit_code
from edgewise.policy.types import NoSource
from edgewise_edge import ModelCorruptError, RuntimeFailedError


def refused(on_device, in_cloud):
    vetoes = {Source.ON_DEVICE: on_device, Source.IN_CLOUD: in_cloud}
    return NoSourceError(NoSource({source: Veto(code, "") for source, code in vetoes.items()}))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigurationError(""), ExitCode.INVALID),
        (RequestError(""), ExitCode.INVALID),
        (ModelError(""), ExitCode.INVALID),
        (CloudUnavailableError(""), ExitCode.CLOUD),
        (RuntimeFailedError(""), ExitCode.FAILED),
        (PrivacyError(""), ExitCode.FAILED),
        (refused(VetoCode.MEMORY, VetoCode.NO_ADDRESS), ExitCode.REFUSED),
        (refused(VetoCode.MODE, VetoCode.PRIVATE), ExitCode.REFUSED),
        (refused(VetoCode.MODE, VetoCode.FAILED), ExitCode.CLOUD),
        (refused(VetoCode.BATTERY, VetoCode.BUSY), ExitCode.CLOUD),
        (refused(VetoCode.FAILED, VetoCode.CIRCUIT_OPEN), ExitCode.CLOUD),
        (refused(VetoCode.CONTEXT_WINDOW, VetoCode.NO_ADDRESS), ExitCode.INVALID),
        (refused(VetoCode.MODEL_UNAVAILABLE, VetoCode.OFFLINE), ExitCode.INVALID),
        (refused(VetoCode.FAILED, VetoCode.NO_ADDRESS), ExitCode.FAILED),
    ],
)
def test_status_of_an_error(error, status):
    """A cloud that was tried and failed counts more than a device that may not answer."""
    assert exit_code(error) is status


def test_broken_model_is_invalid_though_the_device_failed():
    """It is found when it is loaded."""
    with pytest.raises(NoSourceError) as caught:
        raise refused(VetoCode.FAILED, VetoCode.NO_ADDRESS) from ModelCorruptError("")
    assert exit_code(caught.value) is ExitCode.INVALID
