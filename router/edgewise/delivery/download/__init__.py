"""Downloading a file: with the bytes that are there, with patience, and within a bandwidth."""

from edgewise.delivery.download.retry import Clock
from edgewise.delivery.download.transfer import OnProgress, Partial, download, read_small

__all__ = ["Clock", "OnProgress", "Partial", "download", "read_small"]
