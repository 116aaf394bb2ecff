"""The pictures of a run. They are drawn by `plot`, in the benchmark's own environment."""

import asyncio
import os
from asyncio.subprocess import DEVNULL
from pathlib import Path

from benchmarks.environment import environment

PICTURES = ("ratios.png", "timeline.png")
"""The files that are drawn."""


async def draw(raw: Path, directory: Path) -> str:
    """Draw the figures in a file into a directory. Return what to tell about it."""
    try:
        python = await environment()
    except RuntimeError as error:
        return f"no pictures: {error}"
    process = await asyncio.create_subprocess_exec(
        str(python),
        "-m",
        "benchmarks.plot",
        str(raw),
        str(directory),
        stdin=DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    if code := await process.wait():
        return f"no pictures: drawing ended with {code}"
    return f"pictures: {', '.join(str(directory / name) for name in PICTURES)}"
