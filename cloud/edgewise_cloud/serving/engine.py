"""Running the full Keras GPT-2 step by step, through KerasHub's own cached forward pass."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import grpc
import numpy as np
import tensorflow as tf
from keras_hub.models import GPT2CausalLM
from numpy.typing import NDArray

from edgewise_cloud.serving.requests import Caller, RefusedError
from edgewise_cloud.serving.slots import Slots, SlotsFullError
from edgewise_cloud.sources import KerasModel
from edgewise_edge.generation import TokenRequest, generate_tokens

PREFILL_CHUNK = 64
CACHE_BUCKETS = (128, 512)  # and the context window


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy an engine is; see generation.proto."""

    slots: int
    running: int
    queue: int
    waiting: int
    tokens_per_second: float
    expected_wait: float


class Run:
    """A request being answered: its new tokens, as an asynchronous iterator."""

    def __init__(self, tokens: AsyncGenerator[int, None]) -> None:
        self.started: float | None = None  # on time.monotonic()'s clock
        self.reused = 0
        self._tokens = tokens

    def __aiter__(self) -> AsyncIterator[int]:
        return self._tokens


class Engine:
    """One Keras model, serving any number of sessions; their steps run one at a time."""

    def __init__(self, model: KerasModel, slots: int = 4, queue: int = 16) -> None:
        self.model = model
        self._slots, self._queue = slots, queue
        self._taken = Slots(slots, queue)
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="generate")
        window = model.architecture.context_window
        self.chunk = min(PREFILL_CHUNK, window)
        self.buckets = [*(size for size in CACHE_BUCKETS if self.chunk <= size < window), window]
        self._lock = threading.Lock()
        causal_lm = GPT2CausalLM(model.backbone)

        def prefill(tokens: tf.Tensor, cache: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
            return causal_lm.call_with_cache(tokens, cache, position)[2]

        def decode(
            tokens: tf.Tensor, cache: tf.Tensor, position: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            logits, _, cache = causal_lm.call_with_cache(tokens, cache, position)
            return logits[0, 0], cache

        # Graphs without XLA: KerasHub's slices make it compile anew for every position.
        self._prefill = tf.function(prefill)
        self._decode = tf.function(decode)

    def warm_up(self) -> None:
        """Trace every shape the service will run."""
        for bucket in self.buckets:
            session = KerasSession(self, bucket)
            session.read([0, 0])

    @asynccontextmanager
    async def run(self, request: TokenRequest, caller: Caller) -> AsyncIterator[Run]:
        """Answer a checked request; leaving stops the work. Raises RefusedError."""
        try:
            async with self._taken.slot():
                run = Run(self._tokens(request))
                run.started = time.monotonic()
                try:
                    yield run
                finally:
                    await run._tokens.aclose()
        except SlotsFullError:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", retry_after=1
            ) from None

    def load(self) -> Load:
        """How busy it is."""
        held = self._taken.held
        return Load(
            slots=self._slots,
            running=min(held, self._slots),
            queue=self._queue,
            waiting=max(0, held - self._slots),
            tokens_per_second=0.0,
            expected_wait=0.0,
        )

    async def idle(self) -> None:
        """Return once nothing runs."""
        await self._taken.idle()

    async def _tokens(self, request: TokenRequest) -> AsyncGenerator[int, None]:
        """The tokens, computed on a thread; leaving early stops the computation."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[int | None] = asyncio.Queue()
        abandoned = threading.Event()

        def work() -> None:
            try:
                with closing(self.generate(request, abandoned)) as tokens:
                    for token in tokens:
                        loop.call_soon_threadsafe(queue.put_nowait, token)
            finally:
                loop.call_soon_threadsafe(queue.put_nowait, None)

        worker = loop.run_in_executor(self._pool, work)
        try:
            while (token := await queue.get()) is not None:
                yield token
            await worker
        finally:
            abandoned.set()
            await asyncio.wait([worker])

    def generate(
        self, request: TokenRequest, cancelled: threading.Event | None = None
    ) -> Generator[int, None, None]:
        """The new tokens of `request`, until `cancelled`; raises RequestError before any work."""
        shape = self.model.architecture
        request.check(shape.context_window, shape.vocabulary_size)
        request.require_room(shape.context_window)
        return generate_tokens(
            KerasSession(self),
            request,
            chunk=self.chunk,
            context_window=shape.context_window,
            cancelled=cancelled,
        )

    def new_cache(self, bucket: int) -> tf.Tensor:
        """Zeros (1, layers, 2, bucket, heads, head size), KerasHub's layout."""
        shape = self.model.architecture
        return tf.zeros((1, shape.layers, 2, bucket, shape.heads, shape.head_size))

    def run_prefill(self, tokens: Sequence[int], cache: tf.Tensor, position: int) -> tf.Tensor:
        """Read `chunk` tokens at `position`; the new cache."""
        return self._run(self._prefill, tokens, cache, position)

    def run_decode(
        self, token: int, cache: tf.Tensor, position: int
    ) -> tuple[NDArray[np.float32], tf.Tensor]:
        """Read one token; the logits (vocabulary,) after it, and the new cache."""
        logits, cache = self._run(self._decode, [token], cache, position)
        return logits.numpy(), cache

    def _run(
        self, step: Callable[..., tf.Tensor], tokens: Sequence[int], cache: tf.Tensor, position: int
    ) -> tf.Tensor:
        with self._lock:
            return step(tf.constant([tokens], tf.int32), cache, tf.constant(position, tf.int32))


class KerasSession:
    """One text being read and written by the engine; a StepSession."""

    def __init__(self, engine: Engine, bucket: int | None = None) -> None:
        self._engine = engine
        self._bucket = bucket or engine.buckets[0]
        self._cache = engine.new_cache(self._bucket)
        self._tokens: list[int] = []

    @property
    def position(self) -> int:
        """Tokens it has read."""
        return len(self._tokens)

    def restart(self) -> None:
        """Forget them."""
        self._tokens = []

    def read(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Read 1 to `engine.chunk` tokens; the logits (vocabulary,) of the one after them."""
        if len(tokens) > 1:
            self._prefill(tokens[:-1])
        self._append(tokens[-1:])
        logits, self._cache = self._engine.run_decode(
            tokens[-1], self._cache, len(self._tokens) - 1
        )
        return logits

    def _prefill(self, tokens: Sequence[int]) -> None:
        self._append(tokens)
        # The traced step takes whole chunks. A shorter one reads tokens before it once more,
        # which changes nothing; only at the very beginning does it need padding, whose rows the
        # next steps overwrite before anything can attend to them.
        chunk = self._engine.chunk
        start = max(0, len(self._tokens) - chunk)
        whole = self._tokens[start:] + [0] * (chunk - len(self._tokens))
        self._cache = self._engine.run_prefill(whole, self._cache, start)

    def _append(self, tokens: Sequence[int]) -> None:
        self._tokens += tokens
        if len(self._tokens) > self._bucket:
            bucket = next(size for size in self._engine.buckets if size >= len(self._tokens))
            more = [(0, 0)] * 3 + [(0, bucket - self._bucket)] + [(0, 0)] * 2
            self._cache, self._bucket = tf.pad(self._cache, more), bucket
