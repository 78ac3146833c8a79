"""Standard error while a native library runs."""

import subprocess
import sys

PRELUDE = """
import ctypes, os, subprocess, sys
from edgewise_edge.runtime.stderr import held_native_logs, report_crashes
libc = ctypes.CDLL(None)
stderr = ctypes.c_void_p.in_dll(libc, "stderr")
def native(line):
    libc.fputs(line.encode() + b"\\n", stderr)
"""


def errors(code: str, status: int = 0) -> str:
    """What a process that runs `code` writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stderr


def test_native_log_lines_are_held() -> None:
    """Each time; lines that are no log of theirs arrive, and so does what is written later."""
    code = """
native("before")
for turn in range(3):
    with held_native_logs() as lines:
        native(f"INFO: {turn}")
        native(f"WARNING: {turn}")
        native(f"another library's {turn}")
    assert lines == [f"INFO: {turn}", f"WARNING: {turn}"]
native("after")
"""
    others = [f"another library's {turn}" for turn in range(3)]
    assert errors(code).splitlines() == ["before", *others, "after"]


def test_python_and_children_write_at_once() -> None:
    """The file descriptor stays what it is: a child that is started meanwhile keeps it."""
    code = """
with held_native_logs():
    print("python", file=sys.stderr, flush=True)
    child = subprocess.Popen([sys.executable, "-c", "import sys; input(); sys.stderr.write('child')"],
                             stdin=subprocess.PIPE)
    os.write(2, b"descriptor\\n")
child.communicate(b"\\n")
"""
    assert errors(code).splitlines() == ["python", "descriptor", "child"]


def test_a_crash_leaves_its_lines() -> None:
    """Also while log lines are held."""
    code = """
report_crashes()
with held_native_logs():
    ctypes.string_at(0)
"""
    assert "Segmentation fault" in errors(code, status=-11)


def test_there_may_be_no_standard_error() -> None:
    """As in an app with a window."""
    code = """
os.close(2)
sys.stderr = sys.__stderr__ = None
report_crashes()
with held_native_logs():
    native("INFO: x")
"""
    assert errors(code) == ""
