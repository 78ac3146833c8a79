"""The bundled model in each quantization: size, ops, and loss of quality."""

from pathlib import Path

import numpy as np
import pytest

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.evaluate import PASSAGE
from edgewise_cloud.convert.flatbuffer import parsed
from edgewise_cloud.convert.quantization import Quantization
from edgewise_edge import Manifest, find_model
from edgewise_edge.decoding.load import load_tokenizer
from edgewise_edge.runtime.litert import CompiledBackend
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.runtime.signatures import ATTENTION, is_fused
from edgewise_edge.store.manifest import MODEL_FILE
from tests.edge.runtime.scores import scores_one_by_one
from tests.support import attention_kernel

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


def test_any_tflite_runtime_can_run_it(folders: dict[Quantization, Path]) -> None:
    """No Flex ops, and the custom op only in the signatures that are there for it."""
    for folder in (*folders.values(), find_model("tales")):
        model = parsed((folder / MODEL_FILE).read_bytes())
        for signature in model.signatureDefs:
            operators = model.subgraphs[signature.subgraphIndex].operators
            names = {model.operatorCodes[each.opcodeIndex].customCode for each in operators}
            fused = is_fused(signature.signatureKey.decode())
            assert names == ({None, ATTENTION.encode()} if fused else {None})


def test_fewer_bits_lose_little_quality(folders: dict[Quantization, Path]) -> None:
    """The manifest has the increase in bits per byte."""
    lost = {name: Manifest.read(folder).conversion["lost"] for name, folder in folders.items()}
    assert abs(lost[Quantization.NONE]) < 1e-4  # our kernel keeps keys and values as float16
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


@pytest.mark.parametrize("quantization", [Quantization.NONE, Quantization.INT8])
def test_the_attention_kernel_writes_the_same_text(
    folders: dict[Quantization, Path], quantization: Quantization
) -> None:
    """Its likeliest tokens are those of builtin operators, or next to as likely."""
    if not attention_kernel.compiled():
        pytest.skip("there is no C compiler")
    folder = folders[quantization]
    manifest = Manifest.read(folder)
    shape = manifest.architecture
    prompt = load_tokenizer(folder, manifest).encode(PASSAGE)[:100]
    fused = Runtime.load(folder / MODEL_FILE, shape, threads=1).session()
    builtin = Runtime(CompiledBackend(folder / MODEL_FILE, 1), shape).session()
    assert fused.runtime.bytes_per_token == builtin.runtime.bytes_per_token // 2
    logits, expected = fused.forward(prompt), builtin.forward(prompt)
    for _ in range(80):
        token = int(logits.argmax())
        assert expected.max() - expected[token] < 0.25 * expected.std()
        logits, expected = fused.forward([token]), builtin.forward([token])
