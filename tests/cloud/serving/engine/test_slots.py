"""Which slot a sequence takes, and what is copied for it."""

import random

import pytest

from edgewise_cloud.serving.engine.slots import Slot, SlotCopy, Slots

CHUNK = 4
A, B, C = ([letter] * 12 for letter in (1, 2, 3))


def run(slots: Slots, prompt: list[int]) -> tuple[Slot, list[SlotCopy]]:
    """Let a request start, be prefilled, and end."""
    slot, copies = slots.acquire(prompt)
    slot.tokens = prompt[:-1]
    slots.release(slot)
    return slot, copies


def test_the_lowest_free_slot_is_taken() -> None:
    """A step computes all slots up to the highest taken."""
    slots = Slots(4, CHUNK)
    taken = [slots.acquire([n])[0] for n in range(3)]
    assert [slot.index for slot in taken] == [0, 1, 2]
    slots.release(taken[1])
    assert slots.acquire([9])[0].index == 1
    assert slots.free == 1


def test_cached_tokens_are_not_prefilled_again() -> None:
    """In whole chunks, and never the last token, which is decoded."""
    slots = Slots(2, CHUNK)
    run(slots, A)
    slot, copies = slots.acquire(A)
    assert (slot.index, slot.tokens, copies) == (0, A[:8], [])


def test_a_prefix_is_copied_from_another_slot() -> None:
    """Also from one that is in use."""
    slots = Slots(3, CHUNK)
    first, _ = slots.acquire(A)
    first.tokens = A[:10]
    second, copies = slots.acquire([*A[:9], 7, 7, 7])
    assert (second.index, second.tokens, copies) == (1, A[:8], [SlotCopy(0, 1)])


def test_the_tokens_of_a_reused_slot_replace_the_oldest() -> None:
    """Four slots keep three prompts that come in turn."""
    slots = Slots(4, CHUNK)
    for prompt in (A, B, C):
        run(slots, prompt)
    for prompt in (A, B, C, A):
        slot, _ = slots.acquire(prompt)
        assert slot.index == 0
        assert slot.tokens == prompt[:8]
        slot.tokens = prompt[:-1]
        slots.release(slot)


def test_a_sequence_that_moves_down_keeps_its_tokens() -> None:
    """The lower slot's own tokens are kept elsewhere, and the old place still holds the moved ones."""
    slots = Slots(4, CHUNK)
    low, high = slots.acquire(A)[0], slots.acquire(B)[0]
    low.tokens, high.tokens = A[:9], B[:7]
    slots.release(low)
    assert slots.any_free(1)
    copies = slots.move_down(high)
    assert copies == [SlotCopy(0, 2), SlotCopy(1, 0)]
    assert (high.index, high.tokens) == (0, B[:7])
    assert slots.lengths(3) == [7, 7, 9]
    assert not slots.any_free(1)


def test_clearing_forgets_all_tokens() -> None:
    """As after a failure, when the contents of the caches are unknown."""
    slots = Slots(2, CHUNK)
    run(slots, A)
    slots.clear()
    assert slots.acquire(A)[0].tokens == []


def copy_all(caches: list[list[int]], copies: list[SlotCopy]) -> None:
    for copy in copies:
        caches[copy.target] = list(caches[copy.source])


@pytest.mark.parametrize("seed", range(20))
def test_slots_know_what_the_caches_hold(seed: int) -> None:
    """A model of the caches, changed only by the copies, holds the tokens that each slot lists."""
    draw = random.Random(seed)
    slots, caches, taken = Slots(5, CHUNK), [[-1] * 40 for _ in range(5)], list[Slot]()

    for _ in range(300):
        kind = draw.random()
        if kind < 0.4 and slots.free:
            prompt = [draw.randrange(2)] * draw.randint(1, 9) + [
                draw.randrange(3) for _ in range(9)
            ]
            slot, copies = slots.acquire(prompt)
            copy_all(caches, copies)
            assert len(slot.tokens) % CHUNK == 0
            assert len(slot.tokens) < len(prompt)
            assert slot.tokens == prompt[: len(slot.tokens)]
            for token in prompt[len(slot.tokens) : -1]:
                caches[slot.index][len(slot.tokens)] = token
                slot.tokens.append(token)
            taken.append(slot)
        elif kind < 0.6 and taken:
            slots.release(taken.pop(draw.randrange(len(taken))))
        elif kind < 0.8 and taken:
            slot = draw.choice(taken)
            if slots.any_free(slot.index):
                copy_all(caches, slots.move_down(slot))
        assert all(caches[slot.index][: len(slot.tokens)] == slot.tokens for slot in slots)
        assert [slot.index for slot in slots] == list(range(5))
        assert {slot.index for slot in taken} == {slot.index for slot in slots if slot.taken}


def test_newer_tokens_are_not_replaced_by_older_ones() -> None:
    """Though the slot that is taken has the prefix already."""
    slots = Slots(2, CHUNK)
    first, second = slots
    older, newer = [*A[:4], 9, 9, 9, 9, 9], B
    first.tokens, first.last_used = newer[:-1], 1
    second.tokens, second.last_used = older, 2
    slot, copies = slots.acquire([*B[:5], 7, 7, 7, 7])
    assert (slot.tokens, copies) == (B[:4], [])
    assert second.tokens == older
