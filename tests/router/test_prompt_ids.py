"""Prompts as token ids."""

from pathlib import Path

import numpy as np
import pytest

from edgewise import NoSourceError, Privacy, RequestError, Router
from edgewise.testing import ScriptedCloud, ScriptedDevice

TEXT, IDS = "Café", list("Café".encode())


@pytest.mark.parametrize("prompt", [IDS, tuple(IDS), list(np.array(IDS)), bytes(IDS).decode()])
def test_prompt_may_be_the_models_token_ids(prompt: object) -> None:
    """Of any whole numbers, in any sequence: the source gets the same as of the text."""
    device = ScriptedDevice(str.upper)
    with Router(device) as router:
        assert router.generate(prompt).text == "CAFÉ"
        assert router.route(prompt).source == "on_device"
        assert router.generate(prompt).usage.prompt_tokens == len(IDS)
    assert device.requests[0].tokens.token_ids == tuple(IDS)


def test_end_token_may_be_in_a_prompt_of_ids() -> None:
    """Programs begin a document with it; as text it would be spelled out."""
    device = ScriptedDevice("a fox")
    with Router(device) as router:
        assert router.generate([256, *IDS]).text == "a fox"
    assert device.requests[0].tokens.token_ids == (256, *IDS)


def test_classify_sees_the_text_of_token_ids() -> None:
    """So that what is private as text is private as ids."""
    seen = []

    def classify(prompt: str) -> Privacy:
        seen.append(prompt)
        return Privacy.PRIVATE

    cloud = ScriptedCloud("leaked")
    with Router(ScriptedDevice(), cloud=cloud, mode="only_in_cloud", classify=classify) as router:
        with pytest.raises(NoSourceError):
            router.generate(IDS)
        with pytest.raises(NoSourceError):
            router.score(IDS)
    assert seen == [TEXT, TEXT]
    assert not cloud.requests


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([], "the prompt is empty"),
        ([65, 257], "the prompt's token 1 is not in the vocabulary of 257 tokens"),
        ([-1], "the prompt's token 0 is not in the vocabulary"),
        ([65, "secret"], "the prompt's item 1 is of type str; the prompt must be text, or a list"),
        ([True], "item 0 is of type bool"),
        ([65.5], "item 0 is of type float"),
        ([[65]], "item 0 is of type list"),
        (b"secret", "of type bytes; it must be text, or a list of token ids"),
        (None, "of type NoneType"),
        ({65: 66}, "of type dict"),
        (Path("secret"), "of type"),
    ],
)
@pytest.mark.parametrize("call", ["generate", "route", "score"])
def test_prompt_that_is_none_is_refused(call: str, prompt: object, words: str) -> None:
    """By each call, and the message quotes nothing of it."""
    with Router(ScriptedDevice()) as router, pytest.raises(RequestError, match=words) as refused:
        getattr(router, call)(prompt)
    assert "secret" not in str(refused.value)
