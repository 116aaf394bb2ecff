"""The tool of the agents: an activity that writes to a customer, and takes its time to say so."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity

from activities.attempt import heartbeating, idempotency_key
from activities.email import Email, OutboxTransport

ARGUMENTS = {"to": "ada@example.com", "text": "Order 7 is on its way."}
_AFTER_EFFECT = timedelta(seconds=3)


class Outbox:
    """The activity that is the agent's tool."""

    def __init__(self, directory: Path) -> None:
        """OSError: the folder cannot be made."""
        self._transport = OutboxTransport(directory)

    @activity.defn
    async def send_message(self, to: str, text: str) -> str:
        """Send a message to a customer."""
        async with heartbeating():
            receipt = await self._transport.send(
                Email(to=to, subject="Your order", text=text), idempotency_key()
            )
            if activity.info().attempt == 1:
                # Here the worker is killed: the message is out, and nobody has recorded it.
                await asyncio.sleep(_AFTER_EFFECT.total_seconds())
        return f"sent as {receipt.message_id.strip('<')[:8]}"


OPTIONS: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=30),
    "heartbeat_timeout": timedelta(seconds=2),
}
"""Of the tool: a worker that dies is missed after two seconds."""
