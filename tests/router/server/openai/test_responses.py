"""POST /v1/responses."""

import json
from typing import Any

import pytest

from edgewise.testing import ScriptedDevice, fails_after
from tests.router.server.openai.served import ANSWER, RESPONSES, post, refused, served

MESSAGES = [
    {"role": "developer", "content": "Be brief."},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
]


def told(text: str) -> list[dict[str, Any]]:
    """The events, which are named as their types and numbered."""
    frames = [frame.split("\n") for frame in text.split("\n\n") if frame]
    events = [json.loads(data.removeprefix("data: ")) for _, data in frames]
    assert [name for name, _ in frames] == [f"event: {event['type']}" for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def test_text_in_text_out() -> None:
    """The whole object, with what it does not keep: nothing is stored, whatever was asked."""
    with served() as client:
        reply = post(
            client, RESPONSES, model="scripted", input="Hi", store=True, metadata={"a": "b"}
        )
    assert reply["id"].startswith("resp_")
    assert (reply["object"], reply["status"], reply["store"]) == ("response", "completed", False)
    assert (reply["metadata"], reply["error"], reply["tools"]) == ({"a": "b"}, None, [])
    (message,) = reply["output"]
    assert message["content"] == [
        {"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}
    ]
    assert reply["usage"]["input_tokens"] == 2
    assert reply["usage"]["output_tokens"] == len(ANSWER)
    assert reply["edgewise"]["prompt_format"] == "joined"


def test_instructions_come_first() -> None:
    """Before the messages of the input."""
    device = ScriptedDevice(ANSWER)
    with served(device) as client:
        post(client, RESPONSES, input=MESSAGES, instructions="In verse.")
    assert device.requests[0].prompt == "In verse.\n\nBe brief.\n\nHi"


def test_length_makes_it_incomplete() -> None:
    """With the reason."""
    with served() as client:
        reply = post(client, RESPONSES, input="Hi", max_output_tokens=4, top_logprobs=1)
    assert reply["status"] == reply["output"][0]["status"] == "incomplete"
    assert reply["incomplete_details"] == {"reason": "max_output_tokens"}
    logprobs = reply["output"][0]["content"][0]["logprobs"]
    assert [token["token"] for token in logprobs] == list("Once")


def test_stream_has_the_official_events() -> None:
    """Numbered, and named for clients that go by the name."""
    with served(ScriptedDevice("ab")) as client:
        response = client.post(RESPONSES, json={"input": "Hi", "stream": True})
    events = told(response.text)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event.get("delta", "") for event in events) == events[6]["text"] == "ab"
    final = events[-1]["response"]
    assert final["output"] == [events[-2]["item"]]
    assert final["usage"]["output_tokens"] == 2
    assert final["edgewise"]["source"] == "on_device"
    assert len({event["item_id"] for event in events if "item_id" in event}) == 1


def test_failure_in_mid_stream_is_a_failed_response() -> None:
    """Before the first token it is a status."""
    with served(ScriptedDevice("ab", fails_after(0), fails_after(1))) as client:
        assert client.post(RESPONSES, json={"input": "Hi", "stream": True}).status_code == 503
        *_, error, failed = told(client.post(RESPONSES, json={"input": "Hi", "stream": True}).text)
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": error["message"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "function_call_output"}]}, "input[0].type"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"top_logprobs": 99}, "top_logprobs"),
    ],
)
def test_what_needs_a_memory_or_tools_is_refused(body: dict[str, Any], param: str) -> None:
    """With the field's name."""
    with served() as client:
        error = refused(client, RESPONSES, **{"input": "Hi", **body})
    assert error["param"] == param
    assert param in error["message"]
