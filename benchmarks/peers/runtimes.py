"""The runtimes that are compared, each one's forms of the model, and processes that run them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.workspace import ROOT, THREADS, environment, files, is_newer, output

MAKERS, CONVERTER = ROOT / "benchmarks/peers/make", ROOT / "cloud/edgewise_cloud/convert"
CASES = ((32, 128), (512, 128), (896, 64))  # prompt and new tokens


@dataclass(frozen=True, slots=True)
class Runtime:
    """A library that runs models."""

    name: str
    package: str
    module: str  # in peers/make and peers/run
    file: str  # of a model; a folder, for some
    environment: str | None = None  # a folder in the work folder; None: that of this process

    def python(self, work: Path) -> str:
        return str(work / self.environment / "bin/python") if self.environment else sys.executable

    def version(self, work: Path) -> str:
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        return f"{self.package} {output([self.python(work), '-c', code], work).strip()}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A runtime with a form of the model."""

    runtime: Runtime
    form: str
    bits: int

    @property
    def name(self) -> str:
        return f"{self.runtime.name} {self.form}"

    def folder(self, work: Path) -> Path:
        return work / "models" / self.name.replace(" ", "-")

    def path(self, work: Path) -> Path:
        """Its model, as its worker expects it."""
        return self.folder(work) / self.runtime.file

    def bytes(self, work: Path) -> int:
        """The size of its model's files, without vocabularies."""
        made = files(self.folder(work))
        return sum(each.stat().st_size for each in made if each.suffix not in {".json", ".txt"})

    def make(self, work: Path, checkpoint: Path) -> None:
        """Make the model, unless it is newer than all it is made from."""
        converter = CONVERTER.glob("*.py") if self.runtime.environment is None else ()
        inputs = [MAKERS / f"{self.runtime.module}.py", *converter, *files(checkpoint)]
        folder, partial = self.folder(work), work / "partial"
        if is_newer(folder, inputs):
            return
        print(f"making {folder}", file=sys.stderr, flush=True)
        for old in (folder, partial):
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir()
        command = [self.runtime.python(work), "-m", "benchmarks.peers.make", checkpoint]
        output([*command, partial / self.runtime.file, self.runtime.module, self.form], work)
        folder.parent.mkdir(exist_ok=True)
        partial.rename(folder)


_EDGEWISE = Runtime("edgewise", "ai-edge-litert", "edgewise", "model")
LLAMA_CPP = Runtime("llama.cpp", "llama-cpp-python", "llama_cpp", "model.gguf", "llama")
_ONNX = Runtime("ONNX Runtime", "onnxruntime", "onnx", "model.onnx", "onnx")
RUNTIMES = (_EDGEWISE, LLAMA_CPP, _ONNX)
PEERS = (
    Peer(_EDGEWISE, "int8", 8),
    Peer(LLAMA_CPP, "Q8_0", 8),
    Peer(_ONNX, "8 bit", 8),
    Peer(_ONNX, "8 bit blockwise", 8),
    Peer(_EDGEWISE, "int4", 4),
    Peer(LLAMA_CPP, "Q4_0", 4),
    Peer(_ONNX, "4 bit", 4),
)
OURS = {peer.bits: peer for peer in PEERS if peer.runtime is _EDGEWISE}


# The answer to a prompt and a number of new tokens, as in peers/run/__main__.py.
Ask = Callable[[Sequence[int], int], dict[str, Any]]


@contextmanager
def worker(peer: Peer, work: Path) -> Iterator[Ask]:
    """A fresh process of one peer, which loads its model before it takes the first request."""
    command = [peer.runtime.python(work), "-m", "benchmarks.peers.run", peer.runtime.module]
    with subprocess.Popen(
        [*command, peer.path(work), f"--threads={THREADS}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(work),
    ) as child:

        def ask(prompt: Sequence[int], new_tokens: int) -> dict[str, Any]:
            request = json.dumps({"prompt": prompt, "new_tokens": new_tokens})
            print(request, file=child.stdin, flush=True)
            if not (line := child.stdout.readline() if child.stdout else ""):
                raise RuntimeError(f"{peer.name} exited instead of answering")
            answer: dict[str, Any] = json.loads(line)
            return answer

        yield ask
