"""What each slot's cache holds, and which slot a new sequence takes: no tensors, no threads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Slot:
    """One place in the cache. Its tokens stay after its request has ended, until it is reused."""

    index: int
    tokens: list[int] = field(default_factory=list)  # whose keys and values it holds
    taken: bool = False
    last_used: int = 0  # counts acquisitions and releases


@dataclass(frozen=True, slots=True)
class SlotCopy:
    """One slot's keys and values, to be copied to another slot."""

    source: int
    target: int


class Slots:
    """All slots, which together are the prefix cache: of a prompt that begins like the tokens of
    any slot, only the rest is prefilled.

    Requests take the lowest free slot, because a step computes all slots up to the highest taken.
    What that slot held is moved to the free slot that was least recently used.
    """

    def __init__(self, slots: int, chunk: int) -> None:
        self._slots = [Slot(index) for index in range(slots)]
        self._chunk = chunk
        self._events = 0

    def __iter__(self) -> Iterator[Slot]:
        """The slots by index."""
        return iter(self._slots)

    @property
    def free(self) -> int:
        """Slots that no request has."""
        return sum(not slot.taken for slot in self._slots)

    def any_free(self, count: int) -> bool:
        """Whether one of the first `count` slots is free."""
        return not all(slot.taken for slot in self._slots[:count])

    def lengths(self, count: int) -> list[int]:
        """Tokens that each of the first `count` slots holds."""
        return [len(slot.tokens) for slot in self._slots[:count]]

    def acquire(self, prompt: Sequence[int]) -> tuple[Slot, list[SlotCopy]]:
        """A slot for `prompt`, and the copies to make, in order, before it is used.

        The prompt is to be prefilled from the end of the slot's tokens, a multiple of the chunk.
        """
        slot = self._lowest_free()
        best = max(self._slots, key=lambda other: (self._shared(other, prompt), other is slot))
        shared = self._shared(best, prompt)
        copies = []
        if best is not slot or shared < self._whole_chunks(len(slot.tokens)):
            copies += self._preserve(slot, but=best)
        if best is not slot and shared:
            copies.append(SlotCopy(best.index, slot.index))
        slot.tokens = list(prompt[:shared])
        self._touch(slot, taken=True)
        return slot, copies

    def release(self, slot: Slot) -> None:
        """Free a slot whose request has ended; its tokens may serve another."""
        self._touch(slot, taken=False)

    def clear(self) -> None:
        """Free every slot, and forget its tokens."""
        for slot in self._slots:
            slot.tokens, slot.taken = [], False

    def move_down(self, slot: Slot) -> list[SlotCopy]:
        """Move a taken slot to the lowest free index; the copies to make, in order."""
        other = self._lowest_free()
        copies = [*self._preserve(other), SlotCopy(slot.index, other.index)]
        slot.index, other.index = other.index, slot.index
        other.tokens = list(slot.tokens)  # the old place still holds them
        self._slots.sort(key=lambda any_slot: any_slot.index)
        return copies

    def _lowest_free(self) -> Slot:
        return next(slot for slot in self._slots if not slot.taken)

    def _preserve(self, slot: Slot, but: Slot | None = None) -> list[SlotCopy]:
        """Copy a free slot's tokens over the least recently used free slot, except `but`."""
        free = [other for other in self._slots if not other.taken]
        spare = [other for other in free if other is slot or other is not but]
        oldest = min(spare, key=lambda other: other.last_used)
        if oldest is slot or len(slot.tokens) < self._chunk:
            return []
        oldest.tokens, oldest.last_used = slot.tokens, slot.last_used
        return [SlotCopy(slot.index, oldest.index)]

    def _shared(self, slot: Slot, prompt: Sequence[int]) -> int:
        """Tokens in the common prefix, in whole chunks.

        The prompt's last token is not counted: decoding needs it in any case.
        """
        shared, most = 0, self._whole_chunks(min(len(slot.tokens), len(prompt) - 1))
        while shared < most:
            chunk = slice(shared, shared + self._chunk)
            if slot.tokens[chunk] != list(prompt[chunk]):
                break
            shared += self._chunk
        return shared

    def _whole_chunks(self, tokens: int) -> int:
        return tokens // self._chunk * self._chunk

    def _touch(self, slot: Slot, *, taken: bool) -> None:
        self._events += 1
        slot.taken, slot.last_used = taken, self._events
