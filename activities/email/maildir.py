"""Deliveries into a Maildir: one message per name, whoever delivers it, however often, and whatever dies.

A message is written to `tmp/`, made durable, and moved into `new/` in one step; so it is there whole or not
at all, also after kill -9 at any point. Who delivers holds a lock on the folder, so of two deliveries of one
name, in any processes, the second finds the first. A mail reader takes no lock, but only ever moves a message
from `new/` to `cur/`, and from one name there to another.
"""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

_PRIVATE = 0o700
# As long as every program that delivers into a Maildir leaves a draft alone.
_OLDEST_DRAFT = timedelta(hours=36)


class Maildir:
    """A folder of messages that any mail reader opens, such as `mutt -f FOLDER`."""

    def __init__(self, directory: Path) -> None:
        """Make the folder, if it is not there yet, and drop drafts that a killed process left long ago.

        Raises:
            OSError: The folder cannot be made or read.
        """
        self._directory = directory
        for name in ("tmp", "new", "cur"):
            (directory / name).mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        self._clean()

    def deliver(self, name: str, message: bytes) -> bytes:
        """Deliver the message under the name, unless there is one; return the one that is there now.

        Raises:
            OSError: The disk would not take it. Nothing was delivered, or all of it.
        """
        draft = self._directory / "tmp" / f"{name}.{uuid4().hex}"
        try:
            with draft.open("xb") as file:
                file.write(message)
                file.flush()
                os.fsync(file.fileno())
            with self._locked():
                delivered = self._find(name)
                if delivered is None:
                    draft.rename(self._directory / "new" / name)
                    self._sync()
                    delivered = message
        finally:
            draft.unlink(missing_ok=True)
        return delivered

    def holds(self, name: str) -> bool:
        """Whether a message was delivered under the name."""
        return self._find(name) is not None

    def _find(self, name: str) -> bytes | None:
        while True:
            with suppress(FileNotFoundError):
                return (self._directory / "new" / name).read_bytes()
            # A reader keeps the name and adds flags to it: `name:2,S`.
            read = next((self._directory / "cur").glob(f"{name}*"), None)
            if read is None:
                return None
            with suppress(FileNotFoundError):
                return read.read_bytes()

    def _clean(self) -> None:
        for draft in (self._directory / "tmp").iterdir():
            # Others deliver, and clean, at the same time.
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > _OLDEST_DRAFT.total_seconds():
                    draft.unlink()

    @contextmanager
    def _locked(self) -> Generator[None]:
        # A lock on an open file goes with the process, however it ends.
        with (self._directory / "deliveries.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _sync(self) -> None:
        folder = os.open(self._directory / "new", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
