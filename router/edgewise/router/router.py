"""What an app calls."""

from collections.abc import Iterable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from edgewise.cloud.config import CloudSecurity, CloudTimeouts
from edgewise.device.installed_model import InstalledModel
from edgewise.device.limits import Limits
from edgewise.device.model_in_use import open_model
from edgewise.device.state import CachedProbe, DeviceProbe, read_device_state
from edgewise.errors import ConfigurationError, RouterClosedError
from edgewise.generation.attempt import StopSignal
from edgewise.generation.event_emitter import emit
from edgewise.generation.events import Observer
from edgewise.generation.request import AnyRequest
from edgewise.generation.request_builder import Classify, RequestBuilder
from edgewise.generation.result import Generation, Score
from edgewise.generation.source import (
    CloudTokenSource,
    DeviceTokenSource,
    ModelAvailability,
    OpenAttempt,
)
from edgewise.generation.stream import AsyncTextStream, TextStream
from edgewise.latency.log import LatencyLog, default_path
from edgewise.options import (
    ModeName,
    PrivacyName,
    Prompt,
    RequestOptions,
    ScoreOptions,
    documents_options,
    known_options,
    parse_choice,
)
from edgewise.policy.types import Decision, DeviceState, Mode, Privacy, Source
from edgewise.router.checks import check_options, checked_observers
from edgewise.router.connect import connect
from edgewise.router.dispatcher import Dispatcher
from edgewise.router.update_options import UpdateOptions
from edgewise.router.updates import ModelUpdates, tell_switch
from edgewise_edge import Manifest

if TYPE_CHECKING:
    from edgewise.delivery.catalog import Catalog
    from edgewise.delivery.conditions import UpdatePolicy
    from edgewise.delivery.progress import OnDownload
    from edgewise.delivery.settings import DownloadSettings
    from edgewise.delivery.update import UpdateResult
    from edgewise_edge.installed.state import ModelState
    from edgewise_edge.installed.store import ModelStore
    from edgewise_edge.profiling import Profile


@known_options
class Router:
    """Generates on the device or in the cloud, as the policy decides, by default preferring the device.

    Raises ModelError for an invalid model, but none for one that is still to be downloaded, and ConfigurationError for invalid options, which are:

    - `model` (default "tales"): the name of an installed or bundled model, or of one in the
      `channel`; or a model folder. It is loaded when first needed.
    - `cloud` (HOST:PORT; default None): an `edgewise-cloud serve` of the same model.
    - `cloud_security` (CloudSecurity; default: no TLS, no token, loopback only): what that service
      requires.
    - `cloud_timeouts` (CloudTimeouts; default: its defaults): how long to wait for it.
    - `mode` (default "prefer_on_device"): of requests that name none.
    - `default_privacy` (default "allow_cloud"): of prompts for which neither the request nor
      `classify` says more.
    - `classify` (function; default None): called with each prompt, on the device; returns "private"
      or "allow_cloud". A request is private if either it or `classify` says so.
    - `limits` (Limits; default: its defaults): when the device is not to answer.
    - `offline` (True or False; default False): never contact the cloud, even if an address is set.
    - `threads` (1 to 1024; default: all cores, up to 4): processor threads of the device's runtime.
    - `keep_alive` (seconds, 0 or more; default: never): unload the model after this time without a
      generation.
    - `observers` (functions; default none): called with events (generation/events.py), which hold no
      content.
    - `device` (function; default: reads this machine): returns the DeviceState, for tests and demos.
    - `latency` (LatencyLog; default: one in the cache folder): what was measured, for predictions.
    - `channel` (address; default: the one that the model came from): where revisions of the model are
      published: a folder, https://, grpc:// or hf://. A channel alone causes no traffic: `download()`
      and `update` do.
    - `channel_root` (file or bytes; default: as known on this device): the channel's root.json, needed
      once, as the key to all that it signs.
    - `update` (UpdatePolicy; default: never): update the model in the background, for an `offline`
      router too.
    - `download_settings` (DownloadSettings; default: its defaults): timeouts, bandwidth, token.
    - `store` (ModelStore or folder; default: EDGEWISE_STORE or the user's data folder): where
      installed models are.

    For tests, `model` and `cloud` may be sources themselves, as those of `edgewise.testing` or any
    other with the methods of DeviceTokenSource and CloudTokenSource (generation/source.py). The
    options of the source they replace are then unused. With such a model the default of `device`
    is a state in which nothing is known instead of this machine's, and with only such sources
    nothing is kept in the cache folder.

    `cloud_source` (None without a cloud) and `device_source` are its two sources, for diagnosis;
    `mode`, `default_privacy` and `limits` are as given.
    """

    def __init__(
        self,
        model: str | Path | DeviceTokenSource = "tales",
        *,
        cloud: str | CloudTokenSource | None = None,
        cloud_security: CloudSecurity | None = None,
        cloud_timeouts: CloudTimeouts | None = None,
        mode: Mode | ModeName = Mode.PREFER_ON_DEVICE,
        default_privacy: Privacy | PrivacyName = Privacy.ALLOW_CLOUD,
        classify: Classify | None = None,
        limits: Limits | None = None,
        offline: bool = False,
        threads: int | None = None,
        keep_alive: float | None = None,
        observers: Iterable[Observer] = (),
        device: DeviceProbe | None = None,
        latency: LatencyLog | None = None,
        channel: "str | PathLike[str] | Catalog | None" = None,
        channel_root: bytes | str | PathLike[str] | None = None,
        update: "UpdatePolicy | None" = None,
        download_settings: "DownloadSettings | None" = None,
        store: "ModelStore | str | PathLike[str] | None" = None,
    ) -> None:
        observers = checked_observers(observers)
        check_options(
            cloud_security=cloud_security,
            cloud_timeouts=cloud_timeouts,
            classify=classify,
            limits=limits,
            offline=offline,
            threads=threads,
            keep_alive=keep_alive,
            device=device,
            latency=latency,
        )
        updates = UpdateOptions(
            channel=channel,
            channel_root=channel_root,
            update=update,
            download_settings=download_settings,
            store=store,
        )
        updates.check_model(model)
        self.mode = parse_choice("mode", Mode, mode, ConfigurationError)
        self.default_privacy = privacy = parse_choice(
            "default_privacy", Privacy, default_privacy, ConfigurationError
        )
        measures = isinstance(model, str | Path) or isinstance(cloud, str)
        self.latency = latency or LatencyLog(default_path() if measures else None)
        self.limits = limits or Limits()
        self._closed = False
        self._model = open_model(
            model,
            self.latency,
            threads,
            keep_alive,
            root=updates.root if store else None,
            missing=updates.address,
            on_switch=partial(tell_switch, partial(emit, observers)) if observers else None,
        )
        device = device or (read_device_state if isinstance(model, str | Path) else DeviceState)
        self._probe = device if isinstance(device, CachedProbe) else CachedProbe(device)
        self.cloud_source: CloudTokenSource | None = None
        if cloud is not None and not offline:
            stays_here = self.mode is Mode.ONLY_ON_DEVICE or privacy is Privacy.PRIVATE
            self.cloud_source = connect(
                cloud,
                self._model.vocabulary,
                self.latency,
                cloud_security,
                cloud_timeouts,
                background=not stays_here,
            )
        self._dispatcher = Dispatcher(
            RequestBuilder(
                mode=self.mode, default_privacy=privacy, classify=classify, offline=offline
            ),
            self._model,
            self.cloud_source,
            self._probe,
            self.limits,
            observers,
        )
        self._updates: ModelUpdates | None = None
        if isinstance(self._model, InstalledModel):
            self._updates = ModelUpdates(
                self._model, updates, threads, self._probe, partial(emit, observers)
            )

    @documents_options(RequestOptions)
    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> TextStream:
        """Start a generation; iterate over the result for chunks, each with its `text`.

        `prompt` is text, or a list of the model's token ids; the text '' begins a new text. Leaving its `with` block or calling its `close()` stops it.

        This call, not the first chunk, raises RequestError for
        a request that no source could serve, NoSourceError when no source may, RouterClosedError,
        and ConfigurationError where `classify` does not return text.
        """
        self._require_open()
        return TextStream(self._dispatcher.start(prompt, options))

    def generate(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Generation:
        """Generate the whole answer; options and errors as of `stream`."""
        with self.stream(prompt, **options) as stream:
            for _ in stream:
                pass
            return stream.generation

    def astream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> AsyncTextStream:
        """As `stream`, for asyncio: `async for chunk in router.astream(prompt)`.

        What `stream` raises at once is raised with the first chunk.
        """
        return AsyncTextStream(lambda: self.stream(prompt, **options))

    async def agenerate(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Generation:
        """As `generate`, for asyncio; cancelling the task stops the work."""
        async with self.astream(prompt, **options) as stream:
            async for _ in stream:
                pass
            return stream.generation

    async def aroute(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Decision:
        """As `route`, for asyncio."""
        import asyncio  # takes 30 ms, so only for apps that use it

        return await asyncio.to_thread(self.route, prompt, **options)

    @documents_options(ScoreOptions)
    def score(self, prompt: Prompt, **options: Unpack[ScoreOptions]) -> Score:
        """How likely the model finds `prompt`, token by token; generates nothing.

        Prompt and errors as of `stream`; the prompt may not be empty, but fill the context window. A source that fails
        is replaced by the other one.
        """
        return self._score(prompt, options, StopSignal())

    @documents_options(ScoreOptions)
    async def ascore(self, prompt: Prompt, **options: Unpack[ScoreOptions]) -> Score:
        """As `score`, for asyncio; cancelling the task stops the work."""
        import asyncio  # takes 30 ms, so only for apps that use it

        stop = StopSignal()
        try:
            return await asyncio.to_thread(self._score, prompt, options, stop)
        finally:
            stop.set()

    def route(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Decision:
        """Which source would be chosen now, and why. Generates no answer; raises as `stream`."""
        self._require_open()
        return self._dispatcher.decide(prompt, options)

    def availability(self) -> ModelAvailability:
        """Whether the model is on this device or on its way here, and whether it is loaded."""
        found = self._model.availability()
        return self._updates.availability(found) if self._updates else found

    def revisions(self) -> "ModelState | None":
        """Which revisions of the model are in use, staged, or the way back, and which is on probation.

        None for a model that is given by its folder, and where none but the bundled one is here.
        """
        return self._model.state() if isinstance(self._model, InstalledModel) else None

    def download(self, on_progress: "OnDownload | None" = None) -> "UpdateResult":
        """Fetch the model from its channel, or its newest revision; the next text then uses it.

        Blocks until it is fetched, tried and staged, and goes on from the bytes that are there.
        `on_progress` is called with a DownloadProgress for each piece; an exception of it stops the
        download. Works for `offline` routers too: who calls it wants the network. Raises
        ConfigurationError without a channel, DownloadFailedError, ChannelError, StoreError (a full
        disk, another process that updates), ModelError for a damaged revision, RouterClosedError.
        """
        self._require_open()
        if self._updates is None:
            raise ConfigurationError(
                f"model is {self._model}; only a model that is given by its name can be downloaded"
            )
        return self._updates.download(on_progress)

    async def adownload(self, on_progress: "OnDownload | None" = None) -> "UpdateResult":
        """As `download`, for asyncio. `on_progress` is called in another thread."""
        import asyncio  # takes 30 ms, so only for apps that use it

        return await asyncio.to_thread(self.download, on_progress)

    @property
    def device_source(self) -> DeviceTokenSource:
        """The device's source: of an installed model, that of the revision in use.

        Raises ModelNotFoundError for a model that is still to be downloaded.
        """
        return self._model.source

    @property
    def model(self) -> Manifest:
        """The manifest of the device's model."""
        return self.device_source.manifest

    def verify_model(self) -> None:
        """Compare the device's model with its manifest, byte for byte. Raises ModelError."""
        self.device_source.verify()

    def measure(self) -> "Profile":
        """Profile the device's model in a child process; predictions then follow the result.

        Takes several seconds. Raises ModelError, RuntimeFailedError or RouterClosedError.
        """
        self._require_open()
        return self.device_source.measure()

    def describe_cloud(self) -> str | None:
        """What the cloud serves and how busy it is; None without a cloud.

        Raises SourceFailedError or RouterClosedError.
        """
        self._require_open()
        if self.cloud_source is None:
            return None
        return self.cloud_source.describe_service()

    def device_state(self) -> DeviceState:
        """The state of the device as this router sees it, at most a second old."""
        return self._probe()

    def warm_up(self) -> None:
        """Load the device's model before the first request; the idle time starts here.

        Raises ModelError, RuntimeFailedError where memory is short, or RouterClosedError.
        """
        self._require_open()
        self._model.warm_up()

    def close(self) -> None:
        """Unload the model and close the connection. Closing again does nothing.

        A running download stops at its next byte; what came is kept. New requests then raise RouterClosedError. A stream that was started before goes on: on the
        device it keeps the model until it ends; one in the cloud loses its connection, which is a
        failure of the cloud, so it continues on the device if it may and raises NoSourceError if
        not. Close the streams first to stop them.
        """
        if self._closed:
            return
        self._closed = True
        if self._updates:
            self._updates.close()
        self._model.unload()
        if self.cloud_source:
            self.cloud_source.close()
        self.latency.save()

    async def aclose(self) -> None:
        """As `close`, for asyncio."""
        import asyncio  # takes 30 ms, so only for apps that use it

        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        """Its model and cloud."""
        cloud = f", cloud={self.cloud_source}" if self.cloud_source else ""
        return f"Router({self._model}{cloud})"

    def __enter__(self) -> Self:
        """Use as a context manager to have it closed. Raises RouterClosedError."""
        self._require_open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    async def __aenter__(self) -> Self:
        """As `with`, for asyncio: `async with Router() as router`."""
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        """Close, without blocking the event loop."""
        await self.aclose()

    def sources_for(self, request: AnyRequest) -> dict[Source, OpenAttempt]:
        """The sources that a request may use: for a private one, never the cloud."""
        return self._dispatcher.sources_for(request, self.device_source)

    def _score(self, prompt: Prompt, options: ScoreOptions, stop: StopSignal) -> Score:
        self._require_open()
        return self._dispatcher.score(prompt, options, stop)

    def _require_open(self) -> None:
        if self._closed:
            raise RouterClosedError
