"""The sides of edge_peers.py: what each is, its model, and a process that runs it.

A work folder holds the peers' environments, the models (models/) and our prepared weights (cache/).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PEERS = Path(__file__).parent / "peers"
CONVERTER = Path(__file__).parents[1] / "cloud/edgewise_cloud"
THREADS = 2
CASES = ((32, 128), (512, 128), (896, 64))  # prompt and new tokens


@dataclass(frozen=True, slots=True)
class Runtime:
    """A library that runs models."""

    name: str
    package: str
    environment: str | None  # a folder in the work folder; None: that of this process
    worker: str  # in peers/

    def python(self, work: Path) -> str:
        """The Python that has it."""
        return str(work / self.environment / "bin/python") if self.environment else sys.executable

    def version(self, work: Path) -> str:
        """The package and its version."""
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        return f"{self.package} {output([self.python(work), '-c', code], work).strip()}"


@dataclass(frozen=True, slots=True)
class Side:
    """A runtime with a form of the model."""

    runtime: Runtime
    form: str
    bits: int
    maker: str  # in peers/, with its flags
    file: str  # what it makes; a folder, for some

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.runtime.name} {self.form}"

    def folder(self, work: Path) -> Path:
        """What its model lies in."""
        return work / "models" / self.name.replace(" ", "-")

    def path(self, work: Path) -> Path:
        """Its model, as its worker wants it named."""
        return self.folder(work) / self.file

    def bytes(self, work: Path) -> int:
        """The size of its model's files, vocabularies apart."""
        return sum(
            file.stat().st_size
            for file in files(self.folder(work))
            if file.suffix not in {".json", ".txt"}
        )

    def make(self, work: Path, source: Path) -> None:
        """Make the model from the folder `source`, unless it is newer than all it is made from."""
        script, *flags = self.maker.split()
        reads = [PEERS / script, *files(source)]
        if self.runtime.environment is None:
            reads += CONVERTER.glob("*.py")
        folder, partial = self.folder(work), work / "partial"
        if is_newer(folder, reads):
            return
        print(f"making {folder}", file=sys.stderr, flush=True)
        for old in (folder, partial):
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir()
        python, out = self.runtime.python(work), partial / self.file
        output([python, PEERS / script, source, out, *flags], work)
        folder.parent.mkdir(exist_ok=True)
        partial.rename(folder)


_EDGEWISE = Runtime("edgewise", "ai-edge-litert", None, "edgewise_worker.py")
LLAMA_CPP = Runtime("llama.cpp", "llama-cpp-python", "llama", "llama_cpp_worker.py")
_ONNX = Runtime("ONNX Runtime", "onnxruntime", "onnx", "onnx_worker.py")
_CT2 = Runtime("CTranslate2", "ctranslate2", "onnx", "ct2_worker.py")
RUNTIMES = (_EDGEWISE, LLAMA_CPP, _ONNX, _CT2)
SIDES = (
    Side(_EDGEWISE, "int8", 8, "make_edgewise.py --type int8", "model"),
    Side(LLAMA_CPP, "Q8_0", 8, "make_gguf.py --type q8_0", "model.gguf"),
    Side(_ONNX, "8 bit", 8, "make_onnx.py --bits 8", "model.onnx"),
    Side(_ONNX, "8 bit blockwise", 8, "make_onnx.py --bits 8 --blockwise", "model.onnx"),
    Side(_CT2, "int8", 8, "make_ct2.py", "model"),
    Side(_EDGEWISE, "int4", 4, "make_edgewise.py --type int4", "model"),
    Side(LLAMA_CPP, "Q4_0", 4, "make_gguf.py --type q4_0", "model.gguf"),
    Side(_ONNX, "4 bit", 4, "make_onnx.py --bits 4", "model.onnx"),
)
OURS = {side.bits: side for side in SIDES if side.runtime is _EDGEWISE}
LLAMA = {side.bits: side for side in SIDES if side.runtime is LLAMA_CPP}
ONNX = {bits: [s for s in SIDES if s.runtime is _ONNX and s.bits == bits] for bits in OURS}


class Process:
    """A fresh process of one side, which loads its model before it takes the first request."""

    def __init__(self, side: Side, work: Path) -> None:
        self._side = side
        self._child = subprocess.Popen(
            [
                side.runtime.python(work),
                PEERS / side.runtime.worker,
                side.path(work),
                f"--threads={THREADS}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(work),
        )

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end, and wait until it has."""
        self._child.communicate()

    def ask(self, prompt: Sequence[int], new_tokens: int) -> dict[str, Any]:
        """Its answer, a protocol.Answer: seconds and bytes."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps({"prompt": prompt, "new_tokens": new_tokens}) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            message = f"{self._side.name} ended instead of answering"
            raise RuntimeError(message)
        answer: dict[str, Any] = json.loads(line)
        return answer


def output(command: Sequence[str | Path], work: Path) -> str:
    """What a command writes to standard output; the rest goes to log.txt in the work folder.

    Raises subprocess.CalledProcessError.
    """
    with (work / "log.txt").open("ab") as log:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=True,
            env=environment(work),
        )
    return done.stdout


def environment(work: Path) -> dict[str, str]:
    """The variables of all processes: our prepared weights belong into the work folder."""
    # Bytecode is kept, as it is wherever nobody asks for the contrary.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"XDG_CACHE_HOME": str(work / "cache")}


def files(folder: Path) -> list[Path]:
    """All files in a folder; none if there is no such folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def is_newer(folder: Path, reads: Iterable[Path]) -> bool:
    """Whether there are files in a folder, and all that they are made from is older."""
    made = [path.stat().st_mtime for path in files(folder)]
    return bool(made) and max(made) > max(path.stat().st_mtime for path in reads)
