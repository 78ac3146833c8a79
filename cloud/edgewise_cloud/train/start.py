"""What a training begins with: a new model and its vocabulary, or a checkpoint's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise_cloud.console import Progress
from edgewise_cloud.corpus import Corpus
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.train.model_size import ModelSize
from edgewise_cloud.train.schedule import Schedule
from edgewise_edge.decoding.tokenizer import Tokenizer

if TYPE_CHECKING:  # a text that is too short is refused before it is imported
    from keras_hub.models import GPT2Backbone


@dataclass(frozen=True, slots=True)
class Start:
    """A tokenizer, and the model that will be trained."""

    tokenizer: Tokenizer
    context_window: int
    sampling: Mapping[str, float]  # what the model's makers recommend
    backbone: "Callable[[], GPT2Backbone]"  # called when TensorFlow has been imported


def new_model(
    corpora: Sequence[Corpus],
    size: ModelSize,
    schedule: Schedule,
    vocabulary: Path,
    *,
    learn: bool,
    progress: Progress,
) -> Start:
    """Random weights, and the vocabulary in the folder `vocabulary`, which is learned first if `learn`."""
    if learn:
        from edgewise_cloud.train.vocabulary import train_vocabulary

        progress.step(f"learning a vocabulary of {size.vocabulary_size:,} tokens")
        documents = [document for corpus in corpora for document in corpus.train]
        train_vocabulary(documents, size.vocabulary_size, vocabulary)
    return Start(
        Tokenizer.from_folder(vocabulary),
        size.context_window,
        {},
        lambda: _new_backbone(size, schedule),
    )


def loaded_model(
    checkpoint: str, schedule: Schedule, vocabulary: Path, progress: Progress
) -> Start:
    """The weights of `checkpoint`; its vocabulary's files are written to `vocabulary`.

    Raises CheckpointError.
    """
    import_tensorflow(progress)
    import keras

    from edgewise_cloud.keras_models.load import load_keras

    progress.step(f"reading {checkpoint}")
    keras.utils.set_random_seed(schedule.seed)  # the model draws its seeds of dropout
    model = load_keras(checkpoint, vocabulary, dtype=schedule.dtype)
    return Start(
        model.tokenizer,
        model.architecture.context_window,
        model.sampling,
        lambda: model.backbone,
    )


def _new_backbone(size: ModelSize, schedule: Schedule) -> "GPT2Backbone":
    import keras
    from keras_hub.models import GPT2Backbone

    keras.utils.set_random_seed(schedule.seed)
    return GPT2Backbone(
        vocabulary_size=size.vocabulary_size,
        num_layers=size.layers,
        num_heads=size.heads,
        hidden_dim=size.width,
        intermediate_dim=4 * size.width,
        dropout=0.0,  # a training reads its text about twice: there is little overfitting
        max_sequence_length=size.context_window,
        dtype=schedule.dtype,
    )
