"""Reading the files of a channel: from a folder, over HTTP, over gRPC, from a model hub."""

from edgewise.delivery.fetch.address import open_fetcher
from edgewise_edge.installed.fetcher import Fetcher, FetchError, FetchFailure, Reply

__all__ = ["FetchError", "FetchFailure", "Fetcher", "Reply", "open_fetcher"]
