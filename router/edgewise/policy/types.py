"""What a side is chosen by, and what the choice is: plain data, standard library only."""

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
    BUSY = "busy"
    FAILED = "failed"
    STALLED = "stalled"
    TOO_SLOW = "too_slow"


class Reason(StrEnum):
    """Why the chosen side was chosen."""

    PREFERRED = "preferred"  # it is the preferred side and nothing speaks against it
    OTHER_VETOED = "other_vetoed"  # the preferred side may not answer
    BUDGET = "budget"  # the preferred side would take too long, or nearly; this one would not
    BUDGET_MISSED = "budget_missed"  # no side fits the budget; this is the faster
    HEDGED = "hedged"  # both were asked, and this one was first
    LAST_RESORT = "last_resort"  # the other side may not or cannot, so this one's veto yields


@dataclass(frozen=True, slots=True)
class Veto:
    """A side's veto: a code for programs and a sentence for people."""

    code: VetoCode
    detail: str = field(repr=False)  # a cloud's own words may be in it
    # It only sends a request elsewhere: with nowhere to go, answering is better.
    soft: bool = False


@dataclass(frozen=True, slots=True)
class PredictedTime:
    """Seconds from the request; None where nothing has been measured yet."""

    first_token: float | None = None
    total: float | None = None
    gap: float | None = None  # between two tokens, on average


UNKNOWN = PredictedTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRequest:
    """What the policy needs to know of a request; the prompt itself it never sees.

    A text that is half written is a request for the rest of it.
    """

    mode: Mode
    privacy: Privacy
    prompt_tokens: int  # with what has been generated already
    max_tokens: int  # still wanted
    sliding_window: bool = False  # the device may go on beyond its context window
    first_token_budget: float | None = None  # seconds left until the first token
    latency_budget: float | None = None  # seconds left for the whole answer
    offline: bool = False
    # Sides that this text has left, and why. It returns to one whose veto yields, if it must.
    abandoned: Mapping[Source, Veto] = field(default_factory=dict)


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
    queue_length: int = 0  # generations that it is writing already, and takes turns with
    predicted: PredictedTime = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudState:
    """The cloud as far as it is known without asking it."""

    address: str | None
    circuit_open: bool = False
    busy_for: float = 0.0  # seconds for which it asked to be left alone
    context_window: int | None = None  # tokens; None until it was asked
    predicted: PredictedTime = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where the device's comfort ends."""

    min_battery: float = 0.2  # share of charge, unless charging
    memory_reserve: int = 64 * 2**20  # bytes left to others beyond what the model needs
    max_memory_pressure: float = 0.4  # share of time
    max_temperature: float = 90.0  # degrees Celsius
    max_queue: int = 8  # generations that the device writes at once, in turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The side that answers and why: the veto (if any) and the predicted time on each side."""

    source: Source
    reason: Reason
    vetoes: Mapping[Source, Veto]
    predicted: Mapping[Source, PredictedTime]
    queue_length: int = 0  # generations that the device was writing already


@dataclass(frozen=True, slots=True)
class NoSource:
    """No side may answer; every veto, by side."""

    vetoes: Mapping[Source, Veto]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How a side that writes is doing. Times in seconds; None where nothing is known."""

    silent: float = 0.0  # for how long it has been waited for now
    expected: float | None = None  # for how long it was to be waited for
    remaining: float | None = None  # until its last token, by its pace so far
