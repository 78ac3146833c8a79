"""The device as a source of tokens: loads its model when first needed, answers one at a time."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgewise.policy import Availability, EdgeState, PredictedTime
from edgewise_edge import DeviceModel, Manifest, SamplingParams, TokenRequest, find_model
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
        self._turn = threading.Lock()
        self._counter = threading.Lock()
        self._queue_length = 0

    def state(self, predicted: PredictedTime) -> EdgeState:
        """What the policy needs to know; cheap."""
        there = self._model is not None or (self._folder / MODEL_FILE).is_file()
        return EdgeState(
            availability=Availability.AVAILABLE if there else Availability.UNAVAILABLE,
            detail="" if there else f"{self._folder / MODEL_FILE} is missing",
            context_window=self.manifest.architecture.context_window,
            memory_needed=0 if self._model else self.manifest.memory,
            queue_length=self._queue_length,
            predicted=predicted,
        )

    def stream(self, request: TokenRequest) -> Generator[int, None, None]:
        """The new tokens; waits for its turn. Raises ModelError or RuntimeFailedError."""
        with self._in_turn():
            yield from self._loaded().stream_tokens(request)

    def prepare(self) -> None:
        """Load the model, unless it is. Raises ModelError."""
        with self._in_turn():
            self._loaded()

    def calibration_request(self) -> TokenRequest:
        """A short piece of work, to learn this device's speed by."""
        return TokenRequest(
            token_ids=(0,)
            * min(_CALIBRATION_PROMPT, self.manifest.architecture.context_window - 8),
            prompt_tokens=_CALIBRATION_PROMPT,
            max_tokens=_CALIBRATION_ANSWER,
            sampling=SamplingParams(temperature=0),
        )

    def _loaded(self) -> DeviceModel:
        if self._model is None:
            self._model = DeviceModel.load(self._folder, threads=self._threads)
        return self._model

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        with self._counter:
            self._queue_length += 1
        try:
            with self._turn:
                yield
        finally:
            with self._counter:
                self._queue_length -= 1
