"""A plain model folder of a model hub: hf://ORGANISATION/REPOSITORY[@REVISION][/FOLDER].

A "/" in a revision is written %2F there.
"""

import os
import re
from urllib.parse import quote, unquote

from edgewise.delivery.fetch.connections import Answer
from edgewise.delivery.fetch.http import HttpFetcher
from edgewise.delivery.fetch.paths import parts_of
from edgewise.delivery.fetch.redirects import refused
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import ConfigurationError
from edgewise_edge.checks import shown
from edgewise_edge.installed.fetcher import Reply

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ADDRESS = re.compile(rf"hf://({_PART}/{_PART})(?:@([\w.%-]+))?((?:/{_PART})*)/?", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile('"?([0-9a-f]{64})"?')


class HubFetcher:
    """Reads the files of one commit: the one that the revision named at the first request."""

    def __init__(self, address: str, settings: DownloadSettings) -> None:
        found = _ADDRESS.fullmatch(address)
        if not found:
            raise ConfigurationError(
                f"{shown(address)} is no address of a hub; it must be "
                "hf://ORGANISATION/REPOSITORY[@REVISION][/FOLDER]"
            )
        self.address = address
        self._repository, revision, self._folder = found.groups()
        self._revision = unquote(revision or "main")
        endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        self._http = HttpFetcher(endpoint, settings)

    def __str__(self) -> str:
        """The address."""
        return self.address

    def open(self, path: str, offset: int = 0, validator: str = "") -> Reply:
        """See Fetcher. Its `sha256` is the one that the hub names."""
        revision = quote(self._revision, safe="")
        below = "/".join(quote(part, safe="") for part in parts_of(path))
        url = f"{self._http.address}/{self._repository}/resolve/{revision}{self._folder}/{below}"
        reply, answer = self._http.open_url(url, offset, validator)
        try:
            self._pin(_header(answer, "X-Repo-Commit"))
        except BaseException:
            reply.close()
            raise
        named = _SHA256.fullmatch(_header(answer, "X-Linked-ETag"))
        return Reply(
            offset=reply.offset,
            size=reply.size,
            chunks=reply.chunks,
            close=reply.close,
            validator=reply.validator,
            sha256=named[1] if named else "",
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _pin(self, commit: str) -> None:
        """From now on files of this commit only, so that they belong together."""
        if not _COMMIT.fullmatch(commit) or commit == self._revision:
            return
        if _COMMIT.fullmatch(self._revision):
            raise refused(
                f"{self.address} answered with files of commit {commit}, not the one asked"
            )
        self._revision = commit


def _header(answer: Answer, name: str) -> str:
    """Of the first answer that has it: the hub's own, before it redirects to its storage."""
    for headers in [*answer.before, answer.response.headers]:
        if value := headers.get(name):
            return value.strip()
    return ""
