"""Completing a prompt on the device in one call, for apps without the router."""

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewise_edge.checks import Range, check_type
from edgewise_edge.decoding.request import FinishReason, TokenRequest, Usage
from edgewise_edge.decoding.sampling_params import sampling_params
from edgewise_edge.decoding.text import TextAssembler, Transcript
from edgewise_edge.errors import RequestError
from edgewise_edge.lease import SharedModel
from edgewise_edge.model import DeviceModel
from edgewise_edge.store.catalog import find_model

_MAX_TOKENS = Range(1, 2**31 - 1, whole=True)


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer. Times in seconds, from the call."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    time_to_first_token: float
    duration: float


def complete(
    prompt: str,
    *,
    model: str | Path = "tales",
    max_tokens: int = 128,
    stop: Sequence[str] | str = (),
    sliding_window: bool = False,
    **sampling: Any,
) -> Completion:
    """Complete `prompt` on this device, as `Router.generate` would; the model stays loaded.

    An empty one begins a new text.
    The answer ends at the model's context window, unless `sliding_window` drops the beginning and
    continues. `sampling` takes the fields of SamplingParams; defaults come from the model's manifest,
    and the seed is random. May be called from many threads; the first call loads the model for all.
    Raises ModelError, RuntimeFailedError, or RequestError for arguments.
    """
    started = time.monotonic()
    max_tokens = int(_MAX_TOKENS.check("max_tokens", max_tokens, RequestError))
    check_type("sliding_window", sliding_window, bool, "True or False", RequestError)
    _require_text(prompt)
    TextAssembler(stop)  # raises for an invalid stop string
    with _shared_model(model).lease() as loaded:
        prompt_ids = tuple(loaded.tokenizer.encode_prompt(prompt))
        if not sliding_window:
            # At least 1: a prompt that fills the window is stream_tokens' error.
            room = loaded.manifest.architecture.context_window - len(prompt_ids)
            max_tokens = min(max_tokens, max(1, room))
        request = TokenRequest(
            token_ids=prompt_ids,
            prompt_tokens=len(prompt_ids),
            max_tokens=max_tokens,
            sampling=sampling_params(loaded.manifest.sampling, sampling),
            end_ids=loaded.tokenizer.end_ids,
            sliding_window=sliding_window,
        )
        transcript = Transcript(loaded.tokenizer, max_tokens, stop)
        pieces, first_token_at = [], None
        with closing(loaded.stream_tokens(request)) as tokens:
            for token in tokens:
                first_token_at = first_token_at or time.monotonic()
                pieces.append(transcript.push(token))
                if transcript.finish_reason:
                    break
        pieces.append(transcript.finish(FinishReason.LENGTH))
    ended = time.monotonic()
    return Completion(
        text="".join(pieces),
        token_ids=tuple(transcript.token_ids),
        finish_reason=transcript.finish_reason or FinishReason.LENGTH,
        usage=Usage(len(prompt_ids), len(transcript.token_ids)),
        time_to_first_token=(first_token_at or ended) - started,
        duration=ended - started,
    )


def _require_text(prompt: object) -> None:
    """The message names the type only: it is user text that was not meant to be shown."""
    if not isinstance(prompt, str):
        raise RequestError(f"the prompt is of type {type(prompt).__name__}; it must be text")


_shared: dict[Path, SharedModel] = {}  # the last model that was used
_shared_lock = threading.Lock()


def _shared_model(model: str | Path) -> SharedModel:
    folder = find_model(model).absolute()
    with _shared_lock:
        if folder not in _shared:
            _shared.clear()
            _shared[folder] = SharedModel(lambda: DeviceModel.load(model))
        return _shared[folder]
