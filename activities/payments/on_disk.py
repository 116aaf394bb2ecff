"""Into a ledger on disk, which knows a key for ever."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from activities.errors import ErrorKind, provider_error
from activities.payments.ledger import Ledger
from activities.payments.service import Charge, ChargeReceipt, Refund, RefundReceipt
from activities.settings import Section


class LedgerTransport:
    """Writes charges into a SQLite file, and takes money from nobody."""

    def __init__(self, path: Path, *, answers_after: timedelta = timedelta(0)) -> None:
        """Make the file, if it is not there yet.

        Args:
            path: Where it is.
            answers_after: How long a charge that is written goes unanswered, as with a slow bank.

        Raises:
            OSError: Its folder cannot be made.
            sqlite3.Error: The file cannot be made, or is no ledger.
        """
        self._ledger = Ledger(path)
        self._answers_after = answers_after

    async def charge(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt:
        """See `PaymentTransport`. sqlite3.Error, which Temporal retries: the disk would not take it."""
        entry = await asyncio.to_thread(
            self._ledger.charge,
            idempotency_key,
            order_id=charge.order_id,
            payment=charge.model_dump_json(),
        )
        await asyncio.sleep(self._answers_after.total_seconds())
        if Charge.model_validate_json(entry.payment) != charge:
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED,
                f"The ledger holds another charge under idempotency key {idempotency_key!r}",
            )
        return ChargeReceipt(
            charge_id=entry.charge_id,
            status="succeeded",
            amount=charge.amount,
            currency=charge.currency,
            replayed=not entry.is_new,
        )

    async def find(self, charge: Charge, idempotency_key: str | None) -> ChargeReceipt | None:
        """See `PaymentTransport`."""
        charge_id = await asyncio.to_thread(self._ledger.find, idempotency_key)
        if charge_id is None:
            return None
        return ChargeReceipt(
            charge_id=charge_id,
            status="succeeded",
            amount=charge.amount,
            currency=charge.currency,
            replayed=True,
        )

    async def refund(self, refund: Refund, idempotency_key: str | None) -> RefundReceipt:
        """See `PaymentTransport`."""
        entry = await asyncio.to_thread(
            self._ledger.refund,
            idempotency_key,
            order_id=refund.order_id,
            payment=refund.model_dump_json(),
        )
        if Refund.model_validate_json(entry.payment) != refund:
            raise provider_error(
                ErrorKind.IDEMPOTENCY_KEY_REUSED,
                f"The ledger holds another refund under idempotency key {idempotency_key!r}",
            )
        return RefundReceipt(refund_id=entry.charge_id, amount=refund.amount, currency=refund.currency)


class LedgerSettings(Section):
    """Charges stay on this machine."""

    transport: Literal["ledger"] = "ledger"
    path: Path = Path("var/ledger.sqlite3")
    """SQLite file that holds them; made where it is not there yet."""
    answers_after: Annotated[timedelta, Ge(timedelta(0))] = timedelta(0)
    """How long a charge that is written goes unanswered, as with a slow bank."""

    def open(self) -> LedgerTransport:
        """Return the ledger.

        Raises:
            OSError: Its folder cannot be made.
            sqlite3.Error: It cannot be made, or the file is no ledger.
        """
        return LedgerTransport(self.path, answers_after=self.answers_after)
