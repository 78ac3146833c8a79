"""Several texts of one request, and the places of the queue."""

import asyncio
import threading
from collections.abc import Iterator

from edgewise import Limits, Router
from edgewise.generation.attempt import Attempt
from edgewise.server.openai.writing.choices import Choice, write
from edgewise.server.service import Service
from edgewise.server.settings import ServerSettings
from edgewise.testing import ScriptedDevice
from tests.router.server.openai.served import ANSWER, CHAT, COMPLETIONS, post, served

ALONE = {"limits": Limits(max_queue=1), "settings": ServerSettings(max_waiting=0)}


def test_request_does_not_wait_for_itself() -> None:
    """Eight texts in one place, where nobody may wait."""
    with served(**ALONE) as client:
        reply = post(client, COMPLETIONS, prompt="Hi", n=8)
        assert [choice["text"] for choice in reply["choices"]] == [ANSWER] * 8
        messages = [{"role": "user", "content": "Hi"}]
        assert len(post(client, CHAT, messages=messages, n=8)["choices"]) == 8


def test_texts_are_written_at_once_where_places_are_free() -> None:
    """Neither of these two would end without the other."""
    both = threading.Barrier(2)

    def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        both.wait(30)
        yield from tokens

    with served(ScriptedDevice(ANSWER, script, script)) as client:
        assert len(post(client, COMPLETIONS, prompt="Hi", n=2)["choices"]) == 2


def test_leaving_stops_all_texts() -> None:
    """Those that run and those that were to come; the places are free again."""
    device = ScriptedDevice("x" * 1000)

    async def leave() -> None:
        with Router(device, limits=Limits(max_queue=2)) as router:
            service = Service.of(router, ServerSettings())
            choices = [Choice(index, "Hi", {"max_tokens": 900}) for index in range(5)]
            events = write(service, choices)
            await anext(events)
            await events.aclose()
            assert service.queue.running == 0
            device.wait_until_idle()

    asyncio.run(leave())
    assert len(device.requests) <= 2
