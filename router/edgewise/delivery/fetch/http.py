"""The files of a static HTTP(S) server, from any byte on."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit

from edgewise.delivery.fetch.connections import Answer, Connections, errors_in_words
from edgewise.delivery.fetch.paths import parts_of
from edgewise.delivery.fetch.redirects import origin, refused, without_query
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import ConfigurationError
from edgewise_edge.checks import shown
from edgewise_edge.installed.fetcher import CHUNK_BYTES, FetchError, FetchFailure, Reply

_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_MISSING = {403, 404, 410}  # storage services answer 403 for what does not exist
_TEMPORARY = {408, 425, 429}
_RANGE_NOT_SATISFIABLE = 416


class HttpFetcher:
    """Reads files below `address`. Raises ConfigurationError."""

    def __init__(self, address: str, settings: DownloadSettings) -> None:
        _check_address(address, settings)
        self.address = address.rstrip("/")
        self._settings = settings
        self._connections = Connections(address, settings)

    def __str__(self) -> str:
        """The address."""
        return self.address

    def open(self, path: str, offset: int = 0, validator: str = "") -> Reply:
        """See Fetcher."""
        parts = "/".join(quote(part, safe="") for part in parts_of(path))
        return self.open_url(f"{self.address}/{parts}", offset, validator)[0]

    def open_url(self, url: str, offset: int, validator: str) -> tuple[Reply, Answer]:
        """A file of any address, and the answer that gives it."""
        answer = self._connections.get(url, _range_headers(offset, validator))
        response = answer.response
        try:
            start, size = _place(answer)
            now = _validator(response.headers)
            if start == 0 or (start == offset and (not validator or now in {"", validator})):
                chunks = _chunks(answer, self._settings)
                reply = Reply(
                    offset=start, size=size, chunks=chunks, close=response.close, validator=now
                )
                return reply, answer
        except BaseException:
            response.close()
            raise
        response.close()
        if not offset:
            raise refused(
                f"{without_query(answer.url)} answered HTTP status {response.status} when it was asked "
                "for the whole file"
            )
        return self.open_url(url, 0, "")  # it has changed, or the server mistakes ranges

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()


def _check_address(address: str, settings: DownloadSettings) -> None:
    try:
        scheme, host, _ = origin(address)
        parts = urlsplit(address)
    except ValueError as error:
        raise ConfigurationError(f"{shown(address)} is no address: {error}") from None
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"the address of {host} contains a user or a password; put a token into a file and set "
            "token_file"
        )
    if scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{shown(address)} is no address of a channel; it must be http(s)://HOST[:PORT]/FOLDER"
        )
    if settings.token_file and scheme == "http" and not _is_this_machine(host):
        raise ConfigurationError(
            f"{shown(address)} is reached without TLS, and token_file would send the token readable "
            "to others; use https"
        )


def _is_this_machine(host: str) -> bool:
    return host in {"localhost", "::1"} or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def _range_headers(offset: int, validator: str) -> dict[str, str]:
    if not offset:
        return {}
    headers = {"Range": f"bytes={offset}-"}
    return {**headers, "If-Range": validator} if validator else headers


def _place(answer: Answer) -> tuple[int | None, int | None]:
    """Where the answer's bytes begin in the file (None: somewhere else), and the file's size."""
    response = answer.response
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if response.status == 206:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not found:
            return None, None
        start, size = found.groups()
        place = int(start), None if size == "*" else int(size)
    elif response.status == 200:
        length = response.headers.get("Content-Length", "")
        place = 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None
    elif response.status == _RANGE_NOT_SATISFIABLE:
        return None, None
    else:
        raise _status_error(answer)
    if encoding not in {"identity", ""}:
        raise refused(
            f"{without_query(answer.url)} is sent as {shown(encoding)}, and was asked for as it is; "
            "turn the server's compression off for the channel"
        )
    return place


def _status_error(answer: Answer) -> FetchError:
    status, url = answer.response.status, without_query(answer.url)
    if status in _MISSING:
        return FetchError(FetchFailure.MISSING, f"{url} does not exist (HTTP status {status})")
    if status in _TEMPORARY or status >= 500:
        wait = _seconds(answer.response.headers.get("Retry-After", ""))
        return FetchError(
            FetchFailure.TEMPORARY, f"{url} answered HTTP status {status}", retry_after=wait
        )
    advice = "; check token_file" if status in {401, 407} else ""
    return refused(f"{url} answered HTTP status {status}{advice}")


def _seconds(text: str) -> float:
    """A Retry-After in seconds; its other form, a date, depends on two clocks and counts as none."""
    return float(text) if re.fullmatch(r"\d{1,9}", text.strip()) else 0.0


def _validator(headers: Mapping[str, str]) -> str:
    """A strong ETag, else the time of the last change."""
    etag = headers.get("ETag", "").strip()
    strong = etag.startswith('"') and etag.endswith('"') and len(etag) > 2
    return etag if strong else headers.get("Last-Modified", "").strip()


def _chunks(answer: Answer, settings: DownloadSettings) -> Iterator[bytes]:
    with errors_in_words(answer.url, settings):
        while chunk := answer.response.read1(CHUNK_BYTES, decode_content=False):
            yield chunk
