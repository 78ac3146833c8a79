"""The tensors of a GPT-2 in Hugging Face's layout: one safetensors file, or several and an index."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # safetensors needs it for bfloat16
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.hugging_face.config import GPT2Config
from edgewise_cloud.keras_models.hugging_face.json_file import read_object

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
EMBEDDING, HEAD = "wte.weight", "lm_head.weight"
FLOATS = ("F64", "F32", "F16", "BF16")
# Attention masks, which transformers stores with old models and does not read.
_MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")


class CheckpointTensors(Mapping[str, NDArray[np.float32]]):
    """Tensors by GPT-2's own names (`wte.weight`, `h.0.attn.c_attn.weight`, ...), as float32.

    Each is read when it is asked for. Raises CheckpointError when made, unless names, shapes and
    types are those of `config`; when read, for values that are not finite.
    """

    def __init__(self, folder: Path, config: GPT2Config) -> None:
        self._folder = folder
        self._files = _without_prefix(folder, dict(_open_files(folder)))
        if (layers := config.architecture.layers) > len(self._files):
            raise CheckpointError(f"{folder} has too few tensors for n_layer {layers}")
        self._shapes = tensor_shapes(config)
        self._require_complete()

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """The tensor, read from its file."""
        if name not in self._shapes:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._shapes)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._shapes)

    def require_tied(self) -> None:
        """Raise CheckpointError if the model has a head of its own: the embedding is used as one."""
        if HEAD in self._files and not np.array_equal(self._read(HEAD), self._read(EMBEDDING)):
            raise CheckpointError(
                f"{self._folder}: {HEAD} is not {EMBEDDING}; only GPT-2 with a tied head is "
                "supported"
            )

    def _read(self, name: str) -> NDArray[np.float32]:
        file, stored = self._files[name]
        try:
            with np.errstate(over="ignore"):  # float64 beyond float32 is refused below
                values = file.get_tensor(stored).astype(np.float32)
        except SafetensorError as error:
            raise CheckpointError(f"{self._folder}: {stored} cannot be read: {error}") from error
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{self._folder}: {stored} has values that are NaN or infinite in float32; its "
                "training diverged, or the file is damaged"
            )
        return values  # type: ignore[no-any-return]

    def _require_complete(self) -> None:
        if unknown := [name for name in self._files if not self._is_expected(name)]:
            raise CheckpointError(
                f"{self._folder} has tensors that a GPT-2 with config.json's n_layer does not have: "
                f"{_some(unknown)}; correct n_layer, or it is another model"
            )
        if missing := [name for name in self._shapes if name not in self._files]:
            raise CheckpointError(
                f"{self._folder} lacks {_some(missing)}; correct n_layer, or fetch it again"
            )
        for name, shape in {**self._shapes, HEAD: self._shapes[EMBEDDING]}.items():
            if name in self._files:
                self._require_form(name, shape)

    def _is_expected(self, name: str) -> bool:
        return name in self._shapes or name == HEAD or bool(_MASK.fullmatch(name))

    def _require_form(self, name: str, expected: tuple[int, ...]) -> None:
        file, stored = self._files[name]
        form = file.get_slice(stored)
        if (shape := tuple(form.get_shape())) != expected:
            raise CheckpointError(
                f"{self._folder}: {stored} has the shape {shape}, but config.json says {expected}"
            )
        if form.get_dtype() not in FLOATS:
            raise CheckpointError(
                f"{self._folder}: {stored} is stored as {form.get_dtype()}; give the checkpoint "
                "before it was quantized"
            )


def tensor_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor; kernels are (inputs, outputs), as in openai/gpt-2."""
    sizes, inner = config.architecture, config.inner
    width = sizes.width
    denses = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, inner),
        "mlp.c_proj": (inner, width),
    }
    layer: dict[str, tuple[int, ...]] = {}
    for name, kernel in denses.items():
        layer |= {f"{name}.weight": kernel, f"{name}.bias": kernel[1:]}
    for name in ("ln_1", "ln_2"):
        layer |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return {
        EMBEDDING: (sizes.vocabulary_size, width),
        "wpe.weight": (sizes.context_window, width),
        **{
            f"h.{index}.{name}": shape
            for index in range(sizes.layers)
            for name, shape in layer.items()
        },
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }


def _open_files(folder: Path) -> Iterator[tuple[str, Any]]:
    """The tensors' names as stored, each with its open file."""
    names = [WEIGHTS_FILE]
    if not (folder / WEIGHTS_FILE).exists() and (folder / INDEX_FILE).exists():
        names = weight_files(folder)
    for name in names:
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing, or is no file")
        try:
            file: Any = safe_open(path, framework="np")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        yield from dict.fromkeys(file.keys(), file).items()


def weight_files(folder: Path) -> list[str]:
    """The files that the index in `folder` names. Raises CheckpointError."""
    files = read_object(folder / INDEX_FILE).get("weight_map")
    if not isinstance(files, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in files.values()
    ):
        raise CheckpointError(f"{folder / INDEX_FILE} has no weight_map from tensors to files")
    return sorted(set(files.values()))


def _without_prefix(folder: Path, files: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    """By GPT-2's own names: each tensor's file, and its name there, such as transformer.wte.weight."""
    prefixes = [name.removesuffix(EMBEDDING) for name in files if name.endswith(EMBEDDING)]
    if len(prefixes) != 1:
        raise CheckpointError(
            f"{folder} has {len(prefixes)} tensors named {EMBEDDING}: it is no GPT-2"
        )
    return {name.removeprefix(prefixes[0]): (file, name) for name, file in files.items()}


def _some(names: list[str]) -> str:
    rest = len(names) - 3
    return ", ".join(names[:3]) + (f" and {rest:,} more" if rest > 0 else "")
