"""The conditions of this device, read."""

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from edgewise.delivery.conditions.policy import Conditions, UpdatePolicy
from edgewise.device.state import DeviceProbe
from edgewise_edge.readings import reading


def read_conditions(
    policy: UpdatePolicy, store: Path, device: DeviceProbe, idle: Callable[[], bool | None]
) -> Conditions:
    """None for what cannot be read. Never raises."""
    state = device()
    now = reading("the local time", datetime.now)
    return Conditions(
        charging=state.charging,
        battery=state.battery,
        metered=reading("whether the connection is metered", lambda: _metered(policy)),
        idle=reading("whether the router is idle", idle),
        free_disk=reading("the free disk space", lambda: _free(store)),
        available_memory=state.available_memory,
        hour=now.hour + now.minute / 60 if now else None,
    )


def _metered(policy: UpdatePolicy) -> bool | None:
    answer = policy.metered() if policy.metered else None
    return answer if isinstance(answer, bool) else None


def _free(store: Path) -> int:
    """Of the first folder above that exists: the store may not have been made yet."""
    folder = next(path for path in (store, *store.parents) if path.exists())
    return shutil.disk_usage(folder).free
