"""The fetcher for an address."""

from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edgewise.delivery.fetch.folder import FolderFetcher
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import ConfigurationError
from edgewise_edge.checks import shown
from edgewise_edge.installed.fetcher import Fetcher

_INSTALL = "pip install 'tuf>=7.0,<8' 'urllib3>=2.5', or edgewise's extra 'delivery'"
_KNOWN = "a folder, file://, http://, https://, grpc://HOST:PORT or hf://ORGANISATION/REPOSITORY"


def open_fetcher(address: str, settings: DownloadSettings | None = None) -> Fetcher:
    """A fetcher for `address`: a folder, or a file://, http(s)://, grpc:// or hf:// address.

    Nothing is read yet. Raises ConfigurationError for an address that cannot be one, and where what
    it needs is not installed.
    """
    settings = settings or DownloadSettings()
    if not isinstance(address, str) or not address.strip() or "\0" in address:
        raise ConfigurationError(f"the address is {shown(address)}; it must be {_KNOWN}")
    scheme, separator, rest = address.partition("://")
    if not separator:
        return FolderFetcher(Path(address).expanduser())
    match scheme.lower():
        case "file":
            return FolderFetcher(_file(address))
        case "http" | "https":
            url = f"{scheme.lower()}://{rest}"
            return _new("edgewise.delivery.fetch.http", "HttpFetcher", url, settings)
        case "hf":
            return _new("edgewise.delivery.fetch.hub", "HubFetcher", f"hf://{rest}", settings)
        case "grpc":
            return _new("edgewise.cloud.delivery", "GrpcFetcher", rest, settings)
    raise ConfigurationError(f"the address is {shown(address)}; it must be {_KNOWN}")


def _new(module: str, kind: str, address: str, settings: DownloadSettings) -> Fetcher:
    """Imported late: a device that fetches nothing needs none of it."""
    fetcher: Fetcher = getattr(require(module), kind)(address, settings)
    return fetcher


def require(module: str) -> Any:
    """Import one of our modules that needs the extra `delivery`. Raises ConfigurationError."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"tuf", "urllib3", "securesystemslib"}:
            raise
        raise ConfigurationError(
            f"a channel that is signed or reached over HTTP needs {missing}: {_INSTALL}"
        ) from error


def _file(address: str) -> Path:
    parts = urlsplit(address)
    if parts.netloc not in {"", "localhost"} or not parts.path:
        raise ConfigurationError(
            f"the address is {shown(address)}; a file address names no host: file:///FOLDER"
        )
    return Path(unquote(parts.path))
