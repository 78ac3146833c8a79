"""What the proxies make of what replicas do, with a scripted handle in place of Ray's."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from typer.testing import CliRunner

from edgewise_cloud.cli import app
from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_proto import generation_pb2 as pb

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from edgewise_cloud.serving.on_ray.proxy import LOOPBACK, ProxyService
from edgewise_cloud.serving.on_ray.replica import Refusal, build
from edgewise_cloud.serving.on_ray.replicas import ATTEMPTS, Replicas

WORDS = [pb.GenerateResponse(position=n, token_ids=[n]) for n in range(3)]
MESSAGE = pb.GenerateRequest(token_ids=[1, 2], prompt_tokens=2)


class ScriptedHandle:
    """A DeploymentHandle whose replicas do, one after the other, what each script says."""

    def __init__(self, *scripts: list[object], everyone: object = None) -> None:
        self._scripts = iter(scripts)
        self._everyone = everyone
        self.asked: list[tuple[object, ...]] = []
        self.cancelled = 0

    def options(self, *, method_name: str, stream: bool) -> "ScriptedHandle":
        assert (method_name, stream) == ("generate", True)
        return self

    def remote(self, *arguments: object) -> "Items":
        self.asked.append(arguments)
        return Items(self, next(self._scripts))

    def broadcast(self, method: str) -> "ScriptedHandle":
        return self

    async def _fetch_replica_results_async(self) -> "list[Answer]":
        if isinstance(self._everyone, Exception):
            raise self._everyone
        return [Answer(each) for each in self._everyone]


class Answer:
    """What one of all replicas says: bytes, an error, or nothing at all."""

    def __init__(self, what: bytes | Exception | None) -> None:
        self._what = what

    async def get_async(self) -> bytes:
        if self._what is None:
            await asyncio.Event().wait()
        if isinstance(self._what, Exception):
            raise self._what
        return self._what


class Items:
    """What `remote` gives: an asynchronous iterator that can be cancelled, unless it failed."""

    def __init__(self, handle: ScriptedHandle, script: list[object]) -> None:
        self._handle, self._script = handle, script
        self._failed: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[object]:
        for step in self._script:
            if isinstance(step, Exception):
                self._failed = step
                raise step
            yield step.SerializeToString() if isinstance(step, pb.GenerateResponse) else step

    def cancel(self) -> None:
        if self._failed:  # as Ray does
            raise self._failed
        self._handle.cancelled += 1


def ask(handle: ScriptedHandle, deadline: float | None = None) -> list[pb.GenerateResponse]:
    async def all_of_it() -> list[pb.GenerateResponse]:
        caller = Caller(name="somebody", deadline=deadline)
        return [word async for word in Replicas(handle).generate(MESSAGE, caller)]

    return asyncio.run(all_of_it())


@pytest.mark.parametrize("lost", [ActorDiedError(), ActorUnavailableError("gone", None)])
def test_a_replica_lost_before_its_first_word_is_replaced(lost: Exception) -> None:
    """The same request goes to another, and the caller sees nothing of it."""
    handle = ScriptedHandle([lost], WORDS)
    assert ask(handle) == WORDS
    assert handle.asked[0] == handle.asked[1]


def test_a_replica_lost_after_it_is_unavailable() -> None:
    """Nothing is asked again: the caller has tokens already, and knows where to go on."""
    handle = ScriptedHandle([*WORDS[:2], ActorDiedError()], WORDS)
    with pytest.raises(RefusedError, match="lost") as refusal:
        ask(handle)
    assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(handle.asked) == 1


def test_a_request_that_kills_replicas_does_not_kill_all() -> None:
    """It is given up on after a few."""
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
    """And are not tried again; Ray's own words stay inside."""
    handle = ScriptedHandle([error])
    with pytest.raises(RefusedError) as refusal:
        ask(handle)
    assert (refusal.value.code, refusal.value.retry_after) == (code, retry_after)
    assert "secret" not in refusal.value.text


def test_the_deadline_reaches_the_replica() -> None:
    """As the seconds left, since clocks differ between machines."""
    handle = ScriptedHandle(WORDS)
    ask(handle, deadline=time.monotonic() + 50)
    _, name, left, _ = handle.asked[0]
    assert name == "somebody"
    assert 0 < left <= 50


def test_leaving_early_stops_the_replica() -> None:
    """Whether the caller cancelled or its deadline passed."""
    handle = ScriptedHandle(WORDS)

    async def leave() -> None:
        answer = Replicas(handle).generate(MESSAGE, Caller(name="somebody"))
        await anext(answer)
        assert handle.cancelled == 0
        await answer.aclose()

    asyncio.run(leave())
    assert handle.cancelled == 1


def test_load_is_that_of_all_replicas_which_answer() -> None:
    """Summed up; who comes now waits for the least busy one."""
    loads = [
        pb.GetLoadResponse(slots=4, running=3, queue=8, waiting=0, tokens_per_second=10),
        pb.GetLoadResponse(
            slots=4, running=4, queue=8, waiting=2, tokens_per_second=20, expected_wait=3
        ),
    ]
    answers = [*(load.SerializeToString() for load in loads), ActorDiedError(), None]
    assert asyncio.run(Replicas(ScriptedHandle(everyone=answers)).load()) == pb.GetLoadResponse(
        slots=8, running=7, queue=16, waiting=2, tokens_per_second=30, expected_wait=0
    )


@pytest.mark.parametrize(
    "everyone", [DeploymentUnavailableError("Replica"), [ActorDiedError()], [None]]
)
def test_no_replica_is_unavailable(everyone: object) -> None:
    """Like a server that is still loading."""
    with pytest.raises(RefusedError, match="no replica") as refusal:
        asyncio.run(Replicas(ScriptedHandle(everyone=everyone)).model())
    assert refusal.value.code is grpc.StatusCode.UNAVAILABLE


class Context:
    """As much of a call's context as is needed to refuse it."""

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
    """Such as a proxy that ends TLS."""
    model = pb.GetModelResponse(name="tales")
    replicas = Replicas(ScriptedHandle(everyone=[model.SerializeToString()]))
    service = ProxyService(replicas, LOOPBACK)
    assert asyncio.run(service.GetModel(pb.GetModelRequest(), Context(peer))) == model


def test_an_application_is_built_from_a_config_files_arguments() -> None:
    """A replica takes what its engine has room for, and grows with requests over its slots."""
    arguments = {"engine": {"slots": 8, "queue": 24}, "replicas": [1, 4], "grace": 5.0}
    deployment = build(arguments)._bound_deployment
    assert deployment.max_ongoing_requests == 32
    config = deployment._deployment_config.autoscaling_config
    assert (config.min_replicas, config.max_replicas) == (1, 4)
    assert config.target_ongoing_requests == 8


@pytest.mark.parametrize("replicas", [[0, 1], [3, 2]])
def test_numbers_of_replicas_that_cannot_be(replicas: list[int]) -> None:
    """A sentence, not Serve's validation error."""
    with pytest.raises(ServeError, match="replicas"):
        build({"replicas": replicas})


def test_without_ray_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the package does not need it."""
    for name in list(sys.modules):
        if name == "ray" or name.startswith(("ray.", "edgewise_cloud.serving.on_ray.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["serve-ray"])
    assert isinstance(result.exception, ServeError)
    assert "edgewise-cloud[ray]" in str(result.exception)
