"""A charge through Stripe's own SDK: an effect that a test finds in the provider's ledger."""

from temporalio import activity

from activities.payments import Charge, ChargeReceipt, StripeTransport
from dedupe import current_execution
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

    async def charge(self, order: str) -> ChargeReceipt:
        """Ask the provider, with the execution's idempotency key."""
        execution = current_execution()
        assert execution is not None
        charge = Charge(order_id=order, customer="cus_ada", amount=1_099, currency="eur")
        return await self._transport.charge(charge, execution.idempotency_key)
