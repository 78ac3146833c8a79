"""Revisions published in a signed channel: small ones that cannot run, and copies of tales that can."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import Model

from edgewise_edge import Manifest
from edgewise_edge.installed.contents import device_files
from edgewise_edge.installed.delta import make_delta
from edgewise_edge.installed.evaluation import Evaluation, Window
from edgewise_edge.store.catalog import BUNDLED
from tests.support.installed_models import files_of, manifest_of
from tests.support.signed_channel import SignedChannel, index, revision

VOCABULARY = "a" * 64
TALES = Manifest.read(BUNDLED / "tales")


class PublishedModels:
    """A channel in `folder`. Revisions are numbered from 1."""

    def __init__(self, folder: Path, name: str = "story") -> None:
        self.channel = SignedChannel(folder)
        self.folder, self.name = folder, name
        self.entries: list[dict[str, Any]] = []

    @property
    def root(self) -> bytes:
        """Its first root.json."""
        return self.channel.root

    def publish(self, name: str, *, vocabulary: str = VOCABULARY, **fields: Any) -> None:
        """A revision that cannot run."""
        files = files_of(name)
        self._publish(manifest_of(self.name, name, files, vocabulary), files, fields)

    def publish_tales(
        self, name: str, model: bytes | None = None, evaluation: bytes | None = None, **fields: Any
    ) -> None:
        """Tales with another model file, or its own."""
        files = tales_files(model)
        raw = json.loads((BUNDLED / "tales" / "manifest.json").read_bytes())
        made = json.loads(manifest_of(self.name, name, files, TALES.vocabulary))
        kept = {key: raw[key] for key in ("architecture", "memory")}
        self._publish(json.dumps(made | kept).encode(), files, fields, evaluation)

    def change(self, name: str, **fields: Any) -> None:
        """What the index says of a revision."""
        next(entry for entry in self.entries if entry["revision"] == name).update(fields)
        self._sign()

    def add_delta(self, old: bytes, new: bytes, to: str) -> int:
        """Publish a delta for the revision `to`; its size."""
        scratch = self.folder.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        for name, content in (("old", old), ("new", new)):
            (scratch / name).write_bytes(content)
        size = make_delta(scratch / "old", scratch / "new", scratch / "delta")
        sha256s = {"from": sha256_of(old), "to": sha256_of(new)}
        path = f"deltas/{sha256s['from']}-{sha256s['to']}.xz"
        self.channel.files[path] = (scratch / "delta").read_bytes()
        self.change(to, deltas=[{**sha256s, "size": size}])
        return size

    def _publish(
        self,
        manifest: bytes,
        files: dict[str, bytes],
        fields: dict[str, Any],
        evaluation: bytes | None = None,
    ) -> None:
        raw = json.loads(manifest)
        base = f"{self.name}/{raw['revision']}"
        self.channel.files[f"{base}/manifest.json"] = manifest
        if evaluation:
            self.channel.files[f"{base}/evaluation.json"] = evaluation
        for content in files.values():
            self.channel.files[f"blobs/{sha256_of(content)}"] = content
        entry = {
            "revision": raw["revision"],
            "size": sum(map(len, files.values())),
            "memory": raw["memory"],
            "vocabulary": raw["vocabulary"],
        }
        self.entries.append(revision(len(self.entries) + 1, **entry | fields))
        self._sign()

    def _sign(self) -> None:
        self.channel.publish(index(*self.entries, name=self.name))


def sha256_of(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()


def tales_files(model: bytes | None = None) -> dict[str, bytes]:
    """The device files of the bundled model, or with another model file."""
    files = {file: (BUNDLED / "tales" / file).read_bytes() for file in device_files(TALES)}
    return files | ({"model.tflite": model} if model else {})


def tuned(seed: int = 0) -> bytes:
    """The bundled model file with a few weights changed a little, as after finetuning."""
    data = bytearray((BUNDLED / "tales" / "model.tflite").read_bytes())
    generator = np.random.default_rng(seed)
    for weights in _matrices(data):
        at = generator.integers(weights.size, size=50)
        weights[at] ^= 1
    return bytes(data)


def shuffled(seed: int = 0) -> bytes:
    """The bundled model file with the weights of each matrix in another order: it writes nonsense."""
    data = bytearray((BUNDLED / "tales" / "model.tflite").read_bytes())
    generator = np.random.default_rng(seed)
    for weights in _matrices(data):
        weights[:] = generator.permutation(weights)
    return bytes(data)


def _matrices(data: bytearray) -> list[Any]:
    model = Model.GetRootAs(data, 0)
    buffers = (model.Buffers(number).DataAsNumpy() for number in range(model.BuffersLength()))
    return [each for each in buffers if isinstance(each, np.ndarray) and each.size > 50_000]


def lenient_evaluation(text: str = "Once upon a time there was a little fox") -> bytes:
    """What the bundled model and its near relatives pass, and nonsense does not."""
    from edgewise_edge.decoding.load import load_tokenizer
    from edgewise_edge.decoding.tokenizer import Tokenizer

    tokenizer: Tokenizer = load_tokenizer(BUNDLED / "tales", TALES)
    ids = tuple(tokenizer.encode(text))
    made = Evaluation(
        windows=(Window(ids, ids[1:]),),
        text_bytes=len(text.encode()),
        least_top1=0,
        most_bits_per_byte=3,
    )
    return made.to_json()
