"""What a step of the cloud's engine costs, by streams and tokens held: GPT-2 small, random weights.

Fits step(R) = a + b R + c T, for R streams that hold T tokens together (docs/cloud.md), measures
what the service adds to a step (its own processor time for each token, and the gap that callers see,
with the model replaced by a pause as long as its step), and compares bfloat16 with float32.

    make bench-cloud      # once, for the model; or --work FOLDER with a checkpoint in FOLDER/source
    .venv/bin/python benchmarks/cloud_step.py
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from cloud_peers import HERE, prepare
from cloud_sides import NEW, PROMPT, STREAMS

from edgewise_cloud.keras_models.checkpoint import weights
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from edgewise_cloud.serving.engine.batch import Batch
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.model.programs import Programs

HEIGHTS, CONTEXTS = (1, 4, STREAMS), (128, 192, 256, 512, 1024)
ROUNDS = 9
JUDGED = 512  # tokens of a text on which both precisions are compared


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=HERE.parent / ".bench")
    work = parser.parse_args().work.resolve()
    prepare(work, [])
    import_tensorflow()
    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(str(work / "source"), Path(workspace))
    batch = Batch(weights(model.backbone), model.architecture, STREAMS)
    steps = step_times(batch._programs)
    print(json.dumps({"step_ms": steps, **fitted(steps)}), flush=True)
    print(json.dumps(bfloat16(model, batch)), flush=True)
    print(json.dumps(asyncio.run(service_cost(steps[f"{STREAMS}x192"]))), flush=True)


def step_times(programs: Programs) -> dict[str, float]:
    """Milliseconds, by height x context; all sizes in turn."""
    sizes = [(height, context) for height in HEIGHTS for context in CONTEXTS]
    times = dict[tuple[int, int], list[float]]()
    for _ in range(ROUNDS + 2):
        for height, context in sizes:
            started = time.perf_counter()
            programs.decode([1] * height, [context - 1] * height, context)
            times.setdefault((height, context), []).append(time.perf_counter() - started)
    return {
        f"{height}x{context}": statistics.median(times[height, context][2:]) * 1e3
        for height, context in sizes
    }


def fitted(steps: dict[str, float]) -> dict[str, float]:
    """A and b in milliseconds, c in nanoseconds."""
    sizes = [tuple(map(int, name.split("x"))) for name in steps]
    factors = np.array([(1, height, height * context) for height, context in sizes])
    (a, b, c), *_ = np.linalg.lstsq(factors, np.array(list(steps.values())), rcond=None)
    return {"a_ms": a, "b_ms": b, "c_ns": c * 1e6}


def bfloat16(model: KerasModel, exact: Batch) -> dict[str, float]:
    """How fast it is, and how often it finds the same token likeliest."""
    rough = Batch(weights(model.backbone), model.architecture, STREAMS, "bfloat16")
    tokens = np.random.default_rng(1).integers(0, model.architecture.vocabulary_size, JUDGED)
    logits = {name: judged(batch, tokens.tolist()) for name, batch in both(exact, rough).items()}
    same = logits["exact"].argmax(-1) == logits["rough"].argmax(-1)
    times = {name: list[float]() for name in logits}
    for _ in range(ROUNDS):
        for name, batch in both(exact, rough).items():
            started = time.perf_counter()
            batch._programs.decode([1] * STREAMS, [190] * STREAMS, 192)
            times[name].append(time.perf_counter() - started)
    fast = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        "bfloat16_speed": fast["exact"] / fast["rough"],
        "bfloat16_top1_agreement": float(same.mean()),
        "bfloat16_largest_logit_difference": float(np.abs(logits["exact"] - logits["rough"]).max()),
        "logit_spread": float(logits["exact"].std()),
    }


def both(exact: Batch, rough: Batch) -> dict[str, Batch]:
    """By name."""
    return {"exact": exact, "rough": rough}


def judged(batch: Batch, tokens: list[int]) -> np.ndarray:
    """The logits after each token of a text, read one by one."""
    context = next(context for context in CONTEXTS if context >= len(tokens))
    return np.array(
        [
            batch._programs.decode([token], [position], context)[0]
            for position, token in enumerate(tokens)
        ]
    )


async def service_cost(step_ms: float) -> dict[str, float]:
    """What gRPC and scheduling add to a step of 16 streams that computes nothing but waits."""
    from edgewise_cloud.serving.server.server import ServerSettings, running_server

    logits = np.zeros((STREAMS, 4096), np.float32)

    def pause(*_: object) -> np.ndarray:
        time.sleep(step_ms / 1e3)
        return logits

    with (
        mock.patch.object(Programs, "decode", pause),
        mock.patch.object(Programs, "prefill"),
        mock.patch.object(Programs, "copy"),
    ):
        settings = ServerSettings(model="tales", port=0, engine=EngineSettings(slots=STREAMS))
        async with running_server(settings) as port:
            before = time.process_time()
            load = json.loads(await asyncio.to_thread(put_load, port))
            used = time.process_time() - before
    return {
        "step_ms": step_ms,
        "service_cpu_us_per_token": used / load["generated_tokens"] * 1e6,
        "service_cpu_of_step": used / load["generated_tokens"] * STREAMS / (step_ms / 1e3),
        "gap_over_step": load["gap"]["p50"] / (step_ms / 1e3) - 1,
    }


def put_load(port: int) -> str:
    """The load generator's line, from a process of its own."""
    program = Path(sys.executable).with_name("edgewise-cloud")
    options = {"streams": STREAMS, "requests": 4 * STREAMS}
    options |= {"prompt-tokens": PROMPT, "max-tokens": NEW, "target": f"127.0.0.1:{port}"}
    command = [program, "load", *(f"--{name}={value}" for name, value in options.items())]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return run.stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
