"""The sides of cloud_peers.py: a server each, in processes of their own, and how to ask it.

All read the same random GPT-2 small. The work folder is that of edge_sides.py, with llama.cpp's own
server in llama-server/bin.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import edge_sides
import grpc
import httpx2
from edge_sides import PEERS, THREADS, environment
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

STREAMS = 16
PROMPT, NEW = 64, 128  # tokens
SERVER = Path("llama-server/bin/llama-server")  # in the work folder
_SLOT = 256  # tokens that a slot of llama.cpp's can hold
_PATIENCE = 300  # seconds to load, compile and warm up
_HOST = "127.0.0.1"

# Asks for so many new tokens after a prompt; yields how many have come, whenever some have.
Ask = Callable[[Sequence[int], int], AsyncIterator[int]]


@dataclass(frozen=True, slots=True)
class Side:
    """A server that can be started with a work folder, and asked while it runs."""

    name: str
    at_once: int  # requests that it runs at once
    started: Callable[[Path], AbstractAsyncContextManager[Ask]]


@asynccontextmanager
async def edgewise(work: Path, *flags: str) -> AsyncIterator[Ask]:
    """Our service."""
    port = free_port()
    program = Path(sys.executable).with_name("edgewise-cloud")
    command = [program, "serve", f"--model={work / 'source'}", f"--port={port}", *flags]
    async with (
        process([*command, f"--slots={STREAMS}"], work) as child,
        grpc.aio.insecure_channel(f"{_HOST}:{port}") as channel,
    ):
        health, stub = health_pb2_grpc.HealthStub(channel), pb_grpc.GeneratorStub(channel)

        async def serves() -> bool:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest())
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        await until(serves, child)
        vocabulary = (await stub.GetModel(pb.GetModelRequest())).vocabulary

        async def ask(prompt: Sequence[int], new_tokens: int) -> AsyncIterator[int]:
            request = pb.GenerateRequest(
                token_ids=prompt,
                prompt_tokens=len(prompt),
                max_tokens=new_tokens,
                sampling=pb.Sampling(temperature=0, top_p=1, repetition_penalty=1),
                vocabulary=vocabulary,
            )
            async for part in stub.Generate(request):
                yield len(part.token_ids)

        yield ask


@asynccontextmanager
async def llama(work: Path, model: edge_sides.Side) -> AsyncIterator[Ask]:
    """llama.cpp's own server."""
    port = free_port()
    command = [work / SERVER, "--model", model.path(work), "--host", _HOST, "--port", port]
    command += ["--threads", THREADS, "--threads-batch", THREADS, "--cont-batching"]
    command += [
        "--parallel",
        STREAMS,
        "--ctx-size",
        STREAMS * _SLOT,
        "--cache-ram",
        0,
        "--verbosity",
        2,
    ]
    async with (
        process(command, work) as child,
        httpx2.AsyncClient(base_url=f"http://{_HOST}:{port}", timeout=_PATIENCE) as client,
    ):

        async def serves() -> bool:
            try:
                return (await client.get("/health")).is_success
            except httpx2.TransportError:
                return False

        await until(serves, child)

        async def ask(prompt: Sequence[int], new_tokens: int) -> AsyncIterator[int]:
            # One sampler, which leaves one token, is the least that its greedy choice can cost.
            request = {
                "prompt": list(prompt),
                "n_predict": new_tokens,
                "temperature": 0,
                "samplers": ["top_k"],
                "top_k": 1,
                "ignore_eos": True,
                "cache_prompt": False,
                "stream": True,
            }
            async with client.stream("POST", "/completion", json=request) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        yield len(json.loads(line.removeprefix("data: "))["tokens"])

        yield ask


@asynccontextmanager
async def keras_generate(work: Path) -> AsyncIterator[Ask]:
    """KerasHub's generate(), which takes the next request when one is done."""
    worker = [sys.executable, PEERS / "keras_generate_worker.py", work / "source"]
    turn = asyncio.Lock()
    async with process([*worker, f"--threads={THREADS}"], work, asyncio.subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout

        async def ask(prompt: Sequence[int], new_tokens: int) -> AsyncIterator[int]:
            request = json.dumps({"prompt": list(prompt), "new_tokens": new_tokens})
            async with turn:
                child.stdin.write(f"{request}\n".encode())
                yield len(json.loads(await child.stdout.readline())["tokens"])

        yield ask


def _gguf(kind: str, bits: int) -> edge_sides.Side:
    maker = f"make_gguf.py --server --type {kind.lower()}"
    return edge_sides.Side(edge_sides.LLAMA_CPP, f"server {kind}", bits, maker, "model.gguf")


GGUF = {kind: _gguf(kind, bits) for kind, bits in (("F32", 32), ("F16", 16), ("BF16", 16))}
OURS, OURS_16, KERAS = "edgewise", "edgewise bfloat16", "KerasHub generate()"
LLAMA = {kind: f"llama.cpp {kind}" for kind in GGUF}
SIDES = (
    Side(OURS, STREAMS, edgewise),
    *(Side(LLAMA[kind], STREAMS, partial(llama, model=model)) for kind, model in GGUF.items()),
    Side(OURS_16, STREAMS, lambda work: edgewise(work, "--dtype=bfloat16")),
    Side(KERAS, 1, keras_generate),
)


@asynccontextmanager
async def process(
    command: Sequence[object], work: Path, pipe: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child that is told to end, and waited for. What it says goes to log.txt; `pipe` can part
    standard output from it.
    """
    threads = {"TF_NUM_INTRAOP_THREADS": str(THREADS)}  # TensorFlow has no other option for it
    with (work / "log.txt").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=pipe,
            stdout=pipe or log,
            stderr=log,
            env=environment(work) | threads,
        )
        try:
            yield child
        finally:
            if child.returncode is None:
                child.terminate()
            await child.wait()


async def until(serves: Callable[[], Awaitable[bool]], child: asyncio.subprocess.Process) -> None:
    """Return once it does. Raises RuntimeError when the child ended, TimeoutError."""
    async with asyncio.timeout(_PATIENCE):
        while not await serves():
            if child.returncode is not None:
                message = f"a server ended with status {child.returncode}; see log.txt"
                raise RuntimeError(message)
            await asyncio.sleep(0.2)


def free_port() -> int:
    """One that nobody listens on at the moment."""
    with socket.create_server((_HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
