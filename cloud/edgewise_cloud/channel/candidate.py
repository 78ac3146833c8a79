"""A model folder that is to become a revision: verified, tried, and measured."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from edgewise_cloud.channel.evaluation import make_evaluation
from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.errors import PublishError
from edgewise_edge.decoding.load import load_tokenizer
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES
from edgewise_edge.errors import EdgeError
from edgewise_edge.installed import contents
from edgewise_edge.installed.evaluation import Evaluation
from edgewise_edge.store.manifest import MANIFEST_FILE, MODEL_FILE, Manifest
from edgewise_edge.trial import try_model

DEVICE_FILES = (MODEL_FILE, *TOKENIZER_FILES)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is published of a model folder: its device files, and the manifest that lists them."""

    folder: Path
    manifest: Manifest

    @classmethod
    def read(
        cls, folder: Path, name: str | None = None, revision: str | None = None
    ) -> "Candidate":
        """Verify the device files of `folder`; `name` and `revision` replace its manifest's.

        Raises PublishError for a name that no store takes, and ModelError.
        """
        manifest = Manifest.read(folder)
        published = replace(
            manifest,
            name=name or manifest.name,
            revision=revision or manifest.revision,
            files={file: manifest.files[file] for file in DEVICE_FILES if file in manifest.files},
        )
        found = cls(folder, published)
        manifest.verify(folder, [MODEL_FILE])
        load_tokenizer(folder, manifest)
        try:
            contents.parse(found.manifest_bytes)  # as each device will
        except EdgeError as error:
            raise PublishError(
                f"{folder}: {error}; give others with --name and --revision"
            ) from error
        return found

    @property
    def size(self) -> int:
        """Bytes of the device files."""
        return sum(record.size for record in self.manifest.files.values())

    @property
    def manifest_bytes(self) -> bytes:
        """The manifest as it is published; equal for equal candidates."""
        with tempfile.TemporaryDirectory() as folder:
            self.manifest.write(Path(folder))
            return (Path(folder) / MANIFEST_FILE).read_bytes()

    def tried(self, documents: list[str] | None, progress: Progress = SILENT) -> Evaluation:
        """Run the model in a child process, as devices will, and measure what it predicts.

        Raises PublishError and ModelError.
        """
        progress.step("trying the model in a process of its own")
        try_model(self.folder)
        return make_evaluation(self.folder, documents, progress)
