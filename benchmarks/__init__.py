"""Benchmarks of the edge, the cloud and the router; see README.md."""
