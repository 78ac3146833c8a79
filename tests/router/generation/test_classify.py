"""Whether a prompt is private: by the request, the app's hook and the router's default."""

import logging
from pathlib import Path

import pytest

from edgewise import DeviceState, LatencyLog, Router
from edgewise.generation.request_builder import resolve_privacy
from edgewise.policy.types import Privacy
from edgewise_edge import Tokenizer

PRIVATE, ALLOW = Privacy.PRIVATE, Privacy.ALLOW_CLOUD


@pytest.mark.parametrize("default", Privacy)
@pytest.mark.parametrize("asked", [None, *Privacy])
def test_without_a_hook_the_request_decides_or_the_default(
    asked: Privacy | None, default: Privacy
) -> None:
    """The default is for requests that say nothing."""
    assert resolve_privacy("the", asked, None, default) is (asked or default)


@pytest.mark.parametrize("default", Privacy)
@pytest.mark.parametrize("asked", [None, ALLOW])
@pytest.mark.parametrize("said", [*Privacy, *map(str, Privacy)])
def test_hook_decides_unless_the_request_is_private(
    asked: Privacy | None, default: Privacy, said: Privacy | str
) -> None:
    """Even if the request allows the cloud, and whatever the default is."""
    assert resolve_privacy("the", asked, lambda _: said, default) is Privacy(said)


@pytest.mark.parametrize("default", Privacy)
def test_hook_cannot_make_a_private_request_public(default: Privacy) -> None:
    """It is not even called."""
    seen = []
    assert resolve_privacy("the", PRIVATE, seen.append, default) is PRIVATE
    assert seen == []


@pytest.mark.parametrize("said", [None, "", "public", "PRIVATE", True, 1, object()])
def test_invalid_result_of_the_hook_means_private(said: object) -> None:
    """Nothing is guessed."""
    assert resolve_privacy("the", ALLOW, lambda _: said, ALLOW) is PRIVATE


def test_hook_that_raises_means_private(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has only the type of the error, since its text may hold the prompt."""

    def hook(prompt: str) -> Privacy:
        raise LookupError(prompt)

    caplog.set_level(logging.DEBUG)
    assert resolve_privacy("a secret", ALLOW, hook, ALLOW) is PRIVATE
    assert "LookupError" in caplog.text
    assert "a secret" not in caplog.text
    assert [record.exc_info for record in caplog.records] == [None]


def test_hook_is_called_before_anything_else(
    exact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with the prompt as given, before it is even tokenized."""
    seen = []
    settings = {"device": DeviceState, "latency": LatencyLog()}

    def hook(prompt: str) -> str:
        seen.append(prompt)
        return "private"

    encode = Tokenizer.encode

    def recording(self: Tokenizer, text: str) -> list[int]:
        seen.append("tokens")
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode", recording)
    with Router(exact_folder, classify=hook, **settings) as router:
        router.generate("the water", max_tokens=1)
    assert seen == ["the water", "tokens"]
