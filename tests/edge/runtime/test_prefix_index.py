"""Finding the session with the longest shared prefix."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from edgewise_edge.runtime.prefix_index import PrefixIndex

TEXTS = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def session(tokens: list[int]) -> SimpleNamespace:
    class Hashable(SimpleNamespace):
        __hash__ = object.__hash__

    return Hashable(
        tokens=tokens, cache=SimpleNamespace(held=len(tokens), reserved=2 * len(tokens))
    )


def shared(one: list[int], other: list[int]) -> int:
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


@given(texts=st.lists(TEXTS, max_size=12), removed=st.integers(0, 12), text=TEXTS)
def test_the_match_is_the_longest_of_all(
    texts: list[list[int]], removed: int, text: list[int]
) -> None:
    """Of any sessions, some of which have been removed, and any text."""
    index, kept = PrefixIndex(), texts[removed:]
    for tokens in texts:
        index.add(session(tokens))
    for tokens in texts[:removed]:
        assert index.pop_oldest().tokens == tokens
    found, length = index.longest_match(text)
    longest = max((shared(tokens, text) for tokens in kept), default=0)
    assert length == min(longest, len(text) - 1)
    assert len(index) == len(kept)
    assert index.held == index.reserved / 2 == sum(map(len, kept))
    if length:
        assert shared(found.tokens, text) >= length
        if text[:length] in kept:
            assert found.tokens == text[:length]
    else:
        assert found is None


def test_a_search_compares_few_of_many_sessions() -> None:
    """Each decision searches, while a request waits."""
    looked_at = []

    class Watched(list):
        def __lt__(self, other: object) -> bool:
            looked_at.append(self)
            return super().__lt__(other)

        def __iter__(self) -> object:
            looked_at.append(self)
            return super().__iter__()

    index = PrefixIndex()
    for number in range(960):
        index.add(session(Watched([*range(30), number, 7])))
    looked_at.clear()
    found, length = index.longest_match([*range(30), 480, 8])
    assert (found.tokens[30], length) == (480, 31)
    assert len(looked_at) < 30
