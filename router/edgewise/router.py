"""The router: gathers what is known, decides, and acts on the decision."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from edgewise.cloud.config import CloudSecurity, CloudTimeouts
from edgewise.device.source import DeviceSource, ModelAvailability
from edgewise.device.state import CachedProbe, DeviceProbe, read_device_state
from edgewise.errors import Failure, NoSourceError, failed
from edgewise.generation.event_emitter import Telling
from edgewise.generation.events import Announcer, Observer
from edgewise.generation.loop import Standing, Writing
from edgewise.generation.partial_response import Draft
from edgewise.generation.request import AllowCloudRequest, AnyRequest, RequestOptions, word
from edgewise.generation.request_builder import Asking, Classify
from edgewise.generation.result import Generation
from edgewise.generation.source import Side, Sides
from edgewise.generation.stream import AsyncTextStream, TextStream
from edgewise.latency.log import LatencyLog, default_path
from edgewise.policy.advisor import Gathering
from edgewise.policy.types import (
    Decision,
    DeviceState,
    Limits,
    Mode,
    NoSource,
    Privacy,
    Source,
)
from edgewise_edge import Manifest

if TYPE_CHECKING:
    from edgewise.cloud.source import CloudSource
    from edgewise_edge.profiling import Profile


class Router:
    """Answers prompts on the device or in the cloud, whichever may and fits, device first.

    `model` is a bundled model's name or a model folder; `cloud` the HOST:PORT of an
    `edgewise-cloud serve` of the same model, `cloud_security` what that one asks for. The device's
    model is loaded when first needed and unloaded once it has been idle for `keep_alive` seconds
    (None: never). Raises ModelError for a model that is none and ConfigurationError for settings
    that cannot work.

    A prompt for which a request says nothing is `default_privacy`, or what `classify(prompt)` says;
    what either calls private stays on the device. `observers` are told what happens, without any
    content (events.py). `device` and `latency` are seams: a state of the device made up by a test
    or demo, and measurements kept elsewhere than the cache folder.
    """

    def __init__(
        self,
        model: str | Path = "tales",
        *,
        cloud: str | None = None,
        cloud_security: CloudSecurity | None = None,
        cloud_timeouts: CloudTimeouts | None = None,
        mode: Mode | str = Mode.PREFER_ON_DEVICE,
        default_privacy: Privacy | str = Privacy.ALLOW_CLOUD,
        classify: Classify | None = None,
        limits: Limits | None = None,
        offline: bool = False,
        threads: int | None = None,
        keep_alive: float | None = None,
        observers: Iterable[Observer] = (),
        device: DeviceProbe = read_device_state,
        latency: LatencyLog | None = None,
    ) -> None:
        mode, default_privacy = word(Mode, mode), word(Privacy, default_privacy)
        self._probe = CachedProbe(device)
        self._latency = latency or LatencyLog(default_path())
        self._announcer = Announcer(observers)
        limits = limits or Limits()
        self._on_device = DeviceSource(model, self._latency, threads, keep_alive, limits.max_queue)
        self._asking = Asking(
            self._on_device.manifest, self._on_device.tokenizer, mode, default_privacy, classify
        )
        self._in_cloud: CloudSource | None = None
        if cloud and not offline:
            stays_here = mode is Mode.ONLY_ON_DEVICE or default_privacy is Privacy.PRIVATE
            self._in_cloud = self._connect(
                cloud, cloud_security, cloud_timeouts, background=not stays_here
            )
        self._gathering = Gathering(
            self._probe, limits, self._on_device, self._in_cloud, offline=offline
        )

    def stream(self, prompt: str, **options: Unpack[RequestOptions]) -> TextStream:
        """Start answering `prompt`; iterate the result for chunks of text.

        Options are those of RequestOptions; what is left out comes from this router and the
        model's manifest, the seed from chance. Raises RequestError for a request that no side
        could answer and NoSourceError when no side may, both before any work.
        """
        started = time.monotonic()
        request, manifest = self._asking.request(prompt, options), self._on_device.manifest
        model = f"{manifest.name}@{manifest.revision}"
        telling = Telling(self._announcer, model, request.privacy)
        # Where the cloud is chosen anyway, the device's model need not be loaded to time it.
        budgeted = bool(request.first_token_budget or request.latency_budget)
        sides = {Source.ON_DEVICE} if budgeted else set[Source]()
        try:
            decision = self._decided(request, calibrate_for=sides)
        except NoSourceError as error:
            telling.refused(error.vetoes)
            raise
        cloud_matters = budgeted or decision.source is Source.IN_CLOUD
        if self._in_cloud and cloud_matters and isinstance(request, AllowCloudRequest):
            self._in_cloud.refresh()
        writing = Writing(
            request,
            decision,
            Draft(request, self._on_device.tokenizer, model, started),
            advisor=self._gathering,
            sides=self._sides(request),
            telling=telling,
        )
        return TextStream(writing)

    def generate(self, prompt: str, **options: Unpack[RequestOptions]) -> Generation:
        """Answer `prompt` and return the whole of it; see `stream`."""
        with self.stream(prompt, **options) as stream:
            for _ in stream:
                pass
            return stream.generation

    def astream(self, prompt: str, **options: Unpack[RequestOptions]) -> AsyncTextStream:
        """As `stream`, for asyncio: `async for chunk in router.astream(prompt)`.

        What `stream` raises at once is raised with the first chunk.
        """
        return AsyncTextStream(lambda: self.stream(prompt, **options))

    async def agenerate(self, prompt: str, **options: Unpack[RequestOptions]) -> Generation:
        """As `generate`, for asyncio; cancelling the task stops the work."""
        async with self.astream(prompt, **options) as stream:
            async for _ in stream:
                pass
            return stream.generation

    async def aroute(self, prompt: str, **options: Unpack[RequestOptions]) -> Decision:
        """As `route`, for asyncio."""
        import asyncio  # 30 ms, which apps without it need not pay

        return await asyncio.to_thread(self.route, prompt, **options)

    def route(self, prompt: str, **options: Unpack[RequestOptions]) -> Decision:
        """Which side would answer now, and why, without answering. Raises as `stream` does."""
        return self._decided(self._asking.request(prompt, options), calibrate_for=set(Source))

    def availability(self) -> ModelAvailability:
        """Whether the model is on this device, and whether it is loaded."""
        return self._on_device.availability()

    @property
    def model(self) -> Manifest:
        """What the device's model says of itself."""
        return self._on_device.manifest

    def verify_model(self) -> None:
        """Compare the device's model with its manifest, byte for byte. Raises ModelError."""
        self._on_device.verify()

    def measure(self) -> "Profile":
        """Measure the device's model in a process of its own, and predict its times by what was
        found. Takes some seconds. Raises ModelError or RuntimeFailedError.
        """
        return self._on_device.measure()

    def describe_cloud(self) -> str | None:
        """Ask the cloud what it serves, and how busy it is; None without one.

        Raises SourceFailedError.
        """
        if self._in_cloud is None:
            return None
        found, load = self._in_cloud.describe(), self._in_cloud.load()
        return (
            f"{found.name}@{found.revision}, context window {found.context_window}; "
            f"{load.running} of {load.slots} slots taken, {load.waiting} waiting"
        )

    def device_state(self) -> DeviceState:
        """The device as this router sees it, at most a second old."""
        return self._probe()

    def warm_up(self) -> None:
        """Load the device's model ahead of the first request; idle time counts from here."""
        self._on_device.warm_up()

    def close(self) -> None:
        """Unload the model and close the connection; the router must not be used afterwards."""
        self._on_device.unload()
        if self._in_cloud:
            self._in_cloud.close()
        self._latency.save()

    def __enter__(self) -> Self:
        """Use as a context manager to have it closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _connect(
        self,
        address: str,
        security: CloudSecurity | None,
        timeouts: CloudTimeouts | None,
        *,
        background: bool,
    ) -> "CloudSource":
        from edgewise.cloud.source import CloudSource  # gRPC: for those who set an address only

        vocabulary = self._on_device.tokenizer.fingerprint
        return CloudSource(
            address, vocabulary, self._latency, security, timeouts, background=background
        )

    def _sides(self, request: AnyRequest) -> Sides:
        """The sides that a request may use at all."""
        sides: dict[Source, Side[Any]] = {}
        if request.mode is not Mode.ONLY_IN_CLOUD:
            sides[Source.ON_DEVICE] = Side(self._on_device, request.tokens)
        # Without the first condition mypy objects: what a private request asks for, the cloud
        # does not take.
        if (
            isinstance(request, AllowCloudRequest)
            and self._in_cloud
            and request.mode is not Mode.ONLY_ON_DEVICE
        ):
            sides[Source.IN_CLOUD] = Side(self._in_cloud, request.tokens)
        return sides

    def _decided(self, request: AnyRequest, *, calibrate_for: set[Source]) -> Decision:
        """Decide, timing the device first if it may run and a side of `calibrate_for` is chosen."""
        started = time.monotonic()
        outcome = self._gathering.decide(request, Standing())
        if (
            isinstance(outcome, Decision)
            and outcome.source in calibrate_for
            and Source.ON_DEVICE not in outcome.vetoes
            and not self._on_device.measured
        ):
            left = {}
            try:
                self._on_device.calibrate()
            except Failure as error:
                left[Source.ON_DEVICE] = failed(error)
            spent = time.monotonic() - started
            outcome = self._gathering.decide(request, Standing(elapsed=spent, abandoned=left))
        if isinstance(outcome, NoSource):
            raise NoSourceError(outcome)
        return outcome
