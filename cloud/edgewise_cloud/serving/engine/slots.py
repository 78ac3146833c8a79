"""What each slot's cache holds, and which slot a new text takes: no tensors, no threads."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Slot:
    """One place in the cache. Its text stays when its request is gone, until another needs it."""

    index: int
    text: list[int] = field(default_factory=list)  # tokens whose keys and values it holds
    taken: bool = False
    used: int = 0  # when it was last taken or given back, in such events


@dataclass(frozen=True, slots=True)
class Copy:
    """What one slot's cache holds, to be copied to another's."""

    source: int
    target: int


class Texts:
    """The slots, which are the prefix cache as well: a prompt that begins like the text of any slot
    needs only its rest read.

    Requests take the lowest free slot, because a step computes all slots up to the highest taken.
    What that slot held is moved to the free slot that was used least recently.
    """

    def __init__(self, slots: int, chunk: int) -> None:
        self._slots = [Slot(index) for index in range(slots)]
        self._chunk = chunk
        self._events = 0

    @property
    def free(self) -> int:
        """Slots that no request has."""
        return sum(not slot.taken for slot in self._slots)

    def any_free(self, height: int) -> bool:
        """Whether one of the first `height` slots is free."""
        return not all(slot.taken for slot in self._slots[:height])

    def lengths(self, height: int) -> list[int]:
        """Tokens that each of the first `height` slots holds."""
        return [len(slot.text) for slot in self._slots[:height]]

    def take(self, prompt: Sequence[int]) -> tuple[Slot, list[Copy]]:
        """A slot for `prompt`, and what to copy into it and out of it, in order.

        The prompt is to be read on from where the slot's text ends, always a multiple of the chunk.
        """
        slot = self._lowest_free()
        best = max(self._slots, key=lambda other: (self._shared(other, prompt), other is slot))
        shared = self._shared(best, prompt)
        copies = []
        if best is not slot or shared < self._whole(len(slot.text)):
            copies += self._kept(slot, but=best)
        if best is not slot and shared:
            copies.append(Copy(best.index, slot.index))
        slot.text = list(prompt[:shared])
        self._use(slot, taken=True)
        return slot, copies

    def give_back(self, slot: Slot) -> None:
        """The request that took it is gone; its text may serve another."""
        self._use(slot, taken=False)

    def clear(self) -> None:
        """Free every slot, and forget its text."""
        for slot in self._slots:
            slot.text, slot.taken = [], False

    def lower(self, slot: Slot) -> list[Copy]:
        """Let a taken slot go on in the place of the lowest free one; what to copy, in order."""
        other = self._lowest_free()
        copies = [*self._kept(other), Copy(slot.index, other.index)]
        slot.index, other.index = other.index, slot.index
        other.text = list(slot.text)  # it is still there
        self._slots.sort(key=lambda any_slot: any_slot.index)
        return copies

    def _lowest_free(self) -> Slot:
        return next(slot for slot in self._slots if not slot.taken)

    def _kept(self, slot: Slot, but: Slot | None = None) -> list[Copy]:
        """Copy a free slot's text to where an older one lies, if there is any but `but`'s."""
        free = [other for other in self._slots if not other.taken]
        spare = [other for other in free if other is slot or other is not but]
        oldest = min(spare, key=lambda other: other.used)
        if oldest is slot or len(slot.text) < self._chunk:
            return []
        oldest.text, oldest.used = slot.text, slot.used
        return [Copy(slot.index, oldest.index)]

    def _shared(self, slot: Slot, prompt: Sequence[int]) -> int:
        """Tokens that both begin with, in whole chunks.

        The prompt's last one is not counted: it is read in any case, for what follows it.
        """
        shared, most = 0, self._whole(min(len(slot.text), len(prompt) - 1))
        while shared < most:
            chunk = slice(shared, shared + self._chunk)
            if slot.text[chunk] != list(prompt[chunk]):
                break
            shared += self._chunk
        return shared

    def _whole(self, tokens: int) -> int:
        return tokens // self._chunk * self._chunk

    def _use(self, slot: Slot, *, taken: bool) -> None:
        self._events += 1
        slot.taken, slot.used = taken, self._events
