"""The load generator: what it sends, what it counts, what it says."""

import asyncio
import json
import math
import os
import re
import signal
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_cloud.errors import LoadError
from edgewise_cloud.load.answer import Answer, WrongAnswerError
from edgewise_cloud.load.generator import LoadGenerator, Measured, run_load
from edgewise_cloud.load.plan import LoadPlan, Span, parse_duration, parse_span
from edgewise_cloud.load.prompts import Prompts
from edgewise_cloud.load.record import Outcome, Record
from edgewise_cloud.load.statistics import Percentiles, summarise
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
            return await run_load(LoadPlan(target=f"127.0.0.1:{port}", **{**SHORT, **options}))
        finally:
            await server.stop(0)

    return asyncio.run(run())


# Statistics.


def record(due: float = 0.0, *arrivals: float, **fields: object) -> Record:
    defaults: dict[str, object] = {
        "number": 0,
        "stream": 0,
        "prompt_tokens": 10,
        "max_tokens": 4,
        "due": due,
        "sent": due,
        "arrivals": array("d", arrivals),
    }
    return Record(**defaults | fields)


def test_percentiles_lie_between_the_nearest_values() -> None:
    """Of 0 to 100: themselves. Of 1 and 2: on the line between. Of nothing: nothing."""
    assert Percentiles.of([float(n) for n in range(101)]) == Percentiles(50, 90, 99, 100)
    assert Percentiles.of([2.0, 1.0]) == Percentiles(1.5, 1.9, 1.99, 2)
    assert Percentiles.of([]) == Percentiles(None, None, None, None)


def test_a_summary_computed_by_hand() -> None:
    """Two answers, one of them unfinished, in a window of ten seconds."""
    summary = summarise(
        [
            record(1, 3, 4, 6, outcome=Outcome.COMPLETED, ended=6.5, queued=0.5),
            record(2, 3, 9, 20),  # the last token came too late
        ],
        start=0,
        end=10,
    )
    assert summary.generated_tokens == 5
    assert summary.tokens_per_second == 0.5
    assert summary.requests_per_second == 0.1
    assert summary.prompt_tokens == 20
    assert summary.time_to_first_token == Percentiles(1.5, 1.9, 1.99, 2)
    assert (summary.gap.p50, summary.gap.max) == (2, 6)  # of 1, 2 and 6
    assert summary.worst_gap_over_median == 3
    assert summary.total.max == 5.5
    assert summary.queued.max == 0.5
    assert (summary.completed, summary.unfinished) == (1, 1)


def test_errors_are_counted_by_code_and_wrong_answers_count_for_nothing() -> None:
    """How soon a refusal came is measured; tokens of a wrong answer are not."""
    summary = summarise(
        [
            record(1, outcome=Outcome.FAILED, code="RESOURCE_EXHAUSTED", ended=1.25),
            record(1, outcome=Outcome.FAILED, code="RESOURCE_EXHAUSTED", ended=1.5),
            record(1, 2, 3, outcome=Outcome.FAILED, code="INTERNAL", ended=4.0),
            record(1, 2, 3, outcome=Outcome.WRONG, ended=4.0),
        ],
        start=0,
        end=10,
    )
    assert summary.errors == {"INTERNAL": 1, "RESOURCE_EXHAUSTED": 2}
    assert summary.time_to_refusal.max == 0.5
    assert summary.wrong == 1
    assert summary.generated_tokens == 2
    assert summary.completed == 0
    assert summary.total.max is None


moments = st.floats(0, 20, allow_nan=False)


@given(
    st.lists(
        st.builds(
            lambda due, arrivals, outcome: record(
                due,
                *sorted(arrivals),
                outcome=outcome,
                code="INTERNAL" if outcome is Outcome.FAILED else None,
            ),
            moments,
            st.lists(moments, max_size=5),
            st.sampled_from(Outcome),
        )
    )
)
def test_each_request_is_one_thing(records: list[Record]) -> None:
    """Whatever became of them, the counts add up, and no more tokens are counted than came."""
    summary = summarise(records, start=5, end=10)
    assert summary.requests == sum(each.due <= 10 for each in records)
    assert summary.requests == (
        summary.completed
        + summary.cancelled
        + summary.unfinished
        + summary.wrong
        + sum(summary.errors.values())
    )
    assert summary.generated_tokens <= sum(len(each.arrivals) for each in records)
    json.dumps(summary.as_dict(), allow_nan=False)


# Plans and prompts.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("2m", 120), ("90", 90), ("1.5h", 5400), ("500ms", 0.5), (" 7 s ", 7)],
)
def test_durations(text: str, seconds: float) -> None:
    """Plain numbers are seconds."""
    assert parse_duration(text) == seconds


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_spans_are_read_as_they_are_written(low: int, more: int) -> None:
    """One number where both ends are the same."""
    span = Span(low, low + more)
    assert parse_span(str(span)) == span


@given(st.text() | st.text("0123456789.-smh ", max_size=8))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """With LoadError, and nothing else."""
    with suppress(LoadError):
        assert 0 <= parse_duration(text) < math.inf
    with suppress(LoadError):
        assert parse_span(text).low >= 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "localhost"}, "HOST:PORT"),
        ({"target": ":50051"}, "HOST:PORT"),
        ({"target": "host:99999"}, "HOST:PORT"),
        ({"streams": 0}, "streams"),
        ({"requests": 0}, "requests"),
        ({"connections": -1}, "connections"),
        ({"duration": 0.0}, "duration"),
        ({"duration": float("nan")}, "duration"),
        ({"rate": float("inf")}, "rate"),
        ({"rate": -1.0}, "rate"),
        ({"deadline": 0.0}, "deadline"),
        ({"deadline": 1e300}, "deadline"),
        ({"prompt_tokens": Span(0, 5)}, "prompt_tokens"),
        ({"max_tokens": Span(9, 5)}, "max_tokens"),
        ({"cancel_rate": 1.5}, "cancel_rate"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"shared_prefix": 65}, "shared_prefix"),
        ({"seed": -1}, "seed"),
        ({"warm_up": -1}, "warm_up"),
        ({"wait": float("nan")}, "wait"),
    ],
)
def test_senseless_plans_are_refused(options: dict[str, object], words: str) -> None:
    """By the name of the option."""
    with pytest.raises(LoadError, match=words):
        LoadPlan(**{"target": "127.0.0.1:50051", **options})


def prompts(**options: object) -> Prompts:
    return Prompts(LoadPlan(target="127.0.0.1:1", **{**SHORT, **options}), MODEL)


def test_the_same_seed_sends_the_same_requests() -> None:
    """In any order; another seed sends others, and so does the warm-up."""
    first, second, other = (prompts(seed=seed, shared_prefix=3) for seed in (1, 1, 2))
    jobs = [first.job(n) for n in range(20)]
    assert [second.job(n) for n in reversed(range(20))] == jobs[::-1]
    texts = {
        tuple(job.message.token_ids)
        for job in (
            *jobs,
            *(other.job(n) for n in range(20)),
            *(first.warm_up_job(n) for n in range(20)),
        )
    }
    assert len(texts) == 60


@given(st.integers(0, 2**63 - 1), st.integers(1, 60), st.integers(1, 40), st.data())
def test_prompts_are_as_planned(seed: int, longest: int, new: int, data: st.DataObject) -> None:
    """Of the lengths asked for, with ids of the vocabulary, and the shared beginning."""
    shortest = data.draw(st.integers(1, longest))
    shared = data.draw(st.integers(0, shortest))
    made = prompts(
        seed=seed,
        prompt_tokens=Span(shortest, longest),
        max_tokens=Span(1, new),
        shared_prefix=shared,
    )
    messages = [made.job(n).message for n in range(5)] + [made.warm_up_job(0).message]
    for message in messages:
        assert shortest <= message.prompt_tokens == len(message.token_ids) <= longest
        assert 1 <= message.max_tokens <= new
        assert max(message.token_ids) < MODEL.vocabulary_size
        assert message.vocabulary == MODEL.vocabulary
    assert len({tuple(message.token_ids[:shared]) for message in messages}) == 1


def test_requests_beyond_the_context_window_are_refused_at_the_start() -> None:
    """Rather than a run of errors."""
    with pytest.raises(LoadError, match="context window is 100"):
        prompts(prompt_tokens=Span(8, 91), max_tokens=Span(10, 10))


def test_the_share_to_cancel_is_cancelled_half_way() -> None:
    """About a quarter of four hundred."""
    jobs = [prompts(cancel_rate=0.25).job(n) for n in range(400)]
    assert 60 < sum(job.cancel_after == 5 for job in jobs) < 140
    assert {job.cancel_after for job in jobs} == {5, None}


# Against services.


def test_a_closed_loop_on_a_real_service(service: Running) -> None:
    """Every request of the plan is completed, and every token counted once."""
    measured = asyncio.run(
        run_load(LoadPlan(target=service.address, streams=4, requests=12, **SHORT))
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
    measured = asyncio.run(run_load(plan))
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
    summary = asyncio.run(run_load(plan)).summary()
    assert summary.errors.keys() == {"RESOURCE_EXHAUSTED"}
    assert summary.completed + summary.errors["RESOURCE_EXHAUSTED"] == 20
    assert summary.completed > 0
    assert summary.time_to_refusal.max > 0


def test_an_open_loop_sends_when_due(service: Running) -> None:
    """Nothing is sent before its time, and all of it is completed where there is room."""
    measured = asyncio.run(
        run_load(LoadPlan(target=service.address, streams=4, requests=10, rate=20, **SHORT))
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


def test_time_to_first_token_counts_from_when_a_request_was_due() -> None:
    """What the client itself was late is not hidden."""
    summary = summarise([record(1, 5, sent=4, outcome=Outcome.COMPLETED, ended=6)], 0, 10)
    assert summary.time_to_first_token.max == 4
    assert summary.total.max == 5


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
    with pytest.raises(WrongAnswerError, match="no finish reason"):
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
        with pytest.raises(LoadError, match=r"not ready after 0\.2 s .*loading"):
            asyncio.run(run_load(plan))


def test_what_is_no_service_of_ours_is_an_error() -> None:
    """A gRPC server that knows nothing of it."""

    async def run() -> None:
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            await run_load(LoadPlan(target=f"127.0.0.1:{port}"))
        finally:
            await server.stop(0)

    with pytest.raises(LoadError, match="UNIMPLEMENTED"):
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
        "import sys, edgewise_cloud.load.generator, edgewise_cloud.load.table, edgewise_cloud.cli\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "keras_hub", "jax"} & set(done.stdout.split())
