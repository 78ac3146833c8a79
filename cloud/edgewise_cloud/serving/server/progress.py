"""What has happened to a request so far, and how it ended."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from edgewise_cloud.serving.types import Caller, RequestOutcome
from edgewise_edge.decoding.request import FinishReason, TokenRequest
from edgewise_proto import generation_pb2 as pb

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.request import EngineRequest


@dataclass(slots=True)
class Progress:
    """A request so far. Times are on time.monotonic()'s clock."""

    method: str
    caller: Caller
    arrived_at: float
    request: TokenRequest | None = None
    model: str | None = None
    submitted: "EngineRequest | None" = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    generated: int = 0
    reason: FinishReason | None = None
    complete: bool = False  # the caller has everything but the last message

    @property
    def started_at(self) -> float | None:
        """When work on it began."""
        return self.submitted.started_at if self.submitted else None

    def code_without_caller(self) -> grpc.StatusCode:
        """The status of a request whose caller is gone."""
        if self.complete:
            return grpc.StatusCode.OK  # a caller that has everything may skip the last message
        if self.caller.is_late(time.monotonic()):
            return grpc.StatusCode.DEADLINE_EXCEEDED  # a handler sees the same cancellation
        return grpc.StatusCode.CANCELLED

    def timings(self) -> pb.Timings:
        """Of a request that ends now."""
        ended = time.monotonic()
        return pb.Timings(
            queued=(self.started_at or ended) - self.arrived_at,
            time_to_first_token=(self.first_token_at or ended) - self.arrived_at,
            total=ended - self.arrived_at,
        )

    def outcome(self, code: grpc.StatusCode, arrived_at: float) -> RequestOutcome:
        """How it ended; `arrived_at` in seconds since the epoch."""
        return RequestOutcome(
            method=self.method,
            caller=self.caller,
            code=code,
            arrived_at=arrived_at,
            total_time=time.monotonic() - self.arrived_at,
            prompt_tokens=self.request.position if self.request else 0,
            cached_tokens=self.submitted.cached_tokens if self.submitted else 0,
            generated_tokens=self.generated,
            queue_time=self._since_arrival(self.started_at),
            time_to_first_token=self._since_arrival(self.first_token_at),
            finish_reason=self.reason.value if self.reason else None,
            model=self.model,
        )

    def _since_arrival(self, moment: float | None) -> float | None:
        return None if moment is None else moment - self.arrived_at
