"""Builds a request from an app's options: classified first, then tokenized and checked."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from edgewise.errors import ConfigurationError
from edgewise.generation.request import AllowCloudRequest, AnyRequest, PrivateRequest
from edgewise.generation.source import DeviceTokenSource
from edgewise.options import (
    DEFAULT_MAX_TOKENS,
    Choice,
    Prompt,
    RequestOptions,
    parse_choice,
    require_function,
    require_known,
)
from edgewise.policy.types import Mode, Privacy
from edgewise_edge import ContextOverflowError, RequestError, SamplingParams, Tokenizer
from edgewise_edge.checks import Range, plain_number
from edgewise_edge.decoding.sampling_params import sampling_params
from edgewise_edge.decoding.text import stop_strings

log = logging.getLogger("edgewise")

# An app's hook: is this prompt private? Called on the device, before anything else.
Classify = Callable[[str], Privacy | str]

_SAMPLING = tuple(field.name for field in fields(SamplingParams))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBuilder:
    """Builds requests with the defaults of the router and of the model that a text uses."""

    mode: Mode
    default_privacy: Privacy
    classify: Classify | None
    offline: bool

    def build(
        self,
        prompt: Prompt,
        options: Mapping[str, Any],
        model: DeviceTokenSource,
        known: type = RequestOptions,
    ) -> AnyRequest:
        """`options` are of the TypedDict `known`, whose names are those of RequestOptions.

        Raises RequestError for what no source could serve.
        """
        require_known(options, tuple(known.__annotations__))
        text, ids = _text_or_ids(prompt, model.tokenizer)
        given = {name: value for name, value in options.items() if value is not None}
        if (probe := given.pop("device", None)) is not None:  # the dispatcher's
            require_function("device", probe, "a function that returns a DeviceState", RequestError)
        given.pop("top", None)  # a score's, which is no matter of the request's
        requested = given.pop("privacy", None)
        privacy = resolve_privacy(  # before anything else
            text,
            None if requested is None else _choice("privacy", Privacy, requested),
            self.classify,
            self.default_privacy,
        )
        sampling = sampling_params(
            model.manifest.sampling,
            {name: given.pop(name) for name in _SAMPLING if name in given},
        )
        sampling.check(model.tokenizer.size)
        stop = stop_strings(given.pop("stop", ()))
        prompt_ids = tuple(model.tokenizer.encode_prompt(text)) if ids is None else ids
        window = model.manifest.architecture.context_window
        if given.get("sliding_window") and len(prompt_ids) >= window:
            raise ContextOverflowError(len(prompt_ids), window)
        kind = PrivateRequest if privacy is Privacy.PRIVATE else AllowCloudRequest
        return kind(
            prompt_ids=prompt_ids,
            max_tokens_given="max_tokens" in given,
            max_tokens=given.pop("max_tokens", DEFAULT_MAX_TOKENS),
            sampling=sampling,
            stop=stop,
            end_ids=model.tokenizer.end_ids,
            mode=_choice("mode", Mode, given.pop("mode", self.mode)),
            offline=self.offline,
            **given,  # the rest has Request's names
        )


def _text_or_ids(prompt: object, tokenizer: Tokenizer) -> tuple[str, tuple[int, ...] | None]:
    """The prompt's text, and its tokens if it was given as such. Messages quote nothing of it."""
    if isinstance(prompt, str):
        return prompt, None
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray | memoryview):
        raise RequestError(
            f"the prompt is of type {type(prompt).__name__}; it must be text, or a list of token ids"
        )
    ids, allowed = list[int](), Range(0, tokenizer.size - 1, whole=True)
    for index, item in enumerate(prompt):
        id_ = plain_number(item)
        if not isinstance(id_, int) or isinstance(id_, bool):
            raise RequestError(
                f"the prompt's item {index} is of type {type(item).__name__}; the prompt must be "
                "text, or a list of token ids"
            )
        if id_ not in allowed:
            raise RequestError(
                f"the prompt's token {index} is not in the vocabulary of {tokenizer.size} tokens; "
                "encode it with this model's tokenizer"
            )
        ids.append(id_)
    return tokenizer.decode(ids), tuple(ids)


def _choice(name: str, kind: type[Choice], value: str) -> Choice:
    return parse_choice(name, kind, value, RequestError)


def resolve_privacy(
    prompt: str, requested: Privacy | None, classify: Classify | None, default: Privacy
) -> Privacy:
    """Private if the request says so; else the result of `classify`, the request's, or the default.

    A hook that raises, or returns other text, means private. Raises ConfigurationError for one that
    does not return text.
    """
    if requested is Privacy.PRIVATE:
        return Privacy.PRIVATE
    if classify is None:
        return requested or default
    try:
        answer: object = classify(prompt)
    except Exception as error:  # noqa: BLE001  # when in doubt, private
        # Only the error's type: its message may quote the prompt.
        log.warning("classify failed (%s): the prompt is private", type(error).__name__)
        return Privacy.PRIVATE
    if not isinstance(answer, str):
        if inspect.iscoroutine(answer):
            answer.close()  # or Python warns that nobody awaited it
        raise ConfigurationError(
            f"classify returned {_named(answer)}; it must return 'private' or 'allow_cloud'"
        )
    if answer not in set(Privacy):
        log.warning(
            "classify returned text that is neither 'private' nor 'allow_cloud': "
            "the prompt is private"
        )
        return Privacy.PRIVATE
    return Privacy(answer)


def _named(answer: object) -> str:
    """Only the type of what may quote the prompt."""
    if answer is None or isinstance(answer, bool):
        return str(answer)
    return f"a {type(answer).__name__}"
