"""A model folder's `manifest.json`, and the check of its files against it."""

import hashlib
import json
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from edgewise_edge.checks import SAMPLING_RANGES, Range, check_sha256, shortened, shown
from edgewise_edge.errors import ModelCorruptError, ModelIncompatibleError, ModelNotFoundError
from edgewise_edge.store.chat_template import ChatTemplate
from edgewise_edge.store.files import read_text

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.tflite"
FORMAT = 1
MAX_VOCABULARY = 2**24  # token ids
_MOST_NAMED = 200  # characters of a name or revision
MAX_MANIFEST_BYTES = 2**20
# Far above any GPT-2. What is allocated from a manifest's sizes alone stays small.
_SIZES = {
    "vocabulary_size": Range(1, MAX_VOCABULARY, whole=True),
    "context_window": Range(1, 2**20, whole=True),
    "layers": Range(1, 2**10, whole=True),
    "heads": Range(1, 2**10, whole=True),
    "width": Range(1, 2**16, whole=True),
}
_BYTES = Range(0, 2**50, whole=True, unit="bytes")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a GPT-2."""

    vocabulary_size: int
    context_window: int  # tokens, prompt and answer together
    layers: int
    heads: int
    width: int

    def __post_init__(self) -> None:
        """Raise TypeError for invalid sizes."""
        for name, sizes in _SIZES.items():
            sizes.check(name, getattr(self, name), TypeError)
        if self.width % self.heads:
            raise TypeError(f"width {self.width} is not a multiple of {self.heads} heads")

    @property
    def head_size(self) -> int:
        """Floats in one head's key."""
        return self.width // self.heads


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a model: its size in bytes and its sha256 in hex."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        """Raise TypeError for invalid values: JSON may hold any."""
        _BYTES.check("size", self.size, TypeError)
        check_sha256("sha256", self.sha256, TypeError)

    @classmethod
    def of(cls, path: Path) -> Self:
        """The record of the file at `path`."""
        with path.open("rb") as file:
            return cls(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A model's name, architecture and files.

    `memory` is what the runtime needs to load and run it, in bytes, as measured by the converter.
    `sampling` holds recommended settings, used as defaults. `conversion` records how the model was
    converted and what accuracy that lost, for people only. `chat_template` makes one text of a
    conversation; None for a model that was not made for any.
    """

    name: str
    revision: str
    architecture: Architecture
    vocabulary: str  # fingerprint, see Tokenizer.fingerprint
    files: dict[str, FileRecord]
    memory: int
    sampling: dict[str, float] = field(default_factory=dict)
    conversion: dict[str, Any] = field(default_factory=dict)
    chat_template: ChatTemplate | None = None

    def __post_init__(self) -> None:
        """Raise TypeError or KeyError for invalid values: JSON may hold any."""
        if not all(isinstance(text, str) for text in (self.name, self.revision, self.vocabulary)):
            raise TypeError("name, revision and vocabulary must be text")
        if not all(t.isprintable() and len(t) <= _MOST_NAMED for t in (self.name, self.revision)):
            raise TypeError(
                f"name and revision must be printable, of {_MOST_NAMED} characters at most"
            )
        if not (isinstance(self.sampling, dict) and isinstance(self.conversion, dict)):
            raise TypeError("sampling and conversion must be objects")
        _BYTES.check("memory", self.memory, TypeError)
        for name, value in self.sampling.items():
            SAMPLING_RANGES[name].check(name, value, TypeError)  # KeyError for an unknown one

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of `folder`.

        Raises ModelNotFoundError if there is none, ModelCorruptError if it cannot be read, and
        ModelIncompatibleError if its format is another version's.
        """
        try:
            text = read_text(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ModelNotFoundError(
                f"{folder} is not a model folder: it has no {MANIFEST_FILE}; make one with "
                "'edgewise-cloud convert CHECKPOINT FOLDER'"
            ) from error
        except (OSError, ValueError) as error:
            raise ModelCorruptError(f"{folder / MANIFEST_FILE} cannot be read: {error}") from error
        return cls.parse(text, str(folder))

    @classmethod
    def parse(cls, text: str | bytes, place: str) -> Self:
        """The manifest that `text` holds; errors name its `place`. Raises as read() does."""
        path = Path(place, MANIFEST_FILE)
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelCorruptError(f"{path} cannot be read: {error}") from error
        try:
            if (format_ := raw.pop("format")) != FORMAT:
                raise ModelIncompatibleError(
                    f"{place}: manifest format is {shown(format_)}, this version reads {FORMAT}; "
                    "convert the model again or update edgewise"
                )
            raw["architecture"] = Architecture(**raw["architecture"])
            if raw.get("chat_template") is not None:
                raw["chat_template"] = ChatTemplate(**raw["chat_template"])
            raw["files"] = {name: FileRecord(**record) for name, record in raw["files"].items()}
            return cls(**raw)
        except (AttributeError, KeyError, TypeError) as error:
            raise ModelCorruptError(
                f"{path} has missing, unknown or invalid fields: {shortened(error)}"
            ) from error

    def write(self, folder: Path) -> None:
        """Write `manifest.json` to `folder`."""
        fields = asdict(self)
        if self.chat_template is None:
            del fields["chat_template"]  # versions that do not know it read the manifest too
        text = json.dumps({"format": FORMAT, **fields}, indent=2, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")

    def verify(self, folder: Path, names: Iterable[str]) -> None:
        """Raise ModelCorruptError unless each file in `names` has the recorded size and sha256."""
        for name in names:
            self.verify_size(folder, name)
            _verify_content(folder / name, self.files[name])

    def verify_size(self, folder: Path, name: str) -> None:
        """The cheap part of `verify`: the file exists and has the recorded size."""
        if name not in self.files:
            raise ModelCorruptError(f"{folder}: its manifest does not list {name}")
        _verify_size(folder / name, self.files[name])


def _verify_size(path: Path, expected: FileRecord) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise ModelCorruptError(
            f"{path} is missing or cannot be read ({error.strerror}); fetch or convert the model again"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise ModelCorruptError(f"{path} is not a regular file; fetch or convert the model again")
    if (size := found.st_size) != expected.size:
        raise ModelCorruptError(
            f"{path} has {size:,} bytes, its manifest says {expected.size:,}: cut short or "
            "replaced; fetch or convert the model again"
        )


def _verify_content(path: Path, expected: FileRecord) -> None:
    try:
        found = FileRecord.of(path)
    except OSError as error:
        raise ModelCorruptError(f"{path} cannot be read: {error.strerror}") from error
    if found.sha256 != expected.sha256:
        raise ModelCorruptError(
            f"{path} is not the file its manifest names (sha256 differs); fetch or convert the "
            "model again"
        )
