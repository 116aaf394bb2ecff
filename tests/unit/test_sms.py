"""`send_sms` and `find_sms`: Twilio's own SDK against a local server that behaves as documented."""

from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from temporalio.exceptions import ApplicationError

from activities.errors import ErrorKind
from activities.sms import (
    FolderSettings,
    FolderTransport,
    Sms,
    TwilioSettings,
    TwilioTransport,
)
from dedupe import DidNotHappen, Happened, StillUnknown
from tests.fakes.ledger import Answer
from tests.fakes.provider import Drop, Refuse
from tests.fakes.twilio_server import ACCOUNT, API_KEY, TwilioServer, error

SENT = Sms(to="+491701234567", text="Order 7 is on its way.", reference="Order 7")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TwilioServer]:
    """A Twilio of this test's own."""
    with TwilioServer(ledger=tmp_path / "twilio.sqlite3", api_key=API_KEY) as server:
        yield server


def transport(url: str, *, token: str = API_KEY) -> TwilioTransport:
    """Return a transport to the server at this address."""
    return TwilioTransport(
        account_sid=ACCOUNT,
        auth_token=SecretStr(token),
        sender="+15005550006",
        base_url=url,
        timeout=timedelta(seconds=1),
    )


async def failure(server: TwilioServer, *, token: str = API_KEY) -> ApplicationError:
    """Return the error of a message that is not taken."""
    with pytest.raises(ApplicationError) as raised:
        await transport(server.url, token=token).send(SENT, "k")
    return raised.value


async def test_a_message_is_sent_and_found(server: TwilioServer) -> None:
    """By its number and text; others to the same number are not taken for it."""
    twilio = transport(server.url)
    receipt = await twilio.send(SENT, "k")
    await twilio.send(SENT.model_copy(update={"text": "Order 70 is late.", "reference": "Order 70"}), "other")
    assert [effect.content["body"] for effect in server.effects] == [
        "Order 7 is on its way.",
        "Order 70 is late.",
    ]
    assert await twilio.find(SENT, "k") == Happened(receipt)
    assert await twilio.find(SENT.model_copy(update={"to": "+491700000000"}), "k") == DidNotHappen()


async def test_messages_are_looked_through_in_pages(
    server: TwilioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To as many as are looked through; then nobody can tell."""
    twilio = transport(server.url)
    receipt = await twilio.send(SENT, "k")
    for number in range(60):
        text = f"Order {100 + number} is paid."
        await twilio.send(Sms(to=SENT.to, text=text, reference=text), f"k-{number}")
    assert await twilio.find(SENT, "k") == Happened(receipt)
    monkeypatch.setattr("activities.sms._SEARCHED", 60)
    assert await twilio.find(SENT, "k") == StillUnknown()


@pytest.mark.parametrize("after_effect", [False, True])
async def test_a_connection_that_breaks_is_unknown(server: TwilioServer, *, after_effect: bool) -> None:
    """The attempt cannot tell, and looking does."""
    server.inject(Drop(after_effect=after_effect))
    raised = await failure(server)
    assert (raised.type, raised.non_retryable) == ("UnknownOutcome", False)
    assert len(server.requests) == 1
    found = await transport(server.url).find(SENT, "k")
    assert isinstance(found, Happened if after_effect else DidNotHappen)


@pytest.mark.parametrize(
    ("answer", "kind", "definite"),
    [
        (error(400, 21211, "Invalid 'To' Phone Number"), ErrorKind.INVALID_REQUEST, True),
        (error(429, 20429, "Too many requests"), ErrorKind.RATE_LIMITED, False),
        (error(503, 20503, "Service unavailable"), ErrorKind.UNKNOWN, False),
        (Answer(status=HTTPStatus.BAD_GATEWAY, body="<html>down</html>"), ErrorKind.UNKNOWN, False),
    ],
)
async def test_what_an_answer_means(
    server: TwilioServer, answer: Answer, kind: ErrorKind, *, definite: bool
) -> None:
    """What can never work is not tried again; where the message may be out, nobody knows."""
    server.inject(Refuse(answer))
    raised = await failure(server)
    assert (raised.type, raised.non_retryable) == (kind, definite)


async def test_a_token_is_in_no_message(server: TwilioServer) -> None:
    """Also where it is the wrong one."""
    raised = await failure(server, token="another-token")  # noqa: S106 - it opens nothing
    assert raised.type == ErrorKind.UNAUTHORIZED
    assert "another-token" not in str(raised)


async def test_a_folder_holds_each_message_once(tmp_path: Path) -> None:
    """For a machine without Twilio."""
    folder = FolderSettings(directory=tmp_path / "sms").open()
    assert isinstance(folder, FolderTransport)
    assert await folder.find(SENT, "k") == DidNotHappen()
    for _ in range(3):
        await folder.send(SENT, "k")
    assert isinstance(await folder.find(SENT, "k"), Happened)
    assert len(list((tmp_path / "sms").iterdir())) == 1


def test_settings_choose_the_transport() -> None:
    """And a text has to hold what it is found by."""
    settings = TwilioSettings(account_sid=ACCOUNT, auth_token=SecretStr(API_KEY), sender="+15005550006")
    assert isinstance(settings.open(), TwilioTransport)
    with pytest.raises(ValidationError, match="does not hold the reference"):
        Sms(to="+491701234567", text="It is on its way.", reference="Order 7")
