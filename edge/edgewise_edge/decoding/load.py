"""Loading the tokenizer of a model folder."""

from pathlib import Path
from weakref import WeakValueDictionary

from edgewise_edge.decoding.prepared import kept
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer
from edgewise_edge.errors import ModelCorruptError, ModelIncompatibleError
from edgewise_edge.store.manifest import Manifest

# By the sha256 of its files: a router and its model use the same one, and so do two revisions.
_in_use: WeakValueDictionary[tuple[str, ...], Tokenizer] = WeakValueDictionary()


def load_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The verified tokenizer of a model folder; cheap, since the model is not loaded.

    One that is in use already is returned again: GPT-2's takes 14 MB and a tenth of a second. Raises ModelCorruptError or ModelIncompatibleError.
    """
    manifest.verify(folder, TOKENIZER_FILES)
    key = tuple(manifest.files[name].sha256 for name in TOKENIZER_FILES)
    tokenizer = _in_use.get(key)
    if tokenizer is None:
        # What was read may have been replaced meanwhile: it is kept only if it is the model's own.
        vocabulary = kept(key, manifest.vocabulary, lambda: Tokenizer.read(folder))
        tokenizer = Tokenizer(*vocabulary)
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
    return _in_use.setdefault(key, tokenizer)
