"""Whether GPT-2 small, 124 million parameters, goes through the pipeline, and how large it comes out.

Builds one at full size with random weights and GPT-2's own vocabulary, from a folder with its
vocab.json and merges.txt; converts it in each form, which compares every form with Keras; and lets
the unquantised form and the cloud's engine write the same greedy tokens.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras_hub.models import GPT2Backbone

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization
from edgewise_cloud.keras_models.checkpoint import save_checkpoint, weights
from edgewise_cloud.keras_models.load import load_keras
from edgewise_cloud.serving.engine.batch import Batch
from edgewise_edge import DeviceModel, SamplingParams, TokenRequest
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer
from edgewise_edge.runtime.stderr import captured_stderr
from edgewise_edge.store.manifest import MODEL_FILE

PROMPT, NEW_TOKENS = "Once upon a time there was a king who had", 32


def main() -> None:
    """Build, convert, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=Path, required=True, help="folder of GPT-2's own")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--quantize", type=Quantization, nargs="*", default=list(Quantization))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "gpt2"
        parameters = build(source, options)
        print(f"{parameters / 1e6:.1f} million parameters")
        forms = {
            str(form): converted(source, Path(scratch) / form, form) for form in options.quantize
        }
        same = None
        if Quantization.NONE in options.quantize:
            same = same_greedy_tokens(source, Path(scratch) / Quantization.NONE)
            print(f"greedy tokens that both sides agree on: {same} of {NEW_TOKENS}")
    print(json.dumps({"parameters": parameters, "forms": forms, "same_greedy_tokens": same}))


def build(folder: Path, options: argparse.Namespace) -> int:
    """Write the random model as a Hugging Face folder; its number of parameters."""
    folder.mkdir()
    for name in TOKENIZER_FILES:
        shutil.copy(options.vocabulary / name, folder / name)
    keras.utils.set_random_seed(1)
    backbone = GPT2Backbone(
        vocabulary_size=Tokenizer.from_folder(folder).size,
        num_layers=options.layers,
        num_heads=options.heads,
        hidden_dim=options.width,
        intermediate_dim=4 * options.width,
        max_sequence_length=1024,
    )
    save_checkpoint(backbone, folder)
    return int(backbone.count_params())


def converted(source: Path, out: Path, form: Quantization) -> dict[str, float]:
    """Convert and compare; what came of it."""
    started = time.perf_counter()
    with captured_stderr():
        manifest, evaluation = convert(str(source), out, form)
    size = manifest.files[MODEL_FILE].size
    print(
        f"{form:>8}: {size / 1e6:6.1f} MB, lost {evaluation.lost:+.3%} bits, top-1 "
        f"{evaluation.top1_agreement:.1%}, largest logit difference "
        f"{evaluation.largest_logit_difference:.3g} of a spread of {evaluation.logit_spread:.3g}, "
        f"{manifest.memory / 1e6:.0f} MB of memory, {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    return {
        "bytes": size,
        "memory": manifest.memory,
        "lost": evaluation.lost,
        "top1_agreement": evaluation.top1_agreement,
    }


def same_greedy_tokens(source: Path, device_folder: Path) -> int:
    """How many greedy tokens the device and the cloud's engine have in common from the start."""
    with tempfile.TemporaryDirectory() as workspace:
        keras = load_keras(str(source), Path(workspace))
    batch = Batch(weights(keras.backbone), keras.architecture, slots=1)
    device = DeviceModel.load(device_folder)
    ids = tuple(device.tokenizer.encode(PROMPT))
    request = TokenRequest(
        token_ids=ids,
        prompt_tokens=len(ids),
        max_tokens=NEW_TOKENS,
        sampling=SamplingParams(temperature=0),
    )
    on_device, text = list(device.stream_tokens(request)), batch.add(request)
    batch.finish()
    in_cloud = text.history[len(ids) :]
    pairs = list(zip(on_device, in_cloud, strict=False))
    return next((index for index, (a, b) in enumerate(pairs) if a != b), len(pairs))


if __name__ == "__main__":
    main()
