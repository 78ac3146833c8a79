"""A cloud that fails is not used, then probed, then used again; and never flooded with retries."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise import CloudSecurity, DeviceState, LatencyLog, Router, Source, VetoCode
from edgewise.cloud.circuit_breaker import Circuit
from edgewise.errors import CloudUnavailableError
from tests.support.network.fault_proxy import FaultProxy, fault_proxy
from tests.support.service import Running, serving
from tests.support.timeouts import PATIENT

PROMPT = "in the winter"
# The circuit stays open for twice the probe interval; the first probe comes within half a second.
PROBED = replace(PATIENT, probe_interval=30.0)
RARELY_PROBED = replace(PATIENT, probe_interval=1000.0)


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), slots=2) as running:
        yield running


@pytest.fixture
def proxy(service: Running) -> Iterator[FaultProxy]:
    with fault_proxy(service.address) as proxy:
        yield proxy


def router_to(address: str, folder: Path, **settings: object) -> Router:
    given = {"mode": "prefer_in_cloud", "cloud_timeouts": PROBED, **settings}
    return Router(
        folder, cloud=address, device=DeviceState, latency=LatencyLog(), threads=1, **given
    )


def source(router: Router, **options: object) -> Source:
    return router.generate(PROMPT, max_tokens=2, **options).source


def veto(router: Router) -> VetoCode | None:
    found = router.route(PROMPT, max_tokens=2).vetoes.get(Source.IN_CLOUD)
    return found and found.code


def open_circuit(router: Router) -> None:
    for _ in range(3):
        assert source(router) is Source.ON_DEVICE
    assert veto(router) is VetoCode.CIRCUIT_OPEN


def test_with_an_open_circuit_nothing_is_sent(
    exact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests spend no time on a cloud that is gone: nothing connects to it."""
    monkeypatch.setattr("edgewise.cloud.health_probe.MIN_INTERVAL", 1000.0)  # nor is it probed
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        timeouts = replace(RARELY_PROBED, connect=0.5)
        with router_to(address, exact_folder, cloud_timeouts=timeouts) as router:
            open_circuit(router)
            silent.settimeout(0.2)
            while True:  # the connections of the three failures
                try:
                    silent.accept()[0].close()
                except TimeoutError:
                    break
            assert {source(router) for _ in range(50)} == {Source.ON_DEVICE}
            with pytest.raises(TimeoutError):
                silent.accept()


def test_a_name_that_does_not_exist_is_said_to_be_not_found(exact_folder: Path) -> None:
    """Rather than that nothing answers there. It holds gRPC's words, too."""
    security = CloudSecurity(insecure=True)
    with (
        router_to("cloud.invalid:1", exact_folder, cloud_security=security) as router,
        pytest.raises(
            CloudUnavailableError, match=r"the name 'cloud\.invalid' was not found; check"
        ),
    ):
        router.describe_cloud()


def test_a_cloud_that_recovers_is_used_again(proxy: FaultProxy, exact_folder: Path) -> None:
    """It is probed in the background, and one request tries it."""
    with router_to(proxy.address, exact_folder) as router:
        assert source(router) is Source.IN_CLOUD
        proxy.refuse()
        proxy.reset()
        open_circuit(router)
        proxy.heal()
        while veto(router) is VetoCode.CIRCUIT_OPEN:  # the test's timeout is the limit
            time.sleep(0.01)
        assert router.cloud_source.breaker.state is Circuit.HALF_OPEN
        assert source(router) is Source.IN_CLOUD
        assert router.cloud_source.breaker.state is Circuit.CLOSED


def test_one_request_tries_a_cloud_that_recovered(
    proxy: FaultProxy, service: Running, exact_folder: Path
) -> None:
    """The others do not wait for that one."""
    timeouts = replace(PROBED, connect=1.0)
    with router_to(proxy.address, exact_folder, cloud_timeouts=timeouts) as router:
        proxy.reset()
        open_circuit(router)
        proxy.heal()
        while veto(router) is VetoCode.CIRCUIT_OPEN:
            time.sleep(0.01)
        proxy.stall()
        before = proxy.tokens_to_device  # from before the reset, on a slow machine
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: source(router), range(8))) == {Source.ON_DEVICE}
        assert proxy.tokens_to_device == before
    while service.held:
        time.sleep(0.01)


def test_a_failing_cloud_gets_few_requests(proxy: FaultProxy, exact_folder: Path) -> None:
    """Of a hundred requests, while the cloud resets every connection, a few reach it."""
    with router_to(proxy.address, exact_folder, cloud_timeouts=RARELY_PROBED) as router:
        router.cloud_source.describe()
        calls = []
        generate = router.cloud_source.client.generate
        router.cloud_source.client.generate = lambda *args: calls.append(args) or generate(*args)
        proxy.reset(after_tokens=1)
        answers = [router.generate(PROMPT, max_tokens=4) for _ in range(100)]
    assert all(answer.usage.completion_tokens == 4 for answer in answers)
    # The first one got a token before the reset, which is one failure; none was retried.
    assert len(calls) <= 3


def test_a_router_that_stays_on_the_device_never_probes(exact_folder: Path) -> None:
    """A private-only router sends nothing, not even a probe."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        listening.settimeout(0.3)
        for settings in ({"default_privacy": "private"}, {"mode": "only_on_device"}):
            with router_to(address, exact_folder, **settings) as router:
                assert router.cloud_source.background is False
                assert source(router) is Source.ON_DEVICE
                assert router.route(PROMPT).source is Source.ON_DEVICE
        with pytest.raises(TimeoutError):
            listening.accept()


def test_an_idle_device_stays_off_the_network(
    proxy: FaultProxy, exact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probing ends when no request has wanted the cloud for a while."""
    monkeypatch.setattr("edgewise.cloud.health_probe.IDLE_AFTER", 0.5)
    with router_to(proxy.address, exact_folder) as router:
        proxy.reset()
        open_circuit(router)
        while router.cloud_source.health_probe.running:
            time.sleep(0.01)
        assert router.cloud_source.breaker.open


def test_a_budget_becomes_the_cloud_deadline(service: Running, exact_folder: Path) -> None:
    """Where the device could continue after it."""
    with router_to(service.address, exact_folder) as router:
        source(router)
        timeouts = []
        generate = router.cloud_source.client.generate

        def recording(message, timeout, *rest):
            timeouts.append(timeout)
            return generate(message, timeout, *rest)

        router.cloud_source.client.generate = recording
        source(router, latency_budget=30.0)
        source(router)
        source(router, latency_budget=30.0, mode="only_in_cloud")
    assert 0 < timeouts[0] < 30
    assert timeouts[1:] == [None, None]


def test_a_cloud_that_stalls_opens_the_circuit(proxy: FaultProxy, exact_folder: Path) -> None:
    """Though the handoff comes before any timeout: the next requests need not stall first."""
    with router_to(proxy.address, exact_folder) as router:
        for mode in ("prefer_in_cloud", "only_on_device"):
            router.generate(PROMPT, max_tokens=20, mode=mode)  # both sources' times are known
        proxy.stall()
        open_circuit(router)
