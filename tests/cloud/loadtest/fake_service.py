"""A service without a model: it keeps the contract, or breaks it in one way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from queue import SimpleQueue

import grpc

from edgewise_cloud.serving.security.settings import Security
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

MODEL = pb.GetModelResponse(
    name="fake", vocabulary="v" * 64, vocabulary_size=50, context_window=100
)
OPEN = Security()
Responses = list[pb.GenerateResponse]


def valid_responses(request: pb.GenerateRequest) -> Responses:
    """One message per token, and a last one."""
    start = len(request.token_ids)
    end = start + request.max_tokens
    return [
        *(pb.GenerateResponse(position=n, token_ids=[7]) for n in range(start, end)),
        pb.GenerateResponse(
            position=end,
            finish_reason=pb.FINISH_REASON_LENGTH,
            usage=pb.Usage(prompt_tokens=start, completion_tokens=request.max_tokens),
            timings=pb.Timings(queued=0.25),
        ),
    ]


class FakeService(pb_grpc.GeneratorServicer):
    """Answers each request with `responses(request)`, and remembers what it received."""

    def __init__(
        self,
        token_time: float = 0.0,  # seconds
        *,
        responses: Callable[[pb.GenerateRequest], Responses] = valid_responses,
        loading: int = 0,  # how many times GetModel answers that the model is loading
        stall_after: int | None = None,  # messages after which a response stalls
    ) -> None:
        self._token_time = token_time
        self._responses = responses
        self._loading = loading
        self._stall_after = stall_after
        self.requests: list[pb.GenerateRequest] = []
        self.peers: set[str] = set()
        self.cancelled = 0

    async def GetModel(self, request: object, context: object) -> pb.GetModelResponse:
        if self._loading:
            self._loading -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the model is still loading")
        return MODEL

    async def Generate(
        self, request: pb.GenerateRequest, context: object
    ) -> AsyncIterator[pb.GenerateResponse]:
        self.requests.append(request)
        self.peers.add(context.peer())
        try:
            for number, response in enumerate(self._responses(request)):
                if number == self._stall_after:
                    await asyncio.Event().wait()
                await asyncio.sleep(self._token_time)
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise


@asynccontextmanager
async def serving_fake(fake: FakeService, security: Security = OPEN) -> AsyncIterator[str]:
    """Serve `fake` on a real socket, secured as our service is; yields HOST:PORT."""
    server = grpc.aio.server(interceptors=security.interceptors())
    pb_grpc.add_GeneratorServicer_to_server(fake, server)
    if credentials := security.credentials():
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@contextmanager
def fake_in_thread(fake: FakeService, security: Security = OPEN) -> Iterator[str]:
    """The same for a client in another process."""
    started: SimpleQueue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def serve() -> None:
        stop = asyncio.Event()
        async with serving_fake(fake, security) as address:
            started.put((address, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    address, loop, stop = started.get(timeout=60)
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
