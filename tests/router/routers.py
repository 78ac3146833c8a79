"""Routers for tests: a fixed device state, and no measurements on disk."""

from pathlib import Path

from edgewise import DeviceState, LatencyLog, Router
from edgewise.testing import ScriptedCloud, ScriptedDevice

FINE = DeviceState(available_memory=10**10, battery=0.9, charging=False)
DRAINED = DeviceState(battery=0.01, charging=False)
SHORT_OF_MEMORY = DeviceState(available_memory=1000)
UNREACHABLE = "127.0.0.1:9"  # a cloud address where nothing listens


def new_router(folder: Path, state: DeviceState = FINE, **settings: object) -> Router:
    """A router on the model in `folder`."""
    return Router(folder, device=lambda: state, latency=LatencyLog(), threads=1, **settings)


def scripted_router(state: DeviceState = FINE, **settings: object) -> Router:
    """A router on a scripted device and cloud."""
    settings = {"cloud": ScriptedCloud("the answer"), **settings}
    return Router(ScriptedDevice("the answer"), device=lambda: state, **settings)
