"""A charge through Stripe's own SDK: an effect that a test finds in the provider's ledger."""

from temporalio import activity

from activities.payments import Charge, ChargeReceipt, StripeTransport
from dedupe import DidNotHappen, Happened, current_execution
from tests.integration.effect_file import EffectFile, Moment


class Payments:
    """The payment activity."""

    def __init__(self, file: EffectFile, transport: StripeTransport) -> None:
        """Write attempts to `file`, and charge through `transport`."""
        self._file = file
        self._transport = transport

    @activity.defn
    async def pay(self, order: str) -> str:
        """Charge an order; return the charge's id."""
        self._file.write(Moment.STARTED, order)
        receipt = await self.charge(order)
        self._file.write(Moment.DONE, order)
        return receipt.charge_id

    @activity.defn
    async def find_payment(self, order: str) -> Happened[str] | DidNotHappen:
        """Find out what became of a charge."""
        receipt = await self._transport.find(_charge(order), None)
        return DidNotHappen() if receipt is None else Happened(receipt.charge_id)

    async def charge(self, order: str) -> ChargeReceipt:
        """Ask the provider, with the execution's idempotency key."""
        execution = current_execution()
        assert execution is not None
        return await self._transport.charge(_charge(order), execution.idempotency_key)


def _charge(order: str) -> Charge:
    return Charge(order_id=order, customer="cus_ada", amount=1_099, currency="eur")
