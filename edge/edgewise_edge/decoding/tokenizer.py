"""Byte-level BPE, built from the files of a GPT-2 vocabulary."""

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path

from edgewise_edge.checks import Range, shortened
from edgewise_edge.errors import EdgeError, ModelCorruptError, RequestError
from edgewise_edge.store.files import read_text
from edgewise_edge.store.manifest import MAX_VOCABULARY

VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
TOKENIZER_FILES = (VOCABULARY_FILE, MERGES_FILE)
END_OF_TEXT = "<|endoftext|>"
_IDS = Range(0, MAX_VOCABULARY - 1, whole=True)
_MAX_BYTES = 16 * 2**20  # of either file
_MAX_BRACKETS = 100_000  # in tokens; as many lists as fit the file would take Python ten seconds

# GPT-2's pre-tokenizer (openai/gpt-2, src/encoder.py). Possessive quantifiers, where they cannot
# change a match, keep long runs of one character class linear.
SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

# tiktoken's regex engine panics where a run of 999,999 whitespace characters precedes others: it
# remembers every place that `\s+(?!\S)` might go back to. So a long run is encoded by itself, but for
# its last character, and matches `\s++$`. These are the characters of the engine's \s; Python's has
# four more.
_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_LONG = 10_000  # characters
_LONG_RUN = re.compile(rf"(?<![{_SPACE}])[{_SPACE}]{{{_LONG},}}(?=[{_SPACE}][^{_SPACE}])")


def unicode_to_bytes() -> dict[str, int]:
    """The byte that each character stands for in GPT-2's files (bytes_to_unicode(), inverted)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


class Tokenizer:
    """Text to token ids and back, for one vocabulary.

    `ranks` maps each token's bytes to its id, in merge order; `special` maps special tokens to
    their ids. A special token spelled out in a prompt is ordinary text. Raises ModelCorruptError for
    ids that are equal or out of range; of a vocabulary with a known `fingerprint` they are not.
    """

    def __init__(
        self, ranks: dict[bytes, int], special: dict[str, int], fingerprint: str | None = None
    ) -> None:
        if fingerprint is None:
            _check_ids([*ranks.values(), *special.values()])
        import tiktoken  # takes 10 ms, in which the model can load

        copied = dict(ranks)
        with _panics_as(ModelCorruptError("the vocabulary is invalid")):
            self._encoding = tiktoken.Encoding(
                "edgewise", pat_str=SPLIT_PATTERN, mergeable_ranks=copied, special_tokens=special
            )
        copied.clear()  # tiktoken keeps it too, but works with tables of its own: 10 MB for GPT-2
        self.fingerprint = fingerprint or _fingerprint(ranks, special)
        """sha256 (hex) over all ids and their bytes; different for different vocabularies."""
        self.end_ids = frozenset(special.values())
        """The ids that end a text: one, or none if the vocabulary has no end token."""

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer":
        """Read `vocab.json` and `merges.txt`. Raises ModelCorruptError if they are invalid."""
        return cls(*cls.read(folder))

    @staticmethod
    def read(folder: Path) -> tuple[dict[bytes, int], dict[str, int], str]:
        """The checked ranks, special tokens and fingerprint of the files. Raises as from_folder()."""
        try:
            ranks, special = _read_vocabulary(folder)
            _check_ids([*ranks.values(), *special.values()])
            return ranks, special, _fingerprint(ranks, special)
        except ModelCorruptError as error:
            raise ModelCorruptError(f"{folder / VOCABULARY_FILE}: {error}") from error
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ModelCorruptError(
                f"{folder}: {VOCABULARY_FILE} and {MERGES_FILE} are not a GPT-2 vocabulary "
                f"({shortened(error)})"
            ) from error

    @property
    def size(self) -> int:
        """One more than the largest token id."""
        return self._encoding.n_vocab

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`. Raises RequestError if the tokenizer cannot take it."""
        with _panics_as(RequestError("the text cannot be split into tokens; shorten it")):
            encode = self._encoding.encode_ordinary
            ids, start = list[int](), 0
            for run in _LONG_RUN.finditer(text) if len(text) > _LONG else ():
                ids += encode(text[start : run.start()]) + encode(run[0])
                start = run.end()
            return ids + encode(text[start:]) if start else encode(text)

    def encode_prompt(self, text: str) -> list[int]:
        """The token ids that an answer to the prompt `text` continues: at least one.

        An empty prompt begins a new text, after the end-of-text token, which stands before every text
        that GPT-2 learned from. Raises RequestError as encode(), and for an empty prompt if the
        vocabulary has no such token.
        """
        if text:
            return self.encode(text)
        if not self.end_ids:
            raise RequestError(
                "the prompt is empty, and this model's vocabulary has no end-of-text token to begin a "
                "new text after; give at least one character"
            )
        return sorted(self.end_ids)[:1]

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token; empty for a special token or an unused id."""
        if token_id not in self.end_ids:
            with suppress(KeyError, OverflowError):
                return self._encoding.decode_single_token_bytes(token_id)
        return b""

    def decode(self, token_ids: list[int]) -> str:
        """The text of `token_ids`; invalid UTF-8 becomes U+FFFD."""
        return b"".join(map(self.token_bytes, token_ids)).decode("utf-8", errors="replace")


@contextmanager
def _panics_as(error: EdgeError) -> Iterator[None]:
    """Raise `error` in place of a Rust panic, which is no Exception: an app would not catch it."""
    try:
        yield
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        raise error from RuntimeError(str(panic))


def _fingerprint(ranks: dict[bytes, int], special: dict[str, int]) -> str:
    tokens = [(token_id, b"t" + token) for token, token_id in ranks.items()]
    tokens += [(token_id, b"s" + name.encode()) for name, token_id in special.items()]
    pack = struct.Struct("<II").pack
    content = b"".join([pack(token_id, len(token)) + token for token_id, token in sorted(tokens)])
    return hashlib.sha256(SPLIT_PATTERN.encode() + content).hexdigest()


def _check_ids(ids: list[int]) -> None:
    """Raise ModelCorruptError unless all are different whole numbers below MAX_VOCABULARY."""
    # All at once: one by one, GPT-2's take 40 ms at every cold start.
    if set(map(type, ids)) - {int} or not 0 <= min(ids) <= max(ids) < MAX_VOCABULARY:
        for token_id in ids:
            _IDS.check("a token's id", token_id, ModelCorruptError)
    if len(set(ids)) < len(ids):
        raise ModelCorruptError("two tokens have the same id")


class _BytesOf(dict[int, int]):
    """A table for str.translate(): the byte that each character stands for."""

    def __init__(self, byte_of: dict[str, int]) -> None:
        super().__init__({ord(character): byte for character, byte in byte_of.items()})

    def __missing__(self, code: int) -> int:
        raise ValueError(f"a token has the invalid character {chr(code)!r}")


def _read_vocabulary(folder: Path) -> tuple[dict[bytes, int], dict[str, int]]:
    text = read_text(folder / VOCABULARY_FILE, _MAX_BYTES)
    if text.count("[") > _MAX_BRACKETS:
        raise ValueError("it holds lists, not ids")
    ids: dict[str, int] = json.loads(text)
    if "" in ids:
        raise ValueError("a token is empty")
    special = {END_OF_TEXT: ids.pop(END_OF_TEXT)} if END_OF_TEXT in ids else {}
    # All tokens at once: one by one, GPT-2's take 50 ms longer at every cold start.
    tokens = "".join(ids).translate(_BytesOf(unicode_to_bytes())).encode("latin-1")
    ends = list(accumulate(map(len, ids)))
    ranks = {
        tokens[start:end]: token_id
        for start, end, token_id in zip([0, *ends], ends, ids.values(), strict=False)
    }
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise ValueError(f"{len(missing)} single bytes have no token, such as {missing[0]:#04x}")
    merges = read_text(folder / MERGES_FILE, _MAX_BYTES).replace(" ", "").splitlines()
    if merges and merges[0].startswith("#version"):
        del merges[0]
    merged_ids = list(map(ids.__getitem__, filter(None, merges)))
    # tiktoken uses a token's id as the rank of its merge.
    if merged_ids != sorted(merged_ids):
        raise ValueError("the ids are not in merge order")
    return ranks, special
