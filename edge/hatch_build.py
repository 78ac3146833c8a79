"""Compiles the attention kernel into the wheel, or into the checkout of an editable install.

It is optional: without a C compiler (`CC`, or cc, gcc or clang), or where it does not compile, the
wheel is one of pure Python, and models run on builtin operators alone.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("edgewise_edge/runtime/litert/attention.c")
KERNEL = SOURCE.with_name("_attention.so")  # ctypes takes that name on macOS, too
FLAGS = ["-std=c11", "-O3", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread", "-Wno-psabi"]


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's name for it."""

    def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell what the wheel then needs: this system, and any Python."""
        if self.target_name != "wheel":
            return
        problem = compile_kernel(Path(self.root))
        if problem:
            self.app.display_warning(f"built without the attention kernel: {problem}")
            return
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data |= {"pure_python": False, "tag": f"py3-none-{system}"}
        build_data["artifacts"].append(KERNEL.as_posix())


def compile_kernel(edge: Path) -> str | None:
    """Compile the kernel in the folder `edge` of a checkout; what prevented it, if anything did."""
    found = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if sys.platform == "win32" or found is None:
        return "there is no C compiler"
    kernel, source = edge / KERNEL, edge / SOURCE
    partial = kernel.with_suffix(f".{os.getpid()}")
    try:
        command = [*shlex.split(found), *FLAGS, str(source), "-o", str(partial), "-lm"]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except (OSError, ValueError) as error:  # of CC, a quote without another
        return f"{found} cannot be started: {error}"
    if done.returncode:
        return f"{shlex.join(command)} failed:\n{done.stderr}"
    partial.replace(kernel)
    return None
