"""The way of a request: it is built, a source is chosen, and its generation starts there."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from edgewise.device.model_in_use import ModelInUse
from edgewise.device.state import CachedProbe, DeviceProbe
from edgewise.errors import Failure, NoSourceError, failure_veto
from edgewise.generation.attempt import StopSignal
from edgewise.generation.event_emitter import EventEmitter
from edgewise.generation.events import Observer
from edgewise.generation.loop import GenerationLoop
from edgewise.generation.partial_response import PartialResponse
from edgewise.generation.request import AllowCloudRequest, AnyRequest, Request
from edgewise.generation.request_builder import RequestBuilder
from edgewise.generation.result import Score
from edgewise.generation.source import CloudTokenSource, DeviceTokenSource, OpenAttempt, opener
from edgewise.options import Prompt, ScoreOptions
from edgewise.policy.advisor import Advisor
from edgewise.policy.types import Decision, EdgeState, Mode, NoSource, PolicyLimits, Source
from edgewise.router.scoring import Scoring, scorers
from edgewise_edge import RequestError
from edgewise_edge.decoding.token_score import TOP


class Dispatcher:
    """Chooses between the model in use and the cloud (None: no cloud), and starts generations."""

    def __init__(
        self,
        request_builder: RequestBuilder,
        model: ModelInUse,
        cloud: CloudTokenSource | None,
        device_state: DeviceProbe,
        limits: PolicyLimits,
        observers: Sequence[Observer],
    ) -> None:
        self._request_builder, self._observers = request_builder, observers
        self._model, self._cloud = model, cloud
        cloud_state = cloud.state if cloud else None
        self._advisor = Advisor(device_state, self._edge_state, cloud_state, limits)

    def start(self, prompt: Prompt, options: Mapping[str, Any]) -> GenerationLoop:
        """Raises as Router.stream()."""
        started = time.monotonic()
        source = self._model.for_text()  # from the first token to the last
        request = self._request_builder.build(prompt, options, source)
        advisor, model = self._advisor_for(options), _named(source)
        emitter = EventEmitter(self._observers, model, request.privacy)
        # If the cloud is chosen anyway, the model is not loaded just to measure the device.
        calibrate_for = {Source.ON_DEVICE} if request.budgeted else set[Source]()
        try:
            decision = self._decide(request, advisor, calibrate_for=calibrate_for)
        except NoSourceError as error:
            emitter.refused(error.vetoes)
            raise
        cloud_matters = request.budgeted or decision.source is Source.IN_CLOUD
        if self._cloud and cloud_matters and isinstance(request, AllowCloudRequest):
            self._cloud.refresh()
        return GenerationLoop(
            decision,
            PartialResponse(request, source.tokenizer, model, started),
            advisor=advisor,
            sources_for=partial(self.sources_for, device=source),
            emitter=emitter,
        )

    def score(self, prompt: Prompt, options: Mapping[str, Any], stop: StopSignal) -> Score:
        """Raises as Router.score()."""
        if isinstance(prompt, str) and not prompt:
            raise RequestError("the prompt is empty; give at least one character to score")
        started = time.monotonic()
        source = self._model.for_text()
        top = options.get("top")
        top = 0 if top is None else int(TOP.check("top", top, RequestError))
        request = self._request_builder.build(prompt, options, source, ScoreOptions)
        if self._cloud and request.budgeted and isinstance(request, AllowCloudRequest):
            self._cloud.refresh()
        model = _named(source)
        return Scoring(
            request=request,
            model=model,
            started=started,
            sources=scorers(request, source, self._cloud, top, stop, self._advisor.limits),
            advisor=self._advisor_for(options),
            emitter=EventEmitter(self._observers, model, request.privacy),
            stop=stop,
        ).run()

    def decide(self, prompt: Prompt, options: Mapping[str, Any]) -> Decision:
        """As Router.route()."""
        request = self._request_builder.build(prompt, options, self._model.for_text())
        return self._decide(request, self._advisor_for(options), calibrate_for=set(Source))

    def sources_for(self, request: Request, device: DeviceTokenSource) -> dict[Source, OpenAttempt]:
        """The sources that a request may use: for a private one, never the cloud."""
        sources = dict[Source, OpenAttempt]()
        if request.mode is not Mode.ONLY_IN_CLOUD:
            sources[Source.ON_DEVICE] = opener(device, request.after)
        # Without the first condition mypy objects: the cloud does not accept what
        # PrivateRequest.after returns.
        if (
            isinstance(request, AllowCloudRequest)
            and self._cloud
            and request.mode is not Mode.ONLY_ON_DEVICE
        ):
            sources[Source.IN_CLOUD] = opener(self._cloud, request.after)
        return sources

    def _edge_state(self, token_ids: Sequence[int], max_tokens: int) -> EdgeState:
        return self._model.source.state(token_ids, max_tokens)

    def _advisor_for(self, options: Mapping[str, Any]) -> Advisor:
        """The one of all requests, or one on the device that this request is to be tried on."""
        probe = options.get("device")
        if probe is None:
            return self._advisor
        return self._advisor.on(CachedProbe(probe, max_age=0))

    def _decide(
        self, request: AnyRequest, advisor: Advisor, *, calibrate_for: set[Source]
    ) -> Decision:
        """Decide; if a source of `calibrate_for` is chosen and the device may run, time it first."""
        started = time.monotonic()
        outcome = advisor.decide(request.routing(0, 0.0, {}), request.prompt_ids)
        if (
            isinstance(outcome, Decision)
            and outcome.source in calibrate_for
            and Source.ON_DEVICE not in outcome.vetoes
            and not self._model.source.measured
        ):
            abandoned = {}
            try:
                self._model.source.calibrate()
            except Failure as error:
                abandoned[Source.ON_DEVICE] = failure_veto(error)
            elapsed = time.monotonic() - started
            routing = request.routing(0, elapsed, abandoned)
            outcome = advisor.decide(routing, request.prompt_ids)
        if isinstance(outcome, NoSource):
            raise NoSourceError(outcome)
        return outcome


def _named(source: DeviceTokenSource) -> str:
    return f"{source.manifest.name}@{source.manifest.revision}"
