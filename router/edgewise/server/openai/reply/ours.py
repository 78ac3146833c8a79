"""The `edgewise` object of a reply."""

from collections.abc import Sequence
from typing import Any

from edgewise.generation.result import Score, decision_dict
from edgewise.server.messages.extension import edgewise_object
from edgewise.server.openai.writing.choices import Ended


def edgewise_of(ended: Sequence[Ended]) -> dict[str, Any] | None:
    """That of the first choice, with `choices` for all where there are several.

    None where nothing was run.
    """
    each = [_of_one(one) for one in ended]
    first = each[0]
    return first if first is None or len(each) == 1 else {**first, "choices": each}


def _of_one(ended: Ended) -> dict[str, Any] | None:
    if ended.generation:
        return edgewise_object(ended.generation)
    return _of_score(ended.score) if ended.score else None


def _of_score(score: Score) -> dict[str, Any]:
    """With the same keys."""
    decision = decision_dict(score.decision)
    return {
        "source": score.source,
        "reason": decision["reason"],
        "vetoes": decision["vetoes"],
        "segments": [],
        "predicted": decision["predicted"],
        "measured": {"time_to_first_token": None, "total": score.total, "tokens_per_second": None},
    }
