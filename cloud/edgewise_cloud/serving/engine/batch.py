"""Continuous batching: sequences join and leave between steps, each at its own position.

A request for no new tokens is a score: its sequence is prefilled as a prompt is, and its tokens'
log-probabilities come out.

No threads and no sockets: the engine calls `step` while there are sequences.
"""

import logging
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.serving.engine.slots import Slot, SlotCopy, Slots
from edgewise_cloud.serving.model.interface import Compilations, Programs
from edgewise_cloud.serving.model.layout import SCORE_CHUNK
from edgewise_cloud.serving.model.packed_scores import unpack_scores
from edgewise_cloud.serving.model.warm_up import compile_first, step_times
from edgewise_edge.decoding.logprobs import token_score
from edgewise_edge.decoding.request import TokenRequest
from edgewise_edge.decoding.sampling import sample
from edgewise_edge.decoding.token_score import TokenScore
from edgewise_edge.errors import RuntimeFailedError

log = logging.getLogger("edgewise_cloud.serving.batch")


@dataclass(eq=False, slots=True)
class Sequence:
    """One request's tokens in its slot."""

    request: TokenRequest
    slot: Slot
    cached: int  # tokens of the prompt that were found in the prefix cache
    tokens: list[int] = field(default_factory=list)  # the prompt and what was generated

    @property
    def scoring(self) -> bool:
        """Whether its tokens are scored, and no new ones generated."""
        return not self.request.max_tokens

    @property
    def to_prefill(self) -> int:
        """Tokens still to prefill; the prompt's last one is decoded, or only scored."""
        return len(self.tokens) - 1 - len(self.slot.tokens)

    @property
    def finished(self) -> bool:
        """Whether its last token has been generated."""
        new = len(self.tokens) - self.request.position
        return new >= self.request.max_tokens or (
            new > 0 and self.tokens[-1] in self.request.end_ids
        )


@dataclass(frozen=True, slots=True)
class StepOutput:
    """A sequence's new token, or scores of its next tokens, and whether it is its last output.

    With neither, the model failed. A new token has its score too where the request asks for it.
    """

    sequence: Sequence
    token: int | None
    last: bool
    scores: tuple[TokenScore, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the model failed at this sequence."""
        return self.token is None and not self.scores


class Batch:
    """The sequences in the slots of one model."""

    def __init__(self, programs: Programs) -> None:
        layout = programs.layout
        self._programs = programs
        self._chunk = layout.chunk
        self._contexts = layout.contexts
        # Prefill uses few buckets: compiling more costs more than a longer context does.
        self._prefill_contexts = self._contexts[2:] or self._contexts[-1:]
        self._sizes = layout.sizes or _batch_sizes(layout.slots)
        self._slots = Slots(layout.slots, layout.chunk)
        self._prefilling: deque[Sequence] = deque()  # the next one first
        self._decoding: list[Sequence] = []

    @property
    def free_slots(self) -> int:
        """Sequences that can be added."""
        return self._slots.free

    @property
    def sequences(self) -> list[Sequence]:
        """The running ones."""
        return [*self._prefilling, *self._decoding]

    def compile(self, progress: Progress = SILENT) -> Compilations:
        """Compile what every request needs; what was compiled, and what is to be compiled later."""
        compilations = self._programs.compilations(self._sizes, self._prefill_contexts)
        compile_first(compilations, progress)
        return compilations

    def step_times(self, progress: Progress = SILENT) -> list[tuple[int, float]]:
        """(batch size, seconds) of a few steps over all slots; the batch must be empty."""
        size = self._sizes[-1]
        return [(size, seconds) for seconds in step_times(self._programs, size, progress)]

    def add(self, request: TokenRequest) -> Sequence:
        """Give a checked request a slot; one must be free."""
        # Caches hold no scores: a sequence to be scored is computed from its start.
        slot, copies = self._slots.acquire(request.token_ids if request.max_tokens else ())
        self._copy(copies)
        sequence = Sequence(request, slot, cached=len(slot.tokens), tokens=list(request.token_ids))
        waits = sequence.to_prefill or sequence.scoring
        (self._prefilling if waits else self._decoding).append(sequence)
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Stop a sequence and free its slot."""
        (self._prefilling if sequence in self._prefilling else self._decoding).remove(sequence)
        self._slots.release(sequence.slot)

    def clear(self) -> None:
        """Stop all sequences and empty the caches, whatever state they are in."""
        self._prefilling.clear()
        self._decoding.clear()
        self._slots.clear()
        self._programs.reset()

    def finish(self) -> None:
        """Step until every sequence has finished."""
        while self.sequences:
            self.step()

    def step(self) -> list[StepOutput]:
        """Prefill or score a chunk of one prompt, then decode one token of each prefilled sequence.

        So a new prompt delays the other sequences by one chunk at most, or two where more sequences
        prefill than decode. Finished and failed sequences are removed.
        """
        chunks = 2 if len(self._prefilling) > len(self._decoding) else 1
        turns = [self._prefilling.popleft() for _ in range(min(chunks, len(self._prefilling)))]
        outputs: list[StepOutput] = []
        if len(turns) == 2 and self._fit_together(turns):
            self._prefill(turns)
        else:
            for sequence in turns:
                if sequence.scoring:
                    outputs.append(self._score(sequence))
                else:
                    self._prefill([sequence])
        if self._decoding:
            outputs += self._decode()
        self._overwrite_failed(outputs)
        for output in outputs:
            if output.last:
                self.remove(output.sequence)
        return outputs

    def _fit_together(self, sequences: list[Sequence]) -> bool:
        """Whether one program can prefill a chunk of each: one is compiled, for short contexts."""
        most = self._prefill_contexts[0] - self._chunk
        return all(not each.scoring and len(each.slot.tokens) <= most for each in sequences)

    def _prefill(self, sequences: list[Sequence]) -> None:
        """Prefill a chunk of one sequence, or of two that fit together."""
        starts = [len(sequence.slot.tokens) for sequence in sequences]
        slots = [sequence.slot.index for sequence in sequences]
        context = _smallest(self._prefill_contexts, max(starts) + self._chunk)
        chunks = [
            sequence.tokens[start : start + min(self._chunk, sequence.to_prefill)]
            for sequence, start in zip(sequences, starts, strict=True)
        ]
        padded = [id_ for chunk in chunks for id_ in [*chunk, *[0] * (self._chunk - len(chunk))]]
        if len(sequences) == 1:
            self._programs.prefill(padded, slots[0], starts[0], context)
        else:
            self._programs.prefill_two(padded, slots, starts, context)
        for sequence, chunk in zip(sequences, chunks, strict=True):
            sequence.slot.tokens += chunk
            # Round robin: a short prompt need not wait until a long one is done.
            (self._prefilling if sequence.to_prefill else self._decoding).append(sequence)

    def _score(self, sequence: Sequence) -> StepOutput:
        start = len(sequence.slot.tokens)
        following = sequence.tokens[start + 1 : start + 1 + SCORE_CHUNK]
        tokens = sequence.tokens[start : start + len(following)]
        self._prefilling.append(sequence)
        scores: tuple[TokenScore, ...] = () if start else (TokenScore(sequence.tokens[0], None),)
        if tokens:
            padding = [0] * (SCORE_CHUNK - len(tokens))
            packed = self._programs.score(
                tokens + padding,
                following + padding,
                sequence.slot.index,
                start,
                self._contexts[-1],
            )
            sequence.slot.tokens += tokens
            if not np.isfinite(packed[: len(tokens)]).all():
                log.error("the scores of a sequence are NaN")
                return StepOutput(sequence, None, last=True)
            scores += unpack_scores(packed, following, sequence.request.logprobs or 0)
        return StepOutput(sequence, None, not sequence.to_prefill, scores)

    def _decode(self) -> list[StepOutput]:
        size = self._batch_size()
        tokens, positions = self._inputs(size)
        longest = max(len(sequence.tokens) for sequence in self._decoding)
        logits = self._programs.decode(tokens, positions, _smallest(self._contexts, longest))
        for sequence in self._decoding:
            sequence.slot.tokens.append(sequence.tokens[-1])
        return [_sampled(sequence, logits[sequence.slot.index]) for sequence in self._decoding]

    def _overwrite_failed(self, outputs: list[StepOutput]) -> None:
        """Copy a good slot over those of failed sequences: a NaN would spoil the next user's.

        Raises RuntimeFailedError if there is no good one.
        """
        good = next((output.sequence.slot for output in outputs if not output.failed), None)
        for failed in (output.sequence for output in outputs if output.failed):
            if good is None:
                raise RuntimeFailedError("the model returned NaN logits for every sequence")
            self._programs.copy(good.index, failed.slot.index)
            failed.slot.tokens = list(good.tokens)

    def _inputs(self, size: int) -> tuple[list[int], list[int]]:
        """Tokens and positions for the first `size` slots.

        Rows of slots that do not decode write behind their tokens, where nothing is read.
        """
        tokens, positions = [0] * size, self._slots.lengths(size)
        for sequence in self._decoding:
            tokens[sequence.slot.index] = sequence.tokens[-1]
        return tokens, positions

    def _batch_size(self) -> int:
        """Slots to compute; sequences are moved down where that saves some."""
        enough = _smallest(self._sizes, len(self._decoding))
        while True:
            highest = max((each.slot for each in self._decoding), key=lambda slot: slot.index)
            if highest.index < enough or not self._slots.any_free(enough):
                return _smallest(self._sizes, highest.index + 1)
            self._copy(self._slots.move_down(highest))

    def _copy(self, copies: list[SlotCopy]) -> None:
        for copy in copies:
            self._programs.copy(copy.source, copy.target)


def _sampled(sequence: Sequence, logits: NDArray[np.float32]) -> StepOutput:
    tokens = sequence.tokens
    try:
        token = sample(
            logits,
            sequence.request.sampling,
            tokens,
            position=len(tokens),
            prompt_tokens=sequence.request.prompt_tokens,
        )
    except RuntimeFailedError:  # this sequence only
        log.error("a sequence's logits are NaN")  # noqa: TRY400
        return StepOutput(sequence, None, last=True)
    tokens.append(token)
    top = sequence.request.logprobs
    scores = () if top is None else (token_score(logits, token, top),)
    return StepOutput(sequence, token, sequence.finished, scores)


def _smallest(sizes: tuple[int, ...], wanted: int) -> int:
    return next(size for size in sizes if size >= wanted)


def _batch_sizes(slots: int) -> tuple[int, ...]:
    """How many slots a step may compute: 1, 4, 16..., all."""
    sizes = [1]
    while sizes[-1] * 4 < slots:
        sizes.append(sizes[-1] * 4)
    return tuple(sorted({*sizes, slots}))
