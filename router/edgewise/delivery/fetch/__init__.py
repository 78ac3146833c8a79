"""Reading the files of a channel: from a folder, over HTTP, over gRPC, from a model hub."""

from edgewise_edge.installed.fetcher import Fetcher, FetchError, FetchFailure, Reply

__all__ = ["FetchError", "FetchFailure", "Fetcher", "Reply"]
