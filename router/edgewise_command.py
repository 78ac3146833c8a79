"""What the command `edgewise` starts.

Not in the package: its import takes half a second, in which Ctrl-C would give a traceback.
"""

import os
import signal
from typing import NoReturn

INTERRUPTED = 130  # the exit status that shells report after Ctrl-C


def main() -> None:
    """Run the command line. Ctrl-C stops the command; before and after, and again, it ends at once."""
    signal.signal(signal.SIGINT, _exit)
    from edgewise.cli import main as run

    signal.signal(signal.SIGINT, _interrupt)
    try:
        run()
    finally:
        signal.signal(signal.SIGINT, _exit)


def _interrupt(*_signal: object) -> NoReturn:
    signal.signal(signal.SIGINT, _exit)
    raise KeyboardInterrupt


def _exit(*_signal: object) -> NoReturn:
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # a spinner hides the cursor
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
