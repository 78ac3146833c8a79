"""Compiling every program before the first request, which must not wait for it."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from edgewise_cloud.console import Progress
from edgewise_cloud.serving.model.layout import SCORE_CHUNK
from edgewise_cloud.serving.model.programs import Programs


def warm_up(
    programs: Programs, sizes: Sequence[int], prefill_contexts: Sequence[int], progress: Progress
) -> list[tuple[int, float]]:
    """Compile the programs for these batch sizes and contexts; (size, seconds) of a few steps."""
    progress.step("compiling")
    compilations = _compilations(programs, sizes, prefill_contexts)
    progress.count(0, len(compilations))
    for number, compile_ in enumerate(compilations, start=1):
        compile_()
        progress.count(number, len(compilations))
    progress.step("warming up: timing a few steps")
    return [(size, _timed(programs, size)) for size in sizes for _ in range(3)]


def _compilations(
    programs: Programs, sizes: Sequence[int], prefill_contexts: Sequence[int]
) -> list[Callable[[], object]]:
    layout = programs.layout
    chunk, score_chunk = [0] * layout.chunk, [0] * SCORE_CHUNK
    return [
        *(
            partial(programs.decode, [0] * size, [0] * size, context)
            for context in layout.contexts
            for size in sizes
        ),
        *(partial(programs.prefill, chunk, 0, 0, context) for context in prefill_contexts),
        partial(programs.prefill_two, chunk * 2, [0, 0], [0, 0], prefill_contexts[0]),
        # One for all lengths: scores are rare, and each program makes the start longer.
        partial(programs.score, score_chunk, score_chunk, 0, 0, layout.contexts[-1]),
        partial(programs.copy, 0, 0),
    ]


def _timed(programs: Programs, size: int) -> float:
    started = time.perf_counter()
    programs.decode([0] * size, [0] * size, programs.layout.contexts[0])
    return time.perf_counter() - started
