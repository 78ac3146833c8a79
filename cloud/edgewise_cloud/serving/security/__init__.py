"""TLS, bearer tokens, and which of them a bind address needs."""
