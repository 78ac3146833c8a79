"""The stream of completions."""

import json

import pytest

from edgewise.testing import ScriptedDevice, fails_after
from tests.router.server.openai.served import COMPLETIONS, post, served, streamed


def test_finish_reason_is_null_until_the_last_chunk() -> None:
    """It is there in each, and so are `logprobs`; the last has the edgewise object."""
    with served(ScriptedDevice("abc")) as client:
        *middle, last = streamed(client, COMPLETIONS, prompt="Hi")
    assert [chunk["choices"][0] for chunk in middle] == [
        {"text": letter, "index": 0, "logprobs": None, "finish_reason": None} for letter in "abc"
    ]
    assert last["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert last["edgewise"]["segments"] == [{"source": "on_device", "start": 0, "tokens": 3}]
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in middle}) == 1
    assert not any("usage" in chunk or "edgewise" in chunk for chunk in middle)


def test_usage_comes_only_where_it_is_asked_for() -> None:
    """In one more chunk, without choices; in the others it is null."""
    with served(ScriptedDevice("abc")) as client:
        body = {"prompt": ["Hi", "Ho!"], "n": 2, "stream_options": {"include_usage": True}}
        *others, last = streamed(client, COMPLETIONS, **body)
    assert {chunk["usage"] for chunk in others} == {None}
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17}


def test_choices_come_as_they_are_written() -> None:
    """Each is complete and in order; its first chunk repeats the prompt."""
    body = {"prompt": ["Hi", "Ho"], "n": 2, "echo": True}
    with served(ScriptedDevice("abc")) as client:
        texts = [""] * 4
        ended = []
        for chunk in streamed(client, COMPLETIONS, **body):
            (choice,) = chunk["choices"]
            assert choice["index"] not in ended
            texts[choice["index"]] += choice["text"]
            if choice["finish_reason"]:
                ended.append(choice["index"])
        whole = post(client, COMPLETIONS, **body)["choices"]
    assert texts == [choice["text"] for choice in whole] == ["Hiabc", "Hiabc", "Hoabc", "Hoabc"]
    assert sorted(ended) == [0, 1, 2, 3]


def test_echo_without_new_tokens_is_a_stream_too() -> None:
    """Of one chunk."""
    with served() as client:
        (only,) = streamed(client, COMPLETIONS, prompt="Hi", echo=True, max_tokens=0)
    assert only["choices"] == [
        {"text": "Hi", "index": 0, "logprobs": None, "finish_reason": "length"}
    ]


def test_failure_before_the_first_token_is_a_status() -> None:
    """Which clients know how to retry."""
    with served(ScriptedDevice("abc", fails_after(0))) as client:
        response = client.post(COMPLETIONS, json={"prompt": "Hi", "stream": True})
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("n", [1, 2])
def test_failure_in_mid_stream_is_an_event(n: int) -> None:
    """The last one: nothing says that the text is complete."""
    with served(ScriptedDevice("abc", fails_after(2), fails_after(2))) as client:
        response = client.post(COMPLETIONS, json={"prompt": "Hi", "stream": True, "n": n})
    *_, last, end = response.text.split("\n\n")
    assert response.status_code == 200
    assert end == ""
    error = json.loads(last.removeprefix("data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
