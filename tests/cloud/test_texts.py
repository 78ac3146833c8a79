"""Which slot a text takes, and what is copied for it."""

import random

import pytest

from edgewise_cloud.serving.engine.slots import Copy, Slot, Texts

CHUNK = 4
A, B, C = ([letter] * 12 for letter in (1, 2, 3))


def run(texts: Texts, prompt: list[int]) -> tuple[Slot, list[Copy]]:
    """Let a request come, be read whole, and go."""
    slot, copies = texts.take(prompt)
    slot.text = prompt[:-1]
    texts.give_back(slot)
    return slot, copies


def test_the_lowest_free_slot_is_taken() -> None:
    """A step computes all slots up to the highest taken."""
    texts = Texts(4, CHUNK)
    slots = [texts.take([n])[0] for n in range(3)]
    assert [slot.index for slot in slots] == [0, 1, 2]
    texts.give_back(slots[1])
    assert texts.take([9])[0].index == 1
    assert texts.free == 1


def test_what_it_held_already_is_not_read_again() -> None:
    """In whole chunks, and never the last token, which must be read for what follows it."""
    texts = Texts(2, CHUNK)
    run(texts, A)
    slot, copies = texts.take(A)
    assert (slot.index, slot.text, copies) == (0, A[:8], [])


def test_a_beginning_is_copied_from_whoever_has_it() -> None:
    """From a text that runs, too."""
    texts = Texts(3, CHUNK)
    first, _ = texts.take(A)
    first.text = A[:10]
    second, copies = texts.take([*A[:9], 7, 7, 7])
    assert (second.index, second.text, copies) == (1, A[:8], [Copy(0, 1)])


def test_what_a_slot_held_makes_room_for_the_oldest() -> None:
    """Three prompts that come in turn are all remembered by four slots."""
    texts = Texts(4, CHUNK)
    for prompt in (A, B, C):
        run(texts, prompt)
    for prompt in (A, B, C, A):
        slot, _ = texts.take(prompt)
        assert slot.index == 0
        assert slot.text == prompt[:8]
        slot.text = prompt[:-1]
        texts.give_back(slot)


def test_a_text_that_is_moved_goes_on_where_it_was() -> None:
    """In a lower slot; what lay there is kept elsewhere, and the text's old place knows it too."""
    texts = Texts(4, CHUNK)
    low, high = texts.take(A)[0], texts.take(B)[0]
    low.text, high.text = A[:9], B[:7]
    texts.give_back(low)
    assert texts.any_free(1)
    copies = texts.lower(high)
    assert copies == [Copy(0, 2), Copy(1, 0)]
    assert (high.index, high.text) == (0, B[:7])
    assert texts.lengths(3) == [7, 7, 9]
    assert not texts.any_free(1)


def test_forgetting_keeps_nothing() -> None:
    """As after a failure, when nobody knows what the caches hold."""
    texts = Texts(2, CHUNK)
    run(texts, A)
    texts.clear()
    assert texts.take(A)[0].text == []


def copy_all(caches: list[list[int]], copies: list[Copy]) -> None:
    for copy in copies:
        caches[copy.target] = list(caches[copy.source])


@pytest.mark.parametrize("seed", range(20))
def test_the_books_are_right_whatever_comes(seed: int) -> None:
    """A model of the caches, to which only the copies are done, holds what each slot's text says."""
    draw = random.Random(seed)
    texts, caches, taken = Texts(5, CHUNK), [[-1] * 40 for _ in range(5)], list[Slot]()

    for _ in range(300):
        kind = draw.random()
        if kind < 0.4 and texts.free:
            prompt = [draw.randrange(2)] * draw.randint(1, 9) + [
                draw.randrange(3) for _ in range(9)
            ]
            slot, copies = texts.take(prompt)
            copy_all(caches, copies)
            assert len(slot.text) % CHUNK == 0
            assert len(slot.text) < len(prompt)
            assert slot.text == prompt[: len(slot.text)]
            for token in prompt[len(slot.text) : -1]:
                caches[slot.index][len(slot.text)] = token
                slot.text.append(token)
            taken.append(slot)
        elif kind < 0.6 and taken:
            texts.give_back(taken.pop(draw.randrange(len(taken))))
        elif kind < 0.8 and taken:
            slot = draw.choice(taken)
            if texts.any_free(slot.index):
                copy_all(caches, texts.lower(slot))
        assert all(caches[slot.index][: len(slot.text)] == slot.text for slot in texts._slots)
        assert [slot.index for slot in texts._slots] == list(range(5))
        assert {slot.index for slot in taken} == {slot.index for slot in texts._slots if slot.taken}


def test_a_newer_text_is_not_given_up_for_an_older_one() -> None:
    """Though the slot that is taken holds the beginning already."""
    texts = Texts(2, CHUNK)
    older, newer = [*A[:4], 9, 9, 9, 9, 9], B
    run(texts, newer)
    texts._slots[1].text, texts._slots[1].used = older, 0
    texts._slots[1].used, texts._slots[0].used = 2, 1
    slot, copies = texts.take([*B[:5], 7, 7, 7, 7])
    assert (slot.text, copies) == (B[:4], [])
    assert texts._slots[1].text == older
