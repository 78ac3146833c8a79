"""One generation on its way: request, attempts, events, and the stream of text."""
