"""Requests in, replies and streams out: what all endpoints share."""
