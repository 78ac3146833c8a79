"""Tokens as OpenAI's log-probabilities write them."""

from edgewise_edge import Tokenizer
from edgewise_edge.decoding.tokenizer import END_OF_TEXT

LOWEST = -9999.0  # JSON has no infinity; OpenAI writes this number


def token_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """The token's bytes; of the end token and of unused ids, a name in angle brackets."""
    if text := tokenizer.token_bytes(token_id):
        return text
    name = END_OF_TEXT if token_id in tokenizer.end_ids else f"<|{token_id}|>"
    return name.encode()


def token_name(tokenizer: Tokenizer, token_id: int) -> str:
    r"""The token's text, or `bytes:\xe2\x80` where it is only a part of a character."""
    raw = token_bytes(tokenizer, token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def finite(logprob: float) -> float:
    """A number that JSON can write."""
    return max(logprob, LOWEST)
