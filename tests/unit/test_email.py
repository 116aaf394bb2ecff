"""`send_email`: the message, the activity and its settings."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.testing import ActivityEnvironment

from activities.attempt import header_value
from activities.email import (
    Email,
    EmailActivities,
    EmailReceipt,
    EmailSettings,
    OutboxSettings,
    OutboxTransport,
    ResendSettings,
    ResendTransport,
)
from dedupe import DidNotHappen, Happened, StillUnknown
from dedupe.execution.current import format_activity_id
from dedupe.model.names import DELEGATED

WELCOME = Email(to="ada@example.com", subject="Welcome", text="Hello, Ada.\n")


# ------------------------------------------------------------------------------------------------ message


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@example.com, bob@example.com",
        "ada@exa mple.com",
        "ada..l@example.com",
        ".ada@example.com",
        "ada@-example.com",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com\n",
        "Ada <ada@example.com>",
        "åda@example.com",
        "a" * 250 + "@example.com",
    ],
)
def test_a_recipient_that_is_not_one_address_is_refused(address: str) -> None:
    """Whatever could be read as no address, as two, or as another header is refused before it is sent."""
    with pytest.raises(ValidationError):
        Email(to=address, subject="Welcome", text="Hello")


@pytest.mark.parametrize("subject", ["", "a\nb", "a\r\nBcc: eve@example.com", "a\x00b", "a" * 999])
def test_a_subject_that_is_not_one_line_is_refused(subject: str) -> None:
    """A subject cannot start another header."""
    with pytest.raises(ValidationError):
        Email(to="ada@example.com", subject=subject, text="Hello")


@pytest.mark.parametrize(
    "sender", ["Acme", "Acme <acme>", 'A" <a@b.c>', "A\n <a@b.c>", "<a@b.c>", "a@b.c, d@e.f"]
)
def test_a_sender_that_is_not_one_address_is_refused(sender: str) -> None:
    """A sender is one address, with or without a name."""
    with pytest.raises(ValidationError):
        Email(to="ada@example.com", subject="Welcome", text="Hello", sender=sender)


def test_an_email_of_a_newer_worker_is_read() -> None:
    """A field this worker does not know is ignored, so that workers of two versions can run side by side."""
    assert Email.model_validate({**WELCOME.model_dump(), "reply_to": "x@example.com"}) == WELCOME


# ----------------------------------------------------------------------------------------------- activity


class Recorder:
    """A transport that notes keys, and waits where it is told to."""

    def __init__(self) -> None:
        self.sent: list[Email] = []
        self.keys: list[str | None] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def send(self, email: Email, idempotency_key: str | None) -> EmailReceipt:
        """See `EmailTransport`."""
        self.sent.append(email)
        self.keys.append(idempotency_key)
        await self.go_on.wait()
        return EmailReceipt(message_id="1", transport="outbox")

    async def find(self, email: Email, idempotency_key: str) -> StillUnknown:
        """See `EmailTransport`."""
        del email, idempotency_key
        return StillUnknown()


def environment(**info: Any) -> ActivityEnvironment:
    """Return a place to run an activity in."""
    place = ActivityEnvironment()
    place.info = replace(place.info, **info)
    return place


async def test_a_deduplicated_call_sends_with_the_key_of_its_execution() -> None:
    """All attempts, callers and workers of one execution hand the provider one key."""
    recorder = Recorder()
    for attempt in (1, 2):
        place = environment(
            workflow_type=DELEGATED,
            workflow_id="proj:acme/web:welcome-email-1",
            activity_id=format_activity_id(1, "0a1b2c-1"),
            attempt=attempt,
        )
        await place.run(EmailActivities(recorder).send_email, WELCOME)
    assert recorder.sent == [WELCOME, WELCOME]
    assert recorder.keys == ["0a1b2c-1", "0a1b2c-1"]


async def test_the_attempts_of_a_plain_call_leave_one_message(tmp_path: Path) -> None:
    """Without a deduplication key, attempts of one call share a key of their own, and calls do not."""
    activities = EmailActivities(OutboxTransport(tmp_path))
    for run, activity_id, attempt in (("r1", "1", 1), ("r1", "1", 2), ("r1", "2", 1), ("r2", "1", 1)):
        place = environment(workflow_run_id=run, activity_id=activity_id, attempt=attempt)
        await place.run(activities.send_email, WELCOME)
    assert len(list((tmp_path / "new").iterdir())) == 3


async def test_what_became_of_a_message_stands_in_the_outbox(tmp_path: Path) -> None:
    """`find_email` finds what `send_email` left under the execution's key; Resend cannot be asked."""
    activities = EmailActivities(OutboxTransport(tmp_path))
    place = environment(activity_id="1")
    assert await place.run(activities.find_email, WELCOME) == DidNotHappen()
    receipt = await place.run(activities.send_email, WELCOME)
    assert await place.run(activities.find_email, WELCOME) == Happened(receipt)
    resend = ResendTransport(api_key=SecretStr("re_1"), sender="hello@acme.example")
    assert await place.run(EmailActivities(resend).find_email, WELCOME) == StillUnknown()


async def test_a_standalone_activity_has_a_key_of_its_own() -> None:
    """An activity that no workflow started is told apart by its own run."""
    recorder = Recorder()
    place = environment(workflow_run_id=None, workflow_id=None, workflow_type=None, activity_run_id="a1")
    await place.run(EmailActivities(recorder).send_email, WELCOME)
    assert recorder.keys == ["a1-test"]


async def test_a_call_with_a_heartbeat_timeout_shows_that_it_is_alive() -> None:
    """While a provider takes its time, the activity heartbeats, so only a dead worker is timed out."""
    recorder = Recorder()
    recorder.go_on.clear()
    beats = 0

    def beat(*_: object) -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            recorder.go_on.set()

    place = environment(heartbeat_timeout=timedelta(milliseconds=30))
    place.on_heartbeat = beat
    async with asyncio.timeout(10):
        await place.run(EmailActivities(recorder).send_email, WELCOME)
    assert beats == 3


def test_a_key_is_fit_for_a_header() -> None:
    """A key goes out as it is where a header takes it, and as its hash where not: never cut off."""
    assert header_value("welcome-email-1", limit=256) == "welcome-email-1"
    assert header_value("x" * 256, limit=256) == "x" * 256
    hashed = [
        header_value(key, limit=256) for key in ("x" * 257, "x" * 258, "", "a b", "é", "a\r\nb", "a\x00")
    ]
    assert all(len(value) == 64 for value in hashed)
    assert len(set(hashed)) == len(hashed)


# ----------------------------------------------------------------------------------------------- settings


class Worker(BaseSettings):
    """Settings that nest a service's, as the worker's do."""

    model_config = SettingsConfigDict(env_prefix="APP_", env_nested_delimiter="__", hide_input_in_errors=True)

    email: EmailSettings = OutboxSettings()


def test_the_outbox_is_the_default() -> None:
    """Without any settings, messages stay on this machine."""
    assert Worker().email == OutboxSettings()


def test_settings_choose_the_transport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables choose and set up either transport."""
    monkeypatch.setenv("APP_EMAIL__TRANSPORT", "outbox")
    monkeypatch.setenv("APP_EMAIL__DIRECTORY", str(tmp_path / "outbox"))
    assert isinstance(Worker().email.open(), OutboxTransport)
    assert (tmp_path / "outbox" / "new").is_dir()

    monkeypatch.delenv("APP_EMAIL__DIRECTORY")
    monkeypatch.setenv("APP_EMAIL__TRANSPORT", "resend")
    monkeypatch.setenv("APP_EMAIL__API_KEY", "re_123\n")
    monkeypatch.setenv("APP_EMAIL__SENDER", "Acme <hello@acme.example>")
    monkeypatch.setenv("APP_EMAIL__TIMEOUT", "PT3S")
    settings = Worker().email
    assert settings == ResendSettings(
        api_key=SecretStr("re_123"), sender="Acme <hello@acme.example>", timeout=timedelta(seconds=3)
    )
    assert isinstance(settings.open(), ResendTransport)
    assert "re_123" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRANSPORT", "smtp"),
        ("API_KEY", ""),
        ("API_KEY", "re_1 23"),
        ("API_KEY", "re_é"),
        ("BASE_URL", "resend"),
        ("SENDER", "Acme"),
        ("TIMEOUT", "PT0S"),
        ("DIRECTORY", "outbox"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """What cannot work, or belongs to another transport, is refused before the worker starts."""
    good = {"TRANSPORT": "resend", "API_KEY": "re_secret", "SENDER": "hello@acme.example"}
    for variable, setting in {**good, name: value}.items():
        monkeypatch.setenv(f"APP_EMAIL__{variable}", setting)
    with pytest.raises(ValidationError) as raised:
        Worker()
    assert "re_secret" not in str(raised.value)


def test_an_outbox_that_cannot_be_made_is_an_error_at_start(tmp_path: Path) -> None:
    """A worker does not start with an outbox that takes no messages."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        OutboxSettings(directory=tmp_path / "file").open()
