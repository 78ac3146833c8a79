"""How to reach a channel and how to download from it."""

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from edgewise.errors import ConfigurationError
from edgewise.options import known_options, require_type
from edgewise_edge.checks import Range, check_fields, shown

File: TypeAlias = str | PathLike[str]

_SECONDS = Range(0, 3600, above=True, unit="seconds")
_TOKEN = re.compile("[!-~]+")
_MAX_TOKEN = 4096  # bytes


@known_options
@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSettings:
    """How to reach a channel and how to download from it. Raises ConfigurationError.

    - `connect_timeout` (seconds above 0, at most 3600; default 10): to connect.
    - `stall_timeout` (the same; default 30): without a byte for that long, connect again.
    - `tries` (1 to 100; default 6): in a row without progress, then the download fails.
    - `bandwidth` (bytes per second, 1,024 or more; default: no limit).
    - `token_file` (file; default: none): its one line is sent as "Authorization: Bearer", to the
      channel's own address only, over TLS or to this machine.
    - `root_certificates` (file, PEM; default: the system's): the authorities to trust.
    - `allow_private_redirects` (default False): follow redirects from public addresses to those of
      this machine and of private networks.
    """

    connect_timeout: float = 10.0
    stall_timeout: float = 30.0
    tries: int = 6
    bandwidth: float | None = None
    token_file: File | None = None
    root_certificates: File | None = None
    allow_private_redirects: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without reading files."""
        ranges = {
            "connect_timeout": _SECONDS,
            "stall_timeout": _SECONDS,
            "tries": Range(1, 100, whole=True),
        }
        if self.bandwidth is not None:
            ranges["bandwidth"] = Range(1024, 10**12, unit="bytes per second")
        check_fields(self, ranges, ConfigurationError)
        redirects = self.allow_private_redirects
        require_type("allow_private_redirects", redirects, bool, "True or False")
        for name in ("token_file", "root_certificates"):
            file = getattr(self, name)
            if file is not None and (not isinstance(file, str | PathLike) or not str(file)):
                raise ConfigurationError(f"{name} is {shown(file)}; it must be the path of a file")

    def read_token(self) -> str | None:
        """The token in `token_file`. Raises ConfigurationError, which does not show it."""
        if self.token_file is None:
            return None
        try:
            with Path(self.token_file).open("rb") as file:
                token = file.read(_MAX_TOKEN).decode("ascii").strip()
        except (OSError, ValueError) as error:
            reason = (error.strerror or "") if isinstance(error, OSError) else "it is not ASCII"
            raise ConfigurationError(
                f"token_file {shown(str(self.token_file))} cannot be read: {reason}"
            ) from None
        if not _TOKEN.fullmatch(token):
            raise ConfigurationError(
                f"token_file {shown(str(self.token_file))} must hold one token and nothing else; it "
                "is empty, or has several words"
            )
        return token
