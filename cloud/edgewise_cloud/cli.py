"""`edgewise-cloud`: serve, convert, train."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgewise_cloud.errors import CloudError
from edgewise_cloud.heavy import import_tensorflow
from edgewise_cloud.quantization import Quantization
from edgewise_edge.errors import EdgeError
from edgewise_edge.manifest import MODEL_FILE
from edgewise_edge.quiet import captured_stderr

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, style: str | None = None) -> None:
    """Print to standard error, as it is: names and paths may look like markup."""
    console.print(text, style=style, markup=False)


@app.command()
def serve(
    model: Annotated[
        str, typer.Option(help="Bundled model, folder, or KerasHub preset.")
    ] = "tales",
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 50051,
    slots: Annotated[int, typer.Option(min=1, help="Requests running at once.")] = 4,
    queue: Annotated[int, typer.Option(min=0, help="Requests waiting behind them.")] = 16,
    grace: Annotated[float, typer.Option(min=0, help="Seconds to finish at shutdown.")] = 10.0,
) -> None:
    """Serve a Keras GPT-2 over gRPC until SIGTERM or Ctrl-C."""
    from edgewise_cloud.server import ServerSettings, running_server

    settings = ServerSettings(
        model=model, host=host, port=port, slots=slots, queue=queue, grace=grace
    )

    async def run() -> None:
        stop = asyncio.Event()
        async with running_server(settings) as bound:
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            say(f"serving {model} on {host}:{bound}")
            await stop.wait()
            say("draining")

    # While the model loads there is nothing to drain: Ctrl-C, like SIGTERM, ends it at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(run())


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Bundled model, folder, KerasHub preset or hf://.")],
    out: Annotated[Path, typer.Argument(help="Device model folder to make.")],
    quantize: Annotated[Quantization, typer.Option(help="How weights are stored.")] = (
        Quantization.INT8
    ),
    name: Annotated[
        str | None, typer.Option(help="The model's name; the folder's if absent.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text to measure the agreement on.")
    ] = None,
    keras_weights: Annotated[
        bool, typer.Option(help="Add the Keras weights, so that the folder serves both sides.")
    ] = False,
    temperature: Annotated[float | None, typer.Option(help="Recommended temperature.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Recommended top_k.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Recommended penalty.")] = None,
) -> None:
    """Make a device model from a Keras GPT-2, and check that both agree."""
    import_tensorflow()
    from edgewise_cloud.conversion import convert

    recommended = {
        "temperature": temperature,
        "top_k": top_k,
        "repetition_penalty": repetition_penalty,
    }
    with console.status("converting"), captured_stderr():
        manifest, agreement = convert(
            source,
            out,
            quantize,
            name=name,
            keras_weights=keras_weights,
            sampling={key: value for key, value in recommended.items() if value is not None},
            text=_read_text(text) if text else None,
        )
    model_file = manifest.files[MODEL_FILE]
    print(
        f"{out}: {model_file.size / 1e6:.1f} MB, needs {manifest.memory / 1e6:.0f} MB of memory\n"
        f"agreement with Keras over {agreement.tokens} tokens: largest logit difference "
        f"{agreement.largest_logit_difference:.3g} (the logits spread by "
        f"{agreement.logit_spread:.3g}), top-1 {agreement.top1_agreement:.1%}"
    )


@app.command()
def train(
    texts: Annotated[list[Path], typer.Argument(help="UTF-8 text files.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint; resumes what lies there.")],
    vocabulary_size: Annotated[int, typer.Option(min=300, max=65535)] = 3072,
    layers: Annotated[int, typer.Option(min=1)] = 4,
    width: Annotated[int, typer.Option(min=8)] = 160,
    heads: Annotated[int, typer.Option(min=1)] = 5,
    context_window: Annotated[int, typer.Option(min=16)] = 512,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    steps: Annotated[int, typer.Option(min=1)] = 3400,
    learning_rate: Annotated[float, typer.Option(min=0)] = 2.5e-3,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Train a small GPT-2 and its vocabulary from scratch."""
    import_tensorflow()
    from edgewise_cloud.training import TrainingPlan, train

    plan = TrainingPlan(
        vocabulary_size=vocabulary_size,
        layers=layers,
        width=width,
        heads=heads,
        context_window=context_window,
        batch_size=batch_size,
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
    )
    train(texts, out, plan, report=say)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CloudError(f"{path} cannot be read as UTF-8 text: {error}") from error


def main() -> None:
    """Run the command line; what goes wrong is one sentence and exit status 2."""
    try:
        app()
    except (CloudError, EdgeError) as error:
        say(f"error: {error}", style="red")
        sys.exit(2)
