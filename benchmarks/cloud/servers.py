"""The servers of benchmarks.cloud.peers, each in a process of its own, and how to ask them.

All load the same random GPT-2 small. llama.cpp's own server is in llama-server/bin of the work folder.
"""

import asyncio
import json
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import grpc
import httpx2
import numpy as np

from benchmarks.peers.runtimes import LLAMA_CPP, Peer
from benchmarks.peers.workspace import ROOT, THREADS, environment
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

STREAMS = 16
PROMPT, NEW = 64, 128  # tokens
PROGRAM = Path(sys.executable).with_name("edgewise-cloud")
LLAMA_SERVER = Path("llama-server/bin/llama-server")  # in the work folder
_LLAMA_SLOT = 256  # tokens that a slot of llama.cpp's can hold
_TIMEOUT = 300  # seconds to load, compile and warm up
_HOST = "127.0.0.1"

T = TypeVar("T")
Prompt = Sequence[int]

# Requests some new tokens after a prompt; yields how many arrived, each time that some do.
Ask = Callable[[Prompt, int], AsyncIterator[int]]


class Service(NamedTuple):
    """Our service, running."""

    pid: int
    address: str
    stub: pb_grpc.GeneratorStub
    vocabulary: str  # its fingerprint

    async def ask(self, prompt: Prompt, new_tokens: int, **sampling: int) -> AsyncIterator[int]:
        """An Ask; greedy, unless `sampling` says otherwise."""
        request = pb.GenerateRequest(
            token_ids=prompt,
            prompt_tokens=len(prompt),
            max_tokens=new_tokens,
            sampling=pb.Sampling(top_p=1, repetition_penalty=1, **sampling),
            vocabulary=self.vocabulary,
        )
        async for part in self.stub.Generate(request):
            yield len(part.token_ids)


@asynccontextmanager
async def serving(work: Path, *command: object, slots: int = STREAMS) -> AsyncIterator[Service]:
    """`edgewise-cloud COMMAND`, from when it serves until the block ends."""
    port = free_port()
    options = [f"--port={port}", f"--slots={slots}"]
    async with (
        process([PROGRAM, *command, *options], work) as child,
        grpc.aio.insecure_channel(address := f"{_HOST}:{port}") as channel,
    ):
        stub = pb_grpc.GeneratorStub(channel)
        model = await answered(child, lambda: stub.GetModel(pb.GetModelRequest()))
        yield Service(child.pid, address, stub, model.vocabulary)


@asynccontextmanager
async def edgewise(work: Path, engine: str = "keras") -> AsyncIterator[Ask]:
    command = ("serve", f"--model={work / 'source'}", f"--engine={engine}")
    log = work / "log.txt"
    seen = log.stat().st_size if log.exists() else 0
    async with serving(work, *command) as service:
        if engine == "keras":
            await asyncio.to_thread(wait_until_compiled, log, seen)
        yield service.ask


@asynccontextmanager
async def llama(work: Path, model: Peer) -> AsyncIterator[Ask]:
    """llama.cpp's own server."""
    port = free_port()
    command = [work / LLAMA_SERVER, "--model", model.path(work), "--host", _HOST, "--port", port]
    command += ["--threads", THREADS, "--threads-batch", THREADS, "--cont-batching"]
    command += ["--parallel", STREAMS, "--ctx-size", STREAMS * _LLAMA_SLOT]
    async with (
        process([*command, "--cache-ram", 0, "--verbosity", 2], work) as child,
        httpx2.AsyncClient(base_url=f"http://{_HOST}:{port}", timeout=_TIMEOUT) as client,
    ):

        async def check_health() -> None:
            (await client.get("/health")).raise_for_status()

        await answered(child, check_health)
        # One sampler, which leaves one token, is the least that its greedy choice can cost.
        options = {"temperature": 0, "samplers": ["top_k"], "top_k": 1, "ignore_eos": True}
        options |= {"cache_prompt": False, "stream": True}

        async def ask(prompt: Prompt, new_tokens: int) -> AsyncIterator[int]:
            request = {"prompt": list(prompt), "n_predict": new_tokens, **options}
            async with client.stream("POST", "/completion", json=request) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        yield len(json.loads(line.removeprefix("data: "))["tokens"])

        yield ask


@asynccontextmanager
async def keras_generate(work: Path) -> AsyncIterator[Ask]:
    """KerasHub's generate(), which takes the next request when one is done."""
    worker = [sys.executable, "-m", "benchmarks.peers.run", "keras", work / "source"]
    turn = asyncio.Lock()
    async with process([*worker, f"--threads={THREADS}"], work, asyncio.subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout

        async def ask(prompt: Prompt, new_tokens: int) -> AsyncIterator[int]:
            request = json.dumps({"prompt": list(prompt), "new_tokens": new_tokens})
            async with turn:
                child.stdin.write(f"{request}\n".encode())
                yield len(json.loads(await child.stdout.readline())["tokens"])

        yield ask


GGUF = {
    f"llama.cpp {kind}": Peer(LLAMA_CPP, f"server {kind}", bits)
    for kind, bits in (("F32", 32), ("F16", 16), ("Q8_0", 8))
}
OURS, OURS_IN_8_BITS, KERAS = "edgewise", "edgewise litert", "KerasHub generate()"
# How each is started with a work folder.
SERVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Ask]]] = {
    OURS: edgewise,
    OURS_IN_8_BITS: partial(edgewise, engine="litert"),
    **{name: partial(llama, model=model) for name, model in GGUF.items()},
    KERAS: keras_generate,
}


async def arrivals(ask: Ask, prompt: Prompt, new_tokens: int) -> list[float]:
    """When each new token arrived, on time.perf_counter()'s clock."""
    times: list[float] = []
    async with aclosing(ask(prompt, new_tokens)) as parts:
        async for tokens in parts:
            times += [time.perf_counter()] * tokens
    if len(times) != new_tokens:
        raise RuntimeError(f"{len(times)} tokens instead of {new_tokens}")
    return times


def gaps(streams: Sequence[Sequence[float]]) -> list[float]:
    """Seconds from each token of a stream to the next."""
    return [after - before for times in streams for before, after in pairwise(times)]


def percentiles(name: str, values: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99))
    return {f"{name} p50": float(p50), f"{name} p99": float(p99)}


def random_prompts(vocabulary: range, count: int, seed: int) -> list[Prompt]:
    """Prompts that share no prefix, so that no prefix cache helps."""
    chance = random.Random(seed)
    return [chance.choices(vocabulary, k=PROMPT) for _ in range(count)]


@asynccontextmanager
async def process(
    command: Sequence[object], work: Path, pipe: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child that is terminated at the end; `pipe` is for its input and output, not log.txt."""
    extra = {"TF_NUM_INTRAOP_THREADS": str(THREADS)}  # TensorFlow has no other option for it
    extra |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}
    with (work / "log.txt").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=pipe,
            stdout=pipe or log,
            stderr=log,
            cwd=ROOT,
            env=environment(work) | extra,
            start_new_session=True,  # Ray signals its whole process group when it stops
        )
        try:
            yield child
        finally:
            if child.returncode is None:
                child.terminate()
            await child.wait()


def wait_until_compiled(log: Path, seen: int) -> None:
    """Return once a service has said so in `log` after its first `seen` bytes. Raises TimeoutError."""
    give_up = time.monotonic() + _TIMEOUT
    while b"compiled all" not in log.read_bytes()[seen:]:
        if time.monotonic() > give_up:
            raise TimeoutError("programs are still being compiled; see log.txt")
        time.sleep(0.5)


async def answered(child: asyncio.subprocess.Process, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns once the server answers. Raises RuntimeError if it exits, TimeoutError."""
    async with asyncio.timeout(_TIMEOUT):
        while True:
            try:
                return await ask()
            except (grpc.aio.AioRpcError, httpx2.HTTPError) as error:
                if child.returncode is not None:
                    raise RuntimeError("a server exited; see log.txt") from error
                await asyncio.sleep(0.2)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server((_HOST, 0)) as listener:
        return int(listener.getsockname()[1])
