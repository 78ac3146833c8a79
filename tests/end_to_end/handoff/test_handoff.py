"""Generations that change their source: trouble on the device, a slow or stalled cloud, hedges."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise import (
    CloudTimeouts,
    DeviceState,
    HandedOver,
    LatencyLog,
    NoSourceError,
    Reason,
    Router,
    Source,
    VetoCode,
)
from edgewise.latency.measurement import Measurement
from edgewise_edge import RuntimeFailedError
from tests.support.network.fault_proxy import FaultProxy, fault_proxy
from tests.support.service import Running, serving
from tests.support.timeouts import PATIENT

ON_DEVICE, IN_CLOUD = Source.ON_DEVICE, Source.IN_CLOUD
FINE = DeviceState(available_memory=10**10, battery=0.9, charging=False, temperature=40.0)
GREEDY = {"temperature": 0.0, "max_tokens": 100}
PROMPT = "in the winter the water was"
TROUBLES = {
    VetoCode.MEMORY: replace(FINE, memory_pressure=0.9),
    VetoCode.BATTERY: replace(FINE, battery=0.1),
    VetoCode.TEMPERATURE: replace(FINE, temperature=99.0),
    VetoCode.LOW_POWER: replace(FINE, low_power_mode=True),
}


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), slots=2) as running:
        yield running


@pytest.fixture
def proxy(service: Running) -> Iterator[FaultProxy]:
    with fault_proxy(service.address) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def unbroken(exact_folder: Path) -> tuple[int, ...]:
    """What the device generates alone; the cloud generates the same."""
    with Router(exact_folder, latency=LatencyLog(), threads=1) as router:
        return router.generate(PROMPT, **GREEDY).token_ids


def router_to(address: str, folder: Path, **settings: object) -> Router:
    given = {
        "cloud_timeouts": PATIENT,
        "device": lambda: FINE,
        "latency": LatencyLog(),
        "threads": 1,
        **settings,
    }
    return Router(folder, cloud=address, **given)


def sources(generation: object) -> list[Source]:
    return [part.source for part in generation.segments]


@pytest.mark.parametrize("code", TROUBLES)
def test_trouble_on_the_device_hands_off_to_the_cloud(
    service: Running, exact_folder: Path, unbroken: tuple[int, ...], code: VetoCode
) -> None:
    """At the exact token; and under memory pressure the model is unloaded."""
    now, moves = [FINE], []
    with router_to(
        service.address, exact_folder, device=lambda: now[0], observers=[moves.append]
    ) as router:
        with router.stream(PROMPT, **GREEDY) as stream:
            chunks = [next(stream) for _ in range(5)]
            now[0] = TROUBLES[code]
            for chunk in stream:
                chunks.append(chunk)
                time.sleep(0.25 if chunk.source is ON_DEVICE else 0)  # until it is noticed
        generation = stream.generation
        assert router.availability().loaded is (code is not VetoCode.MEMORY)
    assert generation.token_ids == unbroken
    assert sources(generation) == [ON_DEVICE, IN_CLOUD]
    assert "".join(chunk.text for chunk in chunks) == generation.text
    assert generation.decision.vetoes[ON_DEVICE].code is code
    (move,) = (event for event in moves if isinstance(event, HandedOver))
    assert (move.source, move.why, move.tokens) == (IN_CLOUD, code, generation.segments[1].start)


def test_penalties_count_on_and_scores_stay_in_line_after_a_handoff(
    service: Running, exact_folder: Path, unbroken: tuple[int, ...]
) -> None:
    """The cloud takes off what the device's tokens cost; each token has its own score."""
    asked = {**GREEDY, "frequency_penalty": 0.1, "presence_penalty": 0.2, "logprobs": 2}
    now = [FINE]
    with router_to(service.address, exact_folder, device=lambda: now[0]) as router:
        alone = router.generate(PROMPT, **asked, mode="only_on_device")
        with router.stream(PROMPT, **asked) as stream:
            next(stream)
            now[0] = TROUBLES[VetoCode.TEMPERATURE]
            for chunk in stream:
                time.sleep(0.25 if chunk.source is ON_DEVICE else 0)  # until it is noticed
        moved = stream.generation
    assert sources(moved) == [ON_DEVICE, IN_CLOUD]
    assert moved.token_ids == alone.token_ids != unbroken
    assert tuple(score.token_id for score in moved.logprobs) == moved.token_ids
    assert [score.logprob for score in moved.logprobs] == pytest.approx(
        [score.logprob for score in alone.logprobs], abs=1e-3
    )


@pytest.mark.parametrize("code", TROUBLES)
def test_trouble_does_not_move_a_private_generation(
    service: Running, exact_folder: Path, unbroken: tuple[int, ...], code: VetoCode
) -> None:
    """It is finished on the device."""
    now = [FINE]
    with router_to(service.address, exact_folder, device=lambda: now[0]) as router:
        with router.stream(PROMPT, **GREEDY, privacy="private") as stream:
            next(stream)
            now[0] = TROUBLES[code]
            for _ in stream:
                time.sleep(0.02)  # two seconds in all: the device's state is read every second
        assert router.cloud_source.served_model is None  # it was never asked anything
    assert stream.generation.token_ids == unbroken
    assert sources(stream.generation) == [ON_DEVICE]


def test_a_cloud_that_stalls_hands_off(
    proxy: FaultProxy, exact_folder: Path, unbroken: tuple[int, ...]
) -> None:
    """Long before its timeout, because its usual time for a token is known; and no token is lost."""
    with router_to(proxy.address, exact_folder, mode="prefer_in_cloud") as router:
        router.generate(PROMPT, **GREEDY)
        proxy.stall(after_tokens=20)
        generation = router.generate(PROMPT, **GREEDY)
    assert generation.token_ids == unbroken
    assert sources(generation) == [IN_CLOUD, ON_DEVICE]
    # On a busy machine a token may be late enough to count as a stall before that.
    assert generation.segments[0].tokens <= 20
    assert generation.decision.vetoes[IN_CLOUD].code is VetoCode.STALLED


@pytest.mark.parametrize("how", ["cut", "reset"])
def test_a_connection_that_breaks_hands_off(
    proxy: FaultProxy, exact_folder: Path, unbroken: tuple[int, ...], how: str
) -> None:
    """At any token."""
    with router_to(proxy.address, exact_folder, mode="prefer_in_cloud") as router:
        for tokens in (0, 1, 37, 99):
            getattr(proxy, how)(after_tokens=tokens)
            generation = router.generate(PROMPT, **GREEDY)
            proxy.heal()
            assert generation.token_ids == unbroken
            # gRPC may drop what arrived just before the end of a connection.
            parts = generation.segments
            assert sum(part.tokens for part in parts if part.source is IN_CLOUD) <= tokens
            assert parts[-1].source is ON_DEVICE


def test_the_first_token_has_a_timeout(proxy: FaultProxy, exact_folder: Path) -> None:
    """Only tokens count: a cloud that accepts the connection and sends nothing has failed.

    So has a second connection, which is tried as no other source may answer.
    """
    timeouts = CloudTimeouts(connect=300.0, first_token=0.3, between_tokens=0.3)
    with router_to(
        proxy.address, exact_folder, mode="only_in_cloud", cloud_timeouts=timeouts
    ) as router:
        router.describe_cloud()
        proxy.stall()
        with pytest.raises(NoSourceError, match=r"no token in 0|does not answer"):
            router.generate(PROMPT, max_tokens=1)


def test_a_slow_cloud_hands_off_to_meet_the_budget(
    service: Running, exact_folder: Path, unbroken: tuple[int, ...]
) -> None:
    """The rest would be late from the cloud, and is not expected to be from the device."""
    latency = LatencyLog()
    with router_to(service.address, exact_folder, latency=latency) as router:
        router.describe_cloud()
        # What is expected is given, not measured: the machine's speed changes no decision.
        usual = Measurement(position=8, uncached=8, first_token=0.1, tokens=100, decode_time=1.0)
        latency.add(router.device_source.key, usual)
        latency.add(router.cloud_source.key, replace(usual, decode_time=15.0))
        service.programs.before["decode"] = lambda: time.sleep(0.3)
        generation = router.generate(PROMPT, **GREEDY, mode="prefer_in_cloud", latency_budget=22.0)
        service.programs.behave()
    assert generation.token_ids == unbroken
    assert sources(generation) == [IN_CLOUD, ON_DEVICE]
    assert generation.decision.vetoes[IN_CLOUD].code is VetoCode.TOO_SLOW


def test_a_first_token_that_would_be_late_comes_from_the_device(
    proxy: FaultProxy, exact_folder: Path
) -> None:
    """Before the budget is spent, not after."""
    with router_to(proxy.address, exact_folder) as router:
        for mode in ("only_on_device", "only_in_cloud"):
            router.generate(PROMPT, **GREEDY, mode=mode)
        proxy.stall()
        generation = router.generate(
            PROMPT, max_tokens=5, mode="prefer_in_cloud", first_token_budget=1.0
        )
    assert sources(generation) == [ON_DEVICE]
    # On a busy machine it may be noticed so late that the cloud has stalled.
    assert generation.decision.vetoes[IN_CLOUD].code in {VetoCode.TOO_SLOW, VetoCode.STALLED}


def test_a_hedge_starts_the_device_when_the_cloud_stalls(
    proxy: FaultProxy, service: Running, exact_folder: Path, unbroken: tuple[int, ...]
) -> None:
    """The first token wins, and the cloud stops working."""
    with router_to(proxy.address, exact_folder) as router:
        router.generate(PROMPT, max_tokens=2, mode="only_in_cloud")
        router.warm_up()
        proxy.stall()
        generation = router.generate(PROMPT, **GREEDY, mode="prefer_in_cloud", hedge_after=0.1)
        while service.held:  # the test's timeout is the limit
            time.sleep(0.01)
    assert generation.token_ids == unbroken
    assert sources(generation) == [ON_DEVICE]
    assert generation.decision.reason is Reason.HEDGED


def test_a_hedge_starts_the_cloud_when_the_device_is_slow(
    service: Running, exact_folder: Path, unbroken: tuple[int, ...]
) -> None:
    """The device is free again, and no private prompt is hedged."""
    with router_to(service.address, exact_folder) as router:
        router.generate(PROMPT, max_tokens=2, mode="only_in_cloud")
        router.warm_up()
        model = router.device_source.model
        whole, stopped = model.stream_tokens, []

        def slow(request, stop, on_score):
            stopped.append(stop.wait(0.2 if stopped else 300.0))
            yield from whole(request, stop, on_score)

        model.stream_tokens = slow
        generation = router.generate(PROMPT, **GREEDY, hedge_after=0.1)
        assert generation.token_ids == unbroken
        assert sources(generation) == [IN_CLOUD]
        private = router.generate(PROMPT, **GREEDY, hedge_after=0.1, privacy="private")
        assert sources(private) == [ON_DEVICE]
        while router.device_source.running:
            time.sleep(0.01)
    assert stopped == [True, False]


def test_a_device_that_fails_during_a_hedge_leaves_it_to_the_cloud(
    proxy: FaultProxy, exact_folder: Path, unbroken: tuple[int, ...]
) -> None:
    """The hedge continues with one source."""
    with router_to(proxy.address, exact_folder) as router:
        router.generate(PROMPT, max_tokens=2, mode="only_in_cloud")
        router.warm_up()

        before = proxy.bytes_to_cloud

        def failing(_request, stop, _on_score):
            while proxy.bytes_to_cloud == before:  # until the hedge has started
                stop.wait(0.01)
            raise RuntimeFailedError("made to fail")
            yield

        router.device_source.model.stream_tokens = failing
        proxy.delay(0.6)
        generation = router.generate(PROMPT, **GREEDY, hedge_after=0.1)
    assert generation.token_ids == unbroken
    assert sources(generation) == [IN_CLOUD]
