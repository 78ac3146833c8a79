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


@pytest.fixture(scope="module")
def text(server: str) -> str:
    """What the model writes."""
    [choice] = json.loads(curl(*body(), f"{server}/v1/completions"))["choices"]
    return choice["text"]


def test_curl_streams(server: str, text: str) -> None:
    """The same text, an event for each line with `data: `."""
    lines = curl("-N", *body(stream=True), f"{server}/v1/completions").splitlines()
    *events, done = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert done == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == text


def test_curl_lists_the_models(server: str) -> None:
    """A GET."""
    assert json.loads(curl(f"{server}/v1/models"))["object"] == "list"


@pytest.mark.parametrize(("model", "options"), [("tales", []), ("tales-chat", ["--no-stream"])])
def test_llm_prints_the_text(
    server: str, text: str, model: str, options: list[str], tmp_path: Path
) -> None:
    """With a completion model and a chat model, described in a file as llm's manual says."""
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(server=server))
    greedy = ["-o", "max_tokens", "12", "-o", "temperature", "0"]
    result = run_client(
        client("apps", "llm"), "-m", model, PROMPT, *greedy, *options, LLM_USER_PATH=str(tmp_path)
    )
    assert result.stdout.strip() == text.strip(), result.stderr
