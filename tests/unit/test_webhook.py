"""`send_webhook`: signed events to a real receiver on loopback, which checks them as receivers do."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import HttpUrl, SecretStr, ValidationError
from temporalio.exceptions import ApplicationError

from activities.errors import ErrorKind
from activities.webhook import (
    Event,
    FolderSettings,
    FolderTransport,
    HttpSettings,
    HttpTransport,
)
from tests.fakes.receiver import SECRET, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of this test's own."""
    with Receiver() as server:
        yield server


def transport(secret: str = SECRET) -> HttpTransport:
    """Return a transport that signs."""
    return HttpTransport(secret=SecretStr(secret), timeout=timedelta(seconds=1))


def paid(url: str) -> Event:
    """Return an event for a receiver."""
    happened_at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    return Event(url=HttpUrl(url), type="order.paid", data={"order": 7}, happened_at=happened_at)


async def refused(receiver: Receiver, status: int | None, **headers: str) -> ApplicationError:
    """Return the error of an event that is answered like this."""
    receiver.answers.append((status, headers))
    with pytest.raises(ApplicationError) as raised:
        await transport().send(paid(receiver.url), "k")
    return raised.value


async def test_an_event_is_signed(receiver: Receiver) -> None:
    """The receiver takes it for genuine, under the id that the key makes."""
    receipt = await transport().send(paid(receiver.url), "k-1")
    assert (receipt.webhook_id, receipt.status) == ("msg_k-1", 204)
    assert receiver.taken == {
        "msg_k-1": {"type": "order.paid", "timestamp": "2026-01-31T12:00:00+00:00", "data": {"order": 7}}
    }


async def test_attempts_are_one_event(receiver: Receiver) -> None:
    """An answer that is lost: the event comes again under its id, and is taken once."""
    error = await refused(receiver, None)
    assert (error.type, error.non_retryable) == (ErrorKind.UNAVAILABLE, False)
    await transport().send(paid(receiver.url), "k")
    assert len(receiver.requests) == 2
    assert len(receiver.taken) == 1
    assert len({request["webhook-id"] for request in receiver.requests}) == 1


async def test_another_secret_is_not_taken(receiver: Receiver) -> None:
    """The receiver refuses it, and so the attempt is repeated until somebody corrects one of them."""
    other = "whsec_" + base64.b64encode(b"another one").decode()
    with pytest.raises(ApplicationError, match="401") as raised:
        await transport(other).send(paid(receiver.url), "k")
    assert not raised.value.non_retryable
    assert other not in str(raised.value)
    assert receiver.taken == {}


@pytest.mark.parametrize(
    ("status", "kind", "definite"),
    [
        (400, ErrorKind.UNAVAILABLE, False),
        (404, ErrorKind.UNAVAILABLE, False),
        (410, ErrorKind.INVALID_REQUEST, True),
        (413, ErrorKind.INVALID_REQUEST, True),
        (429, ErrorKind.RATE_LIMITED, False),
        (503, ErrorKind.UNAVAILABLE, False),
        (302, ErrorKind.UNAVAILABLE, False),
    ],
)
async def test_what_an_answer_means(
    receiver: Receiver, status: int, kind: ErrorKind, *, definite: bool
) -> None:
    """Receivers are down or being deployed: all but the clearest no's are tried again."""
    error = await refused(receiver, status, location="http://127.0.0.1:9/elsewhere")
    assert (error.type, error.non_retryable) == (kind, definite)


async def test_a_receiver_says_when_to_come_back(receiver: Receiver) -> None:
    """By Retry-After."""
    error = await refused(receiver, 429, **{"retry-after": "7"})
    assert error.next_retry_delay == timedelta(seconds=7)


async def test_a_receiver_that_is_not_there() -> None:
    """It is tried again; the message names the host, and no path: it may hold a secret."""
    with pytest.raises(ApplicationError, match=r"http://127\.0\.0\.1 did not answer") as raised:
        await transport().send(paid("http://127.0.0.1:9/secret-path"), "k")
    assert "secret-path" not in str(raised.value)


async def test_a_folder_holds_each_event_once(tmp_path: Path) -> None:
    """For a machine without receivers."""
    folder = FolderTransport(tmp_path / "events")
    for _ in range(3):
        await folder.send(paid("http://127.0.0.1:9/hooks"), "k")
    [file] = (tmp_path / "events").iterdir()
    assert file.name == "msg_k.json"
    assert json.loads(file.read_text())["type"] == "order.paid"


def test_settings_choose_the_transport(tmp_path: Path) -> None:
    """And a secret that cannot sign is refused at the start, without showing it."""
    assert isinstance(FolderSettings(directory=tmp_path).open(), FolderTransport)
    assert isinstance(HttpSettings(secret=SecretStr(SECRET)).open(), HttpTransport)
    with pytest.raises(ValidationError) as raised:
        HttpSettings(secret=SecretStr("whsec_not base64!"))
    assert "not base64" not in str(raised.value).replace("it is not base64", "")
