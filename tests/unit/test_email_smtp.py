"""`send_email` through a mail server: a real one on loopback, that takes, refuses and hangs up."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from temporalio.exceptions import ApplicationError

from activities.email import Email, SmtpSettings, SmtpTransport, email_transport
from activities.errors import ErrorKind
from tests.fakes.mail_server import PASSWORD, USER, Mailbox, mail_server

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


def transport(port: int, *, password: str = PASSWORD) -> SmtpTransport:
    """Return a transport to the server."""
    settings = SmtpSettings(
        host="127.0.0.1",
        port=port,
        encryption="none",
        username=USER,
        password=SecretStr(password),
        sender="Acme <hello@acme.example>",
        timeout=timedelta(seconds=1),
    )
    chosen = email_transport(settings)
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
    assert (raised.type, raised.non_retryable) == (ErrorKind.UNAVAILABLE, False)


@pytest.mark.parametrize(
    ("field", "answer", "kind", "definite"),
    [
        ("recipient_answer", "550 No such user", ErrorKind.INVALID_REQUEST, True),
        ("recipient_answer", "450 Greylisted", ErrorKind.UNAVAILABLE, False),
        ("answer", "552 Too large", ErrorKind.INVALID_REQUEST, True),
        ("answer", "451 Local error", ErrorKind.UNAVAILABLE, False),
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
