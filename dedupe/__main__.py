"""The command line: `dedupe`, or `python -m dedupe`."""

import sys


def main() -> int:
    """Run the command line, if what it needs is installed."""
    try:
        from dedupe.operate import cli  # noqa: PLC0415 - workers do without
    except ModuleNotFoundError as error:
        print(f"dedupe: there is no module {error.name}: pip install 'temporal-dedupe[cli]'", file=sys.stderr)
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
