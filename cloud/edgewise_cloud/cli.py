"""`edgewise-cloud`: serve, serve-ray, load, token, convert, evaluate, train, finetune."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from edgewise_cloud.console import console, say
from edgewise_cloud.convert.quantization import Quantization, Target
from edgewise_cloud.errors import CloudError
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.loadtest.cli import load
from edgewise_cloud.serving.cli import serve, token
from edgewise_cloud.serving.on_ray.cli import serve_ray
from edgewise_edge.errors import EdgeError
from edgewise_edge.runtime.stderr import captured_stderr
from edgewise_edge.store.manifest import MODEL_FILE

if TYPE_CHECKING:
    from edgewise_cloud.convert.evaluate import Evaluation

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
for command in (serve, serve_ray, load, token):
    app.command()(command)

Texts = Annotated[list[Path], typer.Option(help="UTF-8 text files; <|endoftext|> parts documents.")]
MoreTexts = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", help="More, as in --text *.txt.")
]
Steps = Annotated[int, typer.Option(min=1)]
BatchTokens = Annotated[int, typer.Option(min=1, help="Tokens a step reads.")]
LearningRate = Annotated[float, typer.Option(min=0, help="The highest.")]
HeldOut = Annotated[float, typer.Option(min=1e-6, max=0.5, help="Share of the text to judge by.")]
BFloat16 = Annotated[
    bool,
    typer.Option("--bfloat16", help="Compute in bfloat16, for processors that are fast at it."),
]
Seed = Annotated[int, typer.Option(min=0)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")]


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Bundled model, folder, KerasHub preset or hf://.")],
    out: Annotated[Path, typer.Argument(help="Device model folder to make.")],
    more: MoreTexts = None,
    quantize: Annotated[Quantization, typer.Option(help="How weights are stored.")] = (
        Quantization.INT8
    ),
    target: Annotated[Target, typer.Option(help="The runtime it is for.")] = Target.LITERT,
    name: Annotated[
        str | None, typer.Option(help="The model's name; the folder's if absent.")
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="UTF-8 text to measure what is lost on.")
    ] = None,
    keras_weights: Annotated[
        bool, typer.Option(help="Add the Keras weights, so that the folder serves both sides.")
    ] = False,
    temperature: Annotated[float | None, typer.Option(help="Recommended temperature.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Recommended top_k.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Recommended top_p.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Recommended penalty.")] = None,
) -> None:
    """Make a device model from a Keras GPT-2, and measure what it lost."""
    import_tensorflow()
    from edgewise_cloud.convert.convert import convert
    from edgewise_cloud.corpus import read_documents

    recommended = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
    }
    documents = read_documents([*text, *(more or [])]) if text else None
    with console.status("converting"), captured_stderr():
        manifest, evaluation = convert(
            source,
            out,
            quantize,
            target,
            name=name,
            keras_weights=keras_weights,
            sampling={key: value for key, value in recommended.items() if value is not None},
            documents=documents,
        )
    model_file = manifest.files[MODEL_FILE]
    print(
        f"{out}: {model_file.size / 1e6:.1f} MB, needs {manifest.memory / 1e6:.0f} MB of memory\n"
        f"{_summary(evaluation)}"
    )


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Bundled model or device model folder.")],
    text: Annotated[list[Path], typer.Option(help="UTF-8 text to predict.")],
    more: MoreTexts = None,
    keras: Annotated[
        str | None, typer.Option(help="The Keras model it was made from; MODEL itself if absent.")
    ] = None,
    most_tokens: Annotated[
        int | None, typer.Option(min=8, help="Read the first so many tokens only.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how well a model predicts a text, in Keras and on the device, and how both agree."""
    import_tensorflow()
    from edgewise_cloud.convert.evaluate import evaluate_model
    from edgewise_cloud.corpus import read_documents

    documents = read_documents([*text, *(more or [])])
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        evaluation = evaluate_model(
            model,
            keras or model,
            documents,
            most_tokens,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(dumps(evaluation.as_dict(), indent=2) if json else _summary(evaluation))


def _summary(evaluation: "Evaluation") -> str:
    return (
        f"over {evaluation.tokens:,} tokens, {evaluation.text_bytes:,} bytes:\n"
        f"  Keras   {evaluation.keras.bits_per_byte:.3f} bits per byte, "
        f"perplexity {evaluation.keras.perplexity:.2f}\n"
        f"  device  {evaluation.device.bits_per_byte:.3f} bits per byte, "
        f"perplexity {evaluation.device.perplexity:.2f} ({evaluation.lost:+.2%} bits)\n"
        f"  top-1 agreement {evaluation.top1_agreement:.1%}; the largest logit difference is {evaluation.largest_logit_difference:.3g} (the logits "
        f"spread by {evaluation.logit_spread:.3g})"
    )


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
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
    from edgewise_cloud.train.pretrain import Size, train
    from edgewise_cloud.train.schedule import Schedule

    size = Size(
        vocabulary_size=vocabulary_size,
        layers=layers,
        width=width,
        heads=heads,
        context_window=context_window,
    )
    schedule = Schedule(
        steps=steps,
        round_steps=Schedule.round_steps_of(steps),
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        held_out=held_out,
        bfloat16=bfloat16,
        seed=seed,
    )
    with _interruptible():
        train([*text, *(more or [])], out, size, schedule, resume=resume, report=say)


@app.command()
def finetune(
    preset: Annotated[str, typer.Option(help="Bundled model, folder, KerasHub preset or hf://.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    text: Texts,
    more: MoreTexts = None,
    lora: Annotated[
        int | None, typer.Option(min=1, help="Learn a LoRA of this rank, and merge it.")
    ] = None,
    steps: Steps = 500,
    batch_tokens: BatchTokens = 2048,
    learning_rate: LearningRate = 1e-4,
    held_out: HeldOut = 0.05,
    bfloat16: BFloat16 = False,
    seed: Seed = 1,
    resume: Resume = False,
) -> None:
    """Customise a pretrained GPT-2 on your own text."""
    import_tensorflow()
    from edgewise_cloud.train.finetune import finetune
    from edgewise_cloud.train.schedule import Schedule

    schedule = Schedule(
        steps=steps,
        round_steps=Schedule.round_steps_of(steps),
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
        say("stopped; the same command with --resume goes on from the last checkpoint, if any")
        raise typer.Exit(130) from None


def main() -> None:
    """Run the command line; what goes wrong is one sentence and exit status 2."""
    try:
        app()
    except (CloudError, EdgeError) as error:
        say(f"error: {error}", style="red")
        sys.exit(2)
