"""The scripted cloud: pass it to Router in place of an address."""

from collections.abc import Generator
from functools import partial
from typing import Unpack

from edgewise.errors import (
    CloudRefusedError,
    CloudUnavailableError,
    ConfigurationError,
    VocabularyMismatchError,
)
from edgewise.generation.attempt import Attempt, AttemptOptions, StopSignal
from edgewise.generation.request import CloudTokenRequest
from edgewise.generation.source import require_cloud_allowed
from edgewise.options import require_type
from edgewise.policy.types import CloudState, Source
from edgewise.testing.scripts import Script
from edgewise.testing.source import BYTES, SECONDS, WINDOW, Answer, ReceivedRequest, ScriptedSource
from edgewise_edge import Tokenizer, TokenScore

ADDRESS = "scripted cloud"


class ScriptedCloud(ScriptedSource):
    """A cloud that gives `answer`; its first attempts run the `scripts`, one each.

    While it is not `reachable`, which may be changed at any time, an attempt fails before it sends
    anything: no script runs and `requests` stays as it is. For `busy_for` seconds it asked clients
    to wait: the router then prefers the device. Prompt and answer together may have up to
    `context_window` tokens, which are bytes (None: any number). `first_token` and `gap` are the
    predicted seconds to the first token and between two (None: unknown): budgets are decided by
    them, and nothing waits. `tokenizer` is the device's, if that is a real model.

    As the real one it accepts only what may leave the device, for mypy and when it runs, so
    `requests` shows all that was sent.
    """

    def __init__(
        self,
        answer: Answer = "",
        *scripts: Script,
        reachable: bool = True,
        busy_for: float = 0.0,
        context_window: int | None = None,
        first_token: float | None = None,
        gap: float | None = None,
        tokenizer: Tokenizer = BYTES,
    ) -> None:
        super().__init__(answer, scripts, tokenizer, first_token, gap)
        require_type("reachable", reachable, bool, "True or False")
        SECONDS.check("busy_for", busy_for, ConfigurationError)
        if context_window is not None:
            WINDOW.check("context_window", context_window, ConfigurationError)
        self.reachable = reachable
        self._busy_for, self._context_window = busy_for, context_window

    def __str__(self) -> str:
        """What stands for its address."""
        return ADDRESS

    def state(self, _position: int, max_tokens: int, /) -> CloudState:
        """See CloudTokenSource."""
        return CloudState(
            address=ADDRESS,
            busy_for=self._busy_for,
            context_window=self._context_window,
            predicted=self._predicted(max_tokens),
        )

    def open(self, request: CloudTokenRequest, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """See CloudTokenSource."""
        require_cloud_allowed(request)
        run = partial(self._connect_and_run, request)
        return Attempt(Source.IN_CLOUD, request.position, request.max_tokens, run, **options)

    def score(
        self,
        request: CloudTokenRequest,
        top: int,
        stop: StopSignal,
        *,
        traceparent: str | None = None,
    ) -> tuple[TokenScore, ...]:
        """See CloudTokenSource. The next script runs on the prompt's tokens."""
        require_cloud_allowed(request)
        request, run = self._accepted(request), partial(self._connect_and_run, request)
        attempt = Attempt(Source.IN_CLOUD, 0, 0, run, stop=stop, traceparent=traceparent)
        return self._run_score(request, top, attempt)

    def refresh(self) -> None:
        """Do nothing: its state is always recent."""

    def describe_service(self) -> str:
        """See CloudTokenSource. Raises CloudUnavailableError unless it is reachable."""
        self._connect()
        return f"{ADDRESS}, context window {self._context_window or 'without limit'}"

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _receive(self, received: ReceivedRequest, attempt: Attempt) -> bool:
        """Nothing is sent for an attempt that was stopped before, as by the real cloud."""
        receive = partial(super()._receive, received, attempt)
        return bool(attempt.stop.start_unless_set(receive, bool))

    def _connect(self) -> None:
        if not self.reachable:
            raise CloudUnavailableError(f"the {ADDRESS} is not reachable")

    def _connect_and_run(
        self, request: CloudTokenRequest, attempt: Attempt
    ) -> Generator[int, None, None]:
        request = self._accepted(request)
        attempt.max_tokens = request.max_tokens
        yield from self._run(request, attempt)

    def _accepted(self, request: CloudTokenRequest) -> CloudTokenRequest:
        """The request as the cloud runs it. Raises SourceFailedError if it cannot."""
        self._connect()
        if request.end_ids != self.tokenizer.end_ids:
            raise VocabularyMismatchError(
                f"the {ADDRESS} has not the device's vocabulary; give both the same 'tokenizer'"
            )
        window = self._context_window
        if window is not None:
            request = request.fitted(window)
        if window is not None and request.position + request.max_tokens > window:
            raise CloudRefusedError(
                f"{request.position} tokens + {request.max_tokens} new ones exceed the context "
                f"window of {window}"
            )
        return request
