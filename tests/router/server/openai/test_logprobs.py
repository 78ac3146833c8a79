"""Log-probabilities of completions: of the answer, of the prompt, and the choice by them."""

from itertools import chain

import pytest

from edgewise import Router
from edgewise.server.settings import ServerSettings
from edgewise.testing import ScriptedCloud, ScriptedDevice
from tests.router.server.openai.served import COMPLETIONS, post, served, streamed

PROMPT = "Once upon a time, there was a little"


def test_prompt_and_answer_have_one_list() -> None:
    """The prompt's first token has no log-probability; the end token is a token of its own."""
    with served(ScriptedDevice("ab")) as client:
        choice = post(client, COMPLETIONS, prompt="Hi", echo=True, logprobs=2)["choices"][0]
    assert choice["text"] == "Hiab"
    assert choice["logprobs"] == {
        "tokens": ["H", "i", "a", "b", "<|endoftext|>"],
        "token_logprobs": [None, -0.5, -0.5, -0.5, -0.5],
        "top_logprobs": [
            None,
            {"i": -0.5, "j": -1.5},
            {"a": -0.5, "b": -1.5},
            {"b": -0.5, "c": -1.5},
            {"<|endoftext|>": -0.5, "\0": -1.5},
        ],
        "text_offset": [0, 1, 2, 3, 4],
    }


def test_scoring_alone() -> None:
    """`max_tokens` 0: the prompt's own, and no text is written."""
    device = ScriptedDevice("ab")
    with served(device) as client:
        reply = post(
            client, COMPLETIONS, prompt=[[72, 105], [72]], echo=True, logprobs=0, max_tokens=0
        )
    first, second = (choice["logprobs"] for choice in reply["choices"])
    assert first["tokens"] == ["H", "i"]
    assert first["top_logprobs"] == [None, {"i": -0.5}]
    assert second["token_logprobs"] == [None]
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    assert reply["edgewise"]["source"] == "on_device"
    assert {request.max_tokens for request in device.requests} == {0}


def test_prompt_is_scored_once_for_all_its_choices() -> None:
    """In whichever place comes first."""
    device = ScriptedDevice("ab")
    with served(device) as client:
        reply = post(client, COMPLETIONS, prompt="Hi", echo=True, logprobs=1, n=4)
    assert len({str(choice["logprobs"]) for choice in reply["choices"]}) == 1
    assert [request.max_tokens for request in device.requests].count(0) == 1


@pytest.mark.parametrize("private", [True, False])
def test_private_prompt_is_scored_on_the_device(private: bool) -> None:
    """As it is continued there: by the request's header, or for all requests of the server."""
    cloud, settings = ScriptedCloud("ab"), ServerSettings(private=not private)
    headers = {"X-Edgewise-Privacy": "private"} if private else {}
    with served(ScriptedDevice("ab"), settings, cloud=cloud, mode="prefer_in_cloud") as client:
        for max_tokens in (0, 2):
            body = {"prompt": "Hi", "echo": True, "logprobs": 1, "max_tokens": max_tokens}
            reply = client.post(COMPLETIONS, json=body, headers=headers).json()
            assert reply["edgewise"]["source"] == "on_device"
    assert cloud.requests == []


def test_parts_of_a_character_are_written_as_bytes() -> None:
    """As OpenAI does it; their offset is that of the character."""
    with served(ScriptedDevice("a—b")) as client:
        choice = post(client, COMPLETIONS, prompt="Hi", logprobs=0, max_tokens=5)["choices"][0]
    assert choice["text"] == "a—b"
    assert choice["logprobs"]["tokens"] == ["a", "bytes:\\xe2", "bytes:\\x80", "bytes:\\x94", "b"]
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 1, 2]


def test_stream_tells_the_same_in_parts() -> None:
    """Joined, its chunks are the reply."""
    body = {"prompt": "Hi —", "echo": True, "logprobs": 1}
    with served(ScriptedDevice("a—b")) as client:
        whole = post(client, COMPLETIONS, **body)["choices"][0]
        parts = [chunk["choices"][0] for chunk in streamed(client, COMPLETIONS, **body)]
    assert "".join(part["text"] for part in parts) == whole["text"]
    for name, values in whole["logprobs"].items():
        told = (part["logprobs"][name] for part in parts if part["logprobs"])
        assert list(chain.from_iterable(told)) == values


def test_echo_gives_what_the_router_scores() -> None:
    """With a real model, and in agreement with what it said while it wrote."""
    with Router() as router, served("tales") as client:
        written = post(client, COMPLETIONS, prompt=PROMPT, temperature=0, logprobs=3, max_tokens=6)
        scored = post(
            client,
            COMPLETIONS,
            prompt=PROMPT + written["choices"][0]["text"],
            echo=True,
            logprobs=3,
            max_tokens=0,
        )
        expected = router.score(PROMPT + written["choices"][0]["text"], top=3)
    choice = scored["choices"][0]["logprobs"]
    assert choice["token_logprobs"] == pytest.approx(
        [score.logprob for score in expected.tokens], abs=1e-3
    )
    said = written["choices"][0]["logprobs"]
    assert choice["tokens"][-6:] == said["tokens"]
    assert choice["token_logprobs"][-6:] == pytest.approx(said["token_logprobs"], abs=0.05)
    assert max(said["top_logprobs"][0].values()) == said["token_logprobs"][0]


def test_best_of_keeps_the_likeliest() -> None:
    """By token, of those that the same seed writes with `n`; all count."""
    body = {"prompt": PROMPT, "seed": 3, "temperature": 1.5, "max_tokens": 5, "logprobs": 0}
    with served("tales") as client:
        all_ = post(client, COMPLETIONS, n=3, **body)["choices"]
        best = post(client, COMPLETIONS, n=1, best_of=3, **body)

    def mean(choice: dict) -> float:
        values = choice["logprobs"]["token_logprobs"]
        return sum(values) / len(values)

    assert best["choices"][0]["text"] == max(all_, key=mean)["text"]
    assert best["choices"][0]["index"] == 0
    assert best["usage"]["completion_tokens"] == 15
