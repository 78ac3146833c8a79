"""The attention kernel, compiled into the checkout as an editable install does."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

EDGE = Path(__file__).parents[2] / "edge"


def build_hook() -> ModuleType:
    """edge/hatch_build.py."""
    spec = importlib.util.spec_from_file_location("hatch_build", EDGE / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled() -> bool:
    """Whether there is a kernel as new as its source. Only without a compiler there may be none."""
    hook = build_hook()
    kernel, folder = EDGE / hook.KERNEL, (EDGE / hook.SOURCE).parent
    newest = max(path.stat().st_mtime for path in folder.glob("attention*.[ch]"))
    if not kernel.exists() or kernel.stat().st_mtime < newest:
        problem = hook.compile_kernel(EDGE)
        assert not problem or not any(map(shutil.which, ("cc", "gcc", "clang"))), problem
    return kernel.exists()
