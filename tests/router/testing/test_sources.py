"""The scripted device and cloud under a real router."""

import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from edgewise import (
    ConfigurationError,
    DeviceState,
    NoSourceError,
    PrivacyError,
    Reason,
    Router,
    Source,
    VetoCode,
    VocabularyMismatchError,
)
from edgewise.generation.attempt import StopSignal
from edgewise.generation.request import CloudTokenRequest, PrivateRequest
from edgewise.testing import ReceivedRequest, ScriptedCloud, ScriptedDevice, hangs_after
from edgewise_edge import ModelError, RequestError, RuntimeFailedError
from tests.router.generation.fakes import TOKENIZER, new_request

TEXT = "Once upon a time"

SCRIPT = """
import sys, edgewise
before = set(sys.modules)
from edgewise import Router
from edgewise.testing import ScriptedCloud, ScriptedDevice, fails_after
with Router(ScriptedDevice("abc", fails_after(1)), cloud=ScriptedCloud("abc")) as router:
    assert router.generate("x", latency_budget=9, hedge_after=9).text == "abc"
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_scripted_router_needs_no_network_no_runtime_and_no_cache(tmp_path: Path) -> None:
    """It imports neither gRPC nor LiteRT, and writes nothing to the user's cache folder."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert "edgewise" in done.stdout
    assert not set(done.stdout.split()) & {"ai_edge_litert", "google", "grpc", "tflite_runtime"}
    assert list(tmp_path.iterdir()) == []


def test_latency_log_of_a_real_source_is_kept_in_the_cache_folder(tmp_path: Path) -> None:
    """Only a router whose sources are all scripted measures nothing worth keeping."""
    with Router(ScriptedDevice(), cloud=ScriptedCloud()) as router:
        assert router.latency._path is None
    with Router(ScriptedDevice(), cloud="127.0.0.1:9", default_privacy="private") as router:
        assert router.latency._path is not None


def test_scripted_device_does_not_read_this_machine() -> None:
    """Unless the test says what is known about it."""
    with Router(ScriptedDevice()) as router:
        assert router.device_state() == DeviceState()
    with Router(ScriptedDevice(), device=lambda: DeviceState(battery=0.5)) as router:
        assert router.device_state().battery == 0.5


def test_scripted_cloud_refuses_a_private_request() -> None:
    """Even if a cast has silenced the type checker."""
    cloud = ScriptedCloud(TEXT)
    with pytest.raises(PrivacyError, match="may not leave the device"):
        cloud.open(cast("CloudTokenRequest", new_request(PrivateRequest).after(())))
    assert cloud.requests == []


def test_scripted_cloud_gets_nothing_of_a_score_that_was_stopped_before() -> None:
    """As the real one."""
    cloud, stop = ScriptedCloud(), StopSignal()
    with Router(ScriptedDevice(), cloud=cloud) as router:
        request = router.stream("A", mode="only_in_cloud").request.after(())
    stop.set()
    cloud.score(request, 0, stop)
    assert not cloud.requests


def test_unreachable_cloud_gets_no_request_until_it_is_back() -> None:
    """Its scripts wait as well."""
    device, cloud = ScriptedDevice(TEXT), ScriptedCloud(TEXT, reachable=False)
    with Router(device, cloud=cloud, mode="prefer_in_cloud") as router:
        assert router.generate("A").source is Source.ON_DEVICE
        assert cloud.requests == []
        cloud.reachable = True
        assert router.generate("B").source is Source.IN_CLOUD
    assert cloud.requests == [ReceivedRequest("B")]


def test_busy_cloud_gives_way_to_the_device() -> None:
    """As one that asked clients to wait."""
    with Router(ScriptedDevice(TEXT), cloud=ScriptedCloud(TEXT, busy_for=3.0)) as router:
        decision = router.route("A", mode="prefer_in_cloud")
    assert (decision.source, decision.reason) == (Source.ON_DEVICE, Reason.OTHER_VETOED)
    assert decision.vetoes[Source.IN_CLOUD].code is VetoCode.BUSY


def test_context_windows_are_those_of_the_sources() -> None:
    """A prompt over the device's goes to the cloud, and over both is refused."""
    device, cloud = ScriptedDevice(TEXT, context_window=8), ScriptedCloud(TEXT, context_window=40)
    with Router(device, cloud=cloud) as router:
        assert router.generate("Ten bytes.", max_tokens=20).source is Source.IN_CLOUD
        with pytest.raises(NoSourceError, match="context window of 40"):
            router.generate("Ten bytes." * 4)
        short = router.generate("1234", privacy="private")
    assert (short.text, short.finish_reason) == ("Once", "length")


def test_model_that_is_loaded_needs_no_more_memory() -> None:
    """Before, it is vetoed where too little is available."""
    device, state = ScriptedDevice(TEXT, memory=10**9), DeviceState(available_memory=10**8)
    with Router(device, device=lambda: state) as router:
        with pytest.raises(NoSourceError, match="memory"):
            router.generate("A")
        router.warm_up()
        assert router.generate("A").text == TEXT
    assert not router.availability().loaded


def test_missing_model_and_what_has_no_script_are_clear_errors() -> None:
    """As the real device's where it has one."""
    device = ScriptedDevice(availability="unavailable")
    with Router(device) as router:
        with pytest.raises(NoSourceError, match="unavailable"):
            router.generate("A")
        with pytest.raises(ModelError, match="unavailable"):
            router.warm_up()
        with pytest.raises(RuntimeFailedError, match="first_token"):
            router.measure()
        with pytest.raises(RequestError):
            router.generate("A", max_tokens=0)


def test_cloud_with_another_vocabulary_is_refused() -> None:
    """As the real one: the device's model must be told to the scripted cloud."""
    cloud = ScriptedCloud(TEXT, tokenizer=TOKENIZER)
    with (
        Router(ScriptedDevice(TEXT), cloud=cloud) as router,
        pytest.raises(NoSourceError) as refused,
    ):
        router.generate("A", mode="only_in_cloud")
    assert isinstance(refused.value.__cause__, VocabularyMismatchError)


def test_hang_that_puts_a_budget_at_risk_is_handed_off() -> None:
    """The policy decides by the predicted times; the cloud continues where the device hung."""
    device = ScriptedDevice(TEXT, hangs_after(3), first_token=0.001, gap=0.001)
    cloud = ScriptedCloud(TEXT, first_token=0.001, gap=0.0)
    with Router(device, cloud=cloud) as router:
        generation = router.generate("A", max_tokens=20, latency_budget=0.2)
    assert generation.text == TEXT
    assert [part.source for part in generation.segments] == [Source.ON_DEVICE, Source.IN_CLOUD]


@pytest.mark.parametrize("settings", [{"model": 3}, {"model": None}, {"cloud": ScriptedDevice()}])
def test_what_is_no_source_is_refused(settings: dict[str, object]) -> None:
    """When the router is created; the message names the option."""
    with pytest.raises(ConfigurationError, match=f"^{next(iter(settings))} is "):
        Router(**{"model": ScriptedDevice(), **settings})


@pytest.mark.parametrize("mode", ["prefer_on_device", "only_on_device", "only_in_cloud"])
def test_default_of_max_tokens_is_cut_to_what_fits(mode: str) -> None:
    """A prompt that nearly fills the window is answered by either source; all text is streamed."""
    device = ScriptedDevice(TEXT, context_window=64)
    cloud = ScriptedCloud(TEXT, context_window=64)
    with Router(device, cloud=cloud) as router:
        with router.stream("A" * 60, mode=mode, stop=" no stop") as stream:
            shown = "".join(chunk.text for chunk in stream)
        assert (shown, stream.generation.text) == (TEXT[:4], TEXT[:4])
        assert stream.generation.finish_reason == "length"
        if mode == "only_in_cloud":
            with pytest.raises(NoSourceError, match=r"60 prompt tokens \+ 5 new tokens exceed"):
                router.generate("A" * 60, mode=mode, max_tokens=5)
