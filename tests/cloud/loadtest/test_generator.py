"""The load generator against a real service and a fake one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.generator import LoadGenerator, LoadTestResult, run_load_test
from edgewise_cloud.loadtest.plan import LoadPlan, TokenRange
from tests.cloud.loadtest.fake_service import FakeService, serving_fake
from tests.support.service import Running, serving

SHORT = {"prompt_tokens": TokenRange(6, 12), "max_tokens": TokenRange(10, 10), "warm_up": 0}


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), slots=2, queue=4) as running:
        yield running


def measure(fake: FakeService, **options: object) -> LoadTestResult:
    """Run a load test of `fake`."""

    async def run() -> LoadTestResult:
        async with serving_fake(fake) as address:
            return await run_load_test(LoadPlan(target=address, **{**SHORT, **options}))

    return asyncio.run(run())


def test_a_closed_loop_on_a_real_service(service: Running) -> None:
    """Every request of the plan is completed, and every token counted once."""
    result = asyncio.run(
        run_load_test(LoadPlan(target=service.address, streams=4, requests=12, **SHORT))
    )
    summary = result.summary()
    assert result.model == "exact"
    assert (summary.requests, summary.completed) == (12, 12)
    assert (summary.errors, summary.wrong, result.not_sent) == ({}, 0, 0)
    assert summary.generated_tokens == 120
    assert summary.tokens_per_second == pytest.approx(120 / summary.seconds)
    assert 0 < summary.time_to_first_token.p50 <= summary.time_to_first_token.max
    assert summary.time_to_first_token.max <= summary.total.max <= summary.seconds
    assert summary.queued.p50 >= 0
    assert {each.number for each in result.records} == set(range(12))


def test_requests_that_run_when_the_duration_ends_are_unfinished() -> None:
    """Their tokens until then count."""
    result = measure(FakeService(stall_after=3), streams=2, duration=1.5)
    summary = result.summary()
    assert summary.seconds == pytest.approx(1.5)
    assert (summary.requests, summary.unfinished) == (2, 2)
    assert summary.generated_tokens == 6
    assert all(arrival >= result.started for each in result.records for arrival in each.arrivals)


def test_refusals_of_a_full_service_are_counted(service: Running) -> None:
    """Ten streams where six fit: refusals are counted under their code, the rest completes."""
    plan = LoadPlan(
        target=service.address,
        streams=10,
        requests=20,
        **SHORT | {"max_tokens": TokenRange(170, 170)},
    )
    summary = asyncio.run(run_load_test(plan)).summary()
    assert summary.errors.keys() == {"RESOURCE_EXHAUSTED"}
    assert summary.completed + summary.errors["RESOURCE_EXHAUSTED"] == 20
    assert summary.completed > 0
    assert summary.time_to_refusal.max > 0


def test_an_open_loop_sends_requests_when_they_are_due(service: Running) -> None:
    """None is sent early, and all are completed if there is room."""
    result = asyncio.run(
        run_load_test(LoadPlan(target=service.address, streams=4, requests=10, rate=20, **SHORT))
    )
    assert result.summary().completed + result.not_sent == 10
    assert all(each.sent >= each.due for each in result.records)
    dues = [each.due for each in sorted(result.records, key=lambda each: each.number)]
    assert dues == sorted(dues)
    assert dues[0] > result.started


def test_an_open_loop_counts_requests_it_could_not_send() -> None:
    """With one stream, far too slow for the rate, most requests are not sent."""
    result = measure(FakeService(token_time=0.05), streams=1, requests=50, rate=500)
    assert result.summary().requests + result.not_sent == 50
    assert result.not_sent >= 40


def test_the_seed_determines_when_requests_are_due() -> None:
    """Relative to the first."""

    def dues() -> list[float]:
        result = measure(FakeService(), requests=10, rate=200, streams=10)
        first, *rest = sorted(each.due for each in result.records)
        return [due - first for due in rest]

    assert dues() == pytest.approx(dues())


def test_a_missed_deadline_is_an_error_of_the_service() -> None:
    """It is counted as DEADLINE_EXCEEDED."""
    summary = measure(FakeService(stall_after=2), streams=2, requests=2, deadline=0.25).summary()
    assert summary.errors == {"DEADLINE_EXCEEDED": 2}


def test_cancelled_requests_are_not_errors() -> None:
    """The service sees the cancellation, halfway."""
    fake = FakeService(stall_after=5)
    summary = measure(fake, streams=2, requests=4, cancel_rate=1.0).summary()
    assert (summary.cancelled, summary.completed, summary.errors) == (4, 0, {})
    assert summary.generated_tokens == 20
    assert fake.cancelled == 4


def test_the_warm_up_is_not_counted() -> None:
    """By default one short request per stream."""
    fake = FakeService()
    result = measure(fake, streams=3, requests=4, warm_up=None)
    assert result.summary().requests == 4
    assert sorted(request.max_tokens for request in fake.requests) == [8] * 3 + [10] * 4


@pytest.mark.parametrize(("options", "connections"), [({}, 2), ({"connections": 5}, 5)])
def test_streams_are_spread_over_connections(options: dict[str, int], connections: int) -> None:
    """One connection per sixteen streams, or as many as asked for."""
    fake = FakeService()
    measure(fake, streams=20, requests=40, **options)
    assert len(fake.peers) == connections


def test_it_waits_while_the_model_loads() -> None:
    """Then it starts."""
    assert measure(FakeService(loading=2), requests=3).summary().completed == 3


def test_a_model_that_loads_too_long_is_an_error(exact_folder: Path) -> None:
    """The message has the service's own."""
    with serving(str(exact_folder), load=False) as running:
        plan = LoadPlan(target=running.address, wait=0.2)
        with pytest.raises(LoadTestError, match=r"not ready after 0\.2 s .*loading"):
            asyncio.run(run_load_test(plan))


def test_another_grpc_service_is_an_error() -> None:
    """One without our methods."""

    async def run() -> None:
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            await run_load_test(LoadPlan(target=f"127.0.0.1:{port}"))
        finally:
            await server.stop(0)

    with pytest.raises(LoadTestError, match="UNIMPLEMENTED"):
        asyncio.run(run())


def test_a_cancelled_run_keeps_its_records(service: Running) -> None:
    """Requests that ran are unfinished."""

    async def run() -> LoadTestResult:
        generator = LoadGenerator(LoadPlan(target=service.address, streams=2, **SHORT))
        task = asyncio.create_task(generator.run())
        while len(generator.ended) < 3:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.01)
        assert generator.recent(5).requests > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return generator.result()

    summary = asyncio.run(run()).summary()
    assert summary.completed >= 3
    assert summary.requests == summary.completed + summary.unfinished
