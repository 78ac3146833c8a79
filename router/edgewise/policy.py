"""Which side answers: a pure function of the request and of what is known about both sides.

Standard library only; no clock, no probe, no network, no state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Mode(StrEnum):
    """Which side is wanted."""

    PREFER_ON_DEVICE = "prefer_on_device"
    ONLY_ON_DEVICE = "only_on_device"
    PREFER_IN_CLOUD = "prefer_in_cloud"
    ONLY_IN_CLOUD = "only_in_cloud"


class Source(StrEnum):
    """A side that makes tokens."""

    ON_DEVICE = "on_device"
    IN_CLOUD = "in_cloud"

    @property
    def other(self) -> "Source":
        """The other side."""
        return Source.IN_CLOUD if self is Source.ON_DEVICE else Source.ON_DEVICE


class Privacy(StrEnum):
    """Whether the prompt and what comes of it may leave the device."""

    PRIVATE = "private"
    ALLOW_CLOUD = "allow_cloud"


class Availability(StrEnum):
    """Whether a model is on the device."""

    UNAVAILABLE = "unavailable"
    DOWNLOADABLE = "downloadable"
    DOWNLOADING = "downloading"
    AVAILABLE = "available"


class VetoCode(StrEnum):
    """Why a side may not answer."""

    PRIVATE = "private"
    MODE = "mode"
    OFFLINE = "offline"
    MODEL_UNAVAILABLE = "model_unavailable"
    CONTEXT_WINDOW = "context_window"
    MEMORY = "memory"
    BATTERY = "battery"
    TEMPERATURE = "temperature"
    LOW_POWER = "low_power"
    QUEUE_FULL = "queue_full"
    NO_ADDRESS = "no_address"
    CIRCUIT_OPEN = "circuit_open"
    FAILED = "failed"


class Reason(StrEnum):
    """Why the chosen side was chosen."""

    PREFERRED = "preferred"  # it is the preferred side and nothing speaks against it
    OTHER_VETOED = "other_vetoed"  # the preferred side may not answer
    BUDGET = "budget"  # the preferred side would take too long, this one would not
    BUDGET_MISSED = "budget_missed"  # no side fits the budget; this is the faster
    LAST_RESORT = "last_resort"  # the cloud may not or cannot, so the device's veto yields


@dataclass(frozen=True, slots=True)
class Veto:
    """A side's veto: a code for programs and a sentence for people."""

    code: VetoCode
    detail: str
    # It only sends a request elsewhere: with nowhere to go, answering is better.
    yields: bool = False


@dataclass(frozen=True, slots=True)
class PredictedTime:
    """Seconds from the request; None where nothing has been measured yet."""

    first_token: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRequest:
    """What the policy needs to know of a request; the prompt itself it never sees."""

    mode: Mode
    privacy: Privacy
    prompt_tokens: int  # with what has been generated already
    max_tokens: int  # still wanted
    sliding_window: bool = False  # the device may go on beyond its context window
    first_token_budget: float | None = None  # seconds
    latency_budget: float | None = None  # seconds, for the whole answer
    offline: bool = False
    failed: Mapping[Source, str] = field(default_factory=dict)  # sides that failed, and how


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """The device as it is now. None: unknown, or the device has no such thing; no constraint."""

    available_memory: int | None = None  # bytes this process can still take
    memory_pressure: float | None = None  # share of time stalled for memory (PSI full, 10 s)
    battery: float | None = None  # charge from 0 to 1
    charging: bool | None = None
    temperature: float | None = None  # degrees Celsius, the hottest sensor
    low_power_mode: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeState:
    """The model on the device."""

    availability: Availability
    detail: str = ""  # why it is not available
    context_window: int = 0  # tokens
    memory_needed: int = 0  # bytes still to be loaded; 0 once it is
    queue_length: int = 0  # requests running
    predicted: PredictedTime = PredictedTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudState:
    """The cloud as far as it is known without asking it."""

    address: str | None
    circuit_open: bool = False
    context_window: int | None = None  # tokens; None until it was asked
    predicted: PredictedTime = PredictedTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where the device's comfort ends."""

    min_battery: float = 0.2  # share of charge, unless charging
    memory_reserve: int = 64 * 2**20  # bytes left to others beyond what the model needs
    max_memory_pressure: float = 0.4  # share of time
    max_temperature: float = 90.0  # degrees Celsius
    max_queue: int = 4  # requests running on the device at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The side that answers and why: the veto (if any) and the predicted time on each side."""

    source: Source
    reason: Reason
    vetoes: Mapping[Source, Veto]
    predicted: Mapping[Source, PredictedTime]


@dataclass(frozen=True, slots=True)
class NoSource:
    """No side may answer; every veto, by side."""

    vetoes: Mapping[Source, Veto]


def decide(
    request: RoutingRequest,
    device: DeviceState,
    edge: EdgeState,
    cloud: CloudState,
    limits: Limits,
) -> Decision | NoSource:
    """Choose a side. Vetoes come first, then preference, bent by the budgets.

    A low battery sends requests to the cloud, and so does an answer that might be cut short; where
    the cloud may not answer either, the device does: it would be no help to anyone offline to fall
    silent at 19 %.
    """
    possible = {
        Source.ON_DEVICE: _device_veto(request, device, edge, limits),
        Source.IN_CLOUD: _cloud_veto(request, cloud),
    }
    vetoes = {side: veto for side, veto in possible.items() if veto}
    predicted = {Source.ON_DEVICE: edge.predicted, Source.IN_CLOUD: cloud.predicted}
    if len(vetoes) < len(Source):
        source, reason = _choose(request, vetoes, predicted)
    elif vetoes[Source.ON_DEVICE].yields:
        source, reason = Source.ON_DEVICE, Reason.LAST_RESORT
    else:
        return NoSource(vetoes)
    return Decision(source=source, reason=reason, vetoes=vetoes, predicted=predicted)


def _choose(
    request: RoutingRequest,
    vetoes: Mapping[Source, Veto],
    predicted: Mapping[Source, PredictedTime],
) -> tuple[Source, Reason]:
    cloud_first = request.mode in (Mode.PREFER_IN_CLOUD, Mode.ONLY_IN_CLOUD)
    preferred = Source.IN_CLOUD if cloud_first else Source.ON_DEVICE
    if preferred in vetoes:
        fits = _fits(request, predicted[preferred.other])
        return preferred.other, Reason.OTHER_VETOED if fits else Reason.BUDGET_MISSED
    if _fits(request, predicted[preferred]):
        return preferred, Reason.PREFERRED
    if preferred.other in vetoes:
        return preferred, Reason.BUDGET_MISSED
    if _fits(request, predicted[preferred.other]):
        return preferred.other, Reason.BUDGET
    return _faster(request, predicted), Reason.BUDGET_MISSED


def _fits(request: RoutingRequest, predicted: PredictedTime) -> bool:
    """Whether the prediction keeps the budgets; what is unknown gets the benefit of the doubt."""
    return _overrun(request, predicted) <= 0


def _faster(request: RoutingRequest, predicted: Mapping[Source, PredictedTime]) -> Source:
    """The side that overruns the budgets by less; a tie goes to the device."""
    device, cloud = (_overrun(request, predicted[side]) for side in Source)
    return Source.IN_CLOUD if cloud < device else Source.ON_DEVICE


def _overrun(request: RoutingRequest, predicted: PredictedTime) -> float:
    """Seconds by which the worst missed budget is missed; 0 where all are kept."""
    pairs = (
        (predicted.first_token, request.first_token_budget),
        (predicted.total, request.latency_budget),
    )
    known = [t - budget for t, budget in pairs if t is not None and budget is not None]
    return max(0.0, *known) if known else 0.0


def _cloud_veto(request: RoutingRequest, cloud: CloudState) -> Veto | None:
    tokens = request.prompt_tokens + request.max_tokens
    if request.privacy is Privacy.PRIVATE:
        return Veto(VetoCode.PRIVATE, "the request is private and stays on the device")
    if request.mode is Mode.ONLY_ON_DEVICE:
        return Veto(VetoCode.MODE, "the mode is only_on_device")
    if request.offline:
        return Veto(VetoCode.OFFLINE, "the offline switch is on")
    if Source.IN_CLOUD in request.failed:
        return Veto(VetoCode.FAILED, request.failed[Source.IN_CLOUD])
    if cloud.address is None:
        return Veto(VetoCode.NO_ADDRESS, "no cloud address is set")
    if cloud.circuit_open:
        return Veto(VetoCode.CIRCUIT_OPEN, f"{cloud.address} failed lately and is given a rest")
    if cloud.context_window is not None and tokens > cloud.context_window:
        return Veto(VetoCode.CONTEXT_WINDOW, _too_long(request, cloud.context_window))
    return None


def _device_veto(
    request: RoutingRequest, device: DeviceState, edge: EdgeState, limits: Limits
) -> Veto | None:
    if request.mode is Mode.ONLY_IN_CLOUD:
        return Veto(VetoCode.MODE, "the mode is only_in_cloud")
    if Source.ON_DEVICE in request.failed:
        return Veto(VetoCode.FAILED, request.failed[Source.ON_DEVICE])
    if edge.availability is not Availability.AVAILABLE:
        return Veto(VetoCode.MODEL_UNAVAILABLE, edge.detail or f"the model is {edge.availability}")
    fits = request.prompt_tokens + request.max_tokens <= edge.context_window
    if request.prompt_tokens >= edge.context_window and not request.sliding_window:
        return Veto(VetoCode.CONTEXT_WINDOW, _too_long(request, edge.context_window))
    if veto := _memory_veto(device, edge, limits):
        return veto
    if device.temperature is not None and device.temperature > limits.max_temperature:
        return Veto(
            VetoCode.TEMPERATURE,
            f"the device is at {device.temperature:.0f} °C, the limit is "
            f"{limits.max_temperature:.0f}",
        )
    if edge.queue_length >= limits.max_queue:
        return Veto(VetoCode.QUEUE_FULL, f"{edge.queue_length} requests run on the device already")
    # Last, since these yield where all else fails.
    if not fits and not request.sliding_window:
        # The answer may be cut short, which is better than none.
        return Veto(VetoCode.CONTEXT_WINDOW, _too_long(request, edge.context_window), yields=True)
    return _power_veto(device, limits)


def _memory_veto(device: DeviceState, edge: EdgeState, limits: Limits) -> Veto | None:
    wanted = edge.memory_needed + limits.memory_reserve if edge.memory_needed else 0
    if device.available_memory is not None and device.available_memory < wanted:
        return Veto(
            VetoCode.MEMORY,
            f"{device.available_memory / 1e6:,.0f} MB of memory are available, the model needs "
            f"{edge.memory_needed / 1e6:,.0f} and {limits.memory_reserve / 1e6:,.0f} are kept free",
        )
    if device.memory_pressure is not None and device.memory_pressure > limits.max_memory_pressure:
        return Veto(
            VetoCode.MEMORY,
            f"the device stalls for memory {device.memory_pressure:.0%} of the time, the limit is "
            f"{limits.max_memory_pressure:.0%}",
        )
    return None


def _power_veto(device: DeviceState, limits: Limits) -> Veto | None:
    if device.battery is not None and device.battery < limits.min_battery and not device.charging:
        return Veto(
            VetoCode.BATTERY,
            f"the battery is at {device.battery:.0%}, the floor is {limits.min_battery:.0%}",
            yields=True,
        )
    if device.low_power_mode:
        return Veto(VetoCode.LOW_POWER, "the device is in low-power mode", yields=True)
    return None


def _too_long(request: RoutingRequest, context_window: int) -> str:
    return (
        f"{request.prompt_tokens} prompt tokens + {request.max_tokens} new ones exceed the context "
        f"window of {context_window}; shorten the prompt or lower max_tokens"
    )
