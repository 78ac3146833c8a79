"""Whether a prompt is private: the request, the `classify` hook and the router's default."""

import logging

import pytest

from edgewise.generation.request_builder import resolve_privacy
from edgewise.policy.types import Privacy
from edgewise_edge import Tokenizer
from tests.router.routers import scripted_router

PRIVATE, ALLOW = Privacy.PRIVATE, Privacy.ALLOW_CLOUD


@pytest.mark.parametrize("default", Privacy)
@pytest.mark.parametrize("requested", [None, *Privacy])
def test_without_a_hook_the_request_decides_or_else_the_default(
    requested: Privacy | None, default: Privacy
) -> None:
    """The default is for requests without a privacy of their own."""
    assert resolve_privacy("the", requested, None, default) is (requested or default)


@pytest.mark.parametrize("default", Privacy)
@pytest.mark.parametrize("requested", [None, ALLOW])
@pytest.mark.parametrize("result", [*Privacy, *map(str, Privacy)])
def test_hook_decides_unless_the_request_is_private(
    requested: Privacy | None, default: Privacy, result: Privacy | str
) -> None:
    """Even if the request allows the cloud, and whatever the default is."""
    assert resolve_privacy("the", requested, lambda _: result, default) is Privacy(result)


@pytest.mark.parametrize("default", Privacy)
def test_hook_cannot_make_a_private_request_public(default: Privacy) -> None:
    """It is not even called."""
    prompts = []
    assert resolve_privacy("the", PRIVATE, prompts.append, default) is PRIVATE
    assert prompts == []


@pytest.mark.parametrize("result", ["", "public", "PRIVATE"])
def test_invalid_result_of_the_hook_means_private(result: object) -> None:
    """Even if the request and the default allow the cloud."""
    assert resolve_privacy("the", ALLOW, lambda _: result, ALLOW) is PRIVATE


def test_hook_that_raises_means_private(caplog: pytest.LogCaptureFixture) -> None:
    """Only the error's type is logged, since its message may quote the prompt."""

    def hook(prompt: str) -> Privacy:
        raise LookupError(prompt)

    caplog.set_level(logging.DEBUG)
    assert resolve_privacy("a secret", ALLOW, hook, ALLOW) is PRIVATE
    assert "LookupError" in caplog.text
    assert "a secret" not in caplog.text
    assert [record.exc_info for record in caplog.records] == [None]


def test_hook_is_called_before_the_prompt_is_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with the prompt as given."""
    calls = []

    def hook(prompt: str) -> str:
        calls.append(prompt)
        return "private"

    encode = Tokenizer.encode

    def recording_encode(self: Tokenizer, text: str) -> list[int]:
        calls.append("encode")
        return encode(self, text)

    monkeypatch.setattr(Tokenizer, "encode", recording_encode)
    with scripted_router(classify=hook) as router:
        router.stream("the water").close()
    assert calls == ["the water", "encode"]
