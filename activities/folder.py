"""A folder that holds each thing once: what a service's default writes to, where there is no service."""

import asyncio
import hashlib
import os
import re
from pathlib import Path
from uuid import uuid4

from activities.errors import ErrorKind, provider_error

_SAFE_AS_A_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class Folder:
    """Files that are written once, one for each key. Any number of processes may have it open."""

    def __init__(self, directory: Path) -> None:
        """Make the folder, if it is not there yet.

        Raises:
            OSError: It cannot be made.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    async def put(self, key: str, content: str) -> bool:
        """Write what a key stands for; return whether it is new.

        Raises:
            ApplicationError: The key stands for something else; the type is an `ErrorKind`.
            OSError: The disk would not take it. Temporal retries that.
        """
        return await asyncio.to_thread(self._put, key, content)

    async def holds(self, key: str) -> bool:
        """Whether something was written under a key."""
        return await asyncio.to_thread(self._file(key).exists)

    def _put(self, key: str, content: str) -> bool:
        file = self._file(key)
        draft = file.with_name(f".{uuid4().hex}.draft")
        with draft.open("x") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        try:
            os.link(draft, file)  # unlike a rename, it replaces nothing
        except FileExistsError:
            if file.read_text() == content:
                return False
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED, f"{file} holds something else under idempotency key {key!r}"
            ) from None
        finally:
            draft.unlink()
        return True

    def _file(self, key: str) -> Path:
        is_safe = _SAFE_AS_A_NAME.fullmatch(key) is not None
        return self._directory / f"{key if is_safe else hashlib.sha256(key.encode()).hexdigest()}.json"
