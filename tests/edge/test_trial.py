"""Models that are not bundled are tried in a child process before they are loaded here."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from ai_edge_litert.schema_py_generated import Model

from edgewise_edge import DeviceModel, ModelIncompatibleError, trial
from edgewise_edge.runtime.backend import Step, Tensors
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE
from tests.conftest import CONTEXT
from tests.support.damaged_folder import copied_model, replace_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled model, on a machine that has never seen it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr("edgewise_edge.store.passed._in_this_process", set())
    monkeypatch.setattr(trial, "_refusals", {})
    return copied_model(tmp_path / "model")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the children that are started."""
    commands, run = [], subprocess.run

    def recorded(command: list[str], **options: object) -> object:
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr("subprocess.run", recorded)
    return commands


def python(path: Path, script: str) -> str:
    """A program that takes the place of Python."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_model_is_tried_once(folder: Path, trials: list[list[str]], tmp_path: Path) -> None:
    """As it will be loaded, with the same threads and prepared weights; later processes know."""
    weights = tmp_path / "weights"
    for _ in range(2):
        DeviceModel.load(folder, threads=2, weight_cache=weights)
    (command,) = trials
    assert command[-4:] == ["--threads", "2", "--weight-cache", str(weights)]
    assert len(list((tmp_path / "caches" / "edgewise" / "passed").iterdir())) == 1
    DeviceModel.load(folder, threads=1, weight_cache=weights)
    assert len(trials) == 2


def test_a_model_that_was_tried_as_it_is_loaded_is_not_tried_again(
    folder: Path, trials: list[list[str]], tmp_path: Path
) -> None:
    """An update tries it before it is used."""
    trial.try_model(folder, threads=1, weight_cache=tmp_path / "weights")
    DeviceModel.load(folder, threads=1, weight_cache=tmp_path / "weights")
    assert len(trials) == 1


def test_every_signature_is_tried(
    exact_model: DeviceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the end of the context window; a broken one may crash the process."""
    backend, runs = exact_model.runtime.backend, dict[str, int]()

    class Recorded:
        name, signatures = backend.name, backend.signatures

        def bind(self, signature: str, inputs: Tensors, outputs: Tensors) -> Step:
            rows = inputs["tokens"].size + inputs["key_0"].shape[0]
            runs[signature] = max(rows, runs.get(signature, 0))
            return backend.bind(signature, inputs, outputs)

    runtime = Runtime(Recorded(), exact_model.runtime.architecture)
    monkeypatch.setattr(runtime, "chunk", 128)
    trial._run(runtime)
    assert sorted(runs) == ["decode", "prefill", "score"]
    assert runs["prefill"] == runs["score"] == CONTEXT


def test_a_bundled_model_is_not_tried(folder: Path, trials: list[list[str]]) -> None:
    """It is only checked for damage."""
    DeviceModel.load("tales", threads=2)
    assert not trials


def test_a_model_whose_memory_of_passing_was_planted_is_tried(
    folder: Path, trials: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of another user's, or a link."""
    DeviceModel.load(folder, threads=1)
    monkeypatch.setattr("edgewise_edge.store.passed._in_this_process", set())
    (passed,) = (tmp_path / "caches" / "edgewise" / "passed").iterdir()
    passed.rename(tmp_path / "elsewhere")
    passed.symlink_to(tmp_path / "elsewhere")
    DeviceModel.load(folder, threads=1)
    assert len(trials) == 2


def test_a_truncated_model_is_refused(folder: Path, trials: list[list[str]]) -> None:
    """Although its manifest matches. For a minute it is not tried again."""
    replace_model(folder, (folder / MODEL_FILE).read_bytes()[:4096])
    for _ in range(2):
        with pytest.raises(ModelIncompatibleError, match="damaged"):
            DeviceModel.load(folder, threads=1)
    assert len(trials) == 1


def test_a_trial_that_the_system_ends_says_nothing_of_the_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory is short: the error is another one, so that nobody remembers the model as bad."""
    monkeypatch.setattr(sys, "executable", python(tmp_path / "py", "echo started; kill -KILL $$"))
    with pytest.raises(trial.TrialFailedError, match="SIGKILL"):
        trial.try_model(folder)


def test_a_model_with_an_impossible_size_is_refused(folder: Path) -> None:
    """Before it runs, which may take minutes."""
    content = bytearray((folder / MODEL_FILE).read_bytes())
    model = Model.GetRootAs(content, 0)
    graph = model.Subgraphs(1)
    found = (graph.Tensors(index) for index in range(graph.TensorsLength()))
    tensor = next(tensor for tensor in found if tensor.ShapeAsNumpy().tolist() == [1, 256])
    tensor.ShapeAsNumpy()[0] = 2**23
    replace_model(folder, bytes(content))
    with pytest.raises(ModelIncompatibleError, match=r"is damaged: its tensor .*\[8388608"):
        DeviceModel.load(folder, threads=1)


def test_a_model_that_crashes_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the signal."""
    monkeypatch.setattr(sys, "executable", python(tmp_path / "py", "echo started; kill -SEGV $$"))
    with pytest.raises(ModelIncompatibleError, match=r"crashed in its trial \(SIGSEGV\)"):
        DeviceModel.load(folder, threads=1)


def test_a_long_trial_gives_a_sign_of_life(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Which an app without logging shows on standard error. A short one is silent."""
    monkeypatch.setattr(trial, "PATIENCE", trial.TIMEOUT)
    trial.try_model(folder)
    assert not caplog.records
    monkeypatch.setattr(trial, "PATIENCE", 0.01)
    monkeypatch.setattr(trial, "TIMEOUT", 1.0)
    monkeypatch.setattr(sys, "executable", python(tmp_path / "py", "exec sleep 60"))
    with pytest.raises(ModelIncompatibleError, match="the trial took longer than 1 s"):
        trial.try_model(folder)
    assert (
        f"trying the new model in {folder} in a child process; this takes up to 1 s" in caplog.text
    )


@pytest.mark.parametrize("script", [None, "exit 2", "echo hello"])
def test_an_app_that_cannot_start_python_checks_for_damage(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    script: str | None,
) -> None:
    """With a warning; a sound model is loaded, and a truncated one refused."""
    if script is None:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", python(tmp_path / "py", script))
    DeviceModel.load(folder, threads=1)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    replace_model(folder, (folder / MODEL_FILE).read_bytes()[:4096])
    with pytest.raises(ModelIncompatibleError, match="damaged"):
        DeviceModel.load(folder, threads=1)


def test_the_child_finds_the_package_where_the_parent_did(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Although the parent's path is its own, and the working folder holds modules of other apps."""
    (tmp_path / "numpy.py").write_text("raise SystemExit(5)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert trial.try_model(folder) > 0
