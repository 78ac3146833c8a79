"""Loading the tokenizer of a model folder."""

from pathlib import Path

from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer
from edgewise_edge.errors import ModelCorruptError, ModelIncompatibleError
from edgewise_edge.store.manifest import Manifest


def load_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The verified tokenizer of a model folder; cheap, since the model is not loaded.

    Raises ModelCorruptError or ModelIncompatibleError.
    """
    manifest.verify(folder, TOKENIZER_FILES)
    tokenizer = Tokenizer.from_folder(folder)
    if tokenizer.fingerprint != manifest.vocabulary:
        raise ModelIncompatibleError(
            f"{folder}: the vocabulary's fingerprint differs from its manifest's; convert the model "
            "again"
        )
    if tokenizer.size > (size := manifest.architecture.vocabulary_size):
        raise ModelCorruptError(
            f"{folder}: its vocabulary has the id {tokenizer.size - 1}, but its model only {size} "
            "tokens; fetch or convert the model again"
        )
    return tokenizer
