"""`edgewise-cloud convert` and `edgewise-cloud evaluate`."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from edgewise_cloud.console import console
from edgewise_cloud.convert.quantization import Quantization, Target
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.options import CHECKPOINT_HELP, MoreTexts
from edgewise_edge.runtime.stderr import captured_stderr
from edgewise_edge.store.manifest import MODEL_FILE

if TYPE_CHECKING:
    from edgewise_cloud.convert.evaluate import Evaluation


def convert(
    checkpoint: Annotated[str, typer.Argument(help=CHECKPOINT_HELP)],
    out: Annotated[Path, typer.Argument(help="New folder for the device model.")],
    more: MoreTexts = None,
    quantize: Annotated[Quantization, typer.Option(help="How weights are stored.")] = (
        Quantization.INT8
    ),
    target: Annotated[Target, typer.Option(help="The runtime to convert for.")] = Target.LITERT,
    name: Annotated[
        str | None, typer.Option(help="The model's name; by default the folder's.")
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="UTF-8 text to measure the loss of quality on.")
    ] = None,
    keras_weights: Annotated[
        bool, typer.Option(help="Add the Keras weights, so that the cloud can serve the folder.")
    ] = False,
    temperature: Annotated[float | None, typer.Option(help="Recommended temperature.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Recommended top_k.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Recommended top_p.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Recommended penalty.")] = None,
) -> None:
    """Convert a Keras GPT-2 to a device model, and measure the loss of quality."""
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
            checkpoint,
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


def evaluate(
    model: Annotated[str, typer.Argument(help="Bundled model or device model folder.")],
    text: Annotated[list[Path], typer.Option(help="UTF-8 text to predict.")],
    more: MoreTexts = None,
    keras: Annotated[
        str | None,
        typer.Option(help="The checkpoint MODEL was converted from; by default MODEL itself."),
    ] = None,
    most_tokens: Annotated[
        int | None, typer.Option(min=8, help="Evaluate only the first N tokens.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how well a model predicts a text, in Keras and on the device, and how they agree."""
    import_tensorflow()
    from edgewise_cloud.convert.evaluate import evaluate_model
    from edgewise_cloud.corpus import read_documents

    documents = read_documents([*text, *(more or [])])
    with Progress(*Progress.get_default_columns(), console=console, transient=True) as bar:
        task = bar.add_task("evaluating", total=None)
        evaluation = evaluate_model(
            model,
            keras or model,
            documents,
            most_tokens,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(dumps(evaluation.as_dict(), indent=2) if json else _summary(evaluation))


def _summary(evaluation: "Evaluation") -> str:
    keras, device = evaluation.keras, evaluation.device
    return (
        f"over {evaluation.tokens:,} tokens, {evaluation.text_bytes:,} bytes:\n"
        f"  Keras   {keras.bits_per_byte:.3f} bits per byte, perplexity {keras.perplexity:.2f}\n"
        f"  device  {device.bits_per_byte:.3f} bits per byte, perplexity {device.perplexity:.2f} "
        f"({evaluation.bits_increase:+.2%} bits)\n"
        f"  top-1 agreement {evaluation.top1_agreement:.1%}; the largest logit difference is "
        f"{evaluation.largest_logit_difference:.3g} "
        f"(standard deviation of the logits: {evaluation.logit_spread:.3g})"
    )
