"""The request fields that OpenAI's endpoints share, as options of the router."""

import hashlib
from typing import Any

from msgspec import Struct

from edgewise.options import RequestOptions
from edgewise.server.errors import HttpError
from edgewise.server.settings import MOST_STOPS
from edgewise_edge import RequestError
from edgewise_edge.checks import MAX_SEED, Range

_SEEDS = Range(-(2**64), 2**64, whole=True)
_SMALLEST_TOP_P = 1e-9  # OpenAI's 0 is the likeliest token alone


class StreamOptions(Struct):
    """What a stream also tells."""

    include_usage: bool | None = None


class SharedFields(Struct):
    """Null means left out. Defaults are the model's own, or the router's."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None  # this and the next two: not OpenAI's, the router's own
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # What headers say here: as unknown fields they would be ignored, and a private text would not be.
    privacy: Any = None
    mode: Any = None
    first_token_budget: Any = None
    latency_budget: Any = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def options(self, also_stop: tuple[str, ...] = ()) -> RequestOptions:
        """Options of the router, without a length and without a seed. Raises HttpError."""
        self._check_headers_fields()
        return {
            "temperature": self.temperature,
            "top_p": _SMALLEST_TOP_P if self.top_p == 0 else self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "logit_bias": self.logit_bias,
            "stop": [*self._stops(), *also_stop],
        }

    def _check_headers_fields(self) -> None:
        for name in ("privacy", "mode", "first_token_budget", "latency_budget"):
            if getattr(self, name) is not None:
                header = f"X-Edgewise-{name.replace('_', '-').title()}"
                message = f"{name} is no field of this endpoint; send it as the header {header}"
                raise HttpError(400, message, param=name)

    def _stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if stops == [""]:
            return []
        if len(stops) > MOST_STOPS:
            message = f"stop holds {len(stops)} texts; give at most {MOST_STOPS}"
            raise HttpError(400, message, param="stop")
        if "" in stops:
            raise HttpError(400, "stop holds an empty text; leave it out", param="stop")
        return stops

    def seed_of(self, choice: int) -> int | None:
        """The seed of the choice with this number within its prompt; the first has the given one."""
        if self.seed is None:
            return None
        check_number("seed", self.seed, _SEEDS)
        if not choice:
            return self.seed & MAX_SEED
        digest = hashlib.sha256(f"{self.seed} {choice}".encode()).digest()
        return int.from_bytes(digest[:8], "big") & MAX_SEED


def check_number(name: str, value: float, allowed: Range) -> None:
    """Raise HttpError unless the number of the field `name` is allowed."""
    try:
        allowed.check(name, value, RequestError)
    except RequestError as error:
        raise HttpError(400, str(error), param=name) from error


def check_texts(name: str, prompts: int, each: int, most: int) -> None:
    """Raise HttpError where a request asks for more texts than the server writes for one.

    `name` is the field that says how many `each` prompt gets.
    """
    if prompts * each > most:
        name, asked = ("prompt", "") if each == 1 else (name, f" with {each} texts each")
        message = (
            f"{name}: {prompts} prompts{asked} are too many; one request may ask for {most} texts"
        )
        raise HttpError(400, message, param=name)
