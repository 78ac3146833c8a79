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
ADVICE = {
    "adapter_model.safetensors": "merge the adapter into its model with PEFT's "
    "merge_and_unload(), and save that with save_pretrained(NEW_FOLDER)",
    "adapter_config.json": "merge the adapter into its model with PEFT's merge_and_unload(), and "
    "save that with save_pretrained(NEW_FOLDER)",
    ".safetensors": "give its folder, with config.json and the vocabulary in it",
    ".json": "give its folder",
    ".bin": SAFETENSORS,
    ".pt": SAFETENSORS,
    ".pth": SAFETENSORS,
    ".ckpt": SAFETENSORS,
    ".msgpack": SAFETENSORS.replace("FOLDER)", "FOLDER, from_flax=True)", 1),
    "tf_model.h5": SAFETENSORS.replace("FOLDER)", "FOLDER, from_tf=True)", 1),
    ".keras": PRESET,
    ".h5": PRESET,
    ".gguf": CONVERTED,
    ".onnx": CONVERTED,
    ".tflite": CONVERTED,
}
# Files beside the weights of which nothing can be said.
_OTHERS = (".json", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def advice(path: Path) -> str | None:
    """What to do with the file at `path`, by its name; None for a name that says nothing."""
    return ADVICE.get(path.name) or ADVICE.get(path.suffix)


def advice_on_folder(folder: Path) -> str | None:
    """What to do with the weights in `folder` that are in another format, if there are any."""
    for path in sorted(folder.iterdir(), key=_order):
        if not path.name.endswith(_OTHERS) and (found := advice(path)):
            return f"it has {path.name}; {found}"
    return None


def _order(path: Path) -> tuple[int, str]:
    names = [*ADVICE]
    keys = [key for key in (path.name, path.suffix) if key in names]
    return (names.index(keys[0]) if keys else len(names), path.name)
