"""What a step of the cloud's engine costs, by streams and tokens held: GPT-2 small, random weights.

Fits step(R) = a + b R + c T, for R streams that hold T tokens together (docs/cloud.md), compares a
score's chunk with a prompt's and bfloat16 with float32, and measures what the service adds to a step:
its processor time for each token, and the gap that callers see, with the model replaced by a pause as
long as its step.
"""

import asyncio
import json
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.cloud.servers import NEW, PROGRAM, PROMPT, STREAMS
from benchmarks.measure import arguments, in_turn, medians, seconds
from benchmarks.peers.workspace import WORK, checkpoint, last_line
from edgewise_cloud.keras_models import forward
from edgewise_cloud.keras_models.checkpoint import weights
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.model.interface import Compilations, Programs
from edgewise_cloud.serving.model.layout import PREFILL_CHUNK, SCORE_CHUNK
from edgewise_cloud.serving.model.programs import CompiledPrograms

HEIGHTS, CONTEXTS = (1, 4, STREAMS), (128, 192, 256, 512, 1024)
TEXT = 512  # tokens on which both precisions are compared


def main() -> None:
    options = arguments(__doc__, work=WORK, rounds=9).parse_args()
    work = options.work.resolve()
    source = checkpoint(work)
    import_tensorflow()
    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(str(source), Path(workspace))
    exact = programs(model)
    steps = step_times(exact, options.rounds)
    print(json.dumps({"step_ms": steps, **fitted(steps)}), flush=True)
    print(json.dumps(chunk_times(exact, options.rounds)), flush=True)
    print(json.dumps(bfloat16(model, exact, options.rounds)), flush=True)
    print(json.dumps(asyncio.run(service_cost(work, steps[f"{STREAMS}x192"]))), flush=True)


def programs(model: KerasModel, dtype: str = "float32") -> Programs:
    """The compiled steps, over STREAMS slots, as the service compiles them."""
    return CompiledPrograms(weights(model.backbone), model.architecture, STREAMS, dtype)


def step_times(model: Programs, rounds: int) -> dict[str, float]:
    """Milliseconds, by height x context; all sizes in turn."""
    runs = {
        f"{height}x{context}": lambda size=(height, context): step(model, *size) * 1e3
        for height, context in product(HEIGHTS, CONTEXTS)
    }
    return medians(in_turn(runs, rounds, warm_up=2))


def step(model: Programs, height: int, context: int) -> float:
    return seconds(lambda: model.decode([1] * height, [context - 1] * height, context))


def chunk_times(model: Programs, rounds: int) -> dict[str, float]:
    """Milliseconds of one chunk of a prompt, of two, and of one of a score, at the longest context."""
    context = CONTEXTS[-1]
    prompt, score = [1] * PREFILL_CHUNK, [1] * SCORE_CHUNK
    runs = {
        "prefill_chunk_ms": lambda: model.prefill(prompt, 0, 0, context),
        "prefill_two_chunks_ms": lambda: model.prefill_two(prompt * 2, [0, 1], [0, 0], context),
        "score_chunk_ms": lambda: model.score(score, score, 0, 0, context),
    }
    timed = {name: lambda run=run: seconds(run) * 1e3 for name, run in runs.items()}
    return medians(in_turn(timed, rounds, warm_up=2))


def fitted(steps: dict[str, float]) -> dict[str, float]:
    """A and b in milliseconds, c in nanoseconds."""
    sizes = [tuple(map(int, name.split("x"))) for name in steps]
    factors = np.array([(1, height, height * context) for height, context in sizes])
    (a, b, c), *_ = np.linalg.lstsq(factors, np.array(list(steps.values())), rcond=None)
    return {"a_ms": a, "b_ms": b, "c_ns": c * 1e6}


def bfloat16(model: KerasModel, exact: Programs, rounds: int) -> dict[str, float]:
    """How fast it is, and how often it finds the same token likeliest."""
    rough = programs(model, "bfloat16")
    tokens = np.random.default_rng(1).integers(0, model.architecture.vocabulary_size, TEXT).tolist()
    same = np.equal(likeliest(exact, tokens), likeliest(rough, tokens))
    both = {"exact": exact, "rough": rough}.items()
    runs = {name: lambda of=of: step(of, STREAMS, 192) for name, of in both}
    times = medians(in_turn(runs, rounds))
    return {
        "bfloat16_speed": times["exact"] / times["rough"],
        "bfloat16_top1_agreement": float(same.mean()),
    }


def likeliest(model: Programs, tokens: list[int]) -> list[int]:
    """The likeliest token after each one, read one by one."""
    return [int(model.decode([token], [at], TEXT)[0].argmax()) for at, token in enumerate(tokens)]


async def service_cost(work: Path, step_ms: float) -> dict[str, float]:
    """What gRPC and scheduling add to a step of 16 streams that computes nothing but waits."""
    from edgewise_cloud.serving.server.server import ServerSettings, running_server

    logits = np.zeros((STREAMS, 4096), np.float32)

    def pause(*_: object) -> np.ndarray:
        time.sleep(step_ms / 1e3)
        return logits

    replaced = dict.fromkeys(("prefill", "prefill_two", "score", "copy"), mock.DEFAULT)
    replaced |= {"decode": pause, "compilations": lambda *_: Compilations()}
    with (
        mock.patch.multiple(CompiledPrograms, **replaced),
        mock.patch.object(forward, "require_close"),
    ):
        settings = ServerSettings(models=("tales",), port=0, engine=EngineSettings(slots=STREAMS))
        async with running_server(settings) as server:
            before = time.process_time()
            load = await asyncio.to_thread(generate_load, work, server.port)
            used = (time.process_time() - before) / load["generated_tokens"]
    return {
        "service_cpu_us_per_token": used * 1e6,
        "service_cpu_of_step": used * STREAMS / (step_ms / 1e3),
        "gap_over_step": load["gap"]["p50"] / (step_ms / 1e3) - 1,
    }


def generate_load(work: Path, port: int) -> Any:
    """The load generator's JSON, from a process of its own."""
    command = [PROGRAM, "load", f"--target=127.0.0.1:{port}", f"--streams={STREAMS}"]
    command += [f"--requests={4 * STREAMS}", f"--prompt-tokens={PROMPT}", f"--max-tokens={NEW}"]
    return last_line(command, work)


if __name__ == "__main__":
    main()
