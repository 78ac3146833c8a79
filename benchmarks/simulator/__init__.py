"""Routing policies compared on made-up days of a phone: `python -m benchmarks.simulator`.

Time is virtual and randomness is seeded, so a run gives the same figures everywhere. The router's
policy, predictions and circuit breaker are the real ones; the device, the network and the cloud are
models, chosen before anything was compared.

    trace = make_trace("commute", seed=1)
    print(measure(*simulate(trace.world, trace.requests, POLICIES["edgewise"])))
"""
# ruff: noqa: F401 - this is the public API

from .clock import Clock
from .device import RADIO_TAIL, RADIO_WATTS, Radio
from .metrics import HEAD, Metrics, measure, regret, table, totals, verdict
from .policies import POLICIES
from .simulation import Outcome, simulate
from .traces import END, TRACES, make_trace
from .world import Health, Link, Memory, Request, Steps, World
