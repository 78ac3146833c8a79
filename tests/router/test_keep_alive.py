"""When the device's model is in memory: loaded ahead, kept, unloaded after idle time."""

import time

import pytest

from edgewise import (
    Availability,
    ConfigurationError,
    DeviceState,
    LatencyLog,
    NoSourceError,
    Router,
    Source,
    VetoCode,
)
from edgewise_edge import DeviceModel

PATIENCE = 20.0  # seconds


def router(**options):
    """One that keeps no measurements on disk."""
    return Router(latency=LatencyLog(), **options)


def becomes_unloaded(router):
    """Whether the model goes within some seconds."""
    until = time.monotonic() + PATIENCE
    while router.availability().loaded and time.monotonic() < until:
        time.sleep(0.01)
    return not router.availability().loaded


def test_nothing_is_loaded_before_it_is_needed():
    """A new router says that the model is there, and not loaded."""
    with router() as fresh:
        found = fresh.availability()
    assert (found.status, found.loaded) == (Availability.AVAILABLE, False)


def test_warming_up_loads_ahead_and_closing_unloads():
    """Between the two the model is loaded, for good when nothing else is asked for."""
    with router() as warm:
        warm.warm_up()
        assert warm.availability().loaded
        assert "not" not in str(warm.availability())
    assert not warm.availability().loaded


def test_an_idle_model_is_unloaded_and_comes_back():
    """After its idle time the model goes; the next request loads it and answers the same."""
    with router(keep_alive=0.05) as brief:
        first = brief.generate("Once upon a time", max_tokens=5, seed=1)
        assert becomes_unloaded(brief)
        assert brief.generate("Once upon a time", max_tokens=5, seed=1).text == first.text


def test_a_model_that_was_warmed_up_for_nothing_goes_too():
    """Idle time counts from the loading."""
    with router(keep_alive=0.05) as brief:
        brief.warm_up()
        assert becomes_unloaded(brief)


def test_a_text_being_written_keeps_the_model():
    """However short the idle time, a stream that is read slowly is not idle."""
    with router(keep_alive=0.0) as brief:
        with brief.stream("Once upon a time", max_tokens=30, seed=1) as stream:
            next(stream)
            time.sleep(0.1)
            assert brief.availability().loaded
            text = "".join(chunk.text for chunk in stream)
        assert text
        assert stream.generation.usage.completion_tokens == 30
        assert becomes_unloaded(brief)


def test_only_what_is_still_to_be_loaded_needs_memory():
    """The memory veto of a short device falls once the model is loaded, and returns with it gone."""
    states = [DeviceState()]
    with router(device=lambda: states[0]) as device:
        short = DeviceState(available_memory=device.model.memory)  # and nothing in reserve
        states[0] = short
        with pytest.raises(NoSourceError) as refused:
            device.route("Once")
        assert refused.value.vetoes[Source.ON_DEVICE].code is VetoCode.MEMORY
        device.warm_up()
        assert device.route("Once").source is Source.ON_DEVICE


@pytest.mark.parametrize(
    "options", [{"keep_alive": -1.0}, {"keep_alive": float("nan")}, {"threads": 0}, {"threads": -2}]
)
def test_settings_that_mean_nothing_are_refused_at_once(options):
    """Before anything is loaded, with the setting named."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        router(**options)


def test_a_request_loads_the_model_once(monkeypatch):
    """Between getting ready and writing nothing is idle, with no idle time allowed at all."""
    loads, load = [], DeviceModel.load

    def counted(*arguments, **options):
        loads.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(DeviceModel, "load", counted)
    with router(keep_alive=0.0) as brief:
        for _ in range(3):
            loads.clear()
            brief.generate("Once upon a time", max_tokens=3, seed=1)
            assert len(loads) == 1
            assert becomes_unloaded(brief)
