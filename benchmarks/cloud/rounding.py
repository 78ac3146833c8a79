"""Where 8 bits change the likeliest token, and what would help: int8 as the device computes, in NumPy.

A matrix has a scale per output, an activation a scale and a zero point per token, as LiteRT's kernels
have them. Smoothing moves scale from activations to the matrix after them (arXiv:2211.10438); rounding
with correction makes up in later weights for the error of earlier ones (GPTQ, arXiv:2210.17323). Both
are calibrated on the text before the one that is measured on. Prints, for each variant, the share of
positions at which the likeliest token is that of float32, and the logits' difference.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.keras_models.find import find_checkpoint
from edgewise_cloud.keras_models.read import ReadCheckpoint, read_checkpoint

Floats = NDArray[np.float32]
Tensors = Mapping[str, Floats]
Round = Callable[[str, Floats], Floats]  # of the activations before the product of that name

HEAD = "head"
KINDS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", HEAD)
NORMS = {"attn.c_attn": "ln_1", "mlp.c_fc": "ln_2"}  # the layer norm before a product
TINY = 1e-12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a checkpoint, in Hugging Face's layout or bundled")
    parser.add_argument(
        "--text", type=Path, required=True, help="of twice `windows` windows at least"
    )
    parser.add_argument("--windows", type=int, default=8, help="to measure on, and to calibrate on")
    options = parser.parse_args()
    folder = find_checkpoint(options.model)
    if not folder:
        parser.error("give a folder or a bundled model")
    checkpoint = read_checkpoint(folder)
    window = checkpoint.config.architecture.context_window
    ids = checkpoint.tokenizer.encode(options.text.read_text(encoding="utf-8"))
    if len(ids) < 2 * options.windows * window:
        parser.error(f"the text has {len(ids)} tokens, {2 * options.windows * window} are needed")
    rows = np.array(ids[: 2 * options.windows * window], np.int32).reshape(2, -1, window)
    found = {}
    for name, (agreement, difference) in variants(model_of(checkpoint), *rows):
        print(f"{agreement:6.1%} {difference:7.4f}  {name}", flush=True)
        found[name] = {"top1": agreement, "rms": difference}
    print(json.dumps(found))


@dataclass(frozen=True)
class Model:
    """Weights, the matrices that products use, and how their inputs are rounded."""

    heads: int
    tensors: Tensors
    matrices: Tensors  # (inputs, outputs) by the product's name
    rounded: Round = lambda _name, x: x

    def logits(self, ids: NDArray[np.int32]) -> Floats:
        """(tokens, vocabulary) after each token, by openai/gpt-2's definition."""
        x = self.matrices[HEAD].T[ids] + self.tensors["wpe.weight"][: len(ids)]
        for layer in range(sum(name.endswith("attn.c_attn") for name in self.matrices)):
            name = f"h.{layer}."
            x = x + self._attention(self._norm(x, f"{name}ln_1"), f"{name}attn.")
            hidden = _gelu(self._product(self._norm(x, f"{name}ln_2"), f"{name}mlp.c_fc"))
            x = x + self._product(hidden, f"{name}mlp.c_proj")
        return self.rounded(HEAD, self._norm(x, "ln_f")) @ self.matrices[HEAD]

    def _product(self, x: Floats, name: str) -> Floats:
        return self.rounded(name, x) @ self.matrices[name] + self.tensors[f"{name}.bias"]

    def _norm(self, x: Floats, name: str) -> Floats:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(1e-5))
        return centred / deviation * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def _attention(self, x: Floats, name: str) -> Floats:
        query, key, value = (
            part.reshape(len(x), self.heads, -1).swapaxes(0, 1)
            for part in np.split(self._product(x, f"{name}c_attn"), 3, axis=-1)
        )
        scores = query @ key.swapaxes(1, 2) / np.float32(np.sqrt(query.shape[-1]))
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return self._product((weights @ value).swapaxes(0, 1).reshape(x.shape), f"{name}c_proj")


def model_of(checkpoint: ReadCheckpoint) -> Model:
    """In float32."""
    tensors = {name: np.asarray(checkpoint.tensors[name]) for name in checkpoint.tensors}
    matrices = {
        name.removesuffix(".weight"): tensor
        for name, tensor in tensors.items()
        if name.startswith("h.") and tensor.ndim == 2
    }
    matrices[HEAD] = tensors["wte.weight"].T
    return Model(checkpoint.config.architecture.heads, tensors, matrices)


def variants(
    model: Model, calibration: NDArray[np.int32], windows: NDArray[np.int32]
) -> Iterable[tuple[str, tuple[float, float]]]:
    """Name, and (top-1 agreement, root mean square of the logits' difference), of each."""
    expected = [model.logits(ids) for ids in windows]
    inputs = recorded(model, calibration)

    def measured(changed: Model) -> tuple[float, float]:
        found = [changed.logits(ids) for ids in windows]
        same = [(a.argmax(-1) == b.argmax(-1)).mean() for a, b in zip(expected, found, strict=True)]
        square = [np.square(a - b).mean() for a, b in zip(expected, found, strict=True)]
        return round(float(np.mean(same)), 4), round(float(np.sqrt(np.mean(square))), 4)

    weights, both = with_int8_weights(model), with_int8_weights(model, rounded=int8_activations)
    yield "int8", measured(both)
    yield "weights alone", measured(weights)
    yield "activations alone", measured(replace(model, rounded=int8_activations))
    for kind in KINDS:
        yield f"all but the activations before {kind}", measured(replace(both, rounded=but(kind)))
    smooth = smoothed(model, inputs)
    yield "int8, smoothed", measured(with_int8_weights(smooth, rounded=int8_activations))
    corrected = with_corrected_weights(model, inputs)
    yield "weights alone, corrected", measured(corrected)
    yield "int8, corrected", measured(replace(corrected, rounded=int8_activations))
    corrected = with_corrected_weights(smooth, recorded(smooth, calibration))
    yield "int8, smoothed and corrected", measured(replace(corrected, rounded=int8_activations))


def recorded(model: Model, windows: NDArray[np.int32]) -> dict[str, Floats]:
    """The inputs (tokens, width) of each product."""
    found: dict[str, list[Floats]] = {name: [] for name in model.matrices}

    def record(name: str, x: Floats) -> Floats:
        found[name].append(x)
        return x

    for ids in windows:
        replace(model, rounded=record).logits(ids)
    return {name: np.concatenate(rows) for name, rows in found.items()}


def int8_activations(_name: str, x: Floats) -> Floats:
    """8 bits, a scale and a zero point per token."""
    low, high = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
    scale = np.maximum((high - low) / 255, TINY)
    zero = np.round(-128 - low / scale)
    return (np.clip(np.round(x / scale) + zero, -128, 127) - zero) * scale


def but(kind: str) -> Round:
    """Rounding of all activations but those before the products of a kind."""
    return lambda name, x: x if name.endswith(kind) else int8_activations(name, x)


def with_int8_weights(model: Model, rounded: Round = lambda _name, x: x) -> Model:
    """Each matrix to the nearest of its 8-bit numbers."""
    matrices = {
        name: np.round(matrix / scales(matrix)) * scales(matrix)
        for name, matrix in model.matrices.items()
    }
    return replace(model, matrices=matrices, rounded=rounded)


def scales(matrix: Floats) -> Floats:
    """A scale per output, (1, outputs)."""
    found: Floats = np.maximum(np.abs(matrix).max(0, keepdims=True), TINY) / 127
    return found


def smoothed(model: Model, inputs: Mapping[str, Floats]) -> Model:
    """The same function, with half of the activations' outliers in the weights (alpha 0.5).

    Behind layer norms and attention; not behind GELU, which does not commute with a scale, nor before
    the head, whose matrix is the embedding too.
    """
    tensors, matrices = dict(model.tensors), dict(model.matrices)
    for name in [name for name in matrices if name.endswith((*NORMS, "attn.c_proj"))]:
        layer, kind = name.split(".")[1], ".".join(name.split(".")[2:])
        share = np.sqrt(np.abs(inputs[name]).max(0) / np.abs(matrices[name]).max(1))
        share /= np.exp(np.log(share).mean())
        matrices[name] = matrices[name] * share[:, None]
        if kind in NORMS:
            for part in ("weight", "bias"):
                norm = f"h.{layer}.{NORMS[kind]}.{part}"
                tensors[norm] = tensors[norm] / share
        else:  # into the values, the last third of their product's outputs
            before, values = (
                f"h.{layer}.attn.c_attn",
                np.concatenate([np.ones(2 * len(share)), share]),
            )
            matrices[before] = (matrices[before] / values).astype(np.float32)
            tensors[f"{before}.bias"] = (tensors[f"{before}.bias"] / values).astype(np.float32)
    return replace(model, tensors=tensors, matrices=matrices)


def with_corrected_weights(model: Model, inputs: Mapping[str, Floats]) -> Model:
    """8 bits, rounded input by input, the error made up for by the weights that are still to come."""
    matrices = {name: corrected(matrix, inputs[name]) for name, matrix in model.matrices.items()}
    return replace(model, matrices=matrices)


def corrected(matrix: Floats, x: Floats) -> Floats:
    """A matrix (inputs, outputs) rounded for inputs like `x` (tokens, inputs)."""
    squares = (x.T.astype(np.float64) @ x) / len(x)
    squares += np.eye(len(squares)) * 0.01 * np.trace(squares) / len(squares)
    order = np.argsort(-np.diag(squares))  # the largest inputs first
    left = matrix[order].astype(np.float64)
    factor = np.linalg.cholesky(np.linalg.inv(squares[order][:, order])).T
    scale, found = scales(matrix)[0], np.empty_like(matrix)
    for row, place in enumerate(order):
        found[place] = np.clip(np.round(left[row] / scale), -127, 127) * scale
        error = (left[row] - found[place]) / factor[row, row]
        left[row + 1 :] -= factor[row, row + 1 :, None] * error
    return found


def _gelu(x: Floats) -> Floats:
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
    found: Floats = np.float32(0.5) * x * (1 + np.tanh(inner))
    return found


if __name__ == "__main__":
    main()
