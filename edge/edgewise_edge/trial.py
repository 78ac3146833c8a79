"""Trying a device model in a child process: a broken one may crash the process that loads it."""

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from edgewise_edge.agreement import require_agreement
from edgewise_edge.decoding.token_score import MAX_TOP
from edgewise_edge.errors import EdgeError, ModelIncompatibleError, ModelRefusedError
from edgewise_edge.installed.evaluation import Evaluation
from edgewise_edge.runtime.load import load_runtime
from edgewise_edge.runtime.open import verify_structure
from edgewise_edge.runtime.session import Runtime, Session
from edgewise_edge.store.catalog import BUNDLED
from edgewise_edge.store.manifest import MODEL_FILE, Manifest
from edgewise_edge.store.passed import PassedModel
from edgewise_edge.store.weight_cache import WeightCache

TIMEOUT = 120.0  # seconds
PATIENCE = 2.0  # seconds until a line of the log says what takes so long
RETRY_AFTER = 60.0  # seconds until a refused model is tried again: memory may have been short
_KILLED = "SIGKILL"  # by the system: no model does this
_STARTED = "started"  # the child's first line
_REFUSED = 3  # its exit status after an error of ours, which is the last line that it writes
_DISAGREES = 4  # the same, when it fails the agreement gate
_log = logging.getLogger("edgewise_edge.trial")
_refusals: dict[
    str, tuple[float, ModelIncompatibleError | None]
] = {}  # when and why, by PassedModel.name


class TrialFailedError(ModelIncompatibleError):
    """There was no trial, or no end of it, which says nothing about the model.

    Python cannot be started in a child process, the time was up, or the system killed the child,
    which it does when memory is short.
    """


class _NotStartedError(Exception):
    """This process cannot start Python in a child, as in an app that is frozen into one file."""


def try_model(
    folder: Path,
    threads: int = 1,
    weight_cache: Path | None = None,
    evaluation: Path | None = None,
) -> int:
    """Run every signature of the model in `folder` in a child process; the memory it took, in bytes.

    With `weight_cache`, a folder, it is loaded as DeviceModel.load() will do it: prepared weights
    are written there, and the model is then loaded again from them. It is remembered that it passed,
    so that DeviceModel.load() does not try it again. With `evaluation`, the
    publisher's file, the child also runs that (agreement.py). A warning is logged if it takes more
    than PATIENCE. Raises ModelIncompatibleError if the child cannot be started, fails, crashes or
    takes longer than TIMEOUT (twice that with `evaluation`), and ModelRefusedError if the model does
    worse than the publisher allows.
    """
    try:
        memory = _try(folder, threads, weight_cache, evaluation)
    except _NotStartedError as error:
        raise TrialFailedError(f"{folder} cannot be tried: {error}") from error
    if weight_cache:
        PassedModel(Manifest.read(folder), threads).remember()
    return memory


def _try(
    folder: Path, threads: int, weight_cache: Path | None, evaluation: Path | None = None
) -> int:
    command = [sys.executable, "-P", "-m", "edgewise_edge.trial", str(folder)]
    command += ["--threads", str(threads)]
    command += ["--weight-cache", str(weight_cache)] if weight_cache else []
    command += ["--evaluation", str(evaluation)] if evaluation else []
    child = _finish(command, folder, 2 * TIMEOUT if evaluation else TIMEOUT)
    started, _, memory = child.stdout.partition("\n")
    if started != _STARTED:
        raise _NotStartedError(f"{sys.executable} does not start Python")
    if child.returncode < 0:
        name = _signal_name(-child.returncode)
        kind = TrialFailedError if name == _KILLED else ModelIncompatibleError
        raise kind(
            f"{folder} does not run: it crashed in its trial ({name}); fetch or convert "
            "the model again"
        )
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        if child.returncode == _DISAGREES:
            raise ModelRefusedError(reason[0])
        refused = child.returncode == _REFUSED
        raise ModelIncompatibleError(
            reason[0] if refused else f"{folder} does not run: {reason[0]}"
        )
    return int(memory)


def require_passed(folder: Path, manifest: Manifest, threads: int, weight_cache: Path) -> None:
    """Try the model in `folder` as DeviceModel.load() will load it, and remember that it passed.

    A bundled model is only checked for damage. Raises ModelIncompatibleError.
    """
    passed = PassedModel(manifest, threads)
    refused_at, refusal = _refusals.get(passed.name, (0.0, None))
    if refusal and time.monotonic() < refused_at + RETRY_AFTER:
        raise type(refusal)(str(refusal))
    try:
        if folder.parent == BUNDLED:
            verify_structure(folder / MODEL_FILE)
        else:
            _try(folder, threads, weight_cache)
    except _NotStartedError as error:
        _log.warning("%s is only checked for damage, not tried in a child: %s", folder, error)
        verify_structure(folder / MODEL_FILE)
    except ModelIncompatibleError as error:
        _refusals[passed.name] = time.monotonic(), type(error)(str(error))
        raise
    passed.remember()


def _finish(command: list[str], folder: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    if getattr(sys, "frozen", False) or not sys.executable:
        raise _NotStartedError("there is no Python to start")
    sign_of_life = threading.Timer(
        PATIENCE,
        _log.warning,
        ("trying the new model in %s in a child process; this takes up to %.0f s", folder, timeout),
    )
    sign_of_life.daemon = True
    sign_of_life.start()
    # The child finds the package where this process did.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, map(str, sys.path)))}
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise TrialFailedError(f"{folder}: the trial took longer than {timeout:.0f} s") from error
    except OSError as error:
        raise _NotStartedError(f"{command[0]} cannot be started: {error}") from error
    finally:
        sign_of_life.cancel()


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _measure(folder: Path, threads: int, weight_cache: Path | None, evaluation: Path | None) -> int:
    """By how many bytes resident memory grows when the model is loaded and run."""
    manifest, path = Manifest.read(folder), folder / MODEL_FILE
    verify_structure(path)
    before = _resident_memory()
    if weight_cache:
        cache = WeightCache(weight_cache, manifest.files[MODEL_FILE])
        _run(load_runtime(folder, manifest.architecture, threads, cache))
        runtime = load_runtime(folder, manifest.architecture, threads, cache)
    else:
        runtime = Runtime.load(path, manifest.architecture, threads)
    _run(runtime)
    if evaluation:
        require_agreement(runtime, Evaluation.read(evaluation), folder)
    return _resident_memory() - before


def _run(runtime: Runtime) -> None:
    """Run every signature, over a context window of tokens from the first to the last id."""
    session, shape = runtime.session(), runtime.architecture
    last = shape.vocabulary_size - 1
    session.forward([last])
    while session.position < shape.context_window:
        count = min(runtime.chunk, shape.context_window - session.position)
        session.forward([index * last // max(1, count - 1) for index in range(count)])
    if (scored := min(runtime.score_chunk, shape.context_window)) > 1:  # it has the signature
        kept = session.tokens[:-scored]
        Session(runtime, session.cache, kept).score([last] * scored, [last] * scored, MAX_TOP)
    runtime.session().forward([0])


def _resident_memory() -> int:
    """In bytes; 0 where there is no /proc.

    Not from getrusage: a child's peak starts at its parent's.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weight-cache", type=Path)
    parser.add_argument("--evaluation", type=Path)
    given = parser.parse_args()
    print(_STARTED, flush=True)
    try:
        print(_measure(given.folder, given.threads, given.weight_cache, given.evaluation))
    except EdgeError as error:
        print(*str(error).split(), file=sys.stderr)
        sys.exit(_DISAGREES if isinstance(error, ModelRefusedError) else _REFUSED)
