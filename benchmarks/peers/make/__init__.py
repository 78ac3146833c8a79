"""Model files, from one checkpoint: `python -m benchmarks.peers.make`."""
