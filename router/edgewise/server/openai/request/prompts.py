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

    Nothing is as an empty text, which begins a new text, as for OpenAI.
    """
    if field is None or isinstance(field, str):
        return (field or "",)
    if not field:
        raise _invalid(
            "prompt is an empty list; give at least one text or token id, or '' to begin a text"
        )
    if len(set(map(type, field))) > 1:
        raise _invalid("prompt mixes texts, token ids and lists; give one kind")
    prompts = [field] if isinstance(field[0], int) else field
    return tuple(
        prompt if isinstance(prompt, str) else _checked_ids(cast(list[int], prompt), tokenizer)
        for prompt in prompts
    )


def prompt_text(prompt: Prompt, tokenizer: Tokenizer) -> str:
    """What `echo` repeats."""
    return prompt if isinstance(prompt, str) else tokenizer.decode(list(prompt))


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Its tokens, as the router counts them."""
    return tuple(tokenizer.encode_prompt(prompt)) if isinstance(prompt, str) else prompt


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
