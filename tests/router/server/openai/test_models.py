"""GET /v1/models, and the `model` of requests."""

import pytest

from tests.router.server.openai.served import CHAT, COMPLETIONS, RESPONSES, post, served

BODIES = {
    COMPLETIONS: {"prompt": "Hi"},
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    RESPONSES: {"input": "Hi"},
}


def test_model_is_listed_by_its_name_and_with_its_revision() -> None:
    """Each with the four keys of OpenAI's object, and to be looked up."""
    with served() as client:
        listed = client.get("/v1/models").json()
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == ["scripted", "scripted@1"]
        for model in listed["data"]:
            assert set(model) == {"id", "object", "created", "owned_by"}
            assert isinstance(model["created"], int)
            assert client.get(f"/v1/models/{model['id']}").json() == model


def test_unknown_model_is_not_found() -> None:
    """With OpenAI's body."""
    with served() as client:
        response = client.get("/v1/models/gpt-5")
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'scripted'" in error["message"]


@pytest.mark.parametrize("path", BODIES)
def test_requests_name_the_model_or_none(path: str) -> None:
    """Either name of it; another one is not found, so that nobody takes this model for that one."""
    with served() as client:
        for name in ("scripted", "scripted@1", None):
            assert post(client, path, model=name, **BODIES[path])["model"] == "scripted@1"
        response = client.post(path, json={"model": "gpt-5", **BODIES[path]})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
