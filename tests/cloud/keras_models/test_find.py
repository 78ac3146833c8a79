"""Names and folders that are no checkpoint: the message says how to get one."""

from pathlib import Path

import pytest

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.find import find_checkpoint
from tests.conftest import write_checkpoint
from tests.support.checkpoints import update_json


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("gpt2", "give hf://openai-community/gpt2"),
        ("GPT2-XL", "give hf://openai-community/gpt2-xl"),
        ("distilgpt2", "give hf://distilbert/distilgpt2"),
        ("openai-community/gpt2", "give hf://openai-community/gpt2"),
        ("https://huggingface.co/someone/tiny/tree/main", "give hf://someone/tiny"),
        ("hf:/someone/tiny", "give hf://someone/tiny"),
        ("no-such-model", "hf://USER/MODEL"),
        ("~nobody-here/model", "hf://USER/MODEL"),
        ("s3://bucket/model", "hf://USER/MODEL"),
        ("a\0b", "hf://USER/MODEL"),
    ],
)
def test_a_name_that_is_no_checkpoint_gets_advice(name: str, advice: str) -> None:
    """What people call models that are on Hugging Face's hub."""
    with pytest.raises(CheckpointError, match=advice):
        find_checkpoint(name)


@pytest.mark.parametrize("name", ["hf://someone/tiny", "gpt2_base_en", "kaggle://a/b/c/d"])
def test_what_a_hub_has_is_not_looked_for_here(name: str) -> None:
    """It is fetched later."""
    assert find_checkpoint(name) is None


@pytest.mark.parametrize(
    ("file", "advice"),
    [
        ("model.keras", "save_to_preset"),
        ("model.weights.h5", "save_to_preset"),
        ("pytorch_model.bin", "save_pretrained"),
        ("model.pt", "save_pretrained"),
        ("tf_model.h5", "from_tf=True"),
        ("adapter_model.safetensors", "merge_and_unload"),
        ("model.gguf", "another runtime"),
    ],
)
def test_other_formats_get_advice(tmp_path: Path, file: str, advice: str) -> None:
    """As a file, and in a folder that has no other weights."""
    (tmp_path / file).touch()
    for name in (tmp_path, tmp_path / file):
        with pytest.raises(CheckpointError, match=advice):
            find_checkpoint(str(name))
    folder = write_checkpoint(tmp_path / "checkpoint")
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").touch()
    (folder / file).touch()
    with pytest.raises(
        CheckpointError, match=rf"has no model\.safetensors: it has {file}.*{advice}"
    ):
        find_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "holds no Keras model"),
        ("config.json", "{", "cannot be read as JSON"),
        ("config.json", '{"model_type": "bert"}', "model_type is 'bert'"),
        ("config.json", '{"registered_name": "keras_hub>BertBackbone"}', "only GPT-2"),
        ("model.safetensors", None, "copy it from where"),
        ("model.safetensors", "garbage", "cannot be read"),
        ("vocab.json", None, "has no vocabulary"),
        ("vocab.json", "[]", "not a JSON object"),
        ("merges.txt", None, "has no vocabulary"),
    ],
)
def test_a_missing_or_invalid_file_is_a_checkpoint_error(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    """The message says what is wrong, before TensorFlow is imported."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        find_checkpoint(str(folder))


def test_a_folder_s_config_is_checked(tmp_path: Path) -> None:
    """Here too, before TensorFlow is imported."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    assert find_checkpoint(str(folder)) == folder
    update_json(folder / "config.json", activation_function="relu")
    with pytest.raises(CheckpointError, match="activation_function is 'relu'"):
        find_checkpoint(str(folder))
