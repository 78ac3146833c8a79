"""The device as a source of tokens: loads its model when first needed."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgewise.errors import ConfigurationError
from edgewise.policy import Availability, EdgeState, PredictedTime
from edgewise_edge import (
    DeviceModel,
    Manifest,
    ModelError,
    SamplingParams,
    TokenRequest,
    find_model,
)
from edgewise_edge.manifest import MODEL_FILE
from edgewise_edge.model import load_tokenizer
from edgewise_edge.profiling import Profile, profile

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


class OnDevice:
    """The model on this device. Raises ModelError at once for a folder that is no model.

    It is loaded when first needed and unloaded once it has been idle for `keep_alive` seconds
    (None: never).
    """

    def __init__(
        self, model: str | Path, threads: int | None = None, keep_alive: float | None = None
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigurationError(f"threads is {threads}; it must be 1 or more")
        if keep_alive is not None and not 0 <= keep_alive <= threading.TIMEOUT_MAX:
            raise ConfigurationError(f"keep_alive is {keep_alive}; it must be 0 seconds or more")
        self._folder = find_model(model)
        self._threads, self._keep_alive = threads, keep_alive
        self.manifest = Manifest.read(self._folder)
        self.tokenizer = load_tokenizer(self._folder, self.manifest)
        self.key = f"on_device/{self.manifest.name}/{self.manifest.revision}/{threads or 'auto'}"
        self.cuts_at: int | None = self.manifest.architecture.context_window
        self._model: DeviceModel | None = None
        self._loading = threading.Lock()
        self._counter = threading.Lock()
        self._queue_length = 0
        self._unloading: threading.Timer | None = None

    def availability(self) -> ModelAvailability:
        """Whether the model is here, and loaded; cheap."""
        problem = "" if self._model else self._problem()
        status = Availability.UNAVAILABLE if problem else Availability.AVAILABLE
        return ModelAvailability(status, self._model is not None, problem)

    def state(self, predicted: PredictedTime) -> EdgeState:
        """What the policy needs to know; cheap."""
        model = self.availability()
        return EdgeState(
            availability=model.status,
            detail=model.detail,
            context_window=self.manifest.architecture.context_window,
            memory_needed=0 if model.loaded else self.manifest.memory,
            queue_length=self._queue_length,
            predicted=predicted,
        )

    def stream(
        self, request: TokenRequest, cancelled: threading.Event
    ) -> Generator[int, None, None]:
        """The new tokens. Raises ModelError or RuntimeFailedError.

        Requests that run at once share the processor step by step, each with a cache of its own.
        """
        with self._counted():
            yield from self._loaded().stream_tokens(request, cancelled)

    def unread(self, request: TokenRequest) -> int:
        """How many of the request's tokens the model has still to read."""
        return request.position - self._loaded().remembered(request.token_ids)

    def prepare(self) -> None:
        """Load the model, unless it is, for a request that follows. Raises ModelError."""
        with self._counter:
            self._stay()
        self._loaded()

    def warm_up(self) -> None:
        """Load the model, unless it is; idle time counts from here. Raises ModelError."""
        with self._counted():
            self._loaded()

    def close(self) -> None:
        """Unload the model, once nothing runs on it any more."""
        with self._counter:
            self._stay()
        self._unload()

    def verify(self) -> None:
        """Compare the model with its manifest, byte for byte. Raises ModelCorruptError."""
        self.manifest.verify(self._folder, [MODEL_FILE])

    def measure(self) -> Profile:
        """Measure the model in a process of its own. Raises RuntimeFailedError."""
        return profile(self._folder, self._threads)

    def calibration_request(self) -> TokenRequest:
        """A short piece of work, to learn this device's speed by."""
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
    def _counted(self) -> Iterator[None]:
        with self._counter:
            self._queue_length += 1
            self._stay()
        try:
            yield
        finally:
            with self._counter:
                self._queue_length -= 1
                if self._keep_alive is not None and not self._queue_length:
                    self._unloading = threading.Timer(self._keep_alive, self._unload_if_idle)
                    self._unloading.daemon = True
                    self._unloading.start()

    def _stay(self) -> None:
        if self._unloading:
            self._unloading.cancel()
            self._unloading = None

    def _unload_if_idle(self) -> None:
        with self._counter:
            if not self._queue_length:
                self._unload()

    def _unload(self) -> None:
        # Whoever streams holds the model, and its memory is given back when they have done.
        self._model = None
