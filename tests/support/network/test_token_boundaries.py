"""Tokens are found in the bytes of a connection."""

from tests.support.network.raw_http2 import HEADERS, PREFACE, data, enveloped, frame
from tests.support.network.token_boundaries import TokenBoundaries


def test_tokens_are_found_however_the_bytes_are_divided() -> None:
    """Many in a frame, one in two frames, in reads of any size; other calls hold no tokens."""
    asked = data(1, enveloped(b"model?")) + data(3, enveloped(b"x" * 80))
    first, second, third = (enveloped(bytes(size)) for size in (9, 300, 0))
    answered = [
        frame(HEADERS, b"x" * 20, stream=3),
        data(1, enveloped(b"x" * 100)),
        data(3, first + second[:7]),
        data(3, second[7:] + third),
    ]
    octets = b"".join(answered)
    whole = len(octets)
    expected = [whole - len(answered[3]) - 7, whole - len(third), whole]
    assert found(asked, octets, whole) == expected
    for size in (1, 2, 10, 50):
        # A token is found when its frame is complete: not before its end, not after the frame's.
        pairs = zip(found(asked, octets, size), expected, strict=True)
        assert all(end <= late <= whole for late, end in pairs)
    assert found(asked, octets, 1)[1:] == [whole, whole]


def found(asked: bytes, answered: bytes, size: int) -> list[int]:
    """Where tokens end, in reads of `size` bytes."""
    ends = TokenBoundaries()
    for octet in PREFACE + asked:
        ends.to_cloud(bytes([octet]))
    return [
        start + end
        for start in range(0, len(answered), size)
        for end in ends.to_device(answered[start : start + size])
    ]
