"""The router on the device alone: the real runtime, a tiny model, an invented device state."""

import subprocess
import sys
import threading
import time
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path

import pytest

from edgewise import (
    ConfigurationError,
    DeviceState,
    LatencyLog,
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
from tests.support.garbage_collection import collect_within

FINE = DeviceState(available_memory=10**10, battery=0.9, charging=False)


def router_on(folder: Path, state: DeviceState = FINE, **settings: object) -> Router:
    return Router(folder, device=lambda: state, latency=LatencyLog(), threads=1, **settings)


def test_three_lines_are_enough() -> None:
    """The bundled model, no settings, text as it comes."""
    with Router() as router:
        text = "".join(chunk.text for chunk in router.stream("Once upon a time", max_tokens=8))
    assert text


def test_generate_folds_over_stream(exact_folder: Path) -> None:
    """Both give the same text, and the result accounts for every token."""
    with router_on(exact_folder) as router:
        options = {"max_tokens": 30, "seed": 4, "temperature": 1.0}
        whole = router.generate("the", **options)
        with router.stream("the", **options) as stream:
            chunks = list(stream)
    assert "".join(chunk.text for chunk in chunks) == whole.text == stream.generation.text
    assert sum(len(chunk.token_ids) for chunk in chunks) <= 30
    assert len(whole.token_ids) == whole.usage.completion_tokens == 30
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 30
    assert [(part.source, part.start, part.tokens) for part in whole.segments] == [
        (Source.ON_DEVICE, 0, 30)
    ]
    assert (whole.finish_reason, whole.source, whole.seed) == ("length", "on_device", 4)
    assert whole.decision.reason is Reason.PREFERRED
    assert 0 < whole.timings.time_to_first_token < whole.timings.total


def test_closing_cancels_and_keeps_what_was_written(exact_folder: Path) -> None:
    """The device is free again at once."""
    with router_on(exact_folder) as router:
        stream = router.stream("the", max_tokens=100, seed=1)
        first = [next(stream) for _ in range(3)]
        stream.close()
        generation = stream.generation
        assert generation.finish_reason == "cancelled"
        assert generation.text.startswith("".join(chunk.text for chunk in first))
        assert 3 <= len(generation.token_ids) < 100
        assert router.device_source.running == []
        assert list(stream) == []


def test_a_reader_who_walks_away_frees_the_device(exact_folder: Path) -> None:
    """Breaking out of the loop is enough; the next request is answered."""
    with router_on(exact_folder) as router:
        for _ in router.stream("the", max_tokens=100):
            break
        assert router.device_source.running == []
        assert router.generate("the", max_tokens=3).usage.completion_tokens == 3


def test_two_streams_may_be_read_in_turn(exact_folder: Path) -> None:
    """In one thread, each gets what it would get alone."""
    options = {"max_tokens": 20, "temperature": 0}
    with router_on(exact_folder) as router:
        alone = [router.generate(prompt, **options).text for prompt in ("the", "win")]
        with router.stream("the", **options) as one, router.stream("win", **options) as two:
            texts = ["", ""]
            for first, second in zip_longest(one, two):
                texts[0] += first.text if first else ""
                texts[1] += second.text if second else ""
    assert texts == alone


def test_another_thread_may_close_a_stream(exact_folder: Path) -> None:
    """The reader's loop ends, and what was written counts as cancelled."""
    with router_on(exact_folder) as router:
        stream = router.stream("the", max_tokens=150)
        next(stream)
        closer = threading.Timer(0.01, stream.close)
        closer.start()
        for _ in stream:
            pass
        closer.join()
    generation = stream.generation
    # On a very fast machine the text may have ended by itself.
    expected = "cancelled" if len(generation.token_ids) < 150 else "length"
    assert generation.finish_reason == expected


def test_a_slow_reader_does_not_make_the_device_slow(exact_folder: Path) -> None:
    """Predictions come from the time tokens take, not from the time they are read in."""
    with router_on(exact_folder) as router:
        started, pauses = time.monotonic(), 0
        for _ in router.stream("the", max_tokens=5, temperature=0):
            time.sleep(0.3)
            pauses += 1
        spent = time.monotonic() - started
        predicted = router.route("the", max_tokens=5).predicted[Source.ON_DEVICE]
    assert pauses > 2
    assert predicted.total < spent - (pauses - 1) * 0.3


def test_a_stop_string_given_as_one_string(exact_folder: Path) -> None:
    """Not taken for a list of letters."""
    with router_on(exact_folder) as router:
        text = router.generate("the", max_tokens=60, seed=2).text
        stop = text[5:8]
        short = router.generate("the", max_tokens=60, seed=2, stop=stop)
    assert (short.text, short.finish_reason) == (text[: text.index(stop)], "stop")


def test_route_explains_without_answering(exact_folder: Path) -> None:
    """The decision, with the device's time learned from a short calibration."""
    with router_on(exact_folder) as router:
        decision = router.route("the", max_tokens=20)
        assert decision.source is Source.ON_DEVICE
        assert decision.vetoes[Source.IN_CLOUD].code is VetoCode.NO_ADDRESS
        predicted = decision.predicted[Source.ON_DEVICE]
        assert 0 < predicted.first_token < predicted.total
        longer = router.route("the", max_tokens=150).predicted[Source.ON_DEVICE]
        assert longer.total > predicted.total


def test_a_vetoed_device_is_not_calibrated(exact_folder: Path) -> None:
    """Where memory is short the model is not loaded just to predict a time."""
    short = DeviceState(available_memory=1000)
    with router_on(exact_folder, short, cloud="127.0.0.1:9") as router:
        decision = router.route("the")
        assert decision.vetoes[Source.ON_DEVICE].code is VetoCode.MEMORY
        assert router.device_source.model is None


def test_a_budget_does_not_load_the_model_for_a_request_of_the_clouds(exact_folder: Path) -> None:
    """Only where the device would answer is it timed beforehand."""
    with router_on(exact_folder, cloud="127.0.0.1:9") as router:
        router.stream("the", mode="prefer_in_cloud", latency_budget=5.0).close()
        assert router.device_source.model is None
        router.stream("the", latency_budget=5.0).close()
        assert router.device_source.model is not None


def test_memory_counts_only_until_the_model_is_loaded(exact_folder: Path) -> None:
    """A loaded model needs no more."""
    short = DeviceState(available_memory=1000)
    with router_on(exact_folder, short) as unloaded, router_on(exact_folder, short) as loaded:
        loaded.warm_up()
        with pytest.raises(NoSourceError, match="memory"):
            unloaded.generate("the", max_tokens=1)
        assert loaded.generate("the", max_tokens=1).source is Source.ON_DEVICE


def test_offline_needs_no_cloud(exact_folder: Path) -> None:
    """The switch wins over an address, and over a low battery."""
    drained = DeviceState(battery=0.01, charging=False)
    with router_on(exact_folder, drained, cloud="127.0.0.1:9", offline=True) as router:
        generation = router.generate("the", max_tokens=3)
    assert generation.decision.reason is Reason.LAST_RESORT
    assert generation.decision.vetoes[Source.IN_CLOUD].code is VetoCode.OFFLINE


def test_limits_are_the_apps_choice(exact_folder: Path) -> None:
    """A floor of 95 % sends a device at 90 % to the cloud."""
    limits = Limits(min_battery=0.95)
    with router_on(exact_folder, limits=limits, cloud="127.0.0.1:9") as router:
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
def test_meaningless_options_are_refused_at_once(
    exact_folder: Path, options: dict[str, object]
) -> None:
    """By the call itself, not by the first chunk."""
    with router_on(exact_folder) as router, pytest.raises(RequestError):
        router.stream("the", **options)


def test_an_empty_prompt_is_refused(exact_folder: Path) -> None:
    """There is nothing to continue."""
    with router_on(exact_folder) as router, pytest.raises(RequestError, match="empty"):
        router.generate("")


def test_a_prompt_over_the_window_is_refused_with_the_numbers(exact_folder: Path) -> None:
    """How many tokens there are and how many fit."""
    with router_on(exact_folder) as router, pytest.raises(NoSourceError, match="192") as error:
        router.generate("x" * 300)
    assert error.value.vetoes[Source.ON_DEVICE].code is VetoCode.CONTEXT_WINDOW


@pytest.mark.parametrize(
    "settings", [{"mode": "sometimes"}, {"default_privacy": "secret"}, {"cloud": "nowhere"}]
)
def test_settings_that_cannot_work(exact_folder: Path, settings: dict[str, str]) -> None:
    """Refused when the router is made, with the choices there are."""
    with pytest.raises(ConfigurationError):
        router_on(exact_folder, **settings)


def test_an_unknown_option_is_an_error(exact_folder: Path) -> None:
    """As with any Python call."""
    with router_on(exact_folder) as router, pytest.raises(TypeError, match="max_token"):
        router.generate("the", max_token=3)


def test_an_unknown_model_is_refused() -> None:
    """When the router is made."""
    with pytest.raises(ModelError, match="no-such-model"):
        Router("no-such-model")


def test_private_in_only_in_cloud_is_a_contradiction(exact_folder: Path) -> None:
    """Refused, naming both vetoes; nothing is sent."""
    with (
        router_on(exact_folder, cloud="127.0.0.1:9") as router,
        pytest.raises(NoSourceError) as error,
    ):
        router.generate("the", mode=Mode.ONLY_IN_CLOUD, privacy="private")
    codes = {side: veto.code for side, veto in error.value.vetoes.items()}
    assert codes == {Source.ON_DEVICE: VetoCode.MODE, Source.IN_CLOUD: VetoCode.PRIVATE}


def test_private_is_the_default_where_configured(exact_folder: Path) -> None:
    """And a request may still say otherwise."""
    drained = DeviceState(battery=0.01, charging=False)
    with router_on(exact_folder, drained, default_privacy="private", cloud="127.0.0.1:9") as router:
        assert router.route("the").source is Source.ON_DEVICE
        assert router.route("the", privacy="allow_cloud").source is Source.IN_CLOUD


def test_grpc_is_imported_only_for_a_cloud() -> None:
    """A device in offline-only mode has no network stack in memory."""
    code = (
        "import sys; from edgewise import Router; Router().generate('Once', max_tokens=2);"
        "print('grpc' in sys.modules); Router(cloud='127.0.0.1:9'); print('grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_the_device_takes_no_more_texts_than_it_may(exact_folder: Path) -> None:
    """Though they were all decided on while it had room: the one too many goes elsewhere."""
    with router_on(exact_folder, limits=Limits(max_queue=2)) as router:
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


def test_memory_that_goes_into_loading_the_model_is_not_missed(exact_folder: Path) -> None:
    """A request that comes meanwhile is the device's: the model is being loaded once for both."""
    short = DeviceState(available_memory=1000)
    with router_on(exact_folder, short) as router, router.device_source.loading:
        stream = router.stream("the", max_tokens=3)
        assert stream.decision.source is Source.ON_DEVICE
        assert Source.ON_DEVICE not in stream.decision.vetoes


@pytest.mark.parametrize("part", ["latency.lock", "latency.save_lock", "device_source.lock"])
def test_a_stream_may_be_collected_in_the_middle_of_anything(exact_folder: Path, part: str) -> None:
    """What looks for cycles does so in any thread at any time, also in one that holds a lock."""
    router = router_on(exact_folder)
    streams = [router.stream("the", max_tokens=50)]
    next(streams[0])
    assert collect_within(attrgetter(part)(router), streams)
    assert router.device_source.running == []
    router.close()
