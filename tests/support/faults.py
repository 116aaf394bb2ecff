"""Faults to set: pushes that are lost, reads that fail."""

from collections.abc import Callable
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

import dedupe.settle
from dedupe.key_handle import KeyHandle
from dedupe.messages import Peek
from dedupe.peek import Peeks


def lose_pushes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let no claim be told that its key is settled; return what counts the attempts to."""
    lost: list[str] = []

    async def tell(client: Any, waiter: Any, reply: Any) -> RPCError:
        del client, reply
        lost.append(waiter.workflow_id)
        return RPCError("the push is lost", RPCStatusCode.UNAVAILABLE, b"")

    monkeypatch.setattr(dedupe.settle, "_tell", tell)
    return lambda: len(lost)


def break_peeks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let every peek fail; return what counts them."""
    broken: list[str] = []

    async def fail(peeks: Peeks, peek: Peek, key: KeyHandle, **options: Any) -> Any:
        del peeks, peek, options
        broken.append(key.key_id)
        raise RPCError("the service cannot be read", RPCStatusCode.UNAVAILABLE, b"")

    monkeypatch.setattr(Peeks, "peek", fail)
    return lambda: len(broken)
