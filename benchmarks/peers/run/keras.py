"""KerasHub's own generate(), compiled by XLA for each length; it returns all tokens at the end."""

import os
import tempfile
from pathlib import Path

from benchmarks.peers.run import Generate


def load(model: Path, threads: int) -> Generate:
    """A Hugging Face folder of GPT-2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)  # read when TensorFlow starts
    import numpy as np
    from keras_hub.models import GPT2CausalLM

    from edgewise_cloud.keras_models.load import load_keras

    with tempfile.TemporaryDirectory() as workspace:
        causal_lm = GPT2CausalLM(load_keras(str(model), Path(workspace)).backbone)
    causal_lm.compile(sampler="greedy")

    def generate(prompt: list[int], new_tokens: int) -> list[int]:
        length = len(prompt) + new_tokens
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(prompt)] = prompt
        inputs = {"token_ids": padded, "padding_mask": (np.arange(length) < len(prompt))[None]}
        output = causal_lm.generate(inputs, stop_token_ids=None)
        tokens: list[int] = np.asarray(output["token_ids"])[0, len(prompt) :].tolist()
        return tokens

    return generate
