"""Every way to send a private prompt, and every trouble it can meet, with a cloud configured."""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

from edgewise import (
    CloudTimeouts,
    DeviceState,
    LatencyLog,
    Limits,
    NoSourceError,
    RequestError,
    Router,
    Source,
)
from edgewise.generation.attempt import Attempt
from edgewise.generation.events import Observer
from edgewise_edge import RuntimeFailedError
from edgewise_edge.errors import CacheMemoryError
from edgewise_edge.store.manifest import MODEL_FILE

Options = dict[str, Any]
FINE = DeviceState(available_memory=10**10, battery=0.9, charging=False)
MAX_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A situation that a private prompt meets."""

    name: str
    device: DeviceState = FINE
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the router
    options: Mapping[str, Any] = field(default_factory=lambda: {"privacy": "private"})
    observers: Sequence[Observer] = ()
    times: int = 1  # the prompt is repeated
    harm_model: Callable[[Path], object] | None = None  # called with its folder
    harm: Callable[[Router], object] | None = None
    refused: bool = False  # rather than answered

    def router(
        self, folder: Path, *, copy: Path, observers: Iterable[Observer] = (), **settings: Any
    ) -> Router:
        """A router in this situation; `copy` names a folder that it may damage."""
        if self.harm_model:
            folder = shutil.copytree(folder, copy)
            self.harm_model(folder)
        given = {"threads": 1, "latency": LatencyLog(), **settings, **self.settings}
        router = Router(
            folder, device=lambda: self.device, observers=[*self.observers, *observers], **given
        )
        if self.harm:
            self.harm(router)
        return router

    def ask(self, router: Router, way: "Way", prompt: str, **options: Any) -> Exception | None:
        """Send the prompt in one of the ways; returns the refusal, if there is one."""
        given = {"max_tokens": MAX_TOKENS, **options, **self.options}
        try:
            way(router, prompt * self.times, given)
        except (NoSourceError, RequestError) as error:
            return error
        return None


def failing(after: int, error: Exception) -> Callable[[Router], None]:
    """Make the runtime fail after so many tokens of a generation."""

    def harm(router: Router) -> None:
        router.warm_up()
        model = router.device_source.model
        whole = model.stream_tokens

        def stream_tokens(*arguments: Any) -> Iterator[int]:
            tokens = whole(*arguments)
            for _ in range(after):
                yield next(tokens)
            raise error

        model.stream_tokens = stream_tokens

    return harm


def damage(folder: Path) -> None:
    """Damage the model so that only loading it fails."""
    model = folder / MODEL_FILE
    model.write_bytes(model.read_bytes()[::-1])


def fill_queue(router: Router) -> None:
    """Take the device's only place."""
    attempt = Attempt(Source.ON_DEVICE, 1, 1, run=lambda _: iter(()))
    router.device_source.running.append(attempt)


def open_circuit(router: Router) -> None:
    """Record three failures of the cloud."""
    if router.cloud_source:
        for _ in range(3):
            router.cloud_source.breaker.failed()


def exhaust_cloud(router: Router) -> None:
    """Send requests that fail there, until the circuit opens."""
    for _ in range(3):
        with suppress(NoSourceError):
            router.generate("the", max_tokens=1, mode="only_in_cloud", privacy="allow_cloud")


def raising(*_: object) -> None:
    """A broken hook or observer of an app."""
    raise LookupError("made to fail")


def private(**options: Any) -> Options:
    """The options of a private request."""
    return {"privacy": "private", **options}


FAILED = RuntimeFailedError("made to fail")
TROUBLES = [
    Trouble(name="none"),
    Trouble(name="a model loaded before", harm=Router.warm_up),
    Trouble(name="a model unloaded at once", settings={"keep_alive": 0.0}),
    # The device is vetoed.
    Trouble(name="a low battery", device=DeviceState(battery=0.03, charging=False)),
    Trouble(name="low-power mode", device=DeviceState(low_power_mode=True)),
    Trouble(name="little memory", device=DeviceState(available_memory=0), refused=True),
    Trouble(name="memory pressure", device=DeviceState(memory_pressure=0.9)),
    Trouble(name="heat", device=DeviceState(temperature=99.0)),
    Trouble(
        name="a full queue",
        settings={"limits": Limits(max_queue=1, queue_timeout=0)},
        harm=fill_queue,
        refused=True,
    ),
    Trouble(
        name="no model", harm_model=lambda folder: (folder / MODEL_FILE).unlink(), refused=True
    ),
    Trouble(name="a prompt that is too long", times=200, refused=True),
    Trouble(name="an answer that is too long", options=private(max_tokens=500)),
    Trouble(name="a window that slides", options=private(max_tokens=200, sliding_window=True)),
    # The device fails.
    Trouble(name="a damaged model", harm_model=damage, refused=True),
    Trouble(name="a runtime that fails", harm=failing(0, FAILED), refused=True),
    Trouble(name="a runtime that fails midway", harm=failing(3, FAILED), refused=True),
    Trouble(name="no memory for a cache", harm=failing(0, CacheMemoryError(9, 1)), refused=True),
    Trouble(
        name="a runtime that fails as it is timed",
        harm=failing(0, FAILED),
        options=private(latency_budget=9.0),
        refused=True,
    ),
    # The cloud would be faster.
    Trouble(name="a budget missed", options=private(latency_budget=1e-6)),
    Trouble(name="a late first token", options=private(first_token_budget=1e-6)),
    Trouble(name="a hedge", options=private(hedge_after=1e-6)),
    # The cloud is preferred.
    Trouble(name="the cloud preferred", options=private(mode="prefer_in_cloud", hedge_after=1e-6)),
    Trouble(name="the cloud alone", options=private(mode="only_in_cloud"), refused=True),
    Trouble(name="a router for the cloud", settings={"mode": "only_in_cloud"}, refused=True),
    Trouble(name="the device alone", options=private(mode="only_on_device")),
    # The cloud is unavailable.
    Trouble(name="the offline switch", settings={"offline": True}),
    Trouble(name="an open circuit", harm=open_circuit),
    Trouble(
        name="a cloud that failed before",
        settings={"default_privacy": "private", "cloud_timeouts": CloudTimeouts(connect=0.2)},
        harm=exhaust_cloud,
    ),
    # What makes it private.
    Trouble(name="a default", settings={"default_privacy": "private"}, options={}),
    Trouble(name="a hook", settings={"classify": lambda _: "private"}, options={}),
    Trouble(name="a hook that raises", settings={"classify": raising}, options={}),
    Trouble(
        name="a hook with an unknown answer", settings={"classify": lambda _: "perhaps"}, options={}
    ),
    Trouble(name="a hook that is overruled", settings={"classify": lambda _: "allow_cloud"}),
    Trouble(name="a broken observer", observers=[raising]),
]

Way = Callable[[Router, str, Options], object]


def whole(router: Router, prompt: str, options: Options) -> None:
    router.generate(prompt, **options)


def closed(router: Router, prompt: str, options: Options) -> None:
    with router.stream(prompt, **options) as stream:
        next(stream, None)


def dropped(router: Router, prompt: str, options: Options) -> None:
    for _ in router.stream(prompt, **options):
        break


def never_read(router: Router, prompt: str, options: Options) -> None:
    router.stream(prompt, **options)


def planned(router: Router, prompt: str, options: Options) -> None:
    router.route(prompt, **options)


def whole_async(router: Router, prompt: str, options: Options) -> None:
    asyncio.run(router.agenerate(prompt, **options))


def closed_async(router: Router, prompt: str, options: Options) -> None:
    async def read() -> None:
        async with router.astream(prompt, **options) as stream:
            async for _ in stream:
                break

    asyncio.run(read())


def cancelled_async(router: Router, prompt: str, options: Options) -> None:
    async def read() -> None:
        task = asyncio.create_task(router.agenerate(prompt, **options))
        for _ in repeat(None, 3):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(read())


def planned_async(router: Router, prompt: str, options: Options) -> None:
    asyncio.run(router.aroute(prompt, **options))


TO_THE_END: list[Way] = [whole, whole_async]
WAYS: list[Way] = [
    *TO_THE_END,
    *(closed, dropped, never_read, planned, closed_async, cancelled_async, planned_async),
]
