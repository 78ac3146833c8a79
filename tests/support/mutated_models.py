"""Damaged copies of the bundled model, with a manifest that matches, given to a router in a child.

`python -m tests.support.mutated_models COUNT SEED` prints how many ended the child.
"""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Self

from ai_edge_litert.schema_py_generated import Model

from edgewise_edge.store.manifest import MODEL_FILE
from tests.support.damaged_folder import copied_model, replace_model

# Generates with one model after the other, until one ends it.
CHILD = """
import sys
from edgewise import EdgewiseError, Router
for line in sys.stdin:
    try:
        with Router(model=line.strip(), threads=2) as router:
            router.generate("Once upon a time, there was a king", max_tokens=6, seed=1)
        outcome = "answered"
    except EdgewiseError as error:
        outcome = "refused"
    except BaseException as error:
        outcome = f"raised {type(error).__name__}: {error}"
    print(outcome, flush=True)
"""


def mutated(data: bytes, seed: int) -> bytes:
    """`data` with one to three words of its metadata changed, or cut short."""
    draw = random.Random(seed)
    if draw.random() < 0.05:
        return data[: draw.choice([4096, draw.randrange(9, len(data))])]
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        at = draw.choice(_metadata(data))
        (word,) = struct.unpack_from("<I", data, at)
        new = draw.choice(
            [
                draw.getrandbits(32),
                draw.choice([0, 1, 2, 3, 127, 2**31 - 1, 2**31, 2**32 - 1]),
                word ^ 1 << draw.randrange(32),
                (word + draw.choice([-8, -4, -1, 1, 4, 8])) % 2**32,
            ]
        )
        struct.pack_into("<I", changed, at, new)
    return bytes(changed)


_found: dict[int, list[int]] = {}


def _metadata(data: bytes) -> list[int]:
    """Where the words are that belong to no weight."""
    if len(data) not in _found:
        model, weights = Model.GetRootAs(data, 0), bytearray(len(data))
        for index in range(model.BuffersLength()):
            table, length = model.Buffers(index)._tab, model.Buffers(index).DataLength()
            if length >= 64:
                start = table.Vector(table.Offset(4))
                weights[start : start + length] = b"\1" * length
        _found[len(data)] = [
            at for at in range(0, len(data) - 3, 4) if not any(weights[at : at + 4])
        ]
    return _found[len(data)]


class Child:
    """A process that takes folders of models; a context manager."""

    def __init__(self, caches: Path) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in __exit__
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | {"XDG_CACHE_HOME": str(caches)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def outcome(self, folder: Path) -> str:
        """What became of the model; "ended" in words if the process did."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        if line := self.process.stdout.readline():
            return line.strip()
        status = self.process.wait()
        self.errors.seek(0)
        written = self.errors.read().decode(errors="replace").strip()
        return f"ended {'silently' if not written else 'with a line'} ({status}): {written[:300]}"


def outcomes(count: int, seed: int) -> dict[int, str]:
    """For each of `count` mutations, from `seed` on."""
    with tempfile.TemporaryDirectory() as name:
        folder, caches = copied_model(Path(name) / "model"), Path(name) / "caches"
        data = (folder / MODEL_FILE).read_bytes()
        found, child = {}, Child(caches)
        for number in range(seed, seed + count):
            replace_model(folder, mutated(data, number))
            found[number] = child.outcome(folder)
            if found[number].startswith("ended"):
                child.__exit__()
                child = Child(caches)
            shutil.rmtree(caches / "edgewise" / "weights", ignore_errors=True)
        child.__exit__()
    return found


if __name__ == "__main__":
    results = outcomes(int(sys.argv[1]), int(sys.argv[2]))
    odd = {seed: text for seed, text in results.items() if text not in {"answered", "refused"}}
    print(
        json.dumps(
            {"outcomes": Counter(text.split(" (")[0] for text in results.values()), "odd": odd}
        )
    )
