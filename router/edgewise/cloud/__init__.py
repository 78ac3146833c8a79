"""The cloud as a source: gRPC client, circuit breaker, health probe, timeouts."""
