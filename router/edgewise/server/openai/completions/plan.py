"""What a completion request asks to write."""

import asyncio
from dataclasses import dataclass

from edgewise.generation.source import DeviceTokenSource
from edgewise.options import RequestOptions
from edgewise.server.openai.completions.request import CompletionRequest
from edgewise.server.openai.request.prompts import Prompt, count_prompts, parse_prompts, prompt_ids
from edgewise.server.openai.writing.choices import Choice
from edgewise.server.openai.writing.scores import PromptScores
from edgewise.server.service import Service
from edgewise_edge import ContextOverflowError

_DEFAULT_TOKENS = 16  # OpenAI's, or what fits
_MOST_BYTES = 4  # of a character in UTF-8; no token has less than one


@dataclass(frozen=True, slots=True)
class Plan:
    """The prompts, and the choices to write: all candidates of the first prompt, and so on.

    `lengths` are the prompts' tokens, known beforehand only where nothing is written.
    """

    request: CompletionRequest
    source: DeviceTokenSource
    prompts: tuple[Prompt, ...]
    choices: tuple[Choice, ...]
    lengths: tuple[int, ...]

    def prompt_of(self, choice: int) -> int:
        """The number of the prompt that a choice continues."""
        return choice // self.request.candidates


async def make_plan(request: CompletionRequest, headers: RequestOptions, service: Service) -> Plan:
    """`headers` are options of the router. Raises HttpError and ContextOverflowError."""
    source = service.router.device_source
    request.check(count_prompts(request.prompt), service.settings.max_choices)
    prompts = parse_prompts(request.prompt, source.tokenizer)
    choices, lengths = list[Choice](), list[int]()
    for prompt in prompts:
        options: RequestOptions = {**request.options(), **headers, "logprobs": _logprobs(request)}
        if request.max_tokens == 0:
            lengths.append(await _length(prompt, source))
        else:
            options["max_tokens"] = request.max_tokens or await _default_tokens(prompt, source)
        scores = None
        if request.echo and request.logprobs is not None:
            scored = prompt or prompt_ids(prompt, source.tokenizer)  # that which begins a text
            scores = PromptScores(service.router, scored, request.logprobs, headers)
        for candidate in range(request.candidates):
            seeded: RequestOptions = {**options, "seed": request.seed_of(candidate)}
            writes = request.max_tokens != 0
            choices.append(Choice(len(choices), prompt, seeded, scores, writes))
    return Plan(request, source, prompts, tuple(choices), tuple(lengths))


def _logprobs(request: CompletionRequest) -> int | None:
    """What the router is asked for; candidates are compared by their tokens' own."""
    return 0 if request.selects and request.logprobs is None else request.logprobs


async def _length(prompt: Prompt, source: DeviceTokenSource) -> int:
    """The prompt's tokens. Raises ContextOverflowError if they do not fit."""
    window = source.manifest.architecture.context_window
    # In a thread: a prompt may be as long as a body.
    length = len(await asyncio.to_thread(prompt_ids, prompt, source.tokenizer))
    if length > window:
        raise ContextOverflowError(length, window)
    return length


async def _default_tokens(prompt: Prompt, source: DeviceTokenSource) -> int:
    window = source.manifest.architecture.context_window
    if len(prompt) * _MOST_BYTES + _DEFAULT_TOKENS <= window:
        return _DEFAULT_TOKENS
    return min(_DEFAULT_TOKENS, max(1, window - await _length(prompt, source)))
