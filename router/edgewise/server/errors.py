"""Errors as OpenAI's API tells them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class HttpError(Exception):
    """A request that is not answered.

    `param` is the field at fault, `code` a word for programs, `retry_after` in seconds.
    """

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None

    def body(self) -> dict[str, Any]:
        """OpenAI's error object; it is also the last event of a stream that fails."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }
