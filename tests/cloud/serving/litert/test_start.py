"""`serve --engine litert`: what a first and a later start do, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.serving.engine.load_engine import load_model
from edgewise_cloud.serving.litert import conversion, prepare
from edgewise_edge.runtime import litert
from edgewise_edge.store.cache_folder import cache_folder
from edgewise_edge.store.manifest import MODEL_FILE
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.command_line import RunCommand
from tests.support.generate_requests import PROMPT, generation, received_tokens
from tests.support.litert_start import SETTINGS, FirstStart
from tests.support.progress import Recorded


def steps(checkpoint: Path) -> list[str]:
    """Those of another start."""
    progress = Recorded()
    load_model(str(checkpoint), SETTINGS, progress)
    return progress.steps


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that are converted; one is only noted, and its old conversion is copied."""
    made: list[str] = []
    served = cache_folder() / "served"
    kept = served / ".kept"
    if not kept.exists():
        shutil.copytree(next(served.glob("[!.]*")), kept)

    def convert(checkpoint: str, out: Path, _progress: object) -> None:
        made.append(checkpoint)
        shutil.copytree(kept, out)

    monkeypatch.setattr(prepare, "convert_in_child", convert)
    return made


def test_a_first_start_converts(first_start: FirstStart) -> None:
    """In a process of its own, whose progress is shown; TensorFlow is imported there."""
    names = list(dict.fromkeys(step.split()[0] for step in first_start.progress.steps))
    assert names == [
        "importing",
        "reading",
        "converting",
        "quantizing",
        "trying",
        "predicting",
        "loading",
    ]
    assert first_start.model.name == "small"
    assert first_start.model.engine == "litert"


def test_a_later_start_converts_nothing(first_start: FirstStart, conversions: list[str]) -> None:
    """Nor when the checkpoint lies elsewhere: what counts is its content."""
    assert steps(first_start.checkpoint) == [f"loading {first_start.checkpoint}"]
    moved = shutil.copytree(first_start.checkpoint, first_start.checkpoint.with_name("moved"))
    assert steps(moved) == [f"loading {moved}"]
    assert conversions == []


def test_another_checkpoint_and_a_damaged_conversion_are_converted(
    first_start: FirstStart, conversions: list[str]
) -> None:
    """Each once."""
    changed = shutil.copytree(first_start.checkpoint, first_start.checkpoint.with_name("changed"))
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps(config | {"resid_pdrop": 0.2}))
    for _ in range(2):
        steps(changed)
    assert conversions == [str(changed)]
    conversions.clear()
    for folder in (cache_folder() / "served").glob("[!.]*"):
        with (folder / MODEL_FILE).open("r+b") as file:
            file.write(b"damage")
    for _ in range(2):
        steps(first_start.checkpoint)
    assert conversions == [str(first_start.checkpoint)]


def test_without_a_cache_folder_nothing_is_kept(
    first_start: FirstStart, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is served all the same, and its files are gone."""
    monkeypatch.setattr(prepare, "cache_folder", lambda: Path(os.devnull) / "edgewise")
    for _ in range(2):
        load_model(str(first_start.checkpoint), SETTINGS)
    assert len(conversions) == 2


def test_what_the_conversion_refuses_is_told(tmp_path: Path) -> None:
    """As an error of its own type, from the process that converts."""
    with pytest.raises(CheckpointError, match="no Keras model"):
        conversion.convert_in_child(str(tmp_path), tmp_path / "out", Recorded())
    assert not (tmp_path / "out").exists()


def test_it_answers_and_needs_no_tensorflow(first_start: FirstStart) -> None:
    """The command, on a later start: its log names the agreement, its answer is the engine's own."""
    programs = first_start.programs
    programs.reset()
    for position, token in enumerate(PROMPT):
        logits = programs.decode([token], [position], 0)
    with (
        serving(first_start.checkpoint) as (port, messages),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = pb_grpc.GeneratorStub(channel)
        model = stub.GetModel(pb.GetModelRequest())
        tokens = received_tokens(stub.Generate(generation(model.vocabulary)))
    assert tokens[0] == logits[0].argmax()
    assert model.name == "small"
    assert not any(message.startswith(("importing", "converting")) for message in messages)
    (agreement,) = (each for each in messages if "likeliest" in each)
    assert agreement.startswith("small in 8 bits finds the same likeliest token as Keras at ")


@contextmanager
def serving(checkpoint: Path) -> Iterator[tuple[str, list[str]]]:
    """The command while it runs: its port, and what it logged until it was ready."""
    command = [Path(sys.executable).with_name("edgewise-cloud"), "serve", "--engine", "litert"]
    command += ["--model", checkpoint, "--port", "0", "--log-format", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        messages = [""]
        while not messages[-1].startswith("ready"):
            messages.append(json.loads(process.stderr.readline())["message"])
        yield messages[-1].rpartition(":")[2], messages
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0


def test_bfloat16_is_refused(run_command: RunCommand) -> None:
    """Before anything is loaded; the message says what to leave out."""
    done = run_command("serve", "--engine", "litert", "--dtype", "bfloat16")
    assert done.returncode == 2
    assert "--dtype is bfloat16, but --engine litert" in done.stderr


def test_without_the_kernel_it_is_refused(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be no faster than Keras; the message says how to get it."""
    monkeypatch.setattr(litert.attention, "_kernel", lambda: None)
    done = run_command("serve", "--engine", "litert")
    assert done.returncode == 2
    assert "install a C compiler" in done.stderr
