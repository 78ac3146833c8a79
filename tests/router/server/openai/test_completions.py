"""POST /v1/completions without a stream."""

from typing import Any

import pytest

from edgewise.server.settings import ServerSettings
from edgewise.testing import ScriptedDevice
from tests.router.server.openai.served import (
    ANSWER,
    CHAT,
    COMPLETIONS,
    RESPONSES,
    post,
    refused,
    served,
)

FIELDS = [
    "model",
    "prompt",
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "user",
]


def test_reply_has_every_key() -> None:
    """Also those that are null: clients that look for them would break."""
    with served() as client:
        reply = post(client, COMPLETIONS, model="scripted", prompt="Hi", max_tokens=4)
    assert reply["id"].startswith("cmpl-")
    assert isinstance(reply["created"], int)
    assert reply["object"] == "text_completion"
    assert reply["system_fingerprint"] == "1"
    assert reply["choices"] == [
        {"text": "Once", "index": 0, "logprobs": None, "finish_reason": "length"}
    ]
    assert reply["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert reply["edgewise"]["source"] == "on_device"


@pytest.mark.parametrize("prompt", ["Hi", ["Hi"], [72, 105], [[72, 105]]])
def test_prompt_is_text_or_token_ids(prompt: Any) -> None:
    """One, or a list of them."""
    device = ScriptedDevice(ANSWER)
    with served(device) as client:
        reply = post(client, COMPLETIONS, prompt=prompt, echo=True)
    assert [choice["text"] for choice in reply["choices"]] == [f"Hi{ANSWER}"]
    assert [request.prompt for request in device.requests] == ["Hi"]


def test_choices_are_numbered_by_prompt() -> None:
    """`n` for each; a prompt counts once."""
    with served(ScriptedDevice(lambda prompt: prompt.upper())) as client:
        reply = post(client, COMPLETIONS, prompt=["one", "three"], n=2)
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in reply["choices"]] == ["ONE", "ONE", "THREE", "THREE"]
    assert reply["usage"] == {"prompt_tokens": 8, "completion_tokens": 16, "total_tokens": 24}
    assert [each["source"] for each in reply["edgewise"]["choices"]] == ["on_device"] * 4


@pytest.mark.parametrize(("window", "expected"), [(1024, 16), (20, 10)])
def test_length_is_sixteen_tokens_or_what_fits(window: int, expected: int) -> None:
    """Where the request does not say."""
    with served(ScriptedDevice("x" * 99, context_window=window)) as client:
        reply = post(client, COMPLETIONS, prompt="0123456789")
    assert reply["usage"]["completion_tokens"] == expected
    assert reply["choices"][0]["finish_reason"] == "length"


def test_no_tokens_means_that_nothing_runs() -> None:
    """The text is empty, or with `echo` the prompt."""
    device = ScriptedDevice(ANSWER)
    with served(device) as client:
        assert post(client, COMPLETIONS, prompt="Hi", max_tokens=0)["choices"][0]["text"] == ""
        reply = post(client, COMPLETIONS, prompt=["Hi", "Ho!"], max_tokens=0, echo=True)
    assert [choice["text"] for choice in reply["choices"]] == ["Hi", "Ho!"]
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"] == {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
    assert device.requests == []


def test_null_means_left_out() -> None:
    """As LangChain sends it. What nobody knows is ignored."""
    device = ScriptedDevice(ANSWER)
    with served(device) as client:
        reply = post(client, COMPLETIONS, **dict.fromkeys(FIELDS), best_off="?")
    assert reply["choices"][0]["text"] == ANSWER
    tokens = device.requests[0].tokens
    assert tokens is not None
    assert tokens.token_ids == (256,), "no prompt is the beginning of a document"


def test_fields_reach_the_router() -> None:
    """Under the router's names."""
    device = ScriptedDevice(ANSWER)
    body = {
        "temperature": 0.3,
        "top_p": 0.5,
        "top_k": 7,
        "min_p": 0.05,
        "repetition_penalty": 1.5,
        "presence_penalty": 0.25,
        "frequency_penalty": -0.5,
        "seed": 11,
    }
    with served(device) as client:
        reply = post(
            client, COMPLETIONS, prompt="Hi", logit_bias={"65": 5}, stop=["up", "?"], **body
        )
    assert reply["choices"][0] == {
        "text": "Once ",
        "index": 0,
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert (request := device.requests[0].tokens) is not None
    assert {name: getattr(request.sampling, name) for name in body} == body
    assert dict(request.sampling.logit_bias) == {65: 5}


def test_each_choice_has_its_own_seed() -> None:
    """The first the given one, the others what follows from it; the same for each prompt."""
    device = ScriptedDevice(ANSWER)
    with served(device) as client:
        post(client, COMPLETIONS, prompt=["A", "B"], n=3, seed=5)
        post(client, COMPLETIONS, prompt="C", seed=-1)
    seeds: dict[str, list[int]] = {}
    for request in device.requests:
        assert request.tokens is not None
        seeds.setdefault(request.prompt, []).append(request.tokens.sampling.seed)
    assert sorted(seeds["A"]) == sorted(seeds["B"])
    assert 5 in seeds["A"]
    assert len(set(seeds["A"])) == 3
    assert seeds["C"] == [2**63 - 1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 9}, "best_of"),
        ({"prompt": ["a", "b", "c"], "n": 3}, "n"),
        ({"prompt": ["a"] * 9}, "prompt"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "ten"}, "max_tokens"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [999]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"65": 101}}, "logit_bias"),
        ({"logit_bias": {"999": 1}}, "logit_bias"),
        ({"logit_bias": {"A": 1}}, "logit_bias"),
        ({"seed": 2**70}, "seed"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a"] * 65}, "stop"),
    ],
)
def test_invalid_field_is_named(body: dict[str, Any], param: str) -> None:
    """In OpenAI's error body."""
    with served(settings=ServerSettings(max_choices=8)) as client:
        error = refused(client, COMPLETIONS, **{"prompt": "Hi", **body})
    assert error["param"].split("[")[0] == param
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]


@pytest.mark.parametrize("prompt", [[""] * 40, [[1]] * 40, ["", 5] * 20, [[]] * 40])
def test_too_many_prompts_are_refused_before_they_are_read(prompt: list[Any]) -> None:
    """A body has room for a million, and other requests would wait meanwhile."""
    with served() as client:
        error = refused(client, COMPLETIONS, prompt=prompt)
    assert error["message"].startswith("prompt: 40 prompts are too many")


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT, RESPONSES])
@pytest.mark.parametrize("field", ["privacy", "mode", "latency_budget", "first_token_budget"])
def test_what_headers_say_is_refused_in_a_body(path: str, field: str) -> None:
    """If it was ignored, a text that was meant to be private would not be."""
    with served() as client:
        content = {
            CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
            RESPONSES: {"input": "Hi"},
        }
        error = refused(client, path, **content.get(path, {"prompt": "Hi"}), **{field: "private"})
        assert error["param"] == field


@pytest.mark.parametrize("tokens", [0, 1, None, 20])
def test_prompt_that_does_not_fit_is_too_long(tokens: int | None) -> None:
    """OpenAI's code tells clients to shorten it."""
    with served(ScriptedDevice(ANSWER, context_window=10)) as client:
        error = refused(client, COMPLETIONS, prompt="0123456789x", max_tokens=tokens)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
