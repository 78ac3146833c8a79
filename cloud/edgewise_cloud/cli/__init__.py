"""The command line, `edgewise-cloud`."""

import sys


def main() -> None:
    """Run the command line, and exit with one of the codes of exit_codes.py.

    Imports wait until here, so that Ctrl-C gives no traceback while they run.
    """
    try:
        from edgewise_cloud.cli.app import run

        status = run()
    except KeyboardInterrupt:
        status = 130  # what shells report after Ctrl-C
    sys.exit(status)
