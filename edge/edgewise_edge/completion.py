"""Completing a prompt on the device in one call, for apps without the router."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewise_edge.decoding.generate import FinishReason, TokenRequest, Usage
from edgewise_edge.decoding.sampling import sampling_params
from edgewise_edge.decoding.text import Transcript
from edgewise_edge.model import DeviceModel


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer. Times in seconds, from the call."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    usage: Usage
    time_to_first_token: float
    duration: float


_load = functools.lru_cache(maxsize=1)(DeviceModel.load)


def complete(
    prompt: str,
    *,
    model: str | Path = "tales",
    max_tokens: int = 128,
    stop: Sequence[str] | str = (),
    sliding_window: bool = False,
    **sampling: Any,
) -> Completion:
    """Complete `prompt` on this device; the model stays loaded for the next call.

    The answer ends at the model's context window, unless `sliding_window` drops the beginning and
    continues. `sampling` takes the fields of SamplingParams; defaults come from the model's manifest,
    and the seed is random. Raises ModelError, RuntimeFailedError, or RequestError for arguments.
    """
    started = time.monotonic()
    loaded = _load(model)
    prompt_ids = tuple(loaded.tokenizer.encode(prompt))
    request = TokenRequest(
        token_ids=prompt_ids,
        prompt_tokens=len(prompt_ids),
        max_tokens=max_tokens,
        sampling=sampling_params(loaded.manifest.sampling, sampling),
        end_ids=loaded.tokenizer.end_ids,
        sliding_window=sliding_window,
    )
    transcript = Transcript(loaded.tokenizer, max_tokens, stop)
    if not sliding_window:
        transcript.limit(loaded.manifest.architecture.context_window - len(prompt_ids))
    pieces, first_token_at = [], None
    for token in loaded.stream_tokens(request):
        first_token_at = first_token_at or time.monotonic()
        pieces.append(transcript.push(token))
        if transcript.finish_reason:
            break
    ended = time.monotonic()
    return Completion(
        text="".join(pieces),
        token_ids=tuple(transcript.token_ids),
        finish_reason=transcript.finish_reason,
        usage=Usage(len(prompt_ids), len(transcript.token_ids)),
        time_to_first_token=(first_token_at or ended) - started,
        duration=ended - started,
    )
