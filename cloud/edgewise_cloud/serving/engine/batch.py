"""Continuous batching: texts join and leave between steps, each at its own position.

No threads and no sockets: `step` is called as long as there are texts.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.engine.slots import Copy, Slot, Texts
from edgewise_cloud.serving.model.programs import Programs
from edgewise_cloud.serving.model.transformer import Layout, Transformer
from edgewise_edge.decoding.generate import TokenRequest
from edgewise_edge.decoding.sampling import sample
from edgewise_edge.errors import RuntimeFailedError
from edgewise_edge.store.manifest import Architecture

log = logging.getLogger("edgewise_cloud.serving.batch")

CHUNK = 64  # tokens of a prompt read between two steps of the others


@dataclass(eq=False, slots=True)
class Text:
    """One request's text in its slot."""

    request: TokenRequest
    slot: Slot
    reused: int  # tokens of the prompt that were in the cache already
    history: list[int] = field(default_factory=list)

    @property
    def unread(self) -> int:
        """Tokens to read in chunks, before the last one joins the others' step."""
        return len(self.history) - 1 - len(self.slot.text)

    @property
    def ended(self) -> bool:
        """Whether its last token has been made."""
        new = len(self.history) - self.request.position
        return new >= self.request.max_tokens or (
            new > 0 and self.history[-1] in self.request.end_ids
        )


@dataclass(frozen=True, slots=True)
class Made:
    """A new token of a text, or None where the model failed; and whether it was its last."""

    text: Text
    token: int | None
    last: bool


class Batch:
    """As many texts at once as there are slots, of one model's weights (checkpoint.weights)."""

    def __init__(
        self,
        weights: Mapping[str, NDArray[Any]],
        shape: Architecture,
        slots: int,
        dtype: str = "float32",
    ) -> None:
        layout = Layout(slots=slots, segments=_segments(shape.context_window), chunk=CHUNK)
        self._contexts = layout.contexts
        # For reading prompts, what a step sees matters less than what there is to compile.
        self._reading_contexts = self._contexts[2:] or self._contexts[-1:]
        self._heights = _heights(slots)
        transformer = Transformer(shape=shape, layout=layout, dtype=dtype)
        self._programs = Programs(transformer, weights)
        self._slots = Texts(slots, CHUNK)
        self._reading: deque[Text] = deque()  # whose turn it is stands first
        self._writing: list[Text] = []

    @property
    def free(self) -> int:
        """Texts that can be added."""
        return self._slots.free

    @property
    def texts(self) -> list[Text]:
        """Those that run."""
        return [*self._reading, *self._writing]

    def warm_up(self) -> list[tuple[int, float]]:
        """Compile every program that will run; seconds that a step takes, by texts."""
        for context in self._contexts:
            for height in self._heights:
                self._programs.decode([0] * height, [0] * height, context)
        for context in self._reading_contexts:
            self._programs.prefill([0] * CHUNK, 0, 0, context)
        self._programs.copy(0, 0)
        return [(height, self._timed(height)) for height in self._heights for _ in range(3)]

    def _timed(self, height: int) -> float:
        started = time.perf_counter()
        self._programs.decode([0] * height, [0] * height, self._contexts[0])
        return time.perf_counter() - started

    def add(self, request: TokenRequest) -> Text:
        """Give a checked request a slot; there must be a free one."""
        slot, copies = self._slots.take(request.token_ids)
        self._copy(copies)
        text = Text(request, slot, reused=len(slot.text), history=list(request.token_ids))
        (self._reading if text.unread else self._writing).append(text)
        return text

    def remove(self, text: Text) -> None:
        """Stop a text that has not ended."""
        (self._reading if text in self._reading else self._writing).remove(text)
        self._slots.give_back(text.slot)

    def clear(self) -> None:
        """Stop all texts and forget what the slots hold, whatever state they are in."""
        self._reading.clear()
        self._writing.clear()
        self._slots.clear()
        self._programs.reset()

    def finish(self) -> None:
        """Step until every text has ended."""
        while self.texts:
            self.step()

    def step(self) -> list[Made]:
        """Read a chunk of one prompt, then let each text whose prompt is read write a token.

        So a new prompt never holds the others up for longer than a chunk takes, or two where more
        texts wait to be read than write. Texts that end, or fail, are removed.
        """
        chunks = 2 if len(self._reading) > len(self._writing) else 1
        for text in [self._reading.popleft() for _ in range(min(chunks, len(self._reading)))]:
            self._read(text)
        made = self._write() if self._writing else []
        self._overwrite([one.text for one in made if one.token is None], made)
        for one in made:
            if one.last:
                self.remove(one.text)
        return made

    def _read(self, text: Text) -> None:
        start = len(text.slot.text)
        tokens = text.history[start : start + min(CHUNK, text.unread)]
        padding = [0] * (CHUNK - len(tokens))
        context = _fitting(self._reading_contexts, start + CHUNK)
        self._programs.prefill(tokens + padding, text.slot.index, start, context)
        text.slot.text += tokens
        # Prompts are read in turn: a short one need not wait for a long one's end.
        (self._reading if text.unread else self._writing).append(text)

    def _write(self) -> list[Made]:
        height = self._height()
        tokens, positions = self._numbers(height)
        longest = max(len(text.history) for text in self._writing)
        logits = self._programs.decode(tokens, positions, _fitting(self._contexts, longest))
        for text in self._writing:
            text.slot.text.append(text.history[-1])
        return [_sampled(text, logits[text.slot.index]) for text in self._writing]

    def _overwrite(self, failed: list[Text], made: list[Made]) -> None:
        """Put a sound text where texts failed: a NaN in a slot would spoil the next text there.

        Raises RuntimeFailedError if there is none.
        """
        sound = next((one.text.slot for one in made if one.token is not None), None)
        for text in failed:
            if sound is None:
                raise RuntimeFailedError("the model returned NaN logits for every text")
            self._programs.copy(sound.index, text.slot.index)
            text.slot.text = list(sound.text)

    def _numbers(self, height: int) -> tuple[list[int], list[int]]:
        """Tokens and positions for the first `height` slots.

        Where nobody writes, a row behind the slot's text is written to: nobody looks at that one.
        """
        tokens, positions = [0] * height, self._slots.lengths(height)
        for text in self._writing:
            tokens[text.slot.index] = text.history[-1]
        return tokens, positions

    def _height(self) -> int:
        """Slots to compute; texts are moved to lower ones where that saves some."""
        enough = _fitting(self._heights, len(self._writing))
        while True:
            highest = max((text.slot for text in self._writing), key=lambda slot: slot.index)
            if highest.index < enough or not self._slots.any_free(enough):
                return _fitting(self._heights, highest.index + 1)
            self._copy(self._slots.lower(highest))

    def _copy(self, copies: list[Copy]) -> None:
        for copy in copies:
            self._programs.copy(copy.source, copy.target)


def _sampled(text: Text, logits: NDArray[np.float32]) -> Made:
    try:
        token = sample(logits, text.request.sampling, text.history, position=len(text.history))
    except RuntimeFailedError:  # this text's alone
        log.error("a text's logits are no numbers")  # noqa: TRY400
        return Made(text, None, last=True)
    text.history.append(token)
    return Made(text, token, last=text.ended)


def _fitting(sizes: tuple[int, ...], wanted: int) -> int:
    return next(size for size in sizes if size >= wanted)


def _segments(window: int) -> tuple[int, ...]:
    """Lengths that reach 128, 192, 256 and then twice as far each, until that is the window.

    A step costs what it sees, half of it for nothing at worst; each reach is compiled by itself.
    """
    lengths, reach = list[int](), 0
    for wanted in (128, 192, *(256 << doublings for doublings in range(window.bit_length()))):
        if reach < window:
            lengths.append(min(wanted, _whole_chunks(window)) - reach)
            reach += lengths[-1]
    return tuple(lengths)


def _whole_chunks(tokens: int) -> int:
    return -(-tokens // CHUNK) * CHUNK


def _heights(slots: int) -> tuple[int, ...]:
    """How many slots a step may compute: one, four, sixteen..., all."""
    heights = [1]
    while heights[-1] * 4 < slots:
        heights.append(heights[-1] * 4)
    return tuple(sorted({*heights, slots}))
