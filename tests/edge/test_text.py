"""Text from tokens that split characters and stop strings."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_edge import RequestError, TextAssembler


def assemble(pieces: list[bytes], stop: list[str]) -> tuple[list[str], TextAssembler]:
    assembler = TextAssembler(stop)
    return [*(assembler.push(piece) for piece in pieces), assembler.finish()], assembler


def test_a_character_is_shown_once_complete() -> None:
    """A euro sign, whose bytes are three tokens."""
    shown, _ = assemble([b"\xe2", b"\x82", b"\xac", b"!"], [])
    assert shown == ["", "", "€", "!", ""]


def test_an_incomplete_character_at_the_end_is_replaced() -> None:
    """It is not silently dropped."""
    shown, _ = assemble([b"a", b"\xe2\x82"], [])
    assert shown == ["a", "", "�"]


def test_a_stop_string_may_span_tokens() -> None:
    """Text that may start a stop string is held back, and dropped if it does."""
    shown, assembler = assemble([b"one E", b"N", b"D two"], ["END"])
    assert shown == ["one ", "", "", ""]
    assert assembler.stopped


def test_text_that_only_starts_like_a_stop_string_is_shown() -> None:
    """In full."""
    shown, assembler = assemble([b"one E", b"N", b"ough"], ["END"])
    assert "".join(shown) == "one ENough"
    assert not assembler.stopped


def test_held_back_text_is_shown_at_the_end() -> None:
    """The text may end in the middle of a possible stop string."""
    shown, _ = assemble([b"one EN"], ["END"])
    assert "".join(shown) == "one EN"


def test_the_first_stop_string_in_the_text_wins() -> None:
    """Whatever their order in the list."""
    shown, _ = assemble([b"a.b!c"], ["!", "."])
    assert "".join(shown) == "a"


def test_an_empty_stop_string_is_refused() -> None:
    """It would stop every text."""
    with pytest.raises(RequestError):
        TextAssembler([""])


@given(
    text=st.text(alphabet="abE€ND\n", max_size=40),
    cuts=st.lists(st.integers(0, 80), max_size=10),
    stop=st.lists(st.text(alphabet="abEND€", min_size=1, max_size=4), max_size=3),
)
def test_the_text_does_not_depend_on_token_boundaries(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    """Any split of the bytes gives the text up to the first stop string."""
    data = text.encode()
    marks = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(marks)]
    shown, _ = assemble(pieces, stop)
    # A stop string counts once it is complete: the one that ends first wins.
    ends = [(text.index(s) + len(s), text.index(s)) for s in stop if s in text]
    if not ends:
        assert "".join(shown) == text
    else:
        assert text.startswith("".join(shown))
        assert not any(s in "".join(shown) for s in stop)
