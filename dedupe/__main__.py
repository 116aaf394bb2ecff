"""The command line: `python -m dedupe`."""

import sys

from dedupe.operate.cli import main

if __name__ == "__main__":
    sys.exit(main())
