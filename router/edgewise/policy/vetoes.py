"""Why a source may not answer: pure functions, as in decide.py."""

from edgewise.policy.types import (
    CloudState,
    DeviceState,
    EdgeState,
    Mode,
    PolicyLimits,
    Privacy,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)

PRIVATE = Veto(VetoCode.PRIVATE, "the request is private and stays on the device")


def cloud_veto(request: RoutingRequest, device: DeviceState, cloud: CloudState) -> Veto | None:
    """Why the cloud may not answer."""
    if request.privacy is Privacy.PRIVATE:
        return PRIVATE
    if request.mode is Mode.ONLY_ON_DEVICE:
        return Veto(VetoCode.MODE, "the mode is only_on_device")
    if request.offline:
        return Veto(VetoCode.OFFLINE, "the router is offline")
    abandoned = request.abandoned.get(Source.IN_CLOUD)
    if abandoned and not abandoned.soft:
        return abandoned
    if cloud.address is None:
        return Veto(VetoCode.NO_ADDRESS, "no cloud address is set")
    if veto := network_veto(device):
        return veto
    if cloud.circuit_open:
        last = f"; the last time: {cloud.last_failure}" if cloud.last_failure else ""
        return Veto(
            VetoCode.CIRCUIT_OPEN,
            f"{cloud.address} failed repeatedly and is retried after a pause{last}",
        )
    if cloud.context_window is not None and _least_tokens(request) > cloud.context_window:
        return Veto(VetoCode.CONTEXT_WINDOW, _too_long(request, cloud.context_window))
    if cloud.busy_for > 0:
        return Veto(
            VetoCode.BUSY, f"{cloud.address} is busy and asked to wait {cloud.busy_for:.1f} s"
        )
    return abandoned


def network_veto(device: DeviceState) -> Veto | None:
    """Why the cloud can neither answer nor continue."""
    if device.network is not False:  # unknown is no constraint
        return None
    return Veto(VetoCode.NO_NETWORK, "this device has no network")


def device_veto(
    request: RoutingRequest, device: DeviceState, edge: EdgeState, limits: PolicyLimits
) -> Veto | None:
    """Why the device may not answer."""
    if request.mode is Mode.ONLY_IN_CLOUD:
        return Veto(VetoCode.MODE, "the mode is only_in_cloud")
    abandoned = request.abandoned.get(Source.ON_DEVICE)
    if abandoned and not abandoned.soft:
        return abandoned
    if not edge.availability.usable:
        return Veto(VetoCode.MODEL_UNAVAILABLE, edge.detail or f"the model is {edge.availability}")
    least = request.prompt_tokens + min(1, request.max_tokens)
    if least > edge.context_window and not request.sliding_window:
        return Veto(VetoCode.CONTEXT_WINDOW, _too_long(request, edge.context_window))
    if veto := _memory_veto(device, edge, limits):
        return veto
    if edge.queue_length >= limits.max_queue:
        return Veto(
            VetoCode.QUEUE_FULL,
            f"the device is already running {edge.queue_length} generations",
            soft=limits.queue_timeout > 0,  # it waits for a place
        )
    # Soft vetoes come last: they must not hide a hard one.
    fits = _least_tokens(request) <= edge.context_window
    if not fits and not request.sliding_window:
        # The answer may be cut short, which is better than none.
        return Veto(VetoCode.CONTEXT_WINDOW, _too_long(request, edge.context_window), soft=True)
    return _soft_state_veto(device, limits) or abandoned


def device_state_veto(device: DeviceState, edge: EdgeState, limits: PolicyLimits) -> Veto | None:
    """Why the device should not continue a generation that is running on it."""
    return _memory_veto(device, edge, limits) or _soft_state_veto(device, limits)


def _soft_state_veto(device: DeviceState, limits: PolicyLimits) -> Veto | None:
    """A slow or costly answer is better than none. Comparisons with NaN give no veto."""
    return (
        _temperature_veto(device, limits)
        or _power_veto(device, limits)
        or _pressure_veto(device, limits)
    )


def _memory_veto(device: DeviceState, edge: EdgeState, limits: PolicyLimits) -> Veto | None:
    needed = edge.memory_needed + limits.memory_reserve if edge.memory_needed else 0
    if device.available_memory is None or device.available_memory >= needed:
        return None
    return Veto(
        VetoCode.MEMORY,
        f"{device.available_memory / 1e6:,.0f} MB of memory are available; the model needs "
        f"{edge.memory_needed / 1e6:,.0f} MB and {limits.memory_reserve / 1e6:,.0f} MB are kept free",
    )


def _pressure_veto(device: DeviceState, limits: PolicyLimits) -> Veto | None:
    if device.memory_pressure is None or not device.memory_pressure > limits.max_memory_pressure:
        return None
    return Veto(
        VetoCode.MEMORY,
        f"the device is stalled on memory {device.memory_pressure:.0%} of the time; the limit is "
        f"{limits.max_memory_pressure:.0%}",
        soft=True,
    )


def _temperature_veto(device: DeviceState, limits: PolicyLimits) -> Veto | None:
    limit = device.temperature_limit if limits.max_temperature is None else limits.max_temperature
    if device.temperature is None or not device.temperature > limit:
        return None
    return Veto(
        VetoCode.TEMPERATURE,
        f"the device is at {device.temperature:.0f} °C; the limit is {limit:.0f} °C",
        soft=True,
    )


def _power_veto(device: DeviceState, limits: PolicyLimits) -> Veto | None:
    if device.battery is not None and device.battery < limits.min_battery and not device.charging:
        return Veto(
            VetoCode.BATTERY,
            f"the battery is at {device.battery:.0%}; the minimum is {limits.min_battery:.0%}",
            soft=True,
        )
    if device.low_power_mode:
        return Veto(VetoCode.LOW_POWER, "the device is in low-power mode", soft=True)
    return None


def _least_tokens(request: RoutingRequest) -> int:
    """Tokens that must fit: a number of new ones that nobody gave is cut to what fits."""
    return request.prompt_tokens + (request.max_tokens if request.max_tokens_given else 1)


def _too_long(request: RoutingRequest, context_window: int) -> str:
    if request.prompt_tokens >= context_window or not request.max_tokens_given:
        return (
            f"the prompt's {request.prompt_tokens} tokens fill the context window of "
            f"{context_window}; shorten it"
        )
    return (
        f"{request.prompt_tokens} prompt tokens + {request.max_tokens} new tokens exceed the "
        f"context window of {context_window}; shorten the prompt or lower max_tokens"
    )
