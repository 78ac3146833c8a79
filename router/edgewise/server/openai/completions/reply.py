"""The reply of POST /v1/completions, and the chunks of its stream."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from edgewise.server.messages.streaming import DONE
from edgewise.server.openai.completions.choice import ChoiceWriter
from edgewise.server.openai.completions.plan import Plan
from edgewise.server.openai.reply.envelope import Envelope, usage
from edgewise.server.openai.reply.ours import edgewise_of
from edgewise.server.openai.reply.tokens import LOWEST
from edgewise.server.openai.writing.choices import Ended, Event
from edgewise.server.openai.writing.written import Written

_KIND = "text_completion"


def reply(envelope: Envelope, plan: Plan, choices: Sequence[Written]) -> dict[str, Any]:
    """Of each prompt's candidates the likeliest by token, where `best_of` asks for more than `n`."""
    each, kept = plan.request.candidates, list[Written]()
    for first in range(0, len(choices), each):
        candidates = choices[first : first + each]
        if plan.request.selects:
            candidates = sorted(candidates, key=_mean_logprob, reverse=True)
        kept += candidates[: plan.request.texts]
    written = [
        {**ChoiceWriter(plan, one.ended.index).whole(one.events), "index": index}
        for index, one in enumerate(kept)
    ]
    return envelope.reply(
        _KIND,
        written,
        usage=_usage(plan, [one.ended for one in choices]),
        edgewise=edgewise_of([one.ended for one in kept]),
    )


async def chunks(
    envelope: Envelope, plan: Plan, events: AsyncGenerator[Event, None]
) -> AsyncGenerator[bytes | dict[str, Any], None]:
    """The chunks of all choices as they come; the last of each has its `edgewise` object."""
    writers = [ChoiceWriter(plan, index) for index in range(len(plan.choices))]
    rest = {"usage": None} if plan.request.include_usage else {}
    ended = list[Ended]()
    async with aclosing(events):
        async for event in events:
            chunk = envelope.reply(_KIND, [writers[event.index].part(event)], **rest)
            if isinstance(event, Ended):
                ended.append(event)
                chunk["edgewise"] = edgewise_of([event])
            yield chunk
    if plan.request.include_usage:
        ended.sort(key=lambda one: one.index)
        yield envelope.reply(_KIND, [], usage=_usage(plan, ended))
    yield DONE


def _usage(plan: Plan, ended: Sequence[Ended]) -> dict[str, int]:
    """Each prompt once, and the tokens of all candidates."""
    counts = [one.generation.usage for one in ended if one.generation]
    prompts = plan.lengths or [count.prompt_tokens for count in counts[:: plan.request.candidates]]
    return usage(sum(prompts), sum(count.completion_tokens for count in counts))


def _mean_logprob(one: Written) -> float:
    """By token."""
    known = [score.logprob for score in one.scores if score.logprob is not None]
    return sum(known) / len(known) if known else LOWEST
