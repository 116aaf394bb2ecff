"""The benchmark's own environment: what only it needs, from `benchmarks/requirements.lock`.

It is made on first use in `.venv-bench`, beside the project's own, and only where a plot or a peer is wanted.
"""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

_LOCK = Path(__file__).with_name("requirements.lock")
_DIRECTORY = Path(__file__).parents[1] / ".venv-bench"


async def environment() -> Path:
    """Return the environment's Python, made if it was not there or if the lock has changed.

    Raises:
        RuntimeError: It cannot be made here.
    """
    python = _DIRECTORY / "bin" / "python"
    locked = _DIRECTORY / ".locked"
    wanted = _LOCK.read_text()
    if locked.is_file() and locked.read_text() == wanted:
        return python
    print("Installing what only the benchmark needs into .venv-bench ...", flush=True)
    await _run(sys.executable, "-m", "venv", "--clear", str(_DIRECTORY))
    await _run(
        str(python),
        "-m",
        "pip",
        "install",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "-r",
        str(_LOCK),
    )
    locked.write_text(wanted)
    return python


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"not installable here: {lines[-1] if lines else command[0]}")
