"""Routing policies compared on made-up days of a phone: `python -m benchmarks.simulator`.

Time is virtual and randomness is seeded, so a run gives the same figures everywhere. The router's
policy, predictions and circuit breaker are the real ones; the device, the network and the cloud are
models, chosen before anything was compared.
"""
# ruff: noqa: F401 - this is the public API

from .device import RADIO_TAIL, RADIO_WATTS, Radio
from .metrics import HEAD, measure, table, totals, verdict
from .router import edgewise
from .simulation import Policy, always_cloud, always_device, availability_only, simulate
from .traces import END, TRACES, make_trace
from .world import Clock, Health, Link, Memory, Request, Steps, World

_ALL: tuple[Policy, ...] = (always_device, always_cloud, availability_only, edgewise)
POLICIES = {policy.__name__: policy for policy in _ALL}
