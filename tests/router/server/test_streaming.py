"""Streams of events."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from edgewise import Router
from edgewise.server.errors import HttpError
from edgewise.server.messages import streaming
from edgewise.server.messages.streaming import event, event_stream, generation
from edgewise.server.service import Service
from edgewise.server.settings import ServerSettings
from edgewise.testing import ScriptedDevice, hangs_after
from tests.support.http.texts import client


async def sent_by(
    events: AsyncIterator[Any],
    enough: Callable[[list[dict]], bool] = lambda _: False,
    **settings: Any,
) -> list[dict]:
    """The ASGI messages of a stream of these events, until there are `enough`."""
    with Router(ScriptedDevice()) as router:
        response = event_stream(events, Service.of(router, ServerSettings(**settings)))
        messages, done = list[dict](), asyncio.Event()

        async def send(message: dict) -> None:
            messages.append(message)
            if enough(messages):
                done.set()

        answer = asyncio.ensure_future(response({"type": "http"}, None, send))
        await asyncio.wait(
            {answer, asyncio.ensure_future(done.wait())},
            return_when=asyncio.FIRST_COMPLETED,
            timeout=30,
        )
        if not answer.done():
            answer.cancel()
            await asyncio.wait({answer})
        else:
            answer.result()
        return messages


def test_a_stream_ends_with_what_its_endpoint_sends_last(asking: TestClient) -> None:
    """One event for each chunk, none of them split, then [DONE]."""
    reply = asking.post("/stream", json={"prompt": "x"})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    *events, done, rest = reply.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    texts = [json.loads(line.removeprefix("data: "))["text"] for line in events]
    assert "".join(texts) == "the answer"


def test_an_event_can_have_a_name() -> None:
    """Before its data."""
    assert event({"a": 1}) == b'data: {"a":1}\n\n'
    assert event({"a": "\n"}, "text") == b'event: text\ndata: {"a":"\\n"}\n\n'


def test_what_fails_before_the_first_event_has_a_status_of_its_own(asking: TestClient) -> None:
    """A client sees it as it sees any refusal."""
    reply = asking.post("/stream", json={"prompt": "x", "max_tokens": 0})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "max_tokens")


def test_what_fails_later_is_the_last_event() -> None:
    """With a name where the others have one."""

    async def fails() -> AsyncIterator[dict]:
        yield {"text": "a"}
        raise HttpError(503, "the cloud is gone")

    messages = asyncio.run(sent_by(fails()))
    assert [m["body"] for m in messages[1:]] == [
        b'data: {"text":"a"}\n\n',
        event(HttpError(503, "the cloud is gone").body()),
        b"",
    ]
    assert messages[-1]["more_body"] is False


def test_a_silence_gets_comments_before_the_first_event_and_after() -> None:
    """So that no proxy and no client takes the connection for dead."""

    async def silent() -> AsyncIterator[dict]:
        await asyncio.sleep(30)
        yield {}

    async def falls_silent() -> AsyncIterator[dict]:
        yield {"text": "a"}
        await asyncio.sleep(30)

    for events in (silent(), falls_silent()):
        messages = asyncio.run(
            sent_by(
                events,
                lambda sent: sum(m.get("body", b"").startswith(b":") for m in sent) == 2,
                comment_interval=0.01,
            )
        )
        assert messages[0]["type"] == "http.response.start"
        assert sum(message.get("body") == b": still here\n\n" for message in messages) == 2


def test_events_that_come_in_time_get_no_comments() -> None:
    """A comment is for silence only."""

    async def steady() -> AsyncIterator[dict]:
        for _ in range(20):
            yield {}
            await asyncio.sleep(0)

    messages = asyncio.run(sent_by(steady(), comment_interval=10.0))
    assert not [m for m in messages if m.get("body", b"").startswith(b":")]


def test_the_time_in_the_queue_counts_for_a_budget() -> None:
    """What is left of it decides; a budget that is used up is not forgotten."""

    async def wait_and_ask() -> None:
        hanging = threading.Event()
        device = ScriptedDevice("x", hangs_after(0, hanging), first_token=0.1, gap=0.1)
        with Router(device) as router:
            service = Service.of(router, ServerSettings())
            service.queue.places = 1
            async with generation(service, "x", {}) as first:
                read = asyncio.ensure_future(anext(first))
                await asyncio.to_thread(hanging.wait, 30)
                second = generation(service, "x", {"first_token_budget": 0.15})
                entering = asyncio.ensure_future(second.__aenter__())
                await asyncio.sleep(0.1)
                read.cancel()
            stream = await entering
            await anext(stream)
            assert stream.decision.reason == "budget_missed"
            await second.__aexit__(None, None, None)

    asyncio.run(wait_and_ask())


@pytest.mark.parametrize("path", ["/text", "/stream"])
def test_a_full_queue_is_429_with_a_time_to_wait(path: str) -> None:
    """For streams, too: nothing has been sent by then."""
    hanging = threading.Event()
    with (
        Router(ScriptedDevice("x", hangs_after(0, hanging))) as router,
        client(router, max_waiting=0) as asking,
    ):
        service = asking.app.state.service
        service.queue.running = service.queue.places
        reply = asking.post(path, json={"prompt": "x"})
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
        assert reply.json()["error"]["code"] == "busy"


def test_a_client_that_reads_no_more_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream ends once its connection has taken nothing for a while."""
    monkeypatch.setattr(streaming, "STALLED", 0.01)
    ended = []

    async def events() -> AsyncIterator[dict]:
        try:
            yield {}
            yield {}
        finally:
            ended.append(True)

    async def send(message: dict) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(30)

    async def answer() -> None:
        with Router(ScriptedDevice()) as router:
            response = event_stream(events(), Service.of(router, ServerSettings()))
            with pytest.raises(streaming._StalledError):
                await response({"type": "http"}, None, send)

    asyncio.run(answer())
    assert ended
