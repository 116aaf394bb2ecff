"""`charge` through Stripe: the real SDK against a local server that behaves as Stripe documents."""

import asyncio
import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
import stripe
from pydantic import SecretStr
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from activities.errors import ErrorKind
from activities.payments import Charge, Refund, StripeTransport
from tests.fakes.ledger import Answer
from tests.fakes.provider import LOOPBACK, Drop, Fail, Refuse
from tests.fakes.stripe_server import API_KEY, StripeServer, error

ORDER = Charge(
    order_id="order-1", customer="cus_ada", amount=1_099, currency="eur", payment_method="pm_card_visa"
)


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDK keeps a telemetry id in the home directory.
    monkeypatch.setattr(stripe, "enable_telemetry", False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StripeServer]:
    """A Stripe of this test's own."""
    with StripeServer(ledger=tmp_path / "stripe.sqlite3", api_key=API_KEY) as server:
        yield server


def transport(url: str, *, api_key: str = API_KEY) -> StripeTransport:
    """Return a transport to the server at this address."""
    return StripeTransport(api_key=SecretStr(api_key), base_url=url, timeout=timedelta(seconds=1))


async def failure(
    server: StripeServer, charge: Charge = ORDER, *, api_key: str = API_KEY
) -> ApplicationError:
    """Return the error of a charge that does not work."""
    with pytest.raises(ApplicationError) as raised:
        await transport(server.url, api_key=api_key).charge(charge, "k")
    return raised.value


# ----------------------------------------------------------------------------------------------- it works


async def test_a_charge_is_a_confirmed_payment_intent(server: StripeServer) -> None:
    """Stripe gets an off-session payment that is confirmed at once, and the receipt holds its id."""
    receipt = await transport(server.url).charge(ORDER, "k")
    (effect,) = server.effects
    assert effect.key == "k"
    assert effect.content == {
        "id": receipt.charge_id,
        "amount": "1099",
        "currency": "eur",
        "customer": "cus_ada",
        "payment_method": "pm_card_visa",
        "confirm": "true",
        "off_session": "true",
        "automatic_payment_methods[enabled]": "true",
        "automatic_payment_methods[allow_redirects]": "never",
        "metadata[order_id]": "order-1",
    }
    assert (receipt.status, receipt.amount, receipt.currency) == ("succeeded", 1_099, "eur")
    assert not receipt.replayed


async def test_a_charge_is_found_by_its_order(server: StripeServer) -> None:
    """What became of it can be asked, however many payments the customer has made since."""
    asked = transport(server.url)
    receipt = await asked.charge(ORDER, "k")
    for number in range(120):
        await asked.charge(ORDER.model_copy(update={"order_id": f"later-{number}"}), f"k-{number}")
    assert await asked.find(ORDER, None) == receipt.model_copy(update={"replayed": True})
    assert await asked.find(ORDER.model_copy(update={"order_id": "never"}), None) is None
    assert await asked.find(ORDER.model_copy(update={"customer": "cus_bob"}), None) is None


async def test_a_charge_is_given_back_once(server: StripeServer) -> None:
    """The same key gives back once; a payment that is not there cannot be given back."""
    asked = transport(server.url)
    receipt = await asked.charge(ORDER, "k")
    refund = Refund(
        order_id=ORDER.order_id, charge_id=receipt.charge_id, amount=ORDER.amount, currency=ORDER.currency
    )
    assert await asked.refund(refund, "r") == await asked.refund(refund, "r")
    assert len(server.effects) == 2
    with pytest.raises(ApplicationError) as raised:
        await asked.refund(refund.model_copy(update={"charge_id": "pi_nowhere"}), "r2")
    assert raised.value.type == ErrorKind.INVALID_REQUEST


async def test_what_cannot_be_asked_is_an_error(server: StripeServer) -> None:
    """A provider that does not answer leaves it open: the activity is attempted again."""
    server.inject(Refuse(error(503, "api_error", "down")))
    with pytest.raises(ApplicationError) as raised:
        await transport(server.url).find(ORDER, None)
    assert raised.value.type == ErrorKind.UNAVAILABLE
    assert not raised.value.non_retryable


async def test_the_same_key_charges_once(server: StripeServer) -> None:
    """A key that is sent again gets the first charge back, and Stripe's word that it did."""
    first = await transport(server.url).charge(ORDER, "k")
    second = await transport(server.url).charge(ORDER, "k")
    assert second == first.model_copy(update={"replayed": True})
    assert len(server.effects) == 1


async def test_every_request_without_a_key_is_a_charge(server: StripeServer) -> None:
    """No key, no deduplication: the SDK makes one up for each request."""
    receipts = [await transport(server.url).charge(ORDER, None) for _ in range(2)]
    assert receipts[0].charge_id != receipts[1].charge_id
    assert len(server.effects) == 2


async def test_a_key_too_long_for_stripe_still_charges_once(server: StripeServer) -> None:
    """Stripe takes 255 characters; a longer key is hashed, never cut, so it stands for itself alone."""
    for key in ("k" * 256, "k" * 256, "k" * 257):
        await transport(server.url).charge(ORDER, key)
    assert len(server.effects) == 2


async def test_a_lost_answer_does_not_charge_twice(server: StripeServer) -> None:
    """The charge was made and the answer lost: the next attempt gets that charge."""
    server.inject(Drop(after_effect=True))
    lost = await failure(server)
    assert (lost.type, lost.non_retryable) == ("ProviderUnavailable", False)
    receipt = await transport(server.url).charge(ORDER, "k")
    assert receipt.replayed
    assert [effect.content["id"] for effect in server.effects] == [receipt.charge_id]


async def test_without_honoured_keys_a_lost_answer_charges_twice(tmp_path: Path) -> None:
    """Where a provider ignores idempotency keys, an attempt after a lost answer is a second charge."""
    with StripeServer(ledger=tmp_path / "l.sqlite3", api_key=API_KEY, honours_keys=False) as server:
        server.inject(Drop(after_effect=True))
        await failure(server)
        await transport(server.url).charge(ORDER, "k")
        assert [effect.key for effect in server.effects] == ["k", "k"]


async def test_a_payment_that_takes_days_is_a_receipt(server: StripeServer) -> None:
    """A bank debit is accepted before it has succeeded."""
    intent = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1_099,
        "currency": "eur",
        "status": "processing",
        "livemode": False,
    }
    server.inject(Fail(Answer(status=HTTPStatus.OK, body=intent)))
    assert (await transport(server.url).charge(ORDER, "k")).status == "processing"


# ------------------------------------------------------------------------------------------ it does not work


@pytest.mark.parametrize(
    ("status", "type_", "code", "kind"),
    [
        (400, "invalid_request_error", "parameter_missing", ErrorKind.INVALID_REQUEST),
        (400, "idempotency_error", None, ErrorKind.IDEMPOTENCY_KEY_REUSED),
        (401, "invalid_request_error", "api_key_expired", ErrorKind.UNAUTHORIZED),
        (402, "card_error", "expired_card", ErrorKind.PAYMENT_DECLINED),
        (403, "invalid_request_error", None, ErrorKind.UNAUTHORIZED),
        (404, "invalid_request_error", "resource_missing", ErrorKind.INVALID_REQUEST),
        (409, "idempotency_error", "idempotency_key_in_use", ErrorKind.IN_PROGRESS),
        (424, "api_error", None, ErrorKind.UNAVAILABLE),
        (429, "invalid_request_error", "rate_limit", ErrorKind.RATE_LIMITED),
        (429, "invalid_request_error", "lock_timeout", ErrorKind.RATE_LIMITED),
        (500, "api_error", None, ErrorKind.UNAVAILABLE),
        (502, "api_error", None, ErrorKind.UNAVAILABLE),
        (503, "api_error", None, ErrorKind.UNAVAILABLE),
        (504, "api_error", None, ErrorKind.UNAVAILABLE),
    ],
)
async def test_every_documented_error_has_a_kind(
    server: StripeServer, status: int, type_: str, code: str | None, kind: ErrorKind
) -> None:
    """What Stripe answers decides whether it is tried again, and the message says what to do."""
    server.inject(Refuse(error(status, type_, "Because.", code=code)))
    failed = await failure(server)
    assert failed.type == kind
    assert failed.non_retryable is kind.definite
    assert list(failed.details) == [code or type_]
    assert re.fullmatch(
        rf"Stripe answered {status} \({code or type_}\): Request req_\w+: Because\. {re.escape(kind.advice)}",
        failed.message,
    )
    assert failed.__cause__ is None
    assert server.effects == []


async def test_one_attempt_is_one_request(server: StripeServer) -> None:
    """Temporal retries; the SDK does not, so that every attempt is seen."""
    server.inject(Refuse(error(500, "api_error", "Because.")))
    await failure(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("payment_method", "code"),
    [
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_authenticationRequired", "authentication_required"),
    ],
)
async def test_a_declined_card_stays_declined_under_its_key(
    server: StripeServer, payment_method: str, code: str
) -> None:
    """A decline is kept as any answer is: the same key asks in vain, so it is not tried again."""
    declined = ORDER.model_copy(update={"payment_method": payment_method})
    for _ in range(2):
        failed = await failure(server, declined)
        assert (failed.type, failed.non_retryable) == ("PaymentDeclined", True)
        assert list(failed.details) == [code]
    assert server.effects == []


async def test_a_payment_that_waits_for_the_customer_is_declined(server: StripeServer) -> None:
    """A payment that nobody will complete is not taken for one that was made."""
    intent = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1,
        "currency": "eur",
        "status": "requires_action",
    }
    server.inject(Fail(Answer(status=HTTPStatus.OK, body=intent)))
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("PaymentDeclined", True)
    assert "pi_1 as requires_action" in failed.message


async def test_a_server_error_is_kept_and_still_tried_again(server: StripeServer) -> None:
    """Stripe replays a server error under its key: whether the charge was made stays open."""
    server.inject(Fail(error(500, "api_error", "An unknown error occurred.")))
    for _ in range(2):
        failed = await failure(server)
        assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)
    assert len(server.requests) == 2
    assert server.effects == []


async def test_a_wrong_api_key_is_refused_for_good(server: StripeServer) -> None:
    """An API key that Stripe does not know will not work the next time."""
    failed = await failure(server, api_key="sk_test_other")
    assert (failed.type, failed.non_retryable) == ("Unauthorized", True)


async def test_a_key_with_another_charge_is_refused_for_good(server: StripeServer) -> None:
    """Stripe remembers what a key was used for."""
    await transport(server.url).charge(ORDER.model_copy(update={"amount": 1}), "k")
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("IdempotencyKeyReused", False)
    assert len(server.effects) == 1


async def test_a_key_in_progress_is_tried_again(server: StripeServer) -> None:
    """While the first request with a key is not answered, others come back later, and get its charge."""
    with server.paused():
        first = asyncio.create_task(transport(server.url).charge(ORDER, "k"))
        assert await asyncio.to_thread(server.arrived.acquire, timeout=10)
        failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("InProgress", False)
    made = await first
    assert (await transport(server.url).charge(ORDER, "k")).charge_id == made.charge_id
    assert len(server.effects) == 1


async def test_a_rate_limit_says_when_to_come_back(server: StripeServer) -> None:
    """The next attempt waits for as long as Retry-After says, and is not answered from what was kept."""
    limit = error(429, "invalid_request_error", "Too many requests.", code="rate_limit")
    server.inject(Refuse(Answer(status=limit.status, body=limit.body, headers={"Retry-After": "7"})))
    assert (await failure(server)).next_retry_delay == timedelta(seconds=7)
    assert not (await transport(server.url).charge(ORDER, "k")).replayed


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_page_from_a_broken_proxy_is_tried_again(server: StripeServer, status: int) -> None:
    """An answer that is not Stripe's is a fault that passes."""
    server.inject(Refuse(Answer(status=status, body="<html>Bad gateway</html>")))
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)


@pytest.mark.parametrize("body", ["<html>OK</html>", {}, {"id": "pi_1"}], ids=["page", "empty", "no status"])
async def test_a_success_that_cannot_be_read_is_tried_again(
    server: StripeServer, body: dict[str, str] | str
) -> None:
    """Where nobody can tell whether it was charged, the same key asks again."""
    server.inject(Refuse(Answer(status=HTTPStatus.OK, body=body)))
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)


async def test_a_connection_that_breaks_is_tried_again(server: StripeServer) -> None:
    """No answer is no decision."""
    server.inject(Drop(after_effect=False))
    failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)
    assert "Stripe did not answer" in failed.message


async def test_a_provider_that_is_not_there_is_tried_again() -> None:
    """A refused connection is a fault that passes."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        with pytest.raises(ApplicationError) as raised:
            await transport(f"http://{LOOPBACK}:{taken.getsockname()[1]}").charge(ORDER, "k")
    assert (raised.value.type, raised.value.non_retryable) == ("ProviderUnavailable", False)


async def test_a_provider_that_hangs_is_given_up(server: StripeServer) -> None:
    """The transport's own timeout ends a call that is not answered, so no thread is held for ever."""
    with server.paused():
        failed = await failure(server)
    assert (failed.type, failed.non_retryable) == ("ProviderUnavailable", False)


# ------------------------------------------------------------------------------------------------ secrets


@pytest.mark.parametrize("key", ["sk_very_secret", "sk_very_secret\n"], ids=repr)
async def test_no_error_holds_the_api_key(server: StripeServer, key: str) -> None:
    """Neither a server nor an HTTP client that quotes the request brings the API key into a history."""
    quote = "Invalid API Key provided: sk_very_secret"
    server.inject(Refuse(error(401, "invalid_request_error", quote)))
    encoded = Failure()
    await DataConverter.default.encode_failure(await failure(server, api_key=key), encoded)
    assert "sk_very_secret" not in str(encoded)
