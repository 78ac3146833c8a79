"""Strategies for choosing a side, compared on made-up days of a phone: `python -m benchmarks.simulator`.

Time is virtual and chance is seeded, so a run is the same wherever it is made. The policy is the
real one (edgewise.policy.decide, edgewise.latency.log, edgewise.cloud.circuit_breaker); the phone, the network and the cloud
are models (world.py, phone.py, service.py, energy.py), chosen before anything was compared.
"""
