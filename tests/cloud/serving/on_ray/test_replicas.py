"""How the proxies handle what replicas do, with a scripted handle in place of Ray's."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from typer.testing import CliRunner

from edgewise_cloud.cli.app import app
from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.server.server import ServerSettings
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_proto import generation_pb2 as pb

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from edgewise_cloud.serving.on_ray.proxy import LOOPBACK, ProxyService
from edgewise_cloud.serving.on_ray.replica import Refusal, application, build
from edgewise_cloud.serving.on_ray.replicas import ATTEMPTS, Replicas

RESPONSES = [pb.GenerateResponse(position=n, token_ids=[n]) for n in range(3)]
MESSAGE = pb.GenerateRequest(token_ids=[1, 2], prompt_tokens=2)


class ScriptedHandle:
    """A DeploymentHandle whose calls follow one script after the other."""

    def __init__(
        self, *scripts: list[object], broadcast_answers: object = None, method: str = "generate"
    ) -> None:
        self._scripts, self._method = iter(scripts), method
        self._broadcast_answers = broadcast_answers
        self.asked: list[tuple[object, ...]] = []
        self.cancelled = 0

    def options(self, *, method_name: str, stream: bool) -> "ScriptedHandle":
        assert (method_name, stream) == (self._method, True)
        return self

    def remote(self, *arguments: object) -> "Items":
        self.asked.append(arguments)
        return Items(self, next(self._scripts))

    def broadcast(self, method: str) -> "ScriptedHandle":
        return self

    async def _fetch_replica_results_async(self) -> "list[Answer]":
        if isinstance(self._broadcast_answers, Exception):
            raise self._broadcast_answers
        return [Answer(each) for each in self._broadcast_answers]


class Answer:
    """One replica's answer to a broadcast: bytes, an error, or None for no answer at all."""

    def __init__(self, what: bytes | Exception | None) -> None:
        self._what = what

    async def get_async(self) -> bytes:
        if self._what is None:
            await asyncio.Event().wait()
        if isinstance(self._what, Exception):
            raise self._what
        return self._what


class Items:
    """The result of `remote`: an asynchronous iterator that can be cancelled, unless it failed."""

    def __init__(self, handle: ScriptedHandle, script: list[object]) -> None:
        self._handle, self._script = handle, script
        self._failed: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[object]:
        for step in self._script:
            if isinstance(step, Exception):
                self._failed = step
                raise step
            message = isinstance(step, pb.GenerateResponse | pb.ScoreResponse)
            yield step.SerializeToString() if message else step

    def cancel(self) -> None:
        if self._failed:  # as Ray does
            raise self._failed
        self._handle.cancelled += 1


def ask(handle: ScriptedHandle, deadline: float | None = None) -> list[pb.GenerateResponse]:
    async def collect() -> list[pb.GenerateResponse]:
        caller = Caller(name="somebody", deadline=deadline)
        return [response async for response in Replicas(handle).generate(MESSAGE, caller)]

    return asyncio.run(collect())


def test_scores_come_from_a_replica_too() -> None:
    """From another one, where the first is lost before it has sent any."""
    scores = [pb.ScoreResponse(position=n, scores=[pb.TokenScore(logprob=-n)]) for n in (0, 1)]
    handle = ScriptedHandle([ActorDiedError()], scores, method="score")

    async def collect() -> list[pb.ScoreResponse]:
        answer = Replicas(handle).score(pb.ScoreRequest(token_ids=[1, 2]), Caller(name="somebody"))
        return [response async for response in answer]

    assert asyncio.run(collect()) == scores
    assert handle.asked[0] == handle.asked[1]


@pytest.mark.parametrize("lost", [ActorDiedError(), ActorUnavailableError("gone", None)])
def test_a_replica_lost_before_its_first_token_is_replaced(lost: Exception) -> None:
    """The same request goes to another, and the caller does not notice."""
    handle = ScriptedHandle([lost], RESPONSES)
    assert ask(handle) == RESPONSES
    assert handle.asked[0] == handle.asked[1]


def test_a_replica_lost_after_its_first_token_is_unavailable() -> None:
    """Nothing is retried: the caller has tokens already, and knows where to continue."""
    handle = ScriptedHandle([*RESPONSES[:2], ActorDiedError()], RESPONSES)
    with pytest.raises(RefusedError, match="lost") as refusal:
        ask(handle)
    assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(handle.asked) == 1


def test_a_request_that_kills_replicas_does_not_kill_all() -> None:
    """It is retried a few times only."""
    handle = ScriptedHandle(*([ActorDiedError()] for _ in range(100)))
    with pytest.raises(RefusedError) as refusal:
        ask(handle)
    assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(handle.asked) == ATTEMPTS


@pytest.mark.parametrize(
    ("error", "code", "retry_after"),
    [
        (BackPressureError(8, 8), grpc.StatusCode.RESOURCE_EXHAUSTED, 1.0),
        (DeploymentUnavailableError("Replica"), grpc.StatusCode.UNAVAILABLE, None),
        (RayTaskError("generate", "secret", ValueError("secret")), grpc.StatusCode.INTERNAL, None),
        (
            Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", 2.5),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            2.5,
        ),
    ],
)
def test_refusals_have_the_codes_of_a_single_server(
    error: object, code: grpc.StatusCode, retry_after: float | None
) -> None:
    """They are not retried, and Ray's own messages are not shown."""
    handle = ScriptedHandle([error])
    with pytest.raises(RefusedError) as refusal:
        ask(handle)
    assert (refusal.value.code, refusal.value.retry_after) == (code, retry_after)
    assert "secret" not in refusal.value.text


def test_the_deadline_reaches_the_replica() -> None:
    """As the seconds left, because clocks differ between machines."""
    handle = ScriptedHandle(RESPONSES)
    ask(handle, deadline=time.monotonic() + 50)
    _, name, time_left, _ = handle.asked[0]
    assert name == "somebody"
    assert 0 < time_left <= 50


def test_closing_early_stops_the_replica() -> None:
    """Whether the caller cancelled or its deadline passed."""
    handle = ScriptedHandle(RESPONSES)

    async def leave() -> None:
        answer = Replicas(handle).generate(MESSAGE, Caller(name="somebody"))
        await anext(answer)
        assert handle.cancelled == 0
        await answer.aclose()

    asyncio.run(leave())
    assert handle.cancelled == 1


def test_load_is_the_sum_over_replicas_that_answer() -> None:
    """The expected wait is that of the least busy one."""
    loads = [
        pb.GetLoadResponse(slots=4, running=3, queue=8, waiting=0, tokens_per_second=10),
        pb.GetLoadResponse(
            slots=4, running=4, queue=8, waiting=2, tokens_per_second=20, expected_wait=3
        ),
    ]
    answers = [*(load.SerializeToString() for load in loads), ActorDiedError(), None]
    assert asyncio.run(
        Replicas(ScriptedHandle(broadcast_answers=answers)).get_load()
    ) == pb.GetLoadResponse(
        slots=8, running=7, queue=16, waiting=2, tokens_per_second=30, expected_wait=0
    )


@pytest.mark.parametrize(
    "broadcast_answers", [DeploymentUnavailableError("Replica"), [ActorDiedError()], [None]]
)
def test_no_replica_is_unavailable(broadcast_answers: object) -> None:
    """Like a server that is still loading."""
    with pytest.raises(RefusedError, match="no replica") as refusal:
        asyncio.run(Replicas(ScriptedHandle(broadcast_answers=broadcast_answers)).model())
    assert refusal.value.code is grpc.StatusCode.UNAVAILABLE


class Context:
    """The parts of a call's context that refusing it needs."""

    def __init__(self, peer: str) -> None:
        self.peer = lambda: peer
        self.code: grpc.StatusCode | None = None

    async def abort(self, code: grpc.StatusCode, text: str, trailing_metadata: object) -> None:
        self.code = code


@pytest.mark.parametrize("peer", ["ipv4:192.0.2.7:4242", "ipv6:%5B2001:db8::7%5D:4242"])
def test_callers_on_other_machines_are_refused(peer: str) -> None:
    """Serve's proxies listen on every address, in clear text."""
    service = ProxyService(Replicas(ScriptedHandle()), LOOPBACK)
    context = Context(peer)
    asyncio.run(service.GetModel(pb.GetModelRequest(), context))
    assert context.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("peer", ["ipv4:127.0.0.1:4242", "ipv6:%5B::1%5D:4242"])
def test_callers_on_this_machine_are_served(peer: str) -> None:
    """Such as a proxy that terminates TLS."""
    model = pb.GetModelResponse(name="tales")
    replicas = Replicas(ScriptedHandle(broadcast_answers=[model.SerializeToString()]))
    service = ProxyService(replicas, LOOPBACK)
    assert asyncio.run(service.GetModel(pb.GetModelRequest(), Context(peer))) == model


class RecordedDeployment:
    """In place of serve.deployment: keeps its options, and what is bound."""

    def __init__(self, _replica: type, **options: object) -> None:
        self.options = options

    def bind(self, settings: ServerSettings) -> "RecordedDeployment":
        self.settings = settings
        return self


def test_an_application_is_built_from_a_config_files_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replica takes what its engine has room for; more start with more requests than slots."""
    monkeypatch.setattr("ray.serve.deployment", RecordedDeployment)
    arguments = {"engine": {"slots": 8, "queue": 24}, "replicas": [1, 4], "grace": 5.0}
    built = build(arguments)
    assert built.options["max_ongoing_requests"] == 32
    scaling = built.options["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)
    assert scaling["target_ongoing_requests"] == 8
    assert built.options["graceful_shutdown_timeout_s"] == built.settings.grace == 5.0


@pytest.mark.parametrize("replicas", [[0, 1], [3, 2]])
def test_invalid_numbers_of_replicas_are_refused(replicas: list[int]) -> None:
    """With a sentence, not Serve's validation error."""
    with pytest.raises(ServeError, match="replicas"):
        build({"replicas": replicas})


def test_several_models_are_refused() -> None:
    """Before anything starts: on Ray, one service serves one model."""
    with pytest.raises(ServeError, match="2 models are given"):
        application(ServerSettings(models=("one", "two")))


def test_without_ray_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the package works without it."""
    for name in list(sys.modules):
        if name == "ray" or name.startswith(("ray.", "edgewise_cloud.serving.on_ray.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["serve-ray"])
    assert isinstance(result.exception, ServeError)
    assert "ray[serve]" in str(result.exception)
