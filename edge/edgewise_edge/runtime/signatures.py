"""A device model's signatures: names of their tensors, and the check of their shapes.

The converter writes the same names (edgewise_cloud/convert/graph.py).
"""

from edgewise_edge.decoding.token_score import MAX_TOP
from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.runtime.backend import Shape, SignatureShapes
from edgewise_edge.store.manifest import Architecture

DECODE = "decode"  # one token
PREFILL = "prefill"  # any number of tokens
SCORE = "score"  # any number of tokens, and how likely each next one is; not in older models
ROWS = "rows"  # one token of each of many sequences; only fused, and only in models for the cloud
ATTENTION = "edgewise.attention"  # the custom op of the fused signatures
MASKED = -1e9  # added to masked attention scores; finite, since 0 x inf would be NaN

_Dimensions = tuple[int | None, ...]  # None: any size


def cache_names(shape: Architecture) -> list[str]:
    """The cache inputs, in the order of KVCache.rows."""
    return [f"{kind}_{layer}" for layer in range(shape.layers) for kind in ("key", "value")]


def fused(signature: str) -> str:
    """The name of the same signature with attention as one custom op."""
    return f"fused_{signature}"


def is_fused(signature: str) -> bool:
    """Whether it has the custom op."""
    return signature.startswith(fused(""))


def fuses(shape: Architecture) -> bool:
    """Whether the custom op can run a model of this shape: it takes 16 numbers of a head at a time."""
    return shape.head_size % 16 == 0


def new_row_names(shape: Architecture) -> list[str]:
    """The outputs with the keys and values of the new tokens, in the same order."""
    return [f"new_{name}" for name in cache_names(shape)]


def top_size(vocabulary_size: int) -> int:
    """How many of the likeliest tokens a score step returns for each position."""
    return min(MAX_TOP, vocabulary_size)


def check_signatures(signatures: dict[str, SignatureShapes], shape: Architecture) -> None:
    """Raise ModelIncompatibleError unless the signatures have the shapes of `shape`.

    `score` may be missing, and so may the fused ones, all or none. LiteRT writes past the end of a
    buffer that is too small, so check before giving it any.
    """
    all_fused = [fused(signature) for signature in (PREFILL, DECODE, SCORE)]
    required = [PREFILL, DECODE]
    required += all_fused if any(signature in signatures for signature in all_fused) else []
    for signature in (*required, SCORE):
        if signature == SCORE and signature not in signatures:
            continue
        if signature not in signatures:
            raise ModelIncompatibleError(
                f"the model has no signature '{signature}', it has {sorted(signatures)}; "
                "convert it again"
            )
        found = signatures[signature]
        _check(f"inputs of the model's '{signature}'", found.inputs, _inputs(signature, shape))
        _check(f"outputs of the model's '{signature}'", found.outputs, _outputs(signature, shape))


def _inputs(signature: str, shape: Architecture) -> dict[str, _Dimensions]:
    inputs: dict[str, _Dimensions] = {
        "tokens": (None,),
        "positions": (None,),
        **dict.fromkeys(cache_names(shape), (None, shape.heads, shape.head_size)),
    }
    if not is_fused(signature):
        inputs["mask"] = (None, None)
    if signature in {PREFILL, fused(PREFILL)}:
        inputs["last"] = (1,)
    if signature in {SCORE, fused(SCORE)}:
        inputs["next"] = (None,)
    return inputs


def _outputs(signature: str, shape: Architecture) -> dict[str, _Dimensions]:
    outputs: dict[str, _Dimensions] = {}
    if not is_fused(signature):
        outputs |= dict.fromkeys(new_row_names(shape), (None, shape.heads, shape.head_size))
    if signature not in {SCORE, fused(SCORE)}:
        return outputs | {"logits": (shape.vocabulary_size,)}
    top = (None, top_size(shape.vocabulary_size))
    return outputs | {"logprobs": (None,), "top_logprobs": top, "top_ids": top}


def _check(what: str, found: dict[str, Shape], expected: dict[str, _Dimensions]) -> None:
    missing, unknown = sorted(expected.keys() - found), sorted(found.keys() - expected)
    if missing or unknown:
        raise ModelIncompatibleError(
            f"{what}: missing {missing}, unknown {unknown}; convert the model again"
        )
    for name, dimensions in expected.items():
        if not _fits(found[name], dimensions):
            raise ModelIncompatibleError(
                f"{what}: {name} has shape {found[name]}, its manifest says {dimensions} "
                "(None: any size); convert the model again"
            )


def _fits(found: Shape, expected: _Dimensions) -> bool:
    return len(found) == len(expected) and all(
        want is None or have == want for have, want in zip(found, expected, strict=True)
    )
