"""What tflite-runtime 2.14 costs beside LiteRT: one model, converted for it, run on both.

Needs a second environment, as in docs/pipeline.md; --python names its Python. Both run in turn, each
in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROMPT_TOKENS, NEW_TOKENS, ROUNDS = 32, 96, 5


def main() -> None:
    """Measure and print, or be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="made with --target tflite-runtime")
    parser.add_argument("--python", type=Path, help="the Python that has tflite-runtime")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.python is None:
        print(json.dumps(measured(options.model, options.threads)))
        return
    command = [__file__, options.model, "--threads", str(options.threads)]
    times: dict[str, list[float]] = {}
    for python in [options.python, sys.executable] * ROUNDS:
        child = subprocess.run([python, *command], capture_output=True, text=True, check=True)
        found = json.loads(child.stdout)
        times.setdefault(found["backend"], []).append(found["milliseconds"])
    medians = {name: round(statistics.median(each), 3) for name, each in times.items()}
    for name, milliseconds in medians.items():
        print(f"{name:>24}: {milliseconds:7.2f} ms a token")
    print(json.dumps({"model": options.model.name, "new": NEW_TOKENS, **medians}))


def measured(model: Path, threads: int) -> dict[str, str | float]:
    """Milliseconds a token here, after a warm-up."""
    from edgewise_edge import DeviceModel

    runtime = DeviceModel.load(model, threads=threads).runtime
    for _ in range(2):
        session = runtime.session()
        session.read(list(range(100, 100 + PROMPT_TOKENS)))
        started = time.perf_counter()
        for token in range(NEW_TOKENS):
            session.read([token])
        seconds = time.perf_counter() - started
    return {"backend": runtime.backend.name, "milliseconds": seconds / NEW_TOKENS * 1e3}


if __name__ == "__main__":
    main()
