"""The device as a source of tokens: loads its model when first needed."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

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

_CALIBRATION_PROMPT = 65  # tokens: one whole prefill chunk and a first step
_CALIBRATION_ANSWER = 8


class OnDevice:
    """The model on this device. Raises ModelError at once for a folder that is no model."""

    def __init__(self, model: str | Path, threads: int | None = None) -> None:
        self._folder = find_model(model)
        self._threads = threads
        self.manifest = Manifest.read(self._folder)
        self.tokenizer = load_tokenizer(self._folder, self.manifest)
        self.key = f"on_device/{self.manifest.name}/{self.manifest.revision}/{threads or 'auto'}"
        self._model: DeviceModel | None = None
        self._loading = threading.Lock()
        self._counter = threading.Lock()
        self._queue_length = 0

    def state(self, predicted: PredictedTime) -> EdgeState:
        """What the policy needs to know; cheap."""
        problem = "" if self._model else self._problem()
        return EdgeState(
            availability=Availability.UNAVAILABLE if problem else Availability.AVAILABLE,
            detail=problem,
            context_window=self.manifest.architecture.context_window,
            memory_needed=0 if self._model else self.manifest.memory,
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

    def prepare(self) -> None:
        """Load the model, unless it is. Raises ModelError."""
        self._loaded()

    def verify(self) -> None:
        """Compare the model with its manifest, byte for byte. Raises ModelCorruptError."""
        self.manifest.verify(self._folder, [MODEL_FILE])

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
        try:
            yield
        finally:
            with self._counter:
                self._queue_length -= 1
