"""`edgewise-cloud train` and `edgewise-cloud finetune`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import join
from typing import Annotated, Any

import typer

from edgewise_cloud.console import INTERRUPTED, Progress, say, shown_progress
from edgewise_cloud.errors import TrainingError
from edgewise_cloud.options import CHECKPOINT_HELP, MoreTexts
from edgewise_cloud.train.model_size import ModelSize
from edgewise_cloud.train.schedule import Schedule

RATE = 4e-3  # learning rate of a new model
RATE_OF_A_TRAINED_MODEL = 1e-3  # a higher one costs it more than a short training gives

Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="FOLDER", help="Folder for the checkpoint, and for resuming."
    ),
]
Texts = Annotated[
    list[Path],
    typer.Option(
        "--text", "-t", metavar="FILE", help="UTF-8 text files; <|endoftext|> separates documents."
    ),
]
Steps = Annotated[
    int,
    typer.Option(
        "--steps", "-s", metavar="N", min=1, help="Steps of training; each reads one batch."
    ),
]
BatchTokens = Annotated[
    int, typer.Option(metavar="N", min=1, help="Tokens in the batch of a step.")
]
LearningRate = Annotated[
    float,
    typer.Option(
        metavar="NUMBER", min=0, help="The peak; it rises first, and then falls along a cosine."
    ),
]
HeldOut = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        min=1e-6,
        max=0.5,
        help="Share of the text that is never trained on, to measure with.",
    ),
]
BFloat16 = Annotated[
    bool,
    typer.Option(
        "--bfloat16",
        help="Compute in bfloat16, for processors that are fast at it.",
        show_default="off",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=2**32 - 1,
        help="The same seed and text give the same batches and weights.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", "-r", help="Continue the training in --out.", show_default="off"),
]


def _size_option(text: str, *, default: int, at_least: int = 1, at_most: int | None = None) -> Any:
    """An option of a new model's size; None where it is not given, to tell it from its default."""
    return typer.Option(
        metavar="N",
        min=at_least,
        max=at_most,
        help=text,
        show_default=str(default),
        rich_help_panel="The new model's size (not with --checkpoint)",
    )


def train(
    out: Out,
    text: Texts,
    more: MoreTexts = None,
    steps: Steps = 6000,
    batch_tokens: BatchTokens = 4096,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            min=0,
            help="The peak; it rises first, and then falls along a cosine.",
            show_default=f"{RATE}; {RATE_OF_A_TRAINED_MODEL} with --checkpoint",
        ),
    ] = None,
    held_out: HeldOut = 0.01,
    then: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE...",
            help="Text files that the last steps read instead. Until then the learning rate stays at its "
            "peak, from then on it falls to zero.",
            show_default="none",
        ),
    ] = None,
    then_share: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0.01,
            max=0.99,
            help="Share of the steps that read --then.",
            show_default="none",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            "-c",
            metavar="CHECKPOINT",
            help="Train on from this GPT-2, with its vocabulary and sizes. " + CHECKPOINT_HELP,
            show_default="a new model",
        ),
    ] = None,
    bfloat16: BFloat16 = False,
    seed: Seed = 1,
    resume: Resume = False,
    vocabulary_size: Annotated[
        int | None,
        _size_option(
            "Tokens to learn.", at_least=300, at_most=65535, default=ModelSize.vocabulary_size
        ),
    ] = None,
    layers: Annotated[
        int | None, _size_option("Transformer layers.", default=ModelSize.layers)
    ] = None,
    width: Annotated[
        int | None,
        _size_option(
            "Numbers per token between layers; a multiple of --heads.",
            at_least=8,
            default=ModelSize.width,
        ),
    ] = None,
    heads: Annotated[
        int | None, _size_option("Attention heads per layer.", default=ModelSize.heads)
    ] = None,
    context_window: Annotated[
        int | None,
        _size_option(
            "Tokens of prompt and answer together.", at_least=16, default=ModelSize.context_window
        ),
    ] = None,
) -> None:
    """Train a small GPT-2 and its vocabulary from scratch, or on from a checkpoint.

    Example: edgewise-cloud train --text books/*.txt --out my-checkpoint

    In two phases, the second on what the model is to write like:
    edgewise-cloud train --text books/*.txt --then tales/*.txt --then-share 0.2 --out my-checkpoint

    On from another training, at the rates of a training (finetune changes less):
    edgewise-cloud train --checkpoint tales --text books/*.txt --out my-checkpoint
    """
    from edgewise_cloud.train.pretrain import pretrain

    size = _size(
        {
            "vocabulary_size": vocabulary_size,
            "layers": layers,
            "width": width,
            "heads": heads,
            "context_window": context_window,
        },
        checkpoint,
    )
    if learning_rate is None:
        learning_rate = RATE if checkpoint is None else RATE_OF_A_TRAINED_MODEL
    schedule = Schedule(
        steps=steps,
        round_steps=Schedule.default_round_steps(steps),
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        held_out=held_out,
        bfloat16=bfloat16,
        seed=seed,
        then_share=then_share,
    )
    with _training(out) as progress:
        pretrain(
            [*text, *(more or [])],
            out,
            size,
            schedule,
            then=then or (),
            checkpoint=checkpoint,
            resume=resume,
            report=say,
            progress=progress,
        )


def finetune(
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", "-c", metavar="CHECKPOINT", help=CHECKPOINT_HELP)
    ],
    out: Out,
    text: Texts,
    more: MoreTexts = None,
    lora: Annotated[
        int | None,
        typer.Option(
            metavar="RANK",
            min=1,
            help="Train a LoRA of this rank, and merge it: less memory, smaller changes.",
            show_default="all weights",
        ),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Begin with N of the checkpoint's layers, evenly spaced: a smaller model.",
            show_default="all layers",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="A GPT-2 with the same vocabulary, usually larger; its predictions are half of what is "
            "learned (distillation).",
            show_default="none",
        ),
    ] = None,
    steps: Steps = 500,
    batch_tokens: BatchTokens = 2048,
    learning_rate: LearningRate = 1e-4,
    held_out: HeldOut = 0.05,
    bfloat16: BFloat16 = False,
    seed: Seed = 1,
    resume: Resume = False,
) -> None:
    """Fine-tune a pretrained GPT-2 on your own text.

    Example: edgewise-cloud finetune -c tales --text notes/*.txt --out my-checkpoint

    A model of half the layers for devices, distilled from your own:
    edgewise-cloud finetune -c my-gpt2 --layers 6 --teacher my-gpt2 --text notes/*.txt --out small
    """
    from edgewise_cloud.train.finetune import finetune

    schedule = Schedule(
        steps=steps,
        round_steps=Schedule.default_round_steps(steps),
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        held_out=held_out,
        bfloat16=bfloat16,
        seed=seed,
    )
    texts = [*text, *(more or [])]
    with _training(out) as progress:
        finetune(
            checkpoint,
            texts,
            out,
            schedule,
            lora_rank=lora,
            layers=layers,
            teacher=teacher,
            resume=resume,
            report=say,
            progress=progress,
        )


def _size(given: dict[str, int | None], checkpoint: str | None) -> ModelSize:
    """The size of a new model. Raises TrainingError for one that is given with --checkpoint."""
    sizes = {name: value for name, value in given.items() if value is not None}
    if checkpoint is not None and sizes:
        name, value = next(iter(sizes.items()))
        raise TrainingError(
            f"--{name.replace('_', '-')} is {value}, but a model of --checkpoint has its own sizes; "
            "leave one of the two out"
        )
    return ModelSize(**sizes)


@contextmanager
def _training(out: Path) -> Iterator[Progress]:
    """Show progress, and say how to go on: after Ctrl-C, or with the checkpoint."""
    try:
        with shown_progress() as progress:
            yield progress
    except KeyboardInterrupt:
        say("interrupted; run the command again with --resume to continue from the last checkpoint")
        raise typer.Exit(INTERRUPTED) from None
    say(f"saved to {out}")
    say(f"for a device: {join(['edgewise-cloud', 'convert', str(out), f'{out}-device'])}")
