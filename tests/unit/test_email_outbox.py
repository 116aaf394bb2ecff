"""The outbox: one whole message per key, whoever sends it, however often, and whatever dies."""

import asyncio
import mailbox
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default as rfc5322
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from activities.email import Email, OutboxTransport
from activities.email.maildir import Maildir

ROOT = Path(__file__).parents[2]
WELCOME = Email(to="ada@example.com", subject="Welcome", text="Hello, Ada.\n")


def messages(outbox: Path) -> list[EmailMessage]:
    """Return every message in the outbox, whether or not a mail reader has seen it."""
    paths = [path for folder in ("new", "cur") for path in (outbox / folder).iterdir()]
    return [BytesParser(policy=rfc5322).parsebytes(path.read_bytes()) for path in paths]


async def test_a_message_in_the_outbox_can_be_opened(tmp_path: Path) -> None:
    """The outbox holds a real message: addresses, subject, text and HTML come back as they were given."""
    outbox = OutboxTransport(tmp_path, sender="Acme, Inc. <hello@acme.example>")
    receipt = await outbox.send(
        Email(to="ada@example.com", subject="Bienvenue, Zoë 🎉", text="Ça va ?\n", html="<p>Ça va ?</p>\n"),
        "welcome-1",
    )
    (message,) = messages(tmp_path)
    (sender,) = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Acme, Inc.", "hello@acme.example")
    assert message["To"] == "ada@example.com"
    assert message["Subject"] == "Bienvenue, Zoë 🎉"
    assert message["Date"].datetime.tzinfo is not None
    assert message["Message-ID"] == receipt.message_id
    assert content(message, "plain") == "Ça va ?\n"
    assert content(message, "html") == "<p>Ça va ?</p>\n"


def content(message: EmailMessage, kind: str) -> str:
    """Return a part of the message as text."""
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content())


async def test_a_long_header_comes_back_whole(tmp_path: Path) -> None:
    """Neither an id nor a subject of many hundred characters is changed by how a message is written."""
    email = Email(
        to=f"ada@{'a' * 60}.{'b' * 60}.example",
        subject="Ünïcödé " * 100,
        text="x" * 5_000,
        sender=f"{'Zoë ' * 10}<zoe@{'c' * 60}.{'d' * 60}.example>",
    )
    receipts = {(await OutboxTransport(tmp_path).send(email, "welcome-1")).message_id for _ in range(2)}
    (message,) = messages(tmp_path)
    assert receipts == {message["Message-ID"]}
    assert (message["To"], message["Subject"]) == (email.to, email.subject)
    assert message["From"].addresses[0].domain == f"{'c' * 60}.{'d' * 60}.example"
    assert message.get_content() == f"{email.text}\n"


async def test_an_email_may_name_its_own_sender(tmp_path: Path) -> None:
    """The e-mail's sender goes before the one of the settings."""
    await OutboxTransport(tmp_path).send(WELCOME.model_copy(update={"sender": "Zoë <zoe@example.com>"}), None)
    assert messages(tmp_path)[0]["From"] == "Zoë <zoe@example.com>"


async def test_the_same_key_leaves_one_message(tmp_path: Path) -> None:
    """A key that is sent again, also by another process, leaves one message and gives the same receipt."""
    first = await OutboxTransport(tmp_path).send(WELCOME, "welcome-1")
    second = await OutboxTransport(tmp_path).send(WELCOME, "welcome-1")
    assert first == second
    assert len(messages(tmp_path)) == 1


async def test_every_send_without_a_key_is_a_message(tmp_path: Path) -> None:
    """No key, no deduplication."""
    outbox = OutboxTransport(tmp_path)
    receipts = {(await outbox.send(WELCOME, None)).message_id for _ in range(3)}
    assert len(receipts) == len(messages(tmp_path)) == 3


@pytest.mark.parametrize(
    "key",
    ["", "a/../../b", "with space", "ключ", "\x00", "x" * 5_000, ".", ":2,S"],
    ids=lambda key: ascii(key[:12]),
)
async def test_any_text_is_a_key(tmp_path: Path, key: str) -> None:
    """A key never becomes part of a path: every text works, and stands for itself alone."""
    outbox = OutboxTransport(tmp_path)
    await outbox.send(WELCOME, key)
    await outbox.send(WELCOME, key)
    await outbox.send(WELCOME, key + "'")
    assert len(messages(tmp_path)) == 2


@pytest.mark.parametrize(
    "change", [{"text": "Other"}, {"to": "bob@example.com"}, {"sender": "x@example.com"}]
)
async def test_a_key_with_another_message_is_an_error(tmp_path: Path, change: dict[str, str]) -> None:
    """The outbox refuses what Resend refuses, so that it is found out before production."""
    outbox = OutboxTransport(tmp_path)
    await outbox.send(WELCOME, "welcome-1")
    with pytest.raises(ApplicationError, match="'welcome-1'") as raised:
        await outbox.send(WELCOME.model_copy(update=change), "welcome-1")
    assert (raised.value.type, raised.value.non_retryable) == ("IdempotencyKeyReused", False)
    assert len(messages(tmp_path)) == 1


async def test_a_message_that_was_read_is_still_known(tmp_path: Path) -> None:
    """A mail reader moves a message and adds flags to its name; its key is still used up."""
    outbox = OutboxTransport(tmp_path)
    first = await outbox.send(WELCOME, "welcome-1")
    read_all(tmp_path)
    assert not list((tmp_path / "new").iterdir())
    assert await outbox.send(WELCOME, "welcome-1") == first
    assert len(messages(tmp_path)) == 1


def read_all(outbox: Path) -> None:
    """Do what a mail reader does with new messages."""
    box = mailbox.Maildir(outbox, create=False)
    for key, message in box.items():
        message.set_subdir("cur")
        message.set_flags("S")
        box[key] = message


async def test_concurrent_sends_of_one_key_leave_one_message(tmp_path: Path) -> None:
    """Fifty sends at once, while a reader moves what it finds, leave one message and equal receipts."""
    outbox = OutboxTransport(tmp_path)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for path in (tmp_path / "new").iterdir():
                path.rename(tmp_path / "cur" / f"{path.name}:2,S")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        receipts = await asyncio.gather(*(outbox.send(WELCOME, "welcome-1") for _ in range(50)))
    finally:
        stop.set()
        reader.join()
    assert len(set(map(repr, receipts))) == 1
    assert len(messages(tmp_path)) == 1


def test_a_delivery_waits_for_one_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between seeing that a name is free and taking it, no one else delivers."""
    others: list[Future[bytes]] = []
    rename = Path.rename

    def late(draft: Path, target: Path) -> Path:
        if not others:
            others.append(pool.submit(Maildir(tmp_path).deliver, "name", b"second"))
            wait(others, timeout=0.2)
        return rename(draft, target)

    monkeypatch.setattr(Path, "rename", late)
    with ThreadPoolExecutor() as pool:
        assert Maildir(tmp_path).deliver("name", b"first") == b"first"
        assert [other.result() for other in others] == [b"first"]


def test_a_draft_that_was_left_behind_is_dropped_in_time(tmp_path: Path) -> None:
    """What a killed process left goes after 36 hours; what may still be written to stays."""
    Maildir(tmp_path)
    for name, age in (("old", 37), ("young", 35)):
        draft = tmp_path / "tmp" / name
        draft.write_text("Subject: half")
        long_ago = time.time() - timedelta(hours=age).total_seconds()
        os.utime(draft, (long_ago, long_ago))
    Maildir(tmp_path)
    assert [draft.name for draft in (tmp_path / "tmp").iterdir()] == ["young"]


# Waits for a line on its standard input, so that all processes begin at once.
_DELIVER = """
import sys
from pathlib import Path
from activities.email.maildir import Maildir

sys.stdin.readline()
maildir = Maildir(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    print(maildir.deliver(f"name-{number}", f"Subject: {sys.argv[3]}\\n\\nHello.\\n".encode()))
"""


def start(script: str, *arguments: str | Path) -> "subprocess.Popen[str]":
    """Run a script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_that_deliver_the_same_names_leave_one_message_each(tmp_path: Path) -> None:
    """Six processes make one outbox and deliver thirty names each: all find the same thirty messages."""
    processes = [start(_DELIVER, tmp_path / "outbox", "30", str(number)) for number in range(6)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate()[0] for process in processes]
    assert len(set(printed)) == 1
    assert len(printed[0].splitlines()) == len(messages(tmp_path / "outbox")) == 30


# Dies before, or after, the n-th of its calls that change the disk.
_DIE = """
import os, signal, sys
from pathlib import Path

when, nth = sys.argv[4], int(sys.argv[5])
calls = iter(range(100))

def deadly(call):
    def wrapped(*arguments, **options):
        mine = next(calls) == nth
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **options)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

os.fsync, Path.rename, Path.unlink = map(deadly, (os.fsync, Path.rename, Path.unlink))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("nth", "call"), list(enumerate(["fsync", "rename", "fsync of the folder", "unlink"]))
)
def test_a_kill_at_any_point_of_a_delivery_leaves_one_message(
    tmp_path: Path, when: str, nth: int, call: str
) -> None:
    """A process killed around a step of a delivery leaves a whole message or none; a retry makes it one."""
    process = start(_DIE + _DELIVER, tmp_path, "1", "killed", when, str(nth))
    process.communicate("\n")
    assert process.returncode == -signal.SIGKILL
    delivered = nth > 1 or (call, when) == ("rename", "after")
    assert [message["Subject"] for message in messages(tmp_path)] == ["killed"] * delivered
    found = Maildir(tmp_path).deliver("name-0", b"Subject: retried\n\nHello.\n")
    (message,) = messages(tmp_path)
    assert message["Subject"] == ("killed" if delivered else "retried")
    assert message.as_bytes() == found
