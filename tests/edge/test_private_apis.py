"""Canaries: what we use of LiteRT and tiktoken beyond their public APIs (see CONTRIBUTING.md)."""

import ctypes
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tiktoken

from edgewise_edge import find_model
from edgewise_edge.runtime import litert
from edgewise_edge.runtime.arrays import aligned
from edgewise_edge.runtime.litert.api import TensorType, counted, library
from edgewise_edge.runtime.litert.buffers import SharedArray
from edgewise_edge.runtime.litert.compiling import NO_FILE, environment
from edgewise_edge.runtime.stderr import held_native_logs
from edgewise_edge.store.manifest import MODEL_FILE

LITERT = f"ai-edge-litert {version('ai-edge-litert')}"
SHAPE = (2, 3, 4)
UNWRITTEN = 0xAA


@pytest.mark.parametrize(
    ("dtype", "element"), [(np.float32, 1), (np.int32, 2)], ids=["float32", "int32"]
)
def test_litert_reads_and_writes_our_structs(dtype: type[np.generic], element: int) -> None:
    """A LiteRtRankedTensorType comes back as it was given, in as many bytes, and means our array."""
    array = aligned(SHAPE, dtype)
    array[:] = np.arange(24).reshape(SHAPE)
    shared = SharedArray(array)

    raw = (ctypes.c_ubyte * 512)(*[UNWRITTEN] * 512)
    assert library().LiteRtGetTensorBufferTensorType(shared.handle, raw) == 0
    written = max(at for at, byte in enumerate(raw) if byte != UNWRITTEN) + 1
    size = ctypes.sizeof(TensorType)
    told = (
        f"{LITERT}: LiteRtRankedTensorType has another layout than runtime/litert/api.py declares"
    )
    assert written == size, f"{told}: {written} bytes instead of {size}"
    kind = TensorType.from_buffer(raw)
    assert kind.element_type == element, f"{told} (element_type)"
    assert kind.shape == SHAPE, f"{told} (rank or dimensions)"

    packed, address = ctypes.c_size_t(), ctypes.c_void_p()
    library().LiteRtGetTensorBufferPackedSize(shared.handle, ctypes.byref(packed))
    assert packed.value == array.nbytes, f"{told}: LiteRT takes it for {packed.value} bytes"
    library().LiteRtGetTensorBufferHostMemory(shared.handle, ctypes.byref(address))
    assert address.value == array.ctypes.data, f"{LITERT} copies host memory: every step would"


def test_xnnpack_takes_a_weight_cache_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name for one is no file's."""
    monkeypatch.chdir(tmp_path)
    litert.CompiledBackend(find_model("tales") / MODEL_FILE, threads=1)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert not made, f"{LITERT}: XNNPACK's weight cache '{NO_FILE}' is now a file: {made}"


def test_litert_reads_our_options() -> None:
    """The number of threads, and that no accelerator but the CPU is wanted."""
    before = len(list(Path("/proc/self/task").iterdir()))
    backend = litert.CompiledBackend(find_model("tales") / MODEL_FILE, threads=4)
    added = len(list(Path("/proc/self/task").iterdir())) - before
    assert added == 3, f"{LITERT} runs {backend.name} in {added + 1} threads instead of 4"
    known = counted("LiteRtGetNumAccelerators", environment())
    assert known == 1, f"{LITERT} loads {known - 1} accelerators besides the CPU's"


def test_log_lines_of_litert_are_known(capfd: pytest.CaptureFixture[str]) -> None:
    """When it loads a model; what is not known as a log line goes to standard error."""
    with held_native_logs() as lines:
        litert.CompiledBackend(find_model("tales") / MODEL_FILE, threads=1)
    shown = capfd.readouterr().err
    assert not shown, f"{LITERT} logs in another form than runtime/stderr.py's NATIVE_LINE: {shown}"
    assert lines, f"{LITERT} logs nothing when it loads a model: held_native_logs is not needed"


def test_a_panic_of_tiktoken_is_called_so() -> None:
    """The tokenizer knows it by this name, and catches it."""
    encoding = tiktoken.Encoding(
        "canary",
        pat_str=r"\s+(?!\S)|\s",
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={},
    )
    with pytest.raises(BaseException, match="StackOverflow") as raised:
        encoding.encode_ordinary(" " * 999_999 + "a")
    assert type(raised.value).__name__ == "PanicException", (
        f"tiktoken {version('tiktoken')}: encode_ordinary raises {raised.value!r}, no PanicException"
    )
