"""Write GPT-2 small with random weights as a Hugging Face folder.

Nothing is downloaded: the vocabulary is as large as GPT-2's own, and made up of the 256 bytes, 50,000
of their pairs, and the end of text.
"""

import json
import os
from itertools import islice, product
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras_hub.models import GPT2Backbone

from benchmarks.measure import arguments
from edgewise_cloud.keras_models.checkpoint import save_checkpoint
from edgewise_edge.decoding import tokenizer

MERGES = 50_000


def main() -> None:
    out = arguments(__doc__, "out").parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    write_vocabulary(out)
    keras.utils.set_random_seed(1)
    backbone = GPT2Backbone(
        vocabulary_size=tokenizer.Tokenizer.from_folder(out).size,
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        intermediate_dim=4 * 768,
        max_sequence_length=1024,
    )
    save_checkpoint(backbone, out)


def write_vocabulary(folder: Path) -> None:
    letters = list(tokenizer.unicode_to_bytes())
    pairs = list(islice(product(letters, letters), MERGES))
    tokens = [*letters, *("".join(pair) for pair in pairs), tokenizer.END_OF_TEXT]
    ids = {token: index for index, token in enumerate(tokens)}
    (folder / tokenizer.VOCABULARY_FILE).write_text(
        json.dumps(ids, ensure_ascii=False), encoding="utf-8"
    )
    merges = "".join(f"{first} {second}\n" for first, second in pairs)
    (folder / tokenizer.MERGES_FILE).write_text(f"#version: 0.2\n{merges}", encoding="utf-8")


if __name__ == "__main__":
    main()
