"""The bodies of the router's own endpoints."""

from dataclasses import replace
from typing import Annotated, Any

from msgspec import Meta, Struct

from edgewise.options import RequestOptions
from edgewise.policy.types import DeviceState, Privacy
from edgewise.server.settings import MOST_STOPS

_Share = Annotated[float, Meta(ge=0, le=1)]


class AssumedDevice(Struct):
    """What is made up of the device; the rest, and what is null, is as it is."""

    available_memory: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None  # bytes
    memory_pressure: _Share | None = None
    battery: _Share | None = None
    charging: bool | None = None
    temperature: Annotated[float, Meta(ge=-50, le=125)] | None = None  # degrees Celsius
    low_power_mode: bool | None = None
    network: bool | None = None

    def over(self, state: DeviceState) -> DeviceState:
        """`state` with these values."""
        return replace(state, **_given(self))


class RouteBody(Struct):
    """A prompt and the router's own options (options.RequestOptions), with their names."""

    prompt: str | list[int]
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Meta(max_length=MOST_STOPS)] | None = None
    logprobs: int | None = None
    mode: str | None = None
    privacy: str | None = None
    first_token_budget: float | None = None
    latency_budget: float | None = None
    hedge_after: float | None = None
    sliding_window: bool | None = None
    device: AssumedDevice | None = None

    def options(self, headers: RequestOptions) -> dict[str, Any]:
        """The request's options, without its device. Where one says private, it is private."""
        own = {name: value for name, value in _given(self).items() if name in _OPTIONS}
        options = {**own, **headers}
        if Privacy.PRIVATE in (own.get("privacy"), headers.get("privacy")):
            options["privacy"] = Privacy.PRIVATE
        return options


class GenerateBody(RouteBody):
    """The same, and a pace."""

    pace: Annotated[float, Meta(gt=0, le=1e6)] | None = None  # tokens per second at most


class ChangeBody(Struct):
    """What is changed of a text that is being written."""

    device: AssumedDevice | None = None  # instead of what was made up before
    privacy: str | None = None
    first_token_budget: float | None = None
    latency_budget: float | None = None


_OPTIONS = set(RequestOptions.__annotations__) - {"device"}


def _given(body: Struct) -> dict[str, Any]:
    values = ((name, getattr(body, name)) for name in body.__struct_fields__)
    return {name: value for name, value in values if value is not None}
