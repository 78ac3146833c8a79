"""The `prompt` of a completion: text, token ids, or several of either."""

from collections.abc import Sequence
from typing import TypeAlias, cast

from edgewise.server.errors import HttpError
from edgewise_edge import Tokenizer

PromptField: TypeAlias = str | list[str | int | list[int]] | None
Prompt: TypeAlias = str | tuple[int, ...]


def count_prompts(field: PromptField) -> int:
    """How many prompts it holds, without a look at them."""
    if not field or isinstance(field, str) or isinstance(field[0], int):
        return 1
    return len(field)


def parse_prompts(field: PromptField, tokenizer: Tokenizer) -> tuple[Prompt, ...]:
    """One prompt or several. Raises HttpError.

    Nothing, as an empty text, is the beginning of a new document, as for OpenAI.
    """
    if field is None or isinstance(field, str):
        return (text_or_start(field or "", tokenizer),)
    if not field:
        raise _invalid("prompt is an empty list; give at least one text or token id")
    if len(set(map(type, field))) > 1:
        raise _invalid("prompt mixes texts, token ids and lists; give one kind")
    prompts = [field] if isinstance(field[0], int) else field
    return tuple(
        text_or_start(prompt, tokenizer)
        if isinstance(prompt, str)
        else _checked_ids(cast(list[int], prompt), tokenizer)
        for prompt in prompts
    )


def prompt_text(prompt: Prompt, tokenizer: Tokenizer) -> str:
    """What `echo` repeats."""
    return prompt if isinstance(prompt, str) else tokenizer.decode(list(prompt))


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Its tokens, as the router counts them."""
    return tuple(tokenizer.encode(prompt)) if isinstance(prompt, str) else prompt


def text_or_start(text: str, tokenizer: Tokenizer) -> Prompt:
    """The text, or for an empty one the token that begins a document. Raises HttpError."""
    if text:
        return text
    if not tokenizer.end_ids:
        raise _invalid("the prompt is empty; give at least one character")
    return tuple(tokenizer.end_ids)[:1]


def _checked_ids(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[int, ...]:
    if not ids:
        raise _invalid("prompt holds an empty list; give at least one token id")
    lowest, highest = min(ids), max(ids)
    if not 0 <= lowest <= highest < tokenizer.size:
        wrong = lowest if lowest < 0 else highest
        raise _invalid(
            f"prompt holds the token id {str(wrong)[:20]}; the model's are 0 to {tokenizer.size - 1}"
        )
    return tuple(ids)


def _invalid(message: str) -> HttpError:
    return HttpError(400, message, param="prompt")
