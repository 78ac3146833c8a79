"""What is ours in a reply: one `edgewise` object, which other clients ignore."""

from dataclasses import asdict
from typing import Any

from edgewise.generation.result import Generation, decision_dict


def edgewise_object(generation: Generation) -> dict[str, Any]:
    """How the text came about: sources, reason, vetoes, predicted and measured seconds."""
    decision = decision_dict(generation.decision)
    return {
        "source": generation.source,
        "reason": decision["reason"],
        "vetoes": decision["vetoes"],
        "segments": [asdict(segment) for segment in generation.segments],
        "predicted": decision["predicted"],
        "measured": asdict(generation.timings),
    }
