"""What people have that is no checkpoint yet, and how to make one of it."""

from pathlib import Path

SAFETENSORS = (
    "save it as safetensors: transformers.AutoModelForCausalLM.from_pretrained(FOLDER)"
    ".save_pretrained(NEW_FOLDER)"
)
PRESET = (
    "save it as a preset: call save_to_preset(FOLDER) on its GPT2Backbone and on its GPT2Tokenizer"
)
CONVERTED = "it was made for another runtime; give the checkpoint that it was made from"
MERGED = (
    "merge the adapter into its model with PEFT's merge_and_unload(), and save that with "
    "save_pretrained(NEW_FOLDER)"
)
# By a file's name or suffix. Of several files in a folder, the first named here is meant.
ADVICE = {
    "adapter_model.safetensors": MERGED,
    "adapter_model.bin": MERGED,
    "tf_model.h5": SAFETENSORS.replace("FOLDER)", "FOLDER, from_tf=True)", 1),
    ".msgpack": SAFETENSORS.replace("FOLDER)", "FOLDER, from_flax=True)", 1),
    ".bin": SAFETENSORS,
    ".pt": SAFETENSORS,
    ".pth": SAFETENSORS,
    ".ckpt": SAFETENSORS,
    ".keras": PRESET,
    ".h5": PRESET,
    ".gguf": CONVERTED,
    ".onnx": CONVERTED,
}
# Of files alone: a folder has them anyway.
FILE_ADVICE = {
    ".safetensors": "give its folder, with config.json and the vocabulary in it",
    ".json": "give its folder",
    ".tflite": CONVERTED,
}
_NO_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def advice(path: Path) -> str | None:
    """What to do with the file at `path`, by its name; None for a name that says nothing."""
    for pattern, found in (ADVICE | FILE_ADVICE).items():
        if pattern in (path.name, path.suffix):
            return found
    return None


def advice_on_folder(folder: Path) -> str | None:
    """What to do with weights in `folder` that are in another format, if it has any."""
    paths = [path for path in sorted(folder.iterdir()) if path.name not in _NO_WEIGHTS]
    for pattern, found in ADVICE.items():
        for path in paths:
            if pattern in (path.name, path.suffix):
                return f"it has {path.name}; {found}"
    return None
