"""Logs, metrics and traces of the service, without any content."""
