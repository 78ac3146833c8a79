"""The device as a source of tokens."""

import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

from edgewise.device.queue import DeviceQueue
from edgewise.generation.attempt import Attempt, AttemptOptions, StopSignal
from edgewise.generation.source import ModelAvailability
from edgewise.latency.log import LatencyLog
from edgewise.latency.machine import machine
from edgewise.latency.measurement import Measurement
from edgewise.policy.types import (
    Availability,
    EdgeState,
    PolicyLimits,
    PredictedTime,
    Source,
    VetoCode,
)
from edgewise_edge import (
    Manifest,
    ModelError,
    RuntimeFailedError,
    SamplingParams,
    TokenRequest,
    TokenScore,
    find_model,
)
from edgewise_edge.decoding.load import load_tokenizer
from edgewise_edge.lease import SharedModel
from edgewise_edge.store.manifest import MODEL_FILE

if TYPE_CHECKING:
    from edgewise_edge import DeviceModel
    from edgewise_edge.profiling import Profile

_CALIBRATION_PROMPT = 65  # tokens
_CALIBRATION_ANSWER = 8  # tokens


class Watch(Protocol):
    """Watches the loads and generations of one DeviceSource."""

    def starting(self) -> AbstractContextManager[None]:
        """While the model is loaded or run."""

    def successor(self, source: "DeviceSource", error: Exception) -> "DeviceSource | None":
        """What continues in place of `source`, which fails with `error`; None: nothing."""

    def run(
        self, source: "DeviceSource", request: TokenRequest, attempt: Attempt
    ) -> Generator[int, None, None]:
        """The tokens of `source.run()`, and of what continues where it fails."""


class _Unwatched:
    """Nothing can take the place of the model: it lies in a folder that the app named."""

    def starting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def successor(self, *_: object) -> None:
        return None

    def run(
        self, source: "DeviceSource", request: TokenRequest, attempt: Attempt
    ) -> Generator[int, None, None]:
        return source.run(request, attempt)


UNWATCHED: Watch = _Unwatched()


def _no_tokens(_: Attempt) -> Generator[int, None, None]:
    """Attempt.run of one that only takes a place."""
    yield from ()


class DeviceSource:
    """One revision of a model on this device. It is loaded when first needed.

    After `keep_alive` seconds without a generation it is unloaded (None: never). `watch` is told how
    loads and generations end, and names what continues after a failure. Raises ModelError for a
    folder without a valid model.
    """

    def __init__(
        self,
        model: str | Path,
        latency: LatencyLog,
        threads: int | None = None,
        keep_alive: float | None = None,
        watch: Watch = UNWATCHED,
    ) -> None:
        self.folder = find_model(model)
        self._watch = watch
        self._threads, self._latency = threads, latency
        self.manifest = Manifest.read(self.folder)
        self.tokenizer = load_tokenizer(self.folder, self.manifest)
        name = f"{self.manifest.name}/{self.manifest.revision}"
        self.key = f"on_device/{machine()}/{name}/{threads or 'auto'}"  # in the latency log
        self._shared = SharedModel(self._load, keep_alive)
        self.loading = self._shared.loading  # held while the model is being loaded
        self.lock = self._shared.lock  # of all that threads share here
        self._queue = DeviceQueue(self.lock)

    @property
    def model(self) -> "DeviceModel | None":
        """The model while it is loaded."""
        return self._shared.model

    @property
    def running(self) -> list[Attempt]:
        """The attempts that have a place on the device."""
        return self._queue.running

    @property
    def in_use(self) -> bool:
        """Whether an attempt runs or loads the model."""
        return self._shared.leased

    def availability(self) -> ModelAvailability:
        """Whether the model is on the device, and whether it is loaded; cheap."""
        problem = None if self.model else self._problem()
        if problem and not self._watch.successor(self, problem):
            return ModelAvailability(Availability.UNAVAILABLE, loaded=False, detail=str(problem))
        return ModelAvailability(Availability.AVAILABLE, self.model is not None)

    def state(self, token_ids: Sequence[int], max_tokens: int) -> EdgeState:
        """What the policy needs to know, for `max_tokens` more tokens after `token_ids`; cheap."""
        available = self.availability()
        return EdgeState(
            availability=available.status,
            detail=available.detail,
            context_window=self.manifest.architecture.context_window,
            # A model that is being loaded already takes the memory.
            memory_needed=0 if available.loaded or self.loading.locked() else self.manifest.memory,
            queue_length=len(self.running),
            predicted=self._predict(token_ids, max_tokens),
        )

    def _load(self) -> "DeviceModel":
        from edgewise_edge import DeviceModel  # imports NumPy, which takes most of an import's time

        return DeviceModel.load(self.folder, threads=self._threads)

    @property
    def measured(self) -> bool:
        """Whether its speed has been measured."""
        return any(known.complete for known in self._latency.measured(self.key))

    def open(self, request: TokenRequest, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """An attempt at as many tokens as fit the context window, or at all if it may slide.

        Its iteration raises ModelError, RuntimeFailedError or DeviceBusyError. Concurrent attempts
        take turns, step by step, each with its own cache.
        """
        if not request.sliding_window:
            room = self.manifest.architecture.context_window - request.position
            request = replace(request, max_tokens=min(request.max_tokens, room))
        run = partial(self._watch.run, self, request)
        return Attempt(Source.ON_DEVICE, request.position, request.max_tokens, run, **options)

    def score(
        self,
        request: TokenRequest,
        top: int,
        stop: StopSignal,
        *,
        limits: PolicyLimits | None = None,
        may_wait: bool = False,
    ) -> tuple[TokenScore, ...]:
        """The score of each of the request's tokens; see DeviceTokenSource.

        It takes a place as an attempt does. Nothing is learned from its time, which is that of no
        generation.
        """
        place = Attempt(
            Source.ON_DEVICE, 0, 0, _no_tokens, limits=limits, may_wait=may_wait, stop=stop
        )
        try:
            with (
                self._watch.starting(),
                self._shared.lease() as model,
                self._queue.place(place, limits),
            ):
                return model.score(request.token_ids, top=top, cancelled=stop)
        except (ModelError, RuntimeFailedError) as error:
            other = self._watch.successor(self, error)
            if other is None or request.position > other.manifest.architecture.context_window:
                raise  # then the cloud may be asked
        return other.score(request, top, stop, limits=limits, may_wait=may_wait)

    def calibrate(self) -> None:
        """Measure this device's speed with a short generation. Raises as an attempt's iteration."""
        with self.open(self._calibration_request()) as attempt:
            for _ in attempt:
                pass

    def warm_up(self) -> None:
        """Load the model if it is not loaded; the idle time starts here. Raises ModelError."""
        with self._watch.starting(), self._shared.lease():
            pass

    def unload(self) -> None:
        """Unload the model once the running attempts have ended; it is loaded again when needed."""
        self._shared.unload()

    def retire(self) -> None:
        """Another revision takes its place: a text that still needs this one does not keep it."""
        self._shared.keep_alive = 0.0
        self._shared.unload()

    def verify(self) -> None:
        """Compare the model with its manifest, byte for byte. Raises ModelCorruptError."""
        self.manifest.verify(self.folder, [MODEL_FILE])

    def measure(self) -> "Profile":
        """Profile the model in a child process; predictions then follow the result.

        Raises ModelError or RuntimeFailedError.
        """
        from edgewise_edge.profiling import profile

        found = profile(self.folder, self._threads)
        # Four times: enough to outweigh older measurements, and few enough for newer ones to win.
        for run in (found.short, found.long) * 4:
            self._latency.add(
                self.key,
                Measurement(
                    position=run.prompt_tokens,
                    uncached=run.prompt_tokens,
                    first_token=run.first_token,
                    tokens=64,  # about as many as the profile generates
                    decode_time=run.gap * 63,
                    at=time.time(),
                ),
            )
        return found

    def run(self, request: TokenRequest, attempt: Attempt) -> Generator[int, None, None]:
        """Attempt.run: load, then generate."""
        started, was_loaded = time.monotonic(), self.model is not None
        with self._shared.lease() as model:
            load_time = 0.0
            if not was_loaded:
                load_time = time.monotonic() - started
                self._latency.add_load_time(self.key, load_time)
            try:
                with self._queue.place(attempt, attempt.limits):
                    uncached = request.position - model.cached_prefix(request.token_ids)
                    attempt.ready(uncached=uncached, load_time=load_time)
                    yield from model.stream_tokens(request, attempt.stop, attempt.scores.append)
                short = attempt.handoff and attempt.handoff.code is VetoCode.MEMORY
                if short and not attempt.what_if:
                    self.unload()  # frees the memory that the device is short of
            finally:
                self._learn(attempt)

    def _learn(self, attempt: Attempt) -> None:
        """Log how long it took, unless concurrent attempts have slowed it down."""
        if attempt.alone and (measurement := attempt.measurement()):
            self._latency.add(self.key, measurement)

    def _predict(self, token_ids: Sequence[int], max_tokens: int) -> PredictedTime:
        model, position = self.model, len(token_ids)
        room = self.manifest.architecture.context_window - position
        return self._latency.predict_on_device(
            self.key,
            position=position,
            uncached=position - (model.cached_prefix(token_ids) if model else 0),
            max_tokens=max(1, min(max_tokens, room)),
            loaded=model is not None,
            queue_length=len(self.running),
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

    def _problem(self) -> ModelError | None:
        try:
            self.manifest.verify_size(self.folder, MODEL_FILE)
        except ModelError as error:
            return error
        return None
