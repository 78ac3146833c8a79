"""From an app's options to a request: classified first, then tokenized and checked."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.generation.request import (
    DEFAULT_MAX_TOKENS,
    AllowCloudRequest,
    AnyRequest,
    PrivateRequest,
    word,
)
from edgewise.policy.types import Mode, Privacy
from edgewise_edge import ContextOverflowError, Manifest, Tokenizer
from edgewise_edge.decoding.sampling import sampling_params

log = logging.getLogger("edgewise")

# Says of a prompt whether it is private; called on the device, before anything else.
Classify = Callable[[str], Privacy | str]


def classified(
    prompt: str, asked: Privacy | None, classify: Classify | None, default: Privacy
) -> Privacy:
    """The stricter of what the request asks for and what `classify` says; else the default.

    A hook that raises, or says nothing that is a Privacy, means private.
    """
    if asked is Privacy.PRIVATE:
        return Privacy.PRIVATE
    if classify is None:
        return asked or default
    try:
        return Privacy(classify(prompt))
    except Exception as error:  # noqa: BLE001  # whatever it is, the prompt stays here
        # By its kind alone: what it says may quote the prompt.
        log.warning("classify failed (%s): the prompt is private", type(error).__name__)
        return Privacy.PRIVATE


_SAMPLING = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")


@dataclass(frozen=True, slots=True)
class Asking:
    """A router's defaults, and the model's."""

    manifest: Manifest
    tokenizer: Tokenizer
    mode: Mode
    default_privacy: Privacy
    classify: Classify | None

    def request(self, prompt: str, options: Mapping[str, Any]) -> AnyRequest:
        """Options are RequestOptions. Raises RequestError for what no side could answer."""
        given = {name: value for name, value in options.items() if value is not None}
        privacy = self._privacy(prompt, given.pop("privacy", None))  # before anything else
        sampling = sampling_params(
            self.manifest.sampling,
            {name: given.pop(name) for name in _SAMPLING if name in given},
        )
        stop = given.pop("stop", ())
        prompt_ids = tuple(self.tokenizer.encode(prompt))
        sliding_window = given.pop("sliding_window", False)
        window = self.manifest.architecture.context_window
        if sliding_window and len(prompt_ids) >= window:
            raise ContextOverflowError(len(prompt_ids), window)
        kind = PrivateRequest if privacy is Privacy.PRIVATE else AllowCloudRequest
        return kind(
            prompt_ids=prompt_ids,
            sliding_window=sliding_window,
            max_tokens=given.pop("max_tokens", DEFAULT_MAX_TOKENS),
            sampling=sampling,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            mode=word(Mode, given.pop("mode", self.mode)),
            first_token_budget=given.pop("first_token_budget", None),
            latency_budget=given.pop("latency_budget", None),
            hedge_after=given.pop("hedge_after", None),
            **given,  # nothing, or what Python calls an unexpected argument
        )

    def _privacy(self, prompt: str, asked: Privacy | str | None) -> Privacy:
        said = None if asked is None else word(Privacy, asked)
        return classified(prompt, said, self.classify, self.default_privacy)
