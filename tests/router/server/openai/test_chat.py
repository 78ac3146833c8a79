"""POST /v1/chat/completions."""

from dataclasses import replace
from typing import Any

import pytest

from edgewise.server.settings import ServerSettings
from edgewise.testing import ScriptedDevice
from edgewise_edge.store.chat_template import ChatTemplate
from tests.router.server.openai.served import (
    ANSWER,
    CHAT,
    RESPONSES,
    post,
    refused,
    served,
    streamed,
)

HELLO = [{"role": "user", "content": "Hi"}]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "!"}]},
    {"role": "assistant", "content": "{content}"},
    {"role": "user", "content": "And?", "name": "Ann"},
]
TEMPLATE = ChatTemplate(
    system="{content}\n",
    user="Q: {content}\n",
    assistant="A: {content}\n",
    answer="A:",
    stop=("\n",),
)


def templated(answer: str) -> ScriptedDevice:
    """A device whose model has a chat template."""
    device = ScriptedDevice(answer)
    device.manifest = replace(device.manifest, chat_template=TEMPLATE)
    return device


def test_reply_has_every_key() -> None:
    """Also those that are null."""
    with served() as client:
        reply = post(client, CHAT, messages=HELLO, max_completion_tokens=4, max_tokens=9)
    assert reply["id"].startswith("chatcmpl-")
    assert reply["object"] == "chat.completion"
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Once", "refusal": None},
            "logprobs": None,
            "finish_reason": "length",
        }
    ]
    assert reply["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def test_contents_are_joined_as_paragraphs() -> None:
    """Where the model has no template; the reply says so."""
    device = ScriptedDevice(ANSWER)
    with served(device) as client:
        reply = post(client, CHAT, messages=TALK)
    assert [request.prompt for request in device.requests] == [
        "Be brief.\n\nHi!\n\n{content}\n\nAnd?"
    ]
    assert reply["edgewise"]["prompt_format"] == "joined"


def test_template_of_the_model_is_used() -> None:
    """With its stop texts besides those of the request."""
    device = templated(" yes; no\nQ:")
    with served(device, ServerSettings(strict_chat=True)) as client:
        reply = post(client, CHAT, messages=TALK)
        shorter = post(client, CHAT, messages=TALK, stop=";")
    assert device.requests[0].prompt == "Be brief.\nQ: Hi!\nA: {content}\nQ: And?\nA:"
    assert reply["choices"][0]["message"]["content"] == " yes; no"
    assert shorter["choices"][0]["message"]["content"] == " yes"
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["edgewise"]["prompt_format"] == "chat_template"


@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, {"messages": HELLO}), (RESPONSES, {"input": "Hi"})]
)
def test_strict_server_wants_a_template(path: str, body: dict[str, Any]) -> None:
    """And says what to use instead."""
    with served(settings=ServerSettings(strict_chat=True)) as client:
        error = refused(client, path, **body)
    assert error["code"] == "chat_not_supported"
    assert "/v1/completions" in error["message"]


def test_tokens_have_their_bytes_in_logprobs() -> None:
    """And the likeliest, if they are asked for."""
    with served(ScriptedDevice("é")) as client:
        body = {"messages": HELLO, "logprobs": True, "top_logprobs": 2}
        logprobs = post(client, CHAT, **body)["choices"][0]["logprobs"]
        parts = [chunk["choices"][0]["logprobs"] for chunk in streamed(client, CHAT, **body)]
    assert logprobs["refusal"] is None
    first = logprobs["content"][0]
    assert (first["token"], first["bytes"], first["logprob"]) == ("bytes:\\xc3", [0xC3], -0.5)
    assert [likely["bytes"] for likely in first["top_logprobs"]] == [[0xC3], [0xC4]]
    assert [part["content"] for part in parts if part] == [logprobs["content"]]


def test_stream_begins_with_the_role() -> None:
    """Of each choice, in order: openai's own client expects that. The last delta is empty."""
    with served(ScriptedDevice("ab")) as client:
        *parts, last = streamed(
            client, CHAT, messages=HELLO, n=2, stream_options={"include_usage": True}
        )
    assert [part["choices"][0]["index"] for part in parts[:2]] == [0, 1]
    for index in range(2):
        choices = [part["choices"][0] for part in parts if part["choices"][0]["index"] == index]
        assert [choice["delta"] for choice in choices] == [
            {"role": "assistant", "content": ""},
            {"content": "a"},
            {"content": "b"},
            {},
        ]
        assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert [part["edgewise"]["prompt_format"] for part in parts if "edgewise" in part] == [
        "joined",
        "joined",
    ]


def with_part(**part: Any) -> dict[str, Any]:
    """A request whose one message has this part."""
    return {"messages": [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
        (with_part(type="image_url", image_url={"url": "x"}), "messages[0].content[0].type"),
        (with_part(type="text"), "messages[0].content[0].type"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"n": 99}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"temperature": 101}, "temperature"),
    ],
)
def test_invalid_or_unsupported_field_is_named(body: dict[str, Any], param: str) -> None:
    """In OpenAI's error body."""
    with served() as client:
        error = refused(client, CHAT, **{"messages": HELLO, **body})
    assert error["param"] == param
    assert param in error["message"]


def test_fields_that_ask_for_nothing_are_no_fault() -> None:
    """As clients send them by default."""
    body = {
        "tools": [],
        "functions": None,
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "logprobs": False,
        "top_logprobs": 0,
        "store": True,
        "reasoning_effort": "low",
        "stream_options": None,
        "stop": "",
    }
    with served() as client:
        assert post(client, CHAT, messages=HELLO, **body)["choices"][0]["message"]["content"]


def test_conversation_that_does_not_fit_names_the_messages() -> None:
    """The client has no field called prompt."""
    with served(ScriptedDevice(ANSWER, context_window=4)) as client:
        error = refused(client, CHAT, messages=[{"role": "user", "content": "Hello"}])
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
