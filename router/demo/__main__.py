"""Run the demo, or `page`; Ctrl-C and SIGTERM end it, and its cloud service, at any point."""

import logging
import signal
import sys
import threading
from importlib import import_module

INTERRUPTED = 130  # what shells report after Ctrl-C


def interrupt_again(lost: "sys.UnraisableHookArgs") -> None:
    """Python drops a KeyboardInterrupt that comes while it finalizes an object, as a model's memory."""
    if lost.exc_type is KeyboardInterrupt:
        main = threading.main_thread().ident
        threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGTERM]).start()
    else:
        sys.__unraisablehook__(lost)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = interrupt_again
    logging.getLogger("edgewise_edge.trial").setLevel(logging.ERROR)  # a scene tells of trials
    try:
        # Here, so that Ctrl-C may come while it is imported.
        main = import_module("demo.page" if sys.argv[1:] == ["page"] else "demo.scenes").main
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted; the cloud service has been stopped.")
        sys.exit(INTERRUPTED)
