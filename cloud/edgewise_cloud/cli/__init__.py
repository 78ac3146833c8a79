"""The command line, `edgewise-cloud`."""

import os
import signal
import sys

INTERRUPTED = 130  # the exit status that shells report after Ctrl-C


def main() -> None:
    """Run the command line, and exit with one of the codes of exit_codes.py.

    Imports wait until here, so that Ctrl-C gives no traceback while they run.
    """
    try:
        from edgewise_cloud.cli.app import run

        status = run()
    except KeyboardInterrupt:
        status = INTERRUPTED
        # Pressed again while Python exits, it would print a traceback.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    sys.exit(status)
