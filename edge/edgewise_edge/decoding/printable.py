"""Foreign text for terminals and logs: what controls them is shown, not obeyed."""

import re

# C0 and C1 controls, separators of lines, overrides of direction, and halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BUT_LINES = re.compile(_CONTROL.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with control characters as JSON's `\u001b`; with `lines`, tabs and line feeds stay."""
    return (_BUT_LINES if lines else _CONTROL).sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
