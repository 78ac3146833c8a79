"""The scripted device: pass it to Router in place of a model."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Unpack

from edgewise.errors import ConfigurationError
from edgewise.generation.attempt import Attempt, AttemptOptions, StopSignal
from edgewise.generation.source import ModelAvailability
from edgewise.options import parse_choice
from edgewise.policy.types import Availability, EdgeState, PolicyLimits, Source
from edgewise.testing.scripts import Script
from edgewise.testing.source import BYTES, WINDOW, Answer, ScriptedSource
from edgewise_edge import (
    Manifest,
    ModelError,
    RuntimeFailedError,
    Tokenizer,
    TokenRequest,
    TokenScore,
)
from edgewise_edge.checks import Range
from edgewise_edge.store.manifest import Architecture

if TYPE_CHECKING:
    from edgewise_edge.profiling import Profile


MEMORY = Range(0, 2**50, whole=True, unit="bytes")


class ScriptedDevice(ScriptedSource):
    """A device that gives `answer`; its first attempts run the `scripts`, one each.

    An answer ends after `max_tokens` of the request (default 128) or at the `context_window`, both
    in tokens, which are bytes. `availability` says whether the device has its model, which is
    loaded when first needed and then takes `memory` bytes (0: never a veto). `first_token` and
    `gap` are the predicted seconds to the first token and between two (None: unknown): budgets are
    decided by them, and nothing waits. `tokenizer` is for a cloud with another vocabulary.
    """

    def __init__(
        self,
        answer: Answer = "",
        *scripts: Script,
        availability: Availability = Availability.AVAILABLE,
        context_window: int = 1024,
        memory: int = 0,
        first_token: float | None = None,
        gap: float | None = None,
        tokenizer: Tokenizer = BYTES,
    ) -> None:
        super().__init__(answer, scripts, tokenizer, first_token, gap)
        WINDOW.check("context_window", context_window, ConfigurationError)
        MEMORY.check("memory", memory, ConfigurationError)
        self._availability = parse_choice(
            "availability", Availability, availability, ConfigurationError
        )
        self._loaded = False
        self.manifest = Manifest(
            name="scripted",
            revision="1",
            architecture=Architecture(tokenizer.size, context_window, layers=1, heads=1, width=1),
            vocabulary=tokenizer.fingerprint,
            files={},
            memory=memory,
        )

    @property
    def measured(self) -> bool:
        """True: it has no speed."""
        return True

    def calibrate(self) -> None:
        """See `measured`."""

    def state(self, token_ids: Sequence[int], max_tokens: int, /) -> EdgeState:
        """See DeviceTokenSource."""
        available = self.availability()
        window = self.manifest.architecture.context_window
        return EdgeState(
            availability=available.status,
            detail=available.detail,
            context_window=window,
            memory_needed=0 if self._loaded else self.manifest.memory,
            queue_length=len(self.running),
            predicted=self._predicted(max(1, min(max_tokens, window - len(token_ids)))),
        )

    def availability(self) -> ModelAvailability:
        """See DeviceTokenSource."""
        missing = not self._availability.usable
        detail = f"the scripted model is {self._availability}" if missing else ""
        return ModelAvailability(self._availability, self._loaded, detail)

    def open(self, request: TokenRequest, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """See TokenSource."""
        if not request.sliding_window:
            room = self.manifest.architecture.context_window - request.position
            request = replace(request, max_tokens=min(request.max_tokens, room))
        run = partial(self._load_and_run, request)
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
        """See DeviceTokenSource. The next script runs on the prompt's tokens."""
        self.warm_up()
        run = partial(self._load_and_run, request)
        attempt = Attempt(Source.ON_DEVICE, 0, 0, run, stop=stop, limits=limits, may_wait=may_wait)
        return self._run_score(request, top, attempt, limits)

    def warm_up(self) -> None:
        """Load the model. Raises ModelError if it is not on the device."""
        if detail := self.availability().detail:
            raise ModelError(detail)
        self._loaded = True

    def unload(self) -> None:
        """Unload the model."""
        self._loaded = False

    def verify(self) -> None:
        """Do nothing: there are no files."""

    def measure(self) -> "Profile":
        """Raise RuntimeFailedError: there is nothing to measure."""
        raise RuntimeFailedError("a scripted device cannot be measured; set first_token and gap")

    def _load_and_run(self, request: TokenRequest, attempt: Attempt) -> Generator[int, None, None]:
        self.warm_up()
        yield from self._run(request, attempt, attempt.limits)
