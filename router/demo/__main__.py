"""Run the demo; Ctrl-C and SIGTERM end it, and its cloud service, at any point."""

import signal
import sys

INTERRUPTED = 130  # what shells report after Ctrl-C

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from demo.scenes import main  # here, so that Ctrl-C may come while it is imported

        sys.exit(main())
    except KeyboardInterrupt:
        print("\nInterrupted; the cloud service has been stopped.")
        sys.exit(INTERRUPTED)
