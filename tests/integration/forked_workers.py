"""Workers that are up at once, for tests that kill hundreds: everything is imported before they are forked.

    python -m tests.integration.forked_workers

Each line on stdin forks a `worker.py`, configured by the environment; its process id goes to stdout.
"""

import os
import signal
import sys

import worker


def main() -> None:
    """Fork, until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for _ in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os._exit(worker.main([]))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
