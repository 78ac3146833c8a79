"""What the tables and the summary line say where something is unknown or went wrong."""

import grpc
import pytest

from edgewise import Router
from edgewise.cli.tables import _battery
from edgewise.cloud.config import CloudSecurity
from edgewise.cloud.status import error_for_status
from edgewise.generation.result import summary
from edgewise.testing import ScriptedCloud, ScriptedDevice, fails_after


@pytest.mark.parametrize(
    ("charging", "words"),
    [(None, "charger unknown"), (True, "charging"), (False, "not charging")],
)
def test_charger_that_cannot_be_read_is_unknown(charging: bool | None, words: str) -> None:
    """It may well be charging."""
    assert _battery(0.5, charging) == f"50%, {words}"


@pytest.mark.parametrize("count", [0, 2])
def test_summary_says_that_the_other_source_failed(count: int) -> None:
    """Whether it was a fallback or a handoff; and nothing where all went well."""
    device = ScriptedDevice("a story", fails_after(count))
    with Router(device, cloud=ScriptedCloud("a story")) as router:
        assert summary(router.generate("A")).endswith(" · on_device: failed · stop")
        assert "failed" not in summary(router.generate("A"))


class Loading(grpc.RpcError):
    """What a cloud answers that is loading its model."""

    def code(self) -> grpc.StatusCode:
        """See RpcError."""
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """See RpcError."""
        return "the model is still loading"


@pytest.mark.parametrize("security", [CloudSecurity(), CloudSecurity(tls=True)])
def test_cloud_that_is_loading_is_said_to_load(security: CloudSecurity) -> None:
    """It was reached: its address and TLS are not to blame."""
    error = error_for_status(Loading(), "cloud:1", security, caller_deadline=False)
    assert str(error) == "cloud:1 cannot answer now: the model is still loading; retry later"
