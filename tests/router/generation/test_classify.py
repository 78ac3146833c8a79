"""Whether a prompt is private: what the request, the app's hook and the router's default say."""

import logging
from pathlib import Path

import pytest

from edgewise import DeviceState, LatencyLog, Router
from edgewise.generation.request_builder import classified
from edgewise.policy.types import Privacy

PRIVATE, ALLOW = Privacy.PRIVATE, Privacy.ALLOW_CLOUD


@pytest.mark.parametrize("default", Privacy)
@pytest.mark.parametrize("asked", [None, *Privacy])
def test_without_a_hook_the_request_says_it_and_else_the_default(
    asked: Privacy | None, default: Privacy
) -> None:
    """The default is for requests that say nothing."""
    assert classified("the", asked, None, default) is (asked or default)


@pytest.mark.parametrize("default", Privacy)
@pytest.mark.parametrize("asked", [None, ALLOW])
@pytest.mark.parametrize("said", [*Privacy, *map(str, Privacy)])
def test_the_hook_says_it_for_what_is_not_asked_to_be_private(
    asked: Privacy | None, default: Privacy, said: Privacy | str
) -> None:
    """Also where the request would allow the cloud, and whatever the default."""
    assert classified("the", asked, lambda _: said, default) is Privacy(said)


@pytest.mark.parametrize("default", Privacy)
def test_no_hook_makes_a_private_request_any_less_so(default: Privacy) -> None:
    """It is not even asked."""
    seen = []
    assert classified("the", PRIVATE, seen.append, default) is PRIVATE
    assert seen == []


@pytest.mark.parametrize("said", [None, "", "public", "PRIVATE", True, 1, object()])
def test_a_hook_that_says_no_such_thing_means_private(said: object) -> None:
    """Nothing is guessed from it."""
    assert classified("the", ALLOW, lambda _: said, ALLOW) is PRIVATE


def test_a_hook_that_raises_means_private_and_the_log_does_not_quote_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its error is told by its kind, since its text may hold the prompt."""

    def hook(prompt: str) -> Privacy:
        raise LookupError(prompt)

    caplog.set_level(logging.DEBUG)
    assert classified("a secret", ALLOW, hook, ALLOW) is PRIVATE
    assert "LookupError" in caplog.text
    assert "a secret" not in caplog.text
    assert [record.exc_info for record in caplog.records] == [None]


def test_the_hook_is_called_before_anything_else(
    exact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the prompt as it was given, once, before it is even tokenised."""
    seen = []
    settings = {"device": DeviceState, "latency": LatencyLog()}

    def hook(prompt: str) -> str:
        seen.append(prompt)
        return "private"

    with Router(exact_folder, classify=hook, **settings) as router:
        tokenizer = router._on_device.tokenizer
        encode = tokenizer.encode

        def noted(text: str) -> list[int]:
            seen.append("tokens")
            return encode(text)

        monkeypatch.setattr(tokenizer, "encode", noted)
        router.generate("the water", max_tokens=1)
    assert seen == ["the water", "tokens"]
