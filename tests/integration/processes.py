"""A process that a test starts, hurts and always ends."""

import os
import signal
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self

from tests.support.waiting import LONG, until

ROOT = Path(__file__).parents[2]
"""The project's folder."""


class Process:
    """One process, with what it prints in a file."""

    def __init__(self, command: Sequence[str], *, log: Path, folder: Path = ROOT) -> None:
        """Start `command` in a folder, mostly the project's, away from the terminal's signals."""
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    async def says(self, word: str) -> Self:
        """Return when it has printed `word`.

        Raises:
            RuntimeError: It ended instead.
        """

        async def said() -> bool:
            return word in self.printed or not self.is_running

        await until(said, what=f"the word {word!r}")
        if word not in self.printed:
            raise RuntimeError(f"process ended with {self._popen.returncode}:\n{self.printed[-2_000:]}")
        return self

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self.is_running:
            self._popen.kill()
        self._popen.wait()

    def freeze(self) -> None:
        """Stop it with SIGSTOP: it holds its connections and does nothing."""
        self._popen.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it run on with SIGCONT."""
        self._popen.send_signal(signal.SIGCONT)

    async def drain(self, *, within: timedelta = LONG) -> bool:
        """Ask it to end with SIGTERM; return whether it had drained when it ended.

        Its exit code says nothing: the SDK's threads may abort the interpreter while it shuts down.
        """
        self._popen.send_signal(signal.SIGTERM)

        async def ended() -> bool:
            return not self.is_running

        await until(ended, within=within, what="the end of the process")
        return "drained" in self.printed

    def resident_bytes(self) -> int:
        """Return how much memory it holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
