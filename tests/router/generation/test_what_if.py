"""The request option `device`: a device that is made up for one request."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from edgewise import DeviceState, LatencyLog, NoSourceError, Reason, RequestError, Router
from edgewise.generation.attempt import Attempt
from edgewise.policy.types import VetoCode
from edgewise.testing import ScriptedCloud, ScriptedDevice, hangs_after
from tests.router.generation.fakes import CLOUD, DEVICE, read
from tests.router.routers import DRAINED, FINE, scripted_router

TEXT = "the answer"


def test_request_is_tried_on_another_device() -> None:
    """It alone: the router's own state is not touched."""
    with scripted_router() as router:
        assert router.route("Once", device=lambda: DRAINED).source is CLOUD
        assert router.generate("Once", device=lambda: DRAINED).source is CLOUD
        assert router.score("Once", device=lambda: DRAINED).source is CLOUD
        assert router.route("Once").source is DEVICE
        assert router.device_state() == FINE


def test_made_up_device_is_asked_again_while_the_text_is_written() -> None:
    """Without a cache: the battery is pulled down, then the network goes, and the text goes on."""
    state = FINE

    def drained(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        nonlocal state
        state = replace(FINE, battery=0.01)
        yield from hangs_after(3)(tokens, attempt)

    def unplugged(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        nonlocal state
        state = replace(state, network=False)
        yield from hangs_after(4)(tokens, attempt)

    device, cloud = ScriptedDevice(TEXT, drained), ScriptedCloud(TEXT, unplugged)
    with Router(device, cloud=cloud, device=DeviceState) as router:
        stream = router.stream("Once", device=lambda: state, latency_budget=3600)
        assert read(stream) == TEXT
    assert [(part.source, part.tokens) for part in stream.generation.segments] == [
        (DEVICE, 3),
        (CLOUD, 4),
        (DEVICE, len(TEXT) - 7),
    ]
    assert {source: veto.code for source, veto in stream.abandoned.items()} == {
        DEVICE: VetoCode.BATTERY,
        CLOUD: VetoCode.NO_NETWORK,
    }
    assert stream.decision.reason is Reason.LAST_RESORT


def test_change_looks_at_the_made_up_device_at_once() -> None:
    """Without waiting for the next look at it."""
    state, hanging = FINE, threading.Event()
    device = ScriptedDevice(TEXT, hangs_after(3, hanging))
    with Router(device, cloud=ScriptedCloud(TEXT), device=DeviceState) as router:
        stream = router.stream("Once", device=lambda: state)

        def drain() -> None:
            nonlocal state
            hanging.wait()
            state = DRAINED
            stream.change()

        threading.Thread(target=drain).start()
        assert read(stream) == TEXT
    assert stream.abandoned[DEVICE].code is VetoCode.BATTERY


@pytest.mark.parametrize("probe", [lambda: 1 / 0, lambda: None, lambda: DeviceState(battery=85)])
def test_made_up_device_that_cannot_be_is_unknown(probe: object) -> None:
    """As the router's own would be: it fails no request."""
    with scripted_router(DRAINED) as router:
        assert router.route("Once", device=probe).source is DEVICE


@pytest.mark.parametrize("probe", [DRAINED, "drained", "", 0, {}])
def test_what_is_no_function_is_refused(probe: object) -> None:
    """With what it must be."""
    with (
        scripted_router() as router,
        pytest.raises(RequestError, match=r"device is .*a function that returns a DeviceState"),
    ):
        router.stream("Once", device=probe)


def test_made_up_device_may_be_any_object_that_can_be_called() -> None:
    """Also one that is false, as an empty list is."""

    class Recording(list[DeviceState]):
        def __call__(self) -> DeviceState:
            return DRAINED

    with scripted_router() as router:
        assert router.route("Once", device=Recording()).source is CLOUD


def test_device_without_a_network_has_no_cloud() -> None:
    """The refusal says what to do."""
    with (
        scripted_router() as router,
        pytest.raises(NoSourceError, match=r"this device has no network.*connect the device to"),
    ):
        router.route("Once", mode="only_in_cloud", device=lambda: DeviceState(network=False))


def test_made_up_lack_of_memory_unloads_no_model() -> None:
    """A real one would, to free memory; the next text would wait for the model."""
    state = FINE
    with Router("tales") as router:
        cloud = ScriptedCloud(" the end", tokenizer=router.device_source.tokenizer)
    with Router("tales", cloud=cloud, device=lambda: FINE, latency=LatencyLog()) as router:
        stream = router.stream("Once upon a time", device=lambda: state, max_tokens=400)
        next(stream)
        state = replace(FINE, memory_pressure=0.9)
        stream.change()
        read(stream)
        assert stream.abandoned[DEVICE].code is VetoCode.MEMORY
        assert router.availability().loaded
