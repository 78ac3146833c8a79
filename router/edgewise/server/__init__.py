"""OpenAI-compatible HTTP and a page over one Router. Needs the extra `[http]`."""
