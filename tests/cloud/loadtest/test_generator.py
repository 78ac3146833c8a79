"""The load generator: what it sends, what it counts, what it says."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.generator import LoadGenerator, Measured, run_load_test
from edgewise_cloud.loadtest.plan import LoadPlan, Span
from edgewise_cloud.loadtest.response_check import Answer, InvalidResponseError
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.serving import Running, serving

MODEL = pb.GetModelResponse(
    name="fake", vocabulary="v" * 64, vocabulary_size=50, context_window=100
)
COMMAND = Path(sys.executable).with_name("edgewise-cloud")
SHORT = {"prompt_tokens": Span(6, 12), "max_tokens": Span(10, 10), "warm_up": 0}


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), slots=2, queue=4) as running:
        yield running


class Fake(pb_grpc.GeneratorServicer):
    """Keeps the contract; the tests' services break it in one way each."""

    def __init__(self, pace: float = 0.0) -> None:
        self.pace = pace  # seconds a token
        self.not_ready = 0  # times it says that it loads
        self.requests: list[pb.GenerateRequest] = []
        self.peers: set[str] = set()
        self.cancelled = 0

    async def GetModel(self, request: object, context: object) -> pb.GetModelResponse:
        if self.not_ready:
            self.not_ready -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the model is still loading")
        return MODEL

    async def Generate(
        self, request: pb.GenerateRequest, context: object
    ) -> AsyncIterator[pb.GenerateResponse]:
        self.requests.append(request)
        self.peers.add(context.peer())
        try:
            for response in self.answer(request):
                await asyncio.sleep(self.pace)
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    def answer(self, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
        return good_answer(request)


def good_answer(request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    start = len(request.token_ids)
    end = start + request.max_tokens
    return [
        *(pb.GenerateResponse(position=n, token_ids=[7]) for n in range(start, end)),
        pb.GenerateResponse(
            position=end,
            finish_reason=pb.FINISH_REASON_LENGTH,
            usage=pb.Usage(prompt_tokens=start, completion_tokens=request.max_tokens),
            timings=pb.Timings(queued=0.25),
        ),
    ]


def measure(fake: Fake, **options: object) -> Measured:
    """Put load on a fake service on a real socket."""

    async def run() -> Measured:
        server = grpc.aio.server()
        pb_grpc.add_GeneratorServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await run_load_test(LoadPlan(target=f"127.0.0.1:{port}", **{**SHORT, **options}))
        finally:
            await server.stop(0)

    return asyncio.run(run())


# Statistics.


def test_a_closed_loop_on_a_real_service(service: Running) -> None:
    """Every request of the plan is completed, and every token counted once."""
    measured = asyncio.run(
        run_load_test(LoadPlan(target=service.address, streams=4, requests=12, **SHORT))
    )
    summary = measured.summary()
    assert measured.model == "exact"
    assert (summary.requests, summary.completed) == (12, 12)
    assert (summary.errors, summary.wrong, measured.not_sent) == ({}, 0, 0)
    assert summary.generated_tokens == 120
    assert summary.tokens_per_second == pytest.approx(120 / summary.seconds)
    assert 0 < summary.time_to_first_token.p50 <= summary.time_to_first_token.max
    assert summary.time_to_first_token.max <= summary.total.max <= summary.seconds
    assert summary.queued.p50 >= 0
    assert {each.number for each in measured.records} == set(range(12))


def test_a_duration_ends_what_runs(service: Running) -> None:
    """Tokens that came in time count; each stream's last request is unfinished."""
    plan = LoadPlan(
        target=service.address, streams=2, duration=1.5, **SHORT | {"max_tokens": Span(180, 180)}
    )
    measured = asyncio.run(run_load_test(plan))
    summary = measured.summary()
    assert summary.seconds == pytest.approx(1.5)
    assert summary.unfinished <= 2  # a stream may be between two requests
    assert summary.requests == summary.unfinished + summary.completed
    assert summary.generated_tokens >= max(1, 180 * summary.completed)
    assert all(
        arrival >= measured.started for each in measured.records for arrival in each.arrivals
    )


def test_a_full_service_is_seen_as_such(service: Running) -> None:
    """Ten streams where six fit: refusals are counted under their code, the rest completes."""
    plan = LoadPlan(
        target=service.address,
        streams=10,
        requests=20,
        **SHORT | {"max_tokens": Span(170, 170)},
    )
    summary = asyncio.run(run_load_test(plan)).summary()
    assert summary.errors.keys() == {"RESOURCE_EXHAUSTED"}
    assert summary.completed + summary.errors["RESOURCE_EXHAUSTED"] == 20
    assert summary.completed > 0
    assert summary.time_to_refusal.max > 0


def test_an_open_loop_sends_when_due(service: Running) -> None:
    """Nothing is sent before its time, and all of it is completed where there is room."""
    measured = asyncio.run(
        run_load_test(LoadPlan(target=service.address, streams=4, requests=10, rate=20, **SHORT))
    )
    assert measured.summary().completed + measured.not_sent == 10
    assert all(each.sent >= each.due for each in measured.records)
    dues = [each.due for each in sorted(measured.records, key=lambda each: each.number)]
    assert dues == sorted(dues)
    assert dues[0] > measured.started


def test_an_open_loop_counts_what_it_could_not_send() -> None:
    """One at a time, far too slow for the rate: most requests are never sent, and that is said."""
    measured = measure(Fake(pace=0.05), streams=1, requests=50, rate=500)
    summary = measured.summary()
    assert summary.requests + measured.not_sent == 50
    assert measured.not_sent >= 40


def test_the_same_seed_is_due_at_the_same_times() -> None:
    """Counted from the beginning."""

    def dues() -> list[float]:
        measured = measure(Fake(), requests=10, rate=200, streams=10)
        first, *rest = sorted(each.due for each in measured.records)
        return [due - first for due in rest]

    assert dues() == pytest.approx(dues())


def test_a_deadline_is_the_services_to_keep() -> None:
    """A service that is too slow gives DEADLINE_EXCEEDED."""
    summary = measure(Fake(pace=0.1), streams=2, requests=2, deadline=0.25).summary()
    assert summary.errors == {"DEADLINE_EXCEEDED": 2}


def test_cancelled_requests_are_no_errors() -> None:
    """The service sees the cancellation, half way."""
    fake = Fake(pace=0.01)
    summary = measure(fake, streams=2, requests=4, cancel_rate=1.0).summary()
    assert (summary.cancelled, summary.completed, summary.errors) == (4, 0, {})
    assert summary.generated_tokens == 20
    assert fake.cancelled == 4


def test_the_warm_up_is_not_counted() -> None:
    """One short request a stream, unless told otherwise."""
    fake = Fake()
    measured = measure(fake, streams=3, requests=4, warm_up=None)
    assert measured.summary().requests == 4
    assert sorted(request.max_tokens for request in fake.requests) == [8] * 3 + [10] * 4


@pytest.mark.parametrize(("options", "connections"), [({}, 2), ({"connections": 5}, 5)])
def test_streams_are_spread_over_connections(options: dict[str, int], connections: int) -> None:
    """Real ones: one for every sixteen streams, or as many as asked for."""
    fake = Fake()
    measure(fake, streams=20, requests=40, **options)
    assert len(fake.peers) == connections


def broken(how: str) -> Fake:
    class Broken(Fake):
        def answer(self, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
            return WRONG[how](good_answer(request))

    return Broken()


def changed(responses: list[pb.GenerateResponse], index: int, **fields: object) -> list:
    fields = {"position": responses[index].position, **fields}
    whole = pb.GenerateResponse()
    whole.CopyFrom(responses[index])
    whole.ClearField("token_ids")
    whole.MergeFrom(pb.GenerateResponse(**fields))
    responses[index] = whole
    return responses


WRONG = {
    "position 8": lambda r: [r[1], r[0], *r[2:]],
    "no finish reason": lambda r: r[:-1],
    "token id 50, of a vocabulary of 50": lambda r: changed(r, 3, token_ids=[50]),
    "after 1 of 10": lambda r: [r[0], *changed([r[-1]], 0, position=8)],
    "STOP after 10 of 10": lambda r: changed(r, -1, finish_reason=pb.FINISH_REASON_STOP),
    "message after the last": lambda r: [*r, r[-1]],
    "tokens in the last": lambda r: changed(r[:-1], -1, token_ids=[1], finish_reason=2),
    "more tokens": lambda r: [*r[:-1], pb.GenerateResponse(position=17, token_ids=[1])],
    "usage of 7 + 9": lambda r: changed(r, -1, usage=pb.Usage(completion_tokens=9)),
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_answers_are_counted(how: str) -> None:
    """Whatever they break; the record says what."""
    measured = measure(broken(how), streams=2, requests=3, prompt_tokens=Span(7, 7))
    summary = measured.summary()
    assert (summary.wrong, summary.completed, summary.errors) == (3, 0, {})
    assert all(re.search(re.escape(how), each.text) for each in measured.records)


def test_a_message_with_several_tokens_is_fine() -> None:
    """As the contract allows; they arrive together."""
    request = pb.GenerateRequest(token_ids=[1, 2], prompt_tokens=2, max_tokens=3)
    answer = Answer(request, vocabulary_size=50)
    assert answer.take(pb.GenerateResponse(position=2, token_ids=[4, 5])) == 2
    assert answer.take(pb.GenerateResponse(position=4, token_ids=[6])) == 1
    with pytest.raises(InvalidResponseError, match="no finish reason"):
        answer.end()
    answer.take(good_answer(request)[-1])
    assert answer.end().queued == 0.25


def test_it_waits_for_a_model_that_loads() -> None:
    """Then goes on."""
    fake = Fake()
    fake.not_ready = 2
    assert measure(fake, requests=3).summary().completed == 3


def test_a_model_that_takes_too_long_is_an_error(exact_folder: Path) -> None:
    """It says what the service said."""
    with serving(str(exact_folder), load=False) as running:
        plan = LoadPlan(target=running.address, wait=0.2)
        with pytest.raises(LoadTestError, match=r"not ready after 0\.2 s .*loading"):
            asyncio.run(run_load_test(plan))


def test_what_is_no_service_of_ours_is_an_error() -> None:
    """A gRPC server that knows nothing of it."""

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


def test_a_run_that_is_cancelled_keeps_what_it_measured(service: Running) -> None:
    """Requests that ran are unfinished."""

    async def run() -> Measured:
        generator = LoadGenerator(LoadPlan(target=service.address, streams=2, **SHORT))
        task = asyncio.create_task(generator.run())
        while len(generator.ended) < 3:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.01)
        assert generator.recent(5).requests > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return generator.measured()

    summary = asyncio.run(run()).summary()
    assert summary.completed >= 3
    assert summary.requests == summary.completed + summary.unfinished


# The command.


def command(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "load", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )


def short_options(service: Running) -> list[str]:
    return f"--target {service.address} --prompt-tokens 6-12 --max-tokens 10 --streams 2".split()


def test_the_command_prints_one_line_of_json(service: Running, tmp_path: Path) -> None:
    """On standard output; the table goes to standard error, each request to a file."""
    path = tmp_path / "records.jsonl"
    done = command(*short_options(service), "--requests", "5", "--json", str(path))
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["target"] == service.address
    assert (result["model"], result["loop"], result["rate"]) == ("exact", "closed", None)
    assert (result["requests"], result["completed"], result["generated_tokens"]) == (5, 5, 50)
    assert {"p50", "p90", "p99", "max"} == result["gap"].keys()
    assert result["client_cpu"] > 0
    assert "gap between tokens" in done.stderr
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(each["number"] for each in records) == list(range(5))
    assert all(len(each["arrivals"]) == 10 for each in records)


def test_a_terminal_sees_a_live_table(service: Running) -> None:
    """While it runs."""
    done = command(
        *short_options(service), "--duration", "1500ms", "--rate", "10", TTY_COMPATIBLE="1"
    )
    assert done.returncode == 0, done.stderr
    assert "the last 5 s" in done.stderr
    assert json.loads(done.stdout)["loop"] == "open"


def test_ctrl_c_prints_what_was_measured(service: Running) -> None:
    """And exits with 130."""
    process = subprocess.Popen(
        [COMMAND, "load", *short_options(service), "--duration", "100s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TTY_COMPATIBLE": "1"},
    )
    for line in process.stderr:
        if "the last 5 s" in line:
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    result = json.loads(output)
    assert result["requests"] > 0
    assert result["seconds"] < 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "127.0.0.1:1"], "nothing answers at 127.0.0.1:1"),
        (["--target", "nowhere"], "HOST:PORT"),
        (["--target", "127.0.0.1:1", "--duration", "soon"], "'soon' is no duration"),
        (["--target", "127.0.0.1:1", "--duration", "5s", "--requests", "5"], "one of them"),
        (["--target", "127.0.0.1:1", "--max-tokens", "few"], "no number of tokens"),
        (["--target", "127.0.0.1:1", "--json", "/nowhere/at/all"], "cannot write"),
    ],
)
def test_what_goes_wrong_is_one_sentence(options: list[str], words: str) -> None:
    """And exit status 2, without a traceback."""
    done = command(*options, COLUMNS="400")
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_it_needs_no_tensorflow() -> None:
    """It may run on a small machine: nothing heavy is imported, for the command neither."""
    code = (
        "import sys, edgewise_cloud.loadtest.generator, edgewise_cloud.loadtest.table, edgewise_cloud.cli\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "keras_hub", "jax"} & set(done.stdout.split())
