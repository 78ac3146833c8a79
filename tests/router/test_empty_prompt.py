"""An empty prompt: a new text begins, after the end-of-text token."""

import pytest

from edgewise import Privacy, RequestError, Router
from edgewise.testing import ScriptedCloud, ScriptedDevice, hands_off_after
from edgewise_edge import Tokenizer

END = 256  # of scripted sources, whose other tokens are bytes
STORY = "A fox lived."


def test_an_empty_prompt_begins_a_text() -> None:
    """After the end-of-text token, which is its one token."""
    device = ScriptedDevice(STORY)
    with Router(device) as router:
        generation = router.generate("")
        assert router.route("").source == "on_device"
    assert generation.text == STORY
    assert (generation.finish_reason, generation.usage.prompt_tokens) == ("stop", 1)
    assert device.requests[0].tokens.token_ids == (END,)


def test_a_begun_text_is_handed_over() -> None:
    """The other source continues after the same token, which is the prompt there, too."""
    device, cloud = ScriptedDevice(STORY, hands_off_after(5)), ScriptedCloud(STORY)
    with Router(device, cloud=cloud) as router:
        generation = router.generate("")
    assert generation.text == STORY
    assert [segment.source for segment in generation.segments] == ["on_device", "in_cloud"]
    (sent,) = cloud.requests
    assert sent.tokens.token_ids == (END, *STORY[:5].encode())
    assert sent.tokens.prompt_tokens == generation.usage.prompt_tokens == 1


def test_classify_decides_about_an_empty_prompt() -> None:
    """What is begun may become private, as any other text."""
    seen, cloud = list[str](), ScriptedCloud(STORY)

    def classify(prompt: str) -> Privacy:
        seen.append(prompt)
        return Privacy.PRIVATE

    with Router(ScriptedDevice(STORY), cloud=cloud, classify=classify) as router:
        assert router.generate("", mode="prefer_in_cloud").source == "on_device"
    assert seen == [""]
    assert not cloud.requests


def test_a_model_without_an_end_token_begins_no_text() -> None:
    """The message says why, and what to do."""
    tokenizer = Tokenizer({bytes([byte]): byte for byte in range(256)}, {})
    with (
        Router(ScriptedDevice(STORY, tokenizer=tokenizer)) as router,
        pytest.raises(RequestError, match=r"vocabulary has no end-of-text token .* at least one"),
    ):
        router.generate("")


def test_an_empty_list_of_ids_names_the_way_out() -> None:
    """Ids are taken as they are: none is no prompt."""
    with (
        Router(ScriptedDevice()) as router,
        pytest.raises(RequestError, match="the text '' to begin"),
    ):
        router.generate([])


def test_an_empty_prompt_has_no_score() -> None:
    """It has no token of its own that could be likely."""
    with (
        Router(ScriptedDevice()) as router,
        pytest.raises(RequestError, match=r"empty; .* to score"),
    ):
        router.score("")
