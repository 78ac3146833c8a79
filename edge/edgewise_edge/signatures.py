"""The names by which a device model offers its steps, shared with the converter."""

import re

PREFILL_CHUNK = 64  # prompt tokens a step reads in the models our converter makes

_NAME = re.compile(r"(?:decode|prefill_(?P<chunk>\d+))_(?P<bucket>\d+)")


def decode_name(bucket: int) -> str:
    """One token, over a cache of `bucket` rows."""
    return f"decode_{bucket}"


def prefill_name(chunk: int, bucket: int) -> str:
    """`chunk` prompt tokens at once, over a cache of `bucket` rows."""
    return f"prefill_{chunk}_{bucket}"


def parse_name(name: str) -> tuple[int, int] | None:
    """(tokens per step, cache rows) of a signature's name, None for a name of another kind."""
    match = _NAME.fullmatch(name)
    return (int(match["chunk"] or 1), int(match["bucket"])) if match else None
