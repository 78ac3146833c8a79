"""What `edgewise serve` can be told about HTTP."""

from dataclasses import dataclass, field
from pathlib import Path

MOST_STOPS = 64  # of one request; each costs time with each token


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the server listens, whom it answers, and how much it takes on."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0: any free one
    unix_socket: Path | None = None  # instead of host and port
    token: str | None = field(default=None, repr=False)  # a bearer token that clients must send
    certificate: Path | None = None  # PEM, for TLS
    key: Path | None = None  # PEM
    allowed_origins: tuple[str, ...] = ()  # of web pages, besides the server's own
    private: bool = False  # every request is private
    strict_chat: bool = False  # refuse chat where the model has no chat template
    max_waiting: int = 32  # requests that wait for a place
    max_body: int = 1024 * 1024  # bytes of a request
    max_choices: int = 32  # texts of one request: prompts x max(n, best_of)
    comment_interval: float = 15.0  # seconds of silence after which a stream sends a comment
