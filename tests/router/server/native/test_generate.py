"""POST /v1/edgewise/generate, and what PATCH and DELETE do to its text."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edgewise.testing import fails_after, hangs_after
from tests.router.server.native.asgi import Call, Told, ask
from tests.router.server.native.conftest import TEXT, Serve, Served

GENERATE, GENERATIONS = "/v1/edgewise/generate", "/v1/edgewise/generations"
Act = Callable[[str], Awaitable[object]]


async def told_by(
    served: Served, content: dict, after: int | None = None, act: Act | None = None
) -> list[Told]:
    """All events; once `after` bytes of text have come, `act` is called with the id."""
    told, text, id_ = list[Told](), "", ""
    async with Call(served.app, "POST", GENERATE, {"prompt": "Once"} | content) as call:
        async for name, data in call.events():
            told.append((name, data))
            id_ = data["id"] if name == "started" else id_
            text += data["text"] if name == "text" else ""
            if act and len(text) == after and name != "end":
                acting, act = act, None
                await acting(id_)
    return told


def of(told: list[Told], *kinds: str) -> list[dict[str, Any]]:
    """The data of the events with these names."""
    return [data for name, data in told if name in kinds]


def names(told: list[Told]) -> list[str]:
    """Their names in order; of texts in a row the first."""
    found = [name for name, _ in told]
    return [name for name, last in zip(found, [None, *found], strict=False) if name != last]


def test_text_is_told_with_its_decision(serve: Serve) -> None:
    """Before the first text; the end has what Generation.as_dict has."""
    told = asyncio.run(told_by(serve(), {"logprobs": None}))
    assert names(told) == ["started", "decision", "text", "end"]
    (decision,) = of(told, "decision")
    assert (decision["source"], decision["tokens"]) == ("on_device", 0)
    texts = of(told, "text")
    assert "".join(text["text"] for text in texts) == TEXT
    assert {text["source"] for text in texts} == {"on_device"}
    (end,) = of(told, "end")
    assert (end["text"], end["finish_reason"]) == (TEXT, "stop")
    assert [id_ for text in texts for id_ in text["token_ids"]] == end["token_ids"]
    assert "prompt" not in end
    assert len(of(told, "started")[0]["id"]) >= 22


def test_failure_is_told_as_a_handoff_with_its_veto(serve: Serve) -> None:
    """Then the new decision, then the other source's text."""
    told = asyncio.run(told_by(serve(device=fails_after(4)), {}))
    assert names(told) == ["started", "decision", "text", "handoff", "decision", "text", "end"]
    (moved,) = of(told, "handoff")
    assert (moved["from"], moved["to"], moved["tokens"]) == ("on_device", "in_cloud", 4)
    assert moved["why"] == {"code": "failed", "detail": "a scripted failure", "soft": False}
    assert of(told, "decision")[1]["tokens"] == 4
    assert [text["source"] for text in of(told, "text")] == ["on_device"] * 4 + ["in_cloud"] * 6


def test_text_that_no_source_can_finish_ends_with_an_error(serve: Serve) -> None:
    """As OpenAI's error body."""
    served = serve(device=fails_after(4))
    told = asyncio.run(told_by(served, {"mode": "only_on_device"}))
    assert names(told) == ["started", "decision", "text", "error"]
    assert "no source can answer" in told[-1][1]["error"]["message"]
    assert not served.app.state.generations


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"device": {"battery": 0.02}}, "battery"),
        ({"device": {"temperature": 120}}, "temperature"),
        ({"device": {"low_power_mode": True}}, "low_power"),
    ],
)
def test_patch_of_the_device_moves_the_text(serve: Serve, change: dict, code: str) -> None:
    """At once, though nothing comes from the device; other texts do not notice."""
    served = serve(device=hangs_after(4))

    async def act(id_: str) -> None:
        assert await ask(served.app, "PATCH", f"{GENERATIONS}/{id_}", change) == (204, None)

    told = asyncio.run(told_by(served, {}, 4, act))
    (moved,) = of(told, "handoff")
    assert (moved["to"], moved["tokens"], moved["why"]["code"]) == ("in_cloud", 4, code)
    assert of(told, "end")[0]["text"] == TEXT
    assert served.router.route("Once").source == "on_device"


def test_patch_makes_a_text_private(serve: Serve) -> None:
    """A cloud that writes is stopped, and the device goes on."""
    served = serve(cloud=hangs_after(4))

    async def act(id_: str) -> None:
        change = {"privacy": "private"}
        assert await ask(served.app, "PATCH", f"{GENERATIONS}/{id_}", change) == (204, None)

    told = asyncio.run(told_by(served, {"mode": "prefer_in_cloud"}, 4, act))
    (moved,) = of(told, "handoff")
    assert (moved["from"], moved["why"]["code"]) == ("in_cloud", "private")
    assert of(told, "end")[0]["text"] == TEXT
    assert len(served.cloud.requests) == 1


def test_invalid_change_is_refused_and_the_text_goes_on(serve: Serve) -> None:
    """With the field's name, and the text as if nothing had been asked."""
    served = serve(device=hangs_after(4))
    replies = []

    async def act(id_: str) -> None:
        path = f"{GENERATIONS}/{id_}"
        for change in ({"privacy": "allow_cloud"}, {"latency_budget": 0}, {"device": 5}):
            status, told = await ask(served.app, "PATCH", path, change)
            replies.append((status, told["error"]["param"]))
        await ask(served.app, "PATCH", path, {"device": {"battery": 0.01}})

    told = asyncio.run(told_by(served, {}, 4, act))
    assert replies == [(400, "privacy"), (400, "latency_budget"), (400, "device")]
    assert of(told, "end")[0]["text"] == TEXT


def test_delete_stops_the_text(serve: Serve) -> None:
    """Its stream tells what there is, and the compute ends."""
    served = serve(device=hangs_after(4))

    async def act(id_: str) -> None:
        assert await ask(served.app, "DELETE", f"{GENERATIONS}/{id_}") == (204, None)

    told = asyncio.run(told_by(served, {}, 4, act))
    (end,) = of(told, "end")
    assert (end["text"], end["finish_reason"]) == (TEXT[:4], "cancelled")
    served.device.wait_until_idle()


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_text_that_has_ended_is_not_found(serve: Serve, method: str) -> None:
    """Its id is gone with its stream, and an id that never was is told the same."""
    served = serve()

    async def run() -> list[tuple[int, Any]]:
        told = await told_by(served, {})
        ids = (of(told, "started")[0]["id"], "guessed")
        return [await ask(served.app, method, f"{GENERATIONS}/{id_}", {}) for id_ in ids]

    (status, ended), never = asyncio.run(run())
    assert (status, ended) == never
    assert (status, ended["error"]["code"]) == (404, "not_found")
    assert not served.app.state.generations


def test_client_that_leaves_stops_the_compute(serve: Serve) -> None:
    """And its id is gone."""
    served = serve(device=hangs_after(1))

    async def run() -> None:
        async with Call(served.app, "POST", GENERATE, {"prompt": "Once"}) as call:
            async for name, _ in call.events():
                if name == "text":
                    assert served.app.state.generations
                    return

    asyncio.run(run())
    served.device.wait_until_idle()
    assert not served.app.state.generations


def test_pace_holds_the_text_back(serve: Serve) -> None:
    """It is read no faster, so that the source writes no faster; nothing is lost."""
    told = asyncio.run(told_by(serve(), {"pace": 500}))
    (end,) = of(told, "end")
    assert end["text"] == TEXT
    assert end["timings"]["total"] >= (len(TEXT) - 1) / 500


def test_log_probabilities_come_where_they_are_asked_for(serve: Serve) -> None:
    """One for each token."""
    told = asyncio.run(told_by(serve(), {"logprobs": 2}))
    for text in of(told, "text"):
        assert [score["token_id"] for score in text["logprobs"]] == text["token_ids"]
