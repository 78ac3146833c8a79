"""Who is next, and who must wait longest: callers share the slots and the queue evenly."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.request import EngineRequest


def in_fair_order(
    waiting: Iterable["EngineRequest"], running: Iterable["EngineRequest"]
) -> list["EngineRequest"]:
    """`waiting`, given as they came, in the order in which they start.

    Next is always the caller with the fewest running requests; among equals, who came first. So one
    caller alone is served in order, and has everything.
    """
    requests = Counter(each.caller.name for each in running)
    ranked = []
    for each in waiting:
        ranked.append((requests[each.caller.name], each))
        requests[each.caller.name] += 1
    return [each for _, each in sorted(ranked, key=lambda pair: pair[0])]
