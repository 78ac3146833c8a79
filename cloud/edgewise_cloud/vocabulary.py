"""Training a byte-level BPE vocabulary in GPT-2's file format."""

import json
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer

from edgewise_cloud.errors import TextError
from edgewise_edge.tokenizer import END_OF_TEXT, VOCABULARY_FILE, Tokenizer


def train_vocabulary(texts: list[str], size: int, folder: Path) -> Tokenizer:
    """Write `vocab.json` and `merges.txt` of `size` tokens learned from `texts` into `folder`.

    The end-of-text token takes the last id, as in GPT-2's own vocabulary. Raises TextError, and
    writes nothing, when the texts do not yield that many tokens.
    """
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(texts, vocab_size=size - 1, show_progress=False)
    if (found := trainer.get_vocab_size() + 1) != size:
        raise TextError(
            f"the text is too short for a vocabulary of {size} tokens, it yields {found}; give "
            "more text or a smaller --vocabulary-size"
        )
    trainer.save_model(str(folder))
    vocabulary_file = folder / VOCABULARY_FILE
    ids = json.loads(vocabulary_file.read_text(encoding="utf-8"))
    ids[END_OF_TEXT] = len(ids)
    vocabulary_file.write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    return Tokenizer.from_folder(folder)
