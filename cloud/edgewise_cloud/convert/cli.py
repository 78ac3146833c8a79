"""`edgewise-cloud convert` and `edgewise-cloud evaluate`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edgewise_cloud.console import exit_interrupted, say, shown_progress, without_native_logs
from edgewise_cloud.convert.quantization import Quantization, Target
from edgewise_cloud.corpus import read_documents
from edgewise_cloud.options import CHECKPOINT_HELP, MoreTexts
from edgewise_edge.standard_streams import emit
from edgewise_edge.store.active import is_name
from edgewise_edge.store.manifest import MODEL_FILE

if TYPE_CHECKING:  # a command line that only prints its help need not import them
    from edgewise_cloud.convert.convert import Conversion
    from edgewise_cloud.convert.evaluate import Evaluation

SAMPLING = "Recommended sampling, for requests that set none"
TERMINATED = 143  # the exit status that shells report after SIGTERM
FROM_CHECKPOINT = "the checkpoint's"


def convert(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help=CHECKPOINT_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the device model.")],
    more: MoreTexts = None,
    quantize: Annotated[
        Quantization,
        typer.Option(
            "--quantize", "-q", help="How weights are stored: 32, 16, 8 or 4 bits for each."
        ),
    ] = Quantization.INT8,
    target: Annotated[
        Target, typer.Option(help="The runtime to convert for; tflite-runtime is the older one.")
    ] = Target.LITERT,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model's name.", show_default="the folder's"),
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            "--text",
            "-t",
            metavar="FILE",
            help="UTF-8 files to measure the loss of quality on: their first 4,096 tokens.",
            show_default="1,024 tokens of a built-in fairy tale",
        ),
    ] = None,
    keras_weights: Annotated[
        bool,
        typer.Option(
            "--keras-weights",
            help="Add the Keras weights (float16), so that 'serve' and 'evaluate' take the folder.",
            show_default="off",
        ),
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            min=0,
            max=100,
            help="0: always the likeliest token.",
            show_default=FROM_CHECKPOINT,
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=0,
            help="Draw from the K likeliest tokens; 0: from all.",
            show_default=FROM_CHECKPOINT,
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            max=1,
            help="Draw from the likeliest tokens that make up this share, above 0; 1: from all.",
            show_default=FROM_CHECKPOINT,
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            min=0,
            max=1,
            help="Draw from tokens with at least this share of the likeliest one's probability; 0: "
            "from all.",
            show_default=FROM_CHECKPOINT,
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            min=0.01,
            max=100,
            help="Above 1, tokens that the text has already become less likely; 1: no penalty.",
            show_default=FROM_CHECKPOINT,
            rich_help_panel=SAMPLING,
        ),
    ] = None,
) -> None:
    """Convert a Keras GPT-2 to a device model, and measure the loss of quality.

    Example: edgewise-cloud convert my-checkpoint my-model --quantize int8
    """
    from edgewise_cloud.convert.convert import convert

    recommended = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }
    texts = [*(text or []), *(more or [])]
    documents = read_documents(texts) or None
    with shown_progress() as progress, without_native_logs(), _cleaning_up_on_sigterm():
        made = convert(
            checkpoint,
            out,
            quantize,
            target,
            name=name,
            keras_weights=keras_weights,
            sampling={key: value for key, value in recommended.items() if value is not None},
            documents=documents,
            progress=progress,
        )
    emit(f"{_sizes(out, quantize, made)}\n{_summary(made.evaluation, texts)}")
    _say_next(checkpoint, out, keras_weights=keras_weights)


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Bundled model or device model folder.")
    ],
    text: Annotated[
        list[Path], typer.Option("--text", "-t", metavar="FILE", help="UTF-8 files to predict.")
    ],
    more: MoreTexts = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            "-c",
            metavar="CHECKPOINT",
            help="The checkpoint that MODEL was converted from.",
            show_default="MODEL itself, if it has Keras weights",
        ),
    ] = None,
    most_tokens: Annotated[
        int | None,
        typer.Option(
            "--most-tokens",
            "-n",
            metavar="N",
            min=8,
            help="Predict only the first N tokens.",
            show_default="all",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object.", show_default="off")
    ] = False,
) -> None:
    """Measure how well a model predicts a text, in Keras and on the device, and how they agree.

    Example: edgewise-cloud evaluate my-model --text other.txt
    """
    from edgewise_cloud.convert.evaluate import evaluate_model

    texts = [*text, *(more or [])]
    documents = read_documents(texts)
    with shown_progress() as progress:
        evaluation = evaluate_model(model, checkpoint or model, documents, most_tokens, progress)
    emit(dumps(evaluation.as_dict(), indent=2) if json else _summary(evaluation, texts))


@contextmanager
def _cleaning_up_on_sigterm() -> Iterator[None]:
    """What is written so far is removed, as after Ctrl-C."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_signal: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the next one does not wait
    if (
        signal.getsignal(signal.SIGINT) is exit_interrupted
    ):  # an import, which may lose an exception
        os._exit(TERMINATED)
    raise SystemExit(TERMINATED)


def _sizes(out: Path, quantize: Quantization, made: "Conversion") -> str:
    before, after = 4 * made.parameters, made.manifest.files[MODEL_FILE].size
    form = "float32" if quantize is Quantization.NONE else quantize
    settings = ", ".join(f"{name} {value:g}" for name, value in made.manifest.sampling.items())
    return (
        f"{out}: {made.parameters:,} weights, {before / 1e6:.1f} MB as float32 → "
        f"{after / 1e6:.1f} MB as {form}, {before / after:.1f} times smaller; "
        f"needs {made.manifest.memory / 1e6:.0f} MB of memory\n"
        f"recommended sampling: {settings or 'none'}"
    )


def _summary(evaluation: "Evaluation", texts: list[Path]) -> str:
    keras, device = evaluation.keras, evaluation.device
    return (
        f"measured on {evaluation.tokens:,} tokens, {evaluation.text_bytes:,} bytes, of "
        f"{_described(texts)}:\n"
        f"  Keras   {keras.bits_per_byte:.3f} bits per byte, perplexity {keras.perplexity:.2f}\n"
        f"  device  {device.bits_per_byte:.3f} bits per byte, perplexity {device.perplexity:.2f} "
        f"({evaluation.bits_increase:+.2%} bits)\n"
        f"  top-1 agreement {evaluation.top1_agreement:.1%}; the largest logit difference is "
        f"{evaluation.largest_logit_difference:.3g} "
        f"(standard deviation of the logits: {evaluation.logit_spread:.3g})"
    )


def _described(texts: list[Path]) -> str:
    match texts:
        case []:
            return "a built-in fairy tale"
        case [text]:
            return str(text)
        case _:
            return f"{len(texts)} files"


def _say_next(checkpoint: str, out: Path, *, keras_weights: bool) -> None:
    # A bare name might be an installed model's.
    model = f"./{out}" if is_name(str(out)) else str(out)
    evaluate = ["edgewise-cloud", "evaluate", model, "--text", "FILE"]
    evaluate += [] if keras_weights else ["--checkpoint", checkpoint]
    say(f"try it:          {join(['edgewise', 'generate', 'Once upon a time', '--model', model])}")
    say(f"on your text:    {join(evaluate)}")
    if keras_weights:
        say(f"in the cloud:    {join(['edgewise-cloud', 'serve', '--model', model])}")
