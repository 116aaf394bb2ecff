"""`send_email` through a mail server: a real one on loopback, that takes, refuses and hangs up."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from temporalio.exceptions import ApplicationError

from activities.email import Email, EmailReceipt, SmtpSettings, SmtpTransport
from activities.errors import ErrorKind
from dedupe import DidNotHappen, Happened, StillUnknown
from tests.fakes.mail_server import PASSWORD, USER, Mailbox, mail_server
from tests.support.dovecot import REQUIRED, SentMail, dovecot, why_not

WELCOME = Email(to="ada@example.com", subject="Welcome", text="Hello Ada")


@pytest.fixture
def mailbox() -> Mailbox:
    """A mailbox."""
    return Mailbox()


@pytest.fixture
def port(mailbox: Mailbox) -> Iterator[int]:
    """Where a mail server of this test's own listens."""
    with mail_server(mailbox) as port:
        yield port


@pytest.fixture(scope="module")
def sent() -> Iterator[SentMail]:
    """An IMAP server with the folder of what was sent."""
    if (reason := why_not()) is not None:
        assert os.environ.get(REQUIRED) != "1"
        pytest.skip(reason)
    with dovecot() as sent:
        yield sent


def transport(port: int, *, password: str = PASSWORD, **sent: Any) -> SmtpTransport:
    """Return a transport to the server."""
    settings = SmtpSettings(
        host="127.0.0.1",
        port=port,
        encryption="none",
        username=USER,
        password=SecretStr(password),
        sender="Acme <hello@acme.example>",
        timeout=timedelta(seconds=1),
        **sent,
    )
    chosen = settings.open()
    assert isinstance(chosen, SmtpTransport)
    return chosen


async def failure(port: int, **options: Any) -> ApplicationError:
    """Return the error of a message that is not taken."""
    with pytest.raises(ApplicationError) as raised:
        await transport(port, **options).send(WELCOME, "k")
    return raised.value


async def test_attempts_send_one_message_id(port: int, mailbox: Mailbox) -> None:
    """By which many mailboxes show a message once; another key's message has another one."""
    smtp = transport(port)
    first = await smtp.send(WELCOME, "k")
    again = await smtp.send(WELCOME, "k")
    other = await smtp.send(WELCOME, "other")
    assert first == again != other
    assert [message["Message-ID"] for message in mailbox.taken] == [
        first.message_id,
        first.message_id,
        other.message_id,
    ]
    taken = mailbox.taken[0]
    assert (taken["To"], taken["From"]) == ("ada@example.com", "Acme <hello@acme.example>")
    assert "fingerprint" not in taken.as_string().lower()
    assert taken.get_content().splitlines() == ["Hello Ada"]


async def test_a_connection_that_breaks_after_the_message_is_unknown(port: int, mailbox: Mailbox) -> None:
    """Nobody can tell whether it was taken."""
    mailbox.answer = None
    raised = await failure(port)
    assert (raised.type, raised.non_retryable) == ("UnknownOutcome", False)


async def test_nothing_was_sent_where_nobody_listens() -> None:
    """It is tried again, and nobody has to find out anything."""
    raised = await failure(9)
    assert (raised.type, raised.non_retryable) == (ErrorKind.NOT_TAKEN, False)
    assert "Nothing was sent" in raised.message


@pytest.mark.parametrize(
    ("field", "answer", "kind", "definite"),
    [
        ("recipient_answer", "550 No such user", ErrorKind.INVALID_REQUEST, True),
        ("recipient_answer", "450 Greylisted", ErrorKind.NOT_TAKEN, False),
        ("answer", "552 Too large", ErrorKind.INVALID_REQUEST, True),
        ("answer", "451 Local error", ErrorKind.NOT_TAKEN, False),
    ],
)
async def test_what_an_answer_means(
    port: int, mailbox: Mailbox, field: str, answer: str, kind: ErrorKind, *, definite: bool
) -> None:
    """A server that has answered has not taken it."""
    setattr(mailbox, field, answer)
    raised = await failure(port)
    assert (raised.type, raised.non_retryable) == (kind, definite)
    assert answer.split(" ", 1)[1] in str(raised)
    assert mailbox.taken == []


async def test_a_wrong_password_is_in_no_message(port: int) -> None:
    """And is not tried again."""
    raised = await failure(port, password="sesame-close")  # noqa: S106 - it opens nothing
    assert (raised.type, raised.non_retryable) == (ErrorKind.UNAUTHORIZED, True)
    assert "sesame-close" not in str(raised)


def reading(sent: SentMail, **more: Any) -> dict[str, Any]:
    """Return the settings of a folder of what was sent."""
    return {
        "sent_host": "127.0.0.1",
        "sent_port": sent.port,
        "sent_encryption": "none",
        "sent_filed_within": timedelta(0),
        **more,
    }


@pytest.mark.parametrize("after_effect", [False, True])
async def test_what_became_of_a_message_stands_in_the_folder(sent: SentMail, *, after_effect: bool) -> None:
    """The connection breaks, and the folder says whether the message was taken. No other message is."""
    mailbox = Mailbox(file=sent.file)
    with mail_server(mailbox) as port:
        key = f"key-{after_effect}"
        smtp = transport(port, **reading(sent))
        await smtp.send(WELCOME, f"another-{key}")
        mailbox.answer = None if after_effect else "451 Local error"
        with pytest.raises(ApplicationError) as raised:
            await smtp.send(WELCOME, key)
        assert raised.value.type == ("UnknownOutcome" if after_effect else ErrorKind.NOT_TAKEN)
        found = await smtp.find(WELCOME, key)
    if after_effect:
        receipt = EmailReceipt(message_id=str(mailbox.taken[-1]["Message-ID"]), transport="smtp")
        assert found == Happened(receipt)
    else:
        assert found == DidNotHappen()


async def test_a_message_may_be_filed_late(port: int, sent: SentMail) -> None:
    """It is looked for again before the answer is no."""
    smtp = transport(port, **reading(sent, sent_filed_within=timedelta(milliseconds=300)))
    begin = time.monotonic()
    assert await smtp.find(WELCOME, "late") == DidNotHappen()
    assert time.monotonic() - begin >= 0.3


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"password": "sesame-close"}, ErrorKind.UNAUTHORIZED),
        ({"sent_folder": "Nowhere"}, ErrorKind.INVALID_REQUEST),
        ({"sent_port": 9}, ErrorKind.UNAVAILABLE),
        ({"sent_encryption": "tls"}, ErrorKind.UNAVAILABLE),
        ({"sent_encryption": "starttls"}, ErrorKind.UNAVAILABLE),
    ],
    ids=str,
)
async def test_a_folder_that_cannot_be_read_says_why(
    port: int, sent: SentMail, wrong: dict[str, Any], kind: ErrorKind
) -> None:
    """It is no answer to whether the message was taken."""
    with pytest.raises(ApplicationError) as raised:
        await transport(port, **{**reading(sent), **wrong}).find(WELCOME, "k")
    assert raised.value.type == kind
    assert "at 127.0.0.1 cannot be read" in str(raised.value)
    assert "sesame-close" not in str(raised.value)


async def test_without_a_folder_nobody_can_tell(port: int) -> None:
    """A person has to look; and a folder is read by somebody."""
    assert await transport(port).find(WELCOME, "k") == StillUnknown()
    with pytest.raises(ValidationError, match="give username and password"):
        SmtpSettings(host="127.0.0.1", sender="hello@acme.example", sent_host="127.0.0.1")
