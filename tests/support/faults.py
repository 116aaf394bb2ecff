"""Faults to set: reads that fail."""

from collections.abc import Callable
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

from dedupe.claims.peek import Peeks
from dedupe.model.messages import Peek


def break_peeks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let every peek fail; return what counts them."""
    broken: list[str] = []

    async def fail(peeks: Peeks, peek: Peek, *, run_id: str) -> Any:
        del peeks, peek
        broken.append(run_id)
        raise RPCError("the service cannot be read", RPCStatusCode.UNAVAILABLE, b"")

    monkeypatch.setattr(Peeks, "peek", fail)
    return lambda: len(broken)
