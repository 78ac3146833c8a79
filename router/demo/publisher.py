"""A publisher for the demo: its channel is a folder of this machine, made by `edgewise-cloud`'s code."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import Model

from edgewise_cloud.channel.candidate import Candidate
from edgewise_cloud.channel.create import create_channel
from edgewise_cloud.channel.keys import KeyRing
from edgewise_cloud.channel.metadata import CONTENT
from edgewise_cloud.channel.publish import Options, add, describe_candidate, publish
from edgewise_cloud.channel.repository import Repository
from edgewise_cloud.console import Progress
from edgewise_edge import find_model
from edgewise_edge.installed.evaluation import Evaluation
from edgewise_edge.store.manifest import MODEL_FILE, FileRecord

Change = Callable[[list[Any]], None]  # of weight matrices
NUDGED = 200  # weights
MATRIX = 50_000  # bytes from which a buffer is one of the weight matrices
# What devices run before they use a revision. The default, 512 tokens, takes longer than the demo may.
TEXT = (
    "Once upon a time there was a miller who had three sons. When he died he left the mill to the "
    "eldest, the donkey to the second, and to the youngest nothing but the cat. The poor boy sat "
    "down by the road and did not know what to do. But the cat, who had heard every word, looked up "
    "at him and said that he need not be sad, if only he would give her a bag and a pair of boots."
)


class Publisher:
    """Makes a channel in `folder` with the bundled model, which each device has. It takes seconds.

    `channel` is its address, and `root` the root.json for devices.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.channel, self._keys = folder / "channel", folder / "keys"
        self._progress, self._folder = progress, folder
        self.root = create_channel(self.channel, self._keys).root
        self._publish(self._model(), delta_from=0)

    def publish_nudged(self) -> None:
        """A revision with some weights of one matrix changed by one step: it predicts much the same."""
        self._publish(self._model("nudged", _nudge), delta_from=1)

    def publish_shuffled(self) -> None:
        """One with each matrix's weights in another order, signed with the former's evaluation.

        `edgewise-cloud publish` measures each model by itself, and would refuse this one.
        """
        candidate = Candidate.read(self._model("shuffled", _shuffle))
        repository = Repository.read(self.channel)
        evaluation = Evaluation.parse(repository.read_target("tales/nudged/evaluation.json"))
        entry = describe_candidate(candidate, Options())
        add(repository, candidate, entry, evaluation, self._folder)
        repository.commit(repository.signers(self._ring, CONTENT))

    @property
    def _ring(self) -> KeyRing:
        return KeyRing.read([self._keys])

    def _publish(self, model: Path, delta_from: int) -> None:
        options = Options(delta_from=delta_from)
        progress = self._progress
        publish(model, self.channel, self._ring, options, documents=[TEXT], progress=progress)

    def _model(self, revision: str = "", change: Change = lambda _: None) -> Path:
        """A folder with the bundled model's device files, whose weight matrices were changed."""
        bundled = Candidate.read(find_model("tales"))
        revision = revision or bundled.manifest.revision
        folder = self._folder / revision
        folder.mkdir()
        content = {
            file: bytearray((bundled.folder / file).read_bytes()) for file in bundled.manifest.files
        }
        change(_matrices(content[MODEL_FILE]))
        for file, data in content.items():
            (folder / file).write_bytes(data)
        files = {file: FileRecord.of(folder / file) for file in content}
        replace(bundled.manifest, revision=revision, files=files).write(folder)
        return folder


def _matrices(content: bytearray) -> list[Any]:
    """The weight matrices in a model file, as writable arrays of int8."""
    model = Model.GetRootAs(content, 0)
    buffers = (model.Buffers(number).DataAsNumpy() for number in range(model.BuffersLength()))
    return [
        data.view(np.int8)
        for data in buffers
        if isinstance(data, np.ndarray) and data.size > MATRIX
    ]


def _nudge(matrices: list[Any]) -> None:
    generator, weights = np.random.default_rng(0), max(matrices, key=len)
    for at in generator.integers(weights.size, size=NUDGED):
        weights[at] += 1 if weights[at] < 0 else -1  # never out of int8's range


def _shuffle(matrices: list[Any]) -> None:
    generator = np.random.default_rng(0)
    for weights in matrices:
        weights[:] = generator.permutation(weights)
