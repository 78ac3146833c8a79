"""`edgewise-cloud train` and `edgewise-cloud finetune`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from edgewise_cloud.console import say
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.options import CHECKPOINT_HELP, MoreTexts
from edgewise_cloud.train.schedule import Schedule

Out = Annotated[Path, typer.Option(help="Folder for the model.")]
Texts = Annotated[
    list[Path], typer.Option(help="UTF-8 text files; <|endoftext|> separates documents.")
]
Steps = Annotated[int, typer.Option(min=1)]
BatchTokens = Annotated[int, typer.Option(min=1, help="Tokens per step.")]
LearningRate = Annotated[float, typer.Option(min=0, help="Peak learning rate.")]
HeldOut = Annotated[float, typer.Option(min=1e-6, max=0.5, help="Share of the text to hold out.")]
BFloat16 = Annotated[
    bool,
    typer.Option("--bfloat16", help="Compute in bfloat16, for processors that are fast at it."),
]
Seed = Annotated[int, typer.Option(min=0)]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the training in --out.")]


def train(
    out: Out,
    text: Texts,
    more: MoreTexts = None,
    vocabulary_size: Annotated[int, typer.Option(min=300, max=65535)] = 4096,
    layers: Annotated[int, typer.Option(min=1)] = 6,
    width: Annotated[int, typer.Option(min=8)] = 256,
    heads: Annotated[int, typer.Option(min=1)] = 4,
    context_window: Annotated[int, typer.Option(min=16)] = 512,
    steps: Steps = 6000,
    batch_tokens: BatchTokens = 4096,
    learning_rate: LearningRate = 4e-3,
    held_out: HeldOut = 0.01,
    bfloat16: BFloat16 = False,
    seed: Seed = 1,
    resume: Resume = False,
) -> None:
    """Train a small GPT-2 and its vocabulary from scratch."""
    import_tensorflow()
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
    )
    with _interruptible():
        pretrain([*text, *(more or [])], out, size, schedule, resume=resume, report=say)


def finetune(
    preset: Annotated[str, typer.Option(help=CHECKPOINT_HELP)],
    out: Out,
    text: Texts,
    more: MoreTexts = None,
    lora: Annotated[
        int | None, typer.Option(min=1, help="Train a LoRA of this rank, and merge it.")
    ] = None,
    steps: Steps = 500,
    batch_tokens: BatchTokens = 2048,
    learning_rate: LearningRate = 1e-4,
    held_out: HeldOut = 0.05,
    bfloat16: BFloat16 = False,
    seed: Seed = 1,
    resume: Resume = False,
) -> None:
    """Fine-tune a pretrained GPT-2 on your own text."""
    import_tensorflow()
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
    with _interruptible():
        finetune(preset, texts, out, schedule, lora_rank=lora, resume=resume, report=say)


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; run the command again with --resume to continue from the last checkpoint")
        raise typer.Exit(130) from None
