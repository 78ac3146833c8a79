"""Tiny real models: a random GPT-2 checkpoint, and what the converter makes of it."""

import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgewise_edge import DeviceModel, SamplingParams, TokenRequest
from edgewise_edge.decoding.tokenizer import END_OF_TEXT, unicode_to_bytes
from tests.support import made_once
from tests.support.command_line import RunCommand, in_this_process

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests spend far more time compiling models than running them: the least optimization, and one module
# of code for each program.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_enable_concurrency_optimized_scheduler=false",
)
# Importing TensorFlow takes three times as long without bytecode, and many tests start a process
# that does. So the first one writes it, even where the environment says otherwise.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A shell that starts the tests in the background makes them ignore Ctrl-C, and their children too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """What is made once is made once for all processes of the run."""
    made_once.configure(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage while modules are imported: that takes a fifth of the time.

    Nor later what was imported: each gc.collect() would walk all that TensorFlow consists of, which
    takes half a second.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


LAYERS, HEADS, WIDTH, CONTEXT = 2, 2, 16, 192
MERGES = ["t h", "th e", "Ġ the", "Ġ a", "i n", "e r", "Ġ w"]


def write_vocabulary(folder: Path, merges: list[str] = MERGES) -> int:
    """Write a byte-level vocabulary with a few merges; returns its size."""
    tokens = [*unicode_to_bytes(), *(merge.replace(" ", "") for merge in merges), END_OF_TEXT]
    ids = {token: index for index, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    lines = ["#version: 0.2", *merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(ids)


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    merges: list[str] = MERGES,
    width: int = WIDTH,
    layers: int = LAYERS,
    context_window: int = CONTEXT,
) -> Path:
    """Write a random GPT-2 in Hugging Face's layout: config, weights, vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary_size = write_vocabulary(folder, merges)
    config = {
        "model_type": "gpt2",
        "vocab_size": vocabulary_size,
        "n_layer": layers,
        "n_head": HEADS,
        "n_embd": width,
        "n_positions": context_window,
        "resid_pdrop": 0.1,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    generator = np.random.default_rng(seed)
    shapes = {"wte.weight": (vocabulary_size, width), "wpe.weight": (context_window, width)}
    for layer in range(layers):
        shapes |= {
            f"h.{layer}.attn.c_attn.weight": (width, 3 * width),
            f"h.{layer}.attn.c_attn.bias": (3 * width,),
            f"h.{layer}.attn.c_proj.weight": (width, width),
            f"h.{layer}.attn.c_proj.bias": (width,),
            f"h.{layer}.mlp.c_fc.weight": (width, 4 * width),
            f"h.{layer}.mlp.c_fc.bias": (4 * width,),
            f"h.{layer}.mlp.c_proj.weight": (4 * width, width),
            f"h.{layer}.mlp.c_proj.bias": (width,),
            **{f"h.{layer}.ln_{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")},
        }
    shapes |= {"ln_f.weight": (width,), "ln_f.bias": (width,)}
    # Rounded to float16, as a model folder holds its Keras weights: the cloud then computes exactly
    # what the device does.
    tensors = {
        name: generator.normal(0, 0.3, shape).astype(np.float16).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def token_request(tokens: list[int], max_tokens: int, **sampling: float) -> TokenRequest:
    """A request whose prompt is `tokens`."""
    return TokenRequest(
        token_ids=tuple(tokens),
        prompt_tokens=len(tokens),
        max_tokens=max_tokens,
        sampling=SamplingParams(**sampling),
    )


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written to the user's cache folder, or read from the user's store of models.

    uv keeps its own there: its packages need not be downloaded again.
    """
    users = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR") or str(users / "uv"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        patch.setenv("EDGEWISE_STORE", str(tmp_path_factory.mktemp("data") / "store"))
        yield


@pytest.fixture(scope="session")
def graphs_made_once() -> Iterator[None]:
    """The converter makes the float32 graph of the same weights once."""
    from edgewise_cloud.convert import graph

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "float32_tflite", made_once.graph_maker(graph.float32_tflite))
        yield


@pytest.fixture(autouse=True)
def own_interrupts() -> None:
    """Nor may it change what Ctrl-C does in later ones: a child inherits that in part."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """A command that runs inside a test must not change where later tests log to."""
    logger = logging.getLogger("edgewise_cloud")
    kept, last = (logger.handlers, logger.level, logger.propagate), logging.lastResort
    yield
    logger.handlers, logger.level, logger.propagate = kept
    logging.lastResort = last


@pytest.fixture(scope="session")
def checkpoint(graphs_made_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random GPT-2 in Hugging Face's layout."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def exact_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model for device and cloud, unquantized: device files and Keras weights."""
    from edgewise_cloud.convert.convert import convert
    from edgewise_cloud.convert.quantization import Quantization

    folder = tmp_path_factory.mktemp("models") / "exact"
    convert(str(checkpoint), folder, Quantization.NONE, keras_weights=True)
    return folder


@pytest.fixture(scope="session")
def exact_model(exact_folder: Path) -> DeviceModel:
    """The tiny unquantized model, loaded."""
    return DeviceModel.load(exact_folder, threads=1)


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Run `edgewise-cloud` in this process: a new process would have to start TensorFlow."""
    from edgewise_cloud import cli

    return in_this_process("edgewise-cloud", cli.main, capsys, monkeypatch)


@pytest.fixture
def edgewise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> RunCommand:
    """Run `edgewise` in this process; the user's folders are below `tmp_path`."""
    from edgewise import cli

    for name in ("CLOUD", "CLOUD_TOKEN", "CONFIG"):
        monkeypatch.delenv(f"EDGEWISE_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return in_this_process("edgewise", cli.main, capsys, monkeypatch)
