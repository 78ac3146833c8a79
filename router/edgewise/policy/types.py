"""The inputs and outputs of the policy: plain data, standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

MAX_TEMPERATURE = 90.0  # degrees Celsius: the limit of a sensor that states none of its own


class Mode(StrEnum):
    """Which source to use: the device, the cloud, or one preferred over the other."""

    PREFER_ON_DEVICE = "prefer_on_device"
    ONLY_ON_DEVICE = "only_on_device"
    PREFER_IN_CLOUD = "prefer_in_cloud"
    ONLY_IN_CLOUD = "only_in_cloud"


class Source(StrEnum):
    """The device or the cloud, as a producer of tokens."""

    ON_DEVICE = "on_device"
    IN_CLOUD = "in_cloud"

    @property
    def other(self) -> "Source":
        """The other source."""
        return Source.IN_CLOUD if self is Source.ON_DEVICE else Source.ON_DEVICE


class Privacy(StrEnum):
    """Whether the prompt and its answer may leave the device."""

    PRIVATE = "private"
    ALLOW_CLOUD = "allow_cloud"


class Availability(StrEnum):
    """Whether a model is on the device."""

    UNAVAILABLE = "unavailable"
    DOWNLOADABLE = "downloadable"
    DOWNLOADING = "downloading"
    STAGED = "staged"  # on the device, and the next text uses another revision than the last one
    AVAILABLE = "available"

    @property
    def usable(self) -> bool:
        """Whether the model can answer."""
        return self in {Availability.AVAILABLE, Availability.STAGED}


class VetoCode(StrEnum):
    """Why a source may not answer."""

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
    NO_NETWORK = "no_network"
    CIRCUIT_OPEN = "circuit_open"
    BUSY = "busy"
    FAILED = "failed"
    STALLED = "stalled"
    TOO_SLOW = "too_slow"


class Reason(StrEnum):
    """Why a source was chosen."""

    PREFERRED = "preferred"  # it is the preferred source and has no veto
    OTHER_VETOED = "other_vetoed"  # the preferred source has a veto
    BUDGET = "budget"  # the preferred source would miss the budget, or nearly; this one fits
    BUDGET_MISSED = "budget_missed"  # neither source fits the budget; this one is faster
    HEDGED = "hedged"  # both were started, and this one had the first token
    LAST_RESORT = "last_resort"  # the other source has a veto, so this one's soft veto is ignored


@dataclass(frozen=True, slots=True)
class Veto:
    """Why a source may not answer: a code for programs and a sentence for people."""

    code: VetoCode
    detail: str = field(repr=False)  # may quote the cloud's error message
    soft: bool = False  # ignored where the other source may not answer either

    def __str__(self) -> str:
        """Code and sentence."""
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True, slots=True)
class PredictedTime:
    """Seconds from the request; None if nothing has been measured yet."""

    first_token: float | None = None
    total: float | None = None
    gap: float | None = None  # mean time between two tokens


UNKNOWN = PredictedTime()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRequest:
    """What the policy needs to know about a request. It never sees the prompt.

    For a generation in flight it describes the rest: what is already generated counts as prompt.
    """

    mode: Mode
    privacy: Privacy
    prompt_tokens: int  # including the tokens generated so far
    max_tokens: int  # still to generate; 0: only the prompt's score
    max_tokens_given: bool = True  # False: fewer are enough where no more fit
    sliding_window: bool = False  # the device may continue beyond its context window
    first_token_budget: float | None = None  # seconds left until the first token
    latency_budget: float | None = None  # seconds left for the whole answer
    offline: bool = False
    # Sources this generation has abandoned, and why. It returns to one only if that veto is soft.
    abandoned: Mapping[Source, Veto] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """The state of the device. None is unknown or not present, and never a constraint."""

    available_memory: int | None = None  # bytes that this process can still allocate
    memory_pressure: float | None = None  # share of time stalled on memory (PSI full, 10 s)
    battery: float | None = None  # charge from 0 to 1
    charging: bool | None = None
    temperature: float | None = None  # degrees Celsius, of the sensor closest to its limit
    temperature_limit: float = MAX_TEMPERATURE  # degrees Celsius beyond which it is too hot
    low_power_mode: bool | None = None
    network: bool | None = None  # whether there is one; only an app's own probe says it


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeState:
    """The state of the model on the device."""

    availability: Availability
    detail: str = ""  # why it is not available
    context_window: int = 0  # tokens
    memory_needed: int = 0  # bytes still to load; 0 once the model is loaded
    queue_length: int = 0  # generations already running, which share the device in turns
    predicted: PredictedTime = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudState:
    """What is known about the cloud without contacting it."""

    address: str | None
    circuit_open: bool = False
    last_failure: str = ""  # for people; may quote the cloud's error message
    busy_for: float = 0.0  # seconds that it asked clients to wait
    context_window: int | None = None  # tokens; None until the cloud has said
    predicted: PredictedTime = UNKNOWN


class PolicyLimits(Protocol):
    """Limits beyond which the device gets a veto: device.limits.Limits, which says their units."""

    @property
    def min_battery(self) -> float:
        """Charge from 0 to 1."""

    @property
    def memory_reserve(self) -> int:
        """Bytes."""

    @property
    def max_memory_pressure(self) -> float:
        """Share of time."""

    @property
    def max_temperature(self) -> float | None:
        """Degrees Celsius; None for the sensor's own limit."""

    @property
    def max_queue(self) -> int:
        """Generations at once."""

    @property
    def queue_timeout(self) -> float:
        """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The chosen source and why, with the veto (if any) and predicted time of each source."""

    source: Source
    reason: Reason
    vetoes: Mapping[Source, Veto]
    predicted: Mapping[Source, PredictedTime]
    queue_length: int = 0  # generations that were already running on the device


@dataclass(frozen=True, slots=True)
class NoSource:
    """Neither source may answer; the veto of each."""

    vetoes: Mapping[Source, Veto]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of the running source. Times in seconds; None if unknown."""

    silent: float = 0.0  # waited for the next token so far
    expected: float | None = None  # how long that wait was expected to take
    remaining: float | None = None  # until its last token, at its rate so far
