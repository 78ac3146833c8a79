"""The router: gathers what is known, decides, and acts on the decision."""

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from edgewise.cloud_security import CloudSecurity
from edgewise.device import CachedProbe, DeviceProbe, read_device_state
from edgewise.errors import NoSourceError
from edgewise.generation import Generation
from edgewise.latency import (
    WINDOW,
    LatencyLog,
    Measurement,
    default_path,
    predict_in_cloud,
    predict_on_device,
)
from edgewise.on_device import ModelAvailability, OnDevice
from edgewise.policy import (
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
    Limits,
    Mode,
    NoSource,
    Privacy,
    RoutingRequest,
    Source,
    decide,
)
from edgewise.request import DEFAULT_MAX_TOKENS, Request, RequestOptions, word
from edgewise.stream import Failure, TextStream, TokenSource, Writing
from edgewise_edge import ContextOverflowError, Manifest
from edgewise_edge.profiling import Profile
from edgewise_edge.sampling import sampling_params

if TYPE_CHECKING:
    from edgewise.in_cloud import InCloud

_SAMPLING = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")


class Router:
    """Answers prompts on the device or in the cloud, whichever may and fits, device first.

    `model` is a bundled model's name or a model folder; `cloud` the HOST:PORT of an
    `edgewise-cloud serve` of the same model, `cloud_security` what that one asks for. The device's
    model is loaded when first needed and unloaded once it has been idle for `keep_alive` seconds
    (None: never). Raises ModelError for a model that is none and ConfigurationError for settings
    that cannot work. `device` and `latency` are seams: a state of the device made up by a test or
    demo, and measurements kept elsewhere than the cache folder.
    """

    def __init__(
        self,
        model: str | Path = "tales",
        *,
        cloud: str | None = None,
        cloud_security: CloudSecurity | None = None,
        mode: Mode | str = Mode.PREFER_ON_DEVICE,
        default_privacy: Privacy | str = Privacy.ALLOW_CLOUD,
        limits: Limits | None = None,
        offline: bool = False,
        threads: int | None = None,
        keep_alive: float | None = None,
        device: DeviceProbe = read_device_state,
        latency: LatencyLog | None = None,
    ) -> None:
        self._mode = word(Mode, mode)
        self._default_privacy = word(Privacy, default_privacy)
        self._limits = limits or Limits()
        self._offline = offline
        self._probe = CachedProbe(device)
        self._latency = latency or LatencyLog(default_path())
        self._on_device = OnDevice(model, threads, keep_alive)
        self._in_cloud = self._connect(cloud, cloud_security) if cloud and not offline else None

    def stream(self, prompt: str, **options: Unpack[RequestOptions]) -> TextStream:
        """Start answering `prompt`; iterate the result for chunks of text.

        Options are those of RequestOptions; what is left out comes from this router and the
        model's manifest, the seed from chance. Raises RequestError for a request that no side
        could answer and NoSourceError when no side may, both before any work.
        """
        started = time.monotonic()
        request = self._request(prompt, options)
        # Where the cloud is chosen anyway, the device's model need not be loaded to time it.
        budgeted = bool(request.first_token_budget or request.latency_budget)
        sides = {Source.ON_DEVICE} if budgeted else set[Source]()
        decision = self._decided(request, calibrate_for=sides)
        manifest = self._on_device.manifest
        writing = Writing(
            request,
            decision,
            decide=self._decide,
            source=self._source,
            latency=self._latency,
            tokenizer=self._on_device.tokenizer,
            model=f"{manifest.name}@{manifest.revision}",
            started=started,
        )
        return TextStream(writing)

    def generate(self, prompt: str, **options: Unpack[RequestOptions]) -> Generation:
        """Answer `prompt` and return the whole of it; see `stream`."""
        with self.stream(prompt, **options) as stream:
            for _ in stream:
                pass
            return stream.generation

    def route(self, prompt: str, **options: Unpack[RequestOptions]) -> Decision:
        """Which side would answer now, and why, without answering. Raises as `stream` does."""
        return self._decided(self._request(prompt, options), calibrate_for=set(Source))

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

    def measure(self) -> Profile:
        """Measure the device's model in a process of its own, and predict its times by what was
        found. Takes some seconds. Raises ModelError or RuntimeFailedError.
        """
        found = self._on_device.measure()
        # Enough to outweigh what was measured before, and less by anything measured from now on.
        for run in (found.short, found.long) * (WINDOW // 2):
            measurement = Measurement(run.prompt_tokens, run.first_token, run.gap)
            self._latency.add(self._on_device.key, measurement)
        return found

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
        self._on_device.close()
        if self._in_cloud:
            self._in_cloud.close()

    def __enter__(self) -> Self:
        """Use as a context manager to have it closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _connect(self, address: str, security: CloudSecurity | None) -> "InCloud":
        from edgewise.in_cloud import InCloud  # gRPC: for those who set an address only

        return InCloud(address, self._on_device.tokenizer.fingerprint, security)

    def _request(self, prompt: str, options: Mapping[str, Any]) -> Request:
        given = {name: value for name, value in options.items() if value is not None}
        recommended = self._on_device.manifest.sampling
        sampling = sampling_params(
            recommended, {name: given.pop(name) for name in _SAMPLING if name in given}
        )
        stop = given.pop("stop", ())
        prompt_ids = tuple(self._on_device.tokenizer.encode(prompt))
        sliding_window, window = (
            given.pop("sliding_window", False),
            self.model.architecture.context_window,
        )
        if sliding_window and len(prompt_ids) >= window:
            raise ContextOverflowError(len(prompt_ids), window)
        return Request(
            prompt_ids=prompt_ids,
            sliding_window=sliding_window,
            max_tokens=given.pop("max_tokens", DEFAULT_MAX_TOKENS),
            sampling=sampling,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            mode=word(Mode, given.pop("mode", self._mode)),
            privacy=word(Privacy, given.pop("privacy", self._default_privacy)),
            first_token_budget=given.pop("first_token_budget", None),
            latency_budget=given.pop("latency_budget", None),
            **given,  # nothing, or what Python calls an unexpected argument
        )

    def _decided(self, request: Request, *, calibrate_for: set[Source]) -> Decision:
        """Decide, timing the device first if it may run and a side of `calibrate_for` is chosen."""
        tokens, failed = len(request.prompt_ids), dict[Source, str]()
        outcome = self._decide(request, tokens, failed)
        if (
            isinstance(outcome, Decision)
            and outcome.source in calibrate_for
            and Source.ON_DEVICE not in outcome.vetoes
            and not self._measured(self._on_device)
        ):
            try:
                self._calibrate()
            except Failure as error:
                failed[Source.ON_DEVICE] = str(error)
            outcome = self._decide(request, tokens, failed)
        if isinstance(outcome, NoSource):
            raise NoSourceError(outcome)
        return outcome

    def _decide(
        self, request: Request, tokens: int, failed: Mapping[Source, str]
    ) -> Decision | NoSource:
        """Decide for a sequence that has `tokens` now, prompt and answer together."""
        left = request.max_tokens - (tokens - len(request.prompt_ids))
        routing = RoutingRequest(
            mode=request.mode,
            privacy=request.privacy,
            prompt_tokens=tokens,
            max_tokens=left,
            first_token_budget=request.first_token_budget,
            latency_budget=request.latency_budget,
            offline=self._offline,
            sliding_window=request.sliding_window,
            failed=dict(failed),
        )
        return decide(
            routing,
            self.device_state(),
            self._edge_state(tokens, left),
            self._cloud_state(left),
            self._limits,
        )

    def _edge_state(self, tokens: int, left: int) -> EdgeState:
        measured = self._measured(self._on_device)
        return self._on_device.state(predict_on_device(measured, tokens, left))

    def _cloud_state(self, left: int) -> CloudState:
        if self._in_cloud is None:
            return CloudState(address=None)
        return self._in_cloud.state(predict_in_cloud(self._measured(self._in_cloud), left))

    def _measured(self, source: TokenSource) -> list[Measurement]:
        return self._latency.measured(source.key)

    def _source(self, side: Source) -> TokenSource:
        if side is Source.IN_CLOUD and self._in_cloud is not None:
            return self._in_cloud
        return self._on_device

    def _calibrate(self) -> None:
        """Learn this device's speed from a short piece of work."""
        self._on_device.prepare()
        request, started = self._on_device.calibration_request(), time.monotonic()
        with closing(self._on_device.stream(request, threading.Event())) as tokens:
            times = [time.monotonic() for _ in tokens]
        gap = (times[-1] - times[0]) / (len(times) - 1)
        measurement = Measurement(request.position, times[0] - started, gap)
        self._latency.add(self._on_device.key, measurement)
