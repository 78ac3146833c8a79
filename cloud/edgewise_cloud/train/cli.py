"""`edgewise-cloud train` and `edgewise-cloud finetune`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import join
from typing import Annotated

import typer

from edgewise_cloud.console import INTERRUPTED, Progress, say, shown_progress
from edgewise_cloud.options import CHECKPOINT_HELP, MoreTexts
from edgewise_cloud.train.schedule import Schedule

SIZE = "The new model's size"

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
        metavar="N", min=0, help="The same seed and text give the same batches and weights."
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", "-r", help="Continue the training in --out.", show_default="off"),
]


def train(
    out: Out,
    text: Texts,
    more: MoreTexts = None,
    steps: Steps = 6000,
    batch_tokens: BatchTokens = 4096,
    learning_rate: LearningRate = 4e-3,
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
    bfloat16: BFloat16 = False,
    seed: Seed = 1,
    resume: Resume = False,
    vocabulary_size: Annotated[
        int,
        typer.Option(
            metavar="N", min=300, max=65535, help="Tokens to learn.", rich_help_panel=SIZE
        ),
    ] = 4096,
    layers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Transformer layers.", rich_help_panel=SIZE)
    ] = 6,
    width: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=8,
            help="Numbers per token between layers; a multiple of --heads.",
            rich_help_panel=SIZE,
        ),
    ] = 256,
    heads: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Attention heads per layer.", rich_help_panel=SIZE),
    ] = 4,
    context_window: Annotated[
        int,
        typer.Option(
            metavar="N", min=16, help="Tokens of prompt and answer together.", rich_help_panel=SIZE
        ),
    ] = 512,
) -> None:
    """Train a small GPT-2 and its vocabulary from scratch.

    Example: edgewise-cloud train --text books/*.txt --out my-checkpoint

    In two phases, the second on what the model is to write like:
    edgewise-cloud train --text books/*.txt --then tales/*.txt --then-share 0.2 --out my-checkpoint
    """
    from edgewise_cloud.train.pretrain import ModelSize, pretrain

    size = ModelSize(
        vocabulary_size=vocabulary_size,
        layers=layers,
        width=width,
        heads=heads,
        context_window=context_window,
    )
    schedule = Schedule(
        steps=steps,
        round_steps=Schedule.default_round_steps(steps),
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        held_out=held_out,
        bfloat16=bfloat16,
        seed=seed,
        then_share=then_share or 0.0,
    )
    with _training(out) as progress:
        pretrain(
            [*text, *(more or [])],
            out,
            size,
            schedule,
            then=then or (),
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
            resume=resume,
            report=say,
            progress=progress,
        )


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
