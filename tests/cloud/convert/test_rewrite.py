"""The bundled model in each quantization: size, ops, and loss of quality."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.evaluate import PASSAGE
from edgewise_cloud.convert.flatbuffer import parsed
from edgewise_cloud.convert.quantization import Quantization
from edgewise_edge import Manifest, find_model
from edgewise_edge.decoding.load import load_tokenizer
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE
from tests.edge.runtime.scores import scores_one_by_one

BYTES_PER_WEIGHT = {
    Quantization.NONE: 4,
    Quantization.FLOAT16: 2,
    Quantization.INT8: 1,
    Quantization.INT4: 0.5,
}


@pytest.fixture(scope="module")
def folders(
    graphs_made_once: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[Quantization, Path]:
    """The bundled model, converted with each quantization, and compared on a part of our passage."""
    out = tmp_path_factory.mktemp("quantizations")
    text = [PASSAGE[:1000]]
    for quantization in Quantization:
        convert("tales", out / quantization, quantization, documents=text)
    return {quantization: out / quantization for quantization in Quantization}


def test_fewer_bits_make_a_smaller_file(folders: dict[Quantization, Path]) -> None:
    """The weights shrink; the graph and the scales do not."""
    size = {name: (folder / MODEL_FILE).stat().st_size for name, folder in folders.items()}
    assert size[Quantization.FLOAT16] < 0.55 * size[Quantization.NONE]
    assert size[Quantization.INT8] < 0.3 * size[Quantization.NONE]
    assert size[Quantization.INT4] < 0.62 * size[Quantization.INT8]


@pytest.mark.parametrize("quantization", Quantization)
def test_the_tied_embedding_is_stored_once(
    folders: dict[Quantization, Path], quantization: Quantization
) -> None:
    """One buffer, the largest, serves the lookup and the head."""
    folder = folders[quantization]
    shape = Manifest.read(folder).architecture
    model = parsed((folder / MODEL_FILE).read_bytes())
    sizes = [len(buffer.data) for buffer in model.buffers if buffer.data is not None]
    table = shape.vocabulary_size * shape.width * BYTES_PER_WEIGHT[quantization]
    assert sizes.count(table) == 1
    assert max(sizes) == table


def test_only_builtin_ops_are_used(folders: dict[Quantization, Path]) -> None:
    """No Flex and no custom ops: any TFLite runtime can run it."""
    for folder in (*folders.values(), find_model("tales")):
        model = parsed((folder / MODEL_FILE).read_bytes())
        assert model.operatorCodes
        for code in model.operatorCodes:
            assert code.builtinCode != schema.BuiltinOperator.CUSTOM
            assert code.customCode is None


def test_fewer_bits_lose_little_quality(folders: dict[Quantization, Path]) -> None:
    """The manifest has the increase in bits per byte."""
    lost = {name: Manifest.read(folder).conversion["lost"] for name, folder in folders.items()}
    assert abs(lost[Quantization.NONE]) < 1e-6
    assert abs(lost[Quantization.FLOAT16]) < 1e-3
    assert abs(lost[Quantization.INT8]) < 0.005
    assert abs(lost[Quantization.INT4]) < 0.03


@pytest.mark.parametrize("quantization", Quantization)
def test_scores_agree_with_decode_steps(
    folders: dict[Quantization, Path], quantization: Quantization
) -> None:
    """Up to the rounding of activations, which differs between the two where weights are integers."""
    folder = folders[quantization]
    shape = Manifest.read(folder).architecture
    runtime = Runtime.load(folder / MODEL_FILE, shape, threads=1)
    tokens = load_tokenizer(folder, Manifest.read(folder)).encode(PASSAGE)[:130]
    session = runtime.session()
    found = [session.score(tokens[at : at + 64], tokens[at + 1 : at + 65], 1) for at in (0, 64)]
    expected = scores_one_by_one(runtime, tokens[:129], 1)[1:]
    differences = [
        one.logprob - other.logprob
        for one, other in zip([*found[0], *found[1]], expected, strict=True)
    ]
    allowed = 0.2 if quantization in {Quantization.INT8, Quantization.INT4} else 1e-3
    assert np.abs(differences).max() < allowed
