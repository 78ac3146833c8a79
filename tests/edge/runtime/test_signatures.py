"""Models whose signatures do not match their manifest."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewise_edge import DeviceModel, Manifest, ModelIncompatibleError
from edgewise_edge.runtime.backend import Shape, SignatureShapes
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.runtime.signatures import check_signatures
from edgewise_edge.store.manifest import MODEL_FILE, Architecture
from tests.conftest import CONTEXT

Signatures = dict[str, SignatureShapes]


def test_a_model_with_fewer_layers_is_refused(exact_folder: Path) -> None:
    """The missing cache is named before anything runs."""
    wrong = Architecture(264, CONTEXT, 3, 2, 16)
    with pytest.raises(ModelIncompatibleError, match="key_2"):
        Runtime.load(exact_folder / MODEL_FILE, wrong, threads=1)


def test_a_vocabulary_of_another_size_is_refused(exact_folder: Path) -> None:
    """LiteRT would write the logits past the end of their buffer."""
    shape = Manifest.read(exact_folder).architecture
    for size in (shape.vocabulary_size - 10, shape.vocabulary_size + 10):
        wrong = dataclasses.replace(shape, vocabulary_size=size)
        with pytest.raises(ModelIncompatibleError, match="logits has shape"):
            Runtime.load(exact_folder / MODEL_FILE, wrong, threads=1)


@pytest.fixture(scope="module")
def shape(exact_model: DeviceModel) -> Architecture:
    return exact_model.runtime.architecture


@pytest.fixture
def signatures(exact_model: DeviceModel) -> Signatures:
    return dict(exact_model.runtime.backend.signatures)


@pytest.mark.parametrize("name", ["decode", "prefill"])
def test_a_model_without_a_signature_is_refused(
    signatures: Signatures, shape: Architecture, name: str
) -> None:
    """The missing signature is named, and so are those that exist."""
    check_signatures(signatures, shape)
    del signatures[name]
    with pytest.raises(ModelIncompatibleError, match=rf"no signature '{name}', it has \['"):
        check_signatures(signatures, shape)


def test_a_model_without_scores_is_accepted(signatures: Signatures, shape: Architecture) -> None:
    """Models from older converters have none."""
    del signatures["score"]
    check_signatures(signatures, shape)


TENSORS = [
    ("decode", "inputs", "tokens"),
    ("decode", "inputs", "key_0"),
    ("decode", "outputs", "new_value_1"),
    ("decode", "outputs", "logits"),
    ("prefill", "inputs", "positions"),
    ("prefill", "inputs", "mask"),
    ("prefill", "inputs", "last"),
    ("prefill", "outputs", "new_key_1"),
    ("score", "inputs", "next"),
    ("score", "outputs", "new_value_0"),
    ("score", "outputs", "top_ids"),
]


def changed(
    signatures: Signatures, signature: str, kind: str, change: Callable[[dict[str, Shape]], object]
) -> Signatures:
    """`signatures` after a `change` of one signature's inputs or outputs."""
    tensors = dict(getattr(signatures[signature], kind))
    change(tensors)
    return signatures | {
        signature: dataclasses.replace(signatures[signature], **{kind: tensors}),
    }


@pytest.mark.parametrize(("signature", "kind", "tensor"), TENSORS)
def test_a_missing_tensor_is_refused(
    signatures: Signatures, shape: Architecture, signature: str, kind: str, tensor: str
) -> None:
    """The tensor and its signature are named."""
    found = changed(signatures, signature, kind, lambda tensors: tensors.pop(tensor))
    with pytest.raises(
        ModelIncompatibleError, match=rf"{kind} of .*'{signature}': missing \['{tensor}'\]"
    ):
        check_signatures(found, shape)


@pytest.mark.parametrize(("signature", "kind"), [("decode", "inputs"), ("prefill", "outputs")])
def test_an_unknown_tensor_is_refused(
    signatures: Signatures, shape: Architecture, signature: str, kind: str
) -> None:
    """The model may be for a later runtime, say."""
    found = changed(signatures, signature, kind, lambda tensors: tensors.update(surprise=(1,)))
    with pytest.raises(
        ModelIncompatibleError, match=rf"'{signature}': missing \[\], unknown \['surprise'\]"
    ):
        check_signatures(found, shape)


@pytest.mark.parametrize(
    ("signature", "kind", "tensor", "size"),
    [
        ("decode", "inputs", "tokens", (1, 1)),
        ("decode", "inputs", "mask", (1,)),
        ("decode", "inputs", "key_1", (1, 3, 8)),
        ("decode", "outputs", "new_key_0", (1, 2, 4)),
        ("decode", "outputs", "logits", (1, 264)),
        ("prefill", "inputs", "last", (2,)),
        ("prefill", "inputs", "value_0", (1, 16)),
        ("prefill", "outputs", "new_value_1", (1, 2, 16)),
        ("prefill", "outputs", "logits", (263,)),
        ("score", "inputs", "next", (1, 1)),
        ("score", "outputs", "logprobs", (1, 264)),
        ("score", "outputs", "top_logprobs", (1, 21)),
        ("score", "outputs", "top_ids", (20,)),
    ],
)
def test_a_tensor_of_another_shape_is_refused(
    signatures: Signatures, shape: Architecture, signature: str, kind: str, tensor: str, size: Shape
) -> None:
    """The tensor, its signature and its shape are named: its buffer would not fit."""
    found = changed(signatures, signature, kind, lambda tensors: tensors.update({tensor: size}))
    with pytest.raises(
        ModelIncompatibleError,
        match=rf"{kind} of .*'{signature}': {tensor} has shape {re.escape(str(size))}",
    ):
        check_signatures(found, shape)
