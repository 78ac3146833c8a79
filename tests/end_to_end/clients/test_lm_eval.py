"""lm-eval, through HTTP, and `edgewise-cloud evaluate` measure the same."""

import json
from pathlib import Path

import pytest

from edgewise_cloud.convert.evaluate import PASSAGE
from edgewise_edge import find_model
from edgewise_edge.decoding.load import load_tokenizer
from edgewise_edge.store.manifest import Manifest
from tests.support.command_line import RunCommand
from tests.support.http.clients import client, run_client

# Documents that fit the model's window, with the end of another one before and a new token after.
PARAGRAPHS = PASSAGE.strip().split("\n\n")
DOCUMENTS = ["\n\n".join(PARAGRAPHS[n : n + 2]) for n in (0, 2, 4)]
TASK = """
task: passages
dataset_path: json
dataset_kwargs: {{data_files: {{test: {documents}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""


def by_lm_eval(server: str, folder: Path) -> float:
    """Bits per byte of all documents, by lm-eval's client of completions."""
    documents = folder / "documents.jsonl"
    lines = (json.dumps({"text": text}) + "\n" for text in DOCUMENTS)
    documents.write_text("".join(lines), encoding="utf-8")
    (folder / "passages.yaml").write_text(TASK.format(documents=documents), encoding="utf-8")
    model = {
        "model": "tales",
        "base_url": f"{server}/v1/completions",
        "tokenizer_backend": "huggingface",
        "tokenizer": find_model("tales"),
        "max_length": 512,
    }
    result = run_client(
        *(client("lm-eval", "lm-eval"), "run", "--model", "local-completions"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in model.items())),
        *("--tasks", "passages", "--include_path", folder, "--output_path", folder / "results"),
        HF_HUB_OFFLINE="1",
        HF_HOME=str(folder / "cache"),
    )
    assert not result.returncode, result.stdout + result.stderr
    [file] = (folder / "results").rglob("results_*.json")
    return json.loads(file.read_text(encoding="utf-8"))["results"]["passages"]["bits_per_byte,none"]


def by_evaluate(run_command: RunCommand, folder: Path) -> float:
    """The same by `edgewise-cloud evaluate`, which also predicts the end of a text unless told not to."""
    name = find_model("tales")
    tokenizer = load_tokenizer(name, Manifest.read(name))
    bits = 0.0
    for number, text in enumerate(DOCUMENTS):
        file = folder / f"{number}.txt"
        file.write_text(text, encoding="utf-8")
        tokens = str(len(tokenizer.encode(text)))
        result = run_command("evaluate", "tales", "--text", file, "--most-tokens", tokens, "--json")
        found = json.loads(result.stdout)
        assert found["text_bytes"] == len(text.encode())
        bits += found["device"]["bits_per_byte"] * found["text_bytes"]
    return bits / sum(len(text.encode()) for text in DOCUMENTS)


@pytest.mark.soak
def test_the_same_bits_per_byte(server: str, run_command: RunCommand, tmp_path: Path) -> None:
    """To four digits, over three passages: evaluate reads half of each as one prompt, and 8-bit sums round."""
    ours, theirs = by_evaluate(run_command, tmp_path), by_lm_eval(server, tmp_path)
    print(f"bits per byte: edgewise-cloud evaluate {ours:.6f}, lm-eval {theirs:.6f}")
    assert theirs == pytest.approx(ours, abs=5e-4)
