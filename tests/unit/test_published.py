"""The local services answer in the form that the real ones publish.

GitHub publishes its REST API as a specification, from which `githubkit` is made; Stripe's and Twilio's SDKs
are made from theirs. OpenAI's is in `test_responses.py`. Slack and Resend publish no more than pages: their
servers are written by those.
"""

import base64
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, ForwardRef, TypeVar, get_args, get_origin

import httpx
import pytest
import stripe
from githubkit_schemas.latest.models import BasicError, Issue, IssueComment  # pyright: ignore[reportMissingTypeStubs]
from githubkit_schemas.latest.models import ValidationError as Unprocessable  # pyright: ignore[reportMissingTypeStubs]
from pydantic import BaseModel, ConfigDict, create_model
from twilio.rest import Client  # pyright: ignore[reportMissingTypeStubs]
from twilio.rest.api.v2010.account.message import MessageInstance  # pyright: ignore[reportMissingTypeStubs]

from tests.fakes import github_server, stripe_server, twilio_server
from tests.fakes.github_server import REPOSITORY, GitHubServer
from tests.fakes.stripe_server import StripeServer
from tests.fakes.twilio_server import ACCOUNT, TwilioServer

ISSUES = f"/repos/{REPOSITORY}/issues"
_UNION = get_origin(inspect.get_annotations(stripe.PaymentIntent)["customer"])
PAYMENT = {"amount": 1_099, "currency": "eur", "customer": "cus_ada", "payment_method": "pm_card_visa"}


@pytest.fixture
def github(tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a local GitHub."""
    with (
        GitHubServer(ledger=tmp_path / "github.sqlite3", api_key=github_server.API_KEY) as server,
        httpx.Client(base_url=server.url, headers=bearer(github_server.API_KEY)) as client,
    ):
        yield client


@pytest.fixture
def payments(tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a local Stripe."""
    with (
        StripeServer(ledger=tmp_path / "stripe.sqlite3", api_key=stripe_server.API_KEY) as server,
        httpx.Client(base_url=f"{server.url}/v1", headers=bearer(stripe_server.API_KEY)) as client,
    ):
        yield client


@pytest.fixture
def messages(tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a local Twilio."""
    given = base64.b64encode(f"{ACCOUNT}:{twilio_server.API_KEY}".encode()).decode()
    with (
        TwilioServer(ledger=tmp_path / "twilio.sqlite3", api_key=twilio_server.API_KEY) as server,
        httpx.Client(
            base_url=f"{server.url}/2010-04-01/Accounts/{ACCOUNT}",
            headers={"Authorization": f"Basic {given}"},
        ) as client,
    ):
        yield client


def bearer(token: str) -> Mapping[str, str]:
    """Return the header that a token comes in."""
    return {"Authorization": f"Bearer {token}"}


def published(kind: type[stripe.StripeObject]) -> type[BaseModel]:
    """Return a model of what Stripe's SDK says of an object: what may not be null has to be there."""
    fields: dict[str, Any] = {
        name: (as_json(hint), None if type(None) in get_args(hint) else ...)
        for name, hint in inspect.get_annotations(kind).items()
        if name.islower()
    }
    config = ConfigDict(extra="forbid", strict=True)
    model: type[BaseModel] = create_model(kind.__name__, __config__=config, **fields)
    return model


def as_json(hint: Any) -> Any:
    """Return a type with dictionaries in place of Stripe's objects."""
    parts = [as_json(part) for part in get_args(hint)]
    origin = get_origin(hint) or hint
    if origin is _UNION:
        return functools.reduce(lambda one, other: one | other, parts)
    if origin is list:
        return types.GenericAlias(list, *parts)
    is_object = inspect.isclass(origin) and issubclass(origin, stripe.StripeObject)
    return dict[str, Any] if is_object or isinstance(hint, ForwardRef | TypeVar) else hint


class Read(dict[str, Any]):
    """An answer that knows which of its fields were read."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        """Begin with none."""
        super().__init__(answer)
        self.fields: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return a field, and take notice of it."""
        self.fields.add(key)
        return super().get(key, default)


def test_issues_and_comments_are_those_of_github(github: httpx.Client) -> None:
    """What was written, and what is listed."""
    issue = github.post(ISSUES, json={"title": "Order 7 cannot be sent", "body": "The address is missing."})
    comment = github.post(f"{ISSUES}/2/comments", json={"body": "It happened again."})
    assert issue.status_code == comment.status_code == HTTPStatus.CREATED
    assert Issue.model_validate(issue.json()).number == 2
    assert IssueComment.model_validate(comment.json()).body == "It happened again."
    [listed] = github.get(ISSUES).json()
    assert Issue.model_validate(listed).title == "Order 7 cannot be sent"
    [listed] = github.get(f"{ISSUES}/2/comments").json()
    assert IssueComment.model_validate(listed).issue_url.endswith(f"{ISSUES}/2")


def test_errors_are_those_of_github(github: httpx.Client) -> None:
    """A field that is missing, and everything else."""
    refused = github.post(ISSUES, json={"body": "The address is missing."})
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert isinstance(errors := Unprocessable.model_validate(refused.json()).errors, list)
    assert [(each.field, each.code) for each in errors] == [("title", "missing_field")]
    for path, token, status in (
        ("/repos/acme/none/issues", github_server.API_KEY, HTTPStatus.NOT_FOUND),
        (ISSUES, "of-nobody", HTTPStatus.UNAUTHORIZED),
    ):
        answer = github.get(path, headers=bearer(token))
        assert answer.status_code == status
        assert BasicError.model_validate(answer.json()).status == str(int(status))


def test_payments_and_refunds_are_those_of_stripe(payments: httpx.Client) -> None:
    """What was made, and what is listed."""
    intent = payments.post("/payment_intents", data={**PAYMENT, "metadata[order_id]": "order-7"}).json()
    refund = payments.post("/refunds", data={"payment_intent": intent["id"], "amount": 99}).json()
    listed = payments.get("/payment_intents", params={"customer": "cus_ada"}).json()
    published(stripe.PaymentIntent).model_validate(intent)
    published(stripe.Refund).model_validate(refund)
    assert (listed.pop("object"), listed.pop("data")) == ("list", [intent])
    published(stripe.ListObject).model_validate({**listed, "data": []})


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/payment_intents", {"amount": 1_099}, HTTPStatus.BAD_REQUEST),
        (
            "/payment_intents",
            {**PAYMENT, "payment_method": "pm_card_visa_chargeDeclined"},
            HTTPStatus.PAYMENT_REQUIRED,
        ),
        ("/refunds", {"payment_intent": "pi_none", "amount": 99}, HTTPStatus.NOT_FOUND),
        ("/nothing", {}, HTTPStatus.NOT_FOUND),
    ],
)
def test_errors_are_those_of_stripe(
    payments: httpx.Client, path: str, data: Mapping[str, object], status: HTTPStatus
) -> None:
    """A parameter that is missing, a card that is declined, and what is not there."""
    answer = payments.post(path, data=dict(data))
    assert answer.status_code == status
    published(stripe.ErrorObject).model_validate(answer.json()["error"])


def test_messages_are_those_of_twilio(messages: httpx.Client) -> None:
    """All fields that Twilio's SDK reads, and no others; its dates can be read."""
    sent = {"To": "+491701234567", "From": "+15005550006", "Body": "Order 7 is on its way."}
    answer = Read(messages.post("/Messages.json", data=sent).json())
    client = Client(ACCOUNT, twilio_server.API_KEY)  # type: ignore[no-untyped-call]
    message = MessageInstance(client.api.v2010, answer, account_sid=ACCOUNT)
    assert answer.fields == set(answer)
    assert str(message.status) == MessageInstance.Status.QUEUED
    assert str(message.direction) == MessageInstance.Direction.OUTBOUND_API
    assert isinstance(message.date_created, datetime)
    assert messages.get("/Messages.json", params={"To": sent["To"]}).json()["messages"] == [dict(answer)]


def test_the_published_form_is_held_to() -> None:
    """A field that Stripe does not know, one of another type, and one that is missing are seen."""
    model = published(stripe.ErrorObject)
    assert model.model_validate({"type": "card_error"}).model_dump(exclude_unset=True) == {
        "type": "card_error"
    }
    for wrong in ({"type": "card_error", "colour": "red"}, {"type": 7}, {}):
        with pytest.raises(ValueError, match="1 validation error"):
            model.model_validate(wrong)
