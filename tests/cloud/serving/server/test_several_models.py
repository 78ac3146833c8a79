"""One service for the devices of two vocabularies."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from edgewise.cloud.client import CloudClient
from edgewise.cloud.config import CloudSecurity
from edgewise_cloud.console import SILENT
from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.engine.load_engines import load_engines
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.conftest import MERGES, write_checkpoint
from tests.support.generate_requests import generation, received_tokens, refusal
from tests.support.service import Running, serving


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with one merge more."""
    folder = tmp_path_factory.mktemp("newer") / "newer"
    return write_checkpoint(folder, seed=7, merges=[*MERGES, "o n"])


@pytest.fixture(scope="module")
def newer_vocabulary(newer: Path) -> str:
    return Tokenizer.from_folder(newer).fingerprint


@pytest.fixture(scope="module")
def both(exact_folder: Path, newer: Path) -> Iterator[Running]:
    from edgewise_cloud.serving.engine import batch
    from edgewise_cloud.serving.model.interface import Compilations
    from edgewise_cloud.serving.model.programs import CompiledPrograms

    with pytest.MonkeyPatch.context() as patch:
        # A few programs of the second one are used.
        patch.setattr(CompiledPrograms, "compilations", lambda *_: Compilations())
        patch.setattr(batch, "step_times", lambda *_: [])
        with serving(str(exact_folder), str(newer)) as running:
            yield running


@pytest.fixture(scope="module")
def stub(both: Running) -> Iterator[pb_grpc.GeneratorStub]:
    with grpc.insecure_channel(both.address) as channel:
        yield pb_grpc.GeneratorStub(channel)


def test_the_fingerprint_chooses_the_model(
    both: Running, stub: pb_grpc.GeneratorStub, vocabulary: str, newer_vocabulary: str
) -> None:
    """Each answers as it does alone, and the outcome says which it was."""
    both.outcomes.clear()
    old, new = (
        received_tokens(stub.Generate(generation(each))) for each in (vocabulary, newer_vocabulary)
    )
    assert len(old) == len(new) == 20
    assert old != new
    assert [outcome.model for outcome in both.outcomes] == ["exact", "newer"]


def test_a_device_is_told_of_its_own_model(
    both: Running, vocabulary: str, newer_vocabulary: str
) -> None:
    """By the client that routers use; a caller who names none is told of the first."""
    client = CloudClient(both.address, CloudSecurity())
    try:
        names = [client.model(each, 10).name for each in (newer_vocabulary, vocabulary, "")]
        assert names == ["newer", "exact", "exact"]
        assert client.get_load(newer_vocabulary, 10).slots == 2
    finally:
        client.close()


def test_a_third_vocabulary_is_refused_by_all_calls(stub: pb_grpc.GeneratorStub) -> None:
    """With the names of both models; so is a request without one."""
    other = "0" * 64
    for send in (
        lambda: stub.GetModel(pb.GetModelRequest(vocabulary=other)),
        lambda: stub.GetLoad(pb.GetLoadRequest(vocabulary=other)),
        lambda: list(stub.Generate(generation(other))),
        lambda: list(stub.Generate(generation(""))),
    ):
        code, text = refusal(send)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "'exact' or 'newer'" in text


class Steps:
    """A Progress that keeps its steps."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def step(self, text: str) -> None:
        self.said.append(text)

    def count(self, done: int, total: int, note: str = "") -> None:
        pass


class ScriptedEngine:
    """What load_engines needs of one."""

    def __init__(self, fingerprint: str) -> None:
        self.model = SimpleNamespace(tokenizer=SimpleNamespace(fingerprint=fingerprint))
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_progress_says_which_model_is_loaded() -> None:
    """Where there are several; one alone is loaded as ever."""
    steps = Steps()

    def load(checkpoint: str, _settings: object, progress: Steps) -> ScriptedEngine:
        progress.step("compiling")
        return ScriptedEngine(checkpoint)

    load_engines(["a/one", "two"], EngineSettings(), steps, load)
    load_engines(["one"], EngineSettings(), steps, load)
    assert steps.said == ["one: compiling", "two: compiling", "compiling"]


def test_models_of_one_vocabulary_exclude_each_other() -> None:
    """Also where only loading shows it; what was loaded is closed."""
    loaded = []

    def load(*_: object) -> ScriptedEngine:
        loaded.append(ScriptedEngine("same"))
        return loaded[-1]

    with pytest.raises(ServeError, match="--model one and --model two have the same vocabulary"):
        load_engines(["one", "two"], EngineSettings(), SILENT, load)
    assert [engine.closed for engine in loaded] == [True, True]
