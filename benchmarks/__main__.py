"""The command line: `python -m benchmarks` runs everything, `--quick` the core in two to three minutes."""

import argparse
import asyncio
from pathlib import Path

from benchmarks import peers
from benchmarks.page import PAGE, refresh
from benchmarks.pictures import draw
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.run import run, run_peers
from benchmarks.scale import FULL, QUICK

RAW = "raw.json"
"""The file of the figures, in the directory of the report."""


def main() -> None:
    """Read the command line, run, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the core of it, in two to three minutes")
    parser.add_argument(
        "--peers", default="", metavar="NAMES", help=f"also run other systems: {','.join(peers.NAMES)}"
    )
    parser.add_argument("--plot", action="store_true", help="draw the pictures even after a quick run")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/benchmarks"),
        help="directory for report, figures and pictures",
    )
    parser.add_argument(
        "--from",
        dest="raw",
        type=Path,
        help="report the figures in this file; run nothing, or only the peers",
    )
    parser.add_argument("--page", action="store_true", help="write docs/figures.md and its pictures")
    options = parser.parse_args()
    names = [name for name in str(options.peers).split(",") if name]
    if unknown := set(names) - set(peers.NAMES):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}")
    out: Path = options.out
    scale = QUICK if options.quick else FULL
    if options.raw:
        results = Results.read(options.raw)
        if names:
            run_peers(results, scale, names)
    else:
        results = run(scale, names, raw=out / RAW)
    results.write(out / RAW)
    text = report(results)
    (out / "report.md").write_text(text)
    print(f"\n{text}\nreport: {out / 'report.md'}\nfigures: {out / RAW}")
    if options.plot or options.page or not options.quick:
        print(asyncio.run(draw(out / RAW, out)))
    if options.page:
        refresh(text, out)
        print(f"page: {PAGE}")


if __name__ == "__main__":
    main()
