"""One generation: its request, attempts, events, and the stream of chunks."""
