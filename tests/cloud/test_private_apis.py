"""Canaries: what we use of the cloud's libraries beyond their public APIs (see CONTRIBUTING.md)."""

import ast
import asyncio
import importlib
import inspect
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import grpc
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from grpc._cython import cygrpc

import edgewise_cloud
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.serving.server.grpc_server import ConnectionLimits, grpc_server

PACKAGE = Path(edgewise_cloud.__file__).parent
# Private methods of foreign classes that ours override, each with a canary below.
OVERRIDDEN = {
    "MatrixMuon._muon_update_step",
    "MatrixMuon._should_use_adamw",
    "_AioServer._request_call",
}


def release(package: str) -> str:
    """Its name and version, for messages."""
    return f"{package} {version(package)}"


def parameters(function: object) -> list[str]:
    """The names of a function's parameters."""
    return list(inspect.signature(function).parameters)


@pytest.fixture(scope="module", autouse=True)
def tensorflow() -> None:
    """TensorFlow and Keras, imported without their banners."""
    import_tensorflow()


def test_grpc_hands_unknown_methods_to_our_loop() -> None:
    """AioServer._request_call of cygrpc is overridden; the answer is ours, not gRPC's own."""

    async def answer() -> str | None:
        server = grpc_server(1, [], ConnectionLimits())
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await channel.unary_unary("/no/method")(b"", timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.details()
        finally:
            await server.stop(None)

    changed = f"{release('grpcio')}: cygrpc.AioServer._request_call or cygrpc._ServicerContext"
    assert hasattr(cygrpc.AioServer, "_request_call"), f"{changed} is gone"
    assert hasattr(cygrpc, "_ServicerContext"), f"{changed} is gone"
    details = asyncio.run(answer())
    assert details == "there is no such method here", f"{changed} has changed: {details!r}"


def test_a_layer_of_keras_hub_has_its_parts() -> None:
    """The private attributes from which weights are read, and to which they are assigned."""
    from keras_hub.models import GPT2Backbone

    from edgewise_cloud.keras_models import checkpoint

    backbone = GPT2Backbone(
        vocabulary_size=8,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=8,
        max_sequence_length=4,
    )
    try:
        found = checkpoint._variables(backbone)
    except AttributeError as error:
        pytest.fail(f"{release('keras-hub')}: GPT2Backbone's layers have changed: {error}")
    reached = {id(variable) for parts in found.values() for variable in parts}
    missed = [weight.path for weight in backbone.weights if id(weight) not in reached]
    assert not missed, f"{release('keras-hub')}: GPT2Backbone has other weights: {missed}"


def test_keras_hub_gives_the_file_of_a_preset() -> None:
    """get_file(preset, path): one of a folder is where it lies."""
    from keras_hub.src.utils.preset_utils import get_file

    given = parameters(get_file)
    assert given == ["preset", "path"], f"{release('keras-hub')}: preset_utils.get_file has {given}"


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("_should_use_adamw", ["self", "variable"]),
        ("_muon_update_step", ["self", "gradient", "variable", "lr", "m"]),
        ("lr_adjust", ["self", "x"]),
        ("zeropower_via_newtonschulz5", ["self", "x", "steps"]),
    ],
)
def test_muon_of_keras_has_the_methods_that_ours_overrides_or_calls(
    method: str, expected: list[str]
) -> None:
    """With the same parameters."""
    import keras

    found = getattr(keras.optimizers.Muon, method, None)
    told = f"{release('keras')}: Muon.{method}"
    assert found, f"{told} is gone"
    assert parameters(found) == expected, f"{told} has the parameters {parameters(found)}"


def test_muon_of_keras_asks_ours_how_to_update() -> None:
    """For a kernel of three dimensions, which its own would leave to AdamW."""
    import keras

    from edgewise_cloud.train.optimizers import MatrixMuon

    asked = []

    class Recording(MatrixMuon):
        def _muon_update_step(self, *arguments: object) -> None:
            asked.append(arguments)

    kernel = keras.Variable(np.ones((2, 2, 2), np.float32), name="kernel")
    optimizer = Recording(0.1)
    optimizer.build([kernel])
    optimizer.apply([keras.ops.ones((2, 2, 2))])
    assert asked, f"{release('keras')}: Muon no longer calls _should_use_adamw, _muon_update_step"


def test_tensorflow_slices_for_xla() -> None:
    """tensorflow.compiler.tf2xla.python.xla: an operation without a public name."""
    from tensorflow.compiler.tf2xla.python import xla

    given = parameters(xla.dynamic_slice)[:3]
    told = f"{release('tensorflow')}: xla.dynamic_slice has the parameters {given}"
    assert given == ["input", "start_indices", "size_indices"], told


def test_tensorflow_runs_a_function_by_its_name() -> None:
    """tensorflow.python.eager's context and execute."""
    from tensorflow.python.eager import context, execute

    eager, told = context.context(), release("tensorflow")
    names = ("has_function", "add_function_def", "function_call_options")
    missing = [name for name in names if not hasattr(eager, name)]
    assert not missing, f"{told}: the eager context has no {missing}"
    options = eager.function_call_options.as_attrs()
    assert "config_proto" in options, f"{told}: calls of functions have the options {[*options]}"
    given = parameters(execute.execute)
    expected = ["op_name", "num_outputs", "inputs", "attrs", "ctx", "name"]
    assert given == expected, f"{told}: execute has the parameters {given}"


def test_litert_has_the_classes_of_its_schema() -> None:
    """schema_py_generated, in which models are rewritten: the fields that are set or read."""
    fields = {
        "BlockwiseQuantizationT": ("scales", "zeroPoints", "blockSize"),
        "BufferT": ("data",),
        "ModelT": ("subgraphs", "buffers", "metadata", "operatorCodes"),
        "OperatorCodeT": ("builtinCode", "deprecatedBuiltinCode", "version"),
        "OperatorT": ("opcodeIndex", "inputs", "outputs"),
        "QuantizationParametersT": ("detailsType", "details"),
        "SubGraphT": ("tensors", "operators"),
        "TensorT": ("name", "shape", "type", "buffer", "quantization", "hasRank"),
    }
    for name, wanted in fields.items():
        made = getattr(schema, name)()
        missing = [field for field in wanted if not hasattr(made, field)]
        assert not missing, f"{release('ai-edge-litert')}: {name} has no {missing}"


def test_ray_serve_has_what_its_proxies_are_extended_with() -> None:
    """Passthrough services, a handle by names, and the results of a broadcast one by one."""
    pytest.importorskip("ray")
    from ray.serve._private.grpc_util import gRPCGenericServer
    from ray.serve._private.replica_result import ReplicaResult
    from ray.serve.handle import DeploymentBroadcastResponse, DeploymentHandle

    wanted = [
        (gRPCGenericServer, "add_passthrough_service", ["self", "service_name"]),
        (DeploymentHandle, "__init__", ["self", "deployment_name", "app_name"]),
        (DeploymentBroadcastResponse, "_fetch_replica_results_async", ["self"]),
        (ReplicaResult, "get_async", ["self"]),
    ]
    for kind, method, expected in wanted:
        told = f"{release('ray')}: {kind.__name__}.{method}"
        assert hasattr(kind, method), f"{told} is gone"
        given = parameters(getattr(kind, method))[: len(expected)]
        assert given == expected, f"{told} has the parameters {given}"
    fetch = DeploymentBroadcastResponse._fetch_replica_results_async
    assert inspect.iscoroutinefunction(fetch), f"{release('ray')}: {fetch} is no coroutine"


def test_no_other_private_method_is_overridden() -> None:
    """Of a foreign class: a change of theirs would no longer call ours, and nothing would fail."""
    pytest.importorskip("ray")  # which one of the modules imports
    found = {
        f"{kind.__name__}.{name}"
        for module in with_private_methods()
        for kind in vars(importlib.import_module(module)).values()
        if inspect.isclass(kind) and kind.__module__ == module
        for base in kind.__mro__[1:]
        if is_foreign(base)
        for name in vars(kind).keys() & vars(base).keys()
        if is_private(name) and inspect.isroutine(vars(kind)[name])
    }
    assert found == OVERRIDDEN


def with_private_methods() -> Iterator[str]:
    """The modules with a class that has bases and private methods."""
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(
            isinstance(node, ast.ClassDef)
            and node.bases
            and any(is_private(getattr(part, "name", "")) for part in node.body)
            for node in ast.walk(tree)
        ):
            yield ".".join(("edgewise_cloud", *file.relative_to(PACKAGE).with_suffix("").parts))


def is_foreign(kind: type) -> bool:
    """Whether a class is neither ours nor Python's."""
    root = kind.__module__.partition(".")[0]
    return root not in sys.stdlib_module_names and not root.startswith("edgewise")


def is_private(name: str) -> bool:
    """Whether a name begins with one underscore."""
    return name.startswith("_") and not name.startswith("__")
