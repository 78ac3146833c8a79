"""The router: its decisions, settings and errors, with a tiny model or scripted sources."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgewise import (
    ConfigurationError,
    Limits,
    Mode,
    ModelError,
    NoSourceError,
    Reason,
    RequestError,
    Router,
    Source,
    VetoCode,
)
from tests.router.routers import DRAINED, SHORT_OF_MEMORY, UNREACHABLE, new_router, scripted_router


def test_three_lines_are_enough() -> None:
    """The bundled model and no settings."""
    with Router() as router:
        text = "".join(chunk.text for chunk in router.stream("Once upon a time", max_tokens=8))
    assert text


def test_route_decides_without_generating(exact_folder: Path) -> None:
    """A short calibration predicts the device's time."""
    with new_router(exact_folder) as router:
        decision = router.route("the", max_tokens=20)
        assert decision.source is Source.ON_DEVICE
        assert decision.vetoes[Source.IN_CLOUD].code is VetoCode.NO_ADDRESS
        predicted = decision.predicted[Source.ON_DEVICE]
        assert 0 < predicted.first_token < predicted.total
        longer = router.route("the", max_tokens=150).predicted[Source.ON_DEVICE]
        assert longer.total > predicted.total


def test_vetoed_device_is_not_calibrated(exact_folder: Path) -> None:
    """With too little memory, the model is not loaded just to predict a time."""
    with new_router(exact_folder, SHORT_OF_MEMORY, cloud=UNREACHABLE) as router:
        decision = router.route("the")
        assert decision.vetoes[Source.ON_DEVICE].code is VetoCode.MEMORY
        assert not router.availability().loaded


def test_budget_calibrates_the_device_only_if_it_is_chosen(exact_folder: Path) -> None:
    """A request that prefers the cloud does not load the model."""
    with new_router(exact_folder, cloud=UNREACHABLE) as router:
        router.stream("the", mode="prefer_in_cloud", latency_budget=5.0).close()
        assert not router.availability().loaded
        router.stream("the", latency_budget=5.0).close()
        assert router.availability().loaded


def test_memory_counts_only_until_the_model_is_loaded(exact_folder: Path) -> None:
    """A loaded model needs no more."""
    with (
        new_router(exact_folder, SHORT_OF_MEMORY) as unloaded,
        new_router(exact_folder, SHORT_OF_MEMORY) as loaded,
    ):
        loaded.warm_up()
        with pytest.raises(NoSourceError, match="memory"):
            unloaded.generate("the", max_tokens=1)
        assert loaded.generate("the", max_tokens=1).source is Source.ON_DEVICE


def test_request_during_the_load_of_the_model_may_use_it(exact_folder: Path) -> None:
    """Its memory is already accounted for."""
    with new_router(exact_folder, SHORT_OF_MEMORY) as router, router.device_source.loading:
        stream = router.stream("the", max_tokens=3)
        assert stream.decision.source is Source.ON_DEVICE
        assert Source.ON_DEVICE not in stream.decision.vetoes


def test_model_is_unloaded_on_close_and_after_keep_alive(exact_folder: Path) -> None:
    """Until then it stays loaded."""
    with new_router(exact_folder) as router:
        router.warm_up()
        assert router.availability().loaded
    assert not router.availability().loaded
    with new_router(exact_folder, keep_alive=0.01) as router:
        router.warm_up()
        while router.availability().loaded:
            time.sleep(0.01)


def test_offline_router_ignores_the_cloud() -> None:
    """Despite one that answers and a low battery."""
    with scripted_router(DRAINED, offline=True) as router:
        generation = router.generate("the", max_tokens=3)
    assert generation.decision.reason is Reason.LAST_RESORT
    assert generation.decision.vetoes[Source.IN_CLOUD].code is VetoCode.OFFLINE


def test_limits_are_a_setting() -> None:
    """A minimum battery of 95 % sends a device at 90 % to the cloud."""
    limits = Limits(min_battery=0.95)
    with scripted_router(limits=limits) as router:
        assert router.route("the").source is Source.IN_CLOUD


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": -3},
        {"max_tokens": 2**40},
        {"temperature": float("nan")},
        {"latency_budget": 0},
        {"first_token_budget": float("nan")},
        {"first_token_budget": 1e7},  # more than clocks can wait for
        {"latency_budget": 1e300},
        {"hedge_after": 1e10},
        {"hedge_after": "5"},
        {"stop": [""]},
        {"stop": [3]},
        {"max_tokens": "5"},
        {"top_k": 2.5},
    ],
)
def test_invalid_options_are_refused(exact_folder: Path, options: dict[str, object]) -> None:
    """By the call itself, not by the first chunk; `route` refuses them too."""
    with new_router(exact_folder) as router:
        for call in (router.stream, router.route):
            with pytest.raises(RequestError):
                call("the", **options)


def test_prompt_over_the_context_window_is_refused(exact_folder: Path) -> None:
    """The error says how many tokens fit."""
    with new_router(exact_folder) as router, pytest.raises(NoSourceError, match="192") as error:
        router.generate("x" * 300)
    assert error.value.vetoes[Source.ON_DEVICE].code is VetoCode.CONTEXT_WINDOW


@pytest.mark.parametrize(
    "settings", [{"mode": "sometimes"}, {"default_privacy": "secret"}, {"cloud": "nowhere"}]
)
def test_invalid_settings_are_refused(exact_folder: Path, settings: dict[str, str]) -> None:
    """When the router is created."""
    with pytest.raises(ConfigurationError):
        new_router(exact_folder, **settings)


def test_unknown_option_is_a_type_error(exact_folder: Path) -> None:
    """As with any Python call."""
    with new_router(exact_folder) as router, pytest.raises(TypeError, match="max_token"):
        router.generate("the", max_token=3)


def test_unknown_model_is_refused() -> None:
    """When the router is created."""
    with pytest.raises(ModelError, match="no-such-model"):
        Router("no-such-model")


def test_private_request_cannot_be_only_in_cloud() -> None:
    """The error holds both vetoes."""
    with scripted_router() as router, pytest.raises(NoSourceError) as error:
        router.generate("the", mode=Mode.ONLY_IN_CLOUD, privacy="private")
    codes = {source: veto.code for source, veto in error.value.vetoes.items()}
    assert codes == {Source.ON_DEVICE: VetoCode.MODE, Source.IN_CLOUD: VetoCode.PRIVATE}


def test_default_privacy_applies_unless_the_request_sets_it() -> None:
    """A private default keeps a drained device from using the cloud."""
    with scripted_router(DRAINED, default_privacy="private") as router:
        assert router.route("the").source is Source.ON_DEVICE
        assert router.route("the", privacy="allow_cloud").source is Source.IN_CLOUD


def test_grpc_is_imported_only_with_a_cloud_address() -> None:
    """An offline-only device has no network stack in memory."""
    code = (
        "import sys; from edgewise import Router; Router().generate('Once', max_tokens=2);"
        "print('grpc' in sys.modules); Router(cloud='127.0.0.1:9'); print('grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_queue_limit_holds_for_streams_that_were_decided_earlier(exact_folder: Path) -> None:
    """Three may be chosen while the device is idle, but only two run."""
    with new_router(exact_folder, limits=Limits(max_queue=2, queue_timeout=0.01)) as router:
        streams = [router.stream("the", max_tokens=50) for _ in range(3)]
        for stream in streams[:2]:
            next(stream)
        with pytest.raises(NoSourceError) as refused:
            next(streams[2])
        assert refused.value.vetoes[Source.ON_DEVICE].code is VetoCode.QUEUE_FULL
        assert len(router.device_source.running) == 2
        for stream in streams:
            stream.close()
        assert router.generate("the", max_tokens=3).usage.completion_tokens == 3
