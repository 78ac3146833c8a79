"""The device as a source of tokens: loads its model when first needed."""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise.errors import ConfigurationError, DeviceBusyError
from edgewise.generation.attempt import Attempt
from edgewise.latency.log import LatencyLog, Measurement, machine
from edgewise.policy.types import Availability, EdgeState, Limits, PredictedTime, Source, VetoCode
from edgewise_edge import (
    DeviceModel,
    Manifest,
    ModelError,
    SamplingParams,
    TokenRequest,
    find_model,
)
from edgewise_edge.model import load_tokenizer
from edgewise_edge.store.manifest import MODEL_FILE

if TYPE_CHECKING:
    from edgewise_edge.profiling import Profile

_CALIBRATION_PROMPT = 65  # tokens: one whole prefill chunk and a first step
_CALIBRATION_ANSWER = 8


@dataclass(frozen=True, slots=True)
class ModelAvailability:
    """Whether the model is on the device, and in memory."""

    status: Availability
    loaded: bool
    detail: str = ""  # why it is not available

    def __str__(self) -> str:
        """For people."""
        return f"{self.status}, {'loaded' if self.loaded else 'not loaded'}"


class DeviceSource:
    """The model on this device. Raises ModelError at once for a folder that is no model.

    It is loaded when first needed and unloaded once it has been idle for `keep_alive` seconds
    (None: never).
    """

    def __init__(
        self,
        model: str | Path,
        latency: LatencyLog,
        threads: int | None = None,
        keep_alive: float | None = None,
        max_queue: int = Limits().max_queue,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigurationError(f"threads is {threads}; it must be 1 or more")
        if keep_alive is not None and not 0 <= keep_alive <= threading.TIMEOUT_MAX:
            raise ConfigurationError(f"keep_alive is {keep_alive}; it must be 0 seconds or more")
        self._max_queue = max_queue
        self._folder = find_model(model)
        self._threads, self._keep_alive, self._latency = threads, keep_alive, latency
        self.manifest = Manifest.read(self._folder)
        self.tokenizer = load_tokenizer(self._folder, self.manifest)
        name = f"{self.manifest.name}/{self.manifest.revision}"
        self.key = f"on_device/{machine()}/{name}/{threads or 'auto'}"
        self.cuts_at: int | None = self.manifest.architecture.context_window
        self._model: DeviceModel | None = None
        self._loading = threading.Lock()
        # Re-entrant, since a stream may be collected, and end, in the middle of anything.
        self._counter = threading.RLock()
        self._writing: list[Attempt] = []  # or loading
        self._unloading: threading.Timer | None = None

    def availability(self) -> ModelAvailability:
        """Whether the model is here, and loaded; cheap."""
        problem = "" if self._model else self._problem()
        status = Availability.UNAVAILABLE if problem else Availability.AVAILABLE
        return ModelAvailability(status, self._model is not None, problem)

    def state(self, token_ids: Sequence[int], max_tokens: int) -> EdgeState:
        """What the policy needs to know, for `max_tokens` more after these tokens; cheap."""
        model = self.availability()
        return EdgeState(
            availability=model.status,
            detail=model.detail,
            context_window=self.manifest.architecture.context_window,
            # While it is being loaded, it is its own memory that goes.
            memory_needed=0 if model.loaded or self._loading.locked() else self.manifest.memory,
            queue_length=len(self._writing),
            predicted=self._predict(token_ids, max_tokens),
        )

    @property
    def measured(self) -> bool:
        """Whether anything is known of its speed."""
        return bool(self._latency.measured(self.key))

    def prepare(self, request: TokenRequest, attempt: Attempt) -> None:  # noqa: ARG002  # any
        """Load the model, unless it is, for a request that follows. Raises ModelError."""
        with self._counter:
            self._stay()
        started, was_loaded = time.monotonic(), self._model is not None
        self._loaded()
        if not was_loaded:
            attempt.load_time = time.monotonic() - started
            self._latency.add_load_time(self.key, attempt.load_time)

    def uncached(self, request: TokenRequest) -> int:
        """How many of the request's tokens the model has still to read."""
        return request.position - self._loaded().cached_prefix(request.token_ids)

    def stream(self, request: TokenRequest, attempt: Attempt) -> Generator[int, None, None]:
        """The new tokens. Raises ModelError or RuntimeFailedError.

        Texts that are written at once take turns, step by step, each with a cache of its own.
        """
        with self._counted(attempt):
            yield from self._loaded().stream_tokens(request, attempt.stop)
            if attempt.handover and attempt.handover.code is VetoCode.MEMORY:
                self.unload()  # the memory is what others are in want of

    def learn(self, attempt: Attempt) -> None:
        """Remember how long it took. Others beside it would count as its own slowness."""
        if attempt.alone and attempt.first_token is not None:
            self._latency.add(self.key, attempt.measurement())

    def calibrate(self) -> None:
        """Learn this device's speed from a short piece of work. Raises as `stream` does."""
        request = self._calibration_request()
        attempt = Attempt(Source.ON_DEVICE, request.position, request.max_tokens)
        self.prepare(request, attempt)
        attempt.uncached = self.uncached(request)
        with closing(self.stream(request, attempt)) as tokens:
            for _ in attempt.timed(tokens):
                pass
        self.learn(attempt)

    def warm_up(self) -> None:
        """Load the model, unless it is; idle time counts from here. Raises ModelError."""
        with self._counter:
            self._stay()
        self._loaded()
        self._idle()

    def unload(self) -> None:
        """Unload the model, once nothing runs on it any more; it is loaded again when needed."""
        with self._counter:
            self._stay()
        self._unload()

    def verify(self) -> None:
        """Compare the model with its manifest, byte for byte. Raises ModelCorruptError."""
        self.manifest.verify(self._folder, [MODEL_FILE])

    def measure(self) -> "Profile":
        """Measure the model in a process of its own, and predict its times by what was found.

        Raises ModelError or RuntimeFailedError.
        """
        from edgewise_edge.profiling import profile

        found = profile(self._folder, self._threads)
        # Enough to outweigh what was measured before, and less by anything measured from now on.
        for run in (found.short, found.long) * 4:
            self._latency.add(
                self.key,
                Measurement(
                    position=run.prompt_tokens,
                    uncached=run.prompt_tokens,
                    first_token=run.first_token,
                    tokens=64,  # or so: enough to be believed
                    decode_time=run.gap * 63,
                    at=time.time(),
                ),
            )
        return found

    def _predict(self, token_ids: Sequence[int], max_tokens: int) -> PredictedTime:
        model, position = self._model, len(token_ids)
        room = self.manifest.architecture.context_window - position
        return self._latency.predict_on_device(
            self.key,
            position=position,
            uncached=position - (model.cached_prefix(token_ids) if model else 0),
            max_tokens=max(1, min(max_tokens, room)),
            loaded=model is not None,
            queue_length=len(self._writing),
        )

    def _calibration_request(self) -> TokenRequest:
        room = self.manifest.architecture.context_window - _CALIBRATION_ANSWER
        prompt = (0,) * max(1, min(_CALIBRATION_PROMPT, room))
        return TokenRequest(
            token_ids=prompt,
            prompt_tokens=len(prompt),
            max_tokens=_CALIBRATION_ANSWER,
            sampling=SamplingParams(temperature=0),
        )

    def _problem(self) -> str:
        try:
            self.manifest.verify_size(self._folder, MODEL_FILE)
        except ModelError as error:
            return str(error)
        return ""

    def _loaded(self) -> DeviceModel:
        with self._loading:
            if self._model is None:
                self._model = DeviceModel.load(self._folder, threads=self._threads)
            return self._model

    @contextmanager
    def _counted(self, attempt: Attempt) -> Iterator[None]:
        with self._counter:
            if len(self._writing) >= self._max_queue:  # since the decision
                raise DeviceBusyError(f"the device is writing {len(self._writing)} texts already")
            self._writing.append(attempt)
            if len(self._writing) > 1:
                for other in self._writing:
                    other.alone = False
            self._stay()
        try:
            yield
        finally:
            with self._counter:
                self._writing.remove(attempt)  # in one step: others may be collected, and leave
                self._idle()

    def _idle(self) -> None:
        """Count the idle time from here, unless something is written."""
        with self._counter:
            self._stay()
            if self._keep_alive is not None and not self._writing:
                self._unloading = threading.Timer(self._keep_alive, self._unload_if_idle)
                self._unloading.daemon = True
                self._unloading.start()

    def _stay(self) -> None:
        if self._unloading:
            self._unloading.cancel()
            self._unloading = None

    def _unload_if_idle(self) -> None:
        with self._counter:
            if not self._writing:
                self._unload()

    def _unload(self) -> None:
        # Whoever streams holds the model, and its memory is given back when they have done.
        self._model = None
