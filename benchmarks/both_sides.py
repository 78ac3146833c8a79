"""How fast each side writes with one model: device (int8), cloud service (float32), KerasHub.

All three write the same number of greedy tokens from the same prompt, in turn. KerasHub's
generate() pads to the full window and runs as one compiled loop; it is the cloud's peer.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from keras_hub.models import GPT2CausalLM

from edgewise_cloud.keras_models.checkpoint import weights
from edgewise_cloud.keras_models.load import load_keras
from edgewise_cloud.serving.engine.batch import Batch
from edgewise_edge import DeviceModel, SamplingParams, TokenRequest

PROMPT_TOKENS, NEW_TOKENS, ROUNDS = 32, 128, 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tales")
    name = parser.parse_args().model
    with tempfile.TemporaryDirectory() as workspace:
        keras = load_keras(name, Path(workspace))
    device = DeviceModel.load(name)
    batch = Batch(weights(keras.backbone), keras.architecture, slots=1)
    ids = tuple(range(100, 100 + PROMPT_TOKENS))
    request = TokenRequest(
        token_ids=ids,
        prompt_tokens=len(ids),
        max_tokens=NEW_TOKENS,
        sampling=SamplingParams(temperature=0),
    )
    hub = GPT2CausalLM(keras.backbone)
    hub.compile(sampler="greedy")
    length = PROMPT_TOKENS + NEW_TOKENS
    padded = np.zeros((1, length), np.int32)
    padded[0, :PROMPT_TOKENS] = ids
    inputs = {"token_ids": padded, "padding_mask": (np.arange(length) < PROMPT_TOKENS)[None]}
    sides = {
        "device": lambda: list(device.stream_tokens(request)),
        "cloud_engine": lambda: (batch.clear(), batch.add(request), batch.finish()),
        "kerashub_generate": lambda: hub.generate(inputs, stop_token_ids=None),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for side in [*sides, *list(sides) * ROUNDS]:  # the first turn of each is its warm-up
        started = time.perf_counter()
        sides[side]()
        times[side].append(time.perf_counter() - started)
    rates = {side: round(NEW_TOKENS / statistics.median(t[1:])) for side, t in times.items()}
    for side, rate in rates.items():
        print(f"{side:>20}: {rate:6d} tokens/s, {rate / rates['kerashub_generate']:.2f} x KerasHub")
    print(json.dumps({"model": name, "prompt": PROMPT_TOKENS, "new": NEW_TOKENS, **rates}))


if __name__ == "__main__":
    main()
