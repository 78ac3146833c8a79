"""Training a byte-level BPE vocabulary in GPT-2's file format."""

import json
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer, Regex
from tokenizers.pre_tokenizers import Sequence, Split

from edgewise_cloud.errors import TextError
from edgewise_cloud.files import atomic_write
from edgewise_edge.decoding.tokenizer import END_OF_TEXT, MERGES_FILE, VOCABULARY_FILE


def train_vocabulary(texts: list[str], size: int, folder: Path) -> None:
    """Write `vocab.json` and `merges.txt` of `size` tokens learned from `texts` into `folder`.

    The end-of-text token has the last id, as in GPT-2's own vocabulary. Raises TextError, and
    writes nothing, if the texts do not yield that many tokens; OSError.
    """
    trainer = ByteLevelBPETokenizer()
    trainer.pre_tokenizer = Sequence([trainer.pre_tokenizer, _cut_long_words()])
    trainer.train_from_iterator(texts, vocab_size=size - 1, show_progress=False)
    if (found := trainer.get_vocab_size() + 1) != size:
        raise TextError(
            f"the text is too short for a vocabulary of {size} tokens, it yields {found}; give "
            "more text or a smaller --vocabulary-size"
        )
    # Not by the trainer's own save(), which leaves a partial file on a full disk.
    learned = json.loads(trainer.to_str())["model"]
    ids = learned["vocab"] | {END_OF_TEXT: size - 1}
    merges = "".join(f"{first} {second}\n" for first, second in learned["merges"])
    with atomic_write(folder / VOCABULARY_FILE) as partial:
        partial.write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    with atomic_write(folder / MERGES_FILE) as partial:
        partial.write_text(f"#version: 0.2\n{merges}", encoding="utf-8")


def _cut_long_words() -> Split:
    """Cuts words of more than 1,000 bytes: the trainer's time grows with the square of the longest.

    No text in a language has one; a run of blanks, or text without any blanks, is one word.
    """
    return Split(Regex("(?m).{1,1000}"), "isolated")
