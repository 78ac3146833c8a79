"""A model's file, mapped into memory and compiled for the CPU."""

import ctypes
import functools
import os
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgewise_edge.runtime.litert import mapped_file
from edgewise_edge.runtime.litert.api import EnvironmentOption, Handle, call, created, library

NO_FILE = ":memory"  # XNNPACK's name for a weight cache that signatures share, without a file
_CPU = 1  # kLiteRtHwAcceleratorCpu
_ACCELERATORS = 24  # kLiteRtEnvOptionTagAutoRegisterAccelerators
_CPU_OPTIONS = b"xnnpack"  # LrtGetCpuOptionsIdentifier()
# LiteRT wants to free options when it is done, but they are Python's.
_leave = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _options: None)


@dataclass(frozen=True, slots=True)
class CustomOp:
    """An operator that LiteRT does not have.

    `kernel` is the address of a LiteRtCustomOpKernel (litert/c/litert_custom_op_kernel.h), whose
    functions get `user_data`. Both must outlive the model.
    """

    name: str
    version: int
    kernel: int
    user_data: int | None = None


class CompiledModel:
    """A LiteRtCompiledModel (`handle`), and the LiteRtModel that it runs (`model`).

    They are destroyed with this object, so whatever calls LiteRT with them holds it.
    """

    def __init__(
        self, path: Path, threads: int, weight_cache: Path | None, custom_ops: Sequence[CustomOp]
    ) -> None:
        self._cpu_options = _cpu_options(threads, weight_cache)  # LiteRT keeps no copy
        owned = ExitStack()
        weakref.finalize(self, owned.close).atexit = False
        options = created("LiteRtCreateOptions")
        # They hold the names of custom operators, so they are destroyed last.
        owned.callback(library().LiteRtDestroyOptions, options)
        call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
        cpu = created("LiteRtCreateOpaqueOptions", _CPU_OPTIONS, self._cpu_options, _leave)
        call("LiteRtAddOpaqueOptions", options, cpu)
        for op in custom_ops:
            _add(options, op)
        self.file = mapped_file.MappedFile(path) if mapped_file.POSSIBLE else None
        self.model = _model(path, self.file)
        owned.callback(library().LiteRtDestroyModel, self.model)
        self.handle = created("LiteRtCreateCompiledModel", environment(), self.model, options)
        owned.callback(library().LiteRtDestroyCompiledModel, self.handle)


def _model(path: Path, file: mapped_file.MappedFile | None) -> Handle:
    if file is None:
        return created("LiteRtCreateModelFromFile", environment(), os.fsencode(path))
    content = ctypes.c_void_p(file.address), ctypes.c_size_t(file.size)
    return created("LiteRtCreateModelFromBuffer", environment(), *content)


@functools.cache
def environment() -> Handle:
    """LiteRT's process-wide state. It is never destroyed, because LiteRT would log that.

    Left to itself, LiteRT loads the drivers of every accelerator that it knows.
    """
    only_cpu = EnvironmentOption.of(_ACCELERATORS, _CPU)
    return created("LiteRtCreateEnvironment", 1, ctypes.byref(only_cpu))


def _cpu_options(threads: int, weight_cache: Path | None) -> bytes:
    """As LiteRT's own C++ code writes them: lines of TOML, in which nothing is escaped."""
    path = os.fsencode(weight_cache or NO_FILE)
    if b"\n" in path:
        raise ValueError(f"LiteRT cannot use a path with a line break: {weight_cache}")
    return b'num_threads = %d\nweight_cache_file_path = "%b"\n' % (threads, path)


def _add(options: Handle, op: CustomOp) -> None:
    call(
        "LiteRtAddCustomOpKernelOption",
        options,
        op.name.encode(),
        op.version,
        ctypes.c_void_p(op.kernel),
        ctypes.c_void_p(op.user_data),
    )
