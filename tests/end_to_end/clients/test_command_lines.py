"""Command lines of other people: curl, and Simon Willison's llm."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.http.clients import client, run_client

PROMPT = "Once upon a time"
MODELS = """
- model_id: tales
  model_name: tales
  api_base: {server}/v1
  completion: true
- model_id: tales-chat
  model_name: tales
  api_base: {server}/v1
"""


def curl(*arguments: str) -> str:
    """What curl prints; it exits with 22 for a status of 400 or more."""
    command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "60", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def body(**more: object) -> list[str]:
    """Options that post a request for a short completion."""
    asked = {"model": "tales", "prompt": PROMPT, "max_tokens": 12, "temperature": 0, **more}
    return ["--json", json.dumps(asked)]


def test_curl_completes_and_streams(server: str) -> None:
    """A stream is the same text, an event for each line with `data: `."""
    [choice] = json.loads(curl(*body(), f"{server}/v1/completions"))["choices"]
    lines = curl("-N", *body(stream=True), f"{server}/v1/completions").splitlines()
    *events, done = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert done == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == choice["text"]


def test_curl_lists_the_models(server: str) -> None:
    """A GET."""
    assert json.loads(curl(f"{server}/v1/models"))["object"] == "list"


@pytest.fixture
def llm(server: str, tmp_path: Path) -> list[str]:
    """The command, whose user has described our server in a file as its manual says."""
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(server=server))
    return [str(client("apps", "llm")), "-o", "max_tokens", "12", "-o", "temperature", "0"]


@pytest.mark.parametrize("model", ["tales", "tales-chat"])
def test_llm_streams_and_completes(llm: list[str], model: str, tmp_path: Path) -> None:
    """The same text, from a completion model and a chat model."""
    texts = []
    for option in ("--stream", "--no-stream"):
        result = run_client(*llm, "-m", model, PROMPT, option, LLM_USER_PATH=str(tmp_path))
        assert not result.returncode, result.stderr
        texts.append(result.stdout)
    assert texts[0] == texts[1] != "\n"
